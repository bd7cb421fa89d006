"""The study: `config.yaml` read, validated and resolved into what each command needs. Knows nothing of Snakemake."""

from tgmm.study.loading import load_study, read_config, read_yaml, study_from_config
from tgmm.study.resolution import Study

__all__ = ["Study", "load_study", "read_config", "read_yaml", "study_from_config"]
