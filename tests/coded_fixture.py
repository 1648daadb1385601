"""A study whose spreadsheet was coded by a plan, for the tests of step 14."""

import copy
import json
from pathlib import Path

from report_fixture import PIXEL, SHA256, write_study

from pipeline.common.files import write_json

NAMES = ["Positive", "Mild", "Negative", "Irrelevant"]


def point(kept, threshold, accuracy):
    """Return a point of the curve."""
    return {
        "threshold": threshold,
        "kept_share": kept,
        "kept_rows": round(260 * kept),
        "kept_accuracy": accuracy if kept else None,
        "kept_accuracy_ci95": [accuracy - 0.05, accuracy + 0.04] if kept else None,
        "accuracy_with_teacher": 1 - kept * (1 - accuracy),
        "accuracy_with_teacher_ci95": [0.9 - kept / 10, 0.995 - kept / 10],
        "accuracy_with_people": 1 - kept * (1 - accuracy),
        "accuracy_with_people_ci95": [0.91 - kept / 10, 0.996 - kept / 10],
        "teacher_price": 4.37 * (1 - kept),
        "people_minutes": 291.0 * (1 - kept),
    }


PLAN = {
    "run": "bert-after",
    "model": {"name": "bert_base", "path": "bert/final_model", "temperature": 1.31},
    "measured_against": "agreement with silver labels (silver labels.csv)",
    "held_out_rows": 260,
    "weighted": False,
    "rows_to_code": 4096,
    "rows_source": "comments.xlsx",
    "costs": {
        "teacher_per_row": 0.00107,
        "teacher_source": "of 3,000 answers in submit_batch.json",
        "seconds_per_comment": 8.0,
        "coders": 1,
        "pay_per_hour": 0.0,
    },
    "who": "teacher",
    "others_are_right": True,
    "target_accuracy": 0.9,
    "budget": 0.0,
    "minutes_budget": 0.0,
    "alpha": 0.05,
    "most_promised": 0.9412,
    "threshold": 0.6172,
    "kept_share": 0.7134,
    "sent_rows": 1174,
    "accuracy": 0.9246,
    "accuracy_ci95": [0.8873, 0.9502],
    "promised": 0.9,
    "guarantee": "With a chance of 95% at least 90.00% of the 4,096 rows are right (Bates et al., "
    "2021).",
    "price": 1.26,
    "minutes": None,
    "teacher_accuracy": 0.8719,
    "teacher_accuracy_ci95": [0.8388, 0.9012],
    "codebook_sha256": SHA256,
    "class_names": NAMES,
    "date": "2026-11-21",
    "curve": [point(0.0, 2.0, 1.0), point(0.7134, 0.6172, 0.8943), point(1.0, 0.0, 0.8042)],
    "settings": {"target_accuracy": 0.9},
}

CODING = {
    "output_file": "results/coded/comments_coded.xlsx",
    "spreadsheet": "comments <b>.xlsx",
    "sheet": "Sheet1",
    "model": {
        "path": "bert/final_model",
        "kind": "encoder",
        "name": "bert_base",
        "fingerprint": "0123456789abcdef",
        "temperature": 1.3071,
    },
    "codebook_sha256": SHA256,
    "class_names": NAMES,
    "rows": 7113,
    "rows_with_message": 7002,
    "computed": 6514,
    "coded_by": {"human": 583, "teacher": 2405, "model": 4007, "": 7},
    "class_counts": {
        "Positive": {"human": 101, "teacher": 311, "model": 517},
        "Mild": {"human": 242, "teacher": 1018, "model": 1709},
        "Negative": {"human": 102, "teacher": 227, "model": 413},
        "Irrelevant": {"human": 138, "teacher": 849, "model": 1368},
    },
    "checked": 1174,
    "threshold": 0.6172,
    "plan": {"threshold": 0.6172},
    "quality": [
        {
            "measured_against": "agreement with silver labels (silver labels.csv)",
            "rows": 260,
            "accuracy": 0.8,
            "ci95": [0.7472, 0.8441],
            "macro_f1": 0.7713,
            "run": "bert-after",
        }
    ],
    "date": "2026-11-22",
    "seconds": 87.5,
    "versions": {"torch": "2.13.0"},
    "settings": {"text_column": "comment"},
}


def write_coded_study(folder: Path) -> Path:
    """Write a whole study with a plan and a coded spreadsheet; return its results folder."""
    results = write_study(folder)
    coding, plan = copy.deepcopy(CODING), copy.deepcopy(PLAN)
    metrics = json.loads((results / "bert-after/metrics.json").read_bytes())
    coding["quality"][0]["accuracy"] = metrics["accuracy_all_rows"]
    coding["output_file"] = str(results / "coded/comments 1 <b>_coded.xlsx")
    write_json(plan, results / "plan/plan.json")
    write_json(coding, results / "coded/coded.json")
    (results / "plan/plan.png").write_bytes(PIXEL)
    for path in (Path(coding["output_file"]), results / "coded/codes.csv"):
        path.write_bytes(b"")
    return results
