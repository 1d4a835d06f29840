# What one does again and again. CONTRIBUTING.md says more.
PYTHON ?= .venv/bin/python

.PHONY: install lint format test test-fast coverage pictures

install:
	python3 -m venv .venv
	.venv/bin/pip install -q -r tests/requirements.txt
	npm ci --silent

lint:
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy
	$(dir $(PYTHON))lint-imports --no-logo
	$(dir $(PYTHON))deptry .
	npm run --silent lint

format:
	$(PYTHON) -m ruff check --fix .
	$(PYTHON) -m ruff format .
	npm run --silent format

test-fast:
	$(PYTHON) -m pytest -n 2 -m "not slow"

test:
	$(PYTHON) -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not thorough"

coverage:
	$(PYTHON) -m pytest -n 2 --dist loadfile --no-loadscope-reorder --cov
	$(PYTHON) tests/untested.py

pictures:
	PYTHONPATH=. $(PYTHON) tests/pictures.py
