# The one door. `make` checks and tests everything; Python 3.11, pip and make are all it needs.

PYTHON ?= $(shell command -v python3.11 || echo python3)
VENV := .venv
GEN_VENV := .venv-gen
LOCK_VENV := .venv-lock
BIN := $(VENV)/bin
UV_VERSION := 0.13.8
FILE ?=

.DEFAULT_GOAL := all
CHECKS := check-ruff check-format check-types check-imports check-buf check-stubs check-sync \
	check-comments check-lengths check-docker check-api-docs check-docs \
	check-cli-docs check-acceptance check-audit
.PHONY: all help setup gen check $(CHECKS) test pytest test-adapters demo bench faults image smoke-image lock clean

all: test ## check and test everything

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-16s %s\n", $$1, $$2 }' Makefile

# --- environments: made once, made again when a lock or pyproject.toml changes -----------------

setup: $(VENV)/.ready $(GEN_VENV)/.ready ## make both virtual environments

$(VENV)/.ready: requirements.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	touch $@

$(GEN_VENV)/.ready: requirements-gen.lock
	test -x $(GEN_VENV)/bin/python || $(PYTHON) -m venv $(GEN_VENV)
	$(GEN_VENV)/bin/python -m pip install --quiet --require-hashes -r requirements-gen.lock
	touch $@

# Universal locks: one file serves every platform. uv is needed here and nowhere else.
lock: ## resolve the dependencies again and write the locks (LOCK_FLAGS=--upgrade for newest)
	test -x $(LOCK_VENV)/bin/uv || { $(PYTHON) -m venv $(LOCK_VENV) && \
		$(LOCK_VENV)/bin/python -m pip install --quiet uv==$(UV_VERSION); }
	$(COMPILE) pyproject.toml --extra dev -o requirements.lock
	$(COMPILE) --group gen -o requirements-gen.lock
	$(COMPILE) --group build --constraints requirements.lock -o requirements-build.lock
	$(COMPILE) pyproject.toml --extra server --extra cli --extra postgres --constraints requirements.lock \
		-o requirements-server.lock
	$(COMPILE) bench/peers.in -o requirements-bench-peers.lock

LOCK_FLAGS ?=
COMPILE = $(LOCK_VENV)/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
	--no-emit-index-url --no-emit-find-links $(LOCK_FLAGS)

# --- generated code ----------------------------------------------------------------------------

gen: setup ## generate the stubs, the contract's surface, its reference and the sync client
	$(GEN_VENV)/bin/python -m tools.gen
	$(GEN_VENV)/bin/python -m tools.gen_api_docs
	$(BIN)/python -m tools.gen_sync
	$(BIN)/python -m tools.gen_docs
	$(BIN)/python -m tools.gen_cli_docs
	$(BIN)/python -m tools.gen_acceptance

# --- checks: each can be run alone; `make -j2 check` runs them side by side ----------------------

check: $(CHECKS) ## every check that needs no running server

check-ruff: setup
	$(BIN)/ruff check

check-format: setup
	$(BIN)/ruff format --check

check-types: setup
	$(BIN)/mypy

check-imports: setup
	$(BIN)/lint-imports --no-logo

check-buf: setup
	$(BIN)/buf lint
	$(BIN)/buf format --path protos/sojourn -d --exit-code

check-stubs: setup
	$(GEN_VENV)/bin/python -m tools.gen --check

check-api-docs: setup
	$(GEN_VENV)/bin/python -m tools.gen_api_docs --check

check-docs: setup
	$(BIN)/python -m tools.gen_docs --check

check-cli-docs: setup
	$(BIN)/python -m tools.gen_cli_docs --check

check-acceptance: setup
	$(BIN)/python -m tools.gen_acceptance --check

check-sync: setup
	$(BIN)/python -m tools.gen_sync --check

check-comments: setup
	$(GEN_VENV)/bin/python -m tools.lint_comments

check-lengths: setup
	$(BIN)/python -m tools.check_lengths

check-docker: setup
	$(BIN)/hadolint Dockerfile

check-audit: setup
	$(BIN)/python -m tools.audit

# --- tests -------------------------------------------------------------------------------------

test: setup ## all checks, two at a time, then all tests
	$(MAKE) --no-print-directory -j2 check
	$(MAKE) --no-print-directory pytest

# One process more than there are processors; a file's tests stay together and share its servers,
# and the longest files begin first. PYTEST_JOBS=0 runs them one after the other.
PYTEST_JOBS ?= auto

pytest: setup ## the tests alone (PYTEST_ARGS="tests/unit -x" PYTEST_JOBS=0)
	$(BIN)/python -m pytest -n $(PYTEST_JOBS) --maxprocesses 4 --dist loadfile --no-loadscope-reorder \
		$(PYTEST_ARGS)

test-adapters: setup ## each adapter's tests with its own extra alone (ADAPTERS="adk claude")
	$(BIN)/python -m tools.adapters $(ADAPTERS)

# FAULTS_ARGS="kills=500 cuts=10" takes these counts and the small ones for the rest.
FAULTS_ARGS ?= full

faults: setup ## the tests that break things, at length (FAULTS_ARGS="kills=500 full")
	SOJOURN_FAULTS="$(FAULTS_ARGS)" $(BIN)/python -m pytest tests/faults tests/cluster tests/fuzz tests/watch \
		tests/abuse tests/service/test_log.py tests/store/conformance/test_model.py \
		$(PYTEST_ARGS)

bench: setup ## measure (BENCH_ARGS="--quick --only echo get --out DIR --picture --profile get")
	$(BIN)/python -m bench $(BENCH_ARGS)

# ENGINE=, BASE= and BUILD_FLAGS= suit the machine: which engine, a mirror's base, a proxy.
IMAGE ?= sojourn:dev
ENGINE ?=
BASE ?=
BUILD_FLAGS ?=

image: ## build the image with docker, podman or buildah (IMAGE=name ENGINE=podman)
	$(PYTHON) -m tools.image --engine "$(ENGINE)" --name "$(IMAGE)" --base "$(BASE)" $(BUILD_FLAGS)

smoke-image: setup image ## build the image, run it, and try what its users rely on
	SOJOURN_IMAGE="$(IMAGE)" SOJOURN_ENGINE="$(ENGINE)" \
		$(BIN)/python -m pytest tests/image $(PYTEST_ARGS)

demo: setup ## play recorded sessions against a server (FILE=sessions.jsonl)
	$(BIN)/python -m tools.demo $(FILE)

clean: ## remove everything that make has made
	rm -rf $(VENV) $(GEN_VENV) $(LOCK_VENV) .venv-bench .venv-adapters bench-results build dist \
		.mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
