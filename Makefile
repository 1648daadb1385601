# `make` prints the targets.
.DEFAULT_GOAL := help
.PHONY: help install demo test quick browser ray lint bench lock sbom advisories

PYTHON := ./.venv/bin/python

JOBS := $(shell getconf _NPROCESSORS_ONLN)

DEMO = $(MAKE) --no-print-directory -f pre_process/sample/demo.mk

help:  ## print the targets
	@grep -hE '^[a-z-]+:.*## ' Makefile study.mk | sed -E 's/^([a-z-]+):.*## (.*)/make \1	\2/' | expand -t 15

# The steps of a study are in study.mk, and begin with the environment.
STUDY_TARGETS := prepare label retry pilot compare split audit train sample plan plan-labels code apply report status
.PHONY: $(STUDY_TARGETS)
$(STUDY_TARGETS): install
	@$(MAKE) --no-print-directory -f study.mk $@

install:  ## make the environment in ./.venv; quick when nothing changed
	@bash install_env.sh

demo: install  ## run every step on a small sample, in ./demo; again, only what is out of date
	@steps=$$($(DEMO) -n | grep -c timed.sh); [ $$steps = 0 ] || echo "steps to run: $$steps (all of \
	them take about three minutes on two cores). Each prints a line when it is done; the rest of its \
	output goes to demo/logs."
	@$(DEMO) -j $(JOBS)

# Whether there is the browser that the page's tests use.
BROWSER = has() { for name; do command -v $$name >/dev/null && return; done; return 1; }; \
	browser() { has chromium chromium-browser google-chrome google-chrome-stable && has chromedriver; }

# Run the tests that have the marks $(1); in CI, where there is no browser, the page's tests fail.
define run_tests
$(BROWSER); marks="$(1)"; \
if [ "$$CI" != true ] && ! browser; then \
	echo "no chromium or chromedriver: the page's tests in a browser are left out"; \
	marks="$${marks:+$$marks and }not browser"; \
fi; \
set -x; $(PYTHON) -m pytest -n 2 -m "$$marks"
endef

# Two processes run the tests, each with one thread; one that is done takes over tests of the other.
test: lint browser ray  ## lint, then run all tests
	@$(call run_tests,)

quick: lint  ## lint, then run the tests that need no torch and take less than ten seconds
	@$(call run_tests,not torch and not slow)

browser:  ## install Chromium for the page's tests, where root can by apt-get
	@$(BROWSER); \
	if ! browser && [ "$$(id -u)" = 0 ] && has apt-get; then \
		echo "installing chromium and chromium-driver for the page's tests"; \
		export DEBIAN_FRONTEND=noninteractive; \
		apt-get -qq update && apt-get -qq install --yes --no-install-recommends \
			chromium chromium-driver >/dev/null || true; \
	fi

ray: install  ## install Ray for the tests of a corpus, where pip has it
	@$(PYTHON) -c 'import sys, importlib.util as u; sys.exit(not u.find_spec("ray"))' || \
		$(PYTHON) -m pip install --quiet --disable-pip-version-check -r requirements-ray.txt || \
		echo "Ray is not installed: its tests are left out"

lint: install  ## check the code's style
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	./.venv/bin/lint-imports --no-cache

bench: install  ## measure speed and memory side by side, into benchmarks/README.md (three quarters of an hour)
	$(PYTHON) -m pip install --quiet --disable-pip-version-check -r requirements.txt -r benchmarks/requirements.txt
	@for name in report_decoder bert_speed frozen_embeddings row_growth prompt_growth score_speed train_speed train_profile pack_memory data_growth; do \
		$(PYTHON) -m benchmarks.$$name || exit 1; done
	$(PYTHON) -m benchmarks.bert_speed --mean-characters 48

# What makes and lists the lock files is no part of the environment that users install.
TOOLS := .venv/tools/bin
$(TOOLS)/%: Makefile
	$(PYTHON) -m venv .venv/tools
	$(TOOLS)/python -m pip install --quiet --disable-pip-version-check \
		uv==0.13.9 cyclonedx-bom==7.5.0 pip-licenses==5.5.5 pip-audit==2.10.1
	@touch $(TOOLS)/*

# The versions that are in the lock files stay, where requirements.txt allows it.
lock: $(TOOLS)/uv  ## write the lock files again, after a change of requirements.txt
	cat requirements.lock requirements-torch.lock > .venv/both.lock
	$(TOOLS)/uv pip compile requirements.txt --universal --python-version 3.11 --generate-hashes \
		--no-header --quiet --output-file .venv/both.lock
	awk '/^[a-z]/ { torch = /^(torch|triton|nvidia-|cuda-)/ ? "-torch" : "" } \
		{ print > ("requirements" torch ".lock") }' .venv/both.lock

sbom: install $(TOOLS)/cyclonedx-py  ## list the packages and their licences, into sbom
	@mkdir -p sbom
	cat requirements.lock requirements-torch.lock | $(TOOLS)/cyclonedx-py requirements - \
		--output-reproducible --output-file sbom/lock-files.cdx.json
	$(TOOLS)/cyclonedx-py environment $(PYTHON) \
		--output-reproducible --output-file sbom/environment.cdx.json
	$(TOOLS)/pip-licenses --python=$(PYTHON) --format=csv --with-urls --output-file=sbom/licenses.csv

advisories: $(TOOLS)/pip-audit  ## ask on the internet for known weaknesses of the packages
	$(TOOLS)/pip-audit --disable-pip --require-hashes -r requirements.lock -r requirements-torch.lock
