# Shorthands for people who have make; everything also runs without it (see README.md and .ci/run).
PYTHON ?= .venv/bin/python

.PHONY: install test lint demo

install:
	python3 -m venv .venv
	$(PYTHON) -m pip install -e '.[all]'

test:
	$(PYTHON) -m pytest

lint:
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy
	.venv/bin/lint-imports

demo:
	$(PYTHON) -m mmrag demo
