# A study: which step makes which file from which, once, for your own data and for the demo.
#
#   make prepare STUDY=studies/gender SHEET=comments.xlsx TEXT=comment
#   make label | retry | pilot | compare | split | audit | train | sample | plan | code | apply | report | status
#   make plan-labels   STUDY=studies/gender
#
# Each target goes as far as it can and says what it waits for. The commands are printed as they
# run; each can be given by hand. What was paid for, typed by people or trained is made once: it
# stands behind order-only prerequisites (after |), or is made by a script that asks for what is new
# alone, and no program is a prerequisite of data. All else follows what it is made from.

PYTHON ?= ./.venv/bin/python
STUDY ?= .
ifneq ($(words $(STUDY)),1)
$(error STUDY=$(STUDY): give a folder without a space in its name, such as studies/gender)
endif
override STUDY := $(patsubst %/,%,$(STUDY))
P := $(STUDY)/
-include $(P)settings.mk

# Settings of a study, on the command line or in its settings.mk.
SHEET ?= $(P)pre_process/datas/weibo_data.xlsx
TEXT ?= comment
LLMS ?= $(patsubst %/config.json,%,$(wildcard ./Qwen2.5-3B/config.json ./Qwen2.5-0.5B/config.json))
BERT ?= $(patsubst %/config.json,%,$(wildcard ./bert-base-chinese/config.json))
LIMIT ?=
override LLMS := $(patsubst %/,%,$(LLMS))
override BERT := $(patsubst %/,%,$(BERT))
# More options: EXCEL_OPTIONS REQUEST_OPTIONS SUBMIT_OPTIONS LABEL_OPTIONS AUDIT_OPTIONS
# SPLIT_OPTIONS LLM_OPTIONS FINETUNE_OPTIONS POSTTUNE_OPTIONS BERT_OPTIONS BERT_TUNE_OPTIONS
# PILOT_OPTIONS SAMPLE_OPTIONS CHECK_OPTIONS COMPARE_OPTIONS PLAN_OPTIONS PLAN_LABELS_OPTIONS CODE_OPTIONS

# How a step is run; $(1) says on what. The demo keeps the output in a log and prints a line.
run ?= $(PYTHON)
study = --study $(STUDY)

# What the steps have made is looked up when make starts. For what follows them it starts again.
AGAIN = $(MAKE) --no-print-directory -f $(firstword $(MAKEFILE_LIST))

# A text as the shell reads it, as a makefile does, and as a list of paths does.
hash := \#
empty :=
space := $(empty) $(empty)
comma := ,
quoted = '$(subst ','\'',$(1))'
in_makefile = $(subst $(hash),\$(hash),$(1))
path = $(subst $(space),\ ,$(call in_makefile,$(1)))

# Something where two texts differ; where the first of two files is the newer one.
differ = $(subst x$(1)x,,x$(2)x)$(subst x$(2)x,,x$(1)x)
newer = $(shell [ $(call quoted,$(1)) -nt $(call quoted,$(2)) ] && echo newer)

DATA := $(P)pre_process
SPREADSHEET := $(call path,$(wildcard $(call path,$(SHEET))))
SIMPLE := $(DATA)/datas/simple.csv
# A file that is newer than now would make all that follows it out of date, at each make.
ahead = import os, sys, time; \
	files = (os.path.join(d, f) for top in sys.argv[1:] for d, _, fs in os.walk(top) for f in fs); \
	print(*(f for f in files if os.path.isfile(f) and os.path.getmtime(f) > time.time() + 60), sep="\n")
AHEAD := $(if $(filter status,$(MAKECMDGOALS)),,$(shell $(PYTHON) -c '$(ahead)' '$(DATA)' '$(P)results' | head -3))
ifneq ($(AHEAD),)
$(error times ahead of the clock (see `date`): $(AHEAD): set the clock, or give the files a time of \
	now by: find $(P). -type f -newermt now -exec touch {} +)
endif
# What `make prepare` writes into settings.mk, and which of it is given otherwise now.
PREPARED := SHEET TEXT EXCEL_OPTIONS
kept = $(if $(wildcard $(P)settings.mk),$(shell sed -n 's/^$(1) *[:?]*= *//p' $(P)settings.mk))
CHANGED := $(if $(wildcard $(P)settings.mk),$(strip $(foreach name,$(PREPARED),$(if \
	$(call differ,$(call in_makefile,$($(name))),$(call kept,$(name))),$(name)))))
