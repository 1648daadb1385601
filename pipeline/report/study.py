"""A study as its steps left it on disk: what there is, what does not fit, what was not done."""

from dataclasses import dataclass
from pathlib import Path

from pipeline.coding.record import HUMAN as PEOPLE
from pipeline.coding.record import TEACHER, Coding
from pipeline.common.cli import UserError
from pipeline.common.codebook import Codebook
from pipeline.common.files import read_json
from pipeline.evaluation.comparison_text import baseline_titles
from pipeline.evaluation.runs import EVALUATED_BY, HUMAN, SILVER, Run
from pipeline.models.folder import RECORD
from pipeline.people.record import HumanCheck
from pipeline.planning.label_plan import LabelPlan
from pipeline.planning.plan import Plan
from pipeline.report.words import as_text

TRAINED_BY = {"llm": "finetune.py", "bert": "bert_tune.py"}
FAMILIES = {"llm": "causal language model", "bert": "BERT"}


@dataclass(frozen=True)
class Study:
    """What the steps left on disk; `{}`, `[]` or None stands for a step that left nothing."""

    codebook: Codebook  # the prompt and its classes, which all runs share
    runs: list[Run]  # those with scores, in the order of `read_runs`
    unscored: list[Run]  # those of rows without a class
    trainings: dict[str, dict]  # by run: the training.json of its model, where there is one
    comparison: dict  # comparison.json of compare_models.py
    human_check: HumanCheck | None  # human_check.json
    audit: dict  # audit.json
    labels: dict  # silver_labels.json of jsonl_to_csv.py
    splits: dict  # splits.json of split_dataset.py
    label_plan: LabelPlan | None = None  # labels.json of plan_coding.py --labels
    plan: Plan | None = None  # plan.json of plan_coding.py
    coding: Coding | None = None  # coded.json of code_comments.py

    @property
    def titles(self) -> dict[str, str]:
        """The scored runs' titles by name."""
        return {run.name: run.title for run in self.runs}

    @property
    def baselines(self) -> list[tuple[str, dict]]:
        """The comparison's baselines, each with a title that names its group of runs."""
        found = self.comparison.get("baselines", [])
        labels = {run.name: run.labels for run in self.runs}
        return list(zip(baseline_titles(found, labels), found, strict=True))


def read_trainings(runs: list[Run]) -> dict[str, dict]:
    """Return by run the record of the training that made its model, where there is one."""
    found = {}
    for run in runs:
        places = [run.metrics.get("adapter_path"), run.metrics["settings"].get("tuned_path")]
        if run.stage == "after":
            places.append(run.metrics.get("model_path"))
        files = [Path(place) / RECORD for place in places if place]
        if there := [file for file in files if file.is_file()]:
            found[run.name] = read_json(there[0], "run its training again")
    return found


def check_classes(runs: list[Run], codebook: Codebook) -> None:
    """Refuse a run of other classes than the codebook's."""
    for run in runs:
        if run.class_names != codebook.names:
            raise UserError(
                f"{run.folder / 'metrics.json'} has the classes {', '.join(run.class_names)}, and "
                f"{codebook.path} has {', '.join(codebook.names)}: give --prompt-file the run's, "
                "or move the run"
            )


