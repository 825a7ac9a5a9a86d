# make app: serve the app.  make test: run every check and test.
# Both make a virtual environment in .venv and install what is needed first.

VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
# Two files of tests at a time, on one core each; a browser is driven by one.
JOBS ?= 2

.PHONY: app test check format clean

app: $(VENV)/.app
	$(BIN)/python app.py

test: $(VENV)/.dev check
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist loadfile -m "not browser"
	$(BIN)/python -m pytest -m browser

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache

$(VENV)/.app: requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --requirement requirements.txt
	touch $@

$(VENV)/.dev: requirements-dev.txt requirements-train.txt $(VENV)/.app
	$(BIN)/pip install --quiet --requirement requirements-dev.txt
	touch $@
