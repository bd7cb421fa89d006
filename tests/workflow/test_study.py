"""The study: names, settings and applicability; and one clear line for every mistake in the configuration."""

from __future__ import annotations

import copy
import shutil
import subprocess
import sys

import pytest
from workflow_project import ROOT

from tgmm.columns import METRICS
from tgmm.config import read_config
from tgmm.errors import UserError
from tgmm.study import Family, load_study, network_settings, study_from_config

FAMILY = "isotropic-d8-n128-components"


@pytest.fixture(scope="module")
def config() -> dict:
    return read_config(ROOT / "config.yaml")


@pytest.fixture(scope="module")
def study():
    return load_study(ROOT / "config.yaml")


def test_lists_multiply_into_families(study):
    assert {f"isotropic-d{d}-n128-components" for d in (2, 8, 32, 128)} <= set(study.families)
    assert study.families[FAMILY] == Family("isotropic", 8, 128, (2, 3, 4, 5), "components")
    assert study.families[FAMILY].name == FAMILY


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
    assert train["training"] == study.config.training["components"].plain()
    score = study.score_settings("tgmm-components-em20", "effectiveness-d8")
    assert (score["family"], score["em_steps"]) == (FAMILY, 20)
    assert "family" not in study.score_settings("em", "effectiveness-d8")
    assert study.artefact_settings("fig-effectiveness")["dimensions"] == [2, 8, 32, 128]


def test_an_override_wins_over_the_scale(config):
    assert study_from_config(config | {"scale": "smoke", "test_tasks": 7}, ROOT).config.test_tasks == 7


def test_text_that_is_a_number_is_read_as_one(config):
    override = {"training": {"components": {"learning_rate": "1e-3", "tasks": "64"}}}
    budget = study_from_config(config | override, ROOT).config.training["components"]
    assert (budget.learning_rate, budget.tasks) == (0.001, 64)


def test_absent_keys_take_the_default(config):
    changed = copy.deepcopy(config)
    del changed["seed"], changed["methods"]["em"]["starts"]
    study = study_from_config(changed, ROOT)
    assert study.config.seed == 2505
    assert study.config.methods["em"].starts == 1


def test_reading_the_study_imports_nothing_heavy():
    heavy = {"torch", "pandas", "snakemake"}
    code = f"import sys, tgmm.study, tgmm.versions; sys.exit(bool({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


