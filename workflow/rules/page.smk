# The page of the results: one HTML file that works from disk, with a part in which mixtures can be tried.
PLANE = f"{STUDY.results}/plane.json"
PLANE_TASKSETS = STUDY.plane_tasksets
PAGE = f"{STUDY.results}/index.html"


rule page:
    input:
        PAGE,
    message:
        "The page of scale {STUDY.scale} is there: {PAGE}"


rule fit_plane:
    input:
        tasks=[f"{STUDY.results}/tasks/{taskset}.safetensors" for taskset in PLANE_TASKSETS],
        models=[file for taskset, methods in PLANE_TASKSETS.items() for file in model_files(taskset, methods)],
    output:
        plane="results/{scale}/plane.json",
    log:
        "logs/{scale}/plane.log",
    benchmark:
        "benchmark_logs/{scale}/plane.tsv"
    localrule: True
    threads: 1
    resources:
        mem_mb=2000,
        runtime=15,
    params:
        settings=as_json(STUDY.plane_settings()),
        models=lambda wildcards: f"results/{wildcards.scale}/models",
        version=[version("plane"), *map(scores_version, PLANE_TASKSETS.values())],
    message:
        "Fitting a few tasks in the plane, step by step"
    shell:
        "tgmm plane {input.tasks:q} --settings {params.settings:q} --models {params.models:q} --out {output.plane:q}"
        " 2>&1 | tee -i {log:q}"


rule build_page:
    input:
        figures=FIGURES,
        tables=TABLES,
        headline=HEADLINE,
        records=[path for path in MODELS if path.endswith("config.json")],
        plane=PLANE if PLANE_TASKSETS else [],
    output:
        page="results/{scale}/index.html",
    log:
        "logs/{scale}/page.log",
    benchmark:
        "benchmark_logs/{scale}/page.tsv"
    localrule: True
    threads: 1
    resources:
        mem_mb=2000,
        runtime=15,
    params:
        settings=as_json(STUDY.page_settings()),
        version=version("page"),
    message:
        "Writing {output.page}"
    shell:
        "tgmm page --settings {params.settings:q} --out {output.page:q} 2>&1 | tee -i {log:q}"
