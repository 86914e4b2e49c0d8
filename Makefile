PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
INSTALLED := .venv/.installed

.DEFAULT_GOAL := help
BENCHMARKS := throughput photometry memory clustering pipeline

.PHONY: help install study test lint bench docs clean

help:  ## list the tasks
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-8s  %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(INSTALLED)  ## make .venv and install skastro with all its extras

$(INSTALLED): pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e '.[all]'
	@touch $@

study: install  ## a small study of a simulated survey, in minutes
	$(BIN)/skastro study --quick --out study-survey --overwrite

test: install  ## all tests, with coverage
	$(BIN)/python -m pytest --cov --cov-report=term-missing:skip-covered --cov-fail-under=90

lint: install  ## style and common mistakes
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

bench: install  ## run the benchmarks of speed and memory; benchmarks/README.md has the others
	@set -e; for name in $(BENCHMARKS); do echo "== $$name"; $(BIN)/python benchmarks/$$name.py; done

docs: install  ## run the examples and build the documentation into docs/_build/html
	$(BIN)/sphinx-build -W -b html docs docs/_build/html

clean:  ## remove everything that can be made again
	rm -rf .venv .pytest_cache .ruff_cache .hypothesis .coverage docs/_build docs/api/generated
	rm -rf docs/auto_examples docs/sg_execution_times.rst
	rm -rf build dist study-survey
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
