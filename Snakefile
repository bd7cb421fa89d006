# The study from end to end: task sets -> training -> scores -> summary -> figures and tables -> the paper.
# What is studied stands in config.yaml, how a step runs in workflow/rules/, the science in src/tgmm/.
from snakemake.utils import min_version

min_version("9.20")


include: "workflow/rules/common.smk"


configfile: "config.yaml"


STUDY = open_study(config)


onsuccess:
    keep_records(STUDY.provenance, of_scale)


onerror:
    keep_records(STUDY.provenance, of_scale)


report: "workflow/report/workflow.rst"


wildcard_constraints:
    scale=STUDY.scale,


include: "workflow/rules/data.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/theory.smk"
include: "workflow/rules/probes.smk"
include: "workflow/rules/ablation.smk"
include: "workflow/rules/assignment.smk"
include: "workflow/rules/artefacts.smk"
include: "workflow/rules/paper.smk"
include: "workflow/rules/reviewers.smk"
include: "workflow/rules/page.smk"


rule all:
    default_target: True
    input:
        TASKS,
        MODELS,
        SCORES,
        MEASUREMENTS,
        PROBES,
        FIGURES,
        TABLES,
        PAPER,
        PLANE if PLANE_TASKSETS else [],
        PAGE,
    message:
        "Everything of scale {STUDY.scale} is there: {PAGE} and {PAPER}"
