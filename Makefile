# Two commands do all the set-up on a fresh machine: `make serve` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input
ARGS ?=
# Three files of tests at once, on two cores: half of their time they wait. Files keep their order: the long ones come
# early, so that all workers end at the same time, and those of a package follow each other, so that a browser is
# started few times.
THREE := -n3 --dist=loadfile --no-loadscope-reorder

# Hundreds of servers are started in tests: without it each would compile Legato anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help serve page test quick check audit format faults soak mutants screenshots bench lock docs clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "legato needs Python 3.11 or newer; set PYTHON=python3.12, say"; exit 1; }
	@echo "making $(VENV) ..."
	@$(PYTHON) -m venv $(VENV)

$(VENV)/serve.stamp: requirements/serve.lock pyproject.toml | $(BIN)/python
	@echo "installing what the server needs (hashes checked) ..."
	@$(INSTALL) --require-hashes -r requirements/serve.lock
	@LEGATO_BUILD_PAGE=0 $(INSTALL) --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/dev.stamp: requirements/dev.lock package-lock.json $(VENV)/serve.stamp
	@echo "installing what the tests need (hashes checked) ..."
	@$(INSTALL) --require-hashes -r requirements/dev.lock
	@$(BIN)/python -m tests.node
	@$(BIN)/python -m tests.e2e.install_browser
	@touch $@

page: $(VENV)/dev.stamp ## Build the chat page, if its sources have changed
	@$(BIN)/python hatch_build.py

serve: $(VENV)/serve.stamp ## Start the server on http://localhost:3111 (first time: set up, build the page, fetch the model)
	@$(BIN)/python hatch_build.py || echo "legato: the chat page could not be built, the server does without it"
	@$(BIN)/legato models fetch --if-needed
	@exec $(BIN)/legato serve $(ARGS)

test: page ## All tests, real servers included
	$(BIN)/python -m tests $(THREE) $(ARGS)

quick: page ## The tests that take under a minute
	$(BIN)/pytest $(THREE) -m "not slow" $(ARGS)

check: $(VENV)/dev.stamp ## What CI runs: format, lint, types, import contracts, docs drift, tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m docs.generate --check
	$(MAKE) --no-print-directory test

audit: $(VENV)/dev.stamp ## Known holes in what is installed (asks the network, and says where it could not)
	@$(BIN)/ruff check --select S .
	@if $(BIN)/python -m pip_audit --version >/dev/null 2>&1; then \
	  $(BIN)/python -m pip_audit --require-hashes -r requirements/serve.lock; \
	else echo "pip-audit is not installed: the Python packages were not looked at"; fi
	@$(BIN)/python -m tests.audit_npm

format: $(VENV)/dev.stamp ## Format and mend what can be mended
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(VENV)/dev.stamp ## Make the reference pages anew from the code
	$(BIN)/python -m docs.generate

faults: $(VENV)/dev.stamp ## Kill, cut and starve real servers; count what was lost (long)
	$(BIN)/python -m tests.faults $(ARGS)

soak: $(VENV)/dev.stamp ## Keep 1,000 replies going on nodes that come and go, for 30 minutes; does the one that stays grow?
	$(BIN)/python -m tests.faults.soak $(ARGS)

mutants: $(VENV)/dev.stamp ## Plant known bugs and see the tests catch each
	$(BIN)/python -m tests.mutants $(ARGS)

screenshots: page ## Take the README's pictures anew
	$(BIN)/python -m tests.e2e.take_screenshots

bench: $(VENV)/dev.stamp ## Measure CPU, latency and memory beside nginx and others
	$(BIN)/python -m bench $(ARGS)

lock: | $(BIN)/python ## Make the lock files anew (hashes, no addresses)
	@$(INSTALL) uv
	$(BIN)/uv pip compile -q pyproject.toml requirements/build.in $(LOCK_FLAGS) -o requirements/serve.lock
	$(BIN)/uv pip compile -q pyproject.toml requirements/build.in --extra dev -c requirements/serve.lock $(LOCK_FLAGS) -o requirements/dev.lock

LOCK_FLAGS := --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --no-annotate --upgrade

clean: ## Remove the environment and caches (not your data)
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache bench/.build node_modules clients/*/dist src/legato/_web
