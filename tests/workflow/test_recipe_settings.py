"""The recipe study in the configuration: what each change makes of the settings, and what is refused."""

from __future__ import annotations

import copy
import re
import shutil

import pytest
from workflow_project import ROOT

from tgmm.errors import UserError
from tgmm.models.settings import ComponentsNetwork
from tgmm.study import load_study, read_config, study_from_config
from tgmm.train.settings import TrainingSettings


@pytest.fixture(scope="module")
def config() -> dict:
    return read_config(ROOT / "config.yaml")


def with_changes(config: dict, changes: dict, **section) -> dict:
    """The configuration with other changes."""
    edited = copy.deepcopy(config)
    edited["recipe_study"] |= {"changes": changes, **section}
    return edited


def settings_of(study, d: int = 8, seed: int = 1) -> dict[str, dict]:
    entries = study.recipe_study_settings(d, seed)["changes"]
    return {entry["change"]: entry["settings"] for entry in entries}


@pytest.mark.parametrize("scale", ["smoke", "laptop", "paper"])
def test_a_change_means_the_same_at_every_scale(scale):
    study = load_study(ROOT / "config.yaml", scale)
    changes = settings_of(study)
    base = changes["baseline"]
    assert base["network"] == study.network_settings("components")
    assert base["training"]["batch"] == study.config["training"]["components"]["batch"]
    assert changes["wider"]["network"]["width"] == 1.5 * base["network"]["width"]
    assert changes["deeper"]["network"]["blocks"] == 1.5 * base["network"]["blocks"]
    assert changes["more-heads"]["network"]["heads"] == 2 * base["network"]["heads"]
    assert changes["large-batch"]["training"]["batch"] == 2 * base["training"]["batch"]
    assert changes["high-rate"]["training"]["learning_rate"] == 2 * base["training"]["learning_rate"]
    assert changes["no-fourier"]["network"] == base["network"] | {"fourier": 0}
    assert changes["both"]["loss"] == "both"


def test_one_thing_is_changed_at_a_time():
    changes = settings_of(load_study(ROOT / "config.yaml"))
    base = TrainingSettings.from_dict(changes.pop("baseline")).to_dict()
    budgets = {"tasks", "validate_every"}
    for name, settings in changes.items():
        plain = TrainingSettings.from_dict(settings).to_dict()
        differ = {key for key in base if key not in ("network", "training") and plain[key] != base[key]}
        for section in ("network", "training"):
            differ |= {key for key in base[section] if plain[section][key] != base[section][key]} - budgets
        assert len(differ - {"learning_rate"} or differ) == 1, (name, differ)


def test_the_parts_are_pairs_of_dimension_and_seed():
    study = load_study(ROOT / "config.yaml", "paper")
    assert study.recipe_studies == [(2, 1), (2, 2), (2, 3), (8, 1), (8, 2), (8, 3)]
    first, second = settings_of(study, 8, 1), settings_of(study, 8, 2)
    assert {settings["family"] for settings in first.values()} == {"recipe-study-d8-s1"}
    assert {(settings["seed"], settings["dimension"]) for settings in second.values()} == {(2, 8)}
    with pytest.raises(UserError, match=r"unknown seed in 'recipe_study.seeds': '7'"):
        study.recipe_study_settings(8, 7)
    with pytest.raises(UserError, match=r"unknown dimension in 'recipe_study.d': '3'"):
        study.recipe_study_settings(3, 1)


def test_without_an_artefact_nothing_is_trained(config):
    edited = copy.deepcopy(config)
    del edited["artefacts"]["fig-recipe"], edited["artefacts"]["tab-recipe"]
    assert study_from_config(edited, ROOT).recipe_studies == []


def test_changes_start_from_the_baseline(config):
    changes = {
        "wider": {"width_share": 0.5, "tasks_share": 1.5},
        "baseline": {"width_share": 2, "training": {"schedule": "linear"}},
    }
    study = study_from_config(with_changes(config, changes, tasks=1000), ROOT)
    resolved = settings_of(study)
    assert list(resolved) == ["baseline", "wider"]
    width = study.network_settings("components")["width"]
    assert [resolved[name]["network"]["width"] for name in ("baseline", "wider")] == [2 * width, width]
    assert [resolved[name]["training"]["tasks"] for name in ("baseline", "wider")] == [1000, 1500]
    assert resolved["wider"]["training"]["schedule"] == "linear"


