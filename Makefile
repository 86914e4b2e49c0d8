PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
INSTALLED := .venv/.installed

.DEFAULT_GOAL := help
EXTRAS := data,sim,report,label,projection,imagenet,distributed,test
LOWEST := .venv-lowest
TESTS ?= tests
WORKERS ?= 2
BENCHMARKS := startup throughput growth scaling photometry memory clustering pipeline

.PHONY: help install study test torture lint bench gpu docs dist lowest clean

help:  ## list the tasks
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-8s  %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(INSTALLED)  ## make .venv and install skastro with all its extras

$(INSTALLED): pyproject.toml
	@echo "Installing skastro and the libraries it needs into .venv: this takes some minutes."
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --progress-bar off -e '.[all]'
	@echo "Compiling what numba keeps on the disk: this takes half a minute."
	@$(BIN)/python -c 'import pynndescent, umap'
	@touch $@

study: install  ## a small study of a simulated survey, in about two minutes
	$(BIN)/skastro study --quick --out study-survey --overwrite

test: install  ## all tests, with coverage
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile \
	--no-loadscope-reorder --durations 20 --cov --cov-report=term-missing:skip-covered --cov-fail-under=95

torture: install  ## the long tests: processes killed at random moments, fuzzing and the like
	$(BIN)/python -m pytest -m torture --no-header

lint: install  ## style, types, common mistakes, and sizes of files and functions
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q -s --no-header tests/project/test_house.py -k stay_small

bench: install  ## run the benchmarks of speed and memory; benchmarks/README.md has the others
	@set -e; for name in $(BENCHMARKS); do \
	$(BIN)/python -m benchmarks.speed.$$name --out benchmarks/results/$$name.json; done

gpu: install  ## measure what a CUDA machine can show: speed, precision, copies, scores; the table is in gpu.md
	$(BIN)/python -m benchmarks.speed.gpu --out gpu.json

docs: install  ## run the examples and build the documentation into docs/_build/html
	$(BIN)/sphinx-build -W -b html docs docs/_build/html

dist: install  ## build wheel and sdist, and run the tests on the wheel, away from the source tree
	rm -rf build dist
	$(BIN)/python -m pip install --quiet -e '.[release]'
	$(BIN)/python -m build --outdir dist .
	$(BIN)/python -m twine check --strict dist/*
	@set -e; away=$$(mktemp -d); trap 'rm -rf "$$away"' EXIT; cp -r tests conftest.py pyproject.toml "$$away"; \
	wheel=$$(ls $(CURDIR)/dist/*.whl); cd "$$away"; find tests -name __pycache__ -prune -exec rm -rf {} +; \
	$(PYTHON) -m venv venv; venv/bin/python -m pip install --quiet "$$wheel[$(EXTRAS),onnx]"; \
	venv/bin/python -m pytest $(TESTS)

lowest: constraints/lowest.txt  ## run the tests with the lowest supported releases of the core dependencies
	$(PYTHON) -m venv $(LOWEST)
	$(LOWEST)/bin/python -m pip install --quiet -c $< -e '.[$(EXTRAS)]'
	$(LOWEST)/bin/python -m pytest $(TESTS)

clean:  ## remove everything that can be made again
	rm -rf .venv $(LOWEST) .pytest_cache .ruff_cache .hypothesis .coverage docs/_build docs/api/generated
	rm -rf docs/auto_examples docs/records docs/sg_execution_times.rst
	rm -rf build dist study-survey .study*.partial
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
