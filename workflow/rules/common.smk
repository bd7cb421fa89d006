# Shared helpers: the validated study, the guard of the working directory, settings as text.
import json
import re
import sys
from pathlib import Path

from tgmm import code_version
from tgmm.cli.probe import probe_settings
from tgmm.devices import settle_threads, training_gpus, training_threads
from tgmm.errors import UserError
from tgmm.study import read_yaml, study_from_config
from tgmm.workflow_guard import guard_workdir

settle_threads()
if workflow.is_main_process:
    guard_workdir()


def refuse(error):
    """End before any job starts, with one line for the user."""
    print(f"config.yaml: {error}", file=sys.stderr)
    sys.exit(2)


def check_syntax(path):
    """Refuse a file that is no YAML, with line and column."""
    try:
        read_yaml(path)
    except UserError as error:
        refuse(str(error).removeprefix(f"{path}: "))


def open_study(config):
    """The validated study of the configuration and its overrides."""
    try:
        return study_from_config(config, workflow.basedir)
    except UserError as error:
        refuse(error)


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
