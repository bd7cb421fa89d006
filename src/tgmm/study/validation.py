"""Checks of a merged configuration: first its form against the JSON schema, then the names that refer to each other."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping

from tgmm.errors import UserError, unknown_name
from tgmm.models.settings import NetworkSettings
from tgmm.study.recipe_study import BASELINE
from tgmm.study.resolution import Study, as_list, family_names, known
from tgmm.tasks.shifts import refuse_value
from tgmm.train.settings import TrainingSettings

MOST_MEANS = {1: 2, 2: 9}


def check_schema(config: dict, schema: dict) -> None:
    """Raise a `UserError` for the first place at which the configuration breaks the schema."""
    from jsonschema import Draft202012Validator

    errors = sorted(Draft202012Validator(schema).iter_errors(config), key=lambda error: list(map(str, error.path)))
    if errors:
        raise explain(errors[0])


def explain(error) -> UserError:
    """A jsonschema error as one line: the key's path, what is wrong and what would be right."""
    path = key_path(error.absolute_path)
    value, limit = error.instance, error.validator_value
    match error.validator:
        case "additionalProperties":
            unknown = next(key for key in value if key not in error.schema["properties"])
            return unknown_name(f"config key in '{path}':", unknown, error.schema["properties"])
        case "required":
            missing = next(key for key in limit if key not in value)
            return UserError(f"missing config key '{path}.{missing}': {describe(error.schema, missing)}")
        case "enum":
            return unknown_name(f"value of '{path}':", value, limit)
        case "type":
            expected = " or ".join([limit] if isinstance(limit, str) else limit)
            return UserError(f"'{path}' must be of type {expected}, not {shown(value)}")
        case "propertyNames" | "pattern":
            pattern = error.schema.get("pattern", limit)
            return UserError(f"'{path}': the name {shown(value)} must match {pattern}")
    wording = LIMITS.get(error.validator)
    if wording:
        return UserError(f"'{path}' must {wording.format(limit)}, not {shown(value)}")
    return UserError(f"'{path}': {error.message.splitlines()[0]}")


LIMITS = {
    "minimum": "be at least {0}",
    "maximum": "be at most {0}",
    "exclusiveMinimum": "be larger than {0}",
    "exclusiveMaximum": "be smaller than {0}",
    "minItems": "have at least {0} item(s)",
    "uniqueItems": "not name anything twice",
}


def describe(schema: dict, key: str) -> str:
    """What a key means, from its schema."""
    part = schema.get("properties", {}).get(key, {})
    examples = f", for example {shown(part['examples'][0])}" if part.get("examples") else ""
    choices = f" (valid: {', '.join(part['enum'])})" if "enum" in part else ""
    return f"{part.get('description', 'it is required').rstrip('.')}{examples}{choices}"


def shown(value: object) -> str:
    """A value in one short piece of text."""
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def key_path(parts: Iterable) -> str:
    """`families[0].d` for ("families", 0, "d")."""
    path = ""
    for part in parts:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else str(part)
    return path


def complete(value: object, schema: dict, root: dict | None = None) -> object:
    """A copy of `value` with the schema's default for every key that is absent and not required.

    Text is read as a number or a truth value where the schema asks for one: YAML takes 1e-3 for text, as Snakemake
    takes any number inside a value of `--config`, and `true`.
    """
    root = root or schema
    schema = expand_schema(value, schema, root)
    if isinstance(value, Mapping):
        return complete_mapping(value, schema, root)
    if isinstance(value, list) and "items" in schema:
        return [complete(item, schema["items"], root) for item in value]
    return as_plain_value(value, schema) if isinstance(value, str) else value


def complete_mapping(value: Mapping, schema: dict, root: dict) -> dict:
    """`complete` for a mapping."""
    filled = {}
    properties = schema.get("properties", {})
    for key, part in properties.items():
        if key not in value and "default" in part and key not in schema.get("required", ()):
            filled[key] = complete(copy.deepcopy(part["default"]), part, root)
    others = schema.get("additionalProperties") or {}
    for key, item in value.items():
        filled[key] = complete(item, properties.get(key, others), root)
    return filled


def as_plain_value(text: str, schema: dict) -> object:
    """The number or truth value that a text stands for, if the schema wants one; else the text."""
    wanted = as_list(schema.get("type", ()))
    for kind, read in (("integer", int), ("number", float), ("boolean", {"true": True, "false": False}.__getitem__)):
        if kind in wanted:
            try:
                return read(text.lower())
            except (ValueError, KeyError):
                return text
    return text


def expand_schema(value: object, schema: dict, root: dict) -> dict:
    """The part of the schema that applies to a value: `$ref` followed, `if` decided by the value's kind."""
    if "$ref" in schema:
        return expand_schema(value, root["$defs"][schema["$ref"].rsplit("/", 1)[-1]], root)
    for branch in schema.get("allOf", ()):
        kind = branch["if"]["properties"]["kind"]["const"]
        if isinstance(value, Mapping) and value.get("kind") == kind:
            return expand_schema(value, branch["then"], root)
    return schema


