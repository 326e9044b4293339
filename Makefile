# A fresh machine needs Python 3.11 or newer. Each target does its own set-up.
PYTHON ?= python3
BIN = .venv/bin

.PHONY: demo test lint bench clean

demo: .venv/installed
	$(BIN)/arcadia demo

test: .venv/installed-dev
	$(BIN)/pytest -n auto

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/dagster definitions validate -m arcadia_dagster.definitions

bench: .venv/installed-dev
	$(BIN)/python benchmarks/reconcile.py
	$(BIN)/python benchmarks/sync.py
	$(BIN)/python benchmarks/marts.py
	$(BIN)/python benchmarks/matching.py
	-$(BIN)/python benchmarks/matching_truth.py 1 2 3

clean:
	rm -rf .venv

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/installed: .venv/bin/python pyproject.toml requirements.lock
	$(BIN)/python -m pip install -q --disable-pip-version-check -c requirements.lock -e .
	touch $@

.venv/installed-dev: .venv/installed
	$(BIN)/python -m pip install -q --disable-pip-version-check -c requirements.lock -e '.[dev]'
	touch $@
