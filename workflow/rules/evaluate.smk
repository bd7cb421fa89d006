# Scores, and their summary. The methods that need no training share one job a task set, and those that run the same
# network another: points are drawn once for all of them, and none waits for a network that it does not run.
SCORE_FILES = [STUDY.score_file(taskset, method) for taskset, method in STUDY.scores]
SUMMARY = STUDY.summary
HEADLINE = f"{STUDY.results}/summary.json"
SCORES = [*SCORE_FILES, SUMMARY, HEADLINE]


rule score:
    input:
        SCORES,
    message:
        "Scores of scale {STUDY.scale} are there"


for taskset in STUDY.tasksets:
    for group, methods in score_jobs(taskset).items():

        rule:
            name:
                f"score_{group}_on_{taskset}".replace("-", "_")
            input:
                tasks=f"{STUDY.results}/tasks/{taskset}.safetensors",
                models=model_files(taskset, methods),
            output:
                scores=score_files(taskset, methods),
            log:
                f"logs/{STUDY.scale}/scores/{taskset}-{group}.log",
            benchmark:
                f"benchmark_logs/{STUDY.scale}/scores/{taskset}-{group}.tsv"
            group:
                f"task_set_{taskset}".replace("-", "_")
            threads: 1
            resources:
                mem_mb=3000,
                runtime=costs.job_minutes(costs.scoring_hours(STUDY, taskset, methods)),
                device=SCORING_DEVICE,
            params:
                methods=methods,
                settings=score_json(taskset, methods),
                models=lambda wildcards: f"{STUDY.results}/models",
                folder=lambda wildcards, output: str(Path(output.scores[0]).parent),
                version=scores_version(methods),
            message:
                f"Scoring {', '.join(methods)} on {taskset}"
            shell:
                "tgmm score {params.methods:q} --settings {params.settings:q} --tasks {input.tasks:q}"
                " --models {params.models:q} --out {params.folder:q} --device {resources.device:q} 2>&1 | tee -i {log:q}"


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
    localrule: True
    threads: 1
    resources:
        mem_mb=3000,
        runtime=30,
    params:
        settings=as_json(STUDY.summary_settings()),
        version=version("summary"),
    message:
        "Summarising the scores"
    shell:
        "tgmm aggregate {input.scores:q} --settings {params.settings:q}"
        " --out {output.summary:q} --headline {output.headline:q} 2>&1 | tee -i {log:q}"
