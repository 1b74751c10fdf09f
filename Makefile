# Every target sets up .venv by itself, and again only when pyproject.toml or constraints.txt changed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
BENCH = $(BIN)/python -m pytest benchmarks -o python_files='bench_*.py' -o python_functions='bench_*'
STAMP := $(VENV)/.installed
GOLDEN := seed logistic softmax momentum adam adamw rmsprop schedule-cosine lasso minibatches averaged batch-norm convolution

.DEFAULT_GOAL := help
.PHONY: help verify verify-all verify-sample test browser example sweep sweep-sample real real-sample machines selftest mutants golden check matrix bench \
  bench-quick bench-sample schemas conventions reference docs clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# pip compiles modules one after another, a minute of the processor: all processors do it. A package may bring files of another
# Python, which are compiled by nobody.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else \
	  "Lockstep needs Python 3.11 or later.\n  got: %s\n  fix: make PYTHON=python3.11 ..." % sys.version.split()[0])'
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check --constraint constraints.txt --editable '.[all,dev]'
	@$(BIN)/python -m compileall -q -q -j 0 $(VENV)/lib || true
	@touch $(STAMP)

verify: $(STAMP)  ## train the core problems on every backend, judge, certify, write reports/ (3 minutes)
	$(BIN)/lockstep verify --core --certify --output reports

# What nobody could judge (status 3: RAdam in float32, whose rounding is as large as its result) is told and passes.
verify-all: $(STAMP)  ## the same with the whole catalogue, to reports/all/ (10 minutes)
	$(BIN)/lockstep verify --all --quiet --output reports/all || test $$? -eq 3

verify-sample: $(STAMP)  ## the same with a dozen problems of it, others with each commit, to reports/sample/
	names=$$($(BIN)/python -m tests.sample 12) && echo "sample: $$names" && \
	  { $(BIN)/lockstep verify $$names --quiet --output reports/sample || test $$? -eq 3; }

# A file's tests stay in one process: what one has compiled, or a fixture trained, the next one has.
test: $(STAMP)  ## run the test suite, write what its parity tests compared to reports/tests/
	$(BIN)/python -m pytest -n 2 --dist loadfile --quiet --lockstep-report reports/tests

# Installs Debian's Chromium where it may; the tests say why they skip where there is none.
browser: $(STAMP)  ## open the report's page in Chromium: no request, no error, tables, links, schemes
	@command -v chromium > /dev/null || ! command -v apt-get > /dev/null || [ "$$(id -u)" != 0 ] || \
	  { apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends chromium; } || true
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[browser]'
	timeout 300 $(BIN)/python -m pytest --quiet -rs tests/browser

example: $(STAMP)  ## write docs/example/ anew, a report of a disagreement, and what the tests keep of it
	$(BIN)/python -m lockstep.harness.publish.example
	$(BIN)/python -m pytest --quiet tests/harness/test_snapshots.py --snapshot-update

sweep: $(STAMP)  ## run what `make test` leaves out: all of what is many alike (15 minutes)
	$(BIN)/python -m pytest -n 2 --quiet -m sweep

# Which: the commit says, and the last line of the output. At least one case of each test.
sweep-sample: $(STAMP)  ## a few cases of each test that `make sweep` runs, others with each commit
	$(BIN)/python -m pytest -n 2 --dist loadfile --quiet -m sweep --sample 3

# transformers 4.57 is the last that has Flax models. ARGS: pytest's arguments.
real: $(STAMP)  ## install packages that people use, and train their models and optimizers, right and wrong (15 minutes)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[real]'
	$(BIN)/python -m pytest -n 2 --dist loadfile --quiet -m real $(ARGS) tests/real

real-sample:  ## one case of each test that `make real` runs, others with each commit
	$(MAKE) real ARGS='--sample 1'

# ARGS: a level (avx2, sse), then pytest's arguments; by default both, and all tests that train.
machines: $(STAMP)  ## run the tests that train as two lesser processors would: with AVX2, with SSE alone
	$(BIN)/python -m tests.machines $(ARGS)

selftest: $(STAMP)  ## plant every port bug, train 2,000 clean problems, take the figures over (an hour)
	$(BIN)/lockstep selftest --dtype float64 --dtype float32 --clean 2000 --json reports/selftest.json
	$(BIN)/python -m lockstep.harness.selftest.figures reports/selftest.json

# A run that is cut short goes on where it stopped. AGAIN=1 tries those that survived with the tests as they are now.
mutants: $(STAMP)  ## change the numbers and the code that judge: a test must fail each time (hours; SAMPLE=200 SEED=1)
	$(BIN)/python -m tests.judge.planted
	$(BIN)/python -m tests.judge.mutants $(if $(SAMPLE),--sample $(SAMPLE)) $(if $(SEED),--seed $(SEED)) $(if $(AGAIN),--again) $(if $(ONLY),--only $(ONLY))

golden: $(STAMP)  ## record tests/golden/ anew: only where what is trained was changed on purpose
	for name in $(GOLDEN); do \
	  $(BIN)/lockstep record tests/golden/$$name.lockstep.npz $$name --backend numpy --without-machine --quiet || exit; \
	done

check: $(STAMP)  ## lint, formatting, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(STAMP)  ## time what the documentation claims (minutes)
	$(BENCH) --benchmark-enable -s

bench-quick: $(STAMP)  ## whether every benchmark runs, at the smallest size (2 minutes)
	$(BENCH) --quiet --quick

bench-sample: $(STAMP)  ## whether a quarter of each benchmark's cases run, others with each commit
	$(BENCH) --quiet --quick -p tests.sample --sample 25 --sample-all

schemas: $(STAMP)  ## write harness/schemas/ anew after a change of the tables
	$(BIN)/python -m lockstep.harness.documents.schema

conventions: $(STAMP)  ## write docs/conventions.md anew after a change of the tables
	$(BIN)/python -m lockstep.harness.environment.conventions

reference: $(STAMP)  ## write docs/command-line.md and docs/schema.md anew from the parsers and harness/schemas/
	$(BIN)/python -m lockstep.harness.reference.pages

# TORCH: a version other than the pinned one; its wheels bring several gigabytes for GPUs (CONTRIBUTING.md has the results).
MATRIX_TESTS := tests/backends tests/harness/adopted tests/harness/adopted_bundle tests/harness/conformance \
  tests/test_package.py tests/test_pytest_plugin.py
matrix: matrix-lowest matrix-newest  ## run backends, adoption and plugin with the lowest and the newest versions allowed

matrix-%:
	$(PYTHON) -m venv --clear build/matrix/$*
	$(PYTHON) tests/matrix.py $* $(TORCH) > build/matrix/$*/constraints.txt
	build/matrix/$*/bin/python -m pip install --quiet --disable-pip-version-check \
	  --constraint build/matrix/$*/constraints.txt --editable '.[all,test]'
	build/matrix/$*/bin/python -m pytest -n 2 --dist loadfile --quiet -W ignore::DeprecationWarning $(MATRIX_TESTS)

# Not --quiet: then nothing is counted as a warning, and strict is not.
docs: $(STAMP)  ## build the documentation into site/, strictly; open site/index.html
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

clean:  ## remove .venv and everything generated
	rm -rf $(VENV) build dist site *.egg-info .mypy_cache .pytest_cache .ruff_cache
	find reports -mindepth 1 ! -name README.md -delete
