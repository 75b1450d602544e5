# Two commands for a newcomer: `make demo` and `make test`. Both install into .venv when needed.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed
# Real data beside the checkout are used where they lie; PPL_DATA says otherwise.
export PPL_DATA ?= $(abspath $(firstword $(wildcard data ../shared/data) data))

.PHONY: demo test lint types fast tests clean

demo: $(INSTALLED)
	$(BIN)/python -m experiments compare --data digits

test: $(INSTALLED) lint types tests

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(INSTALLED)
	$(BIN)/mypy

fast: $(INSTALLED)
	$(BIN)/python -m pytest -n auto -m "not slow"

tests: $(INSTALLED)
	$(BIN)/python -m pytest -n auto

# Without ensurepip (Debian's plain python3) the environment gets its pip from the one outside.
$(INSTALLED): pyproject.toml
	test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV) || { $(PYTHON) -m venv --clear --without-pip $(VENV) \
		&& $(PYTHON) -m pip --python $(BIN)/python install --quiet pip; }
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache

.PHONY: labs labs-mnist

# Student notebooks, and teacher notebooks executed on digits: build/labs/student, build/labs/teacher.
labs: $(INSTALLED)
	$(BIN)/python -m experiments labs

# Teacher notebooks executed on MNIST, their figures compared with those that they quote: build/labs/mnist.
labs-mnist: $(INSTALLED)
	$(BIN)/python -m experiments labs --data mnist
