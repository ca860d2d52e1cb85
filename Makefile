# Every target sets itself up: a fresh clone needs only make and Python 3.11 or newer.

PYTHON ?= python3
SEEDS ?= 200
BUDGET ?= 300
DEPTH ?= 2
ROUNDS ?= 50
ARGS ?= -m "not slow"

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

BIN := .venv/bin
PY := $(BIN)/python
PIP := $(PY) -m pip --quiet --disable-pip-version-check --no-input
READY := .venv/.ready
LOCK := deploy/requirements-dev.lock

.PHONY: help setup demo test check format sim crash mutants mutants-sim track-record twins bench bench-micro lock clean

help: ## Show this list
	@echo 'make TARGET, where TARGET is one of'
	@sed -nE 's/^([a-z-]+):.*## (.*)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

setup: $(READY) ## Make .venv with the locked dependencies and the `bft` command

demo: $(READY) ## Four replica processes survive an equivocating primary (under two minutes)
	@$(PY) -m deploy.demo

test: $(READY) ## Run the tests; ARGS='-m slow' for the long ones, ARGS=tests/unit for a part
	@$(PY) -m pytest -q -n auto --maxprocesses 4 --dist loadgroup $(ARGS)

check: $(READY) ## Formatting, lint, types, import contracts
	@$(BIN)/ruff format --check --quiet --output-format=concise . || { echo "run 'make format'"; exit 1; }
	@$(BIN)/ruff check --quiet --output-format=concise .
	@$(PY) -m mypy --no-error-summary
	@$(BIN)/lint-imports > .venv/lint-imports.log || { cat .venv/lint-imports.log; exit 1; }
	@echo 'check: clean'

format: $(READY) ## Format the code and apply the safe lint fixes
	@$(BIN)/ruff check --quiet --fix-only .
	@$(BIN)/ruff format --quiet .

sim: $(READY) ## Run SEEDS=200 seeds of the simulator; SIM_ARGS='-n 4 --budget 600' as for bft sim
	@$(BIN)/bft sim --seeds $(SEEDS) $(SIM_ARGS)

crash: $(READY) ## Kill replica processes at random under load, ROUNDS=50 times: nothing acknowledged may be lost
	@CRASH_ROUNDS=$(ROUNDS) $(PY) -m pytest -q -s tests/e2e/test_crash.py -m slow

mutants: $(READY) ## Weaken the protocol in known ways; the tests must catch each
	@$(PY) -m tests.mutants.run

twins: $(READY) ## Keep the twins of one replica apart for DEPTH=2 rounds, in BUDGET=300 of all ways
	@$(PY) -m bft.testing.run_twins --depth $(DEPTH) --budget $(BUDGET)

mutants-sim: $(READY) ## Count the simulator's seeds until each weakness is found; BUDGET=300 seeds each
	@$(PY) -m tests.mutants.seeds --seeds $(BUDGET)

track-record: $(READY) ## Put bugs that others shipped into our code; their scenarios must fail
	@$(PY) -m tests.mutants.track_record

bench: $(READY) ## Measure this machine: one caller, many, bundles, an equivocating primary (< 5 minutes)
	@$(BIN)/bft bench suite

bench-micro: $(READY) ## Measure single parts: codec, signatures, Merkle trees, core, log, state; also as JSON
	@mkdir -p bench-results
	@$(PY) -m pytest -q bench/micro/parts.py --benchmark-columns=min,median,iqr,rounds --benchmark-json=bench-results/micro.json
	@$(PY) -m bench.micro.log
	@$(PY) -m bench.micro.state

lock: $(READY) ## Pin the newest allowed dependencies again, with hashes (needs pip-tools)
	@for extra in "-dev --extra=dev --extra=bench --extra=tracing" " --constraint=$(LOCK)"; do \
	  CUSTOM_COMPILE_COMMAND='make lock' pip-compile --quiet --upgrade --strip-extras --generate-hashes --allow-unsafe \
	    --build-deps-for=editable --no-emit-index-url --no-emit-trusted-host --no-emit-find-links \
	    $${extra#* } --output-file=deploy/requirements$${extra%% *}.lock pyproject.toml; done

clean: ## Remove .venv, caches and build products
	@rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis build dist
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/.deps: $(LOCK)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null || \
	  { echo 'Python 3.11 or newer is needed: install it, or name it with make PYTHON=/path/to/python3.11' >&2; exit 1; }
	@echo 'setting up .venv (once, about a minute)'
	@$(PYTHON) -m venv .venv
	@$(PIP) install --require-hashes --requirement $(LOCK)
	@touch $@

$(READY): .venv/.deps pyproject.toml
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@
