# Everything a person types here; `make` alone lists it.

PYTHON ?= python3
VENV ?= .venv
LOCK ?= requirements/dev.lock
ARGS ?=
SEED ?= 1
JOBS ?= 1000

# One stamp per lock, so that changing either file, and nothing else, installs again.
INSTALLED ?= $(VENV)/.installed-$(basename $(notdir $(LOCK)))
PY ?= $(VENV)/bin/python
RUN = "$(PY)" -m

UV_VERSION = 0.13.9
# What the image offers beyond the core; it cannot be added to later.
IMAGE_EXTRAS = jwt otel speed

.DEFAULT_GOAL := help
.PHONY: help install demo up test check format lint floors types bench chaos contract evaluate mutants openapi lock clean

help: ## List what can be made
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(firstword $(MAKEFILE_LIST)) | expand -t 10

install: $(INSTALLED) ## Make the virtual environment and install into it

demo: $(INSTALLED) ## Improve a sample story on servers of its own, and show how
	@$(RUN) service demo $(ARGS)

up: $(INSTALLED) ## Run the whole service here, on port 3000, until Ctrl-C
	@$(RUN) service up $(ARGS)

test: $(INSTALLED) ## Run every test that this machine can run
	@$(RUN) pytest $(ARGS)

check: format lint floors types ## Check format, lint, floors and types

format: $(INSTALLED)
	@$(RUN) ruff format --check .

lint: $(INSTALLED)
	@$(RUN) ruff check .

floors: $(INSTALLED)
	@"$(PY)" -c "from importlinter.cli import lint_imports_command; lint_imports_command()"

types: $(INSTALLED)
	@$(RUN) mypy

bench: $(INSTALLED) ## Measure jobs per second through the real path, as JSON
	@$(RUN) tests.performance.bench $(ARGS)

chaos: $(INSTALLED) ## Hurt a cluster by the plan of SEED=1 with JOBS=1000, and judge what comes of it
	@$(RUN) tests.chaos --seed $(SEED) --jobs $(JOBS) $(ARGS)

contract: $(INSTALLED) ## Ask the API all that its description allows; LOCK=requirements/ci.lock
	@$(RUN) tests.contract $(ARGS)

evaluate: $(INSTALLED) ## Judge what a writer makes of many stories: offline, or Claude if there is a key
	@$(RUN) tests.evaluation $(ARGS)

mutants: $(INSTALLED) ## Make one bug after the other, and show which test catches it
	@$(RUN) tests.mutants $(ARGS)

openapi: $(INSTALLED) ## Renew deploy/openapi.json, what tools are made from
	@$(RUN) service openapi > deploy/openapi.json

lock: $(INSTALLED) ## Renew requirements/*.lock; ARGS=--upgrade takes newer versions
	@$(RUN) pip install --quiet uv==$(UV_VERSION)
	@PY="$(PY)" IMAGE_EXTRAS="$(IMAGE_EXTRAS)" requirements/compile $(ARGS)

clean: ## Remove the environment and everything made, but not .usa
	rm -rf "$(VENV)" .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache dist build

$(INSTALLED): pyproject.toml $(LOCK)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo 'Python 3.11 or later is needed: make PYTHON=python3.12' >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo 'The venv module is needed: apt install python3-venv' >&2; exit 1; }
	@test -x "$(PY)" || { echo 'Making $(VENV) ...'; $(PYTHON) -m venv "$(VENV)"; }
	@echo 'Installing $(LOCK), this once ...'
	@$(RUN) pip install --quiet --disable-pip-version-check --require-hashes -r $(LOCK)
	@$(RUN) pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch "$@"
