# make run    the app, on a machine with nothing but Python 3.11 or later
# make test   ruff, mypy, and every test with a real browser where there is one
# make bench  speed and memory against other tools, as one table
# make soak   the slow tests: hundreds of kills, full disks, thousands of reruns
#
# PYTHON=python3.12 make run    chooses the interpreter the first time
# REQUIRE_BROWSER=1 make test   fails without a browser instead of skipping its tests

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

# A stamp is newer than the list it was installed from: the second call installs nothing.
RUNTIME := $(VENV)/.runtime.stamp
DEV := $(VENV)/.dev.stamp

.PHONY: run test check bench soak clean

run: $(RUNTIME)
	$(BIN)/python -m streamlit run app.py

test: $(DEV) check
	$(BIN)/python -m pytest

check: $(DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(DEV)
	OPENBLAS_NUM_THREADS=$$(nproc) $(BIN)/python -m pytest tests/bench -m bench -s --timeout=1800

soak: $(DEV)
	$(BIN)/python -m pytest -m slow -s --timeout=3600

clean:
	rm -rf $(VENV)

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

$(DEV): requirements-dev.txt requirements-cluster.txt $(RUNTIME)
	@echo "Installing what the tests need into $(VENV); only the first time."
	$(PIP) -r requirements-dev.txt
	@touch $@
