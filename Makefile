# One command for everything that is done here. `make` alone says which there are.
# Needs Python 3.11 or 3.12, Node 20 or newer and make; all else is installed below .venv and node_modules.

MAKEFLAGS += --no-print-directory --no-builtin-rules
.DEFAULT_GOAL := help
.SUFFIXES:

SUITED := import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))
PYTHON ?= $(shell for python in python3.11 python3.12 python3; do $$python -c '$(SUITED)' 2>/dev/null && echo $$python && break; done)
PY := .venv/bin/python
PYTEST := $(PY) -m pytest -q
CODE := $(wildcard function_app.py triggers orchestrations activities shared local cli bench infra tests)
COMPILE := CUSTOM_COMPILE_COMMAND='make lock' $(PY) -m piptools compile --quiet --strip-extras --no-annotate --generate-hashes --allow-unsafe \
	--no-emit-index-url --no-emit-find-links --no-emit-trusted-host

.PHONY: help setup demo run doctor test test-long test-unit test-host test-integration check fmt docs bench year bench-copy lock \
	package run-package sbom audit demo-picture clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-18s %s\n", $$1, $$2}' Makefile

setup: .venv/.installed .state/worker/.installed node_modules/.package-lock.json ## install what is missing; a second time it does nothing
	@:

demo: setup ## land all four datasets on this machine, against a simulated Microsoft, and prove it; under a minute
	@$(PY) -m local.demo

run: setup ## the same stack, kept up until Ctrl-C: storage emulator, simulator, local Functions host
	@$(PY) -m local.stack $(if $(FAULTS),--faults $(FAULTS))

doctor: setup ## whether everything is set up right: of the settings in the environment, else of the local stack
	@$(PY) -m local.preflight

test: setup check ## everything that CI runs: check, then all tests, two side by side
	@$(PYTEST) --numprocesses 2 --dist loadfile

test-long: setup ## storms of kills and thousands of random plans; before a release
	@$(PYTEST) -m long -s

test-unit: setup ## only the tests without any process or network
	@$(PYTEST) tests/unit

test-host: setup ## only the local host and the orchestrations on virtual time
	@$(PYTEST) $(wildcard tests/durable tests/host)

test-integration: setup ## only the real SDKs against storage emulator and simulator
	@$(PYTEST) tests/integration

check: setup ## style, types and the arrows between the folders
	@$(PY) -m ruff check --quiet $(CODE)
	@$(PY) -m ruff format --quiet --check $(CODE)
	@$(PY) -m mypy --no-error-summary
	@mkdir -p .state && .venv/bin/lint-imports --no-cache > .state/imports.txt 2>&1 || { cat .state/imports.txt; exit 1; }
	@echo "check: style, types and imports are in order"

fmt: setup ## format the code and fix what ruff can fix
	@$(PY) -m ruff check --quiet --fix $(CODE)
	@$(PY) -m ruff format --quiet $(CODE)

docs: setup ## write the documents that are made from code: error codes, OpenAPI
	@$(PY) -m local.documents

bench: setup ## how fast it copies and replays
	@test -d bench || { echo "There are no benchmarks yet."; exit 1; }
	@$(PY) -m bench

bench-copy: setup ## the copy engine beside rclone, AzCopy and curl; and 10,000 blobs through the whole app; an hour or less
	@$(PY) -m bench.copy_speed; speed=$$?; $(PY) -m bench.copy_memory; memory=$$?; $(PY) -m bench.scale 1000 10000 16384 1; \
		test $$speed$$memory$$? = 000

year: setup ## a year of three currencies on virtual time, as a grid of months and datasets
	@$(PY) -m bench.year

lock: setup ## pin the newest versions that pyproject.toml allows; UPGRADE=1 moves pins that hold already
	@$(COMPILE) $(if $(UPGRADE),--upgrade) --output-file requirements.txt pyproject.toml
	@$(COMPILE) $(if $(UPGRADE),--upgrade) --extra dev --constraint requirements.txt --output-file requirements-dev.txt pyproject.toml

package: setup ## the zip that is deployed, dependencies included: dist/partner-billing-export.zip; needs a package index
	@$(PY) -m local.package

run-package: package ## unpack that zip and land all four datasets with it, as `make demo` does with this checkout
	@$(PY) -m local.package unpack .state/package/app
	@$(PY) -m local.demo --app-root .state/package/app --state-dir .state/package/demo

sbom: package ## what that zip is made of, as CycloneDX: dist/partner-billing-export.cdx.json
	@$(PY) -m local.supply_chain sbom

audit: setup ## ask PyPI's vulnerability database about every package that is deployed; needs the network
	@$(PY) -m local.supply_chain audit

demo-picture: setup ## film a real demo for the first page: docs/images/demo.svg
	@$(PY) -m local.record_demo

clean: ## remove everything that can be made again, and the state of `make run`
	@rm -rf .venv node_modules .state .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis dist
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp is written last, so that an interrupted set-up is done again.

.venv/.installed: requirements-dev.txt cli/pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or 3.12 is needed: install it, or name it with make PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -c '$(SUITED)' 2>/dev/null || { echo "$(PYTHON) is not Python 3.11 or 3.12: install one of these, or name it with make PYTHON=..."; exit 1; }
	@$(PY) -c '$(SUITED)' 2>/dev/null || { echo "setup: making .venv with $(PYTHON)"; $(PYTHON) -m venv --clear .venv; }
	@echo "setup: installing the Python packages of requirements-dev.txt (a few minutes the first time)"
	@$(PY) -m pip install -qq --disable-pip-version-check --requirement requirements-dev.txt
	@$(PY) -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation --editable ./cli
	@touch $@

.state/worker/.installed: requirements-worker.txt | .venv/.installed
	@echo "setup: installing Microsoft's worker code, which one test compares the local host with"
	@rm -rf .state/worker
	@$(PY) -m pip install -qq --disable-pip-version-check --no-deps --ignore-requires-python --require-hashes \
		--target .state/worker --requirement requirements-worker.txt
	@touch $@

node_modules/.package-lock.json: package-lock.json
	@node --version 2>/dev/null | awk -F '[v.]' '{found = $$2} END {exit !(found >= 20)}' || \
		{ echo "Node 20 or newer is needed for the storage emulator: install it, so that \`node --version\` says so"; exit 1; }
	@echo "setup: installing the storage emulator"
	@npm ci --no-audit --no-fund --loglevel=error > /dev/null
	@touch $@
