"""The methods text on the models: their training, their scores, the tests between them."""

import re

from pipeline.evaluation.learned import MARK
from pipeline.evaluation.runs import Run
from pipeline.report.study import Study
from pipeline.report.words import as_text, fill, fill_all, fill_all_of, joined


def model_sentences(study: Study) -> tuple[list[str], list[str]]:
    """Return the models, their training, software and devices."""
    items = []
    for family, model in dict.fromkeys((run.family, run.model) for run in study.runs):
        own = [run for run in study.runs if (run.family, run.model) == (family, model)]
        kind = " (an encoder of the BERT family; Devlin et al., 2019)" * (family == "bert")
        text = [f"{model}{kind}."]
        text += [f"{run.short_title.capitalize()}: {method_of(run)}." for run in own]
        text += [training_sentence(family, record) for record in trainings_of(study, own)]
        items.append(" ".join(text))
    text = [
        "The causal language models were given the codebook as the system prompt, then the comment."
        * any(run.family == "llm" for run in study.runs)
    ]
    records = [run.metrics for run in study.runs] + trainings_of(study, study.runs)
    if packages := package_versions(records):
        software = (f"{name} {' or '.join(versions)}" for name, versions in packages.items())
        text.append(f"Software: {', '.join(software)}.")
    if devices := dict.fromkeys(record["device"] for record in records if "device" in record):
        text.append(f"Computed on: {'; '.join(devices)}.")
    return text, items


def method_of(run: Run) -> str:
    """Return how a run predicts, as the metrics have it, its numbers with separators."""
    method = run.metrics["method"].replace("fine-tuned in ", "the classifier in ")
    return re.sub(r"(?<= )[0-9]{4,}(?= )", lambda number: f"{int(number[0]):,}", method)


def trainings_of(study: Study, runs: list[Run]) -> list[dict]:
    """Return the records of the trainings of some runs, each once."""
    records: list[dict] = []
    for run in runs:
        record = study.trainings.get(run.name)
        if record and record not in records:
            records.append(record)
    return records


def package_versions(records: list[dict]) -> dict[str, list[str]]:
    """Return each package's versions in the records of runs and trainings."""
    found: dict[str, dict[str, None]] = {}
    for record in records:
        for package, version in record.get("versions", {}).items():
            found.setdefault(package, {})[version] = None
    return {package: list(versions) for package, versions in found.items()}


def training_sentence(family: str, record: dict) -> str:
    """Return how a model was fine-tuned, as its training.json says."""
    settings = record.get("settings", {})
    facts = settings | record.get("validation", {}) | record.get("train", {})
    # The Trainer counts epochs as floats, and `train` ends where `validation` was best or later.
    facts["best_epoch"] = record.get("validation", {}).get("epoch")
    facts["last_epoch"] = record.get("train", {}).get("epoch")
    if "per_device_train_batch_size" in settings:
        batches = settings.get("gradient_accumulation_steps", 1)
        facts["rows_per_step"] = settings["per_device_train_batch_size"] * batches
    if family == "bert":
        way = "with a classification head, all weights being trained"
    elif settings.get("load_in_4bit"):
        way = "by QLoRA (Dettmers et al., 2023), the base quantized to 4 bits"
    else:
        way = "by LoRA (Hu et al., 2022), the base not quantized"
    clauses = fill_all(
        facts,
        "rank {lora_r}",
        "alpha {lora_alpha}",
        "dropout {lora_dropout}",
        "at most {num_train_epochs:epoch|epochs}",
        "patience of {early_stopping_patience:epoch|epochs}",
        "peak learning rate {learning_rate}",
        "weight decay {weight_decay}",
        "{warmup_steps:warm-up step|warm-up steps}",
        "warm-up over {warmup_ratio:%} of the steps",
        "{rows_per_step:row|rows} per optimizer step and device",
        "at most {max_length:token|tokens} per row",
        "seed {seed:d}",
    )
    if settings.get("class_weights"):
        clauses.append("classes weighted in inverse proportion to their rows")
    sentences = [f"It was fine-tuned {way}: {', '.join(clauses)}."]
    coded = record.get("human_rows", {}).get("train")
    if coded:
        rows = as_text(record["num_rows"]["train"], "row|rows")
        sentences.append(f"Of its {rows} for training, people coded {coded:,}.")
    score = "weighted_f1" if "weighted_f1" in facts else "accuracy"
    sentences += fill_all(
        facts,
        f"The weights of epoch {{best_epoch}} of {{last_epoch}} were kept, whose validation "
        f"{score.replace('_f1', ' F1')} of {{{score}:.3f}} was the highest.",
        "The training took {train_runtime:,.0f} s.",
    )
    return " ".join(sentences)


