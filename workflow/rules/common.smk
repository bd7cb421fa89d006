# Shared helpers: the validated study, the guard of the working directory, settings as text.
import json
import re
import sys
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path

from tgmm import code_version
from tgmm.cli.probe import probe_settings
from tgmm.devices import count_cores, settle_threads, training_gpus, training_threads, trains_on_cpu
from tgmm.errors import UserError
from tgmm.study import MODEL_FILES, TrainingPlan, plan_training, read_yaml, study_from_config
from tgmm.workflow_guard import guard_workdir, tell_jobs, told_by_workflow

settle_threads()
if workflow.is_main_process:
    guard_workdir()


def refuse(line):
    """End before any job starts, with one line for the user."""
    print(line, file=sys.stderr)
    sys.exit(2)


def check_syntax(path):
    """Refuse a file that is no YAML, with line and column."""
    try:
        read_yaml(path)
    except UserError as error:
        refuse(f"{path}: {str(error).removeprefix(f'{path}: ')}")


def open_study(config):
    """The validated study of the configuration and its overrides."""
    try:
        return study_from_config(config, workflow.basedir)
    except UserError as error:
        refuse(f"config.yaml: {error}")


def open_plan(study):
    """What of the study may be trained here, and the study without what stays a gap.

    The main process decides. A process that runs one job of it is told what was left out, for a model that is written
    while the workflow runs must not change what the others stand for.
    """
    if not workflow.is_main_process:
        return told_plan(study)
    if not trains_on_cpu(study.config["device"]) or executor() != "local":
        return TrainingPlan(study, tuple(study.families), True)
    try:
        plan = plan_training(study, Path(), count_cores())
    except UserError as error:
        refuse(error)
    if plan.notice:
        print(plan.notice, file=sys.stderr)
    recipes = ["recipe-study"] if len(plan.study.recipe_studies) < len(study.recipe_studies) else []
    tell_jobs([*plan.study.absent, *recipes])
    return plan


def told_plan(study):
    """The plan of the main process, in one of its jobs."""
    told = told_by_workflow()
    if told:
        study = study.without(told, recipe_study="recipe-study" not in told)
    return TrainingPlan(study, tuple(study.families), True)


def executor():
    """Where jobs run: "local" is this machine. Profiles count, and a dry run is taken for what it plans."""
    from snakemake.cli import parse_args

    try:
        with redirect_stderr(StringIO()):  # it says once more which profile it reads
            return parse_args(sys.argv[1:])[1].executor or "local"
    except SystemExit:  # started by something other than the command line
        return "local"


def as_json(settings):
    """Settings as the text that a command takes: a job runs again when, and only when, this text changes."""
    return json.dumps(settings, sort_keys=True)


def any_of(names):
    """A wildcard constraint that matches the names, and nothing if there are none."""
    return "|".join(map(re.escape, names)) or "(?!)"


def method_code(method):
    """Version of the code behind a method's scores."""
    return code_version.score_version(STUDY.config["methods"][method]["kind"])


def model_folder(wildcards):
    """Folder of the network that a method runs on a task set."""
    return f"{STUDY.results}/models/{STUDY.family_of(wildcards.method, wildcards.taskset)}"


def histories(artefact):
    """The families that an artefact shows -> the record of their training, or of what was found inside them."""
    entry = STUDY.config["artefacts"][artefact]
    if entry["kind"] == "probe-picture":
        return {}
    path = "probes/{}.csv" if entry["kind"] == "probes" else "models/{}/history.csv"
    return {family: f"{STUDY.results}/{path.format(family)}" for family in entry.get("families", [])}
