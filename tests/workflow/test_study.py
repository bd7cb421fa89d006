"""The study: names, settings and applicability; and one clear line for every mistake in the configuration."""

from __future__ import annotations

import copy
import shutil
import subprocess
import sys

import pytest
from workflow_project import ROOT

from tgmm.errors import UserError
from tgmm.study import load_study, read_config, study_from_config

FAMILY = "isotropic-d8-n128-components"


@pytest.fixture(scope="module")
def config() -> dict:
    return read_config(ROOT / "config.yaml")


@pytest.fixture(scope="module")
def study():
    return load_study(ROOT / "config.yaml")


def test_lists_multiply_into_families(study):
    assert {f"isotropic-d{d}-n128-components" for d in (2, 8, 32, 128)} <= set(study.families)
    assert study.families[FAMILY] == {
        "covariance": "isotropic",
        "dimension": 8,
        "n_components": [2, 3, 4, 5],
        "longest": 128,
        "recipe": "components",
    }


def test_a_file_of_tasks_for_each_dimension(study):
    assert study.tasksets["effectiveness-d32"] == ("effectiveness", 32)
    assert study.task_settings("effectiveness-d32")["n_points"] == [128]


def test_networks_apply_only_where_their_family_is_trained(study):
    assert study.family_of("tgmm-components-em20", "effectiveness-d8") == FAMILY
    assert study.applies("tgmm-matched", "effectiveness-d8")
    assert not study.applies("tgmm-matched", "effectiveness-d32")
    assert study.applies("spectral", "effectiveness-d2")
    assert ("effectiveness-d8", "tgmm-matched") in study.scores
    assert ("effectiveness-d32", "tgmm-matched") not in study.scores


def test_settings_of_the_commands(study):
    train = study.train_settings(FAMILY)
    assert train["network"]["kind"] == "components"
    assert train["training"] == study.config["training"]["components"]
    score = study.score_settings("tgmm-components-em20", "effectiveness-d8")
    assert (score["family"], score["em_steps"]) == (FAMILY, 20)
    assert "family" not in study.score_settings("em", "effectiveness-d8")
    assert study.artefact_settings("fig-effectiveness")["dimensions"] == [2, 8, 32, 128]


def test_an_override_wins_over_the_scale(config):
    assert study_from_config(config | {"scale": "smoke", "test_tasks": 7}, ROOT).config["test_tasks"] == 7


def test_text_that_is_a_number_is_read_as_one(config):
    override = {"training": {"components": {"learning_rate": "1e-3", "tasks": "64"}}}
    budget = study_from_config(config | override, ROOT).config["training"]["components"]
    assert (budget["learning_rate"], budget["tasks"]) == (0.001, 64)


def test_absent_keys_take_the_default(config):
    changed = copy.deepcopy(config)
    del changed["seed"], changed["methods"]["em"]["starts"]
    study = study_from_config(changed, ROOT)
    assert study.config["seed"] == 2505
    assert study.config["methods"]["em"]["starts"] == 1


def test_reading_the_study_imports_nothing_heavy():
    heavy = {"torch", "pandas", "snakemake"}
    code = f"import sys, tgmm.study, tgmm.code_version; sys.exit(bool({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


