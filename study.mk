# A study: which step makes which file from which, once, for your own data and for the demo.
#
#   make prepare STUDY=studies/gender SHEET=comments.xlsx TEXT=comment
#   make label | audit | split | train | sample | report | status   STUDY=studies/gender
#
# Each target goes as far as it can and says what it waits for. The commands are printed as they
# run; each can be given by hand. What was paid for, typed by people or trained is made once: it
# stands behind order-only prerequisites (after |), so that nothing that changes makes it anew, and
# no program is a prerequisite of data. Tables, scores and the page follow what they are made from.

PYTHON ?= ./.venv/bin/python
STUDY ?= .
P := $(STUDY)/
-include $(P)settings.mk

# Settings of a study, on the command line or in its settings.mk.
SHEET ?= $(P)pre_process/datas/weibo_data.xlsx
TEXT ?= comment
LLMS ?= $(patsubst %/config.json,%,$(wildcard ./Qwen2.5-3B/config.json ./Qwen2.5-0.5B/config.json))
BERT ?= $(patsubst %/config.json,%,$(wildcard ./bert-base-chinese/config.json))
LIMIT ?=
# More options: EXCEL_OPTIONS REQUEST_OPTIONS SUBMIT_OPTIONS LABEL_OPTIONS AUDIT_OPTIONS
# SPLIT_OPTIONS LLM_OPTIONS FINETUNE_OPTIONS POSTTUNE_OPTIONS BERT_OPTIONS BERT_TUNE_OPTIONS
# PILOT_OPTIONS SAMPLE_OPTIONS CHECK_OPTIONS

# How a step is run; $(1) says on what. The demo keeps the output in a log and prints a line.
run ?= $(PYTHON)

empty :=
space := $(empty) $(empty)
path = $(subst $(space),\ ,$(1))
newer = $(shell [ "$(1)" -nt "$(2)" ] && echo "$(1)")

AGAIN = $(MAKE) --no-print-directory -f $(firstword $(MAKEFILE_LIST))

DATA := $(P)pre_process
SPREADSHEET := $(call path,$(wildcard $(call path,$(SHEET))))
SIMPLE := $(DATA)/datas/simple.csv
REQUEST_FILES := $(wildcard $(DATA)/datas/inf_batch_v2.jsonl $(DATA)/datas/inf_batch_v2-*-of-*.jsonl)
REQUESTS := $(firstword $(REQUEST_FILES) $(DATA)/datas/inf_batch_v2.jsonl)
LEDGER := $(DATA)/datas/submit_batch.json
ANSWER_FILES := $(wildcard $(DATA)/datas/silver_label_v2.jsonl $(DATA)/datas/silver_label_v2-*.jsonl)
ANSWERS := $(or $(ANSWER_FILES),$(DATA)/datas/silver_label_v2.jsonl)
# Answers that came by hand have no ledger: there is nothing to send.
BY_HAND := $(if $(wildcard $(LEDGER)),,$(ANSWER_FILES))
ANSWERED := $(DATA)/datas/submit_batch.done
LABELS := $(DATA)/purged_labeled_v2.csv
AUDIT := $(P)results/audit/audit.json
CORRECTIONS := $(call newer,$(P)results/audit/audit.xlsx,$(AUDIT))
SPLITS := $(DATA)/evaluation/splits.json
# Rows that people coded can be split without labels of a provider.
LABELS_FOR_SPLITS := $(if $(wildcard $(SPLITS)),$(wildcard $(LABELS)),$(LABELS))
SAMPLE := $(DATA)/human_check/sample.json
SHEETS := $(wildcard $(DATA)/human_check/*.xlsx)
# The sheets of a sample that nobody has saved since the draw: $(1) are its sheets, $(2) its record.
uncoded = $(strip $(foreach sheet,$(filter-out %/adjudication.xlsx,$(1)),$(if \
	$(call newer,$(sheet),$(2)),,$(sheet))))
UNCODED := $(call uncoded,$(SHEETS),$(SAMPLE))
UNCODED_PILOT := $(call uncoded,$(PILOT_SHEETS),$(PILOT))
PILOT := $(DATA)/human_check/pilot/sample.json
PILOT_SHEETS := $(wildcard $(DATA)/human_check/pilot/*.xlsx)
PILOT_OPTIONS ?= --sample-size 100 --min-per-class 10
HUMAN_CHECK := $(P)results/human_check/human_check.json
HUMAN_TEST := $(DATA)/evaluation/human_test.csv
SUMMARY := $(P)results/comparison.json
PAGE := $(P)results/report.html

# The folder of a model's adapter: that of finetune.py for the first of the report's models.
adapter = $(P)qlora_checkpoints$(patsubst %,_%,$(patsubst Qwen2.5-%,%,$(filter-out Qwen2.5-3B,$(1))))
TUNED_BERT := $(P)bert_checkpoints/final_model
NAMES := $(notdir $(LLMS))
B := $(notdir $(BERT))
ADAPTERS := $(foreach name,$(NAMES),$(call adapter,$(name))/final_model)
resumed = $(if $(wildcard $(1)/checkpoint-*/trainer_state.json),--resume)
TRAINED := $(wildcard $(addsuffix /training.json,$(ADAPTERS) $(TUNED_BERT)))
RUNS := $(foreach name,$(NAMES) $(B),$(P)results/$(name)-before/metrics.json \
	$(P)results/$(name)-after/metrics.json) $(if $(B),$(P)results/$(B)-compare/comparison.txt)
