"""A study with every stage and few jobs, run by the real commands in a folder of its own."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import yaml
from workflow_project import ROOT, Project, copy_project

ARTEFACTS = ("fig-effectiveness", "tab-effectiveness", "fig-training", "fig-probes", "fig-probe-picture")
ARTEFACTS += ("fig-theorem-em",)
FAMILIES = ["isotropic-d2-n128-components", "isotropic-d2-n128-reference"]
SCALE = "smoke"


def small_study(folder: Path) -> Project:
    """The project with every stage of the study and few jobs in each, under git and DVC."""
    project = copy_project(folder)
    (folder / "bin/tgmm").unlink()  # the real command takes the place of the stand-in
    config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    config["scale"] = SCALE
    config["trained"] = FAMILIES
    config["tasksets"] = {"effectiveness": config["tasksets"]["effectiveness"] | {"d": [2]}}
    config["artefacts"] = {name: config["artefacts"][name] for name in ARTEFACTS}
    for figure in ("fig-probes", "fig-training"):
        config["artefacts"][figure]["families"] = FAMILIES[:1]
    config["methods"].pop("bayes")  # takes minutes
    for name in ("fig-effectiveness", "tab-effectiveness"):
        methods = config["artefacts"][name]["methods"]
        config["artefacts"][name]["methods"] = [method for method in methods if method != "bayes"]
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    shutil.rmtree(folder / "paper/sections")
    (folder / "paper/sections").mkdir()
    figure = f'#image("/results/{SCALE}/figures/fig-effectiveness.png")\n'
    (folder / "paper/main.typ").write_text('#include "sections/results.typ"\n', encoding="utf-8")
    (folder / "paper/sections/results.typ").write_text(figure, encoding="utf-8")
    (folder / "paper/verdicts.typ").write_text("", encoding="utf-8")  # asks for tables of the whole study
    (folder / ".dvc").mkdir()
    shutil.copy2(ROOT / ".dvc/config", folder / ".dvc/config")
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    return project


def fingerprints(project: Project) -> dict[str, str]:
    """A hash of everything that is the same in every run: what measures time is left out.

    So is what a killed command was writing, under a temporary name that no other program reads.
    """
    results = project.folder / "results" / SCALE
    found = {}
    for path in sorted(results.rglob("*")):
        name = str(path.relative_to(results))
        if path.name.startswith("."):
            continue
        if path.suffix == ".safetensors":
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        elif path.suffix == ".parquet":
            table = pd.read_parquet(path).drop(columns="seconds", errors="ignore")
            table = table[table["metric"] != "seconds"] if "metric" in table else table
            found[name] = hashlib.sha256(table.to_csv(index=False).encode()).hexdigest()
        elif path.is_file():
            found[name] = "there"
    return found


def start(project: Project, command: tuple[str, ...]) -> subprocess.Popen:
    """Start a command in a process group of its own; its output is appended to `output.log`."""
    with (project.folder / "output.log").open("a") as log:
        return subprocess.Popen(
            command, cwd=project.folder, env=project.environment, stdout=log, stderr=log, start_new_session=True
        )