def evaluation_sentences(study: Study) -> tuple[list[str], list[str]]:
    """Return each run's scores, and what they are measured against."""
    runs = study.runs
    text = [
        f"The scores are {joined(dict.fromkeys(run.measured_against for run in runs))}.",
        "They are over all rows, an invalid answer being wrong, with 95% intervals: Wilson's "
        "(Wilson, 1927) for accuracy, percentiles of a bootstrap for macro F1 and Cohen's kappa "
        "(Cohen, 1960).",
    ]
    if any(run.weighted for run in runs):
        text.append(
            "Scores marked as weighted count each row by its inverse inclusion probability; the "
            "interval of their accuracy is Wilson's at Kish's effective sample size (Kish, 1965)."
        )
    if len({run.metrics["scored_rows_sha256"] for run in runs}) > 1:
        text.append("Not all models were scored on the same rows.")
    if any(run.metrics["ece"] is not None for run in runs):
        text.append(
            "ECE is the expected calibration error of the predicted class's probability (Guo et "
            "al., 2017)."
        )
    items = [score_sentence(run, len({run.label_source for run in runs}) > 1) for run in runs]
    items += fill_all_of(
        [one | {"title": title} for title, one in study.baselines],
        "Baseline {title}: accuracy {accuracy:%} {accuracy_ci95:%}, macro F1 {macro_f1:.3f} "
        "{macro_f1_ci95:.3f}; {rows:row|rows}. {method}",
    )
    return text, items


def score_sentence(run: Run, with_source: bool) -> str:
    """Return a run's scores, with `with_source` which labels they are against, and its warning."""
    scaled = run.metrics["temperature"] not in (None, 1)
    scores = fill_all(
        run.metrics | {"scaled_by": run.metrics["temperature"] if scaled else None},
        "accuracy {accuracy_all_rows:%} {accuracy_all_rows_ci95:%}",
        "on the {human_rows:row|rows} that people coded {accuracy_human_rows:%} "
        "{accuracy_human_rows_ci95:%}",
        "macro F1 {macro_f1:.3f} {macro_f1_ci95:.3f}",
        "kappa {cohen_kappa:.3f} {cohen_kappa_ci95:.3f}",
        "ECE {ece:.3f}",
        "its probabilities scaled by a temperature of {scaled_by:.3f}, without which ECE would "
        "be {ece_without_temperature:.3f}",
    )
    weighted = ", weighted" * run.weighted
    rows = fill("{total:row|rows}, {valid:,} ({valid_rate:%}) with a valid answer", run.metrics)
    in_title = run.label_source in run.distinction
    source = f", against {run.label_source}" * (with_source and not in_title)
    warning = f" {MARK} {run.metrics['warning']}" if run.metrics["warning"] else ""
    return f"{run.title}{source}{weighted}: {', '.join(scores)}; {rows}.{warning}"


def comparison_sentences(study: Study) -> tuple[list[str], list[str]]:
    """Return the tests of differences between models, and how much is to be coded by hand."""
    titles, pairs = study.titles, study.comparison.get("pairs", [])
    items = []
    for pair in pairs:
        named = pair | {key: titles.get(pair[key], pair[key]) for key in ("first", "second")}
        sentences = fill_all(
            named,
            "{second} against {first}, {rows:row|rows}: {difference:points} percentage points "
            "{difference_ci95:points}; right alone {only_second_right:,} and {only_first_right:,} "
            "times; {p_value:p}, corrected {p_holm:p}.",
            "Weighted to the data set, the difference is {difference_weighted:points} percentage "
            "points {difference_weighted_ci95:points}.",
        )
        items.append(" ".join(sentences))
    text = [
        f"{as_text(len(pairs), 'pair of models was|pairs of models were')} compared on the same "
        "rows by McNemar's exact test (McNemar, 1947), with Holm's correction (Holm, 1979) over "
        "all of them. Beside each test stands the difference that it tests, in accuracy over all "
        "rows, each row counting once, with the 95% interval of a paired bootstrap."
    ] * bool(pairs)
    if any("difference_weighted" in pair for pair in pairs):
        text.append(
            "Where the scores are weighted, the weighted difference follows with an interval of "
            "its own; McNemar's test does not test it."
        )
    if study.comparison.get("by_hand"):
        text.append(
            "The shares of rows to leave to people are chosen on the rows that they are measured "
            "on, and so are too small by chance more often than too large."
        )
    for run, targets in study.comparison.get("by_hand", {}).items():
        reached = fill_all_of(targets, "at least {accuracy:%} when people code {share:%}")
        missed = [as_text(target["accuracy"], "%") for target in targets if target["share"] is None]
        parts = [f"it is right on {joined(reached)}"] * bool(reached)
        parts += [f"{joined(missed)} on no 30 of its rows or more"] * bool(missed)
        if parts:
            items.append(
                f"{titles.get(run, run)}, its least confident rows being left to people: of the "
                f"others {'; '.join(parts)}."
            )
    return text if text or not items else ["Coding by hand:"], items