HUMAN_RUNS ?= $(patsubst %,$(P)results/%-human/metrics.json,$(foreach name,$(NAMES),$(if \
	$(wildcard $(call adapter,$(name))/final_model),$(name))) $(if $(wildcard $(TUNED_BERT)),$(B)))

.PHONY: prepare label pilot audit split train sample report status waiting anew
.PRECIOUS: $(P)prompt.txt $(SIMPLE) $(REQUESTS) $(ANSWERED) $(LABELS) $(AUDIT) $(SPLITS) $(SAMPLE) \
	$(HUMAN_CHECK) $(SUMMARY) $(PAGE) $(RUNS) $(HUMAN_RUNS) \
	$(addsuffix /training.json,$(ADAPTERS) $(TUNED_BERT))

prepare: $(SIMPLE)  ## a study's spreadsheet to CSV: STUDY=studies/gender SHEET=comments.xlsx TEXT=comment
	@[ -f $(P)settings.mk ] || printf 'SHEET = %s\nTEXT = %s\n' '$(SHEET)' '$(TEXT)' >$(P)settings.mk
	@echo "next: write your classes into $(P)prompt.txt, then make label STUDY=$(STUDY)"

label: $(if $(BY_HAND),,$(ANSWERED))  ## send the comments to a provider, read the answers as labels; LIMIT=300 for a pilot
	@$(AGAIN) $(LABELS)

pilot: $(PILOT)  ## draw a hundred labelled rows to try the codebook on; again, once they are coded: score them
	$(if $(UNCODED_PILOT)$(if $(PILOT_SHEETS),,drawn),@$(AGAIN) waiting,$(call run) human_check.py $(study) --pilot $(CHECK_OPTIONS))

audit: $(if $(BERT),$(AUDIT),bert-base-chinese/config.json)  ## look for labels that are probably wrong
	@echo "next: fill in the column corrected of $(P)results/audit/audit.xlsx where a label is wrong,"
	@echo "save it, then make split STUDY=$(STUDY)"

split: $(SPLITS)  ## divide the labelled rows into train, validation and test

train: $(if $(LLMS)$(BERT),$(RUNS),Qwen2.5-3B/config.json)  ## score the models, fine-tune them, score them again

sample: $(SAMPLE)  ## draw the rows that people code, a spreadsheet for each of them
	@$(AGAIN) waiting

report: $(if $(SHEETS),$(if $(UNCODED),,$(HUMAN_CHECK) $(HUMAN_RUNS)))  ## score people's codes, compare the models, write the page
	@$(AGAIN) waiting $(PAGE)

waiting:
	@for sheet in $(UNCODED) $(UNCODED_PILOT); do echo "waiting for $$sheet: have it coded"; done
	$(if $(SHEETS)$(PILOT_SHEETS),,@echo "no sample was drawn for people to code: make sample STUDY=$(STUDY)")

# A step: its target, its file, what that follows, what it is made from once, the script with its
# options, and the model that it works on. `make status` reads these lines too.
define step
$(2): $(3) | $(4)
	$$(call run,$(6)) $(5)

STEPS := $$(STEPS)$(firstword $(5))|$(6)|$(1)|$(2)|$(3)|$(4)$$(newline)
endef
define newline


endef
study = --study $(STUDY)

$(SIMPLE): | $(P)prompt.txt
$(P)prompt.txt:
	@mkdir -p $(@D)
	cp prompt.txt $@

# Once there are requests, a changed spreadsheet is another study's: rows are known by their number.
$(eval $(call step,prepare,$(SIMPLE),$(if $(REQUEST_FILES),,$(SPREADSHEET)),$(SPREADSHEET),\
	excel_2_csv.py $(study) --excel-file '$(SHEET)' --text-column '$(TEXT)' $(EXCEL_OPTIONS)))
$(eval $(call step,label,$(REQUESTS),,$(SIMPLE) $(P)prompt.txt,\
	batch_infer_gen.py $(study) $(REQUEST_OPTIONS)))

# A ledger that was moved away, to label anew, takes the word "done" with it.
$(ANSWERED): $(if $(wildcard $(LEDGER)),,anew) | $(REQUESTS)
	$(submit) $(if $(LIMIT),--limit $(LIMIT))
	$(if $(LIMIT),,@touch $@)

submit ?= $(run) submit_batch.py $(study) $(SUBMIT_OPTIONS)
STEPS := $(STEPS)submit_batch.py||label|$(ANSWERED)||$(REQUESTS)$(newline)

