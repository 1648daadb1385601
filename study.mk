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
# SAMPLE_OPTIONS CHECK_OPTIONS

# How a step is run; $(1) says on what. The demo keeps the output in a log and prints a line.
run ?= $(PYTHON)

empty :=
space := $(empty) $(empty)
path = $(subst $(space),\ ,$(1))
newer = $(shell [ "$(1)" -nt "$(2)" ] && echo "$(1)")

DATA := $(P)pre_process
SPREADSHEET := $(wildcard $(call path,$(SHEET)))
SIMPLE := $(DATA)/datas/simple.csv
REQUEST_FILES := $(wildcard $(DATA)/datas/inf_batch_v2.jsonl $(DATA)/datas/inf_batch_v2-*-of-*.jsonl)
REQUESTS := $(firstword $(REQUEST_FILES) $(DATA)/datas/inf_batch_v2.jsonl)
LEDGER := $(DATA)/datas/submit_batch.json
ANSWERS := $(wildcard $(DATA)/datas/silver_label_v2.jsonl $(DATA)/datas/silver_label_v2-*.jsonl)
# Answers that came by hand have no ledger: there is nothing to send.
BY_HAND := $(if $(wildcard $(LEDGER)),,$(ANSWERS))
ANSWERED := $(DATA)/datas/submit_batch.done
LABELS := $(DATA)/purged_labeled_v2.csv
AUDIT := $(P)results/audit/audit.json
CORRECTIONS := $(call newer,$(P)results/audit/audit.xlsx,$(AUDIT))
SPLITS := $(DATA)/evaluation/splits.json
SAMPLE := $(DATA)/human_check/sample.json
SHEETS := $(wildcard $(DATA)/human_check/*.xlsx)
UNCODED := $(foreach sheet,$(filter-out %/adjudication.xlsx,$(SHEETS)),$(if \
	$(call newer,$(sheet),$(SAMPLE)),,$(sheet)))
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
TRAINED := $(wildcard $(addsuffix /training.json,$(ADAPTERS) $(TUNED_BERT)))
RUNS := $(foreach name,$(NAMES) $(B),$(P)results/$(name)-before/metrics.json \
	$(P)results/$(name)-after/metrics.json) $(if $(B),$(P)results/$(B)-compare/comparison.txt)
HUMAN_RUNS ?= $(patsubst %,$(P)results/%-human/metrics.json,$(foreach name,$(NAMES),$(if \
	$(wildcard $(call adapter,$(name))/final_model),$(name))) $(if $(wildcard $(TUNED_BERT)),$(B)))

.PHONY: prepare label audit split train sample report status
.PRECIOUS: $(P)prompt.txt $(SIMPLE) $(REQUESTS) $(ANSWERED) $(LABELS) $(AUDIT) $(SPLITS) $(SAMPLE) \
	$(HUMAN_CHECK) $(SUMMARY) $(PAGE) $(RUNS) $(HUMAN_RUNS) \
	$(addsuffix /training.json,$(ADAPTERS) $(TUNED_BERT))

prepare: $(SIMPLE)  ## a study's spreadsheet to CSV: STUDY=studies/gender SHEET=comments.xlsx TEXT=comment
	@[ -f $(P)settings.mk ] || printf 'SHEET = %s\nTEXT = %s\n' '$(SHEET)' '$(TEXT)' >$(P)settings.mk
	@echo "next: write your classes into $(P)prompt.txt, then make label STUDY=$(STUDY)"

label: $(if $(BY_HAND),,$(ANSWERED))  ## send the comments to a provider, read the answers as labels; LIMIT=300 for a pilot
	@$(MAKE) --no-print-directory $(LABELS)

audit: $(AUDIT)  ## look for labels that are probably wrong
	@echo "next: fill in the column corrected of $(P)results/audit/audit.xlsx where a label is wrong,"
	@echo "save it, then make split STUDY=$(STUDY)"

split: $(SPLITS)  ## divide the labelled rows into train, validation and test

train: $(RUNS)  ## score the models, fine-tune them, score them again
	$(if $(LLMS)$(BERT),,@echo "waiting for a model: git clone https://huggingface.co/Qwen/Qwen2.5-3B")

sample: $(SAMPLE)  ## draw the rows that people code, a spreadsheet for each of them
	@for sheet in $(UNCODED); do echo "waiting for $$sheet: have it coded"; done

report: $(if $(SHEETS),$(if $(UNCODED),,$(HUMAN_CHECK) $(HUMAN_RUNS)))  ## score people's codes, compare the models, write the page
	@$(MAKE) --no-print-directory $(PAGE)
	@for sheet in $(UNCODED); do echo "waiting for $$sheet: have it coded"; done
	$(if $(SHEETS),,@echo "no sample was drawn for people to code: make sample STUDY=$(STUDY)")

$(P)prompt.txt:
	@mkdir -p $(@D)
	cp prompt.txt $@

# Once there are requests, a changed spreadsheet is another study's: rows are known by their number.
$(SIMPLE): $(if $(REQUEST_FILES),,$(call path,$(SPREADSHEET))) | $(P)prompt.txt
	$(call run) excel_2_csv.py --study $(STUDY) --excel-file '$(SHEET)' --text-column '$(TEXT)' $(EXCEL_OPTIONS)

$(REQUESTS): | $(SIMPLE)
	$(call run) batch_infer_gen.py --study $(STUDY) $(REQUEST_OPTIONS)

$(ANSWERED): | $(REQUESTS)
	$(call submit) $(if $(LIMIT),--limit $(LIMIT))
	$(if $(LIMIT),,@touch $@)

submit ?= $(call run) submit_batch.py --study $(STUDY) $(SUBMIT_OPTIONS)

$(LABELS): $(ANSWERS) $(CORRECTIONS)
	$(call run) jsonl_to_csv.py --study $(STUDY) $(if $(CORRECTIONS),--corrections $(CORRECTIONS)) $(LABEL_OPTIONS)

$(AUDIT): | $(LABELS) $(BERT)/config.json
	$(call run) label_audit.py --study $(STUDY) --model-path $(BERT) $(AUDIT_OPTIONS)

# Once a model is trained the split stays as it was: new test rows might be rows it has learned.
$(SPLITS): $(if $(TRAINED),,$(if $(wildcard $(SPLITS)),$(wildcard $(LABELS)),$(LABELS)))
	$(call run) split_dataset.py --study $(STUDY) $(SPLIT_OPTIONS)

# The steps of a causal LM in folder $(1), whose name is $(2).
define llm
$(P)results/$(2)-before/metrics.json: $(SPLITS) | $(1)/config.json
	$$(call run,$(2)) local_inference.py --study $(STUDY) --model-path $(1) $(LLM_OPTIONS)

$(call adapter,$(2))/final_model/training.json: | $(SPLITS) $(1)/config.json
	$$(call run,$(2)) finetune.py --study $(STUDY) --model-path $(1) --output-dir $(call adapter,$(2)) \
		$$(if $$(wildcard $(call adapter,$(2))/checkpoint-*/trainer_state.json),--resume) $(FINETUNE_OPTIONS)

