"""The ablation in the configuration: what each change makes of the settings, and what is refused."""

from __future__ import annotations

import copy
import re
import shutil

import pytest
from workflow_project import ROOT

from tgmm.config import read_config
from tgmm.errors import UserError
from tgmm.study import load_study, network_settings, study_from_config
from tgmm.train.settings import TrainingSettings


@pytest.fixture(scope="module")
def config() -> dict:
    return read_config(ROOT / "config.yaml")


def with_changes(config: dict, changes: dict, **section) -> dict:
    """The configuration with other changes."""
    edited = copy.deepcopy(config)
    edited["ablation"] |= {"changes": changes, **section}
    return edited


def settings_of(study, d: int = 8, seed: int = 1) -> dict[str, dict]:
    entries = study.ablation_settings(d, seed)["changes"]
    return {entry["change"]: entry["settings"] for entry in entries}


@pytest.mark.parametrize("scale", ["smoke", "laptop", "paper"])
def test_a_change_means_the_same_at_every_scale(scale):
    study = load_study(ROOT / "config.yaml", scale)
    changes = settings_of(study)
    base = changes["baseline"]
    assert base["network"] == network_settings(study.config, "components")
    assert base["training"]["batch"] == study.config.training["components"].batch
    assert changes["wider"]["network"]["width"] == 1.5 * base["network"]["width"]
    assert changes["deeper"]["network"]["blocks"] == 1.5 * base["network"]["blocks"]
    assert changes["no-fourier"]["network"] == base["network"] | {"fourier": 0}
    assert changes["no-axes"]["network"] == base["network"] | {"axes": 0}
    assert changes["likelihood"]["loss"] == "likelihood"


def test_one_thing_is_changed_at_a_time():
    changes = settings_of(load_study(ROOT / "config.yaml"))
    base = TrainingSettings.from_dict(changes.pop("baseline")).to_dict()
    budgets = {"tasks", "validate_every"}
    for name, settings in changes.items():
        plain = TrainingSettings.from_dict(settings).to_dict()
        differ = {key for key in base if key not in ("network", "training") and plain[key] != base[key]}
        for section in ("network", "training"):
            differ |= {key for key in base[section] if plain[section][key] != base[section][key]} - budgets
        assert len(differ) == 1, (name, differ)


def test_a_part_is_a_dimension_a_seed_and_a_change():
    study = load_study(ROOT / "config.yaml", "paper")
    changes = list(study.config.ablation.changes)
    assert study.ablations == [(d, seed, change) for d in (2, 8) for seed in (1, 2, 3) for change in changes]
    for change, settings in settings_of(study, 8, 1).items():
        assert study.ablation_settings(8, 1, change)["changes"] == [{"change": change, "settings": settings}]
    first, second = settings_of(study, 8, 1), settings_of(study, 8, 2)
    assert {settings["family"] for settings in first.values()} == {"ablation-d8-s1"}
    assert {(settings["seed"], settings["dimension"]) for settings in second.values()} == {(2, 8)}
    with pytest.raises(UserError, match=r"unknown seed in 'ablation.seeds': '7'"):
        study.ablation_settings(8, 7)
    with pytest.raises(UserError, match=r"unknown dimension in 'ablation.d': '3'"):
        study.ablation_settings(3, 1)
    with pytest.raises(UserError, match=r"unknown change in 'ablation.changes': 'wide'; did you mean 'wider'\?"):
        study.ablation_settings(8, 1, "wide")


def test_without_an_artefact_nothing_is_trained(config):
    edited = copy.deepcopy(config)
    del edited["artefacts"]["fig-ablation"], edited["artefacts"]["tab-ablation"]
    assert study_from_config(edited, ROOT).ablations == []


def test_changes_start_from_the_baseline(config):
    changes = {
        "wider": {"width_share": 0.5, "tasks_share": 1.5},
        "baseline": {"width_share": 2, "network": {"fourier": 2}},
    }
    study = study_from_config(with_changes(config, changes, tasks=1000), ROOT)
    resolved = settings_of(study)
    assert list(resolved) == ["baseline", "wider"]
    width = network_settings(study.config, "components")["width"]
    assert [resolved[name]["network"]["width"] for name in ("baseline", "wider")] == [2 * width, width]
    assert [resolved[name]["training"]["tasks"] for name in ("baseline", "wider")] == [1000, 1500]
    assert resolved["wider"]["network"]["fourier"] == 2


def test_artefacts_get_the_labels(config):
    settings = study_from_config(config, ROOT).artefact_settings("fig-ablation")
    assert settings["changes"]["wider"] == "width × 1.5"
    assert (settings["recipe"], settings["covariance"], settings["N"]) == ("components", "isotropic", 128)
    plain = study_from_config(with_changes(config, {"baseline": {}, "no-axes": {"network": {"axes": 0}}}), ROOT)
    assert plain.artefact_settings("tab-ablation")["changes"] == {"baseline": "baseline", "no-axes": "no axes"}


MISTAKES = [
    ({}, "missing key 'ablation.changes.baseline'"),
    ({"baseline": {}, "x": {"loss": "likelyhood"}}, "value of 'ablation.changes.x.loss': 'likelyhood'; did you mean"),
    (
        {"baseline": {}, "x": {"width_share": 0.7}},
        "'ablation.changes.x': 'network': network width 45 is not a multiple of its 4 heads",
    ),
    ({"baseline": {}, "x": {"network": {"forier": 4}}}, "'ablation.changes.x': unknown key in 'network': 'forier'"),
    ({"baseline": {}, "x": {"tasks_share": 0}}, "'ablation.changes.x.tasks_share' must be greater than 0, not 0"),
    ({"baseline": {}, "X": {}}, "'ablation.changes': the name 'X' must match"),
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
        ({"recipe": "component"}, "unknown recipe in 'ablation.recipe': 'component'; did you mean 'components'?"),
        ({"d": [2, 0]}, "'ablation.d[1]' must be greater than or equal to 1, not 0"),
        ({"d": [1], "K": [2, 3]}, "'ablation.K': d=1, K=3"),
        ({"seeds": []}, "'ablation.seeds'"),
        ({"task": 5}, "unknown key in 'ablation': 'task'; did you mean 'tasks'?"),
    ],
)
def test_a_mistake_in_the_section_gives_one_line(config, section, message):
    with pytest.raises(UserError, match=re.escape(message)):
        study_from_config(with_changes(config, {"baseline": {}}, **section), ROOT)


def test_scales_hold_only_the_sizes_of_the_section(tmp_path):
    shutil.copytree(ROOT / "workflow", tmp_path / "workflow")
    shutil.copy(ROOT / "config.yaml", tmp_path / "config.yaml")
    sizes = tmp_path / "workflow/scales/smoke.yaml"
    sizes.write_text(sizes.read_text().replace("ablation: {", "ablation: {recipe: matched, "))
    with pytest.raises(UserError, match=r"unknown key in 'ablation' of workflow/scales/smoke.yaml 'recipe'"):
        load_study(tmp_path / "config.yaml", "smoke")
