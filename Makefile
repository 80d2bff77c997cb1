# make run, make test, make check, make bench: each installs what it needs first.
VENV := .venv
PY := $(VENV)/bin/python
.DEFAULT_GOAL := help
.PHONY: help install run test check bench format clean

help:
	@echo "make run    play the sample session into a hub and serve the dashboard (ONCE=1: end with a summary)"
	@echo "make test   install what is needed and run every test"
	@echo "make check  format, lint, types, layers, docs and manual up to date"
	@echo "make bench  all benchmarks, JSON and a table into bench/results/"

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml
	python3 -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@

check: install
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check --output-format=concise .
	$(VENV)/bin/mypy

test: install
	$(PY) -m pytest

format: install
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .
