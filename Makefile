# make demo     sets up .venv, animates the example portrait with the example speech, prints where the mp4 is
# make test     the same set-up, then lint, types and tests with coverage
# make lint     ruff: rules and format; `make format` fixes what it can
# make types    mypy, strict for the package
# make test-gpu the tests that need a GPU; without one the same checks run on a simulated device
# make bench-gpu measures speed and memory on a CUDA card with random weights; each call goes on where the last stopped
# make bench-gpu-bundle packs what `make bench-gpu` needs for a machine without network that has PyTorch
# PYTHON=/path/to/python3.12 picks the interpreter, TORCH_INDEX=URL the index torch comes from (docs/install.md),
# WORKERS=4 how many processes run the tests (2 unless given), COVERAGE=1 measures the coverage on Python 3.11 too, COVERAGE= nowhere.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup setup-dev demo test test-gpu lint format types docs-check bench-gpu bench-gpu-bundle clean

export PYTHON TORCH_INDEX

VENV_PYTHON := .venv/bin/python
DEMO_OUTPUT ?= outputs/demo.mp4
WORKERS ?= 2
# Python 3.12 and later count lines at little cost. On 3.11 it takes up to half as long again, so there it is left out unless it is asked for.
SYSMON = $(shell $(VENV_PYTHON) -c 'import sys; print("sysmon" if sys.version_info >= (3, 12) else "")')
COVERAGE ?= $(SYSMON)
# A file stays in one worker, so that what its tests share is made once; files with slow tests come first (tests/conftest.py).
PYTEST := $(VENV_PYTHON) -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

help:
	@sed -n 's/^# \(make .*\)/\1/p' Makefile

setup:
	@scripts/setup.sh

setup-dev:
	@scripts/setup.sh dev

demo: setup
	@mkdir -p $(dir $(DEMO_OUTPUT))
	@$(VENV_PYTHON) -m fantasytalking.cli demo --output $(DEMO_OUTPUT) --overwrite

test: lint types
	COVERAGE_CORE=$(or $(SYSMON),ctrace) $(PYTEST) $(if $(COVERAGE),--cov --cov-report=term)

test-gpu: setup-dev
	@if $(VENV_PYTHON) -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then \
	  $(VENV_PYTHON) -m pytest tests/gpu -m gpu; \
	else \
	  echo "There is no CUDA GPU: running the same checks on a simulated device (tests/devices)."; \
	  $(VENV_PYTHON) -m pytest tests/devices; \
	fi

# make bench-gpu DEVICE=cpu SIZE=tiny rehearses it in a minute or two.
DEVICE ?= cuda
SIZE ?= 14b
MINUTES ?= 9
OUTPUT ?= outputs/bench-gpu-$(SIZE)
BENCH_PYTHON ?= $(VENV_PYTHON)
BENCH_OPTIONS ?=

bench-gpu: $(if $(filter $(VENV_PYTHON),$(BENCH_PYTHON)),setup)
	@$(BENCH_PYTHON) -W ignore benchmarks/speed.py --models $(SIZE) --device $(DEVICE) --minutes $(MINUTES) --output $(OUTPUT) \
	  $(BENCH_OPTIONS)

bench-gpu-bundle: setup
	@$(VENV_PYTHON) benchmarks/pack_speed.py --output dist/bench-gpu.tar.xz

lint: setup-dev
	$(VENV_PYTHON) -m ruff check .
	$(VENV_PYTHON) -m ruff format --check .

format: setup-dev
	$(VENV_PYTHON) -m ruff check --fix .
	$(VENV_PYTHON) -m ruff format .

types: setup-dev
	$(VENV_PYTHON) -m mypy

docs-check: setup-dev
	$(VENV_PYTHON) -m pytest tests/test_docs.py

clean:
	rm -rf .venv build dist outputs .mypy_cache .pytest_cache .ruff_cache .coverage .coverage.*
