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
