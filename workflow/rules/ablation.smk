# The ablation, a target of its own: every change of a recipe trained beside the baseline, for each d and seed.
ABLATION_PARTS = [f"{STUDY.results}/ablation/d{d}-s{seed}-{change}.csv" for d, seed, change in STUDY.ablations]
ABLATION_ARTEFACTS = [*files_of(STUDY.names(FIGURE, "ablation")), *files_of(STUDY.names(TABLE, "ablation"))]


rule ablation:
    input:
        ABLATION_PARTS,
        ABLATION_ARTEFACTS,
    message:
        "The ablation of scale {STUDY.scale} is there"


rule run_ablation:
    output:
        table="results/{scale}/ablation/d{d}-s{seed}-{change}.csv",
    log:
        "logs/{scale}/ablation/d{d}-s{seed}-{change}.log",
    benchmark:
        "benchmark_logs/{scale}/ablation/d{d}-s{seed}-{change}.tsv"
    wildcard_constraints:
        d=r"\d+",
        seed=r"\d+",
        change=any_of(STUDY.config.ablation.changes),
    priority: 10
    threads: 1
    resources:
        gpu=TRAINING_GPUS,
        mem_mb=8000,
        runtime=lambda wildcards: costs.job_minutes(
            costs.ablation_hours(STUDY, int(wildcards.d), int(wildcards.seed), wildcards.change, TRAINING_GPUS)
        ),
        device=TRAINING_DEVICE,
    params:
        settings=lambda wildcards: as_json(
            STUDY.ablation_settings(int(wildcards.d), int(wildcards.seed), wildcards.change)
        ),
        version=[version("ablation"), version("training:components")],
    message:
        "Ablation: {wildcards.change}, d = {wildcards.d}, seed {wildcards.seed}"
    shell:
        "tgmm ablation run --settings {params.settings:q} -d {wildcards.d} --seed {wildcards.seed}"
        " --change {wildcards.change:q} --out {output.table:q} --work work --device {resources.device:q} 2>&1 | tee -i {log:q}"


rule merge_ablation:
    input:
        parts=ABLATION_PARTS,
    output:
        table="results/{scale}/ablation/all.csv",
    log:
        "logs/{scale}/ablation/all.log",
    benchmark:
        "benchmark_logs/{scale}/ablation/all.tsv"
    localrule: True
    threads: 1
    resources:
        mem_mb=2000,
        runtime=15,
    params:
        version=version("ablation"),
    message:
        "Joining the parts of the ablation"
    shell:
        "tgmm ablation merge {input.parts:q} --out {output.table:q} 2>&1 | tee -i {log:q}"
