"""What the site adds to the files of docs/: the reference of keys and commands, written from the code."""

from mkdocs.structure.files import File

from tgmm.reference import command_reference, config_reference


def on_files(files, config):
    """Add the generated pages."""
    pages = {"reference-configuration.md": config_reference(), "reference-commands.md": command_reference()}
    for name, text in pages.items():
        files.append(File.generated(config, name, content=text))
    return files