MISTAKES = [
    ("scal", "smoke", "unknown key 'scal'; did you mean 'scale'?"),
    ("scale", "smoky", "unknown scale 'smoky'; did you mean 'smoke'?"),
    ("seed", "many", "'seed' must be a valid integer, not 'many'"),
    ("seed", -1, "'seed' must be greater than or equal to 0, not -1"),
    ("device", "gpu", "unknown value of 'device': 'gpu'"),
    ("test_tasks", 0, "'test_tasks' must be greater than or equal to 1, not 0"),
    ("tasksets.effectiveness.K", [0, 2], "'tasksets.effectiveness.K[0]' must be greater than or equal to 1, not 0"),
    ("tasksets.effectiveness.K", True, "'tasksets.effectiveness.K' must be a valid integer, not True"),
    ("tasksets.effectiveness.N", -5, "'tasksets.effectiveness.N' must be greater than or equal to 1, not -5"),
    ("tasksets.effectiveness.d", None, "'tasksets.effectiveness.d' must be a valid integer, not nothing"),
    ("families.0.d", 0, "'families[0].d' must be greater than or equal to 1, not 0"),
    (
        "families.0.recipe",
        "component",
        "unknown recipe in 'families[0].recipe': 'component'; did you mean 'components'?",
    ),
    ("families.1.recipe", ["components"], "'families[1]' defines isotropic-d2-n128-components again"),
    ("recipes.matched.network", "gpt3", "unknown value of 'recipes.matched.network': 'gpt3'; did you mean 'gpt2'?"),
    ("methods.em.kind", "emm", "unknown value of 'methods.em.kind': 'emm'; did you mean 'em'?"),
    ("methods.em.stars", 3, "unknown key in 'methods.em': 'stars'; did you mean 'starts'?"),
    ("methods.Em", {"kind": "em"}, "'methods': the name 'Em' must match"),
    ("methods.em-oracle", {"kind": "spectral"}, "'methods.em-oracle': is the floor of all others"),
    ("trained", ["nothing"], "'trained': no family of 'families' matches 'nothing'"),
    ("test_tasks", 10**10, "'tasks' must be less than or equal to 1000000"),
    ("networks", {"gpt2": {"positions": 10}}, "network positions 10 are fewer than the N = 128 points of a task"),
    (
        "training",
        {"components": {"learning_rate": 1e31}},
        "must be less than or equal to 1000000000000000000000000000000, not 1e+31",
    ),
    ("ablation.changes.wider.label", "a\nb", "must be printable text on one line, not 'a\\nb'"),
    ("artefacts.fig-training.caption", "a\0b", "must be printable text on one line, not 'a\\x00b'"),
    ("recipes.components.network", "a\nb", "'a\\nb' (valid: components"),
    ("artefacts.fig-probes.families", ["isotropic-d8-n128-matched"], "needs networks of kind 'components'"),
    ("artefacts.fig-probe-picture.families", ["isotropic-d8-n128-components"], "of kind 'components' in d = 2"),
    ("methods", 3, "'methods' must hold keys and values, not 3"),
    ("training", {"components": {"learning_rate": "fast"}}, "must be a valid number, not 'fast'"),
    ("training", {"compnents": {"tasks": 5}}, "unknown recipe in 'training': 'compnents'; did you mean 'components'?"),
    ("networks", {"gpt2": {"heads": 7}}, "'networks.gpt2': network width 64 is not a multiple"),
    ("artefacts.fig-training.families", [FAMILY + "s"], f"'{FAMILY}s'; did you mean '{FAMILY}'?"),
    ("artefacts.tab-effectiveness.methods", ["emm"], "unknown method in 'artefacts.tab-effectiveness.methods': 'emm'"),
    ("artefacts.tab-effectiveness.taskset", "effective", "'effective'; did you mean 'effectiveness'?"),
    ("artefacts.tab-x", {"kind": "training-curves", "families": [FAMILY]}, "must begin with 'fig-'"),
    ("artefacts.x", {"kind": "score-table"}, "'artefacts': the name 'x' must match"),
    ("artefacts.fig-backbone.d", [8, 16], "'artefacts.fig-backbone.d': task set 'effectiveness' has no d = 16"),
    ("artefacts.fig-mean-shift.shift", "means", "shift in 'artefacts.fig-mean-shift.shift': 'means'"),
    ("artefacts.tab-claims.tasksets", {"mean_shift": "mean"}, "'artefacts.tab-claims.tasksets.mean_shift': 'mean'"),
    ("artefacts.fig-shifts.scales", ["big"], "unknown scale in 'artefacts.fig-shifts.scales': 'big'"),
    ("recipes.matched.width_share", 0, "'recipes.matched.width_share' must be greater than 0, not 0"),
    (
        "recipes.matched.width_share",
        0.03,
        "'networks.set-encoder', for recipe 'matched': 'network': network width 2 is not",
    ),
    ("recipes.matched.training", "short", "missing key 'training.short'"),
    ("trained", ["isotropic d8"], "'trained[0]'"),
    ("seed", 1e30, "'seed'"),
    ("test_tasks", 10**30, "'test_tasks'"),
    (
        "families.0.covariance",
        "$(touch x)isotropic",
        "unknown value of 'families[0].covariance': '$(touch x)isotropic'",
    ),
    ("scale", "x; touch pwned;", "unknown scale 'x; touch pwned;'"),
    ("methods.em\n", {"kind": "em"}, "'methods': the name 'em\\n' must match"),
    ("training", {"components": {"warmup": float("nan")}}, "'training.components.warmup'"),
    ("training", {"components": {"learning_rate": float("inf")}}, "'training.components.learning_rate'"),
    ("tasksets.mean-shift.shifts.0.value", 3, "unknown key in 'tasksets.mean-shift.shifts[0]': 'value'"),
    ("methods.em.standardise", "yes", "'methods.em.standardise' must be a valid boolean, not 'yes'"),
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
    with pytest.raises(UserError, match="missing key"):
        study_from_config(edited(config, key, None, remove=True), ROOT)


def test_a_recipe_without_a_budget_is_named(config):
    changed = edited(config, "recipes.mine", {"network": "gpt2", "loss": "matched"})
    with pytest.raises(UserError, match=r"missing key 'training\.mine'"):
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


@pytest.mark.parametrize(("dimension", "count"), [(1, 3), (2, 10), (3, 60)])
def test_more_means_than_a_space_has_room_for_are_refused(dimension, count):
    config = read_config(ROOT / "config.yaml")
    config["tasksets"]["effectiveness"] |= {"d": dimension, "K": [2, count]}
    with pytest.raises(UserError, match=rf"'tasksets.effectiveness.K': d={dimension}, K={count}: .* sets of K means"):
        study_from_config(config, ROOT)


def test_a_recipe_may_scale_its_network_and_share_a_budget(config):
    recipe = {"network": "gpt2", "loss": "sorted", "width_share": 0.5, "blocks_share": 1.5, "training": "reference"}
    changed = edited(config, "recipes.small", recipe)
    changed["families"].append({"d": 3, "recipe": "small"})
    train = study_from_config(changed, ROOT).train_settings("isotropic-d3-n128-small")
    size = network_settings(study_from_config(config, ROOT).config, "reference")
    assert train["network"] == {**size, "kind": "gpt2", "width": size["width"] // 2, "blocks": size["blocks"] * 3 // 2}
    assert train["training"] == study_from_config(config, ROOT).config.training["reference"].plain()


def test_a_recipe_may_differ_on_anisotropic_tasks_and_there_alone(config):
    """Scales are learnt with moments; what isotropic networks are trained with stays as it is."""
    plain = edited(config, "recipes.components", {"network": "components", "loss": "matched"})
    study, without = study_from_config(config, ROOT), study_from_config(plain, ROOT)
    for name, family in study.families.items():
        settings, before = study.train_settings(name), without.train_settings(name)
        if family.covariance == "anisotropic":
            assert (settings["network"]["moments"], before["network"]["moments"]) == (True, False)
            settings["network"]["moments"] = False
        assert settings == before


def test_every_measurement_of_a_score_file_is_drawn_or_tabulated(config):
    read = set()
    for artefact in config["artefacts"].values():
        read |= {artefact.get("metric"), *artefact.get("metrics", [])}
    assert set(METRICS) <= read


def test_artefacts_may_belong_to_some_scales_only(config):
    changed = copy.deepcopy(config)
    changed["artefacts"]["fig-x"] = {"kind": "theorem-em", "scales": ["smoke", "paper"]}
    studies = {scale: study_from_config(changed | {"scale": scale}, ROOT) for scale in ("smoke", "laptop", "paper")}
    assert {scale: "fig-x" in study.names("fig-") for scale, study in studies.items()} == {
        "smoke": True, "laptop": False, "paper": True,
    }  # fmt: skip


def test_a_family_that_a_scale_does_not_train_is_a_gap(config):
    study = study_from_config(config | {"trained": ["isotropic-d8-n128-components", "isotropic-d2-*-matched"]}, ROOT)
    assert list(study.families) == [FAMILY, "isotropic-d2-n128-matched"]
    assert "isotropic-d2-n128-components" in study.untrained
    assert study.applies("tgmm-components", "effectiveness-d8")
    assert not study.applies("tgmm-components", "effectiveness-d2")
    settings = study.artefact_settings("fig-training")
    assert settings["families"] == ["isotropic-d2-n128-matched", FAMILY]
    assert "isotropic-d2-n128-components" in settings["untrained"]
    assert "fig-backbone-scale" in study.left_out
    assert "fig-backbone-scale" not in study.names("fig-")
    assert set(study.histories(["isotropic-d2-n128-components", FAMILY])) == {FAMILY}


@pytest.fixture
def scales(tmp_path):
    """A root whose scales may be changed."""
    shutil.copytree(ROOT / "workflow/scales", tmp_path / "workflow/scales")
    return tmp_path / "workflow/scales"


def test_a_scale_of_three_lines_changes_one_budget_of_another(scales, tmp_path):
    text = "like: laptop\ntraining:\n  components: {tasks: 600000, validate_every: 100000}\n"
    (scales / "laptop-long.yaml").write_text(text)
    values = read_config(ROOT / "config.yaml")
    long = study_from_config(values | {"scale": "laptop-long"}, tmp_path)
    laptop = study_from_config(values, tmp_path)
    assert long.results == "results/laptop-long"
    assert list(long.families) == list(laptop.families)
    budget = laptop.config.training["components"].model_copy(update={"tasks": 600_000, "validate_every": 100_000})
    assert long.config.training == laptop.config.training | {"components": budget}
    assert long.config.networks == laptop.config.networks


@pytest.mark.parametrize(("like", "message"), [
    ("lptop", r"unknown scale in 'like' of workflow/scales/mine.yaml 'lptop'; did you mean 'laptop'"),
    ("mine", r"workflow/scales/mine.yaml: 'like' leads back to 'mine'"),
    ("yours", r"workflow/scales/yours.yaml: 'like' leads back to 'mine'"),
])  # fmt: skip
def test_a_scale_that_is_like_none_is_refused(scales, tmp_path, like, message):
    (scales / "mine.yaml").write_text(f"like: {like}\n")
    (scales / "yours.yaml").write_text("like: mine\n")
    with pytest.raises(UserError, match=message):
        study_from_config(read_config(ROOT / "config.yaml") | {"scale": "mine"}, tmp_path)


def test_models_that_are_there_are_not_missing(study, tmp_path):
    assert study.missing_models(tmp_path) == list(study.families)
    folder = tmp_path / study.results / "models" / FAMILY
    folder.mkdir(parents=True)
    for name in ("model.safetensors", "config.json"):
        (folder / name).touch()
    assert FAMILY in study.missing_models(tmp_path)
    (folder / "history.csv").touch()
    assert FAMILY not in study.missing_models(tmp_path)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("scale: smoke\nscale: laptop\n", "the key scale stands here twice"),
        ("methods:\n  em: {kind: em}\n  em: {kind: em}\n", "the key em stands here twice"),
        ("seed: 010\n", "the number 010 is not decimal"),
        ("seed: 1:30\n", "the number 1:30 is not decimal"),
        ("on: 3\n", "the key on must be text"),
        ("1.5: 3\n", "the key 1.5 must be text"),
        ("__use_yte__: true\n", "the key __use_yte__ is refused"),
        ("seed: !!int abc\n", "the tag tag:yaml.org,2002:int is refused"),
        ("scale: smoke\nseed: 2026-13-45\n", "'seed' must be a valid integer, not '2026-13-45'"),
        ("seed: 1:30.5\n", "the number 1:30.5 is not decimal"),
        ("a: " + "[" * 100_000 + "\n", "levels deep"),
        ("a0: &a0 []\n" + "".join(f"a{n + 1}: &a{n + 1} [{f'*a{n},' * 9}]\n" for n in range(9)), "more than 100,000"),
        ("a: " + "[" * 500 + "]" * 500 + "\n", "levels deep"),
        ("a: &a [*a]\n", "contains itself"),
        ("- 1\n", "must hold keys and values at the top level"),
    ],
)
def test_what_yaml_would_make_of_a_slip_is_refused(tmp_path, text, reason):
    shutil.copytree(ROOT / "workflow/scales", tmp_path / "workflow/scales")
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as error:
        load_study(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
    assert reason in str(error.value)


def test_a_file_that_is_not_utf8_is_named(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_bytes("seed: 1 # é".encode("latin-1"))
    with pytest.raises(UserError, match="is not text in UTF-8"):
        load_study(path)


def test_an_artefact_may_show_some_dimensions_only(study):
    assert study.artefact_settings("fig-backbone")["dimensions"] == [2, 8]
    assert len(study.artefact_settings("fig-effectiveness")["dimensions"]) == 4


def test_shifts_reach_the_tasks_and_the_artefacts(study):
    shifts = study.task_settings("mean-shift-d8")["shifts"]
    assert [shift["kind"] for shift in shifts] == ["mean"]
    assert study.artefact_settings("fig-mean-shift")["shifts"] == shifts
    assert "shifts" not in study.task_settings("effectiveness-d8")
