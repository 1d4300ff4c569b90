# Two commands set everything up on a fresh machine with Python 3.11: make demo, make test.
PYTHON ?= python3.11
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
SECONDS ?= 60
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export FLWR_TELEMETRY_ENABLED := 0
export FLWR_DISABLE_UPDATE_CHECK := 1

.PHONY: help venv demo test lint unit process test-slow fuzz bench experiments docs proto clean

help:
	@echo "make demo         set up and run the main job on real data"
	@echo "make test         set up and run every check that CI runs"
	@echo "make venv         make the environment alone"
	@echo "make test-slow    the slower tests as well"
	@echo "make fuzz         search for inputs that break a decoder: SECONDS=60 per target, TARGETS=\"config sealed\""
	@echo "make bench        speed ratios -> experiments/0100-benchmarks/results.json"
	@echo "make docs         the generated parts of the documentation: error codes"
	@echo "make experiments  the figures of the README (five seeds; about an hour)"

venv: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "make: $(PYTHON) is needed; or: make PYTHON=python3.12 …"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(STAMP)
	$(BIN)/fedcredit demo

test: lint unit process

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

unit: $(STAMP)
	$(BIN)/pytest -m "not process and not slow" -n 2 --dist loadfile

process: $(STAMP)
	$(BIN)/pytest -m "process and not slow" tests/processes

test-slow: $(STAMP)
	$(BIN)/pytest -m "slow"

fuzz: $(STAMP)
	$(BIN)/python tests/fuzz/run.py fuzz --seconds $(SECONDS) $(TARGETS)

# CKKS, which secure aggregation is compared with, is the only thing that needs the extra.
bench: $(STAMP)
	@$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev,bench]' \
	  || echo "make: tenseal cannot be installed here; what is compared with CKKS is left out"
	$(BIN)/python experiments/0100-benchmarks/run.py
	$(BIN)/python experiments/0100-benchmarks/simulator.py

experiments: $(STAMP)
	$(BIN)/python experiments/0001-demo/run.py
	$(BIN)/python experiments/0002-privacy-utility/run.py
	$(BIN)/python experiments/0003-simulator/run.py

docs: $(STAMP)
	$(BIN)/python docs/generate.py

# The generated code is committed; run this after a change of local.proto.
proto: $(STAMP)
	$(BIN)/python -m grpc_tools.protoc -I src --python_out=src --pyi_out=src --grpc_python_out=src \
	  src/fedcredit/daemon/local.proto
	cd src/fedcredit/daemon && mv local_pb2.py local_pb2.pyi local_pb2_grpc.py _generated/
	sed -i 's/^from fedcredit.daemon import local_pb2/from . import local_pb2/' \
	  src/fedcredit/daemon/_generated/local_pb2_grpc.py

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
