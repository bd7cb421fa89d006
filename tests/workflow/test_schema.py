"""config.yaml, the scales, the schema and the code must agree."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from workflow_project import ROOT

from tgmm.devices import DEVICES
from tgmm.study import load_study, read_config
from tgmm.study.loading import SCHEMA, size_keys

SCHEMA_CONTENT = json.loads((ROOT / SCHEMA).read_text(encoding="utf-8"))
TOP = SCHEMA_CONTENT["properties"]
DEFINITIONS = SCHEMA_CONTENT["$defs"]
SIZES = [key for key, part in TOP.items() if part.get("x-scale")]
# Sections of the configuration of which some keys belong to the scale.
OPTIONAL = {"schedule", "optimiser", "precision"}  # of a training; what the trainer has otherwise
SECTIONS = {key: inner for key, inner in size_keys(SCHEMA_CONTENT).items() if inner}


def every_property(schema: object, path: str = "") -> Iterator[tuple[str, dict, bool]]:
    """(path, schema, whether required) of every key that the schema describes."""
    if isinstance(schema, dict):
        for name, part in schema.get("properties", {}).items():
            if "$ref" not in part and "const" not in part:
                yield f"{path}.{name}", part, name in schema.get("required", ())
        for name, part in schema.items():
            if name != "if":
                yield from every_property(part, f"{path}.{name}")


def test_every_key_has_a_description_and_a_default_or_an_example():
    for path, part, required in every_property(SCHEMA_CONTENT):
        assert part.get("description", "").endswith("."), path
        assert ("examples" if required else "default") in part, path


def test_the_configuration_names_every_key_but_the_sizes():
    assert list(read_config(ROOT / "config.yaml")) == [key for key in TOP if key not in SIZES]


def test_plain_values_of_the_configuration_are_the_defaults():
    config = read_config(ROOT / "config.yaml")
    for key in ("scale", "seed", "device"):
        assert config[key] == TOP[key]["default"]


@pytest.mark.parametrize("scale", ["smoke", "laptop", "paper"])
def test_every_scale_gives_every_size(scale):
    sizes = read_config(ROOT / f"workflow/scales/{scale}.yaml")
    assert list(sizes) == [*SIZES, *SECTIONS]
    assert {key: list(sizes[key]) for key in SECTIONS} == SECTIONS
    assert set(sizes["networks"]) == set(TOP["networks"]["properties"])
    for recipe, budget in sizes["training"].items():
        optional = {"optimiser", "precision"} if recipe in ("components", "scaling") else OPTIONAL
        assert set(budget) == set(DEFINITIONS["training"]["properties"]) - optional
    load_study(ROOT / "config.yaml", scale)


def test_sizes_of_the_default_scale_are_the_defaults():
    sizes = read_config(ROOT / "workflow/scales/laptop.yaml")
    for key in SIZES:
        if TOP[key]["default"] != {}:
            assert sizes[key] == TOP[key]["default"], key
    for section, inner in SECTIONS.items():
        for key in inner:
            assert sizes[section][key] == TOP[section]["properties"][key]["default"], key


def test_sizes_of_a_section_stand_with_the_scale_alone():
    config = read_config(ROOT / "config.yaml")
    for section, inner in SECTIONS.items():
        assert set(config[section]) <= set(TOP[section]["properties"]) - set(inner)


def test_choices_are_those_of_the_code():
    from tgmm.evaluate import METHOD_KINDS
    from tgmm.figures.registry import FIGURES
    from tgmm.loss_kinds import LOSSES
    from tgmm.models.settings import NETWORK_KINDS
    from tgmm.tables.registry import TABLES
    from tgmm.tasks.sampler import COVARIANCES

    assert TOP["device"]["enum"] == list(DEVICES)
    assert DEFINITIONS["recipe"]["properties"]["network"]["enum"] == list(NETWORK_KINDS)
    assert set(DEFINITIONS["recipe"]["properties"]["loss"]["enum"]) == set(LOSSES)
    assert DEFINITIONS["taskset"]["properties"]["covariance"]["enum"] == list(COVARIANCES)
    assert set(DEFINITIONS["method"]["properties"]["kind"]["enum"]) == set(METHOD_KINDS)
    assert set(DEFINITIONS["artefact"]["properties"]["kind"]["enum"]) == set(FIGURES) | set(TABLES)


def test_budgets_are_those_of_the_trainer():
    from dataclasses import fields

    from tgmm.train.settings import Budget

    assert {field.name for field in fields(Budget)} == set(DEFINITIONS["training"]["properties"])


def test_metrics_are_those_of_the_scores():
    from tgmm.aggregate import DEFICIT, LIKELIHOODS, METRICS

    metrics = DEFINITIONS["artefact-score-table"]["properties"]["metric"]["enum"]
    assert set(metrics) <= {*METRICS, *(name + DEFICIT for name in LIKELIHOODS)}


def test_shifts_are_those_of_the_tasks():
    from tgmm.tasks.shifts import FILTERS, SHIFTS

    shift = DEFINITIONS["shift"]["properties"]
    assert set(shift["kind"]["enum"]) == set(SHIFTS) - {"none"}
    assert shift["filter"]["enum"] == list(FILTERS)
