# Two commands set everything up on a fresh machine with Python 3.11 or newer: `make demo` and `make test`.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed

.PHONY: help install demo test test-slow lint benchmarks paper study study-page tune-first-order tune-paper clean

help: ## show the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; v >= (3, 11) or sys.exit(f"quadric needs Python 3.11 or newer, this is {v.major}.{v.minor}: name another with `make PYTHON=python3.12`")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench,dev]'
	@touch $@

install: $(INSTALLED) ## create .venv and install quadric with what its tests and benchmarks need

demo: $(INSTALLED) ## compare CurveBall with first-order optimisers on real digits; prints where the report is
	$(BIN)/quadric compare --problem digits-mlp --optimizers curveball,sgd,momentum,adagrad,rmsprop,adadelta,adam --epochs 20 --seeds 3 --out runs/demo --overwrite

test: $(INSTALLED) ## run the tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

test-slow: $(INSTALLED) ## run the slow tests
	$(BIN)/python -m pytest -m slow

lint: $(INSTALLED) ## ruff and mypy
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

benchmarks: $(INSTALLED) ## every benchmark beside its peers; writes benchmarks/results (two hours, quiet machine)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[peers]'
	for name in products curveball operators optimisers spectra resnet18 minimize cost quadratic_step time_to_target; do \
		$(BIN)/python benchmarks/$$name.py || exit 1; done

paper: $(INSTALLED) ## the CurveBall paper's tables and figures, networks at small scale; writes docs/paper.md (an hour)
	$(BIN)/quadric paper table1 --scale full --out runs/paper/table1
	$(BIN)/quadric paper figure1 --out runs/paper/figure1 --overwrite
	$(BIN)/quadric paper table2 --out runs/paper/networks --seeds 2 --workers 2
	$(BIN)/python benchmarks/paper.py runs/paper

study: $(INSTALLED) ## tuned and untuned methods on several problems; resumes; writes docs/study.md (three hours on two cores)
	$(BIN)/python benchmarks/study.py --workers 2
	$(BIN)/python benchmarks/study_page.py runs/study

study-page: $(INSTALLED) ## draw docs/study.md anew from the records in benchmarks/results/study
	$(BIN)/python benchmarks/study_page.py

tune-first-order: $(INSTALLED) ## repeat the search for first-order learning rates, and the targets that come of it (an hour)
	$(BIN)/python -m quadric.bench.tuning

tune-paper: $(INSTALLED) ## repeat the authors' grid search for SGD and Adam in Table 1 (three minutes)
	$(BIN)/python -m quadric.bench.paper.grid

clean: ## remove what make and pip left
	rm -rf .venv dist runs/demo .pytest_cache .mypy_cache .ruff_cache
