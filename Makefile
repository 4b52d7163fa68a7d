# Everything starts from a checkout and Python 3.11; each target installs what it needs.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV   := .venv
BIN    := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: help setup system demo test cluster-up cluster-down test-cluster test-engines soak conformance cluster-parts check format bench generate lock clean

help:            ## Show this list.
	@sed -n 's/^\([a-z-]*\): .*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

setup: $(VENV)/.ready   ## Make .venv with the locked dependencies and gpuyard itself.

$(VENV)/.ready: requirements/dev.txt pyproject.toml tools/install-system-packages
	tools/install-system-packages base
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements/dev.txt
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

system:          ## Install the Debian packages that the tests and examples use (needs root).
	tools/install-system-packages base torch registry images containers

demo: setup system    ## Start a yard with simulated GPUs and run examples 01 and 03.
	tools/demo

# Tests wait half of their time: two for each processor. What fails beside others is tried once more alone: a bug
# fails twice, a starved machine doesn't. What hangs is named with its stack and ended: every test takes less than
# ten minutes, on a cold machine too.
test: setup system    ## Run every test.
	$(BIN)/python -m pytest -n $$((2 * $$(nproc))) -o faulthandler_timeout=600 -o faulthandler_exit_on_timeout=true || \
	$(BIN)/python -m pytest --last-failed --last-failed-no-failures none

cluster-up: cluster-parts    ## Start a real Kubernetes of two nodes, and print how to reach it.
	@$(BIN)/python -m tests.cluster.harness up

cluster-down: setup    ## Stop it, and remove all that it made.
	@$(BIN)/python -m tests.cluster.harness down

# With its kubectl against a yard, too. KUBERNETES=1.35 takes the oldest version that is supported. On two clusters
# at a time, since most tests wait: one for what breaks nodes and installs, one for what shares an install.
test-cluster: cluster-parts    ## Run the tests that need a real Kubernetes, on the one that is up and one of their own.
	PATH="$$(tools/cluster/build):$$PATH" $(BIN)/python -m pytest -n 2 tests/kubectl
	$(BIN)/python -m pytest -n 2 -m cluster tests/cluster || \
	$(BIN)/python -m pytest -m cluster tests/cluster --last-failed --last-failed-no-failures none

ENGINES ?= $(notdir $(patsubst %/,%,$(wildcard tools/engines/*/)))
test-engines: cluster-parts    ## Run GPU workloads through Kueue, Argo Workflows and KEDA on a real Kubernetes.
	@nice tools/engines/build $(ENGINES) >/dev/null
	$(BIN)/python -m pytest -m engines $(ENGINES:%=tests/engines/test_%.py) || \
	$(BIN)/python -m pytest -m engines $(ENGINES:%=tests/engines/test_%.py) --last-failed --last-failed-no-failures none

soak: cluster-parts    ## The same, with what restarts and kills 50 times over.
	GPUYARD_TEST_REPEATS=50 $(BIN)/python -m pytest -m cluster tests/cluster

conformance: cluster-parts    ## Compare the yard with a real Kubernetes, and write docs/reference/conformance.md.
	$(BIN)/python -m tests.contract

cluster-parts: setup
	tools/install-system-packages cluster metrics
	@nice tools/cluster/build >/dev/null

check: setup     ## Format, lint, types, import contracts, generated files.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	tools/generate --check

format: setup    ## Format and fix what can be fixed.
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: setup     ## Measure, beside each peer, in the same run.
	$(BIN)/python -m bench

generate: setup  ## Write generated code again (gRPC stubs, API schema).
	tools/generate

lock: setup      ## Resolve the dependencies again, with hashes.
	for extra in run dev; do \
	  $(BIN)/uv pip compile --quiet --upgrade --generate-hashes --no-emit-index-url --no-emit-find-links \
	    --custom-compile-command "make lock" --python-version 3.11 \
	    $$([ $$extra = dev ] && echo --extra dev) pyproject.toml -o requirements/$$extra.txt; done

clean:           ## Remove what the targets above made.
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
