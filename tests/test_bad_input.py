"""Bad input gets one line that names the file, the row and the cure; earlier outputs stay."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import openpyxl
import pytest
from conftest import ROOT, answer_line
from safetensors.numpy import save_file
from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel

from pipeline.common.cli import UserError
from pipeline.labelling.ids import label_set_of, request_ids

GOOD = '"custom_id","message","class"\n' + "".join(
    f'"row-{n}","评论 {n}","{n % 4}"\n' for n in range(2, 60)
)
CODEBOOK = (ROOT / "prompt.txt").read_text(encoding="utf-8").strip()
TURNS = [{"role": "system", "content": CODEBOOK}, {"role": "user", "content": "u"}]
[REQUEST_ID] = request_ids(label_set_of(CODEBOOK, "m"), ["u"])
REQUEST = {"custom_id": REQUEST_ID, "body": {"model": "m", "messages": TURNS}}
QWEN = '{"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"]}'
BERT_CLASSIFIER = '{"model_type": "bert", "architectures": ["BertForSequenceClassification"]}'
FILES = {
    "rows.csv": GOOD,
    "empty.csv": "",
    "header.csv": '"custom_id","message","class"\n',
    "columns.csv": '"id","text"\n"1","a"\n',
    "outside.csv": GOOD + '"row-60","评论","7"\n',
    "unlabelled.csv": GOOD + '"row-60","评论","-1"\n',
    "no_classes.txt": "Decide.\n",
    "requests.jsonl": json.dumps(REQUEST) + "\n",
    "truncated.jsonl": json.dumps(REQUEST) + '\n{"custom_id": "row-3", "bo',
    "changed.jsonl": json.dumps(REQUEST).replace('"u"', '"v"') + "\n",
    "answers.jsonl": answer_line(REQUEST_ID, "[1]") + "\n",
    "title.csv": "Comments of 2024\nuser,comment\na,b\n",
    "a_file": "here a folder is wanted",
    "pointer/config.json": QWEN,
    "pointer/model.safetensors": "version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
    "pickled/config.json": QWEN,
    "pickled/pytorch_model.bin": "x",
    "pickled/tokenizer.json": "{}",
    "pointer/tokenizer.json": "{}",
    "encoder/tokenizer.json": "{}",
    "nameless/config.json": "[]",
    "speechless/config.json": QWEN,
    "cut/config.json": QWEN,
    "cut/tokenizer.json": "{}",
    "cut/model.safetensors": "x" * 2000,
    "shards/config.json": QWEN,
    "shards/tokenizer.json": "{}",
    "shards/model.safetensors.index.json": '{"weight_map": {"w": "model-1.safetensors"}}',
    "tuned/config.json": BERT_CLASSIFIER,
    "tuned/tokenizer.json": "{}",
    "scored/metrics.json": '{"accuracy": 0.5, "test_file": "test.csv"}',
    "results/old/metrics.json": '{"accuracy": 0.5}',
    "new.csv": "message\na\n",
    "nothing/README.md": "no model",
    "broken/config.json": '{"architectures": [',
    "encoder/config.json": '{"model_type": "bert", "architectures": ["BertForMaskedLM"]}',
    "causal/config.json": QWEN,
    "earlier/checkpoint-8/trainer_state.json": "{}",
    "earlier/checkpoint-8/complete.json": '{"files": {}}',
    "stale/training.json": '{"codebook_sha256": "0", "settings": {}}',
}
LLM = "--test-file rows.csv --model-path"
TUNE = "--train-file rows.csv --validation-file rows.csv --model-path"
BERT = "--train-file rows.csv --test-file rows.csv --model-path"

CASES = [
    # step 1
    ("excel_2_csv", "", "weibo_data.xlsx not found: put your spreadsheet there"),
    ("excel_2_csv", "--excel-file empty.csv", "empty.csv is empty (0 bytes)"),
    ("excel_2_csv", "--excel-file header.csv", "header.csv has no rows of data"),
    ("excel_2_csv", "--excel-file a_file", "a_file cannot be read as a spreadsheet"),
    ("excel_2_csv", "--excel-file rows.csv", "has no column 'comment': it has A 'custom_id'"),
    ("excel_2_csv", "--excel-file date.xlsx", "date.xlsx, row 3: column 'comment' holds '2024"),
    ("excel_2_csv", "--excel-file blank.xlsx", "blank.xlsx: column 'comment' holds no text"),
    ("excel_2_csv", "--excel-file book.xlsx --csv-file a_file/x.csv", "cannot write a_file/x.csv"),
    ("excel_2_csv", "--excel-file book.xlsx --simple-file a_file/x.csv", "cannot write a_file/x"),
    ("excel_2_csv", "--excel-file rows.csv --csv-file ./rows.csv", "rows.csv would be overwritten"),
    ("excel_2_csv", "--excel-file title.csv", "title.csv, row 2: 2 cells under 1 column names"),
    # step 2
    ("batch_infer_gen", "", "simple.csv not found: run excel_2_csv.py first"),
    ("batch_infer_gen", "--input-file empty.csv", "empty.csv is empty: run excel_2_csv.py"),
    ("batch_infer_gen", "--input-file columns.csv", "columns.csv has no column 'message'"),
    ("batch_infer_gen", "--input-file rows.csv --prompt-file none.txt", "none.txt not found"),
    (
        "batch_infer_gen",
        "--input-file rows.csv --prompt-file no_classes.txt",
        "no_classes.txt defines no classes: write one line per class",
    ),
    (
        "batch_infer_gen",
        "--input-file rows.csv --requests-file a_file/r.jsonl",
        "cannot write a_file/r.jsonl",
    ),
    ("batch_infer_gen", "--input-file rows.csv --max-tokens 0", "at least 1"),
    # step 3
    ("jsonl_to_csv", "", "simple.csv not found: run excel_2_csv.py first"),
    (
        "jsonl_to_csv",
        "--input-file rows.csv",
        "inf_batch_v2.jsonl not found: run batch_infer_gen.py first",
    ),
    (
        "jsonl_to_csv",
        "--input-file rows.csv --requests-file requests.jsonl",
        "silver_label_v2.jsonl not found: run submit_batch.py",
    ),
    (
        "jsonl_to_csv",
        "--input-file rows.csv --requests-file truncated.jsonl --answers-file answers.jsonl",
        "truncated.jsonl, line 2 is no batch request: run batch_infer_gen.py again",
    ),
    (
        "jsonl_to_csv",
        "--input-file rows.csv --requests-file requests.jsonl --answers-file empty.csv",
        "none of its 0 answers belongs to a row",
    ),
    (
        "jsonl_to_csv",
        "--input-file rows.csv --requests-file changed.jsonl --answers-file answers.jsonl",
        "was not made for this model, codebook and comment: the line was changed since",
    ),
    (
        "jsonl_to_csv",
        "--input-file rows.csv --requests-file requests.jsonl --answers-file answers.jsonl "
        "--errors-file a_file/e.csv",
        "cannot write a_file/e.csv",
    ),
    # step 3b
    ("split_dataset", "", "purged_labeled_v2.csv not found: run jsonl_to_csv.py first"),
    ("split_dataset", "--input-file outside.csv", "outside.csv, row 60: class '7': the codebook's"),
    ("split_dataset", "--input-file unlabelled.csv", "unlabelled.csv, row 60: class '-1'"),
    ("split_dataset", "--input-file rows.csv --output-dir a_file", "cannot write a_file/train.csv"),
    # models
    ("local_inference", "", "test.csv not found: run split_dataset.py first"),
    ("local_inference", "--test-file columns.csv", "columns.csv has no column 'message'"),
    ("local_inference", "--test-file rows.csv", "Qwen2.5-3B not found: git clone https://"),
    ("local_inference", f"{LLM} nothing", "nothing is no model folder, it has no config.json"),
    ("local_inference", f"{LLM} broken", "broken/config.json, line 1 is not JSON"),
    ("local_inference", f"{LLM} pickled", "pickled has no .safetensors weights"),
    ("local_inference", f"{LLM} pointer", "is a git-lfs pointer, not weights: run git lfs install"),
    ("local_inference", f"{LLM} encoder", "encoder holds a BertForMaskedLM"),
    ("local_inference", f"{LLM} causal --output-dir a_file/x", "cannot write a_file/x"),
    ("local_inference", f"{LLM} causal --max-new-tokens 0", "--max-new-tokens 0: give at least 1"),
    ("local_inference", f"{LLM} nameless", "nameless/config.json names no model_type"),
    ("local_inference", f"{LLM} speechless", "speechless has no tokenizer"),
    ("local_inference", f"{LLM} cut", "cut/model.safetensors is cut short or broken"),
    ("local_inference", f"{LLM} shards", "shards/model-1.safetensors not found: run git"),
    (
        "local_inference",
        "--test-file new.csv --model-path causal --output-dir scored",
        "scored holds the scores on test.csv, and new.csv has no class to score",
    ),
    ("posttune_eval", f"{LLM} causal", "holds no adapter (adapter_config.json): run finetune.py"),
    ("finetune", "", "train.csv not found: run split_dataset.py first"),
    ("finetune", f"{TUNE} encoder", "encoder holds a BertForMaskedLM"),
    ("finetune", "--train-file unlabelled.csv", "unlabelled.csv, row 60: class '-1'"),
    ("bert_tune", f"{TUNE} causal --num-train-epochs 0", "--num-train-epochs 0: give at least 1"),
    ("bert_tune", f"{TUNE} causal", "causal holds a Qwen2ForCausalLM"),
    ("bert_tune_eval", "--test-file rows.csv", "training.json not found: run bert_tune.py first"),
    (
        "bert_tune_eval",
        "--test-file rows.csv --tuned-path stale",
        "stale was trained with another codebook than ./prompt.txt: give --prompt-file",
    ),
    ("compare_models", "--results-dir empty", "empty holds no scored run"),
    ("compare_models", "", "results/old/metrics.json lacks model: run its evaluation step again"),
]
CASES_WITH_TORCH = [
    ("finetune", f"{TUNE} causal --output-dir earlier", "earlier holds checkpoint-8 of an earlier"),
    ("finetune", f"{TUNE} causal --output-dir a_file", "cannot write a_file/training.json"),
    ("finetune", f"{TUNE} causal --resume", "holds no checkpoint to resume from"),
    ("bert_eval", "--test-file rows.csv", "bert-base-chinese not found: git clone https://"),
    ("bert_eval", f"{BERT} causal", "causal holds a Qwen2ForCausalLM"),
    ("bert_eval", f"{BERT} tuned", "tuned is already fine-tuned to classify"),
    ("bert_inference_compare", f"{BERT} encoder", "training.json not found: run bert_tune.py"),
]
CASES += [pytest.param(*case, marks=pytest.mark.torch) for case in CASES_WITH_TORCH]


@pytest.fixture
def files():
    """Write the bad and good files of the cases, and one earlier output of every step."""
    import datetime

    for name, text in FILES.items():
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    Tokenizer(BPE(dict(zip(ByteLevel.alphabet(), range(256), strict=True)), [])).save(
        "causal/tokenizer.json"
    )
    for name in ("causal", "encoder", "tuned"):
        save_file({"w": np.zeros(1)}, f"{name}/model.safetensors")
    for name, cells in (
        ("date", ["a", datetime.date(2024, 5, 1)]),
        ("blank", [" "]),
        ("book", "a"),
    ):
        workbook = openpyxl.Workbook()
        for cell in ["comment", *cells]:
            workbook.active.append([cell, "x"])
        workbook.save(f"{name}.xlsx")
    earlier = ["pre_process/labeled_v2.csv", "pre_process/evaluation/validation.csv"]
    earlier += ["pre_process/datas/weibo_data.csv", "results/Qwen2.5-3B-before/report.txt"]
    for name in earlier:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text("earlier", encoding="utf-8")
    return {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}


@pytest.mark.parametrize(("script", "argv", "message"), CASES)
def test_bad_input_is_told_in_one_line_and_nothing_written_is_lost(script, argv, message, files):
    with pytest.raises(UserError) as error:
        importlib.import_module(script).main(argv.split())
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    for path, content in files.items():
        assert path.read_bytes() == content
    assert not list(Path().rglob(".*-*")), "a scratch file was left"


def test_a_user_s_mistake_is_one_line_on_stderr_and_status_1():
    command = [sys.executable, str(ROOT / "split_dataset.py"), "--input-file", "no.csv"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == "split_dataset.py: no.csv not found: run jsonl_to_csv.py first\n"