def test_artefacts_get_the_labels(config):
    settings = study_from_config(config, ROOT).artefact_settings("fig-recipe")
    assert settings["changes"]["wider"] == "width × 1.5"
    assert (settings["recipe"], settings["covariance"], settings["N"]) == ("components", "isotropic", 128)
    plain = study_from_config(with_changes(config, {"baseline": {}, "no-clip": {"training": {"clip": 1e9}}}), ROOT)
    assert plain.artefact_settings("tab-recipe")["changes"] == {"baseline": "baseline", "no-clip": "no clip"}


MISTAKES = [
    ({}, "missing config key 'recipe_study.changes.baseline'"),
    (
        {"baseline": {}, "x": {"loss": "likelyhood"}},
        "'recipe_study.changes.x': unknown value of 'loss': 'likelyhood'; did you mean",
    ),
    (
        {"baseline": {}, "x": {"width_share": 0.7}},
        "'recipe_study.changes.x': 'network': network width 45 is not a multiple of its 4 heads",
    ),
    (
        {"baseline": {}, "x": {"training": {"precision": "bfloat"}}},
        "'recipe_study.changes.x': unknown value of 'training.precision': 'bfloat'; did you mean 'bfloat16'?",
    ),
    (
        {"baseline": {}, "x": {"network": {"forier": 4}}},
        "unknown config key in 'recipe_study.changes.x.network': 'forier'; did you mean 'fourier'?",
    ),
    ({"baseline": {}, "x": {"tasks_share": 0}}, "'recipe_study.changes.x.tasks_share' must be larger than 0, not 0"),
    ({"baseline": {}, "X": {}}, "'recipe_study.changes': the name 'X' must match"),
]


@pytest.mark.parametrize(("changes", "message"), MISTAKES)
def test_a_mistake_in_a_change_gives_one_line(config, changes, message):
    with pytest.raises(UserError) as error:
        study_from_config(with_changes(config, changes), ROOT)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"recipe": "component"}, "unknown recipe in 'recipe_study.recipe': 'component'; did you mean 'components'?"),
        ({"d": [2, 0]}, "'recipe_study.d[1]' must be at least 1, not 0"),
        ({"d": [1], "K": [2, 3]}, "'recipe_study.K': 3 means do not fit in d = 1"),
        ({"seeds": []}, "'recipe_study.seeds' must have at least 1 item(s)"),
        ({"task": 5}, "unknown config key in 'recipe_study': 'task'; did you mean 'tasks'?"),
    ],
)
def test_a_mistake_in_the_section_gives_one_line(config, section, message):
    with pytest.raises(UserError, match=re.escape(message)):
        study_from_config(with_changes(config, {"baseline": {}}, **section), ROOT)


def test_scales_hold_only_the_sizes_of_the_section(tmp_path):
    shutil.copytree(ROOT / "workflow", tmp_path / "workflow")
    shutil.copy(ROOT / "config.yaml", tmp_path / "config.yaml")
    sizes = tmp_path / "workflow/scales/smoke.yaml"
    sizes.write_text(sizes.read_text().replace("recipe_study: {", "recipe_study: {recipe: matched, "))
    with pytest.raises(UserError, match=r"unknown key in 'recipe_study' of workflow/scales/smoke.yaml 'recipe'"):
        load_study(tmp_path / "config.yaml", "smoke")


def test_what_a_change_sets_is_known_to_network_and_trainer():
    import json

    from tgmm.study.loading import SCHEMA
    from tgmm.train.settings import Budget

    change = json.loads((ROOT / SCHEMA).read_text(encoding="utf-8"))["$defs"]["change"]["properties"]
    assert set(change["network"]["properties"]) <= set(ComponentsNetwork.model_fields)
    assert set(change["training"]["properties"]) <= set(Budget.model_fields)