REQUEST_FILES := $(wildcard $(DATA)/datas/inf_batch_v2.jsonl $(DATA)/datas/inf_batch_v2-*-of-*.jsonl)
REQUESTS := $(firstword $(REQUEST_FILES) $(DATA)/datas/inf_batch_v2.jsonl)
LEDGER := $(DATA)/datas/submit_batch.json
SENT := $(if $(wildcard $(LEDGER)),$(shell grep -l '"file": "inf_batch_v2' $(LEDGER)))
# Answers come from the ledger, or by hand: then MORE_ANSWERS may name the files.
MORE_ANSWERS ?=
ANSWER_FILES := $(wildcard $(DATA)/datas/silver_label_v2.jsonl) $(MORE_ANSWERS)
ANSWERS := $(or $(strip $(ANSWER_FILES)),$(DATA)/datas/silver_label_v2.jsonl)
# Answers to requests that the ledger does not have came by hand: there is nothing to send.
BY_HAND := $(if $(SENT),,$(strip $(ANSWER_FILES)))
# Where people coded all rows there is nothing to ask.
ALL_CODED := $(if $(wildcard $(SIMPLE)),$(shell grep -qE ',"-1"(,"")*$$' $(SIMPLE) || echo yes))
RETRY := $(DATA)/datas/retry_v2.jsonl
ANSWERED := $(DATA)/datas/submit_batch.done
LABELS := $(DATA)/purged_labeled_v2.csv
AUDIT := $(P)results/audit/audit.json
# The audit's sheet, once people saved it; what was read of it is in corrections.csv, and stays there.
READ := $(wildcard $(DATA)/corrections.csv)
CORRECTIONS := $(if $(and $(call newer,$(P)results/audit/audit.xlsx,$(AUDIT)),$(if $(READ),$(call \
	newer,$(P)results/audit/audit.xlsx,$(READ)),unread)),$(P)results/audit/audit.xlsx)
SPLITS := $(DATA)/evaluation/splits.json
# A folder's sheets that people fill in: those of the coders whom its record names.
sheets = $(call sheets_of,$(1),sample.json)
sheets_of = $(shell { sed -n '/"coders": \[/,/\]/s/^ *"\(.*\)",*$$/\1/p' $(1)/$(2); \
	echo adjudication; } 2>/dev/null | while read -r name; do \
	[ ! -f "$(1)/$$name.xlsx" ] || echo "$(1)/$$name.xlsx"; done | sed 's/ /\\ /g')
# Each codebook has a pilot of its own: pilot, pilot_2, ...
pilot_folder = from pipeline.common.codebook import read_codebook as read; \
	from pipeline.people.sample import sample_folder; \
	print(sample_folder("$(DATA)/human_check", True, read("$(P)prompt.txt")).name)
PILOT_NAME := $(or $(if $(findstring pilot,$(MAKECMDGOALS)),$(if $(wildcard $(P)prompt.txt),$(shell \
	$(PYTHON) -c '$(pilot_folder)'))),pilot)
PILOT := $(DATA)/human_check/$(PILOT_NAME)/sample.csv
PILOT_CHECK := $(P)results/human_check/$(PILOT_NAME)/human_check.json
PILOT_OPTIONS ?= --sample-size 100 --min-per-class 10
SAMPLE := $(DATA)/human_check/sample.csv
HUMAN_CHECK := $(P)results/human_check/human_check.json
HUMAN_TEST := $(DATA)/evaluation/human_test.csv
# Sets of labels, and people's codes of the same rows. Of one set alone the script knows if there is
# anything to compare, such as repeats.
LABEL_SETS := $(wildcard $(DATA)/label_sets/*/labels.csv)
HUMAN_LABELS := $(wildcard $(addsuffix human_labels.csv,$(DATA)/human_check*/ $(DATA)/human_check*/pilot*/))
COMPARABLE := $(and $(LABEL_SETS),$(word 2,$(LABEL_SETS) $(HUMAN_LABELS)))
COMPARED := $(P)results/label_sets/comparison.json
SUMMARY := $(P)results/comparison.json
SCORES ?= $(or $(wildcard $(P)results/*/metrics.json),$(P)results/<run>/metrics.json)
PAGE := $(P)results/report.html

# The folder of a model's adapter: that of finetune.py for the first of the report's models.
adapter = $(P)qlora_checkpoints$(patsubst %,_%,$(patsubst Qwen2.5-%,%,$(filter-out Qwen2.5-3B,$(1))))
TUNED_BERT := $(P)bert_checkpoints/final_model
# A model goes by the name of its folder, as in the scripts: where that is a link, by the link's target.
named = $(notdir $(or $(realpath $(1)),$(1)))
NAMES := $(foreach folder,$(LLMS),$(call named,$(folder)))
B := $(if $(BERT),$(call named,$(BERT)))
ADAPTERS := $(foreach name,$(NAMES),$(call adapter,$(name))/final_model)
resumed = $(if $(wildcard $(1)/checkpoint-*/trainer_state.json),--resume)
TRAINED := $(wildcard $(addsuffix /training.json,$(ADAPTERS) $(TUNED_BERT)))
# Who codes the spreadsheet: a tuned model's name, by default that of the highest accuracy. A plan
# has an accuracy that is wanted, or what the rest may cost: yuan, or minutes of people's time.
CODER ?=
TARGET ?=
BUDGET ?=
MINUTES ?=
WHO ?=
WISHES := TARGET BUDGET MINUTES
typed = $(findstring command,$(origin $(1)))
# A wish that is typed takes the place of another that was kept.
$(if $(strip $(foreach name,$(WISHES),$(call typed,$(name)))),$(foreach name,$(WISHES),$(if \
	$(call typed,$(name)),,$(eval override $(name) :=))))
PLANNED := CODER WHO $(WISHES)
NEW_PLAN := $(if $(strip $(foreach name,$(PLANNED),$(call typed,$(name)))),$(strip $(foreach name,$(PLANNED),$(if \
	$(call differ,$($(name)),$(call kept,$(name))),$(name)))))
tuned_folder = $(if $(filter $(B),$(1)),$(TUNED_BERT),$(call adapter,$(1))/final_model)
TUNED := $(foreach name,$(NAMES) $(B),$(if $(wildcard $(call tuned_folder,$(name))/training.json),$(name)))
override CODER := $(or $(CODER),$(if $(TUNED),$(shell \
	$(PYTHON) -m pipeline.evaluation.best_run '$(P)results' $(TUNED))))
PLAN := $(P)results/plan/plan.json
LABEL_PLAN := $(P)results/plan/labels.json
CODING := $(P)results/coded/coded.json
UNSURE := $(DATA)/datas/unsure_v2.jsonl
# Rows that the plan leaves to people, in sheets of their own, and what they coded.
TASK := $(DATA)/coding/coding.json
TASK_CODES := $(DATA)/coding/human_labels.csv

RUNS := $(foreach name,$(NAMES) $(B),$(P)results/$(name)-before/metrics.json \
	$(P)results/$(name)-after/metrics.json) $(if $(B),$(P)results/$(B)-compare/comparison.txt)
HUMAN_RUNS ?= $(foreach name,$(NAMES),$(if \
	$(wildcard $(call adapter,$(name))/final_model/training.json),$(P)results/$(name)-human/metrics.json)) \
	$(if $(wildcard $(TUNED_BERT)/training.json),$(if $(B),$(P)results/$(B)-human/metrics.json))

.PHONY: prepare label retry pilot audit split train sample plan plan-labels code apply report status \
	human_runs anew
.PRECIOUS: $(P)prompt.txt $(SIMPLE) $(REQUESTS) $(ANSWERED) $(LABELS) $(AUDIT) $(SPLITS) $(PILOT) \
	$(PILOT_CHECK) $(SAMPLE) $(HUMAN_CHECK) $(SUMMARY) $(PAGE) $(PLAN) $(LABEL_PLAN) $(CODING) $(TASK_CODES) $(RUNS) $(HUMAN_RUNS) \
	$(addsuffix /training.json,$(ADAPTERS) $(TUNED_BERT))

# Why changed labels are not taken.
KEPT_SPLIT = a model was trained on it; to split the new labels, move $(TRAINED:/final_model/training.json=) away

