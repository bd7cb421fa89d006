# What goes on inside the trained networks, beside what EM does.
PICTURED = [family for family, picture in STUDY.probed.items() if picture]
PROBES = [STUDY.probe_table(family) for family in STUDY.probed]
PROBES += [STUDY.probe_table(family, picture=True) for family in PICTURED]


rule probes:
    input:
        PROBES,
    message:
        "Probes of the networks of scale {STUDY.scale} are there"


rule probe_family:
    input:
        model=rules.train_family.output.model,
        record=rules.train_family.output.record,
    output:
        table="results/{scale}/probes/{family}.csv",
    log:
        "logs/{scale}/probes/{family}.log",
    benchmark:
        "benchmark_logs/{scale}/probes/{family}.tsv"
    wildcard_constraints:
        family=any_of([family for family in STUDY.probed if family not in PICTURED]),
    group:
        "probes"
    threads: 1
    resources:
        mem_mb=3000,
        runtime=lambda wildcards: costs.job_minutes(costs.probe_hours(STUDY, wildcards.family)),
    params:
        settings=lambda wildcards: as_json(STUDY.probe_settings(wildcards.family)),
        folder=lambda wildcards: f"results/{wildcards.scale}/models/{wildcards.family}",
        version=version("probes"),
        picture=[],
    message:
        "Probing {wildcards.family}"
    shell:
        "tgmm probe {wildcards.family:q} --settings {params.settings:q} --model {params.folder:q}"
        " --out {output.table:q} {params.picture:q} 2>&1 | tee -i {log:q}"


use rule probe_family as probe_family_with_picture with:
    output:
        table="results/{scale}/probes/{family}.csv",
        picture="results/{scale}/probes/{family}-picture.csv",
    wildcard_constraints:
        family=any_of(PICTURED),
    params:
        settings=lambda wildcards: as_json(STUDY.probe_settings(wildcards.family)),
        folder=lambda wildcards: f"results/{wildcards.scale}/models/{wildcards.family}",
        version=version("probes"),
        picture=lambda wildcards, output: ["--picture", output.picture],
