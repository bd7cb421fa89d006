# Measurements of the executable theorems: constructed transformers beside the algorithms that they carry out.
MEASUREMENTS = [f"{STUDY.results}/theory/{name}.csv" for name in STUDY.measurements]


rule theory:
    input:
        MEASUREMENTS,
    message:
        "Measurements of the theorems at scale {STUDY.scale} are there"


rule measure_theorem:
    output:
        table="results/{scale}/theory/{measurement}.csv",
    log:
        "logs/{scale}/theory/{measurement}.log",
    benchmark:
        "benchmark_logs/{scale}/theory/{measurement}.tsv"
    wildcard_constraints:
        measurement=any_of([*STUDY.measurements, *STUDY.reviewers_measurements]),
    group:
        "theorems"
    threads: 1
    resources:
        mem_mb=3000,
        runtime=30,
    params:
        options=lambda wildcards: STUDY.measurement_options(wildcards.measurement),
        version=lambda wildcards: version(f"theory:{wildcards.measurement}"),
    message:
        "Measuring the theorems: {wildcards.measurement}"
    shell:
        "tgmm theory measure {wildcards.measurement:q} {params.options} --out {output.table:q} 2>&1 | tee -i {log:q}"
