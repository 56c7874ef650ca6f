# All developer tasks, from a fresh clone with only Python 3.11–3.14 and make: `make` lists them.

VENV := .venv
BIN := $(VENV)/bin
LOCAL := $(VENV)/.local-installed
DEV := $(VENV)/.dev-installed
NODE := $(VENV)/.node-installed

# The Python of the environment; `make PYTHON=python3.12 run` selects another.
PYTHON ?=
CANDIDATES := $(or $(PYTHON),python3 python3.14 python3.13 python3.12 python3.11)
IS_SUPPORTED := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))
# A complete lock needs no resolver; a resolver would reject it once a newer release of a package is available.
LOCKED = --no-deps --require-hashes
PIP_INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check
UV_INSTALL = $(BIN)/uv pip install --quiet --python $(BIN)/python

# Tests often wait for other processes: on two cores, four at once take five sixths of the time of three.
PROCESSES = $(shell $(BIN)/python -c 'import os; print(2 + (os.cpu_count() or 1))')
# Tests are handed out singly: with whole files, one worker ends long after the others.
PYTEST = $(BIN)/pytest -n $(PROCESSES)

LINTERS = $(VENV)/node/node_modules/.bin
# Otherwise every start would compile all of src again.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help run test coverage faults mutants mutation drill-restore drill-migrations drill-failover drill-rotation drill-soak drill-alerts fuzz sqlmap timing abuse streams bench growth search imports exports messages screenshots lint format lock schema rules drill-image openapi sbom node drill-kills drill-replica drill-clocks clean

help:
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' Makefile

run: $(LOCAL)  ## start the service, its database and a billing sandbox on this machine; Ctrl-C stops them
	@$(BIN)/provider-registration run

test: $(DEV) $(NODE)  ## run the tests; ARGS="-k approve" passes options to pytest
	$(PYTEST) $(ARGS)

coverage: $(DEV) $(NODE)  ## run the tests, more slowly, and report the lines and branches that they do not run
	$(PYTEST) --cov --cov-report=term $(ARGS)

faults: $(DEV)  ## kill processes and cut connections for MINUTES, and check that each approval creates one provider; also SEED, ONLY
	$(BIN)/python -m tests.programs.faults.run $(if $(MINUTES),--minutes $(MINUTES)) $(if $(SEED),--seed $(SEED)) \
		$(if $(ONLY),--only "$(ONLY)")

mutants: $(DEV)  ## put each known fault into a copy of the source, and check that its tests fail; ONLY selects
	$(BIN)/python -m tests.programs.mutants.run $(if $(ONLY),--only "$(ONLY)")

mutation: $(DEV)  ## make 400 changes in the source, chosen by SEED, and check that tests fail; ARGS="--minutes 30"
	$(BIN)/python -m tests.programs.mutation.run $(if $(SEED),--seed $(SEED)) $(ARGS)

drill-restore: $(DEV)  ## destroy a database of 1,000,000 rows under traffic and restore it; ARGS="--rows 10000"
	$(BIN)/python -m tests.programs.drills.restore $(ARGS)

drill-migrations: $(DEV)  ## upgrade and roll back a release under traffic, with 1,000,000 rows; ARGS="--rows 10000"
	$(BIN)/python -m tests.programs.drills.migrations $(ARGS)

drill-failover: $(DEV)  ## kill the primary of a Patroni cluster 20 times under traffic; ARGS="--kills 3"
	$(BIN)/python -m tests.programs.drills.failover $(ARGS)

drill-rotation: $(DEV)  ## change the signing key, the serving role and users, under traffic
	$(BIN)/python -m tests.programs.drills.rotation $(ARGS)

drill-kills: $(DEV)  ## kill a migration of 200,000 rows at every step, under traffic; ARGS="--rows 1000 --kills 1"
	$(BIN)/python -m tests.programs.drills.killed_migrations $(ARGS)

drill-replica: $(DEV)  ## delay, hang and kill the read replica, under traffic; ARGS="--seconds 3"
	$(BIN)/python -m tests.programs.drills.replica_lag $(ARGS)

drill-clocks: $(DEV)  ## set clocks ten minutes ahead and back, under traffic; ARGS="--seconds 2"
	$(BIN)/python -m tests.programs.drills.clocks $(ARGS)

