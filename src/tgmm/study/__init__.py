"""The study: `config.yaml` read, validated and resolved into what each command needs. Knows nothing of Snakemake."""

from tgmm.study.loading import load_study, read_config, read_yaml, study_from_config
from tgmm.study.resolution import Study
from tgmm.study.training_plan import MODEL_FILES, TrainingPlan, plan_training

__all__ = [
    "MODEL_FILES",
    "Study",
    "TrainingPlan",
    "load_study",
    "plan_training",
    "read_config",
    "read_yaml",
    "study_from_config",
]
