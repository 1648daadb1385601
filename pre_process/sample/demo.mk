# The pipeline on the embedded sample, step by step in ./demo, as `make demo` runs it from the top
# level: make knows which file each step reads and writes, and repeats what is out of date.
# A real run has the same commands without the options: only paths and sizes differ.

.DELETE_ON_ERROR:
.PHONY: tables

PYTHON := ./.venv/bin/python
D := demo
DATA := $(D)/pre_process
SPLITS := $(DATA)/evaluation
MODELS := $(D)/models
QWENS := Qwen2-tiny-1.2M Qwen2-tiny-0.3M
BERT := bert-tiny-chinese
RESULTS := $(foreach model,$(QWENS) $(BERT),$(D)/results/$(model)-before $(D)/results/$(model)-after)
SHARED := $(wildcard pipeline/*.py pipeline/*/*.py) prompt.txt
SAMPLE := $(filter-out %/build_models.py %/tiny_qwen2.py %/tiny_bert.py,$(wildcard pre_process/sample/*.py))
CHECK := $(D)/results/human_check
LABELS := --labeled-file $(DATA)/purged_labeled_v2.csv
TRAIN := --train-file $(SPLITS)/train.csv --validation-file $(SPLITS)/validation.csv
SHEETS := --sheets-dir $(DATA)/human_check
SCORES := --output-dir $(CHECK) --human-test-file $(SPLITS)/human_test.csv
TEST := --test-file $(SPLITS)/test.csv
BERT_SIZE := --max-length 256

, := ,
say = @printf '\n== %s\n' '$(1)'

tables: $(RESULTS:=/report.txt) $(D)/results/$(BERT)-compare/comparison.txt $(D)/results/report.html
	@for run in $(RESULTS); do printf '\n-- %s/report.txt\n\n' $$run; sed '/^Measured against/,$$d' $$run/report.txt; done
	@printf -- '-- $(D)/results/summary.md\n\n'; cat $(D)/results/summary.md
	@printf '\n-- $(CHECK)/report.txt\n\n'; cat $(CHECK)/report.txt
	@printf '\nFigure 1: $(D)/results/figure1.png\nEverything on one page: $(D)/results/report.html\n'

$(D)/weibo_data.xlsx: $(SAMPLE) prompt.txt
	$(call say,The sample: a spreadsheet of comments)
	$(PYTHON) -m pre_process.sample.make_sample --excel-file $@ --truth-file $(D)/truth.csv

$(DATA)/datas/simple.csv: $(D)/weibo_data.xlsx excel_2_csv.py $(SHARED)
	$(call say,Step 1: spreadsheet to CSV)
	$(PYTHON) excel_2_csv.py --excel-file $< --csv-file $(DATA)/datas/weibo_data.csv --simple-file $@

$(DATA)/datas/inf_batch_v2.jsonl: $(DATA)/datas/simple.csv batch_infer_gen.py $(SHARED)
	$(call say,Step 2: batch requests)
	$(PYTHON) batch_infer_gen.py --input-file $< --requests-file $@ --top-logprobs 5

$(DATA)/datas/silver_label_v2.jsonl: $(DATA)/datas/inf_batch_v2.jsonl submit_batch.py $(SHARED) $(SAMPLE)
	$(call say,Step 2b: the requests to a provider and its answers back (a stand-in on this machine))
	@rm -f $@ $(D)/provider.url $(DATA)/datas/submit_batch.json
	@$(PYTHON) -m pre_process.sample.provider --truth-file $(D)/truth.csv --url-file $(D)/provider.url & \
	provider=$$!; trap "kill $$provider" EXIT; \
	until [ -s $(D)/provider.url ]; do kill -0 $$provider || exit 1; sleep 0.1; done; \
	$(PYTHON) submit_batch.py --base-url "$$(cat $(D)/provider.url)" --requests-file $< \
		--answers-file $@ --state-file $(DATA)/datas/submit_batch.json --poll-seconds 0.5 --yes

$(DATA)/purged_labeled_v2.csv: $(DATA)/datas/silver_label_v2.jsonl jsonl_to_csv.py $(SHARED)
	$(call say,Step 3: answers to silver labels)
	$(PYTHON) jsonl_to_csv.py --requests-file $(DATA)/datas/inf_batch_v2.jsonl --answers-file $< \
		--unlabeled-file $(DATA)/unlabeled_v2.csv --labeled-file $(DATA)/labeled_v2.csv \
		--purged-file $@ --errors-file $(DATA)/silver_errors.csv \
		--retry-file $(DATA)/datas/retry_v2.jsonl --confidence-file $(DATA)/silver_confidence.csv \
		--record-file $(DATA)/silver_labels.json --corrections-file $(DATA)/corrections.csv

$(SPLITS)/test.csv: $(DATA)/purged_labeled_v2.csv split_dataset.py $(SHARED)
	$(call say,Step 3b: train$(,) validation and test splits)
	$(PYTHON) split_dataset.py --input-file $< --output-dir $(SPLITS) --human-samples ''

$(MODELS)/built: $(wildcard pre_process/sample/*.py) prompt.txt
	$(call say,Step 4: the models$(,) built here instead of downloaded)
	$(PYTHON) -m pre_process.sample.build_models --output-dir $(MODELS)
	@touch $@

# The steps of one causal LM, whose name is $(1).
define qwen
$(D)/results/$(1)-before/report.txt: $(SPLITS)/test.csv $(MODELS)/built local_inference.py $(SHARED)
	$$(call say,Step 5: $(1) before fine-tuning)
	$(PYTHON) local_inference.py --model-path $(MODELS)/$(1) $(TEST) --output-dir $$(@D)

$(D)/qlora_$(1)/final_model/training.json: $(SPLITS)/test.csv $(MODELS)/built finetune.py $(SHARED)
	$$(call say,Step 6: QLoRA of $(1))
	@rm -rf $(D)/qlora_$(1)
	$(PYTHON) finetune.py --model-path $(MODELS)/$(1) $(TRAIN) --output-dir $(D)/qlora_$(1) \
		--learning-rate 2e-3

$(D)/results/$(1)-after/report.txt: $(D)/qlora_$(1)/final_model/training.json posttune_eval.py $(SHARED)
	$$(call say,Step 7: $(1) after fine-tuning)
	$(PYTHON) posttune_eval.py --model-path $(MODELS)/$(1) $(TEST) --output-dir $$(@D) \
		--adapter-path $(D)/qlora_$(1)/final_model
endef
$(foreach model,$(QWENS),$(eval $(call qwen,$(model))))

$(D)/results/$(BERT)-before/report.txt: $(SPLITS)/test.csv $(MODELS)/built bert_eval.py $(SHARED)
	$(call say,Step 8: $(BERT) before fine-tuning)
	$(PYTHON) bert_eval.py --model-path $(MODELS)/$(BERT) --train-file $(SPLITS)/train.csv $(TEST) \
		--output-dir $(@D) $(BERT_SIZE)

$(D)/bert_checkpoints/final_model/training.json: $(SPLITS)/test.csv $(MODELS)/built bert_tune.py $(SHARED)
	$(call say,Step 9: fine-tuning of $(BERT))
	@rm -rf $(D)/bert_checkpoints
	$(PYTHON) bert_tune.py --model-path $(MODELS)/$(BERT) $(TRAIN) --output-dir $(D)/bert_checkpoints \
		--learning-rate 1e-3 $(BERT_SIZE)

$(D)/results/$(BERT)-after/report.txt: $(D)/bert_checkpoints/final_model/training.json bert_tune_eval.py $(SHARED)
	$(call say,Step 10: $(BERT) after fine-tuning)
	$(PYTHON) bert_tune_eval.py --tuned-path $(D)/bert_checkpoints/final_model $(TEST) \
		--output-dir $(@D) $(BERT_SIZE)

$(D)/results/$(BERT)-compare/comparison.txt: $(D)/results/$(BERT)-after/report.txt bert_inference_compare.py $(SHARED)
	$(call say,Step 11: $(BERT) before and after on the same rows)
	$(PYTHON) bert_inference_compare.py --model-path $(MODELS)/$(BERT) \
		--tuned-path $(D)/bert_checkpoints/final_model --train-file $(SPLITS)/train.csv $(TEST) \
		--output-dir $(@D) $(BERT_SIZE)

# The test rows that people coded, as the test set of the tuned BERT.
$(D)/results/$(BERT)-human/report.txt: $(CHECK)/human_check.json $(D)/bert_checkpoints/final_model/training.json
	$(call say,Step 10 again: $(BERT) against the human coders)
	$(PYTHON) bert_tune_eval.py --tuned-path $(D)/bert_checkpoints/final_model \
		--test-file $(SPLITS)/human_test.csv --output-dir $(@D) $(BERT_SIZE)

$(D)/results/figure1.png: $(RESULTS:=/report.txt) $(D)/results/$(BERT)-human/report.txt compare_models.py $(SHARED)
	$(call say,Step 12: all models)
	$(PYTHON) compare_models.py --results-dir $(D)/results --train-file $(SPLITS)/train.csv

# Two simulated coders fill in their sheets, and a third person settles what they disagree on.
$(CHECK)/human_check.json: $(SPLITS)/test.csv human_sample.py human_check.py $(SHARED) $(SAMPLE)
	$(call say,Steps 13a and 13b: silver labels against human coders)
	@rm -rf $(DATA)/human_check
	$(PYTHON) human_sample.py $(LABELS) $(TEST) $(SHEETS) --sample-size 400 --exclude ''
	$(PYTHON) -m pre_process.sample.coders $(SHEETS) --truth-file $(D)/truth.csv
	$(PYTHON) human_check.py $(LABELS) $(SHEETS) $(SCORES)
	$(PYTHON) -m pre_process.sample.coders $(SHEETS) --truth-file $(D)/truth.csv
	$(PYTHON) human_check.py $(LABELS) $(SHEETS) $(SCORES)
	$(PYTHON) -m pre_process.sample.coders --check --result-file $@ $(LABELS) --truth-file $(D)/truth.csv

$(D)/results/audit/audit.json: $(DATA)/purged_labeled_v2.csv $(MODELS)/built label_audit.py $(SHARED)
	$(call say,Step 3a: labels that are probably wrong)
	$(PYTHON) label_audit.py $(LABELS) --model-path $(MODELS)/$(BERT) \
		--audit-dir $(@D) $(BERT_SIZE)

$(D)/results/report.html: $(D)/results/figure1.png $(CHECK)/human_check.json $(D)/results/audit/audit.json write_report.py $(wildcard pipeline/report/page.*)
	$(call say,Step 14: the methods paragraph and the page)
	$(PYTHON) write_report.py --results-dir $(D)/results --labels-record $(DATA)/silver_labels.json \
		--splits-record $(SPLITS)/splits.json
