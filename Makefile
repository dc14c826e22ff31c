# `make help` lists what there is. Every target sets up what it needs.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
CARGO_CORE := cargo test --no-default-features
# Two at a time: each test has its own pool, or its own processes, and mostly waits. 15 minutes become 9.
PYTEST_ARGS ?= -n 2
WHEEL_ARGS ?= --profile dev

.PHONY: help setup wheel demo test test-rust test-python test-abi3 test-wheel lint format bench complaints docs shows clean
.DEFAULT_GOAL := help

help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(BIN)/maturin: pyproject.toml
	@command -v cargo >/dev/null || { echo "disttask is built from source: install Rust (https://rustup.rs) first"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; name one with make PYTHON=..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet "maturin>=1.9.4,<2"
	touch $@

setup: $(BIN)/maturin ## make the virtual environment and build the extension into it
	PIP_QUIET=1 $(BIN)/maturin develop --quiet --extras dev

# Beside `setup`, which installs a link to this tree: a wheel, in a virtual environment of its own.
wheel: $(BIN)/maturin
	rm -rf $(VENV)/wheels
	$(BIN)/maturin build --quiet $(WHEEL_ARGS) --interpreter $(BIN)/python --out $(VENV)/wheels
	$(BIN)/python -m pip install --quiet --force-reinstall --no-deps $(VENV)/wheels/*.whl
	$(BIN)/python -m pip install --quiet "$$(ls $(VENV)/wheels/*.whl)[dev]"

demo: setup ## the main job: tokenize the standard library, kill a worker on the way
	$(BIN)/python demo/main_job.py

test: test-rust test-python ## everything that CI tests

test-rust: ## the core, with no interpreter
	$(CARGO_CORE)

test-python: setup ## the package
	$(BIN)/python -m pytest $(PYTEST_ARGS)

# What meets the interpreter: values, buffers, calls, the garbage collector, signals. CI has 25 minutes; `make shows` runs all of
# them in both builds.
ABI3_TESTS ?= executor future future_lifetime functions pickling map flow nested large shared_memory interrupted interpreter \
	hostile_exceptions

test-abi3: ## what meets the interpreter, with the package built for the stable ABI
	$(MAKE) VENV=.venv-abi3 WHEEL_ARGS="--profile dev --features abi3" \
		PYTEST_ARGS="$(PYTEST_ARGS) $(ABI3_TESTS:%=tests/test_%.py)" test-wheel
	.venv-abi3/bin/python -c 'from disttask import _native; assert _native.ABI3'

test-wheel: wheel
	$(BIN)/python -m pytest $(PYTEST_ARGS)

lint: setup ## rustfmt, clippy, ruff, mypy, stubtest
	cargo fmt --check
	cargo clippy --all-targets --features python -- -D warnings
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m mypy.stubtest disttask._native --allowlist .stubtest-allowlist

format: setup ## put the layout right
	cargo fmt
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

PEERS ?= ppe-fork,ppe-spawn,mp.Pool,loky,joblib,mpire,pebble,disttask,serial,limits
PEER_PACKAGES ?= loky joblib mpire pebble numpy cloudpickle psutil click

bench: ## beside other pools, in one run (PEERS=... names them; ray, dask and scaler have to be installed); writes docs/benchmarks.md
	$(MAKE) VENV=.venv-bench WHEEL_ARGS=--release wheel
	.venv-bench/bin/python -m pip install --quiet $(PEER_PACKAGES)
	.venv-bench/bin/python bench/peers.py --systems $(PEERS) --md .venv-bench/peers.md
	.venv-bench/bin/python bench/cost.py | tee .venv-bench/cost.md
	.venv-bench/bin/python bench/large.py | tee .venv-bench/large.md
	.venv-bench/bin/python bench/floor.py | tee .venv-bench/floor.md
	if command -v wrk >/dev/null; then .venv-bench/bin/python bench/over_http.py | tee .venv-bench/http.md; else echo "no wrk here: HTTP is left out" | tee .venv-bench/http.md; fi
	./bench/write_docs.sh .venv-bench

COMPLAINT_PACKAGES ?= loky "mpire[dill]" pebble

complaints: ## what users of process pools complain of, tried with five and with disttask; writes docs/complaints.md
	$(MAKE) VENV=.venv-complaints wheel
	.venv-complaints/bin/python -m pip install --quiet $(COMPLAINT_PACKAGES)
	PYTHONPATH=bench .venv-complaints/bin/python -m complaints --md docs/complaints.md $(COMPLAINT_ARGS)

docs: ## the Rust side's documentation, private items included
	cargo doc --no-deps --no-default-features --document-private-items

shows: ## what does not fit CI: each interpreter found, both kinds of build, a thousand kills; writes docs/shows.md
	./tests/shows.sh

clean: ## remove what was built
	rm -rf target target-abi3 .venv .venv-abi3 .venv-bench .venv-complaints