MISTAKES = [
    ("scal", "smoke", "unknown config key 'scal'; did you mean 'scale'?"),
    ("scale", "smoky", "unknown scale 'smoky'; did you mean 'smoke'?"),
    ("seed", "many", "'seed' must be of type integer, not 'many'"),
    ("seed", -1, "'seed' must be at least 0, not -1"),
    ("device", "gpu", "unknown value of 'device': 'gpu'"),
    ("test_tasks", 0, "'test_tasks' must be at least 1, not 0"),
    ("tasksets.effectiveness.K", [0, 2], "'tasksets.effectiveness.K[0]' must be at least 1, not 0"),
    ("tasksets.effectiveness.K", True, "'tasksets.effectiveness.K' must be of type integer or array, not True"),
    ("tasksets.effectiveness.N", -5, "'tasksets.effectiveness.N' must be at least 1, not -5"),
    ("tasksets.effectiveness.d", None, "'tasksets.effectiveness.d' must be of type integer or array, not nothing"),
    ("families.0.d", 0, "'families[0].d' must be at least 1, not 0"),
    (
        "families.0.recipe",
        "component",
        "unknown recipe in 'families[0].recipe': 'component'; did you mean 'components'?",
    ),
    ("families.1.recipe", ["components"], "'families[1]' defines isotropic-d2-n128-components again"),
    ("recipes.matched.network", "gpt3", "unknown value of 'recipes.matched.network': 'gpt3'; did you mean 'gpt2'?"),
    ("methods.em.kind", "emm", "unknown value of 'methods.em.kind': 'emm'; did you mean 'em'?"),
    ("methods.em.stars", 3, "unknown config key in 'methods.em': 'stars'; did you mean 'starts'?"),
    ("methods.Em", {"kind": "em"}, "'methods': the name 'Em' must match"),
    ("methods", 3, "'methods' must be of type object, not 3"),
    ("training", {"components": {"learning_rate": "fast"}}, "must be of type number, not 'fast'"),
    ("training", {"compnents": {"tasks": 5}}, "unknown recipe in 'training': 'compnents'; did you mean 'components'?"),
    ("networks", {"gpt2": {"heads": 7}}, "'networks.gpt2', for recipe 'reference': network width 64 is not a multiple"),
    ("artefacts.fig-training.families", [FAMILY + "s"], f"'{FAMILY}s'; did you mean '{FAMILY}'?"),
    ("artefacts.tab-effectiveness.methods", ["emm"], "unknown method in 'artefacts.tab-effectiveness.methods': 'emm'"),
    ("artefacts.tab-effectiveness.taskset", "effective", "'effective'; did you mean 'effectiveness'?"),
    ("artefacts.tab-x", {"kind": "training-curves", "families": [FAMILY]}, "must begin with 'fig-'"),
    ("artefacts.x", {"kind": "score-table"}, "'artefacts': the name 'x' must match"),
    ("artefacts.fig-backbone.d", [8, 16], "'artefacts.fig-backbone.d': task set 'effectiveness' has no d = 16"),
    ("artefacts.fig-mean-shift.shift", "means", "shift in 'artefacts.fig-mean-shift.shift': 'means'"),
    ("artefacts.tab-claims.tasksets", {"mean_shift": "mean"}, "'artefacts.tab-claims.tasksets.mean_shift': 'mean'"),
    ("artefacts.fig-shifts.scales", ["big"], "unknown scale in 'artefacts.fig-shifts.scales': 'big'"),
    ("recipes.matched.width_share", 0, "'recipes.matched.width_share' must be larger than 0, not 0"),
    ("recipes.matched.width_share", 0.03, "'networks.set-encoder', for recipe 'matched': network width 2 is not"),
    ("recipes.matched.training", "short", "missing config key 'training.short'"),
    ("tasksets.mean-shift.shifts.0.value", 3, "unknown config key in 'tasksets.mean-shift.shifts[0]': 'value'"),
    ("methods.em.standardise", "yes", "'methods.em.standardise' must be of type boolean, not 'yes'"),
]


@pytest.mark.parametrize(
    ("key", "value", "message"), MISTAKES, ids=[f"{key}-{value}"[:40] for key, value, _ in MISTAKES]
)
def test_a_mistake_gives_one_line_that_names_the_key(config, key, value, message):
    with pytest.raises(UserError) as error:
        study_from_config(edited(config, key, value), ROOT)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "key", ["families.0.d", "methods.em.kind", "tasksets.effectiveness.K", "artefacts.fig-training.kind"]
)
def test_a_missing_key_is_named(config, key):
    with pytest.raises(UserError, match="missing config key"):
        study_from_config(edited(config, key, None, remove=True), ROOT)


def test_a_recipe_without_a_budget_is_named(config):
    changed = edited(config, "recipes.mine", {"network": "gpt2", "loss": "matched"})
    with pytest.raises(UserError, match=r"missing config key 'training\.mine'"):
        study_from_config(changed, ROOT)


def test_a_scale_may_hold_sizes_only(config, tmp_path):
    shutil.copytree(ROOT / "workflow", tmp_path / "workflow")
    with (tmp_path / "workflow/scales/smoke.yaml").open("a") as file:
        file.write("seed: 3\n")
    with pytest.raises(UserError, match=r"unknown key in workflow/scales/smoke\.yaml 'seed'"):
        study_from_config(config | {"scale": "smoke"}, tmp_path)


