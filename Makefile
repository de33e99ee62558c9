# make demo   sets up .venv, animates the example portrait with the example speech, prints where the mp4 is
# make test   the same set-up, then lint, types and tests
# make test-gpu the tests that need a GPU; without one they are rehearsed on a pretended device
# PYTHON=/path/to/python3.12 picks the interpreter, TORCH_INDEX=URL the index torch comes from (docs/install.md).

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup setup-dev demo test test-gpu lint types docs-check clean

export PYTHON TORCH_INDEX

VENV_PYTHON := .venv/bin/python
DEMO_OUTPUT ?= outputs/demo.mp4

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
	$(VENV_PYTHON) -m pytest

test-gpu: setup-dev
	@if $(VENV_PYTHON) -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then \
	  $(VENV_PYTHON) -m pytest tests/gpu -m gpu; \
	else \
	  echo "There is no CUDA GPU: rehearsing the same checks on a pretended device (tests/devices)."; \
	  $(VENV_PYTHON) -m pytest tests/devices; \
	fi

lint: setup-dev
	$(VENV_PYTHON) -m ruff check .

types: setup-dev
	$(VENV_PYTHON) -m mypy

docs-check: setup-dev
	$(VENV_PYTHON) -m pytest tests/test_docs.py

clean:
	rm -rf .venv build dist outputs .mypy_cache .pytest_cache .ruff_cache
