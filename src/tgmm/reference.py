"""The reference of configuration keys and commands as Markdown, from the classes and functions that define them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

import typer.main

from tgmm.cli import app, register_commands
from tgmm.config import Config

SHORT = 60  # characters of a default that fit a table
SAFEGUARD = 10**9  # limits above keep absurd values out and say nothing to a reader


def config_reference() -> str:
    """Every key of config.yaml and of the scale files: what it is, its type and its default."""
    schema = Config.model_json_schema()
    parts = ["# Configuration keys", "Written from `src/tgmm/config.py` and the settings that it names. A key that is"]
    parts[-1] += " marked *scale* stands in `workflow/scales/<scale>.yaml`; `config.yaml` may override it."
    parts += ["## config.yaml", *key_table(schema)]
    for name in sorted(schema["$defs"]):
        entry = schema["$defs"][name]
        if "properties" in entry:
            parts += [f"## {name}", one_line(entry.get("description", "")), *key_table(entry)]
    return "\n\n".join(parts) + "\n"


def key_table(schema: dict[str, Any]) -> Iterator[str]:
    """The keys of a section as one table."""
    rows = ["| key | type | default | what it is |", "|:--|:--|:--|:--|"]
    required = schema.get("required", [])
    for key, entry in schema["properties"].items():
        default = "required" if key in required else f"`{shortened(entry.get('default'))}`"
        scale = " *(scale)*" if entry.get("x-scale") else ""
        rows.append(f"| `{key}` | {type_of(entry)} | {default} | {cell(entry.get('description', ''))}{scale} |")
    yield "\n".join(rows)


def type_of(entry: dict[str, Any]) -> str:
    """The type and limits of a key in words."""
    if "$ref" in entry:
        name = entry["$ref"].rsplit("/", 1)[-1]
        return f"[{name}](#{name.lower()})"
    if "const" in entry:
        return f"`{entry['const']}`"
    if "enum" in entry:
        return ", ".join(f"`{value}`" for value in entry["enum"])
    for several in ("anyOf", "oneOf"):
        if several in entry:
            return " or ".join(dict.fromkeys(type_of(part) for part in entry[several]))
    if entry.get("type") == "array":
        return f"list of {type_of(entry.get('items', {}))}"
    if entry.get("type") == "object":
        inner = [*entry.get("patternProperties", {}).values(), entry.get("additionalProperties")][0]
        return f"mapping to {type_of(inner)}" if isinstance(inner, dict) else "mapping"
    return " ".join([entry.get("type", "anything"), *limits(entry)])


def limits(entry: dict[str, Any]) -> Iterator[str]:
    """The limits of a number."""
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    for key, sign in signs.items():
        if key in entry and entry[key] < SAFEGUARD:
            yield f"{sign} {entry[key]:g}"


def command_reference() -> str:
    """Every command with its arguments and options."""
    if not app.registered_commands:
        register_commands()
    parts = ["# Commands", "Written from the commands themselves; `tgmm COMMAND --help` says the same."]
    for path, command in commands(typer.main.get_command(app), ("tgmm",)):
        parts += [f"## {' '.join(path)}", one_line(command.help or ""), *parameter_table(command)]
    return "\n\n".join(parts) + "\n"


def commands(command: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command below a group, with the words that call it."""
    inner = getattr(command, "commands", None)
    if inner is None:
        yield path, command
        return
    for name in inner:
        yield from commands(inner[name], (*path, name))


def parameter_table(command: Any) -> Iterable[str]:
    """The arguments and options of a command as one table; none for a command without."""
    rows = ["| option | default | what it is |", "|:--|:--|:--|"]
    for parameter in command.params:
        if parameter.name == "help":
            continue
        names = ", ".join(f"`{name}`" for name in parameter.opts)
        name = f"`{parameter.name.upper()}`" if parameter.param_type_name == "argument" else names
        default = "required" if parameter.required else default_of(parameter.default)
        rows.append(f"| {name} | {default} | {cell(getattr(parameter, 'help', '') or '')} |")
    return ["\n".join(rows)] if len(rows) > 2 else []


def default_of(value: Any) -> str:
    """A default as code, nothing where there is none."""
    absent = value is None or value is False or value == () or callable(value) or "UNSET" in repr(value)
    return "" if absent else f"`{value}`"


def shortened(value: Any) -> str:
    """A default as JSON; an ellipsis where it would be long."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= SHORT else "…"


def one_line(text: str) -> str:
    return " ".join(text.split())


def cell(text: str) -> str:
    """A text that may stand in a table."""
    return one_line(text).replace("|", "\\|").replace("<", "&lt;")
