"""The repository's own files: lock, profiles, DVC stages, rules."""

from __future__ import annotations

import re

import pytest
import yaml
from workflow_project import ROOT

LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")
PROFILES = sorted(path.parent.name for path in ROOT.glob("profiles/*/config.yaml"))


def pinned(name: str) -> str:
    found = re.search(rf"^{re.escape(name)}==([^\s;]+)", LOCK, re.MULTILINE)
    assert found, f"{name} is not in requirements.lock"
    return found.group(1)


def test_the_lock_pins_every_direct_requirement():
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [name for names in project["optional-dependencies"].values() for name in names]
    for requirement in [*project["dependencies"], *extras]:
        assert pinned(re.split(r"[><=\[]", requirement)[0])


def test_the_lock_names_no_address_and_no_local_build():
    assert "://" not in LOCK
    assert "+" not in pinned("torch")
    assert not re.search(r"^(nvidia|triton)", LOCK, re.MULTILINE)


def test_no_two_test_files_share_a_name():
    """pytest imports them by name: the second one would end the whole run before its first test."""
    names = [path.name for path in (ROOT / "tests").rglob("*.py") if path.name != "conftest.py"]
    assert sorted(names) == sorted(set(names))


def stages_of(pipeline: str) -> dict[str, dict]:
    return yaml.safe_load((ROOT / pipeline).read_text(encoding="utf-8"))["stages"]


def test_every_stage_of_dvc_asks_snakemake_for_a_target():
    stages = stages_of("dvc.yaml")
    assert list(stages) == ["tasks", "train", "score", "artefacts", "paper"]
    rules = "".join(path.read_text(encoding="utf-8") for path in [ROOT / "Snakefile", *ROOT.glob("workflow/rules/*")])
    for stage in stages.values():
        command, target = stage["cmd"].rsplit(" -- ", 1)
        assert command == "snakemake --cores all --resources gpu=1"
        assert f"rule {target}:" in rules
        outputs = [*stage["outs"], *stage.get("metrics", [])]
        assert all(options["persist"] for output in outputs for options in output.values())


def declared(key: str, stages) -> set[str]:
    """Files that stages name under a key, as those of scale overnight."""
    entries = [entry for stage in stages for entry in stage.get(key, [])]
    names = [entry if isinstance(entry, str) else next(iter(entry)) for entry in entries]
    return {name.replace("${scale}", "overnight") for name in names}


def parameters(stages) -> set[tuple[str, str]]:
    groups = [group.items() for stage in stages for group in stage["params"]]
    return {(file.replace("${scale}", "overnight"), key) for items in groups for file, keys in items for key in keys}


def test_the_pipeline_of_scale_overnight_is_the_other_one_without_the_page():
    stages = stages_of("dvc.yaml").values()
    own = stages_of("workflow/overnight/dvc.yaml").values()
    targets = "tasks train score artefacts manuscript"
    assert [stage["cmd"] for stage in own] == [
        f"snakemake --cores all --resources gpu=1 --config scale=overnight -- {targets}"
    ]
    made = declared("outs", stages)
    assert declared("outs", own) == made - {"results/overnight/index.html", "results/overnight/plane.json"}
    assert declared("metrics", own) == declared("metrics", stages)
    assert declared("deps", own) == declared("deps", stages) - made - declared("metrics", stages)
    assert parameters(own) == parameters(stages) - {("config.yaml", "scale"), ("config.yaml", "questions")}


def test_every_parameter_of_dvc_is_a_key_of_the_study():
    stages = stages_of("dvc.yaml")
    for stage in stages.values():
        for group in stage["params"]:
            for file, keys in group.items():
                content = yaml.safe_load((ROOT / file.replace("${scale}", "laptop")).read_text(encoding="utf-8"))
                assert set(keys) <= set(content), file


def test_the_default_profile_leaves_cores_and_resources_to_the_machine():
    profile = yaml.safe_load((ROOT / "profiles/default/config.yaml").read_text(encoding="utf-8"))
    assert profile["rerun-incomplete"] is True
    assert profile["max-checksum-file-size"] >= 10**10
    assert not {"cores", "jobs", "resources"} & set(profile)


@pytest.mark.slow
@pytest.mark.parametrize("profile", PROFILES)
def test_every_profile_plans_the_study(project, profile):
    if profile == "slurm":
        pytest.importorskip("snakemake_executor_plugin_slurm")
    result = project.command("snakemake", "-n", "--workflow-profile", f"profiles/{profile}", "--quiet", "rules")
    assert result.returncode == 0, result.stderr
    assert "train_family" in result.stdout + result.stderr


@pytest.mark.slow
def test_the_linter_finds_nothing_but_the_absence_of_conda(project):
    result = project.command("snakemake", "--lint")
    findings = re.findall(r"^    \* (.*)$", result.stdout + result.stderr, re.MULTILINE)
    assert [finding for finding in findings if not finding.startswith("Specify a conda environment")] == []


RULE = re.compile(r"^rule (\w+):\n(.*?)(?=^\S|\Z)", re.MULTILINE | re.DOTALL)


def test_every_working_rule_says_what_it_does_and_leaves_a_trace():
    for path in ROOT.glob("workflow/rules/*.smk"):
        for name, body in RULE.findall(path.read_text(encoding="utf-8")):
            directives = set(re.findall(r"^    (\w+):", body, re.MULTILINE))
            assert "message" in directives, name
            if "shell" in directives:
                assert {"output", "log", "benchmark", "threads", "resources", "params"} <= directives, name


def test_the_snakefile_is_a_table_of_contents():
    text = (ROOT / "Snakefile").read_text(encoding="utf-8")
    assert len(text.splitlines()) < 60
    assert "shell:" not in text
