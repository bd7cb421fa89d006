# Answers to the paper's reviewers, a target of its own; its scores are summarised task set by task set.
REVIEWERS_ARTEFACTS = [*files_of(STUDY.names(FIGURE, REVIEWERS)), *files_of(STUDY.names(TABLE, REVIEWERS))]
ASKED_TASKSETS = sorted({STUDY.tasksets[file][0] for file, _ in STUDY.reviewers_scores})


rule reviewers:
    input:
        REVIEWERS_ARTEFACTS,
    message:
        "The answers to the reviewers at scale {STUDY.scale} are there"


rule summarise_for_reviewers:
    input:
        scores=lambda wildcards: [
            f"{STUDY.results}/scores/{file}/{method}.parquet"
            for file, method in STUDY.scores_of_summary(wildcards.taskset)
        ],
    output:
        summary="results/{scale}/reviewers/{taskset}.parquet",
        headline="results/{scale}/reviewers/{taskset}.json",
    log:
        "logs/{scale}/reviewers/{taskset}.log",
    benchmark:
        "benchmark_logs/{scale}/reviewers/{taskset}.tsv"
    wildcard_constraints:
        taskset=any_of(ASKED_TASKSETS),
    localrule: True
    threads: 1
    resources:
        mem_mb=3000,
        runtime=30,
    params:
        settings=as_json(STUDY.summary_of_settings()),
        version=version("summary"),
    message:
        "Summarising the scores on {wildcards.taskset}"
    shell:
        "tgmm aggregate {input.scores:q} --settings {params.settings:q}"
        " --out {output.summary:q} --headline {output.headline:q} 2>&1 | tee -i {log:q}"
