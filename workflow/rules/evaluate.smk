# Scores of the trained networks, and the summary of all scores.
SCORE_FILES = [f"{STUDY.results}/scores/{taskset}/{method}.parquet" for taskset, method in STUDY.scores]
SUMMARY = f"{STUDY.results}/summary.parquet"
HEADLINE = f"{STUDY.results}/summary.json"
SCORES = [*SCORE_FILES, SUMMARY, HEADLINE]
NETWORKS = [name for name, method in STUDY.config["methods"].items() if method["kind"] == "tgmm"]


rule score:
    input:
        SCORES,
    message:
        "Scores of scale {STUDY.scale} are there"


rule score_network:
    input:
        tasks=rules.sample_tasks.output.tasks,
        model=lambda wildcards: f"{model_folder(wildcards)}/model.safetensors",
        record=lambda wildcards: f"{model_folder(wildcards)}/config.json",
    output:
        scores="results/{scale}/scores/{taskset}/{method}.parquet",
    log:
        "logs/{scale}/scores/{taskset}/{method}.log",
    benchmark:
        "benchmark_logs/{scale}/scores/{taskset}/{method}.tsv"
    wildcard_constraints:
        taskset=any_of(STUDY.tasksets),
        method=any_of(NETWORKS),
    threads: 1
    resources:
        mem_mb=3000,
        runtime=60,
        device=STUDY.config["device"],
    params:
        settings=lambda wildcards: as_json(STUDY.score_settings(wildcards.method, wildcards.taskset)),
        folder=model_folder,
        code=lambda wildcards: method_code(wildcards.method),
    message:
        "Scoring {wildcards.method} on {wildcards.taskset}"
    shell:
        "tgmm score {wildcards.method} --settings {params.settings:q} --tasks {input.tasks} --model {params.folder}"
        " --out {output.scores} --device {resources.device} 2>&1 | tee -i {log}"


rule summarise_scores:
    input:
        scores=SCORE_FILES,
    output:
        summary="results/{scale}/summary.parquet",
        headline="results/{scale}/summary.json",
    log:
        "logs/{scale}/summary.log",
    benchmark:
        "benchmark_logs/{scale}/summary.tsv"
    threads: 1
    resources:
        mem_mb=3000,
        runtime=30,
    params:
        settings=as_json(STUDY.summary_settings()),
        code=code_version.code_version("tgmm.aggregate"),
    message:
        "Summarising the scores"
    shell:
        "tgmm aggregate {input.scores} --settings {params.settings:q}"
        " --out {output.summary} --headline {output.headline} 2>&1 | tee -i {log}"
