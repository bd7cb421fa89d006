# The manuscript: its figures, tables and numbers are those of the results at the time of building.
PAPER = STUDY.paper
MANUSCRIPT = sorted(
    str(path)
    for path in Path("paper").rglob("*")
    if path.suffix in (".typ", ".bib", ".csl", ".yaml", ".svg") and path.name != "supplement.typ"
)
GAPS = [word for name in STUDY.untrained for word in ("--absent", name)]


rule manuscript:
    input:
        PAPER,
    message:
        "The manuscript of scale {STUDY.scale} is there"


rule paper:
    input:
        manuscript=MANUSCRIPT,
        figures=FIGURES,
        tables=TABLES,
        headline=HEADLINE,
        theory=MEASUREMENTS,
        probes=PROBES,
        records=[path for path in MODELS if path.endswith("config.json")],
    output:
        pdf=report(PAPER, caption="../report/paper.rst", category="Paper"),
    log:
        f"logs/{STUDY.scale}/paper.log",
    benchmark:
        f"benchmark_logs/{STUDY.scale}/paper.tsv"
    localrule: True
    threads: 1
    resources:
        mem_mb=2000,
        runtime=15,
    params:
        scale=STUDY.scale,
        gaps=GAPS + [word for name in STUDY.left_out for word in ("--left-out", name)],
        version=version("paper"),
    message:
        "Typesetting {output.pdf}"
    shell:
        "tgmm paper --scale {params.scale:q} {params.gaps:q} --out {output.pdf:q} 2>&1 | tee -i {log:q}"
