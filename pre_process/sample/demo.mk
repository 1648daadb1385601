# The embedded sample as a study, in ./demo, as `make demo` makes it: study.mk has the steps, and
# here is what a real study has otherwise: its spreadsheet, models, provider and people are made up.
# Only sizes differ. Chains that do not depend on each other run side by side, with a thread each.

.DEFAULT_GOAL := tables
.PHONY: tables

STUDY := demo
SHEET := demo/weibo_data.xlsx
MODELS := demo/models
LLMS := $(MODELS)/Qwen2-tiny-0.7M $(MODELS)/Qwen2-tiny-0.3M
BERT := $(MODELS)/bert-tiny-chinese
REQUEST_OPTIONS := --top-logprobs 5
SUBMIT_OPTIONS := --poll-seconds 0.5 --wait-for-rows 1 --accept-missing --yes
FINETUNE_OPTIONS := --learning-rate 2e-3 --max-tokens-per-pack 4096
BERT_TUNE_OPTIONS := --learning-rate 5e-4 --num-train-epochs 7 \
	--per-device-train-batch-size 16
SAMPLE_OPTIONS := --sample-size 300
HUMAN_RUNS := demo/results/bert-tiny-chinese-human/metrics.json
CODER := bert-tiny-chinese
TARGET := 0.8
SCORES = $(RUNS) $(HUMAN_RUNS)
run = @bash pre_process/sample/timed.sh demo/logs '$(1)' $(PYTHON)
# A provider that was stopped has forgotten its batches: what was sent to it is sent anew.
submit = @rm -rf $(LEDGER) $(ANSWERS) $(DATA)/datas/jobs; exec bash pre_process/sample/timed.sh demo/logs '' bash pre_process/sample/with_provider.sh demo \
	$(PYTHON) submit_batch.py --study $(STUDY) $(SUBMIT_OPTIONS)

export OMP_NUM_THREADS := 1
ifeq ($(shell uname),Darwin) # Apple's GPUs were not tried
export ACCELERATE_USE_CPU := 1
endif

include study.mk

CODED := demo/coded.done
TRUTH := demo/truth.csv

tables: $(PAGE)
	@for run in $(RUNS:/metrics.json=); do [ -f $$run/report.txt ] || continue; \
		printf '\n-- %s/report.txt\n\n' $$run; sed '/^Measured against/,$$d' $$run/report.txt; done
	@printf -- '-- demo/results/summary.md\n\n'; cat demo/results/summary.md
	@printf '\n-- demo/results/human_check/report.txt\n\n'; cat demo/results/human_check/report.txt
	@printf '\nFigure 1: demo/results/figure1.png\nEverything on one page: $(PAGE)\n'

$(SHEET):
	$(call run) -m pre_process.sample.make_sample --excel-file $@ --truth-file $(TRUTH)

# The data steps are quick and come first, in the order of their numbers.
$(MODELS)/%/config.json: | $(SPLITS)
	$(call run,$*) -m pre_process.sample.build_models --output-dir $(MODELS) --only $*

# Two people code their sheets; a third decides where they disagree, once human_check.py has said so.
$(CODED): $(SAMPLE)
	$(call run) -m pre_process.sample.coders --sheets-dir $(<D) --truth-file $(TRUTH)
	$(call run) human_check.py --study $(STUDY)
	$(call run,adjudication) -m pre_process.sample.coders --sheets-dir $(<D) --truth-file $(TRUTH)
	@touch $@

demo/results/shares.done: $(HUMAN_CHECK)
	$(call run,shares) -m pre_process.sample.coders --check --result-file $< --labeled-file $(LABELS) \
		--truth-file $(TRUTH)
	@touch $@

$(SIMPLE): | $(SHEET)
$(ANSWERS): | $(ANSWERED)
$(HUMAN_CHECK): $(CODED)
$(PLAN): $(HUMAN_RUNS)
$(CODING): $(PLAN) $(HUMAN_CHECK) $(LABELS)
$(LABEL_PLAN): $(SPLITS)
$(PAGE): $(HUMAN_CHECK) $(AUDIT) $(PLAN) $(CODING) $(LABEL_PLAN) demo/results/shares.done
