# Everything a reader or contributor runs. `make help` lists it.
#   PYTHON  the interpreter that creates .venv (3.11 to 3.13)
#   LAM     λ, a number; for a chapter that takes several also a list such as [0.1,0.2]
#   NAME    a chapter: lambda, 20_lambda or notebooks/20_lambda.ipynb
#   PARAMS  further parameters of a chapter: "seeds=5 source=surrogate"
#   ARGS    options passed on to the tool behind a command, and to pytest
#   PORT    where `make serve` listens

PYTHON ?= python3
PORT ?= 8000
# One thread per kernel, so that several notebooks side by side do not fight for cores and results do not depend on their number.
OMP_NUM_THREADS ?= 1
# For glibc: memory in large pages, and what a training step used kept for the next one, instead of given back and asked
# for again; training is slower without.
GLIBC_TUNABLES ?= glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=1073741824:glibc.malloc.trim_threshold=2147483648
PY := .venv/bin/python
# All tests of a group on one worker, as they share what one of them sets up: a file, and for the unit tests a chapter, see
# tests/conftest.py. In the order of names, which has the longest first and no long one last.
SPREAD := --no-loadscope-reorder --dist
# Each notebook once: nbval compares its verdicts with the committed ones, and the built pages are made of what it executed.
NBVAL = $(PY) -m pytest -n 2 $(SPREAD) loadfile --nbval-lax --nbval-current-env --nbval-cell-timeout=900 notebooks
# Three on two cores, because they often wait: for a browser, a kernel, another process.
UNIT = $(PY) -m pytest -n 3 $(SPREAD) loadscope --doctest-modules tests lai evidence
WHICH = -m "not long"

# `LAM=` on the command line is an empty λ, to be refused, and not an absent one.
GIVEN_LAM := $(if $(filter undefined,$(origin LAM)),,--lam "$$LAM")
GIVEN_NAME := $(if $(findstring command,$(origin NAME)),--name "$$NAME")
# Values reach the tools through the environment and as they were typed, so that neither make nor a shell parses them.
TYPED := NAME PARAMS LAM PORT PYTHON ARGS OMP_NUM_THREADS GLIBC_TUNABLES
$(foreach name,$(TYPED),$(eval override $(name) := $$(value $(name))))
export $(TYPED)
HAS_PYTHON = command -v "$$PYTHON" >/dev/null || { \
  echo "error: PYTHON=$$PYTHON is not installed; Python 3.11 to 3.13 is needed" >&2; exit 1; }
HAS_THREADS = case "$$OMP_NUM_THREADS" in ''|0*|*[!0-9]*|????*) \
  echo "error: OMP_NUM_THREADS=$$OMP_NUM_THREADS: must be a whole number from 1 to 999" >&2; exit 1;; esac
# A tool with the words of ARGS.
TOOL = $(PY) -m tools.words
# The venv's own kernel, whatever else is installed.
export JUPYTER_PREFER_ENV_PATH := 1

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help env doctor book serve pdf chapter test test-all chapters units lint pins mutants faults format refresh reproduce search rounding placement benchmark ledger report clean distclean

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s%s\n", $$1, $$2}' Makefile

env: ## create or update .venv from requirements.txt
	@$(HAS_PYTHON)
	@$(HAS_THREADS)
	@"$$PYTHON" tools/env.py

doctor: ## what this machine has for the book, to paste into a report; installs nothing
	@$(HAS_PYTHON)
	@"$$PYTHON" tools/doctor.py

book: env ## run the notebooks and build the HTML; LAM=0.05 builds it at another λ
	@$(PY) -m tools.build $(GIVEN_LAM)

serve: env ## build the book and serve it on this machine; PORT=8000
	@$(PY) -m tools.build $(GIVEN_LAM) --serve "$$PORT"

pdf: env ## build the book and print it into one PDF, with the Chromium that is installed
	@$(PY) -m tools.pdf $(GIVEN_LAM)

chapter: env ## rerun one chapter into _runs/: NAME=lambda LAM=0.3 PARAMS="seeds=5"
	@$(PY) -m tools.chapter --name "$$NAME" $(GIVEN_LAM) --params "$$PARAMS"

test: lint chapters units ## every check: lint, notebooks, built pages, unit tests; ARGS="-k ledger"

test-all: WHICH = --record-health --cov --cov-report=
test-all: lint chapters units ## the same with what is long or drawn at random, then 100 moments of `make faults`
	@$(PY) -m tools.faults --moments 100

chapters: env ## of the checks: run every notebook and compare its verdicts
	@$(NBVAL)

units: env ## of the checks: the tests of the code and of the built pages
	@PYTEST_ADDOPTS="$$ARGS" $(UNIT) $(WHICH)

lint: env ## style, types, clean notebooks
	@echo "== lint"
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m mypy lai evidence benchmarks tools
	@$(PY) -m tools.refresh --check

pins: env ## move the pins to the newest releases and run `make test`, to the end
	@$(PY) -m tools.pins
	@$(MAKE) --keep-going test

mutants: env ## put small faults into lai and see that its tests notice; ARGS="loss --sample 40 --seed 1"
	@$(TOOL) mutate

faults: env ## stop commands at random moments and see that the next call repairs them; ARGS="--moments 100"
	@$(TOOL) faults

format: env ## put the code in shape
	@$(PY) -m ruff check --fix .
	@$(PY) -m ruff format .

refresh: env ## re-execute the committed notebooks and write them back clean; NAME=lambda for one
	@$(PY) -m tools.refresh $(GIVEN_NAME)

reproduce: env ## rebuild the committed tables; ARGS="strength --seeds 3", ARGS=relatives, ARGS="--help"
	@$(TOOL) reproduce

search: env ## redo the search for the paper's recipe: ARGS=recipes (50 min), or ARGS=tuning
	@$(TOOL) search

placement: env ## measure anew what the places of Lai batches and the end of the training do; ARGS="--seeds 3"
	@$(TOOL) placement

rounding: env ## measure anew how far rounding carries; ARGS="--seeds 3"
	@$(TOOL) rounding

benchmark: env ## measure anew what a Lai step costs (eight minutes); ARGS="grid memory --seconds 1"
	@$(TOOL) benchmark

ledger: env ## judge every claim by its evidence and write the verdicts into book/claims.yml
	@$(PY) -m tools.ledger --write

report: env ## write the tables of the page on reproducibility, and README's figure, from book/results
	@$(PY) -m tools.report --write
	@$(PY) -m tools.readme_figure

clean: ## remove what was built; keep the environment and finished cells
	@# _runs/cells is what `make reproduce` goes on from
	rm -rf _build .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage htmlcov
	find lai evidence benchmarks tools tests book -name __pycache__ -prune -exec rm -rf {} +
	if [ -d _runs ]; then find _runs -mindepth 1 -maxdepth 1 ! -name cells -exec rm -rf {} +; fi

distclean: clean ## remove the environment and all runs as well
	rm -rf _runs .venv .venv.lock *.egg-info
