"""A study as the steps leave it on disk, for the tests of step 14: every file of every step."""

import copy
import json
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.common.codebook import read_codebook
from pipeline.common.files import write_json
from pipeline.common.records import to_record
from pipeline.common.tables import write_csv
from pipeline.evaluation.metrics import compute_metrics
from pipeline.evaluation.runs import run_of
from pipeline.people.record import HumanCheck
from pipeline.report.study import Study
from pre_process.sample.comments import generate_comments

SCRIPT = "<script>document.title='pwned'</script>"
IMAGE = "<img src=x onerror=\"document.title='pwned'\">"
ENDING = "</script><!-- ]]> &amp; <b>bold</b> {{ 7 * 7 }} {% raw %}"
HOSTILE = (SCRIPT, IMAGE, ENDING)
PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108000000003a7e9b55"
    "0000000a49444154789c6360000000020001e221bc330000000049454e44ae426082"
)
NUM_ROWS = 260
VERSIONS = {"python": "3.11.7", "torch": "2.13.0", "transformers": "5.23.0"}


def write_study(folder: Path) -> Path:
    """Write the results and records of a whole study into `folder`; return its results folder."""
    results = folder / "results"
    rng = np.random.default_rng(5)
    rows = pd.DataFrame(generate_comments(NUM_ROWS, seed=8), columns=["message", "class"])
    rows.insert(0, "custom_id", [f"row-{number}" for number in range(2, NUM_ROWS + 2)])
    rows.loc[: len(HOSTILE) - 1, "message"] = HOSTILE
    sample = rows.sample(60, random_state=1)
    sample["class"] = guesses(sample["class"].to_numpy(), 0.9, rng)

    llm = {"model": "Qwen2.5-3B", "family": "llm", "model_path": "./Qwen2.5-3B"}
    bert = {"model": "bert_base", "family": "bert", "model_path": "./bert_base"}
    adapter, tuned = str(folder / "qlora/final_model"), str(folder / "bert/final_model")
    before = llm | {"stage": "before", "method": "greedy generation of at most 20 tokens"}
    after = llm | {"stage": "after", "method": "class tokens compared", "adapter_path": adapter}
    probe = bert | {"stage": "before", "method": "a linear probe, fitted on 51969 rows"}
    tuned_run = bert | {"stage": "after", "method": f"fine-tuned in {tuned}"}
    write_run(results / "qwen-before", rows, before, 0.4, rng)
    write_run(results / "qwen-after", rows, after, 0.85, rng)
    write_run(results / "bert-before", rows, probe, 0.7, rng)
    write_run(results / "bert-after", rows, tuned_run | {"tuned_path": tuned}, 0.8, rng)
    weights = np.where(sample["class"] == 1, 4.5, 1.5)
    human = tuned_run | {"tuned_path": tuned, "label_source": "human coders"}
    write_run(results / "bert-human", sample, human, 0.8, rng, weights)
    write_json(
        before | common("new.csv", "results/new") | {"predicted_rows": 1234},
        results / "new/metrics.json",
    )
    for name in ("figure1.png", "calibration.png", "coverage.png"):
        (results / name).write_bytes(PIXEL)
    write_json(LORA, folder / "qlora/final_model/training.json")
    write_json(CLASSIFIER, folder / "bert/final_model/training.json")
    write_json(comparison(results), results / "comparison.json")
    for name, record in {
        "results/human_check/human_check.json": HUMAN_CHECK,
        "results/audit/audit.json": AUDIT,
        "silver_labels.json": LABELS,
        "splits.json": SPLITS,
    }.items():
        sha256 = read_codebook("prompt.txt").sha256
        write_json(record | {"codebook_sha256": sha256}, folder / name)
    return results


def arguments(folder: Path) -> list[str]:
    """Return the options of write_report.py for a study in `folder`."""
    return [
        *("--results-dir", str(folder / "results")),
        *("--labels-record", str(folder / "silver_labels.json")),
        *("--splits-record", str(folder / "splits.json")),
    ]


def guesses(true: np.ndarray, accuracy: float, rng: np.random.Generator) -> np.ndarray:
    """Return classes that are right with a probability."""
    return np.where(rng.random(len(true)) < accuracy, true, rng.integers(0, 4, len(true)))