# Say which sheets of a folder wait for people; fail where one does.
coded = $(PYTHON) -m pipeline.people.waiting

# Write settings into settings.mk; $(1) names them. A new file has those of `make prepare` too.
keep = $(if $(1),touch $(P)settings.mk;) $(foreach name,$(1),sed '/^$(name) *[:?]*=/d' $(P)settings.mk >$(P)settings.new && \
	mv $(P)settings.new $(P)settings.mk; \
	echo $(call quoted,$(name) = $(call in_makefile,$($(name)))) >>$(P)settings.mk;)

prepare: $(SIMPLE)  ## a study's spreadsheet to CSV: STUDY=studies/gender SHEET=comments.xlsx TEXT=comment
	@$(call keep,$(or $(CHANGED),$(if $(wildcard $(P)settings.mk),,$(PREPARED))))
	@echo "next: write your classes into $(P)prompt.txt, then make label STUDY=$(STUDY)"

label: $(if $(BY_HAND)$(ALL_CODED),,$(ANSWERED))  ## send the comments to a provider, read the answers as labels; LIMIT=300 for a pilot
	+@$(AGAIN) $(LABELS)

retry:  ## send the comments that got no label once more
	$(if $(shell [ -f $(RETRY) ] && [ ! -s $(RETRY) ] && echo none),\
		@echo "no comment is left to ask again",$(submit) --requests-file $(RETRY))
	+@$(AGAIN) $(LABELS)

pilot: $(PILOT)  ## draw a hundred labelled rows to try the codebook on; again, once they are coded: score them
	+@if $(coded) $(<D); then $(AGAIN) $(PILOT_CHECK); fi

split: $(SPLITS)  ## divide the labelled rows into train, validation and test
	@$(if $(and $(TRAINED),$(call newer,$(LABELS),$(SPLITS))),echo "the split stays as it was: $(KEPT_SPLIT)")

audit: $(if $(BERT),$(AUDIT),bert-base-chinese/config.json)  ## look for labels that are probably wrong
	@echo "next: fill in the column corrected of $(P)results/audit/audit.xlsx where a label is wrong,"
	@echo "save it, then make split STUDY=$(STUDY)"

train: $(if $(LLMS)$(BERT),$(RUNS),Qwen2.5-3B/config.json)  ## score the models, fine-tune them, score them again

sample: $(SAMPLE)  ## draw the rows that people code, a spreadsheet for each of them
	@$(coded) $(<D) || true

.PHONY: compare
compare: $(COMPARED)  ## compare the labels of two codebooks or teachers, also with people's codes
	@echo "the labels beside each other: $(P)results/label_sets/comparison.html"

plan: $(PLAN)  ## which rows a tuned model codes, and which others: TARGET=0.9, or BUDGET=20 (yuan)
	@$(if $(NEW_PLAN),$(call keep,$(if $(wildcard $(P)settings.mk),,$(PREPARED)) $(NEW_PLAN)))

plan-labels: $(if $(BERT),$(LABEL_PLAN),bert-base-chinese/config.json)  ## how many labels are enough: measure, and say what more would bring

code:  ## code the whole spreadsheet: by people, the teacher and, for the rest, the best tuned model
	+@if [ -f $(TASK) ] && $(coded) $(dir $(TASK)) >/dev/null; then $(AGAIN) $(TASK_CODES); fi
	@$(if $(word 2,$(TUNED)),echo "the tuned model is $(CODER): CODER=... takes another of $(TUNED)",true)
	+@$(AGAIN) $(CODING)
	@$(if $(NEW_PLAN),$(call keep,$(if $(wildcard $(P)settings.mk),,$(PREPARED)) $(NEW_PLAN)))
	@[ ! -f $(TASK) ] || $(coded) $(dir $(TASK)) || true

apply: $(CODING)  ## give the rows that the plan leaves to others to the teacher, or to people as sheets
	$(call run) plan_coding.py $(study) --apply $(PLAN_OPTIONS)
	+@if grep -q '"who": "people"' $(PLAN); then $(coded) $(dir $(TASK)) || true; else $(AGAIN) asked; fi

.PHONY: asked
asked:
	$(submit) --requests-file $(UNSURE)
	+@$(AGAIN) $(LABELS) && $(AGAIN) $(CODING)

