"""A study as its steps left it on disk: what there is, what contradicts, what was not done."""

from dataclasses import dataclass

from pipeline.common.codebook import Codebook
from pipeline.people.record import HumanCheck
from pipeline.report.words import shown

# Which command makes a scored run of a family and stage.
EVALUATIONS = {
    ("llm", "before"): "local_inference.py",
    ("llm", "after"): "finetune.py, then posttune_eval.py",
    ("bert", "before"): "bert_eval.py",
    ("bert", "after"): "bert_tune.py, then bert_tune_eval.py",
}
FAMILIES = {"llm": "causal language model", "bert": "BERT"}


@dataclass(frozen=True)
class Study:
    """What the steps left on disk; `{}`, `[]` or None stands for a step that left nothing.

    `runs` are the scored runs' metrics, each with `run` (the folder's name), `title`, `against`
    (what the scores are measured against) and `training` (the record of its training, or `{}`).
    """

    codebook: Codebook
    runs: list[dict]
    unscored: list[dict]
    comparison: dict
    human_check: HumanCheck | None
    audit: dict
    labels: dict
    splits: dict


def inconsistencies(study: Study) -> list[str]:
    """Return what does not belong together: other codebooks, a comparison of other scores."""
    check = study.human_check
    records = {
        **{f"The run {run['run']}": run for run in [*study.runs, *study.unscored]},
        "The record of the silver labels": study.labels,
        "The record of the splits": study.splits,
        "The human check": vars(check) if check else {},
        "The label audit": study.audit,
    }
    ours = study.codebook.sha256
    found = [
        f"{name} was made with another codebook ({record['codebook_sha256'][:12]}) than "
        f"{study.codebook.path} ({ours[:12]})."
        for name, record in records.items()
        if record.get("codebook_sha256", ours) != ours
    ]
    population = check.sample.population if check else None
    labelled = study.labels.get("labelled")
    found += [
        f"{name} is of {shown(rows, 'labelled row|labelled rows')}, and jsonl_to_csv.py has by now "
        f"labelled {shown(labelled, 'row|rows')}: {cure}."
        for name, rows, cure in (
            ("The split", study.splits.get("rows"), "run split_dataset.py and what follows again"),
            ("The human check", population, "its figures are those of older labels"),
            ("The label audit", study.audit.get("rows"), "run label_audit.py again"),
        )
        if None not in (rows, labelled) and rows != labelled
    ]
    compared = {
        row["run"]: row.get("accuracy_all_rows") for row in study.comparison.get("runs", [])
    }
    scored = {run["run"]: run["accuracy_all_rows"] for run in study.runs}
    if study.comparison and compared != scored:
        found.append("comparison.json is of other scores: run compare_models.py again.")
    return found


def not_done(study: Study) -> dict[str, str]:
    """Return what was not done or left no record, with the command that does it, by a short key."""
    labels, check, comparison = study.labels, study.human_check, study.comparison
    silver = bool(labels) or any(run["label_source"] != "human coders" for run in study.runs)
    coded = any(run["label_source"] == "human coders" for run in study.runs)
    scored = {(run["family"], run["stage"]) for run in study.runs}
    only_silver = "" if coded else "; all scores are agreement with silver labels only"
    found = {
        "labels": not labels
        and silver
        and "The silver labelling is not on record: its model, dates and rows without a label are "
        "unknown (jsonl_to_csv.py).",
        "self_agreement": bool(labels)
        and not labels.get("asked_again")
        and "No rows were labelled again to see whether the teacher agrees with itself "
        "(submit_batch.py --repeat).",
        "corrected": bool(labels)
        and not labels.get("corrected")
        and "No silver labels were corrected by hand (jsonl_to_csv.py --corrections).",
        "splits": not study.splits and "The splits are not on record (split_dataset.py).",
        **{
            f"{family}_{stage}": (family, stage) not in scored
            and f"No {FAMILIES[family]} was scored {stage} fine-tuning ({command})."
            for (family, stage), command in EVALUATIONS.items()
        },
        **{
            f"training_{run['run']}": run["stage"] == "after"
            and not run["training"]
            and f"The training of {run['title']} is not on record: its training.json was not found."
            for run in study.runs
        },
        "comparison": not comparison
        and "The models were not tested against each other, nor against baselines "
        "(compare_models.py).",
        "pairs": comparison.get("pairs") == []
        and "No two models could be tested against each other on the same rows "
        "(compare_models.py).",
        "keywords": comparison.get("keywords") == {}
        and "No keyword baseline was computed, for want of training rows (compare_models.py).",
        "human_check": not check
        and silver
        and "No sample was coded by people: the silver labels' own error is unknown, and the "
        f"classes' shares are not corrected for it{only_silver} (human_sample.py, then "
        "human_check.py).",
        "agreement": bool(check)
        and not check.agreement
        and "Agreement between coders was not measured, as no rows were coded by two.",
        "adjudicated": bool(check and check.disagreements)
        and not check.adjudicated
        and "Disagreements between coders were not adjudicated.",
        "human_scores": not coded
        and "No model was scored against human coders (an evaluation step with --test-file "
        "human_test.csv).",
        "audit": not study.audit and "The labels were not searched for errors (label_audit.py).",
    }
    return {key: sentence for key, sentence in found.items() if sentence}
