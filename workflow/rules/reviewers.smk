# Answers to the paper's reviewers, a target of its own.
REVIEWERS_ARTEFACTS = [*files_of(STUDY.names(FIGURE, REVIEWERS)), *files_of(STUDY.names(TABLE, REVIEWERS))]


rule reviewers:
    input:
        REVIEWERS_ARTEFACTS,
    message:
        "The answers to the reviewers at scale {STUDY.scale} are there"


rule fit_real_data:
    input:
        "examples/data/faithful.csv",
    output:
        table="results/{scale}/tables/real-data.csv",
        picture="results/{scale}/figures/real-data.csv",
    log:
        "logs/{scale}/real-data.log",
    benchmark:
        "benchmark_logs/{scale}/real-data.tsv"
    threads: 1
    resources:
        mem_mb=3000,
        runtime=60,
    params:
        repeats=STUDY.config.real_data.repeats,
        seed=STUDY.config.seed,
        version=version("real-data"),
    message:
        "Fitting well-known data sets"
    shell:
        "tgmm real-data {input:q} --repeats {params.repeats} --seed {params.seed} --out {output.table:q}"
        " --picture {output.picture:q} 2>&1 | tee -i {log:q}"
