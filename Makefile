# make demo   create .venv, install, train on the built-in graph, show the result
# make test   create .venv, install, run every test
# make lint   ruff and mypy
# make trackers   install wandb and mlflow (170 MB) as well, so that no test of the trackers is skipped

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN := runs/demo

.PHONY: demo test test-fast lint trackers install
.DEFAULT_GOAL := demo

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

demo: install
	$(BIN)/gnnpipe train --config configs/demo.yaml --out $(RUN) --overwrite
	$(BIN)/gnnpipe show $(RUN)

test: install
	$(BIN)/python -m pytest

test-fast: install
	$(BIN)/python -m pytest -m 'not slow'

trackers: install
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[wandb,mlflow]'

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
