# Every target sets up what it needs. Stamp files keep a second run from doing it again.
# serve, test, check, bench and soak take flags: make serve ARGS="--http-port 9000"
SHELL := /bin/bash
.DELETE_ON_ERROR:
.NOTPARALLEL:

VENV ?= .venv
BIN := $(VENV)/bin
DONE := $(VENV)/.done
# cpu or gpu: the two onnxruntime wheels exclude each other.
ONNX ?= cpu
JOBS ?= 2
ARGS ?=
REPOSITORY := model_repo/repository
BUILT := $(REPOSITORY)/.built

.PHONY: help serve test check format bench soak demo-models setup clean

help:
	@echo "make serve   set up, build the demo models, serve them     make serve ARGS=\"--http-port 9000\""
	@echo "make test    set up, run the tests with the coverage gate  make test ARGS=\"tests/batching\" (no gate)"
	@echo "make check   lint, types, import contracts, budgets"
	@echo "make bench   the speed table, side by side, one run"
	@echo "make soak    long proofs, up to an hour"
	@echo "make format  apply the formatter     make demo-models  build them again     make clean  remove what make made"

serve: $(DONE)/runtime $(BUILT)
	@exec $(BIN)/gateway serve --model-repository $(REPOSITORY) --state-dir .state $(ARGS)

test: $(DONE)/runtime $(DONE)/test $(BUILT)
	@JOBS=$(JOBS) scripts/test.sh $(BIN)/python $(ARGS)

check: $(DONE)/runtime $(DONE)/lint $(DONE)/test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q -p no:cacheprovider tests/architecture $(ARGS)

format: $(DONE)/lint
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(DONE)/runtime $(DONE)/test $(BUILT)
	@$(BIN)/python loadtests/bench/run.py $(ARGS)

soak: $(DONE)/runtime $(DONE)/test $(BUILT)
	$(BIN)/python -m pytest -m soak --timeout 3600 -s tests $(ARGS)

setup: $(DONE)/runtime $(DONE)/lint $(DONE)/test $(BUILT)

demo-models: $(DONE)/models
	$(BIN)/python model_repo/build.py
	@touch $(BUILT)

clean:
	rm -rf $(VENV) $(REPOSITORY) .coverage* .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis

$(DONE)/python: constraints.txt scripts/venv.sh
	scripts/venv.sh $(VENV)
	@touch $@

$(DONE)/runtime: $(DONE)/python pyproject.toml scripts/install.sh
	scripts/install.sh $(BIN)/python $(ONNX)
	@touch $@

$(DONE)/models $(DONE)/lint $(DONE)/test: $(DONE)/runtime
	$(BIN)/python -m pip install --quiet -c constraints.txt --group $(@F)
	@touch $@

$(BUILT): $(DONE)/models $(wildcard model_repo/*.py model_repo/*.toml model_repo/recipes/*.py model_repo/templates/*/*)
	$(BIN)/python model_repo/build.py
	@touch $@
