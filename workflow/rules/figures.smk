# Figures: each is drawn from the summary, or from the records of training, by one command.
FIGURES = [f"{STUDY.results}/figures/{name}.{ending}" for name in STUDY.figures for ending in ("pdf", "png")]


rule artefacts:
    input:
        lambda wildcards: [*MEASUREMENTS, *PROBES, *RECIPE_STUDY, *FIGURES, *TABLES],
    message:
        "Figures and tables of scale {STUDY.scale} are there"


rule figures:
    input:
        FIGURES,
    message:
        "Figures of scale {STUDY.scale} are there"


rule draw_figure:
    input:
        summary=lambda wildcards: STUDY.artefact_source(wildcards.figure),
        histories=lambda wildcards: histories(wildcards.figure).values(),
    output:
        pdf="results/{scale}/figures/{figure}.pdf",
        png=report(
            "results/{scale}/figures/{figure}.png",
            caption="../report/figure.rst",
            category="Figures",
            labels={"figure": "{figure}", "scale": "{scale}"},
        ),
    log:
        "logs/{scale}/figures/{figure}.log",
    benchmark:
        "benchmark_logs/{scale}/figures/{figure}.tsv"
    wildcard_constraints:
        figure=any_of(STUDY.figures),
    threads: 1
    resources:
        mem_mb=2000,
        runtime=15,
    params:
        settings=lambda wildcards: as_json(STUDY.artefact_settings(wildcards.figure)),
        histories=lambda wildcards: [
            f"--history {family}={path}" for family, path in histories(wildcards.figure).items()
        ],
        stem=lambda wildcards: f"results/{wildcards.scale}/figures/{wildcards.figure}",
        code=code_version.code_version("tgmm.figures.registry"),
    message:
        "Drawing {wildcards.figure}"
    shell:
        "tgmm figure {wildcards.figure} --settings {params.settings:q} --summary {input.summary} {params.histories}"
        " --out {params.stem} 2>&1 | tee -i {log}"
