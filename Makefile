# make demo     trains a small network on made-up scenes and shows what it sees; results in demo/
# make test     runs the tests; ARGS='-k ops' picks some, ARGS='-m "not slow"' leaves the long ones out
# make lint     checks style, format and which module may import which
# make format   mends style and format
# make clean    removes caches, build leftovers and demo/; keeps .venv
#
# The first call makes .venv (Python 3.11 or newer; PYTHON=/path/to/python3.12 picks one) and installs
# the exact versions of requirements.lock into it; later calls only when those have changed.

PYTHON ?=
ARGS ?=
RUN = .venv/bin/python

.PHONY: help demo test lint format clean runtime development
.NOTPARALLEL:

help:
	@sed -n 's/^# \{0,1\}//p' Makefile

demo: runtime
	@$(RUN) -m experiments.demo --workdir=demo

test: development
	@$(RUN) -m pytest -q -n auto --maxprocesses=4 --dist=worksteal $(ARGS)

lint: development
	@$(RUN) -m ruff check
	@$(RUN) -m ruff format --check
	@$(RUN) -c 'from importlinter.cli import lint_imports_command as main; main()' --no-logo

format: development
	@$(RUN) -m ruff check --fix
	@$(RUN) -m ruff format

clean:
	rm -rf build dist demo *.egg-info .hypothesis .import_linter_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

runtime:
	@PYTHON='$(PYTHON)' sh .ci/environment runtime '.'

development:
	@PYTHON='$(PYTHON)' sh .ci/environment development '.[test,lint,tensorboard]'
