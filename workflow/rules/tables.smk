# Tables, as CSV for machines, Markdown for readers and LaTeX for manuscripts.
TABLES = [f"{STUDY.results}/tables/{name}.{ending}" for name in STUDY.tables for ending in ("csv", "md", "tex")]


rule tables:
    input:
        TABLES,
    message:
        "Tables of scale {STUDY.scale} are there"


rule write_table:
    input:
        summary=lambda wildcards: STUDY.artefact_source(wildcards.table),
    output:
        csv=report(
            "results/{scale}/tables/{table}.csv",
            caption="../report/table.rst",
            category="Tables",
            labels={"table": "{table}", "scale": "{scale}"},
        ),
        md="results/{scale}/tables/{table}.md",
        tex="results/{scale}/tables/{table}.tex",
    log:
        "logs/{scale}/tables/{table}.log",
    benchmark:
        "benchmark_logs/{scale}/tables/{table}.tsv"
    wildcard_constraints:
        table=any_of(STUDY.tables),
    threads: 1
    resources:
        mem_mb=2000,
        runtime=15,
    params:
        settings=lambda wildcards: as_json(STUDY.artefact_settings(wildcards.table)),
        stem=lambda wildcards: f"results/{wildcards.scale}/tables/{wildcards.table}",
        code=code_version.code_version("tgmm.tables.registry"),
    message:
        "Writing {wildcards.table}"
    shell:
        "tgmm table {wildcards.table} --settings {params.settings:q} --summary {input.summary} --out {params.stem}"
        " 2>&1 | tee -i {log}"
