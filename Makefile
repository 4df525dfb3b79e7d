# The verbs of this repository. `make` or `make help` lists them.
# They need Python 3.11 or newer and make; everything else goes into .venv.

SHELL := /bin/bash
.DEFAULT_GOAL := help

VENV ?= .venv
BIN := $(VENV)/bin
# The first interpreter that is new enough. `make PYTHON=/path/to/python` takes another.
PYTHON ?= $(firstword $(foreach name,python3 python3.11 python3.12 python3.13 python,$(shell \
	$(name) -c 'import sys; sys.version_info >= (3, 11) and print("$(name)")' 2>/dev/null)))
# A GPU environment is conda's (environment.yml) or one that has faiss-gpu, not .venv.
GPU_PYTHON ?= python
# Of the kernels' check, which needs torch and Triton only, and where its rows go.
GPU_SECONDS ?= 600
GPU_OUT ?= gpu-check
# Test processes at once. Many tests wait for commands that they start.
JOBS ?= 2
# Of each fuzz target. The same seeds draw the same inputs; another first seed for a long hunt.
FUZZ_SECONDS ?= 60
FUZZ_SEED ?= 0
# --fuzz-known: only seeds that passed before, as CI does; --fuzz-note: note those that pass now.
FUZZ_FLAGS ?=

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help
help: ## List the verbs
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

.PHONY: setup
setup: $(VENV)/.dev ## Install everything needed to use and change maxsight

.PHONY: demo
demo: $(VENV)/.demo ## Index real pictures and a film, search them in three ways
	$(BIN)/maxsight demo

.PHONY: check
check: $(VENV)/.dev ## Lint, formatting, types, environment.yml, generated docs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest -q tests/test_environment.py
	$(BIN)/typer maxsight.cli utils docs --name maxsight | diff -uB docs/cli.md - \
		|| { echo "docs/cli.md is not what the program says: make docs"; exit 1; }

.PHONY: test
test: $(VENV)/.dev ## Run the tests
	$(BIN)/pytest -n $(JOBS) --dist loadfile

.PHONY: fuzz
fuzz: $(VENV)/.dev ## A minute of damaged and hostile inputs for every parser and native function
	$(BIN)/pytest tests/fuzz -o python_files='test_*.py *_targets.py' -n $(JOBS) --dist worksteal \
		--hypothesis-profile=fuzz --fuzz-seconds=$(FUZZ_SECONDS) --fuzz-seed=$(FUZZ_SEED) $(FUZZ_FLAGS)

.PHONY: sanitize
sanitize: $(VENV)/.dev ## Compile the C++ with address and undefined-behaviour sanitizers, run its tests so
	VENV=$(VENV) .ci/sanitize

.PHONY: bench
bench: $(VENV)/.dev ## Run every benchmark, rows appended to benchmarks/results.csv
	for name in $$($(BIN)/python -c 'from maxsight.benchmarks.registry import BENCHMARKS; print(*BENCHMARKS)'); do \
		$(BIN)/maxsight bench $$name --save benchmarks/results.csv || exit 1; done

.PHONY: gpu-check
gpu-check: ## On a machine with an NVIDIA GPU: kernels right and timed; then what else is installed
	$(GPU_PYTHON) -m maxsight.kernels.check --seconds $(GPU_SECONDS) --out $(GPU_OUT); kernels=$$?; \
	if $(GPU_PYTHON) -c 'import pytest' 2>/dev/null; then \
		$(GPU_PYTHON) -m pytest -m gpu tests/gpu -rs || kernels=1; \
	else echo 'tests/gpu: skipped, pytest is not installed'; fi; exit $$kernels

.PHONY: docs
docs: $(VENV)/.dev ## Write docs/cli.md from the program
	$(BIN)/typer maxsight.cli utils docs --name maxsight --output docs/cli.md

.PHONY: clean
clean: ## Remove build outputs and caches; .venv stays
	rm -rf build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +

# Stamps: installed again only when pyproject.toml changed.

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed and not found; make PYTHON=/path/to/python"; exit 1; }
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "On Debian and Ubuntu: apt-get install python3-venv"; exit 1; }

$(VENV)/.demo: pyproject.toml | $(BIN)/python
	@echo 'Installing into $(VENV): 6 GB, mostly torch; two minutes on a fast network'
	$(BIN)/python -m pip install --editable '.[cpu,video]'
	@touch $@

$(VENV)/.dev: pyproject.toml | $(BIN)/python
	@echo 'Installing into $(VENV): 6 GB, mostly torch; two minutes on a fast network'
	$(BIN)/python -m pip install --editable '.[dev]'
	@touch $@ $(VENV)/.demo