def inconsistencies(study: Study) -> list[str]:
    """Return what does not belong together: other codebooks, a comparison of other scores."""
    check = study.human_check
    records = {
        **{f"The run {run.name}": run.metrics for run in [*study.runs, *study.unscored]},
        "The record of the silver labels": study.labels,
        "The record of the splits": study.splits,
        "The human check": vars(check) if check else {},
        "The label audit": study.audit,
        "The learning curve": vars(study.label_plan) if study.label_plan else {},
        "The plan": vars(study.plan) if study.plan else {},
        "The coded spreadsheet": vars(study.coding) if study.coding else {},
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
    audited = study.audit.get("labelled", study.audit.get("rows"))
    found += [
        f"{name} is of {as_text(rows, 'labelled row|labelled rows')}, and jsonl_to_csv.py has by "
        f"now labelled {as_text(labelled, 'row|rows')}: {cure}."
        for name, rows, cure in (
            ("The split", study.splits.get("rows"), "run split_dataset.py and what follows again"),
            ("The human check", population, "its figures are those of older labels"),
            ("The label audit", audited, "run label_audit.py again"),
        )
        if None not in (rows, labelled) and rows != labelled
    ]
    compared = {
        row["run"]: row.get("accuracy_all_rows") for row in study.comparison.get("runs", [])
    }
    scored = {run.name: run.metrics["accuracy_all_rows"] for run in study.runs}
    if study.comparison and compared != scored:
        found.append("comparison.json is of other scores: run compare_models.py again.")
    return found + coding_doubts(study, labelled, scored)


def coding_doubts(study: Study, labelled: int | None, scored: dict[str, float]) -> list[str]:
    """Return what does not belong to a coded spreadsheet: newer labels, other scores, a new plan.

    `labelled` is how many rows have a label by now, `scored` has the accuracies by run.
    """
    if not (coding := study.coding):
        return []
    found = []
    taken = sum(coding.coded_by.get(who, 0) for who in (PEOPLE, TEACHER))
    if coding.coded_by.get(TEACHER) and labelled is not None and taken < labelled:
        found.append(
            f"The coded spreadsheet has {as_text(taken, 'row|rows')} coded by people or the "
            f"teacher, and jsonl_to_csv.py has by now labelled {as_text(labelled, 'row|rows')}: "
            "run code_comments.py again."
        )
    found += [
        f"The quality that coded.json names is not that of the run {one.run} by now: run "
        "code_comments.py again."
        for one in coding.quality
        if scored.get(one.run) != one.accuracy
    ]
    plan = study.plan
    if plan and Path(plan.model.path) != Path(coding.model.path):
        found.append(
            f"The plan is for the model {plan.model.path}, and {coding.model.path} coded the "
            "spreadsheet: run plan_coding.py or code_comments.py again."
        )
    elif plan and plan.threshold != coding.threshold:
        found.append(
            f"The spreadsheet was coded with the threshold {as_text(coding.threshold)}, and "
            f"the plan has {as_text(plan.threshold)}: run code_comments.py again."
        )
    return found


def not_done(study: Study) -> dict[str, str]:
    """Return what was not done or left no record, with the command that does it, by a short key."""
    labels, check, comparison = study.labels, study.human_check, study.comparison
    silver = bool(labels) or any(run.label_source != HUMAN for run in study.runs)
    coded = any(run.label_source != SILVER for run in study.runs)
    scored = {(run.family, run.stage) for run in study.runs}
    error = (
        "known only on the rows that people had coded"
        if labels.get("asked_coded_rows")
        else "unknown"
    )
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
            and f"No {FAMILIES[family]} was scored {stage} fine-tuning "
            f"({f'{TRAINED_BY[family]}, then ' * (stage == 'after')}{script})."
            for (family, stage), script in EVALUATED_BY.items()
        },
        **{
            f"training_{run.name}": run.stage == "after"
            and run.name not in study.trainings
            and f"The training of {run.title} is not on record: its training.json was not found."
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
        and f"No sample was coded by people: the silver labels' own error is {error}, and the "
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
        **coding_not_done(study),
    }
    return {key: sentence for key, sentence in found.items() if sentence}


def coding_not_done(study: Study) -> dict[str, str | bool]:
    """Return what was not done of coding the spreadsheet, where it was begun."""
    coding = study.coding
    return {
        "coder_quality": bool(coding)
        and not coding.quality
        and "The quality of the model that coded the spreadsheet was not measured "
        "(posttune_eval.py or bert_tune_eval.py, then code_comments.py).",
        "label_plan": bool(coding or study.plan)
        and not study.label_plan
        and "How much more labels would bring was not measured (plan_coding.py --labels).",
        "coding": bool(study.plan)
        and not coding
        and "The spreadsheet was not coded by the plan (code_comments.py).",
        "check": bool(coding)
        and coding.threshold is None
        and "No rule says which rows of the coded spreadsheet people should look at "
        "(plan_coding.py, then code_comments.py).",
    }
