# Every target makes its own environment in .venv; a second run finds it and is quick.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

# Tests start hundreds of processes, which would each compile the whole program anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo test test-slow soak fuzz check bench lock clean
help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 20

$(STAMP): requirements-dev.lock pyproject.toml
	@echo "== environment: $(VENV) (about a minute the first time)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "itsms_sync needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version). Try: make PYTHON=python3.12 ..."; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || \
		{ echo "cannot make a virtual environment: install the venv module of $(PYTHON) (Debian: apt-get install python3-venv)"; exit 1; }
	@$(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@$(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $(STAMP)

demo: $(STAMP) ## the main job with embedded parts; Ctrl-C stops it
	@$(BIN)/itsms-sync demo

test: $(STAMP) ## the tests that fit in ten minutes
	@echo "== tests"
	@$(BIN)/python -m pytest -m "not slow"

test-slow: $(STAMP) ## the tests that take longer, oracles included
	@echo "== slow tests"
	@$(BIN)/python -m pytest -m slow --timeout=1800

SOAK_MINUTES ?= 50
soak: $(STAMP) ## kills, power cuts, faults and planted bugs for SOAK_MINUTES; STAGES="runs kills" chooses, SEED= repeats
	@$(BIN)/python -m tests.soak $(STAGES) --minutes=$(SOAK_MINUTES) $(if $(SEED),--seed=$(SEED)) $(if $(COUNT),--count=$(COUNT))

MINUTES ?= 10
fuzz: $(STAMP) ## readers of YAML, CSV, XES and Parquet against broken files, MINUTES each; READERS="xes csv" chooses, SEED= repeats
	@$(BIN)/python -m tests.fuzz $(READERS) --minutes=$(MINUTES) $(if $(SEED),--seed=$(SEED))

check: $(STAMP) ## lint, types, import contracts
	@echo "== ruff"        && $(BIN)/ruff check .
	@echo "== ruff format" && $(BIN)/ruff format --check .
	@echo "== mypy"        && $(BIN)/mypy
	@echo "== imports"     && $(BIN)/lint-imports
	@echo "== hadolint"    && $(BIN)/hadolint Dockerfile

bench: $(STAMP) ## benchmarks against what a user would pick instead, as ratios in one run
	@$(BIN)/python -m benchmarks

lock: ## write the lock files anew from pyproject.toml
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet uv
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header pyproject.toml -o requirements.lock
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --extra dev pyproject.toml -o requirements-dev.lock

clean: ## remove the environment and caches
	@rm -rf $(VENV) .venv-bench .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
