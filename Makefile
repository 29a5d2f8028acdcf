# make demo | cola-tiny | test | test-all | lint | docs | niivue | clean; `make help` explains them.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV ?= .venv
BIN := $(VENV)/bin
# Workers of the tests; each uses one thread.
WORKERS ?= 2
DEMO ?= demo

# Which build of torch: empty takes what pip's configured index gives (on PyPI for Linux a CUDA
# build), cpu and cuda take PyTorch's own builds, and so does any tag of its index, such as cu126.
TORCH ?=
TORCH_VERSION := $(shell sed -n 's/^torch==//p' constraints.txt)
torch_tag := $(patsubst cuda,cu130,$(TORCH))
ifeq ($(TORCH),)
torch_arguments := torch==$(TORCH_VERSION)
else
torch_arguments := torch==$(TORCH_VERSION)+$(torch_tag) --extra-index-url https://download.pytorch.org/whl/$(torch_tag)
endif

# One stamp per choice of torch: asking for another one installs it, asking again does nothing.
READY := $(VENV)/.ready$(addprefix -,$(TORCH))

.PHONY: help setup demo cola-tiny test test-all coverage lint format docs niivue clean

help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

setup: $(READY) ## Make the virtual environment with the tested versions

$(READY): setup.cfg pyproject.toml constraints.txt colapipe/__init__.py Makefile .ci/make-venv
	PYTHON="$(PYTHON)" bash .ci/make-venv $(VENV)
	@echo "Installing colapipe and what it needs into $(VENV) (2 GB or more, some minutes)."
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --progress-bar off \
	    --constraint constraints.txt $(torch_arguments) --editable '.[demo,validate,test,dev,docs]'
	@rm -f $(VENV)/.ready*
	@touch $@

demo: $(READY) $(DEMO)/bids/dataset_description.json ## Run the app on a simulated dataset
	$(BIN)/colapipe $(DEMO)/bids $(DEMO)/derivatives participant --work-dir $(DEMO)/work
	@echo
	@echo "The reports, for a browser:"
	@ls -1 "$(abspath $(DEMO))"/derivatives/sub-*.html

$(DEMO)/bids/dataset_description.json: | $(READY)
	$(BIN)/colapipe-demo $(DEMO)/bids

# Train the bundled model anew: some hours on two cores. Repeating it goes on where it stopped.
# manual: docs/training.md
DATA ?= brats_train
COLA := build/cola-tiny

cola-tiny: $(READY) ## Train the bundled model again, from DATA=brats_train and simulated heads
	test -d $(COLA)/simulated || $(BIN)/colapipe-demo $(COLA)/simulated --subjects 4 --seed 4000 \
	    --contrasts T1w T2w T1ce FLAIR PDw --missing none --brain-only --coregistered --lesion
	for data in $(DATA) $(COLA)/simulated; do \
	    $(BIN)/colapipe $$data $(COLA)/derivatives/$$(basename $$data) participant \
	        --preproc-only --engine builtin --work-dir $(COLA)/work; \
	done
	OMP_NUM_THREADS=1 $(BIN)/colapipe-model train --out $(COLA)/run --preset tiny \
	    --data $(COLA)/derivatives/$(notdir $(DATA)) $(COLA)/derivatives/simulated \
	    --split colapipe/training/splits/cola-tiny.json --name cola-tiny \
	    --iterations 15802 --batch-size 4 --precision bfloat16 --save-every 1000

test: $(READY) ## Run the tests, without the slow ones
	OMP_NUM_THREADS=1 $(BIN)/pytest -m "not slow" -n $(WORKERS) --dist loadfile

test-all: $(READY) ## Run all tests, the slow ones too
	OMP_NUM_THREADS=1 $(BIN)/pytest -n $(WORKERS) --dist loadfile

coverage: $(READY) ## Run the tests and say which lines they reach
	OMP_NUM_THREADS=1 $(BIN)/pytest -m "not slow" -n $(WORKERS) --dist loadfile \
	    --cov --cov-report=term-missing:skip-covered

# mypy takes a package for one folder. build/types is the package as it is installed, made of links.
lint: $(READY) ## Check style (ruff), types (mypy) and the Dockerfile (hadolint)
	$(BIN)/ruff check .
	$(BIN)/hadolint Dockerfile
	rm -rf build/types
	mkdir -p build/types/colapipe
	ln -s $(CURDIR)/colapipe/* $(CURDIR)/{workflows,interfaces,bids_templates} build/types/colapipe/
	MYPYPATH=build/types $(BIN)/mypy --package colapipe

format: $(READY) ## Sort imports and apply the fixes that ruff knows
	$(BIN)/ruff check --fix .

docs: $(READY) ## Build the manual into build/docs
	$(BIN)/mkdocs build --strict --site-dir build/docs

# Another version: make niivue NIIVUE=VERSION NIIVUE_SHA256=... (of its package on npm).
NIIVUE ?= 0.69.0
NIIVUE_SHA256 ?= 6e9a6a471b428eb3b258a0086beca9187d95e43a781a39e8a519c6da246af485

niivue: ## Fetch NiiVue, which the 3-D pages are made with, into the package (needs npm)
	bash .ci/get-niivue $(NIIVUE) $(NIIVUE_SHA256)

clean: ## Remove what make made, the virtual environment and the demo included
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .coverage htmlcov
	rm -rf $(DEMO)/bids $(DEMO)/derivatives $(DEMO)/work
	find colapipe workflows interfaces bids_templates tests -name __pycache__ -type d -prune -exec rm -rf {} +
