# Two commands do all the set-up on a fresh machine:   make demo   and   make test

PYTHON ?= python3
VENV   ?= .venv
# Tests run in so many processes; 0 runs them in one, as a debugger wants it.
JOBS   ?= 2
# Further arguments for pytest: make test ARGS="-k handshake"
ARGS   ?=
# make bench CHECK=1 ends with 1 if a target is missed.
CHECK  ?=

BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check --quiet
CODE   := $(wildcard taps_security tests benchmarks examples)

.DEFAULT_GOAL := help
.PHONY: help demo test lint format unit bench plots peers dist docs clean

help:
	@echo "make demo    serve and connect on loopback: declare properties, race, see who wins and why"
	@echo "make test    lint and every test; installs the tools, and the peer programs where it may"
	@echo "make lint    ruff, mypy --strict, import contracts"
	@echo "make unit    the tests that need no peer program"
	@echo "make bench   speed beside the peers (CHECK=1: fail if a target is missed)"
	@echo "make plots   pictures of each congestion controller on simulated links, in benchmarks/plots"
	@echo "make peers   the real peers from Debian packages (root on a Debian-like system)"
	@echo "make dist    a wheel in dist/"
	@echo "make docs    the documentation as web pages in build/docs"
	@echo "make clean   remove what the others made, but not the virtual environment"

# ------------------------------------------------------------------------------------------- environment
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "taps_security needs Python 3.11 or later; $(PYTHON) is not. Try: make PYTHON=python3.13 ..."; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
	  { echo "Could not make a virtual environment. On Debian and Ubuntu: apt install python3-venv"; exit 1; }

$(VENV)/.cli: pyproject.toml | $(BIN)/python
	@echo "installing taps_security and what the command needs into $(VENV)"
	@$(PIP) install --editable '.[cli]'
	@touch $@

$(VENV)/.test: pyproject.toml | $(BIN)/python
	@echo "installing taps_security and the test tools into $(VENV)"
	@$(PIP) install --editable '.[test]'
	@touch $@ $(VENV)/.cli

$(VENV)/.bench: pyproject.toml | $(BIN)/python
	@$(PIP) install --editable '.[bench]'
	@touch $@ $(VENV)/.test $(VENV)/.cli

$(VENV)/.docs: pyproject.toml | $(BIN)/python
	@$(PIP) install --editable '.[docs]'
	@touch $@

# ------------------------------------------------------------------------------------------- what one does
demo: $(VENV)/.cli
	@$(BIN)/taps demo

test: $(VENV)/.test peers lint
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal $(ARGS)

unit: $(VENV)/.test
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal --ignore tests/interop $(ARGS)

lint: $(VENV)/.test
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: $(VENV)/.test
	$(BIN)/ruff check --fix $(CODE)
	$(BIN)/ruff format $(CODE)

bench: $(VENV)/.test
	$(BIN)/python -m benchmarks $(if $(CHECK),--check)

plots: $(VENV)/.bench
	$(BIN)/python -m benchmarks.recovery

peers:
	@sh tests/interop/install-peers.sh

dist: | $(BIN)/python
	@rm -rf dist build/lib build/bdist*
	@$(PIP) wheel --no-deps --wheel-dir dist .
	@ls dist

docs: $(VENV)/.docs
	$(BIN)/mkdocs build --strict --site-dir build/docs

clean:
	rm -rf build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -not -path './$(VENV)*' -prune -exec rm -rf {} +
