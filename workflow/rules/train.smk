# One network a family. A stopped training resumes from work/<family>/ when the same command runs again.
MODELS = [f"{STUDY.results}/models/{family}/{name}" for family in STUDY.default_families for name in MODEL_FILES]
# One key, `device`, decides for this machine and for a cluster, which has "nodes" (jobs at a time).
ON_CLUSTER = workflow.resource_settings.nodes is not None or in_slurm_job()
TRAINING_GPUS = training_gpus(STUDY.config.device, ON_CLUSTER)
TRAINING_DEVICE = STUDY.config.device if TRAINING_GPUS else "cpu"
# A job that has asked a cluster for no GPU leaves those of its node to others.
SCORING_DEVICE = "cpu" if ON_CLUSTER else STUDY.config.device
take_up_records()
refuse_half_pulled()
refuse_days_of_training()


rule train:
    input:
        MODELS,
    message:
        "Networks of scale {STUDY.scale} are there"


rule train_family:
    output:
        model="results/{scale}/models/{family}/model.safetensors",
        record="results/{scale}/models/{family}/config.json",
        history="results/{scale}/models/{family}/history.csv",
    log:
        "logs/{scale}/models/{family}.log",
    benchmark:
        "benchmark_logs/{scale}/models/{family}.tsv"
    wildcard_constraints:
        family=any_of(STUDY.families),
    # Before the scores: what takes longest starts first, so that no core idles at the end.
    priority: 10
    group:
        training_group
    threads: 1
    resources:
        gpu=TRAINING_GPUS,
        mem_mb=lambda wildcards: costs.training_memory(training_settings(wildcards.family), TRAINING_GPUS),
        runtime=lambda wildcards: costs.job_minutes(
            costs.training_hours(training_settings(wildcards.family), TRAINING_GPUS)
        ),
        device=TRAINING_DEVICE,
    params:
        settings=lambda wildcards: as_json(STUDY.train_settings(wildcards.family)),
        folder=lambda wildcards: f"results/{wildcards.scale}/models/{wildcards.family}",
        version=lambda wildcards: training_version(wildcards.family),
    message:
        "Training {wildcards.family}"
    shell:
        "tgmm train {wildcards.family:q} --settings {params.settings:q} --out {params.folder:q} --work work"
        " --device {resources.device:q} 2>&1 | tee -i {log:q}"
