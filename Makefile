PYTHON ?= python3
BIN := .venv/bin
# Reproducible versions. `make test CONSTRAINTS=` takes the newest that pyproject.toml allows.
CONSTRAINTS ?= constraints-newest.txt
# Under other JAX versions than this Python's newest, what depends on JAX and not on the platform.
CONTRACTS := tests/test_contracts.py tests/test_alike.py tests/test_flax.py tests/test_kernels.py tests/test_sums.py tests/test_backends.py tests/test_native_loading.py
# A Python whose newest JAX is the newest of all: 3.12 or later, on the path or pyenv's.
NEWER := $(firstword $(shell for v in 3.14 3.13 3.12; do command -v python$$v; \
    for root in "$${PYENV_ROOT:-$$HOME/.pyenv}" "$$(dirname "$$(dirname "$$(command -v python3)")")"; do \
    ls -d "$$root"/versions/$$v*/bin/python 2>/dev/null; done; done | \
    while read p; do "$$p" -c 'import ssl' 2>/dev/null && echo "$$p"; done))
# A file's tests follow each other in one process, which then compiles what they share once.
PYTEST_ARGS ?= -n auto --dist worksteal
PYTEST := ADAMX_QUICK=1 $(BIN)/python -m pytest --nbmake --nbmake-timeout=600 $(PYTEST_ARGS)

.PHONY: help demo test test-all lint types tests tests-all oldest newest sanitize clean
.DEFAULT_GOAL := help

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/:/' | column -t -s ':'

demo: .venv/examples  ## train on real digits: Adam, AdaMax, AdamW beside four of Optax's optimizers (demo.png, demo.json)
	$(BIN)/python -m adamx.examples demo

test: .venv/dev  ## every check: ruff, basedpyright, tests, doctests, notebooks
	$(MAKE) --no-print-directory -j lint types tests

test-all: .venv/dev  ## the same with every product of optimizers, dtypes, formats: tests/README.md
	$(MAKE) --no-print-directory -j lint types tests-all

lint: .venv/dev  ## ruff: lint and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/dev  ## basedpyright
	$(BIN)/basedpyright

tests: .venv/dev  ## pytest with doctests and notebooks, these in their quick setting
	$(PYTEST) -m "not product"

tests-all: .venv/dev  ## pytest with products, too
	$(PYTEST)

oldest: .venv-oldest/contracts  ## the contracts with the oldest JAX that pyproject.toml admits
	.venv-oldest/bin/python -m pytest $(PYTEST_ARGS) -W default -m "not product" $(CONTRACTS)

newest: $(if $(NEWER),.venv-newest/contracts)  ## the contracts with the newest JAX, where a Python 3.12 or later is
	$(if $(NEWER),.venv-newest/bin/python -m pytest $(PYTEST_ARGS) -W default -m "not product" $(CONTRACTS),@echo "no Python 3.12 or later: not tested with the newest JAX")

sanitize:  ## the native kernel under the address, undefined-behaviour and thread sanitizers
	@mkdir -p build
	for kind in address,undefined thread; do \
	    $(CXX) -std=c++17 -O1 -g -pthread -fsanitize=$$kind -fno-sanitize-recover=all tests/native/sanitize.cc -o build/sanitize && \
	    ./build/sanitize || exit 1; done

clean:  ## remove the virtual environment and caches
	rm -rf .venv .venv-oldest .venv-newest build dist *.egg-info .cache .pytest_cache .ruff_cache .hypothesis

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/%: pyproject.toml setup.py $(wildcard adamx/kernels/cpu/*.cc adamx/kernels/cpu/*.h) $(CONSTRAINTS) | .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(if $(CONSTRAINTS),-c $(CONSTRAINTS)) -e '.[$*]'
	@touch $@

.venv-oldest/bin/python:
	$(PYTHON) -m venv .venv-oldest

.venv-newest/bin/python:
	$(NEWER) -m venv .venv-newest

# They run on the checkout, with the library that .venv's installation compiled: one is for every Python and JAX.
.venv-%/contracts: pyproject.toml constraints-%.txt .venv/dev | .venv-%/bin/python
	.venv-$*/bin/python -m pip install --quiet --disable-pip-version-check -c constraints-$*.txt \
	    $$($(BIN)/python -c 'import tomllib as t; p = t.load(open("pyproject.toml", "rb"))["project"]; \
	    print(*p["dependencies"], *p["optional-dependencies"]["contracts"])')
	@touch $@
