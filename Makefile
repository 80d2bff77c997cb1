# make run, make test, make check, make bench: each installs what it needs first, into .venv.
VENV := .venv
PY := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed
.DEFAULT_GOAL := help
.PHONY: help install page packages run test soak check bench format man clean

help:
	@echo "make run     play the sample session into a hub and serve the dashboard (ONCE=1: end with a summary)"
	@echo "make test    install what is needed and run every test"
	@echo "make soak    an hour of kill -9 over real pipelines, judged (MINUTES=…; AGENTPIPE_SEED=… plays strikes again)"
	@echo "make check   format, lint, types, layers, docs and manual up to date"
	@echo "make bench   all benchmarks, JSON and a table into bench/results/"
	@echo "make format  format and fix what can be fixed"
	@echo "make man     write the manual pages anew"

install: $(INSTALLED)

$(INSTALLED): pyproject.toml
	@test -x $(PY) || python3 -m venv $(VENV)
	@echo "installing into $(VENV) …" >&2
	@$(PY) -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@

# The page is built by the install; this builds it again when its sources have changed since.
page: install
	@$(PY) dashboard/build_page.py

packages:
	@.ci/packages

run: page
	@$(PY) docs/samples/play.py $(if $(ONCE),--once) $(if $(SPEED),--speed $(SPEED))

test: page packages
	$(PY) -m pytest $(ARGS)

soak: install
	$(PY) -m tests.faults.lab.campaign --minutes $(or $(MINUTES),60) $(ARGS)

check: install packages
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check --output-format=concise .
	$(VENV)/bin/mypy
	$(PY) man/build.py --check
	$(PY) dashboard/build_page.py --check
	$(PY) -m pytest -q tests/test_layers.py tests/test_exports.py tests/test_manual.py

bench: page
	@.ci/packages websocketd:websocketd mlr:miller ts:moreutils
	$(PY) bench/run.py $(ARGS)
	$(PY) -m pytest bench/test_inner_loops.py --benchmark-only -q

format: install
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

man: install
	$(PY) man/build.py

clean:
	rm -rf $(VENV) .make agentpipe/web dashboard/node_modules
