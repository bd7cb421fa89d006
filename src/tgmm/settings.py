"""Typed settings: the base of every section of the configuration and of what commands take, and its errors in one line.

A key stands once, in a class: its name, type, limits, default and description. What reads it (the study, a command, a
record of a training) and what describes it (the JSON schema for editors) use that class.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Annotated, Any, Self, Union, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails

from tgmm.errors import UserError, shown, unknown_name

LARGEST_SEED = 2**62
MOST_RESAMPLES = 100_000  # of a bootstrap: all of a cell are in memory at once

NAME_PATTERN = r"^[a-z0-9][a-z0-9+-]*$"
WHOLE = re.compile(r"[+-]?(0|[1-9][0-9]{0,39})")
TRUTH = re.compile("true|false")
DECIMAL = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
# Pydantic's errors whose own words are of Python's types.
WORDS = dict.fromkeys(
    ("dict_type", "mapping_type", "model_type", "model_attributes_type"), "must hold keys and values"
) | {"tuple_type": "must be a list", "string_type": "must be text", "too_short": "must not be empty"}


def _refuse_unprintable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("must be printable text on one line")
    return text


def _refuse_control(text: str) -> str:
    _refuse_unprintable(text.replace("\n", " "))
    return text


Line = Annotated[str, AfterValidator(_refuse_unprintable)]
Text = Annotated[str, AfterValidator(_refuse_control)]
Name = Annotated[str, Field(pattern=NAME_PATTERN, max_length=80)]
FamilyName = Annotated[str, Field(pattern=NAME_PATTERN, max_length=200)]
Count = Annotated[int, Field(ge=1, le=10**12)]
Seed = Annotated[int, Field(ge=0, le=LARGEST_SEED)]
Share = Annotated[float, Field(gt=0, le=1000)]
OF_SCALE = {"x-scale": True}  # marks the keys that stand in the scale files; config.yaml may override them


def _refuse_repeated(values: tuple) -> tuple:
    repeated = next((value for place, value in enumerate(values) if value in values[:place]), None)
    if repeated is not None:
        raise ValueError(f"names {shown(repeated)} twice")
    return values


def several(item: Any, least: int = 1) -> Any:
    """The type of a list of different items, at least so many."""
    return Annotated[tuple[item, ...], Field(min_length=least), AfterValidator(_refuse_repeated)]


def one_or_several(item: Any) -> Any:
    """The type of a list of different items, or of one item in place of a list of one."""

    def listed(value: Any) -> Any:
        return tuple(value) if isinstance(value, list | tuple) else (value,)

    return Annotated[several(item), BeforeValidator(listed, json_schema_input_type=Union[item, several(item)])]  # noqa: UP007


class Settings(BaseModel):
    """Base of all settings: frozen, strict about types, unknown keys refused, numbers finite."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False, protected_namespaces=())

    @model_validator(mode="before")
    @classmethod
    def _read_numbers(cls, values: Any) -> Any:
        """Text becomes a number where the key takes numbers alone: YAML takes 1e-3 for text."""
        if not isinstance(values, Mapping):
            return values
        fields = cls.model_fields
        return {
            key: _number(value, fields[key].annotation) if key in fields else value for key, value in values.items()
        }

    @classmethod
    def read(cls, values: Any, where: str = "") -> Self:
        """Settings from plain data, as YAML and JSON give them.

        Parameters
        ----------
        values : mappings, lists and scalars; lists become tuples.
        where : what the values are of, such as ``"config.yaml"``, in front of an error.

        Raises
        ------
        UserError : one line with the key, what is wrong and what would be right.
        """
        try:
            return cls.model_validate(_with_tuples(values))
        except ValidationError as error:
            raise explain(error, cls, values, where) from None

    def plain(self) -> dict[str, Any]:
        """The settings as JSON holds them."""
        return self.model_dump(mode="json")


def read_as(kinds: Any, values: Any, where: str = "") -> Any:
    """Settings of one of several classes, which their key ``kind`` tells apart; as :meth:`Settings.read`.

    Parameters
    ----------
    kinds : a union of settings classes with ``kind`` as its discriminator.
    """
    try:
        return TypeAdapter(kinds).validate_python(_with_tuples(values))
    except ValidationError as error:
        raise explain(error, kinds, values, where) from None


def explain(error: ValidationError, model: type[BaseModel], values: Any, where: str = "") -> UserError:
    """The first mistake of a validation as one line.

    Parameters
    ----------
    error : from pydantic.
    model, values : what was validated, and with what; the nearest valid key is looked up in them.
    where : put in front.
    """

    # A mistyped key explains the keys that are missing, and a number is more than a whole number.
    def rank(item: ErrorDetails) -> tuple[bool, bool]:
        return item["type"] != "extra_forbidden", item["loc"][-1:] == ("int",)

    first = min(error.errors(include_url=False), key=rank)
    prefix = f"{where}: " if where else ""
    return UserError(prefix + _line(first, model, values))