def common(test_file: str, output_dir: str) -> dict:
    """Return what every run's metrics hold."""
    codebook = read_codebook("prompt.txt")
    return {
        "test_file": test_file,
        "class_names": list(codebook.names),
        "codebook_sha256": codebook.sha256,
        "settings": {"test_file": test_file, "output_dir": output_dir, "batch_size": 32},
        "versions": VERSIONS,
        "device": "NVIDIA H200",
        "dtype": "bfloat16",
        "rows_per_second": 345.67,
        "seconds": 1.5,
        "shortened": 3,
    }


def write_run(folder: Path, rows: pd.DataFrame, run: dict, accuracy: float, rng, weights=None):
    """Write a run's metrics.json and predictions.csv; one that generates has invalid answers."""
    true = rows["class"].to_numpy()
    predicted = guesses(true, accuracy, rng)
    confidence = rng.uniform(0.3, 1, len(rows)).round(6).astype(str)
    reply = np.full(len(rows), "", dtype=object)
    if "generation" in run["method"]:
        predicted[rng.random(len(rows)) < 0.2] = -1
        reply = np.where(predicted < 0, "I <b>cannot</b> say", [f"[{k}]" for k in predicted])
        confidence = np.full(len(rows), "")
    source = run.get("label_source", "silver labels")
    meaning = "accuracy against" if source == "human coders" else "agreement with"
    metrics = run | common(f"{source}.csv", str(folder))
    metrics["settings"] |= {"tuned_path": run["tuned_path"]} if "tuned_path" in run else {}
    metrics |= compute_metrics(true, predicted, 4, 0, weights) | {
        "label_source": source,
        "measured_against": f"{meaning} {source} ({source}.csv)",
        "scored_rows_sha256": source,
    }
    if confidence[0]:
        metrics["ece"] = 0.0432
    write_json(metrics, folder / "metrics.json")
    table = rows.assign(predicted=predicted, reply=reply, confidence=confidence)
    write_csv(table, folder / "predictions.csv")


def comparison(results: Path) -> dict:
    """Return a comparison of the four runs on silver labels."""
    names = ("qwen-before", "qwen-after", "bert-before", "bert-after", "bert-human")
    runs = []
    for name in names:
        metrics = json.loads((results / name / "metrics.json").read_bytes())
        runs.append({"run": name, "accuracy_all_rows": metrics["accuracy_all_rows"]})
    return {"runs": runs} | COMPARISON


COMPARISON = {
    "pairs": [
        {
            "first": "qwen-before",
            "second": "qwen-after",
            "rows": 260,
            "only_first_right": 11,
            "only_second_right": 137,
            "difference": 0.4846,
            "difference_ci95": [0.4105, 0.5587],
            "p_value": 1e-20,
            "p_holm": 2e-20,
        },
        {
            "first": "qwen-after",
            "second": "bert-after",
            "rows": 260,
            "only_first_right": 31,
            "only_second_right": 24,
            "difference": -0.0269,
            "difference_ci95": [-0.0827, 0.0289],
            "p_value": 0.4188,
            "p_holm": 0.8376,
            "difference_weighted": 0.0137,
            "difference_weighted_ci95": [-0.0475, 0.0761],
        },
    ],
    "baselines": [
        {
            "name": "Always Mild",
            "method": "The most frequent class of the training rows.",
            "rows": 260,
            "accuracy": 0.4234,
            "accuracy_ci95": [0.3838, 0.4639],
            "macro_f1": 0.1487,
            "macro_f1_ci95": [0.1401, 0.1569],
            "runs": ["qwen-before", "qwen-after", "bert-before", "bert-after"],
        },
        {
            "name": "Keywords",
            "method": "Words that are typical of a class in the training rows.",
            "rows": 260,
            "accuracy": 0.6123,
            "accuracy_ci95": [0.5521, 0.6692],
            "macro_f1": 0.5578,
            "macro_f1_ci95": [0.4911, 0.6203],
            "runs": ["qwen-before", "qwen-after", "bert-before", "bert-after"],
        },
        {
            "name": "Always Mild",
            "method": "The most frequent class of the training rows.",
            "rows": 60,
            "accuracy": 0.4471,
            "accuracy_ci95": [0.3162, 0.5854],
            "macro_f1": 0.1545,
            "macro_f1_ci95": [0.1203, 0.1848],
            "runs": ["bert-human"],
        },
    ],
    "keywords": {
        "Positive": ["平等", "支持"],
        "Mild": ["彩礼"],
        "Negative": ["女司机", "<b>"],
        "Irrelevant": ["烤鸭", "新剧"],
    },
    "coverage": {
        "qwen-after": [
            {"coverage": 1.0, "rows": 260, "accuracy": 0.8512, "threshold": 0.3},
            {"coverage": 0.7, "rows": 182, "accuracy": 0.9033, "threshold": 0.6},
            {"coverage": 0.1, "rows": 26, "accuracy": 0.9977, "threshold": 0.95},
        ]
    },
    "by_hand": {
        "qwen-after": [{"accuracy": 0.9, "share": 0.1234}, {"accuracy": 0.95, "share": 0.4567}],
        "bert-after": [{"accuracy": 0.9, "share": 0.2345}, {"accuracy": 0.95, "share": None}],
    },
    "calibration": {"qwen-after": [{"confidence": 0.9, "accuracy": 0.88, "rows": 100}]},
    "errors": {
        "qwen-after": [
            {
                "true": 2,
                "predicted": 1,
                "rows": 17,
                "examples": [
                    {"custom_id": "row-2", "message": SCRIPT, "confidence": 0.9876},
                    {"custom_id": "row-3", "message": IMAGE, "confidence": None},
                ],
            },
            {"true": 0, "predicted": -1, "rows": 5, "examples": []},
        ]
    },
}

