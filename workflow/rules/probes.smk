# What goes on inside the trained networks, beside what EM does.
PICTURED = STUDY.probed("probe-picture")
PROBED = list(dict.fromkeys([*STUDY.probed("probes"), *PICTURED]))
PROBES = [
    *[f"{STUDY.results}/probes/{family}.csv" for family in PROBED],
    *[f"{STUDY.results}/probes/{family}-picture.csv" for family in PICTURED],
]


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
        family=any_of([family for family in PROBED if family not in PICTURED]),
    threads: 1
    resources:
        mem_mb=3000,
        runtime=30,
    params:
        settings=lambda wildcards: as_json(probe_settings(STUDY, wildcards.family)),
        folder=lambda wildcards: f"results/{wildcards.scale}/models/{wildcards.family}",
        code=code_version.code_version("tgmm.probes.measure", "tgmm.probes.picture"),
        picture="",
    message:
        "Probing {wildcards.family}"
    shell:
        "tgmm probe {wildcards.family} --settings {params.settings:q} --model {params.folder} --out {output.table}"
        " {params.picture} 2>&1 | tee -i {log}"


use rule probe_family as probe_family_with_picture with:
    output:
        table="results/{scale}/probes/{family}.csv",
        picture="results/{scale}/probes/{family}-picture.csv",
    wildcard_constraints:
        family=any_of(PICTURED),
    params:
        settings=lambda wildcards: as_json(probe_settings(STUDY, wildcards.family)),
        folder=lambda wildcards: f"results/{wildcards.scale}/models/{wildcards.family}",
        code=code_version.code_version("tgmm.probes.measure", "tgmm.probes.picture"),
        picture=lambda wildcards, output: f"--picture {output.picture}",