$(P)results/$(2)-after/metrics.json: $(call adapter,$(2))/final_model/training.json $(SPLITS)
	$$(call run,$(2)) posttune_eval.py --study $(STUDY) --model-path $(1) \
		--adapter-path $(call adapter,$(2))/final_model $(POSTTUNE_OPTIONS)

$(P)results/$(2)-human/metrics.json: $(call adapter,$(2))/final_model/training.json $(HUMAN_CHECK)
	$$(call run,$(2)) posttune_eval.py --study $(STUDY) --model-path $(1) \
		--adapter-path $(call adapter,$(2))/final_model --test-file $(HUMAN_TEST) \
		--output-dir $$(@D) $(POSTTUNE_OPTIONS)
endef
$(foreach folder,$(LLMS),$(eval $(call llm,$(folder),$(notdir $(folder)))))

$(P)results/$(B)-before/metrics.json: $(SPLITS) | $(BERT)/config.json
	$(call run,$(B)) bert_eval.py --study $(STUDY) --model-path $(BERT) $(BERT_OPTIONS)

$(TUNED_BERT)/training.json: | $(SPLITS) $(BERT)/config.json
	$(call run,$(B)) bert_tune.py --study $(STUDY) --model-path $(BERT) \
		$(if $(wildcard $(P)bert_checkpoints/checkpoint-*/trainer_state.json),--resume) \
		$(BERT_OPTIONS) $(BERT_TUNE_OPTIONS)

$(P)results/$(B)-after/metrics.json: $(TUNED_BERT)/training.json $(SPLITS)
	$(call run,$(B)) bert_tune_eval.py --study $(STUDY) $(BERT_OPTIONS)

$(P)results/$(B)-compare/comparison.txt: $(TUNED_BERT)/training.json $(SPLITS) | $(BERT)/config.json
	$(call run,$(B)) bert_inference_compare.py --study $(STUDY) --model-path $(BERT) $(BERT_OPTIONS)

$(P)results/$(B)-human/metrics.json: $(TUNED_BERT)/training.json $(HUMAN_CHECK)
	$(call run,$(B)) bert_tune_eval.py --study $(STUDY) --test-file $(HUMAN_TEST) \
		--output-dir $(@D) $(BERT_OPTIONS)

$(SAMPLE): | $(SPLITS)
	$(call run) human_sample.py --study $(STUDY) $(SAMPLE_OPTIONS)

$(HUMAN_CHECK): $(SHEETS)
	$(call run) human_check.py --study $(STUDY) $(CHECK_OPTIONS)

$(SUMMARY): $(wildcard $(P)results/*/metrics.json)
	$(call run) compare_models.py --study $(STUDY)

$(PAGE): $(SUMMARY) $(wildcard $(HUMAN_CHECK) $(AUDIT))
	$(call run) write_report.py --study $(STUDY)