SHA256 = read_codebook(Path(__file__).parent.parent / "prompt.txt").sha256

HUMAN_CHECK = {
    "class_names": ["Positive", "Mild", "Negative", "Irrelevant"],
    "sample": {
        "population": 2904,
        "held_out": 581,
        "date": "2026-11-20",
        "drawn": 503,
        "coders": ["Ana", "Bo <b>"],
        "codebook_sha256": SHA256,
        "settings": {"sample_size": 500, "min_per_class": 100, "seed": 43},
        "strata": [
            {
                "name": name,
                "population": population,
                "drawn": drawn,
                "coded": drawn - 1,
                "inclusion_probability": drawn / population,
            }
            for name, population, drawn in (
                *(("Positive", 380, 102), ("Mild", 1230, 184), ("Negative", 279, 101)),
                ("Irrelevant", 1015, 116),
            )
        ],
    },
    "coders": [
        {"name": "Ana", "coded": 498, "blank": 5},
        {"name": "Bo <b>", "coded": 501, "blank": 2},
    ],
    "agreement": {
        "rows": 496,
        "percent": 0.8347,
        "alpha_nominal": 0.7712,
        "alpha_nominal_ci95": [0.7243, 0.8161],
        "alpha_ordinal": 0.7931,
        "alpha_ordinal_ci95": [0.7415, 0.8389],
        "kappa": [
            {"coders": ["Ana", "Bo <b>"], "rows": 495, "kappa": 0.7709, "ci95": [0.7238, 0.8158]}
        ],
    },
    "disagreements": 82,
    "adjudicated": 79,
    "undecided": 3,
    "uncoded": 1,
    "silver": {
        "rows": 499,
        "accuracy": 0.8719,
        "accuracy_ci95": [0.8388, 0.9012],
        "macro_f1": 0.8462,
        "macro_f1_ci95": [0.8091, 0.8797],
        "cohen_kappa": 0.8083,
        "cohen_kappa_ci95": [0.7612, 0.8519],
        "confusion_matrix": [[85, 9, 6, 4], [7, 161, 4, 9], [6, 8, 87, 2], [3, 5, 3, 100]],
        "classes": [
            {
                "name": name,
                "precision": 0.8317 + k / 50,
                "precision_ci95": [0.7521 + k / 50, 0.8911 + k / 50],
                "recall": 0.8173 + k / 50,
                "recall_ci95": [0.7324 + k / 50, 0.8813 + k / 50],
                "f1": 0.8244 + k / 50,
                "f1_ci95": [0.7633 + k / 50, 0.8721 + k / 50],
                "rows": 104 + 11 * k,
            }
            for k, name in enumerate(["Positive", "Mild", "Negative", "Irrelevant"])
        ],
    },
    "shares": [
        {
            "name": name,
            "naive": naive,
            "naive_ci95": [naive - 0.0123, naive + 0.0124],
            "corrected": naive + 0.0217,
            "corrected_ci95": [naive - 0.0084, naive + 0.0518],
        }
        for name, naive in zip(
            ["Positive", "Mild", "Negative", "Irrelevant"],
            [0.1309, 0.4236, 0.0961, 0.3494],
            strict=True,
        )
    ],
    "codebook_sha256": SHA256,
    "settings": {"seed": 42},
}

