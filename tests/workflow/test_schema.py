"""config.yaml, the scales, the schema and the code must agree."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib import import_module
from typing import get_args

import jsonschema
import pytest
from workflow_project import ROOT

from tgmm.artefacts import NAMES, Metric
from tgmm.config import SCHEMA, Config, Networks, read_config, schema_text
from tgmm.study import load_study

CONTENT = json.loads((ROOT / SCHEMA).read_text(encoding="utf-8"))
TOP = CONTENT["properties"]
SIZES = [key for key, part in TOP.items() if part.get("x-scale")]
SECTIONS = ("ablation", "assignment", "criterion")  # of config.yaml, with some keys of the scale
SCALES = sorted(path.stem for path in ROOT.glob("workflow/scales/*.yaml"))


def every_property(schema: object, path: str = "") -> Iterator[tuple[str, dict]]:
    """(path, schema) of every key that the schema describes."""
    if isinstance(schema, dict):
        for name, part in schema.get("properties", {}).items():
            yield f"{path}.{name}", part
        for name, part in schema.items():
            yield from every_property(part, f"{path}.{name}")


def test_the_schema_is_the_one_that_the_classes_give():
    assert (ROOT / SCHEMA).read_text(encoding="utf-8") == schema_text(), "run `python -m tgmm.config`"


def test_every_key_has_a_description():
    for path, part in every_property(CONTENT):
        referred = CONTENT["$defs"].get(part.get("$ref", "").rsplit("/", 1)[-1], {})
        assert (part | referred).get("description", "").endswith(".") or "const" in part, path


def test_an_independent_validator_accepts_the_configuration():
    for scale in SCALES:
        values = read_config(ROOT / f"workflow/scales/{scale}.yaml") | read_config(ROOT / "config.yaml")
        for section in SECTIONS:
            values[section] |= read_config(ROOT / f"workflow/scales/{scale}.yaml")[section]
        jsonschema.Draft202012Validator(CONTENT).validate(values)


def test_the_configuration_names_every_key_but_the_sizes():
    assert list(read_config(ROOT / "config.yaml")) == [key for key in Config.model_fields if key not in SIZES]


def test_plain_values_of_the_configuration_are_the_defaults():
    config = read_config(ROOT / "config.yaml")
    for key in ("scale", "seed", "device", "allow_cpu_training"):
        assert config[key] == TOP[key]["default"]


@pytest.mark.parametrize("scale", SCALES)
def test_every_scale_gives_every_size(scale):
    sizes = read_config(ROOT / f"workflow/scales/{scale}.yaml")
    assert set(sizes) == {*SIZES, *SECTIONS}
    assert set(sizes["ablation"]) == {"tasks", "seeds"}
    assert set(sizes["networks"]) == {field.alias or name for name, field in Networks.model_fields.items()}


def test_every_pattern_of_trained_families_names_some():
    from fnmatch import fnmatchcase

    for scale in SCALES:
        study = load_study(ROOT / "config.yaml", scale)
        for pattern in study.config.trained:
            assert any(fnmatchcase(name, pattern) for name in study.planned), (scale, pattern)


def test_choices_are_those_of_the_code():
    from tgmm.columns import DEFICIT, LIKELIHOODS, METRICS
    from tgmm.devices import DEVICES
    from tgmm.models.settings import NETWORK_KINDS
    from tgmm.tasks.sampler import COVARIANCES
    from tgmm.tasks.shifts import FILTERS, SHIFTS
    from tgmm.versions import VERSIONS

    definitions = CONTENT["$defs"]
    assert TOP["device"]["enum"] == list(DEVICES)
    assert definitions["Recipe"]["properties"]["network"]["enum"] == list(NETWORK_KINDS)
    assert definitions["TaskSetEntry"]["properties"]["covariance"]["enum"] == list(COVARIANCES)
    shift = definitions["ShiftValues"]["properties"]
    assert set(shift["kind"]["enum"]) == set(SHIFTS)
    assert shift["filter"]["enum"] == list(FILTERS)
    assert set(get_args(Metric)) <= {*METRICS, *(name + DEFICIT for name in LIKELIHOODS)}
    assert {f"training:{kind}" for kind in NETWORK_KINDS} <= set(VERSIONS)
    methods = set(next(iter(TOP["methods"]["patternProperties"].values()))["discriminator"]["mapping"])
    assert {f"scores:{kind}" for kind in methods} <= set(VERSIONS)


def test_every_kind_of_artefact_can_be_drawn():
    for name, kind in NAMES.items():
        stem, module = name.removesuffix("-table").replace("-", "_"), import_module(kind.module)
        wanted = [f"draw_{stem}"] if kind.prefix == "fig-" else [f"{stem}_rows", f"{stem}_table"]
        for function in (*wanted, f"caption_{stem}"):
            assert callable(getattr(module, function)), (name, function)
        assert getattr(module, wanted[0]).summary is not None, name
