"""The methods text on the models: their training, their scores, the tests between them."""

import re

from pipeline.report.study import Study
from pipeline.report.words import fill, fill_all, fill_all_of, listed, shown


def model_sentences(runs: list[dict]) -> tuple[list[str], list[str]]:
    """Return the models, their training, software and devices."""
    items = []
    for model in dict.fromkeys((run["family"], run["model"]) for run in runs):
        own = [run for run in runs if (run["family"], run["model"]) == model]
        trainings = {str(run["training"]): run for run in own if run["training"]}
        kind = " (an encoder of the BERT family; Devlin et al., 2019)" * (model[0] == "bert")
        text = [f"{model[1]}{kind}."]
        text += [f"{run['short_title'].capitalize()}: {method_of(run)}." for run in own]
        text += [training_sentence(run) for run in trainings.values()]
        items.append(" ".join(text))
    text = [
        "The causal language models were given the codebook as the system prompt, then the comment."
        * any(run["family"] == "llm" for run in runs)
    ]
    records = [*runs, *(run["training"] for run in runs)]
    if packages := package_versions(runs):
        software = (f"{name} {' or '.join(versions)}" for name, versions in packages.items())
        text.append(f"Software: {', '.join(software)}.")
    if devices := dict.fromkeys(record["device"] for record in records if "device" in record):
        text.append(f"Computed on: {'; '.join(devices)}.")
    return text, items


def method_of(run: dict) -> str:
    """Return how a run predicts, as the metrics have it, its numbers with separators."""
    method = run["method"].replace("fine-tuned in ", "the classifier in ")
    return re.sub(r"(?<= )[0-9]{4,}(?= )", lambda number: f"{int(number[0]):,}", method)


def package_versions(runs: list[dict]) -> dict[str, list[str]]:
    """Return each package's versions in the runs and their trainings."""
    found: dict[str, dict[str, None]] = {}
    for record in [*runs, *(run["training"] for run in runs)]:
        for package, version in record.get("versions", {}).items():
            found.setdefault(package, {})[version] = None
    return {package: list(versions) for package, versions in found.items()}


def training_sentence(run: dict) -> str:
    """Return how a run's model was fine-tuned, as its training.json says."""
    record = run["training"]
    settings = record.get("settings", {})
    facts = settings | record.get("validation", {}) | record.get("train", {})
    # The Trainer counts epochs as floats, and `train` ends where `validation` was best or later.
    facts["best_epoch"] = record.get("validation", {}).get("epoch")
    facts["last_epoch"] = record.get("train", {}).get("epoch")
    if "per_device_train_batch_size" in settings:
        batches = settings.get("gradient_accumulation_steps", 1)
        facts["rows_per_step"] = settings["per_device_train_batch_size"] * batches
    if run["family"] == "bert":
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
        f"The scores are {listed(dict.fromkeys(run['against'] for run in runs))}.",
        "They are over all rows, an invalid answer being wrong, with 95% intervals: Wilson's "
        "(Wilson, 1927) for accuracy, percentiles of a bootstrap for macro F1 and Cohen's kappa "
        "(Cohen, 1960).",
    ]
    if any(run.get("weighted") for run in runs):
        text.append(
            "Scores marked as weighted count each row by its inverse inclusion probability; the "
            "interval of their accuracy is Wilson's at Kish's effective sample size (Kish, 1965)."
        )
    if len({run.get("scored_rows_sha256") for run in runs}) > 1:
        text.append("Not all models were scored on the same rows.")
    if any("ece" in run for run in runs):
        text.append(
            "ECE is the expected calibration error of the predicted class's probability (Guo et "
            "al., 2017)."
        )
    several, items = len({run["label_source"] for run in runs}) > 1, []
    for run in runs:
        scaled = run.get("temperature", 1) != 1
        scores = fill_all(
            run | {"scaled_by": run["temperature"] if scaled else None},
            "accuracy {accuracy_all_rows:%} {accuracy_all_rows_ci95:%}",
            "macro F1 {macro_f1:.3f} {macro_f1_ci95:.3f}",
            "kappa {cohen_kappa:.3f} {cohen_kappa_ci95:.3f}",
            "ECE {ece:.3f}",
            "its probabilities scaled by a temperature of {scaled_by:.3f}, without which ECE would "
            "be {ece_without_temperature:.3f}",
        )
        weighted = ", weighted" * bool(run.get("weighted"))
        rows = fill("{total:row|rows}, {valid:,} ({valid_rate:%}) with a valid answer", run)
        source = f", against {run['label_source']}" * several
        items.append(f"{run['title']}{source}{weighted}: {', '.join(scores)}; {rows}.")
    sources = {run["run"]: run["label_source"] for run in runs}
    for baseline in study.comparison.get("baselines", []):
        scored = sources.get((baseline.get("runs") or [""])[0])
        source = f", against {scored}" * bool(several and scored)
        items += fill_all(
            baseline,
            f"Baseline {{name}}{source}: accuracy {{accuracy:%}} {{accuracy_ci95:%}}, macro F1 "
            "{macro_f1:.3f} {macro_f1_ci95:.3f}; {rows:row|rows}. {method}",
        )
    return text, items


def comparison_sentences(study: Study) -> tuple[list[str], list[str]]:
    """Return the tests of differences between models, and what coding by hand would bring."""
    titles = {run["run"]: run["title"] for run in study.runs}
    pairs = study.comparison.get("pairs", [])
    items = fill_all_of(
        [
            pair | {key: titles.get(pair[key], pair[key]) for key in ("first", "second")}
            for pair in pairs
        ],
        "{second} against {first}, {rows:row|rows}: {difference:points} percentage points "
        "{difference_ci95:points}; right alone {only_second_right:,} and {only_first_right:,} "
        "times; {p_value:p}, corrected {p_holm:p}.",
    )
    text = [
        f"{shown(len(pairs), 'pair of models was|pairs of models were')} compared on the same rows "
        "by McNemar's exact test (McNemar, 1947), with Holm's correction (Holm, 1979) over all of "
        "them; differences are in accuracy over all rows, with the 95% intervals of a paired "
        "bootstrap, weighted where the scores are; the test counts rows."
    ] * bool(pairs)
    if study.comparison.get("by_hand"):
        text.append(
            "The shares of rows to leave to people are chosen on the rows that they are measured "
            "on, and so are too small by chance more often than too large."
        )
    for run, targets in study.comparison.get("by_hand", {}).items():
        reached = fill_all_of(targets, "at least {accuracy:%} when people code {share:%}")
        missed = [shown(target["accuracy"], "%") for target in targets if target["share"] is None]
        told = [f"it is right on {listed(reached)}"] * bool(reached)
        told += [f"{listed(missed)} on no 30 of its rows or more"] * bool(missed)
        if told:
            items.append(
                f"{titles.get(run, run)}, its least confident rows being left to people: of the "
                f"others {'; '.join(told)}."
            )
    return text if text or not items else ["Coding by hand:"], items