AUDIT = {
    "rows": 2904,
    "method": "a linear probe on frozen features",
    "model_path": "./bert_base",
    "folds": 5,
    "issues": 117,
    "near_duplicates": 1,
    "class_names": ["Positive", "Mild", "Negative", "Irrelevant"],
    "settings": {"folds": 5},
    "top": [
        {
            "custom_id": "row-3",
            "message": IMAGE,
            "class": 0,
            "suggested": 2,
            "p_class": 0.0123,
            "p_suggested": 0.9345,
        }
    ],
}

LABELS = {
    "requests": 3000,
    "labelled": 2904,
    "classes": {"Positive": 380, "Mild": 1230, "Negative": 279, "Irrelevant": 1015},
    "reasons": {"content_filter": 71, "ambiguous": 25},
    "strict": 2791,
    "lenient": 113,
    "teachers": ["deepseek-ai/DeepSeek-V3"],
    "requested_model": "deepseek-ai/DeepSeek-V3",
    "human_rows": 84,
    "asked_coded_rows": {
        "rows": 82,
        "agreement": 0.8659,
        "agreement_ci95": [0.7755, 0.9236],
        "cohen_kappa": 0.7987,
    },
    "temperature": 0.2,
    "max_tokens": 21,
    "first_answer": "2026-10-30",
    "last_answer": "2026-11-02",
    "asked_again": 208,
    "self_agreement": 0.9519,
    "corrected": 14,
    "class_names": ["Positive", "Mild", "Negative", "Irrelevant"],
}

SPLITS = {
    "input_file": "./pre_process/purged_labeled_v2.csv",
    "rows": 2904,
    "train": 2032,
    "validation": 291,
    "test": 581,
    "seed": 2026,
    "group_duplicates": False,
    "shared_messages": 6,
}

LORA = {
    "settings": {
        "load_in_4bit": True,
        "lora_r": 16,
        "lora_alpha": 32,
        "lora_dropout": 0.05,
        "num_train_epochs": 3,
        "learning_rate": 2e-4,
        "weight_decay": 0.01,
        "warmup_steps": 20,
        "per_device_train_batch_size": 8,
        "gradient_accumulation_steps": 4,
        "max_length": 512,
        "class_weights": False,
        "early_stopping_patience": 2,
        "seed": 42,
    },
    "device": "NVIDIA A100",
    "versions": VERSIONS | {"peft": "0.21.2"},
    "train": {"train_runtime": 4321.6, "epoch": 3.0},
    "validation": {"accuracy": 0.8731, "epoch": 2.0},
}

CLASSIFIER = {
    "settings": {
        "num_train_epochs": 10,
        "early_stopping_patience": 3,
        "learning_rate": 3e-5,
        "weight_decay": 0.01,
        "warmup_ratio": 0.1,
        "class_weights": True,
        "per_device_train_batch_size": 32,
        "max_length": 128,
        "seed": 42,
    },
    "device": "NVIDIA A100",
    "versions": VERSIONS,
    "train": {"train_runtime": 987.6, "epoch": 8.0},
    "validation": {"weighted_f1": 0.8237, "accuracy": 0.8299, "epoch": 5.0},
}


def study_in_memory():
    """Return a study in memory: two runs, and the records of every step."""
    true, predicted = [0, 1, 2, 3] * 25, [0, 1, 2, 2] * 25
    codebook = read_codebook("prompt.txt")
    runs = []
    for name, family in (("qwen", "llm"), ("bert", "bert")):
        run = {"model": name, "family": family, "stage": "after", "method": "scored"}
        run |= common("test.csv", name) | {"label_source": "silver labels"}
        run |= compute_metrics(*map(np.array, (true, predicted)), 4, 0)
        run["measured_against"] = "agreement with silver labels"
        runs.append(run_of(Path(name), run))
    compared = [
        {"run": run.name, "accuracy_all_rows": run.metrics["accuracy_all_rows"]} for run in runs
    ]
    record = Study(
        codebook=codebook,
        runs=runs,
        unscored=[],
        trainings={"qwen": LORA, "bert": CLASSIFIER},
        comparison={"runs": compared} | COMPARISON,
        human_check=to_record(HUMAN_CHECK, HumanCheck),
        audit=AUDIT,
        labels=LABELS,
        splits=SPLITS,
    )
    return copy.deepcopy(record)
