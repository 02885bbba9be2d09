# make run          the app, on a machine with nothing but Python 3.11 or later
# make check        ruff, mypy and the unit tests: no page, no browser; minutes
# make test         ruff, mypy and every test but the long ones, with a real browser where there is one
# make lowest       unit and page tests with the lowest version of each library that pyproject.toml admits
# make soak         the long tests: hundreds of kills, full disks, thousands of reruns, alarm rates
# make shipped-results  the results file of the first page anew, after MATH_VERSION was raised
# make bench        speed and memory against other tools, as tables and as JSON, a file a commit in .bench/
# make bench-compare    what moved since the bench before; OLD=commit NEW=commit name two others
#
# PYTHON=python3.12 make run    chooses the interpreter the first time
# REQUIRE_BROWSER=1 make test   fails without a browser instead of skipping its tests
# WORKERS=4 make test           tests side by side; by default one worker more than cores, since browser tests wait

PYTHON ?= python3
VENV ?= .venv
WORKERS ?= $(shell expr $$(getconf _NPROCESSORS_ONLN) + 1)
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
PYTEST := $(BIN)/python -m pytest
# The tests of a file stay with one worker: they share fixtures, a server, and what its caches hold of a collection.
# Browser tests are long and begin early (tests/conftest.py), so that no worker is left with one at the end.
SIDE_BY_SIDE := --numprocesses=$(WORKERS) --dist=loadfile --no-loadscope-reorder --ignore=tests/bench

# Runs a command while mypy works, whose first run on a checkout takes 24 s of a core; its words come after the
# command's, and either may fail the target.
BESIDE_MYPY := @beside() { said=$$(mktemp); $(BIN)/mypy >"$$said" 2>&1 & types=$$!; "$$@"; status=$$?; \
	wait $$types || status=1; cat "$$said"; rm -f "$$said"; return $$status; }; beside

# A stamp is newer than the list it was installed from: the second call installs nothing.
RUNTIME := $(VENV)/.runtime.stamp
DEV := $(VENV)/.dev.stamp

# An environment of its own. What compares with PEFT and transformers is left out: they ask for a newer safetensors.
LOWEST := .venv-lowest
NEWER := compress compressed_checkpoints members_example merge merge_distributed merge_second_opinion readme \
	rebuilt_members serving tinylora

.PHONY: run test check lint ruff lowest bench bench-compare soak shipped-results clean

run: $(RUNTIME)
	$(BIN)/python -m streamlit run app.py

test: ruff
	$(BESIDE_MYPY) $(PYTEST) $(SIDE_BY_SIDE) -m "not slow"

check: ruff
	$(BESIDE_MYPY) $(PYTEST) $(SIDE_BY_SIDE) --ignore=tests/ui --ignore=tests/e2e -m "not slow and not e2e"

lint: ruff
	$(BIN)/mypy

ruff: $(DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

lowest:
	$(MAKE) VENV=$(LOWEST) $(LOWEST)/.lowest.stamp
	$(LOWEST)/bin/python -m pytest $(SIDE_BY_SIDE) --ignore=tests/e2e $(NEWER:%=--ignore=tests/test_%.py) -m "not slow and not e2e"

bench: $(DEV)
	OPENBLAS_NUM_THREADS=$$(nproc) $(BIN)/python -m pytest tests/bench -m bench -s --timeout=1800

bench-compare: $(DEV)
	$(BIN)/python -m tests.bench.record $(OLD) $(NEW)

soak: $(DEV)
	$(BIN)/python -m pytest -m slow -s --timeout=3600

# The Grams that a new visitor's first page shows; a test compares them with a fresh pass.
shipped-results: $(RUNTIME)
	UWS_CACHE=$$(mktemp -d) $(BIN)/python -m uws_core export demo:finetuned --results uws_core/zoo/data/finetuned.uws.zip

clean:
	rm -rf $(VENV) $(LOWEST)

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or later is needed; choose one with PYTHON=python3.12 make ..."; exit 1; }
	@$(PYTHON) -c 'import ensurepip' \
		|| { echo "This Python cannot make environments; on Debian: apt install python3-venv"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(RUNTIME): requirements.txt | $(BIN)/python
	@echo "Installing what the app needs into $(VENV); only the first time, it may take some minutes."
	$(PIP) -r requirements.txt
	@touch $@

# name>=1.2,<2 becomes name==1.2.
$(VENV)/.lowest.stamp: pyproject.toml requirements.txt requirements-cluster.txt requirements-tests.txt | $(BIN)/python
	grep --only-matching --extended-regexp '[a-z0-9_]+>=[0-9.]+' pyproject.toml | sed 's/>=/==/' > $(VENV)/lowest.txt
	$(PIP) --constraint $(VENV)/lowest.txt -r requirements-tests.txt
	@touch $@

$(DEV): requirements-dev.txt requirements-tests.txt requirements-cluster.txt $(RUNTIME)
	@echo "Installing what the tests need into $(VENV); only the first time."
	$(PIP) -r requirements-dev.txt
	@touch $@
