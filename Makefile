# `make` prints the targets.
.DEFAULT_GOAL := help
.PHONY: help install demo test lint bench

PYTHON := ./.venv/bin/python

help:  ## print the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/make \1	\2/' | expand -t 15

install:  ## make the environment in ./.venv; quick when nothing changed
	@bash install_env.sh

demo: install  ## run every step on a small sample, in ./demo; again, only what is out of date
	@$(MAKE) --no-print-directory -f pre_process/sample/demo.mk

test: lint  ## lint, then run all tests
	$(PYTHON) -m pytest

lint: install  ## check the code's style
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .

bench: install  ## measure speed and memory side by side, into benchmarks/README.md (three quarters of an hour)
	$(PYTHON) -m pip install --quiet --disable-pip-version-check -r requirements.txt -r benchmarks/requirements.txt
	@for name in report_decoder bert_speed row_growth prompt_growth score_speed train_speed; do \
		$(PYTHON) -m benchmarks.$$name || exit 1; done
	$(PYTHON) -m benchmarks.bert_speed --mean-characters 48
