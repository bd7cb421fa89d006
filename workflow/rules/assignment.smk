# The estimator's network, a target of its own. To ship one, copy its two files to src/tgmm/data.
ASSIGNMENT = [f"{STUDY.results}/assignment/assignment.{kind}" for kind in ("safetensors", "json")]


rule assignment:
    input:
        ASSIGNMENT,
    message:
        "The estimator's network of scale {STUDY.scale} is there"


rule train_assignment:
    output:
        weights="results/{scale}/assignment/assignment.safetensors",
        record="results/{scale}/assignment/assignment.json",
    log:
        "logs/{scale}/assignment.log",
    benchmark:
        "benchmark_logs/{scale}/assignment.tsv"
    priority: 10
    threads: 1
    resources:
        mem_mb=3000,
        runtime=1440,
    params:
        settings=as_json(STUDY.assignment_settings()),
        folder="results/{scale}/assignment",
        version=version("training:assignment"),
    message:
        "Training the estimator's network"
    shell:
        "tgmm train-assignment --settings {params.settings:q} --out {params.folder:q} --work work 2>&1"
        " | tee -i {log:q}"


# By which the estimator chooses the number of components; its fits start from the network that the package holds.
rule criterion:
    input:
        f"{STUDY.results}/criterion/criterion.safetensors",
    message:
        "The estimator's criterion network of scale {STUDY.scale} is there"


rule train_criterion:
    output:
        weights="results/{scale}/criterion/criterion.safetensors",
        record="results/{scale}/criterion/criterion.json",
    log:
        "logs/{scale}/criterion.log",
    benchmark:
        "benchmark_logs/{scale}/criterion.tsv"
    priority: 10
    threads: 1
    resources:
        mem_mb=3000,
        runtime=1440,
    params:
        settings=as_json(STUDY.criterion_settings()),
        folder="results/{scale}/criterion",
        version=version("training:criterion"),
    message:
        "Training the estimator's criterion network"
    shell:
        "tgmm train-criterion --settings {params.settings:q} --out {params.folder:q} --work work 2>&1"
        " | tee -i {log:q}"
