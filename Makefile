# Every target sets up .venv by itself, and again only when pyproject.toml or constraints.txt changed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
GOLDEN := seed logistic softmax momentum adam adamw rmsprop schedule-cosine lasso minibatches averaged batch-norm convolution

.DEFAULT_GOAL := help
.PHONY: help verify test sweep selftest golden check bench schemas conventions reference docs clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else \
	  "Lockstep needs Python 3.11 or later.\n  got: %s\n  fix: make PYTHON=python3.11 ..." % sys.version.split()[0])'
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[all,dev]'
	@touch $(STAMP)

verify: $(STAMP)  ## train the seed problem on every backend, judge, write reports/
	$(BIN)/lockstep verify seed --output reports

test: $(STAMP)  ## run the test suite, write what its parity tests compared to reports/tests/
	$(BIN)/python -m pytest -n 2 --quiet --lockstep-report reports/tests

sweep: $(STAMP)  ## run what `make test` leaves out: all of what is many alike (6 minutes)
	$(BIN)/python -m pytest -n 2 --quiet -m sweep

selftest: $(STAMP)  ## plant every port bug, train 2,000 clean problems, take the figures over (an hour)
	$(BIN)/lockstep selftest --dtype float64 --dtype float32 --clean 2000 --json reports/selftest.json
	$(BIN)/python -m harness.selftest.figures reports/selftest.json

golden: $(STAMP)  ## record tests/golden/ anew: only where what is trained was changed on purpose
	for name in $(GOLDEN); do \
	  $(BIN)/lockstep record tests/golden/$$name.lockstep.npz $$name --backend numpy --without-machine --quiet || exit; \
	done

check: $(STAMP)  ## lint, formatting, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(STAMP)  ## time what the documentation claims (minutes)
	$(BIN)/python -m pytest benchmarks --benchmark-enable -o python_files='bench_*.py' -o python_functions='bench_*' -s

schemas: $(STAMP)  ## write harness/schemas/ anew after a change of the tables
	$(BIN)/python -m harness.schema

conventions: $(STAMP)  ## write docs/conventions.md anew after a change of the tables
	$(BIN)/python -m harness.conventions

reference: $(STAMP)  ## write docs/command-line.md and docs/schema.md anew from the parsers and harness/schemas/
	$(BIN)/python -m harness.reference

# Not --quiet: then nothing is counted as a warning, and strict is not.
docs: $(STAMP)  ## build the documentation into site/, strictly; open site/index.html
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

clean:  ## remove .venv and everything generated
	rm -rf $(VENV) build dist site *.egg-info .mypy_cache .pytest_cache .ruff_cache
	find reports -mindepth 1 ! -name README.md -delete
