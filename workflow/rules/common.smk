# Shared helpers: the validated study, the guard of the working directory, settings as text.
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import yaml

from tgmm import costs
from tgmm.artefacts import FIGURE, TABLE
from tgmm.config import read_yaml
from tgmm.devices import count_cores, settle_threads, training_gpus
from tgmm.errors import UserError
from tgmm.files import guard_workdir
from tgmm.provenance import keep_records, restore_records
from tgmm.study import MODEL_FILES, REVIEWERS, study_from_config
from tgmm.train.settings import TrainingSettings
from tgmm.versions import version

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
        refuse(error)


def open_study(config):
    """The validated study of the configuration and its overrides."""
    try:
        return study_from_config(config, workflow.basedir)
    except UserError as error:
        refuse(f"config.yaml: {error}")


def of_scale(path):
    """Whether a file is one of this scale's."""
    return path.startswith(f"{STUDY.results}/")


def take_up_records():
    """Before the first job: how pulled files were made, which Snakemake does not know yet."""
    if workflow.is_main_process:
        try:
            restore_records(STUDY.provenance, of_scale)
        except UserError as error:
            refuse(error)


def in_slurm_job():
    """Whether this is one job of a run that sends its jobs to Slurm."""
    return not workflow.is_main_process and "SLURM_JOB_ID" in os.environ


def refuse_days_of_training():
    """Before the first job: no training that would take days on processors, here or on a cluster, unless asked for."""
    if TRAINING_GPUS or not workflow.is_main_process:
        return
    cores = workflow.resource_settings.nodes or count_cores()
    try:
        costs.refuse_days_of_training(STUDY, STUDY.missing_models(Path()), cores, ON_CLUSTER)
    except UserError as error:
        refuse(error)


def refuse_half_pulled():
    """Before the first job: no training in place of released networks that `dvc pull` failed to bring."""
    if not (workflow.is_main_process and STUDY.missing_models(Path())):
        return
    missing = missing_of_release(STUDY.results)
    if missing:
        more = f" and {len(missing) - 1} more" if missing[1:] else ""
        refuse(
            f"scale '{STUDY.scale}': `dvc pull` has not brought {missing[0]}{more}, and without all that is released "
            "the networks would be trained again: pull again, or `rm dvc.lock` to make everything here"
        )


def missing_of_release(results):
    """Released files of a scale that are neither here nor in DVC's cache, where others are; none where none was pulled."""
    locks = [Path("dvc.lock"), *Path("workflow").glob("*/dvc.lock")]
    stages = [
        stage for lock in locks if lock.is_file() for stage in yaml.safe_load(lock.read_text())["stages"].values()
    ]
    outs = [out for stage in stages for out in stage.get("outs", ()) if out["path"].startswith(f"{results}/")]
    released = {out["path"]: out.get("nfiles", 1) for out in outs}
    if f"{results}/models" not in released or not any(Path(".dvc/cache/files").glob("*/*/*")):
        return []
    status = subprocess.run(["dvc", "data", "status", "--granular", "--json"], capture_output=True, text=True)
    absent = json.loads(status.stdout or "{}").get("not_in_cache", [])
    files = [path for path in absent if path.startswith(f"{results}/") and not path.endswith("/")]
    missing = sorted(path for path in files if not Path(path).exists())
    return missing if len(missing) < sum(released.values()) else []


def training_settings(family):
    """Typed settings of a family's training."""
    return TrainingSettings.from_dict(STUDY.train_settings(family))


def training_group(wildcards):
    """Short trainings share a submission to a cluster and its GPU; others have one each."""
    hours = costs.training_hours(training_settings(wildcards.family), gpu=True)
    return "short_trainings" if TRAINING_GPUS and hours < costs.SHORT_TRAINING else None


def as_json(settings):
    """Settings as the text that a command takes: a job runs again when, and only when, this text changes."""
    return json.dumps(settings, sort_keys=True)


def any_of(names):
    """A wildcard constraint that matches the names, and nothing if there are none."""
    return "|".join(map(re.escape, names)) or "(?!)"


def training_version(family):
    """Version of the training of a family's kind of network."""
    return version(f"training:{STUDY.config.recipes[STUDY.families[family].recipe].network}")


def scores_version(methods):
    """Versions of the scores of the methods' kinds."""
    return [version(f"scores:{STUDY.config.methods[method].kind}") for method in methods]


def files_of(artefacts):
    """The files of figures and tables: a figure is a PDF and a picture, a table is there for machines and readers."""
    endings = {FIGURE: ("figures", ("pdf", "png")), TABLE: ("tables", ("csv", "md", "tex"))}
    kinds = {name: endings[FIGURE if name.startswith(FIGURE) else TABLE] for name in artefacts}
    return [f"{STUDY.results}/{folder}/{name}.{end}" for name, (folder, ends) in kinds.items() for end in ends]


def question_of(wildcard):
    """The heading of the report that a figure or table stands under, by the wildcard that names it."""
    return lambda wildcards: STUDY.question(wildcards[wildcard])


def sources_as_words(artefact):
    """What an artefact is drawn from, as arguments: scores or the measurement in their place, and further tables."""
    sources = STUDY.sources(artefact)
    words = [*sources.scores, *(("--summary", sources.measurement) if sources.measurement else ())]
    return words + [word for name, path in sources.tables.items() for word in ("--table", f"{name}={path}")]


def score_files(taskset, methods):
    """Score files of some methods on a task set."""
    return [STUDY.score_file(taskset, method) for method in methods]


def score_jobs(taskset):
    """The methods of every job that scores a task set: those of the default run, then what the reviewers ask for."""
    more = [pair for pair in STUDY.reviewers_scores if pair not in STUDY.scores]
    asked = {f"{group}_for_reviewers": methods for group, methods in STUDY.score_groups(taskset, more).items()}
    return STUDY.score_groups(taskset) | asked


def score_json(taskset, methods):
    """The settings of some methods' scores as text."""
    return as_json({"methods": [STUDY.score_settings(method, taskset) for method in methods]})


def model_files(taskset, methods):
    """Weights and records of the networks that some methods run; a baseline has none."""
    families = dict.fromkeys(filter(None, (STUDY.family_of(method, taskset) for method in methods)))
    return [f"{STUDY.results}/models/{family}/{name}" for family in families for name in MODEL_FILES[:2]]


check_syntax("config.yaml")  # before Snakemake reads it
