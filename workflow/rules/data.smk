# Test tasks: the parameters, a seed for each task and the hash of its points.
TASKS = [f"{STUDY.results}/tasks/{taskset}.safetensors" for taskset in STUDY.default_tasksets]


rule tasks:
    input:
        TASKS,
    message:
        "Test tasks of scale {STUDY.scale} are there"


rule sample_tasks:
    output:
        tasks="results/{scale}/tasks/{taskset}.safetensors",
    log:
        "logs/{scale}/tasks/{taskset}.log",
    benchmark:
        "benchmark_logs/{scale}/tasks/{taskset}.tsv"
    wildcard_constraints:
        taskset=any_of(STUDY.tasksets),
    group:
        lambda wildcards: f"task_set_{wildcards.taskset}".replace("-", "_")
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        settings=lambda wildcards: as_json(STUDY.task_settings(wildcards.taskset)),
        version=version("tasks"),
    message:
        "Sampling test tasks: {wildcards.taskset}"
    shell:
        "tgmm sample-tasks {wildcards.taskset:q} --settings {params.settings:q} --out {output.tasks:q}"
        " 2>&1 | tee -i {log:q}"
