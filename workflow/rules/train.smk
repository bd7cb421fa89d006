# One network a family. A stopped training resumes from work/<family>/ when the same command runs again.
MODELS = [f"{STUDY.results}/models/{family}/{name}" for family in STUDY.families for name in MODEL_FILES]
ON_CPU = trains_on_cpu(STUDY.config.device)
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
    threads: 1 if ON_CPU else training_threads()
    resources:
        gpu=0 if ON_CPU else training_gpus(),
        mem_mb=4000,
        runtime=720,
        device=STUDY.config.device,
    params:
        settings=lambda wildcards: as_json(STUDY.train_settings(wildcards.family)),
        folder=lambda wildcards: f"results/{wildcards.scale}/models/{wildcards.family}",
        version=lambda wildcards: training_version(wildcards.family),
    message:
        "Training {wildcards.family}"
    shell:
        "tgmm train {wildcards.family:q} --settings {params.settings:q} --out {params.folder:q} --work work"
        " --device {resources.device:q} 2>&1 | tee -i {log:q}"
