"""All steps in order on one spreadsheet, with a codebook of two classes."""

import json
from pathlib import Path

import openpyxl
import pandas as pd

import batch_infer_gen
import bert_eval
import bert_inference_compare
import bert_tune
import bert_tune_eval
import compare_models
import excel_2_csv
import finetune
import jsonl_to_csv
import local_inference
import posttune_eval
import split_dataset
import submit_batch
from pre_process.sample.comments import generate_comments
from pre_process.sample.provider import teacher

CODEBOOK = """Is the comment about women and men?

[0] 相关: it is about gender
[1] 无关: it is not

Answer with [0] or [1].
"""


def test_a_spreadsheet_becomes_tables_of_all_models_with_two_classes(tiny_qwen2, tiny_bert, serve):
    Path("prompt.txt").write_text(CODEBOOK, encoding="utf-8")
    Path("pre_process/datas").mkdir(parents=True)
    workbook = openpyxl.Workbook()
    workbook.active.append(["id", "正文", "人工"])
    comments = [(f"{text} {n}", k) for n, (text, k) in enumerate(generate_comments(200, seed=5))]
    for n, (text, k) in enumerate(comments):
        workbook.active.append([n, text, int(k == 3)])
    workbook.save("pre_process/datas/weibo_data.xlsx")

    excel_2_csv.main(["--text-column", "正文", "--label-column", "C"])
    batch_infer_gen.main(["--max-requests-per-file", "60"])
    truth = pd.read_csv("pre_process/datas/simple.csv").set_index("custom_id")["class"]
    provider = serve(teacher(truth.to_dict(), 2, error_rate=0.08))
    submit_batch.main(["--base-url", provider.url, "--poll-seconds", "0.01", "--yes"])
    jsonl_to_csv.main([])
    split_dataset.main([])
    rows = {
        name: len(pd.read_csv(f"pre_process/{name}.csv"))
        for name in ("unlabeled_v2", "labeled_v2", "purged_labeled_v2")
    }
    splits = [len(pd.read_csv(path)) for path in Path("pre_process/evaluation").glob("*.csv")]
    assert rows["unlabeled_v2"] == rows["labeled_v2"] == 200
    assert sum(splits) == rows["purged_labeled_v2"] > 180

    qwen, bert = ["--model-path", tiny_qwen2], ["--model-path", tiny_bert]
    local_inference.main([*qwen, "--max-new-tokens", "6"])
    finetune.main([*qwen, "--learning-rate", "5e-3", "--num-train-epochs", "1"])
    posttune_eval.main([*qwen, "--max-new-tokens", "6"])
    bert_eval.main(bert)
    bert_tune.main([*bert, "--learning-rate", "2e-3", "--num-train-epochs", "1"])
    bert_tune_eval.main([])
    bert_inference_compare.main(bert)
    compare_models.main([])

    summary = pd.read_csv("results/summary.csv")
    names = [Path(tiny_qwen2).name] * 2 + [Path(tiny_bert).name] * 2
    assert summary["model"].tolist() == names
    assert summary["stage"].tolist() == ["before", "after"] * 2
    for run in summary["run"]:
        metrics = json.loads(Path(f"results/{run}/metrics.json").read_text())
        assert metrics["class_names"] == ["相关", "无关"]
        assert len(pd.read_csv(f"results/{run}/predictions.csv")) == metrics["total"]
