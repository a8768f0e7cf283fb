# Two commands for a newcomer: `make demo` and `make test`. Both create .venv from the pinned lock.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LOCK := requirements/cpu.lock
# Of the GPU image alone (cluster/Dockerfile): torch with CUDA, as PyPI has it.
GPU_LOCK := requirements/gpu.lock
IN_IMAGES := --extra benchmark --extra launcher
INSTALLED := $(VENV)/.installed
RUN_DIR ?= runs/demo
# That share the tests; with 0 they run one after the other.
PROCESSES ?= 2
TORCH := torch==2.13.0+cpu
# CPU wheels of torch are not on PyPI; where this index is out of reach, a wheel that pip already knows serves.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
TORCH_SOURCE ?= --extra-index-url $(TORCH_INDEX) --index-strategy unsafe-best-match
# torch comes from its own index; text models on a CPU need none of the others, and the CUDA builds that PyPI
# has of torchvision and its kin break `import transformers`.
NOT_LOCKED := torch torchvision torchaudio torchcodec triton cuda-bindings cuda-pathfinder cuda-toolkit \
  nvidia-cublas nvidia-cuda-nvrtc nvidia-cudnn-cu13 nvidia-cusparselt-cu13 nvidia-nccl-cu13 nvidia-nvshmem-cu13

.PHONY: help install demo test test-fast lint format lock clean

help:  ## Show what this Makefile can do
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 20

install: $(INSTALLED)  ## Create .venv from the pinned lock (Linux, Python 3.11 or newer, no GPU)

$(INSTALLED): $(LOCK) pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12 install")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-deps $(shell grep -E '^uv==' $(LOCK))
	$(BIN)/python -m pip install --quiet --no-deps --retries 0 --timeout 20 --extra-index-url $(TORCH_INDEX) "$(TORCH)"
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --no-deps --requirements $(LOCK)
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

demo: $(INSTALLED)  ## Run the whole experiment on the toy world: no network, no API key (5 to 8 minutes)
	$(BIN)/alpagasus demo --run-dir $(RUN_DIR)

test: $(INSTALLED)  ## Run every test, the slow ones on real components included, in two processes
	$(BIN)/python -m pytest --numprocesses $(PROCESSES) --dist loadscope --no-loadscope-reorder

test-fast: $(INSTALLED)  ## Run the tests that need neither Ray, torch nor vLLM (about three minutes)
	$(BIN)/python -m pytest -m "not slow and not cluster"

lint: $(INSTALLED)  ## ruff (lint and format) and mypy --strict
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(INSTALLED)  ## Let ruff format and fix what it can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: $(INSTALLED)  ## Resolve the pinned locks anew
	$(BIN)/uv pip compile pyproject.toml $(IN_IMAGES) --extra cpu --extra dev --universal --python-version 3.11 --quiet \
	  --no-header --no-annotate $(TORCH_SOURCE) $(foreach package,$(NOT_LOCKED),--no-emit-package $(package)) \
	  --output-file $(LOCK)
	$(BIN)/uv pip compile pyproject.toml $(IN_IMAGES) --extra gpu --python-platform x86_64-manylinux_2_35 --python-version 3.11 \
	  --quiet --no-header --no-annotate --output-file $(GPU_LOCK)

clean:  ## Remove .venv, caches and the demo's run
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis dist runs/demo
