# Answers to the paper's reviewers, a target of its own.
REVIEWERS_ARTEFACTS = [*files_of(STUDY.names(FIGURE, REVIEWERS)), *files_of(STUDY.names(TABLE, REVIEWERS))]


SUPPLEMENT = f"{STUDY.results}/tables/supplement.pdf"


rule reviewers:
    input:
        REVIEWERS_ARTEFACTS,
        SUPPLEMENT,
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


rule answer_reviewers:
    input:
        tables=[path for path in REVIEWERS_ARTEFACTS if path.endswith(".csv")],
        scores=[STUDY.score_file(taskset, method) for taskset, method in STUDY.reviewers_scores],
    output:
        answers="results/{scale}/tables/answers.json",
    log:
        "logs/{scale}/answers.log",
    benchmark:
        "benchmark_logs/{scale}/answers.tsv"
    localrule: True
    threads: 1
    resources:
        mem_mb=2000,
        runtime=15,
    params:
        version=version("answers"),
    message:
        "Answering the reviewers"
    shell:
        "tgmm answers --scale {wildcards.scale:q} --out {output.answers:q} 2>&1 | tee -i {log:q}"


rule supplement:
    input:
        "paper/supplement.typ",
        "paper/artefacts.typ",
        "paper/data.typ",
        "paper/style.typ",
        "paper/references.bib",
        REVIEWERS_ARTEFACTS,
        answers=f"{STUDY.results}/tables/answers.json",
    output:
        pdf=report(SUPPLEMENT, caption="../report/paper.rst", category="Paper"),
    log:
        f"logs/{STUDY.scale}/supplement.log",
    benchmark:
        f"benchmark_logs/{STUDY.scale}/supplement.tsv"
    localrule: True
    threads: 1
    resources:
        mem_mb=2000,
        runtime=15,
    params:
        scale=STUDY.scale,
        gaps=GAPS + [word for name in STUDY.reviewers_left_out for word in ("--left-out", name)],
        version=version("paper"),
    message:
        "Typesetting {output.pdf}"
    shell:
        "tgmm paper --supplement --scale {params.scale:q} {params.gaps:q} --out {output.pdf:q} 2>&1 | tee -i {log:q}"
