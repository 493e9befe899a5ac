# The two-command front: `make demo` and `make test` build the environment themselves.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

BIN := .venv/bin
PY := $(BIN)/python
# Two workers on two cores; more cores help little, since the broker and the crash tests take their share.
WORKERS ?= $(shell n=$$(nproc 2>/dev/null || getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2); echo $$((n < 2 ? 1 : n > 4 ? 4 : n)))
PYTEST := $(PY) -m pytest
PARALLEL := -n $(WORKERS) --dist worksteal
SOURCES := $(wildcard ledger ingest detections dashboard issuer notebooks decision_ledger.py docs/generate.py docs/screenshots.py tests .ci/audit.py .ci/bom.py)
DEMO_ARGS ?=

.PHONY: help setup demo test coverage check lint types layers audit sbom bench bench-parts spark faults faults-tests docs screenshots format lock clean ci-deps

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

setup: ## build .venv from the lock (quick when nothing changed)
	@bash .ci/setup

demo: setup ## the whole product on an embedded default: no broker, no Docker
	@$(BIN)/decision-ledger demo $(DEMO_ARGS)

test: setup ## unit, property, fault and end-to-end tests, with a real Apache Kafka where one can be had
	$(PYTEST) $(PARALLEL) $(ARGS)

coverage: setup ## the tests but the end-to-end ones, measured, with a floor
	rm -f .coverage .coverage.*
	$(PY) -m coverage run -m pytest $(PARALLEL) tests/unit tests/property tests/bad_inputs tests/faults $(ARGS)
	$(PY) -m coverage combine --quiet
	$(PY) -m coverage report

check: lint types layers audit ## lint, types, layers, audit

lint: setup ## ruff: rules and format
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)

types: setup ## mypy --strict
	$(BIN)/mypy $(filter-out notebooks,$(SOURCES))

layers: setup ## who may import whom, and the pure modules
	$(BIN)/lint-imports --no-logo

audit: setup ## known vulnerabilities among the locked packages
	$(PY) .ci/audit.py

sbom: setup ## what the product is made of: build/sbom.cdx.json (CycloneDX) and build/licences.md
	$(PY) .ci/bom.py build

bench: setup .venv/.spark-stamp ## speed, as ratios to peers on this machine (fetches Spark); ONLY=… for some, resumable
	PYTHONPATH=. $(PY) -m tests.benchmarks $(ONLY)
	PYTHONPATH=. $(PY) docs/generate.py

bench-parts: setup ## speed of single parts: PART=tests/benchmarks/test_start.py for one of them
	$(PYTEST) -p no:xdist -p no:cacheprovider --timeout=0 -s $(or $(PART),tests/benchmarks) $(ARGS)
	PYTHONPATH=. $(PY) docs/generate.py

.venv/.spark-stamp: requirements-spark.lock .venv/.setup-stamp
	@uv=$$([ -x .uv/bin/uv ] && echo .uv/bin/uv || command -v uv); UV_SYSTEM_CERTS=1 "$$uv" pip install --quiet \
	    --python $(PY) --require-hashes --build-constraints requirements-spark.lock -r requirements-spark.lock
	@touch $@

spark: setup .venv/.spark-stamp ## our SQL on Apache Spark: every rule, construct and metric (fetches it; needs Java)
	$(PYTEST) -p no:xdist --timeout=600 tests/spark $(ARGS)

faults: setup ## faults in the thousands, counted in docs/reliability.md (NAMES=… for some); resumable, hours
	PYTHONPATH=. $(PY) -m tests.reliability $(NAMES)
	PYTHONPATH=. $(PY) docs/generate.py

faults-tests: setup ## the long form of the crash, property and end-to-end tests
	DECISION_LEDGER_TEST_SCALE=full $(PYTEST) --timeout=0 $(PARALLEL) tests/faults tests/property tests/e2e $(ARGS)

docs: setup ## the generated pages
	$(PY) -m ledger.events > docs/event-schema.json.tmp
	mv docs/event-schema.json.tmp docs/event-schema.json
	PYTHONPATH=. $(PY) docs/generate.py

screenshots: setup ## pictures of the dashboard for docs/ (needs Chromium)
	PYTHONPATH=. $(PY) docs/screenshots.py

format: setup ## let ruff put the sources in order
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

lock: setup ## write the locks anew (UPGRADE=1 takes the newest versions)
	@bash .ci/lock

ci-deps: ## what CI adds on Debian: the system Chromium; nothing elsewhere
	@if command -v chromium >/dev/null 2>&1; then echo "ci-deps: chromium is there"; \
	elif ! command -v apt-get >/dev/null 2>&1; then echo "ci-deps: no apt-get here, nothing to do"; \
	elif [ "$$(id -u)" -ne 0 ]; then echo "ci-deps: run as root: apt-get install chromium"; \
	else apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium; fi

clean: ## remove what was built: environment, caches, reports; no ledger is touched
	rm -rf .venv .uv .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage .coverage.* build dist *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