drill-soak: $(DEV)  ## measure memory and file handles under traffic for an hour; ARGS="--minutes 10"
	$(BIN)/python -m tests.programs.drills.soak $(ARGS)

drill-alerts: $(DEV)  ## cause the faults that alerts report, and check that each alert starts and ends, in 17 minutes
	$(BIN)/python -m tests.programs.drills.alerts $(ARGS)

drill-image: $(DEV)  ## build the image as root without an image registry, and start it read-only as its own user
	$(BIN)/python -m tests.programs.drills.image $(ARGS)

fuzz: $(DEV)  ## send 20,000 requests generated from the OpenAPI document, or CASES; SEED repeats a run
	$(BIN)/python -m tests.programs.fuzzing.fuzz $(if $(CASES),--cases $(CASES)) $(if $(SEED),--seed $(SEED))

sqlmap: $(DEV)  ## run sqlmap, which must be installed, against every parameter for MINUTES; ONLY and LEVEL select
	$(BIN)/python -m tests.programs.fuzzing.sqlmap $(if $(MINUTES),--minutes $(MINUTES)) $(if $(LEVEL),--level $(LEVEL)) \
		$(if $(ONLY),--only "$(ONLY)")

timing: $(DEV)  ## measure whether sign-in times reveal which users exist, and whether sign-ins delay probes; TRIES of each
	$(BIN)/python -m tests.programs.timing.run $(if $(TRIES),--tries $(TRIES))

abuse: $(DEV)  ## attack the service as any client could, and measure the effect on others; ARGS="--quick --way directly"
	$(BIN)/python -m tests.programs.abuse.run $(ARGS)

streams: $(DEV)  ## follow the feed with 1,000 clients of one process, and while 200 write; ARGS="--streams 100"
	$(BIN)/python -m tests.programs.streams.run $(ARGS)

bench: $(DEV)  ## compare this service with others that do the same, for 80 minutes; ARGS="--quick" takes 12
	$(BIN)/python -m benchmarks $(ARGS)

growth: $(DEV)  ## measure the cost of statements in tables of up to 10,000,000 rows; ARGS="--sizes 100000,1000000"
	$(BIN)/python -m benchmarks.growth $(ARGS)

search: $(DEV)  ## measure searches among 1,000,000 companies, and whether they find the right one
	$(BIN)/python -m benchmarks.search $(ARGS)

imports: $(DEV)  ## measure imports of files of 100,000 companies, and how the service responds meanwhile
	$(BIN)/python -m benchmarks.imports $(ARGS)

exports: $(DEV)  ## measure exports of 1,000,000 candidates, and how the service responds meanwhile; ARGS="--rows 10000"
	$(BIN)/python -m benchmarks.exports $(ARGS)

messages: $(DEV)  ## update the translations from the source; TAG=fr starts a French one
	$(BIN)/python -m tests.messages $(TAG)

screenshots: $(DEV)  ## write a picture of every page, light, dark and narrow, into screenshots/; needs Chromium
	@mkdir -p screenshots
	SCREENSHOTS=screenshots $(BIN)/pytest -q -p no:randomly tests/console -k is_accessible

lint: $(DEV) $(NODE)  ## check format, style, types, imports, dependencies, locks, migrations and the OpenAPI document
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/deptry src
	$(BIN)/python -m tests.installation.locks
	$(BIN)/alembic upgrade 002_add_rejection_reason:head --sql > $(VENV)/migrations.sql
	$(BIN)/squawk $(VENV)/migrations.sql
	$(BIN)/python -m tests.clients.changes
	@if [ -d $(VENV)/node/node_modules ]; then set -x; \
		REDOCLY_TELEMETRY=off $(LINTERS)/redocly lint tests/clients/openapi.json --config tests/clients/redocly.yaml && \
		$(LINTERS)/spectral lint tests/clients/openapi.json --ruleset tests/clients/spectral.yaml --fail-severity hint; fi

format: $(DEV)  ## rewrite the code in the project's format
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

