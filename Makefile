# Strings together commands that you could type yourself. `make run` and `make test` do all their set-up; `make help` lists the rest.
#
#   PYTHON=python3.12       another interpreter for the virtual environment (3.11 or newer)
#   VENV=/some/where        another place for it
#   TORCH_INDEX=URL         where the CPU build of torch comes from, if the default index has only CUDA builds:
#                           PyTorch's index of CPU wheels, named on pytorch.org under "Get started", compute platform CPU
#   ARGS="rounds=3"         overrides that `make run` hands on

PYTHON ?= python3
VENV ?= .venv
TORCH_INDEX ?=
ARGS ?=

BIN := $(VENV)/bin
# --no-deps: the lock files are complete, and resolving would pull packages that break this environment (see cpu.lock).
# --no-compile: byte code is then made only for the modules that get imported, not for every file.
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-compile
PYTEST := HF_HUB_OFFLINE=1 $(BIN)/python -m pytest

.DEFAULT_GOAL := help
.PHONY: help run test setup setup-dev lint unit cluster e2e gpu clean

help:  ## Show this list.
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## /\1\t/' | expand -t 12

run: setup  ## Train the quickstart from nothing: SFT, then RAPO rounds; results in runs/quickstart.
	$(BIN)/python -m rapo_ray.train --config quickstart $(ARGS)

test: lint unit cluster e2e gpu  ## Run every check and test tier that this machine can run.

setup: $(VENV)/.ready  ## Make the virtual environment for CPUs; nothing to do when the lock files have not changed.

setup-dev: $(VENV)/.ready-dev  ## The same, with what the tests need.

lint: setup-dev  ## Style, format and types.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

unit: setup-dev  ## Pure tests: no Ray, no engine, no network.
	$(PYTEST) -m unit

cluster: setup-dev  ## Ray on this machine's CPUs.
	$(PYTEST) -m cluster

e2e: setup-dev  ## Real engines with a tiny model.
	$(PYTEST) -m e2e

gpu: setup-dev  ## Tests that need an accelerator; passed over where nvidia-smi is missing.
	@if command -v nvidia-smi >/dev/null; then $(PYTEST) -m gpu; else echo "no nvidia-smi: the gpu tier is passed over"; fi

clean:  ## Remove the virtual environment and tool caches; runs/ and the model cache stay.
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis *.egg-info

# One tier at a time even under -j: the tiers share the cores, and their timeouts assume so.
.NOTPARALLEL:

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "rapo_ray needs Python 3.11 or newer as $(PYTHON); name one with: make PYTHON=python3.11"; exit 1; }
	@command -v c++ >/dev/null || command -v g++ >/dev/null \
	  || { echo "rapo_ray needs a C++ compiler (c++ or g++): DeepSpeed builds a small kernel on first use"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.ready: requirements/cpu.lock pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile pip==26.3  # the pip that this set-up was timed with
	$(INSTALL) $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) torch==2.13.0
	DS_BUILD_OPS=0 $(INSTALL) -r requirements/cpu.lock
	PYTHONWARNINGS=ignore $(INSTALL) --no-build-isolation -e .
	@touch $@

$(VENV)/.ready-dev: requirements/dev.lock $(VENV)/.ready
	$(INSTALL) -r requirements/dev.lock
	@touch $@
