# Everything from a fresh clone: `make reproduce`. Needs Python 3.11 or newer and make; nothing is installed outside .venv.
PYTHON ?= python3
GPUS ?= 1
JOBS ?= 2
RESOLUTION ?= lowest-direct
SCALE ?= $(shell sed -n 's/^scale: *\([a-z0-9-]*\).*/\1/p' config.yaml)

SHELL := bash
VENV := .venv
STAMP := $(VENV)/.installed
RUN = snakemake --cores all --resources gpu=$(GPUS) $(if $(filter file,$(origin SCALE)),,--config scale=$(SCALE))
HASH = $(PYTHON) -c 'import hashlib; print(hashlib.sha256(b"".join(open(name, "rb").read() \
	for name in ("requirements.lock", "pyproject.toml"))).hexdigest())'
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

.DEFAULT_GOAL := help
.PHONY: help setup reproduce report docs smoke figures test test-all test-oldest test-gpu trust licences lint format lock clean check-python

help: ## This list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | awk -F'\t' '{printf "  make %-11s %s\n", $$1, $$2}'
	@echo "  SCALE=smoke|laptop|overnight|paper, GPUS=n, PYTHON=python3.12 and JOBS=n (tests at a time) may follow."

reproduce: setup ## Train, score and draw everything, then show the headline numbers
	$(RUN)
	tgmm headline --scale $(SCALE)

figures: setup ## Redraw the figures from the released results, without training
	@if [ -d results/$(SCALE)/scores ]; then echo "Using the results that are here."; else \
	dvc pull || { dvc data status --granular | sed '/^$$/q' | head -20; exit 1; }; fi
	$(RUN) -- figures
	@echo "Figures: results/$(SCALE)/figures"

report: setup ## Snakemake's report of a finished run, one HTML file: figures, tables and run times by research question
	$(RUN) --report results/$(SCALE)/report.html

docs: setup ## The documentation as a site in site/, its links checked
	mkdocs build --strict --quiet
	@echo "Documentation: site/index.html"

smoke: setup ## The whole pipeline at toy size, in a few minutes
	$(MAKE) reproduce SCALE=smoke

test: setup ## Run the tests
	OMP_NUM_THREADS=1 python -m pytest -n $(JOBS) --dist loadfile -m "not slow and not gpu"

test-all: setup ## Run the tests, those that take long included
	OMP_NUM_THREADS=1 TGMM_EXAMPLES=20 python -m pytest -n $(JOBS)

test-oldest: check-python ## Test in .venv-oldest with the oldest versions allowed (needs uv); RESOLUTION=highest: the newest
	$(PYTHON) -m venv .venv-oldest
	grep '^torch==' requirements.lock > .venv-oldest/torch.txt
	.venv-oldest/bin/python -m pip install --requirement .venv-oldest/torch.txt
	echo 'setuptools>=77' | uv pip compile pyproject.toml - --all-extras --python .venv-oldest/bin/python \
	--resolution $(RESOLUTION) --constraint .venv-oldest/torch.txt --no-header --no-annotate --no-emit-index-url -q \
	| grep -vE '^(torch|nvidia|triton|cuda)[-=]' > .venv-oldest/versions.txt
	uv pip install --python .venv-oldest/bin/python --no-deps --requirement .venv-oldest/versions.txt
	uv pip install --python .venv-oldest/bin/python --no-deps --no-build-isolation --editable .
	OMP_NUM_THREADS=1 .venv-oldest/bin/python -m pytest -n $(JOBS) -m "not slow and not gpu" --ignore tests/workflow \
	--ignore tests/page --ignore tests/faults

test-slurm: setup ## Run a part of the study on a Slurm of two nodes that the tests start here (root, slurm-wlm, munge)
	@python tests/slurm/cluster.py
	OMP_NUM_THREADS=1 python -m pytest -m slurm tests/slurm

test-gpu: setup ## Run the tests that need a CUDA device
	python -m pytest -m gpu

trust: setup ## Count the test cases behind each promise of docs/trust.md
	python tests/count_promises.py

licences: setup ## List the licence of every package that is installed
	@python tests/licences.py

lint: setup ## Check the style of code and workflow
	ruff check .
	ruff format --check .
	snakefmt --check Snakefile workflow/rules

format: setup ## Format code and workflow
	ruff check --fix .
	ruff format .
	snakefmt Snakefile workflow/rules

setup: check-python ## Install the locked requirements into .venv; nothing happens if they are there
	@[ "$$(cat $(STAMP) 2>/dev/null)" = "$$($(HASH))" ] || $(MAKE) --no-print-directory install

check-python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	echo "Python 3.11 or newer is needed; '$(PYTHON)' is $$($(PYTHON) --version 2>&1 | head -1). Name one: make PYTHON=python3.12 …" >&2; \
	exit 1; }

.PHONY: install
install: INSTALL = $(if $(shell command -v uv),uv pip install --python $(VENV)/bin/python,$(VENV)/bin/python -m pip install)
install:
	@echo "Setting up $(VENV): torch first, which is large, then the rest."
	[ -x $(VENV)/bin/python ] || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --constraint requirements.lock torch
	$(INSTALL) --no-deps --requirement requirements.lock
	$(INSTALL) --no-deps --no-build-isolation --editable .
	@$(HASH) > $(STAMP)

lock: ## Pin the newest versions that pyproject.toml allows (torch keeps its own)
	@grep '^torch==' requirements.lock > $(VENV)/torch.txt
	echo 'setuptools>=77' | uv pip compile pyproject.toml - --all-extras --universal --python-version 3.11 \
	--constraint $(VENV)/torch.txt --no-header --no-annotate --no-emit-index-url -q -o $(VENV)/lock.txt
	@{ echo '# Written by `make lock`: every version that `make setup` installs. The CUDA packages follow torch by themselves.'; \
	grep -vE "^(nvidia|triton|cuda)-?|sys_platform == 'emscripten'|sys_platform == 'win32'" $(VENV)/lock.txt \
	| sed 's/+cpu//'; } > requirements.lock

clean: ## Remove everything that a run made, at every scale; the environment stays
	rm -rf results work logs benchmark_logs .snakemake .pytest_cache .ruff_cache .hypothesis