# Resolve the most inclusive file first; the others use its versions.
LOCK = $(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --no-emit-index-url --no-emit-find-links \
	--python-version 3.11 $(LOCK_FLAGS)
SAME = --constraint requirements/dev.txt
lock: $(DEV)  ## rewrite requirements/*.txt from pyproject.toml; LOCK_FLAGS=--upgrade uses the newest versions
	$(LOCK) pyproject.toml --extra local --extra graphql --extra nats --extra tracing --group build --group dev --output-file requirements/dev.txt
	$(LOCK) pyproject.toml $(SAME) --extra local --extra graphql --group build --output-file requirements/local.txt
	$(LOCK) pyproject.toml $(SAME) --output-file requirements/runtime.txt
	$(LOCK) pyproject.toml $(SAME) --extra graphql --output-file requirements/graphql.txt
	$(LOCK) pyproject.toml $(SAME) --extra nats --output-file requirements/nats.txt
	$(LOCK) pyproject.toml $(SAME) --extra tracing --output-file requirements/tracing.txt
	$(LOCK) $(SAME) --group install --output-file requirements/install.txt

schema: $(DEV)  ## rewrite schema.sql from the migrations
	$(BIN)/python tests/schema_dump.py > schema.sql

rules: $(DEV)  ## write the PrometheusRule for Kubernetes from the rules of deploy/prometheus
	$(BIN)/python tests/prometheus_rule.py > deploy/kubernetes/overlays/with-prometheus-operator/prometheusrule.yaml

openapi: $(DEV)  ## write the OpenAPI document that is committed; ARGS=--release also as that of the last release
	$(BIN)/python -m tests.clients.document $(ARGS)
	$(BIN)/python -m tests.clients.changes

sbom: $(DEV)  ## write sbom.json, which lists the image's Python packages (CycloneDX)
	$(BIN)/python tests/sbom.py > sbom.json

clean:  ## remove the environment and caches, but not .local
	rm -rf $(VENV) .coverage* .mutation_cache .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache htmlcov src/*.egg-info
	find src tests benchmarks alembic -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@for python in $(CANDIDATES); do \
		$$python -c '$(IS_SUPPORTED)' 2>/dev/null || continue; \
		if $$python -c 'import ensurepip, venv' 2>/dev/null; then exec $$python -m venv --clear $(VENV); fi; \
		incomplete="$${incomplete:-$$python}"; \
	done; \
	if [ -n "$$incomplete" ]; then \
		echo "$$incomplete cannot create virtual environments: install its venv module (Debian, Ubuntu: apt install python3-venv) or select another with PYTHON=…" >&2; \
	else \
		echo "None of these is Python 3.11, 3.12, 3.13 or 3.14: $(CANDIDATES). Install one, or select it: make PYTHON=/path/to/python3.12 run" >&2; \
	fi; \
	exit 1

# $(call install,requirements file): with uv, in seconds, or with pip if there is no uv wheel. pip is missing if creating
# the environment was interrupted.
define install
@echo "Installing $(1) into $(VENV) …"
@$(BIN)/python -c 'import pip' 2>/dev/null || $(BIN)/python -m ensurepip >/dev/null
@if $(PIP_INSTALL) $(LOCKED) --only-binary :all: --requirement requirements/install.txt; \
	then install='$(UV_INSTALL)'; else install='$(PIP_INSTALL)'; fi; \
	$$install $(LOCKED) --requirement $(1) && $$install --no-deps --no-build-isolation --editable .
endef

$(LOCAL): $(BIN)/python requirements/install.txt requirements/local.txt pyproject.toml
	$(call install,requirements/local.txt)
	@touch $@

$(DEV): $(BIN)/python requirements/install.txt requirements/dev.txt pyproject.toml
	$(call install,requirements/dev.txt)
	@touch $(LOCAL) $@

node: $(NODE)

# Without npm, tests of generated clients are skipped, and lint leaves out Redocly and Spectral.
$(NODE): $(BIN)/python tests/clients/package.json tests/clients/package-lock.json tests/clients/.npmrc
	@if command -v npm >/dev/null; then \
		echo "Installing tests/clients/package.json into $(VENV)/node …"; \
		mkdir -p $(VENV)/node && cp tests/clients/package.json tests/clients/package-lock.json tests/clients/.npmrc $(VENV)/node && \
		npm ci --prefix $(VENV)/node --ignore-scripts --no-audit --no-fund --loglevel=error && touch $@; \
	else \
		echo "npm is missing: generated clients are not tested, and Redocly and Spectral do not run (Debian: apt install nodejs npm)" >&2; \
	fi
