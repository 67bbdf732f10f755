# The commands of the project; `make` without a target lists them.
# Requirements: Python 3.11 or 3.12, Node 20 or newer, and make. Everything else is installed in
# .venv, local/node_modules and .state.

MAKEFLAGS += --no-print-directory --no-builtin-rules
.DEFAULT_GOAL := help
.SUFFIXES:

IS_SUPPORTED := import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))
PYTHON ?= $(shell for python in python3.11 python3.12 python3; do $$python -c '$(IS_SUPPORTED)' 2>/dev/null && echo $$python && break; done)
PY := .venv/bin/python
PYTEST := $(PY) -m pytest -q
CODE := $(wildcard function_app.py triggers orchestrations activities shared ncrontab local cli bench infra tests)
COMPILE := CUSTOM_COMPILE_COMMAND='make lock' $(PY) -m piptools compile --quiet --strip-extras --no-annotate --generate-hashes --allow-unsafe \
	--no-emit-index-url --no-emit-find-links --no-emit-trusted-host

.PHONY: help setup demo run doctor test test-long test-unit test-host test-integration check fmt docs bench year bench-copy lock \
	package run-package sbom audit demo-picture clean

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-18s %s\n", $$1, $$2}' Makefile

setup: .venv/.installed .state/worker/.installed local/node_modules/.package-lock.json ## install the dependencies that are missing
	@:

demo: setup ## land all four datasets from a simulator on this machine and verify them; less than a minute
	@$(PY) -m local.demo

run: setup ## run storage emulator, simulator and local Functions host until Ctrl-C
	@$(PY) -m local.stack $(if $(FAULTS),--faults $(FAULTS))

doctor: setup ## check the configuration in the environment, or of the local stack
	@$(PY) -m local.preflight

test: setup check ## run everything that CI runs: check, then all tests in two processes
	@$(PYTEST) --numprocesses 2 --dist loadfile

test-long: setup ## run the long fault-injection and property-based tests; before a release
	@$(PYTEST) -m long -s

test-unit: setup ## run the tests that start no process and use no network
	@$(PYTEST) tests/unit

test-host: setup ## run the tests of the local host and of the orchestrations
	@$(PYTEST) $(wildcard tests/durable tests/host)

test-integration: setup ## run the tests that use the SDKs with storage emulator and simulator
	@$(PYTEST) tests/integration

check: setup ## check style, format, types and the imports between packages
	@$(PY) -m ruff check --quiet $(CODE)
	@$(PY) -m ruff format --quiet --check $(CODE)
	@$(PY) -m mypy --no-error-summary
	@mkdir -p .state && .venv/bin/lint-imports --no-cache > .state/imports.txt 2>&1 || { cat .state/imports.txt; exit 1; }
	@echo "check: no problems found"

fmt: setup ## format the code and fix what ruff can fix
	@$(PY) -m ruff check --quiet --fix $(CODE)
	@$(PY) -m ruff format --quiet $(CODE)

docs: setup ## generate the documents that come from code: error codes, OpenAPI
	@$(PY) -m local.documents

bench: setup ## measure the speed of copies, cycles and replays
	@$(PY) -m bench

bench-copy: setup ## compare the copy engine with rclone, AzCopy and curl, and copy 10,000 blobs; up to an hour
	@$(PY) -m bench.copy_speed; speed=$$?; $(PY) -m bench.copy_memory; memory=$$?; $(PY) -m bench.scale 1000 10000 16384 1; \
		test $$speed$$memory$$? = 000

year: setup ## simulate a year with three currencies and print months by datasets
	@$(PY) -m bench.year

lock: setup ## pin the dependencies of pyproject.toml; UPGRADE=1 also updates existing pins
	@$(COMPILE) $(if $(UPGRADE),--upgrade) --output-file requirements.txt pyproject.toml
	@$(COMPILE) $(if $(UPGRADE),--upgrade) --extra dev --constraint requirements.txt --output-file requirements-dev.txt pyproject.toml

package: setup ## build the deployment package, dist/partner-billing-export.zip; requires a package index
	@$(PY) -m local.package

run-package: package ## run the demo with the app from the deployment package
	@$(PY) -m local.package unpack .state/package/app
	@$(PY) -m local.demo --app-root .state/package/app --state-dir .state/package/demo

sbom: package ## write the CycloneDX bill of materials of the deployment package
	@$(PY) -m local.supply_chain sbom

audit: setup ## look up known vulnerabilities of all deployed packages; requires network access
	@$(PY) -m local.supply_chain audit

demo-picture: setup ## record the demo for the README: docs/images/demo.svg
	@$(PY) -m local.record_demo

clean: ## remove everything that can be built again, and the state of `make run`
	@rm -rf .venv local/node_modules .state .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis dist
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Each stamp file is written last, so that an interrupted installation is repeated.

.venv/.installed: requirements-dev.txt cli/pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or 3.12 is required. Install it, or run make PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -c '$(IS_SUPPORTED)' 2>/dev/null || { echo "$(PYTHON) is not Python 3.11 or 3.12. Install one of these, or run make PYTHON=/path/to/python3.11"; exit 1; }
	@$(PY) -c '$(IS_SUPPORTED)' 2>/dev/null || { echo "setup: creating .venv with $(PYTHON)"; $(PYTHON) -m venv --clear .venv; }
	@echo "setup: installing requirements-dev.txt (the first time takes a few minutes)"
	@$(PY) -m pip install -qq --disable-pip-version-check --requirement requirements-dev.txt
	@$(PY) -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation --editable ./cli
	@touch $@

.state/worker/.installed: local/requirements-worker.txt | .venv/.installed
	@echo "setup: installing Microsoft's Functions worker for the tests of the local host"
	@rm -rf .state/worker
	@$(PY) -m pip install -qq --disable-pip-version-check --no-deps --ignore-requires-python --require-hashes \
		--target .state/worker --requirement local/requirements-worker.txt
	@touch $@

local/node_modules/.package-lock.json: local/package-lock.json
	@node --version 2>/dev/null | awk -F '[v.]' '{major = $$2} END {exit !(major >= 20)}' || \
		{ echo "The storage emulator requires Node 20 or newer. Install it; \`node --version\` must print v20 or newer"; exit 1; }
	@echo "setup: installing the storage emulator"
	@npm ci --prefix local --no-audit --no-fund --loglevel=error > /dev/null
	@touch $@
