# Every task of the project. `make` alone lists them; each makes what it needs first.

PYTHON ?= $(shell for p in python3 python3.11 python3.12 python3.13 python3.14 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV ?= .venv
RUN := $(VENV)/bin/python
PIP := $(RUN) -m pip install --disable-pip-version-check --no-input -q -c constraints.txt
PINS := pyproject.toml constraints.txt

# One thread a test process: the processes themselves are spread over the cores. Bytecode is kept even
# where the environment says otherwise: the tests start hundreds of interpreters.
TESTENV := OMP_NUM_THREADS=1 POLARS_MAX_THREADS=2 PYTHONHASHSEED=0 PYTHONDONTWRITEBYTECODE=
SPREAD ?= -n auto --maxprocesses 8 --dist loadfile

.DEFAULT_GOAL := help
.PHONY: help demo test check fmt cards evidence bench faults power peers clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/demo.stamp ## install, then audit, clean, train and export a real data set, offline
	$(VENV)/bin/datapipe demo

test: $(VENV)/dev.stamp ## install everything, then run the whole test suite
	$(TESTENV) $(RUN) -m pytest -q $(SPREAD) $(ARGS)

check: $(VENV)/dev.stamp ## format, lint, types, floors, then the tests: what a change must pass
	$(RUN) -m ruff format --check src tests examples
	$(RUN) -m ruff check src tests examples
	$(RUN) -m mypy
	$(VENV)/bin/lint-imports --no-logo
	$(RUN) -m datapipe.report.cards --check
	$(TESTENV) $(RUN) -m pytest -q $(SPREAD) $(ARGS)

fmt: $(VENV)/dev.stamp ## format and mend what a tool can mend
	$(RUN) -m ruff format src tests examples
	$(RUN) -m ruff check --fix --quiet src tests examples

cards: $(VENV)/dev.stamp ## rewrite the facts of every card in stages/ from the code
	$(RUN) -m datapipe.report.cards --write

evidence: $(VENV)/dev.stamp ## measure every detector on its worlds and write stages/**/*.evidence.json (ONLY=key, STALE=1)
	$(TESTENV) $(RUN) tests/power/evidence.py $(if $(ONLY),--only $(ONLY)) $(if $(STALE),--stale)

bench: $(VENV)/dev.stamp ## compare with peers, one JSON line each (ONLY=name, ROWS=n, REPEATS=n)
	PYTHONDONTWRITEBYTECODE= $(RUN) tests/bench/run.py $(if $(ONLY),--only $(ONLY)) $(if $(ROWS),--rows $(ROWS)) $(if $(REPEATS),--repeats $(REPEATS))

faults: $(VENV)/dev.stamp ## kills, full disks and hostile input only
	$(TESTENV) $(RUN) -m pytest -q -m faults $(ARGS)

power: $(VENV)/dev.stamp ## detection and false alarms on seeded worlds only
	$(TESTENV) $(RUN) -m pytest -q -n auto --dist load -m power tests $(ARGS)

peers: .venv-peers/peers.stamp .venv-peers/engines.stamp .venv-peers/s3.stamp .venv-peers/crowd.stamp .venv-peers/art.stamp ## other people's verifiers and engines in environments of their own, without our pins

clean: ## remove the virtual environments and every cache
	rm -rf $(VENV) .venv-peers .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed; set PYTHON=/path/to/python" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)

# The reference clients as their users get them: nothing of ours, and no version of ours, beside them.
.venv-peers/peers.stamp:
	$(PYTHON) -m venv .venv-peers
	.venv-peers/bin/python -m pip install --disable-pip-version-check --no-input -q \
		model-signing==1.1.1 pyopenssl 'securesystemslib[crypto]' pymerkle
	@touch $@

.venv-peers/engines.stamp:
	$(PYTHON) -m venv .venv-peers/engines
	.venv-peers/engines/bin/python -m pip install --disable-pip-version-check --no-input -q \
		apache-hamilton==1.90.0 kedro==1.7.0 dagster==1.13.28 polars==2.1.0
	@touch $@

.venv-peers/crowd.stamp:
	$(PYTHON) -m venv .venv-peers/crowd
	.venv-peers/crowd/bin/python -m pip install --disable-pip-version-check --no-input -q \
		'crowd-kit==1.4.2' 'pandas==3.1.1' 'scikit-learn==1.9.1'
	@touch $@

# ART asks for `packaging` without saying so.
.venv-peers/art.stamp:
	$(PYTHON) -m venv .venv-peers/art
	.venv-peers/art/bin/python -m pip install --disable-pip-version-check --no-input -q torch==2.13.0
	.venv-peers/art/bin/python -m pip install --disable-pip-version-check --no-input -q \
		'adversarial-robustness-toolbox==1.20.1' packaging
	@touch $@

.venv-peers/s3.stamp:
	$(PYTHON) -m venv .venv-peers/s3
	.venv-peers/s3/bin/python -m pip install --disable-pip-version-check --no-input -q 'moto[server]==5.*'
	@touch $@

# torch comes first and alone, so that whatever build of it the index gives is the one that stays.
$(VENV)/demo.stamp: $(PINS) | $(VENV)/bin/python
	$(PIP) torch
	$(PIP) -e '.[demo]'
	@touch $@

$(VENV)/dev.stamp: $(PINS) | $(VENV)/bin/python
	$(PIP) torch
	$(PIP) -e '.[all,dev]'
	@touch $(VENV)/demo.stamp $@