$(ANSWERS):
	@[ -f $@ ] || { echo "waiting for labels: make label STUDY=$(STUDY)"; exit 1; }

$(eval $(call step,label,$(LABELS),$(ANSWERS) $(CORRECTIONS),,\
	jsonl_to_csv.py $(study) $(if $(CORRECTIONS),--corrections $(CORRECTIONS)) $(LABEL_OPTIONS)))
# Once a model is trained the split stays as it was: new test rows might be rows that it has learned.
$(eval $(call step,split,$(SPLITS),$(if $(TRAINED),,$(LABELS_FOR_SPLITS)),$(LABELS_FOR_SPLITS),\
	split_dataset.py $(study) $(SPLIT_OPTIONS)))

# The steps of a causal LM: its folder, name and adapter's folder.
define llm
$(call step,train,$(P)results/$(2)-before/metrics.json,$(SPLITS),$(1)/config.json,\
	local_inference.py $(study) --model-path $(1) $(LLM_OPTIONS),$(2))
$(call step,train,$(3)/final_model/training.json,,$(SPLITS) $(1)/config.json,\
	finetune.py $(study) --model-path $(1) --output-dir $(3) \
	$(call resumed,$(3)) $(FINETUNE_OPTIONS),$(2))
$(call step,train,$(P)results/$(2)-after/metrics.json,$(3)/final_model/training.json $(SPLITS),,\
	posttune_eval.py $(study) --model-path $(1) --adapter-path $(3)/final_model $(POSTTUNE_OPTIONS),$(2))
$(if $(filter $(P)results/$(2)-human/metrics.json,$(HUMAN_RUNS)),\
$(call step,report,$(P)results/$(2)-human/metrics.json,$(3)/final_model/training.json $(HUMAN_CHECK),,\
	posttune_eval.py $(study) --model-path $(1) --adapter-path $(3)/final_model \
	--test-file $(HUMAN_TEST) --output-dir $(P)results/$(2)-human $(POSTTUNE_OPTIONS),$(2)))
endef
$(foreach folder,$(LLMS),$(eval \
	$(call llm,$(folder),$(notdir $(folder)),$(call adapter,$(notdir $(folder))))))

ifneq ($(BERT),)
$(eval $(call step,audit,$(AUDIT),,$(LABELS) $(BERT)/config.json,\
	label_audit.py $(study) --model-path $(BERT) $(AUDIT_OPTIONS)))
$(eval $(call step,train,$(P)results/$(B)-before/metrics.json,$(SPLITS),$(BERT)/config.json,\
	bert_eval.py $(study) --model-path $(BERT) $(BERT_OPTIONS),$(B)))
$(eval $(call step,train,$(TUNED_BERT)/training.json,,$(SPLITS) $(BERT)/config.json,\
	bert_tune.py $(study) --model-path $(BERT) $(call resumed,$(P)bert_checkpoints) \
	$(BERT_OPTIONS) $(BERT_TUNE_OPTIONS),$(B)))
$(eval $(call step,train,$(P)results/$(B)-after/metrics.json,$(TUNED_BERT)/training.json $(SPLITS),,\
	bert_tune_eval.py $(study) $(BERT_OPTIONS),$(B)))
$(eval $(call step,train,$(P)results/$(B)-compare/comparison.txt,$(TUNED_BERT)/training.json $(SPLITS),\
	$(BERT)/config.json,\
	bert_inference_compare.py $(study) --model-path $(BERT) $(BERT_OPTIONS),$(B)))
$(eval $(call step,report,$(P)results/$(B)-human/metrics.json,$(TUNED_BERT)/training.json $(HUMAN_CHECK),,\
	bert_tune_eval.py $(study) --test-file $(HUMAN_TEST) \
	--output-dir $(P)results/$(B)-human $(BERT_OPTIONS),$(B)))
endif

$(eval $(call step,pilot,$(PILOT),,$(SPLITS),human_sample.py $(study) --pilot $(PILOT_OPTIONS)))
$(eval $(call step,sample,$(SAMPLE),,$(SPLITS),human_sample.py $(study) $(SAMPLE_OPTIONS)))
$(eval $(call step,report,$(HUMAN_CHECK),$(SHEETS),$(SAMPLE),human_check.py $(study) $(CHECK_OPTIONS)))
$(eval $(call step,report,$(SUMMARY),$(wildcard $(P)results/*/metrics.json),,\
	compare_models.py $(study)))
$(eval $(call step,report,$(PAGE),$(SUMMARY) $(wildcard $(HUMAN_CHECK) $(AUDIT)),,\
	write_report.py $(study)))

# What has no rule of its own: a model that was not fetched yet.
%/config.json:
	@echo "waiting for the model $*: git clone it from https://huggingface.co, as the README says"; exit 1

status:  ## print what of a study is done, waiting or out of date
	@$(PYTHON) -m pipeline.report.status
status: export STEPS := $(STEPS)
status: export STUDY := $(STUDY)
