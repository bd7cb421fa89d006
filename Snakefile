# The study from end to end: task sets -> training -> scores -> summary -> figures and tables -> the paper.
# What is studied stands in config.yaml, how a step runs in workflow/rules/, the science in src/tgmm/.
from snakemake.utils import min_version

min_version("9.20")


include: "workflow/rules/common.smk"


check_syntax("config.yaml")


configfile: "config.yaml"


PLAN = open_plan(open_study(config))
STUDY = PLAN.study


report: "workflow/report/workflow.rst"


wildcard_constraints:
    scale=STUDY.scale,


include: "workflow/rules/data.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/baselines.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/theory.smk"
include: "workflow/rules/probes.smk"
include: "workflow/rules/recipes.smk"
include: "workflow/rules/figures.smk"
include: "workflow/rules/tables.smk"
include: "workflow/rules/paper.smk"


rule all:
    default_target: True
    input:
        TASKS,
        MODELS,
        SCORES,
        MEASUREMENTS,
        PROBES,
        RECIPE_STUDY,
        FIGURES,
        TABLES,
        PAPER,
    message:
        "Everything of scale {STUDY.scale} is there: results/{STUDY.scale} and {PAPER}"
