# Two commands do the main things: `make quickstart` and `make test`. `make help` lists the rest.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
export HF_HUB_DISABLE_TELEMETRY = 1

.PHONY: help quickstart test test-slow test-all e2e lint format bench clean install
.DEFAULT_GOAL := help

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) scripts/set_up.py $(VENV)
	@touch $@

install: $(STAMP) ## set up .venv with the tested versions

quickstart: $(STAMP) ## fine-tune the starter model on the built-in data and see it learn
	$(BIN)/ftwizard run quickstart

test: $(STAMP) lint ## lint and pass the tests
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow" tests

test-slow: $(STAMP) ## the tests that take minutes each
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -m slow tests

test-all: $(STAMP) lint ## lint and pass every test, each objective with each method among them
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal tests

lint: $(STAMP) ## style, types and import walls
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP) ## rewrite the code in the house style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(STAMP) ## measure start-up, attach, redraw and training with a monitor
	$(BIN)/python benchmarks/run_all.py

clean: ## remove what the targets made
	rm -rf $(VENV) build dist *.egg-info
