# Measurements of the executable theorems: constructed transformers beside the algorithms that they carry out.
MEASUREMENTS = [f"{STUDY.results}/theory/{name}.csv" for name in STUDY.measurements]

THEORY_MODULES = {"em": "em", "power": "power", "sizes": "report", "sorted-floor": "sorted_floor"}


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
        measurement=any_of(STUDY.measurements),
    threads: 1
    resources:
        mem_mb=3000,
        runtime=30,
    params:
        options=lambda wildcards: STUDY.measurement_options(wildcards.measurement),
        code=lambda wildcards: code_version.code_version(f"tgmm.theory.{THEORY_MODULES[wildcards.measurement]}"),
    message:
        "Measuring the theorems: {wildcards.measurement}"
    shell:
        "tgmm theory measure {wildcards.measurement} {params.options} --out {output.table} 2>&1 | tee -i {log}"