def test_broken_yaml_is_named_with_its_line(tmp_path):
    (tmp_path / "config.yaml").write_text("scale: smoke\nfamilies: [1\nseed: 3\n")
    with pytest.raises(UserError, match=r"config\.yaml: line 3, column \d+: not valid YAML"):
        read_config(tmp_path / "config.yaml")


def edited(config: dict, key: str, value: object, remove: bool = False) -> dict:
    """A copy of the configuration with one key set or removed; `key` is its path with dots."""
    changed = copy.deepcopy(config)
    place = changed
    *folders, last = key.split(".")
    for folder in folders:
        place = place[int(folder) if isinstance(place, list) else folder]
    if remove:
        del place[last]
    else:
        place[last] = value
    return changed


def test_commands_refuse_names_that_the_study_does_not_have():
    study = load_study(ROOT / "config.yaml")
    for name, settings in {
        "family": study.train_settings,
        "task set": study.task_settings,
        "artefact": study.artefact_settings,
    }.items():
        with pytest.raises(UserError, match=f"unknown {name} 'nothing'"):
            settings("nothing")
    with pytest.raises(UserError, match="unknown method 'spectrl'; did you mean 'spectral'"):
        study.score_settings("spectrl", "effectiveness-d8")


@pytest.mark.parametrize(("dimension", "count", "room"), [(1, 3, 2), (2, 10, 9)])
def test_more_means_than_a_space_has_room_for_are_refused(dimension, count, room):
    config = read_config(ROOT / "config.yaml")
    config["tasksets"]["effectiveness"] |= {"d": [8, dimension], "K": [2, count]}
    with pytest.raises(UserError, match=rf"'tasksets.effectiveness.K': {count} means do not fit .* room for {room}"):
        study_from_config(config, ROOT)


def test_a_recipe_may_scale_its_network_and_share_a_budget(config):
    recipe = {"network": "gpt2", "loss": "sorted", "width_share": 0.5, "blocks_share": 1.5, "training": "reference"}
    changed = edited(config, "recipes.small", recipe)
    changed["families"].append({"d": 3, "recipe": "small"})
    train = study_from_config(changed, ROOT).train_settings("isotropic-d3-n128-small")
    size = study_from_config(config, ROOT).config["networks"]["gpt2"]
    assert train["network"] == {**size, "kind": "gpt2", "width": size["width"] // 2, "blocks": size["blocks"] * 3 // 2}
    assert train["training"] == study_from_config(config, ROOT).config["training"]["reference"]


def test_families_and_artefacts_may_belong_to_some_scales_only(config):
    changed = copy.deepcopy(config)
    changed["families"].append({"d": 3, "scales": ["paper"]})
    changed["artefacts"]["fig-x"] = {"kind": "theorem-em", "scales": ["smoke", "paper"]}
    present = {}
    for scale in ("smoke", "laptop", "paper"):
        study = study_from_config(changed | {"scale": scale}, ROOT)
        present[scale] = ("isotropic-d3-n128-components" in study.families, "fig-x" in study.figures)
        assert "scales" not in study.artefact_settings("fig-effectiveness")
    assert present == {"smoke": (False, True), "laptop": (False, False), "paper": (True, True)}


def test_an_artefact_may_show_some_dimensions_only(study):
    assert study.artefact_settings("fig-backbone")["dimensions"] == [2, 8]
    assert {taskset for taskset, _ in study.artefact_scores("fig-backbone")} == {"effectiveness-d2", "effectiveness-d8"}
    assert len(study.artefact_settings("fig-effectiveness")["dimensions"]) == 4


def test_shifts_reach_the_tasks_and_the_artefacts(study):
    shifts = study.task_settings("mean-shift-d8")["shifts"]
    assert [shift["kind"] for shift in shifts] == ["mean"]
    assert study.artefact_settings("fig-mean-shift")["shifts"] == shifts
    assert "shifts" not in study.task_settings("effectiveness-d8")


def test_claims_take_the_scores_that_the_figures_ask_for(study):
    settings = study.artefact_settings("tab-claims")
    assert set(settings["tasksets"].values()) == {"effectiveness", "sample-size", "mean-shift", "anisotropic"}
    assert study.artefact_scores("tab-claims") == []
    for method in settings["methods"]:
        assert any(name == method for _, name in study.scores), method
