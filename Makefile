# Two commands for a newcomer: `make demo` and `make test`; `make docs` builds the site.
# All of them install into .venv when needed.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed
# Real data beside the checkout are used where they lie; PPL_DATA says otherwise.
export PPL_DATA ?= $(abspath $(firstword $(wildcard data ../shared/data) data))

.PHONY: demo test lint types fast tests docs docs-student clean

demo: $(INSTALLED)
	@$(BIN)/python -m experiments compare --data digits
	@echo "        (first activate the environment: source $(VENV)/bin/activate)"

test: $(INSTALLED) lint types tests

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/codespell

types: $(INSTALLED)
	$(BIN)/mypy

# One thread per worker: more would wait for each other.
fast tests: export OMP_NUM_THREADS = 1
fast tests: export OPENBLAS_NUM_THREADS = 1

fast: $(INSTALLED)
	$(BIN)/python -m pytest -n auto --dist worksteal -m "not slow"

tests: $(INSTALLED)
	$(BIN)/python -m pytest -n auto --dist worksteal

# Every page is executed (again only where it or the code changed), any warning is an error, and no page may ask an outside host for anything.
# A build that fails or is interrupted leaves the old site as it was.
docs: $(VENV)/docs
	$(BIN)/python docs/build_site.py

# The same without solutions, answers and the page for teachers: build/docs-student.
docs-student: $(VENV)/docs
	$(BIN)/python docs/build_site.py --student

$(VENV)/docs: $(INSTALLED)
	$(BIN)/python -m pip install --quiet --editable ".[dev,docs]"
	touch $@

# Without ensurepip (Debian's plain python3) the environment gets its pip from the one outside.
$(INSTALLED): pyproject.toml
	test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV) || { $(PYTHON) -m venv --clear --without-pip $(VENV) \
		&& $(PYTHON) -m pip --python $(BIN)/python install --quiet pip; }
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache

.PHONY: labs labs-zip labs-mnist

# Student notebooks, and teacher notebooks executed on digits: build/labs/student, build/labs/teacher.
labs: $(INSTALLED)
	$(BIN)/python -m experiments labs

# Teacher notebooks executed on MNIST, their figures compared with those that they quote: build/labs/mnist.
labs-mnist: $(INSTALLED)
	$(BIN)/python -m experiments labs --data mnist

# All notebooks, for students and for teachers, in one file for a release: dist/labs.zip.
labs-zip: $(INSTALLED)
	$(BIN)/python -m experiments labs --zip dist/labs.zip
