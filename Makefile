# Two commands matter: `make demo` and `make test`. Both make what they need, the virtual environment included.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --quiet --disable-pip-version-check
TORCH  ?= torch==2.13.0

# Tools of the environment (uv, smol) are found by name.
export PATH := $(abspath $(BIN)):$(PATH)

# What Go compiles is kept, and shared by checks, tests and the units that tests build: the flags are the same.
export GOCACHE     ?= $(abspath $(VENV))/go-build
export GOFLAGS     ?= -trimpath
export GOTOOLCHAIN ?= local
export CGO_ENABLED ?= 0

# Tests share nothing, and run side by side but for those that look at the whole machine. Those that start processes
# are two at a time on any machine: each has hosts and workers of its own.
TESTS     := $(BIN)/python -m pytest -q --dist worksteal
UNIT      := $(TESTS) -n auto -m 'not e2e and not slow and not conformance'
PROCESSES := $(TESTS) -n 2 -m '(e2e or slow) and not alone and not conformance'
ALONE     := $(TESTS) -m alone

.DEFAULT_GOAL := help
.PHONY: help demo test conformance check check-go unit e2e docs bench squeeze soak box clean dev
.PHONY: sandbox-report sandbox-fuzz sandbox-soak

help:            ## list the targets
	@grep -hE '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 24

demo: $(VENV)/.photos  ## start Smol, do the main job on real photos, show results and memory, stop
	@$(BIN)/python examples/demo.py $(VENV)/photos/skimage/data

test: dev        ## run every test
	@cd go && go test ./...
	@$(UNIT) --cov=smol --cov-report=term:skip-covered
	@$(PROCESSES)
	@$(ALONE)

conformance: dev ## run suites that others wrote against a Smol: clients, protocols, documents, accessibility
	@$(BIN)/python -m pytest -q -m conformance tests/conformance

unit: dev        ## run the fast tests
	@$(UNIT)

e2e: dev         ## run the tests that start processes
	@$(PROCESSES)
	@$(ALONE)

check: dev check-go ## lint, types, layers
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

check-go: dev
	@cd go && unformatted=$$("$$(go env GOROOT)/bin/gofmt" -l .) && test -z "$$unformatted" || { echo "run gofmt -w on $$unformatted"; exit 1; }
	@cd go && go vet ./...

docs: dev        ## regenerate the pages that follow from the code
	@$(BIN)/python docs/generate.py

bench: dev       ## measure, and compare with the bare work and with peers
	@$(BIN)/python -m benchmarks.run

squeeze: dev     ## a mixed load within ever smaller budgets, a minute for each
	@$(BIN)/python -m benchmarks.squeeze

soak: dev        ## the same for half an hour each, and 20,000 loads
	@$(BIN)/python -m benchmarks.squeeze --seconds 1800
	@$(BIN)/python -m benchmarks.memory cycles

box: dev         ## build dist/smol-box, one file that serves Smol
	@rm -rf build/box && mkdir -p build dist && cp -r go build/box
	@$(PIP) wheel --no-deps -w build/box/cmd/smol-box/payload .
	@cd build/box && go build -buildvcs=false -ldflags='-s -w' -o ../../dist/smol-box ./cmd/smol-box
	@ls -l dist/smol-box

sandbox-report: dev ## which hostile programs get out without each layer of the sandbox
	@nice $(BIN)/python -m tests.sandbox.report

sandbox-fuzz: dev ## a million mutated results of the sandbox
	@SMOL_FUZZ_CASES=1000000 nice $(BIN)/python -m pytest -q tests/unit/sandbox/test_claims.py

sandbox-soak: dev ## ten thousand sandboxed runs, after which nothing may be left
	@SMOL_SOAK_RUNS=10000 nice $(BIN)/python -m pytest -q --timeout 3600 tests/sandbox/test_soak.py

dev: $(VENV)/.dev

clean:           ## remove what the targets made
	rm -rf $(VENV) out build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.base: $(VENV)/bin/python pyproject.toml
	$(PIP) install -e .
	@touch $@

# Photographs to show: they come with scikit-image, of which nothing else is used.
$(VENV)/.photos: $(VENV)/.base
	$(PIP) install --no-deps --upgrade --target $(VENV)/photos 'scikit-image==0.26.*'
	@touch $@

# torch first and by itself: a CPU build satisfies what follows.
$(VENV)/.dev: $(VENV)/.base
	$(PIP) install '$(TORCH)'
	$(PIP) install -e '.[dev,torch]'
	@touch $@

-include training/Makefile.inc
