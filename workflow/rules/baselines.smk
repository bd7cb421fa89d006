# Scores of the methods that need no training.
BASELINES = [name for name, method in STUDY.config["methods"].items() if method["kind"] != "tgmm"]


rule score_baseline:
    input:
        tasks=rules.sample_tasks.output.tasks,
    output:
        scores="results/{scale}/scores/{taskset}/{method}.parquet",
    log:
        "logs/{scale}/scores/{taskset}/{method}.log",
    benchmark:
        "benchmark_logs/{scale}/scores/{taskset}/{method}.tsv"
    wildcard_constraints:
        taskset=any_of(STUDY.tasksets),
        method=any_of(BASELINES),
    threads: 1
    resources:
        mem_mb=3000,
        runtime=60,
        device=STUDY.config["device"],
    params:
        settings=lambda wildcards: as_json(STUDY.score_settings(wildcards.method, wildcards.taskset)),
        code=lambda wildcards: method_code(wildcards.method),
    message:
        "Scoring {wildcards.method} on {wildcards.taskset}"
    shell:
        "tgmm score {wildcards.method} --settings {params.settings:q} --tasks {input.tasks} --out {output.scores}"
        " --device {resources.device} 2>&1 | tee -i {log}"