def check_references(config: dict) -> None:
    """Raise a `UserError` for a name that nothing defines: recipes, networks, budgets, families, methods, task sets."""
    for recipe, entry in config["recipes"].items():
        require_key("networks", entry["network"], config["networks"], f"recipes.{recipe}.network")
        require_key("training", entry["training"] or recipe, config["training"], f"recipes.{recipe}")
    budgets = [entry["training"] or recipe for recipe, entry in config["recipes"].items()]
    for budget in config["training"]:
        known("recipe in 'training':", budget, budgets)
    study = Study(config)
    for recipe, entry in config["recipes"].items():
        try:
            NetworkSettings.from_dict({**study.network_settings(recipe), "dimension": 1})
        except UserError as error:
            raise UserError(f"'networks.{entry['network']}', for recipe '{recipe}': {error}") from None
    for position, entry in enumerate(config["families"]):
        check_room(f"families[{position}].K", entry)
    for name, entry in config["tasksets"].items():
        check_room(f"tasksets.{name}.K", entry)
        check_shifts(f"tasksets.{name}.shifts", entry)
    check_families(config)
    check_recipe_study(config)
    for name, method in config["methods"].items():
        if method["kind"] == "tgmm":
            known(f"recipe in 'methods.{name}.recipe':", method["recipe"], config["recipes"])
    check_artefacts(config)


def check_room(key: str, entry: dict) -> None:
    """Means keep pairwise cosines below 0.8, angles above 36.9 degrees, which bounds their number for d = 1 and 2."""
    largest = max(as_list(entry["K"]))
    for dimension in as_list(entry["d"]):
        if largest > MOST_MEANS.get(dimension, largest):
            raise UserError(
                f"'{key}': {largest} means do not fit in d = {dimension}, where cosines below 0.8 leave room for "
                f"{MOST_MEANS[dimension]}"
            )


def check_shifts(key: str, entry: dict) -> None:
    """Every value of a shift must make sense for its kind, and no kind may be listed twice."""
    kinds = [shift["kind"] for shift in entry["shifts"]]
    for position, shift in enumerate(entry["shifts"]):
        if shift["kind"] in kinds[:position]:
            raise UserError(f"'{key}': the shift '{shift['kind']}' is listed twice; give it all its values at once")
        for value in shift["values"]:
            try:
                refuse_value(shift["kind"], value)
            except UserError as error:
                raise UserError(f"'{key}[{position}].values': {error}") from None
        if shift["kind"] == "wrong-k" and min(as_list(entry["K"])) + min(shift["values"]) < 1:
            raise UserError(f"'{key}[{position}].values': K + {min(shift['values'])} leaves no component to fit")


def check_families(config: dict) -> None:
    """Families need a recipe that exists and a name of their own."""
    seen: dict[str, int] = {}
    for position, entry in enumerate(config["families"]):
        for recipe in as_list(entry["recipe"]):
            known(f"recipe in 'families[{position}].recipe':", recipe, config["recipes"])
        for name in family_names(entry):
            if name in seen:
                raise UserError(f"'families[{position}]' defines {name} again; it stands in 'families[{seen[name]}]'")
            seen[name] = position


def check_recipe_study(config: dict) -> None:
    """The recipe study needs a baseline, and every change must leave settings that can be trained."""
    study, resolved = config["recipe_study"], Study(config)
    if not study["changes"] and not resolved.recipe_studies:
        return
    known("recipe in 'recipe_study.recipe':", study["recipe"], config["recipes"])
    check_room("recipe_study.K", study)
    if BASELINE not in study["changes"]:
        raise UserError(f"missing config key 'recipe_study.changes.{BASELINE}': all other changes start from it")
    for dimension in study["d"]:
        for entry in resolved.recipe_study_settings(dimension, study["seeds"][0])["changes"]:
            try:
                TrainingSettings.from_dict(entry["settings"])
            except UserError as error:
                raise UserError(f"'recipe_study.changes.{entry['change']}': {error}") from None


def check_artefacts(config: dict) -> None:
    """Artefacts may name only what the study holds, and something must apply to their task set."""
    study = Study(config)
    for name, artefact in config["artefacts"].items():
        prefix = "tab-" if artefact["kind"].endswith("-table") else "fig-"
        if not name.startswith(prefix):
            raise UserError(f"'artefacts.{name}': the name of a {artefact['kind']} must begin with '{prefix}'")
        for family in artefact.get("families", ()):
            known(f"family in 'artefacts.{name}.families':", family, study.families)
        for method in artefact.get("methods", ()):
            known(f"method in 'artefacts.{name}.methods':", method, config["methods"])
        if "taskset" in artefact:
            known(f"task set in 'artefacts.{name}.taskset':", artefact["taskset"], config["tasksets"])
            check_selection(f"artefacts.{name}", artefact, config["tasksets"][artefact["taskset"]])
            if not study.artefact_scores(name):
                raise UserError(f"'artefacts.{name}.methods': none of them applies to {artefact['taskset']}")
        for role, taskset in artefact.get("tasksets", {}).items():
            known(f"task set in 'artefacts.{name}.tasksets.{role}':", taskset, config["tasksets"])


def check_selection(key: str, artefact: dict, tasks: dict) -> None:
    """The dimensions and the shift that an artefact picks must be in its task set."""
    for dimension in artefact.get("d", ()):
        if dimension not in as_list(tasks["d"]):
            raise UserError(f"'{key}.d': task set '{artefact['taskset']}' has no d = {dimension}")
    if artefact.get("shift"):
        known(f"shift in '{key}.shift':", artefact["shift"], [shift["kind"] for shift in tasks["shifts"]])


def require_key(section: str, key: str, present: Mapping, user: str) -> None:
    """Raise a `UserError` unless a section of the sizes has the key that another key asks for."""
    if key not in present:
        raise UserError(f"missing config key '{section}.{key}': '{user}' needs it (present: {', '.join(present)})")
