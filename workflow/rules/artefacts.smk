# Figures and tables: each is drawn by one command from the files that its kind names.
TARGETS = ("all", "ablation", REVIEWERS)
FIGURES, TABLES = files_of(STUDY.names(FIGURE)), files_of(STUDY.names(TABLE))


rule artefacts:
    input:
        MEASUREMENTS,
        PROBES,
        FIGURES,
        TABLES,
    message:
        "Figures and tables of scale {STUDY.scale} are there"


rule figures:
    input:
        FIGURES,
    message:
        "Figures of scale {STUDY.scale} are there"


rule tables:
    input:
        TABLES,
    message:
        "Tables of scale {STUDY.scale} are there"


rule draw_figure:
    input:
        sources=lambda wildcards: STUDY.sources(wildcards.figure).files,
    output:
        pdf="results/{scale}/figures/{figure}.pdf",
        png=report(
            "results/{scale}/figures/{figure}.png",
            caption="../report/figure.rst",
            category=question_of("figure"),
            labels={"name": "{figure}", "scale": "{scale}"},
        ),
    log:
        "logs/{scale}/figures/{figure}.log",
    benchmark:
        "benchmark_logs/{scale}/figures/{figure}.tsv"
    wildcard_constraints:
        figure=any_of([name for target in TARGETS for name in STUDY.names(FIGURE, target)]),
    localrule: True
    threads: 1
    resources:
        mem_mb=2000,
        runtime=15,
    params:
        settings=lambda wildcards: as_json(STUDY.artefact_settings(wildcards.figure)),
        sources=lambda wildcards: sources_as_words(wildcards.figure),
        stem=lambda wildcards: f"results/{wildcards.scale}/figures/{wildcards.figure}",
        version=version("figures"),
    message:
        "Drawing {wildcards.figure}"
    shell:
        "tgmm figure {wildcards.figure:q} {params.sources:q} --settings {params.settings:q} --out {params.stem:q}"
        " 2>&1 | tee -i {log:q}"


rule write_table:
    input:
        sources=lambda wildcards: STUDY.sources(wildcards.table).files,
    output:
        csv=report(
            "results/{scale}/tables/{table}.csv",
            caption="../report/table.rst",
            category=question_of("table"),
            labels={"name": "{table}", "scale": "{scale}"},
        ),
        md="results/{scale}/tables/{table}.md",
        tex="results/{scale}/tables/{table}.tex",
    log:
        "logs/{scale}/tables/{table}.log",
    benchmark:
        "benchmark_logs/{scale}/tables/{table}.tsv"
    wildcard_constraints:
        table=any_of([name for target in TARGETS for name in STUDY.names(TABLE, target)]),
    localrule: True
    threads: 1
    resources:
        mem_mb=2000,
        runtime=15,
    params:
        settings=lambda wildcards: as_json(STUDY.artefact_settings(wildcards.table)),
        sources=lambda wildcards: sources_as_words(wildcards.table),
        stem=lambda wildcards: f"results/{wildcards.scale}/tables/{wildcards.table}",
        version=version("tables"),
    message:
        "Writing {wildcards.table}"
    shell:
        "tgmm table {wildcards.table:q} {params.sources:q} --settings {params.settings:q} --out {params.stem:q}"
        " 2>&1 | tee -i {log:q}"
