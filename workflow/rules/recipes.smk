# The recipe study: every change of a recipe trained beside the baseline, a part for each dimension and seed.
RECIPE_TABLE = f"{STUDY.results}/recipes/all.csv"
RECIPE_PARTS = [f"{STUDY.results}/recipes/d{dimension}-s{seed}.csv" for dimension, seed in STUDY.recipe_studies]
RECIPE_STUDY = [RECIPE_TABLE, *(RECIPE_PARTS if PLAN.recipe_study else [])] if RECIPE_PARTS else []


rule recipes:
    input:
        RECIPE_STUDY,
    message:
        "The recipe study of scale {STUDY.scale} is there"


rule recipe_study:
    output:
        table="results/{scale}/recipes/d{dimension}-s{seed}.csv",
    log:
        "logs/{scale}/recipes/d{dimension}-s{seed}.log",
    benchmark:
        "benchmark_logs/{scale}/recipes/d{dimension}-s{seed}.tsv"
    wildcard_constraints:
        dimension=any_of([str(dimension) for dimension, _ in STUDY.recipe_studies if PLAN.recipe_study]),
        seed=any_of([str(seed) for _, seed in STUDY.recipe_studies if PLAN.recipe_study]),
    priority: 10
    threads: training_threads()
    resources:
        gpu=training_gpus(),
        mem_mb=4000,
        runtime=720,
        device=STUDY.config["device"],
    params:
        settings=lambda wildcards: as_json(STUDY.recipe_study_settings(int(wildcards.dimension), int(wildcards.seed))),
        code=code_version.code_version("tgmm.recipe_study.run"),
    message:
        "Recipe study: d = {wildcards.dimension}, seed {wildcards.seed}"
    shell:
        "tgmm recipe-study run --settings {params.settings:q} -d {wildcards.dimension} --seed {wildcards.seed}"
        " --out {output.table} --work work --device {resources.device} 2>&1 | tee -i {log}"


rule merge_recipe_study:
    input:
        parts=RECIPE_PARTS,
    output:
        table="results/{scale}/recipes/{whole}.csv",
    log:
        "logs/{scale}/recipes/{whole}.log",
    benchmark:
        "benchmark_logs/{scale}/recipes/{whole}.tsv"
    wildcard_constraints:
        # A table that is there is taken as it is where the study may not be trained.
        whole=any_of(["all"] if PLAN.recipe_study else []),
    threads: 1
    resources:
        mem_mb=2000,
        runtime=15,
    params:
        code=code_version.code_version("tgmm.recipe_study.comparison"),
    message:
        "Joining the parts of the recipe study"
    shell:
        "tgmm recipe-study merge {input.parts} --out {output.table} 2>&1 | tee -i {log}"