report:  ## score people's codes, compare the models, write the page
	+@if $(coded) $(dir $(SAMPLE)); then $(AGAIN) $(HUMAN_CHECK) && $(AGAIN) human_runs; fi
	+@$(AGAIN) $(PAGE)
	@$(coded) $(dir $(SAMPLE)) >/dev/null 2>&1 && $(coded) $(dir $(SAMPLE)) || true

# There is no test set of people's labels where models learn from the rows that they coded.
human_runs: $(if $(wildcard $(HUMAN_TEST)),$(HUMAN_RUNS))
	@:

# A step: its target, its file, what that follows, what it is made from once, the script with its
# options, and the model that it works on. `make status` reads these lines too.
define step
$(2): $(3) | $(4)
	$$(call run,$(6)) $(5)

STEPS := $$(STEPS)$(firstword $(5))|$(6)|$(1)|$(2)|$(3)|$(4)$$(newline)
endef
define newline


endef
$(SIMPLE): | $(P)prompt.txt
$(P)prompt.txt:
	@mkdir -p $(@D)
	cp prompt.txt $@

# A changed spreadsheet or codebook is read again: labels belong to a comment and a codebook, so that
# rows that moved keep theirs. What is asked anew is asked at the price that is shown.
# Classes that people gave are read by the codebook.
$(eval $(call step,prepare,$(SIMPLE),$(SPREADSHEET) $(if \
	$(findstring --label-column,$(EXCEL_OPTIONS)),$(P)prompt.txt),,\
	excel_2_csv.py $(study) --excel-file $(call quoted,$(SHEET)) \
	--text-column $(call quoted,$(TEXT)) $(EXCEL_OPTIONS)))
$(SIMPLE): $(if $(CHANGED),anew)
$(eval $(call step,label,$(REQUESTS),$(SIMPLE) $(P)prompt.txt,,\
	batch_infer_gen.py $(study) $(REQUEST_OPTIONS)))

# A ledger that was moved away, to label anew, takes the word "done" with it.
$(ANSWERED): $(if $(and $(SENT),$(strip $(ANSWER_FILES))),,anew) $(REQUESTS)
	$(submit) $(if $(LIMIT),--limit $(LIMIT))
	$(if $(LIMIT),,@touch $@)

submit ?= $(run) submit_batch.py $(study) $(SUBMIT_OPTIONS)
ifeq ($(BY_HAND),)
STEPS := $(STEPS)submit_batch.py||label|$(ANSWERED)|$(REQUESTS)|$(newline)
endif

$(ANSWERS):
	@[ -f $@ ] || { echo "waiting for labels: make label STUDY=$(STUDY)"; exit 1; }

$(eval $(call step,label,$(LABELS),$(if $(ALL_CODED),,$(ANSWERS)) $(CORRECTIONS) $(SIMPLE),,\
	jsonl_to_csv.py $(study) $(if $(MORE_ANSWERS),--answers-file $(subst $(space),$(comma),$(strip $(ANSWER_FILES)))) \
	$(if $(CORRECTIONS),--corrections $(CORRECTIONS)) $(LABEL_OPTIONS)))
# Once a model is trained the split stays as it was: new test rows might be rows that it has learned.
$(eval $(call step,split,$(SPLITS),$(if $(TRAINED),,$(LABELS)),$(LABELS),\
	split_dataset.py $(study) $(SPLIT_OPTIONS)))
# The audit looks at no test rows. Its corrections leave each row in its split.
ifneq ($(BERT),)
$(eval $(call step,audit,$(AUDIT),,$(SPLITS) $(BERT)/config.json,\
	label_audit.py $(study) --model-path $(BERT) $(AUDIT_OPTIONS)))
endif

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
	--test-file $(HUMAN_TEST) $(POSTTUNE_OPTIONS),$(2)-human))
endef
$(foreach folder,$(LLMS),$(eval \
	$(call llm,$(folder),$(call named,$(folder)),$(call adapter,$(call named,$(folder))))))

ifneq ($(BERT),)
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
	bert_tune_eval.py $(study) --test-file $(HUMAN_TEST) $(BERT_OPTIONS),$(B)-human))
endif

