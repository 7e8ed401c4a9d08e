# make demo       trains a small network on made-up scenes and shows what it sees; results in demo/
# make test       runs the tests; ARGS='-k ops' picks some, ARGS='-m "not slow"' leaves the long ones out
# make attacks    kills runs, damages files, fuzzes readers, in full; ARGS='-k kill' picks some
# make reference  compares with PyTorch, and runs a short part of the tests with the oldest JAX
# make lint       checks style, format, types and which room may import which
# make format     mends style and format
# make notebooks  runs the notebooks again and keeps what they show; ARGS=FILE.ipynb picks one
# make docs       builds the pages of docs/ into site/ and checks their links
# make dist       builds sdist and wheel into dist/, checks them, installs the wheel and tries it
# make hooks      runs the quick part of make lint before every commit (pre-commit)
# make lock       renews requirements.lock
# make clean      removes caches, build leftovers and demo/; keeps the environments
#
# The first call makes .venv with the newest Python of 3.14, 3.13, 3.12 and 3.11 that is on the PATH or
# among pyenv's (PYTHON=/path/to/python3.12 picks another) and installs the exact versions of
# requirements.lock into it; later calls only when those have changed. make reference makes
# .venv-reference in the same way, with Python 3.11 (REFERENCE_PYTHON picks another).

PYTHON ?=
REFERENCE_PYTHON ?=
ARGS ?=
RUN = .venv/bin/python
PYTEST = -m pytest -q -n auto --maxprocesses=4 --dist=worksteal $(ARGS)
# What the oldest Python and JAX are tested with, besides the comparisons with PyTorch: a file or two
# of each room, one command from end to end.
OLDEST = tests/test_package.py tests/test_xla_flags.py tests/nn tests/crf/test_dense.py \
  tests/data/test_pipeline.py tests/models/test_weights_folder.py tests/training/test_step.py \
  tests/training/test_parallel.py tests/inference/test_prediction.py tests/evaluation/test_metrics.py \
  tests/weights/test_torch.py tests/experiments/test_predict.py
ENVIRONMENT = PYTHON='$(PYTHON)' sh .ci/environment .venv

.PHONY: help demo test attacks reference lint format notebooks docs dist hooks lock clean runtime development
.NOTPARALLEL:

help:
	@sed -n 's/^# \{0,1\}//p' Makefile

demo: runtime
	@$(RUN) -m experiments.demo --workdir=demo

test: development
	@$(RUN) $(PYTEST)

attacks: development
	@ATTACKS=full $(RUN) $(PYTEST) tests/attacks

reference:
	@PYTHON='$(REFERENCE_PYTHON)' VERSIONS=3.11 \
	  sh .ci/environment .venv-reference reference '.[test,reference]'
	@.venv-reference/bin/python $(PYTEST) tests/reference $(OLDEST)

lint: development
	@$(RUN) -m ruff check
	@$(RUN) -m ruff format --check
	@.venv/bin/lint-imports --no-logo
	@.venv/bin/basedpyright

format: development
	@$(RUN) -m ruff check --fix
	@$(RUN) -m ruff format

notebooks:
	@$(ENVIRONMENT) notebooks '.[notebooks]'
	@$(RUN) .ci/notebooks $(ARGS)

docs:
	@$(ENVIRONMENT) docs '.[docs]'
	@NO_MKDOCS_2_WARNING=1 $(RUN) -m mkdocs build --strict

dist:
	@$(ENVIRONMENT) dist '.[dist]'
	@rm -rf build dist
	@$(RUN) -m build
	@$(RUN) -m twine check --strict dist/*
	@$(RUN) .ci/try_wheel

hooks: development
	@.venv/bin/pre-commit install

lock: development
	@.venv/bin/python .ci/lock

clean:
	rm -rf build dist demo site *.egg-info
	rm -rf .hypothesis .import_linter_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -not -path './.venv*' -prune -exec rm -rf {} +

runtime:
	@$(ENVIRONMENT) runtime '.'

development:
	@$(ENVIRONMENT) development '.[test,lint]'
