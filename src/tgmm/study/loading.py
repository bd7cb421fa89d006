"""From files to a validated study. Every mistake ends in one line that names the key."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path

import yaml

from tgmm.errors import UserError, unknown_name
from tgmm.study.resolution import Study
from tgmm.study.validation import check_references, check_schema, complete

SCALES = Path("workflow/scales")
SCHEMA = Path("workflow/schemas/config.schema.json")


def load_study(config: str | Path = "config.yaml", scale: str | None = None) -> Study:
    """Read, validate and resolve a configuration file.

    Parameters
    ----------
    config : path of config.yaml; the scales and the schema are looked up beside it, in `workflow/`.
    scale : takes the place of the file's `scale`.

    Raises
    ------
    UserError : one line naming the key and what would be right.
    """
    settings = read_config(config)
    if scale is not None:
        settings["scale"] = scale
    return study_from_config(settings, Path(config).resolve().parent)


def read_config(path: str | Path) -> dict:
    """The mapping in a YAML file; an unreadable one is a `UserError`."""
    settings = read_yaml(path)
    if not isinstance(settings, dict):
        raise UserError(f"{path}: must hold keys and values at the top level")
    return settings


def read_yaml(path: str | Path) -> object:
    """The content of a YAML file; a syntax error is a `UserError` with line and column."""
    try:
        return yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path}: {yaml_problem(error)}") from None


def yaml_problem(error: yaml.YAMLError) -> str:
    """One line that says where the YAML breaks and why."""
    mark = getattr(error, "problem_mark", None)
    place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    return f"{place}not valid YAML ({getattr(error, 'problem', None) or 'unreadable characters'})"


def study_from_config(config: Mapping, root: str | Path = ".") -> Study:
    """Merge a configuration with its scale, validate it, fill in defaults and resolve it.

    Parameters
    ----------
    config : the content of config.yaml with any overrides.
    root : the folder that holds `workflow/`.
    """
    root = Path(root)
    schema = json.loads((root / SCHEMA).read_text(encoding="utf-8"))
    config = copy.deepcopy(plain(config))
    unknown_keys = [key for key in config if key not in schema["properties"]]
    if unknown_keys:
        raise unknown_name("config key", unknown_keys[0], schema["properties"])
    merged = merge(read_scale(config.get("scale", schema["properties"]["scale"]["default"]), root, schema), config)
    completed = complete(merged, schema)
    check_schema(completed, schema)
    check_scales(completed, root)
    kept = for_its_scale(completed)
    check_references(kept)
    return Study(kept)


def for_its_scale(config: dict) -> dict:
    """The configuration without the families and artefacts that other scales have."""

    def wanted(entry: dict) -> bool:
        return not entry["scales"] or config["scale"] in entry["scales"]

    families = [entry for entry in config["families"] if wanted(entry)]
    artefacts = {name: entry for name, entry in config["artefacts"].items() if wanted(entry)}
    return config | {"families": families, "artefacts": artefacts}


def check_scales(config: dict, root: Path) -> None:
    """Raise a `UserError` for an entry that names a scale that does not exist."""
    choices = scale_names(root)
    entries = {f"families[{position}]": entry for position, entry in enumerate(config["families"])}
    entries |= {f"artefacts.{name}": entry for name, entry in config["artefacts"].items()}
    for key, entry in entries.items():
        for scale in entry["scales"]:
            if scale not in choices:
                raise unknown_name(f"scale in '{key}.scales':", scale, choices)


def scale_names(root: Path) -> list[str]:
    """Names of the scales, one for each file of sizes."""
    return sorted(path.stem for path in (root / SCALES).glob("*.yaml"))


def read_scale(scale: object, root: Path, schema: dict) -> dict:
    """Sizes and budgets of a scale; only keys that the schema marks as such are let in."""
    choices = scale_names(root)
    if scale not in choices:
        raise unknown_name("scale", scale, choices)
    path = root / SCALES / f"{scale}.yaml"
    sizes = read_config(path)
    allowed = size_keys(schema)
    for key, value in sizes.items():
        if key not in allowed:
            raise unknown_name(f"key in {SCALES / path.name}", key, allowed)
        for inner in value if allowed[key] and isinstance(value, dict) else ():
            if inner not in allowed[key]:
                raise unknown_name(f"key in '{key}' of {SCALES / path.name}", inner, allowed[key])
    return sizes


def size_keys(schema: dict) -> dict[str, list[str]]:
    """The keys that belong to the scale; for a section of which only some keys do, those (else none)."""
    keys: dict[str, list[str]] = {}
    for key, part in schema["properties"].items():
        inner = [name for name, size in part.get("properties", {}).items() if size.get("x-scale")]
        if part.get("x-scale") or inner:
            keys[key] = inner
    return keys


def merge(base: dict, override: dict) -> dict:
    """`base` with the values of `override`, mapping by mapping."""
    merged = dict(base)
    for key, value in override.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = merge(merged[key], value) if both else value
    return merged


def plain(value: object) -> object:
    """The same value in plain dicts and lists."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value