def _line(error: ErrorDetails, model: type[BaseModel], values: Any) -> str:
    *location, last = error["loc"] or ("",)
    if last == "[key]":  # pydantic's mark of a mapping's key
        return f"'{key_path(location[:-1])}': the name {shown(error['input'])} {_wanted(error)}"
    place, owner = _locate(error["loc"], model, values, missing=error["type"] == "missing")
    path = key_path(place)
    match error["type"]:
        case "extra_forbidden":
            parent = key_path(place[:-1])
            return str(unknown_name(f"key in '{parent}':" if parent else "key", place[-1], _keys(owner)))
        case "missing":
            description = _description(owner, place[-1])
            return f"missing key '{path}'" + (f": {description}" if description else "")
        case "literal_error":
            return str(unknown_name(f"value of '{path}':", error["input"], _choices(owner, place, error)))
        case "union_tag_not_found":
            return f"missing key '{key_path([*place, 'kind'])}'"
        case "union_tag_invalid":
            choices = [tag.strip(" '") for tag in error["ctx"]["expected_tags"].split(",")]
            return str(unknown_name(f"value of '{key_path([*place, 'kind'])}':", error["ctx"]["tag"], choices))
    message = _wanted(error)
    if message.startswith("must"):
        return f"'{path}' {message}, not {shown(error['input'])}" if path else f"{message}, not {shown(error['input'])}"
    return f"'{path}': {message}" if path else message


def _wanted(error: ErrorDetails) -> str:
    """What would be right, in words that follow a key's name where they begin with "must"."""
    if error["type"] in WORDS:
        return WORDS[error["type"]]
    message = error["msg"].removeprefix("Value error, ").replace("should match pattern", "must match", 1)
    message = re.sub(r"^(Input|String|Tuple|Dictionary) (should|must)", "must", message)
    return message[0].lower() + message[1:] if message[:1].isupper() and not message[:2].isupper() else message


def _locate(location: tuple, model: type[BaseModel], values: Any, missing: bool) -> tuple[list, type[BaseModel] | None]:
    """The path of keys in the values (pydantic's names of union members left out), and the class that owns its end.

    The last key is in the values unless it is what is missing.
    """
    place: list = []
    owner: type[BaseModel] | None = model
    current, at = model, values
    for step in location:
        if isinstance(step, int) and not isinstance(at, list | tuple | Mapping):
            continue  # one item where a list may stand
        known = isinstance(at, Mapping) and step in at
        inside = isinstance(at, list | tuple) and isinstance(step, int)
        chosen = _member(current, step)
        if not known and not inside and chosen is not None:
            current = owner = chosen
            continue
        field = _fields(current).get(step) if current is not None else None
        if not known and not inside and field is None and not (missing and step is location[-1]):
            continue
        if isinstance(current, type) and _fields(current):
            owner = current
        place.append(step)
        at = at[step] if known or (inside and step < len(at)) else None
        current = field.annotation if field is not None else _inner(current)
        current = current if not isinstance(current, type) or issubclass(current, BaseModel) else None
    return place, owner


def _member(annotation: Any, name: object) -> type[BaseModel] | None:
    """The settings class of a union that pydantic names by its tag or by its name."""
    for part in _parts(annotation):
        if isinstance(part, type) and issubclass(part, BaseModel):
            kind = part.model_fields.get("kind")
            if name == part.__name__ or (kind is not None and name in get_args(kind.annotation)):
                return part
    return None


def _parts(annotation: Any) -> list[Any]:
    arguments = get_args(annotation)
    return [annotation] if not arguments else [part for argument in arguments for part in _parts(argument)]


def _inner(annotation: Any) -> Any:
    """What a container holds, or the only settings class among several types."""
    models = [part for part in _parts(annotation) if isinstance(part, type) and issubclass(part, BaseModel)]
    return models[0] if len(models) == 1 else annotation


def _fields(annotation: Any) -> dict[str, Any]:
    annotation = _inner(annotation)
    return annotation.model_fields if isinstance(annotation, type) and issubclass(annotation, BaseModel) else {}


def _keys(owner: type[BaseModel] | None) -> list[str]:
    return [field.alias or name for name, field in owner.model_fields.items()] if owner is not None else []


def _description(owner: type[BaseModel] | None, key: object) -> str:
    field = _fields(owner).get(key)
    return (field.description or "").rstrip(".") if field is not None else ""


def _choices(owner: type[BaseModel] | None, place: list, error: ErrorDetails) -> list[str]:
    return [choice.strip(" '") for choice in error["ctx"]["expected"].replace(" or ", ", ").split(",")]


def key_path(parts: list) -> str:
    """``families[0].d`` for ["families", 0, "d"]."""
    path = ""
    for part in parts:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else str(part)
    return path


def _number(value: Any, annotation: Any) -> Any:
    """Text as the number or truth value that it stands for, where only those are valid; anything else as it is."""
    if isinstance(value, tuple):
        return tuple(_number(item, annotation) for item in value)
    if not isinstance(value, str):
        return value
    kinds = {part for part in _parts(annotation) if isinstance(part, type)}
    if not kinds & {int, float, bool} or str in kinds:
        return value
    for kind, form, read in ((int, WHOLE, int), (float, DECIMAL, float), (bool, TRUTH, "true".__eq__)):
        if kind in kinds and form.fullmatch(value):
            number = read(value)
            return number if math.isfinite(number) else value
    return value


def _with_tuples(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _with_tuples(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return tuple(_with_tuples(item) for item in value)
    return value