# A pilot keeps away from the test rows, or they from it where there is no split yet.
$(eval $(call step,pilot,$(PILOT),,$(or $(wildcard $(SPLITS)),$(LABELS)),human_sample.py $(study) --pilot $(PILOT_OPTIONS),pilot))
$(eval $(call step,pilot,$(PILOT_CHECK),$(call sheets,$(DATA)/human_check/$(PILOT_NAME)),$(PILOT),\
	human_check.py $(study) --pilot $(CHECK_OPTIONS),pilot))
ifneq ($(COMPARABLE),)
$(eval $(call step,compare,$(COMPARED),$(LABEL_SETS) $(HUMAN_LABELS),,\
	compare_labels.py $(study) $(COMPARE_OPTIONS)))
else
$(COMPARED): anew
	$(call run) compare_labels.py $(study) $(COMPARE_OPTIONS)
endif
$(eval $(call step,sample,$(SAMPLE),,$(SPLITS),human_sample.py $(study) $(SAMPLE_OPTIONS)))
$(eval $(call step,report,$(HUMAN_CHECK),$(call sheets,$(DATA)/human_check),$(SAMPLE),\
	human_check.py $(study) $(CHECK_OPTIONS)))

# What a tuned model learned from is no part of what it codes: a plan follows its scores, and the
# coded spreadsheet whatever it holds. Without a wish there is no threshold to code by.
ifneq ($(CODER),)
CODER_FOLDER := $(call tuned_folder,$(CODER))
$(eval $(call step,plan,$(PLAN),$(wildcard $(P)results/$(CODER)-after/metrics.json \
	$(P)results/$(CODER)-human/metrics.json),$(CODER_FOLDER)/training.json,\
	plan_coding.py $(study) --model $(CODER_FOLDER) $(if $(TARGET),--target-accuracy $(TARGET)) \
	$(if $(BUDGET),--budget $(BUDGET)) $(if $(MINUTES),--minutes-budget $(MINUTES)) \
	$(if $(WHO),--who $(WHO)) $(PLAN_OPTIONS),$(CODER)))
$(PLAN): $(if $(NEW_PLAN),anew)
$(eval $(call step,code,$(CODING),$(SPREADSHEET) $(P)prompt.txt $(CODER_FOLDER)/training.json \
	$(if $(strip $(TARGET)$(BUDGET)$(MINUTES)),$(PLAN),$(wildcard $(PLAN))) \
	$(wildcard $(LABELS) $(DATA)/coding*/human_labels.csv) $(HUMAN_LABELS),,\
	code_comments.py $(study) --excel-file $(call quoted,$(SHEET)) \
	--text-column $(call quoted,$(TEXT)) --model $(CODER_FOLDER) $(EXCEL_OPTIONS) $(CODE_OPTIONS),$(CODER)))
else
$(PLAN) $(CODING):
	@echo "waiting for a tuned model with scores: make train STUDY=$(STUDY)"; exit 1
endif
ifneq ($(wildcard $(TASK)),)
$(eval $(call step,code,$(TASK_CODES),$(call sheets_of,$(DATA)/coding,coding.json),$(TASK),\
	human_check.py $(study) --sheets-dir $(DATA)/coding $(CHECK_OPTIONS),coding))
endif
ifneq ($(BERT),)
$(eval $(call step,plan-labels,$(LABEL_PLAN),$(SPLITS),$(BERT)/config.json,\
	plan_coding.py $(study) --labels --model-path $(BERT) $(PLAN_LABELS_OPTIONS),labels))
endif
$(eval $(call step,report,$(SUMMARY),$(SCORES),,compare_models.py $(study)))
$(eval $(call step,report,$(PAGE),$(SUMMARY) $(wildcard $(HUMAN_CHECK) $(AUDIT) $(PLAN) \
	$(LABEL_PLAN) $(CODING)),,\
	write_report.py $(study)))

$(P)results/<run>/metrics.json:
	@echo "waiting for a scored model: make train STUDY=$(STUDY)"; exit 1

# What has no rule of its own: a model that was not fetched yet.
%/config.json:
	@echo "waiting for the model $*: git clone it from https://huggingface.co, as the README says"; exit 1

status:  ## print what of a study is done, waiting or out of date
	@$(PYTHON) -m pipeline.report.status
status: export STEPS := $(STEPS)
status: export STUDY := $(STUDY)
