PYTHON ?= python3
BIN := .venv/bin
# Reproducible versions. `make test CONSTRAINTS=` takes the newest that pyproject.toml allows.
CONSTRAINTS ?= constraints.txt
# A file's tests follow each other in one process, which then compiles what they share once.
PYTEST_ARGS ?= -n auto --dist worksteal
PYTEST := ADAMX_QUICK=1 $(BIN)/python -m pytest --nbmake --nbmake-timeout=600 $(PYTEST_ARGS)

.PHONY: help demo test test-all lint types tests tests-all sanitize clean
.DEFAULT_GOAL := help

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/:/' | column -t -s ':'

demo: .venv/experiments  ## train on real digits: Adam, AdaMax, AdamW beside four of Optax's optimizers (demo.png, demo.json)
	$(BIN)/python -m adamx.experiments demo

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

sanitize:  ## the native kernel under the address, undefined-behaviour and thread sanitizers
	@mkdir -p build
	for kind in address,undefined thread; do \
	    $(CXX) -std=c++17 -O1 -g -pthread -fsanitize=$$kind -fno-sanitize-recover=all tests/native/sanitize.cc -o build/sanitize && \
	    ./build/sanitize || exit 1; done

clean:  ## remove the virtual environment and caches
	rm -rf .venv build dist *.egg-info .cache .pytest_cache .ruff_cache .hypothesis

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/%: pyproject.toml setup.py $(wildcard adamx/kernels/*.cc adamx/kernels/*.h) $(CONSTRAINTS) | .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(if $(CONSTRAINTS),-c $(CONSTRAINTS)) -e '.[$*]'
	@touch $@
