"""The methods paragraph: what was done, in sentences that a paper can take over.

Every figure comes from the steps' JSON files. A sentence whose figure is missing is left out, and a
step that left no file is named as not done.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from string import Formatter
from typing import Any

import numpy as np

from pipeline.common.codebook import Codebook

# Cited by author and year in the sentences; the list holds those that a sentence names.
REFERENCES = {
    "Angelopoulos et al., 2023": "Angelopoulos, A. N., Bates, S., Fannjiang, C., Jordan, M. I., & "
    "Zrnic, T. (2023). Prediction-powered inference. Science, 382(6671), 669–674.",
    "Cohen, 1960": "Cohen, J. (1960). A coefficient of agreement for nominal scales. Educational "
    "and Psychological Measurement, 20(1), 37–46.",
    "Dettmers et al., 2023": "Dettmers, T., Pagnoni, A., Holtzman, A., & Zettlemoyer, L. (2023). "
    "QLoRA: Efficient finetuning of quantized LLMs. Advances in Neural Information Processing "
    "Systems, 36.",
    "Devlin et al., 2019": "Devlin, J., Chang, M.-W., Lee, K., & Toutanova, K. (2019). BERT: "
    "Pre-training of deep bidirectional transformers for language understanding. Proceedings of "
    "NAACL-HLT 2019, 1, 4171–4186.",
    "Guo et al., 2017": "Guo, C., Pleiss, G., Sun, Y., & Weinberger, K. Q. (2017). On calibration "
    "of modern neural networks. Proceedings of the 34th International Conference on Machine "
    "Learning, 1321–1330.",
    "Holm, 1979": "Holm, S. (1979). A simple sequentially rejective multiple test procedure. "
    "Scandinavian Journal of Statistics, 6(2), 65–70.",
    "Hu et al., 2022": "Hu, E. J., Shen, Y., Wallis, P., Allen-Zhu, Z., Li, Y., Wang, S., Wang, "
    "L., & Chen, W. (2022). LoRA: Low-rank adaptation of large language models. International "
    "Conference on Learning Representations.",
    "Kish, 1965": "Kish, L. (1965). Survey sampling. Wiley.",
    "Krippendorff, 2018": "Krippendorff, K. (2018). Content analysis: An introduction to its "
    "methodology (4th ed.). SAGE.",
    "McNemar, 1947": "McNemar, Q. (1947). Note on the sampling error of the difference between "
    "correlated proportions or percentages. Psychometrika, 12(2), 153–157.",
    "Northcutt et al., 2021": "Northcutt, C. G., Jiang, L., & Chuang, I. L. (2021). Confident "
    "learning: Estimating uncertainty in dataset labels. Journal of Artificial Intelligence "
    "Research, 70, 1373–1411.",
    "Perks, 1947": "Perks, W. (1947). Some observations on inverse probability including a new "
    "indifference rule. Journal of the Institute of Actuaries, 73(2), 285–334.",
    "Rubin, 1981": "Rubin, D. B. (1981). The Bayesian bootstrap. The Annals of Statistics, 9(1), "
    "130–134.",
    "Wilson, 1927": "Wilson, E. B. (1927). Probable inference, the law of succession, and "
    "statistical inference. Journal of the American Statistical Association, 22(158), 209–212.",
}

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
    """What the steps left on disk; `{}` or `[]` stands for a step that left nothing.

    `runs` are the scored runs' metrics, each with `run` (the folder's name), `title`, `against`
    (what the scores are measured against) and `training` (the record of its training, or `{}`).
    """

    codebook: Codebook
    runs: list[dict]
    unscored: list[dict]
    comparison: dict
    human_check: dict
    audit: dict
    labels: dict
    splits: dict


@dataclass(frozen=True)
class Section:
    """A heading with paragraphs, then a list."""

    title: str
    paragraphs: Sequence[str]
    items: Sequence[str] = ()


def shown(value: Any, form: str = "") -> str:
    """Return a value as the page and the paragraph show it; a list becomes `[low, high]`.

    `form` is `%` (one decimal), `points` (signed percentage points), `p` (a p-value with its sign),
    `row|rows` (a count with its noun) or a format of Python's; a number without one gets
    thousands separators and as many decimals as it has.
    """
    if value is None:
        return "–"
    if isinstance(value, list):
        return f"[{', '.join(shown(part, form) for part in value)}]"
    if form == "%":
        return f"{value:.1%}"
    if form == "points":
        return f"{100 * value:+.1f}".replace("-", "−")
    if form == "p":
        return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"
    if "|" in form:
        one, many = form.split("|")
        return f"{value:,} {one if value == 1 else many}"
    if form:
        return format(value, form).replace("-", "−")
    if isinstance(value, bool | str):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else np.format_float_positional(value, trim="-")


def fill(sentence: str, record: dict) -> str:
    """Return a sentence with its `{key:form}` filled from a record, "" where one is missing."""
    parts = []
    for text, key, form, _ in Formatter().parse(sentence):
        parts.append(text)
        if key is not None:
            if record.get(key) is None:
                return ""
            parts.append(shown(record[key], form or ""))
    return "".join(parts)


def fill_all(record: dict, *sentences: str) -> list[str]:
    """Return those of the sentences that a record can fill."""
    return [filled for sentence in sentences if (filled := fill(sentence, record))]


def fill_all_of(records: Iterable[dict], sentence: str) -> list[str]:
    """Return a sentence for each of the records that can fill it."""
    return [filled for record in records if (filled := fill(sentence, record))]


def listed(words: Iterable[str]) -> str:
    """Return words as English lists them: "a, b and c"; "" for none."""
    *first, last = list(words) or [""]
    return f"{', '.join(first)} and {last}" if first else last


def write_methods(study: Study) -> list[Section]:
    """Return the methods paragraph, section by section; a section without a file is left out."""
    parts = {
        "Data and codebook": data_sentences(study),
        "Silver labels": label_sentences(study.labels),
        "Splits": split_sentences(study.splits),
        "Models": model_sentences(study.runs),
        "Evaluation": evaluation_sentences(study),
        "Comparison of the models": comparison_sentences(study),
        "Human check": human_sentences(study.human_check),
        "Label audit": audit_sentences(study.audit),
    }
    sections = [
        Section(title, [" ".join(filter(None, text))], items)
        for title, (text, items) in parts.items()
        if any(text)
    ]
    if doubts := inconsistencies(study):
        sections.insert(0, Section("To be mended before this is used", [], doubts))
    undone = list(not_done(study).values())
    sections.append(Section("Not done", [] if undone else ["Every step left its record."], undone))
    text = " ".join(part for section in sections for part in (*section.paragraphs, *section.items))
    cited = [entry for key, entry in REFERENCES.items() if key in text]
    return [*sections, Section("References", [], cited)]


def data_sentences(study: Study) -> tuple[list[str], list[str]]:
    """Return how many rows there are, with which labels, and what the codebook is."""
    names, labels = study.codebook.names, study.labels
    text = [
        fill(
            "The data are {requests:comment|comments}, of which {labelled:,} received a silver "
            "label.",
            labels,
        )
    ]
    unlabelled = sum(labels.get("reasons", {}).values())
    if unlabelled and labels.get("requests"):
        why = ", ".join(f"{reason} {rows:,}" for reason, rows in labels["reasons"].items())
        share = shown(unlabelled / labels["requests"], "%")
        rows = shown(unlabelled, "row|rows")
        text.append(f"No label was obtained for {rows} ({share}), which were left out: {why}.")
    if labels.get("classes") and labels.get("labelled"):
        shares = [
            f"{name} {rows:,} ({shown(rows / labels['labelled'], '%')})"
            for name, rows in labels["classes"].items()
        ]
        text.append(f"The silver labels are {listed(shares)}.")
    text.append(
        f"The codebook defines {shown(len(names), 'class|classes')} ({listed(names)}); its full "
        f"text is in the appendix (SHA-256 beginning {study.codebook.sha256[:12]})."
    )
    return text, []


def label_sentences(labels: dict) -> tuple[list[str], list[str]]:
    """Return who gave the silver labels, how and when."""
    if not labels:
        return [], []
    teachers = listed(labels.get("teachers") or ["a model that is not on record"])
    how = fill_all(labels, "at temperature {temperature}", "in at most {max_tokens:token|tokens}")
    text = [
        f"The silver labels were given by {teachers}, with the codebook as the system prompt and "
        f"the comment as the user message{', ' if how else ''}{' and '.join(how)}."
    ]
    first, last = labels.get("first_answer"), labels.get("last_answer")
    if first:
        days = f"on {first}" if first == last else f"between {first} and {last}"
        text.append(f"The answers were given {days}.")
    else:
        text.append("The dates of the answers are not on record.")
    text += fill_all(
        labels,
        "{strict:answer|answers} had exactly the requested form, and {lenient:,} named one class "
        "unambiguously in another form.",
    )
    if labels.get("asked_again"):
        text.append(
            fill(
                "{asked_again:row was|rows were} labelled more than once, and "
                "{self_agreement:%} of the pairs of labels agree.",
                labels,
            )
        )
    if labels.get("majority_vote"):
        text.append("Of several labels of a row the most frequent one was taken.")
    if labels.get("corrected"):
        text.append(fill("{corrected:label was|labels were} corrected by hand.", labels))
    return text, []


def split_sentences(splits: dict) -> tuple[list[str], list[str]]:
    """Return how the labelled rows were divided."""
    text = fill_all(
        splits,
        "{rows:labelled row was|labelled rows were} divided at random, stratified by class (seed "
        "{seed:d}), into {train:row|rows} for training, {validation:,} for validation and {test:,} "
        "for testing.",
    )
    if splits.get("exchanged"):
        text += fill_all(
            splits,
            "{exchanged:row was|rows were} then exchanged for others of the same class, so that "
            "rows that people coded are test rows and those of the pilot are not.",
        )
    if splits.get("group_duplicates"):
        text.append("Rows with the same message were kept in one split.")
    if "shared_messages" in splits:
        text += fill_all(
            splits, "{shared_messages:message stands|messages stand} in more than one split."
        )
    return text, []


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


def human_sentences(check: dict) -> tuple[list[str], list[str]]:
    """Return the sample, the coders, their agreement, and the silver labels against them."""
    if not check:
        return [], []
    sample, agreement, silver = (check.get(key) or {} for key in ("sample", "agreement", "silver"))
    frame = "held_out" if sample.get("held_out") else "population"
    noun = "held-out row|held-out rows" if sample.get("held_out") else "labelled row|labelled rows"
    text = fill_all(
        sample,
        "A sample of {drawn:row|rows} was drawn at random (seed {seed:d}), stratified by silver "
        f"label, from {{{frame}:{noun}}}.",
        "Of each class at least {min_per_class:row was|rows were} drawn, where it has as many.",
        "It was drawn on {date}.",
    )
    strata = fill_all_of(
        sample.get("strata", []),
        "{name} {drawn:,} for {population:,} (inclusion probability {inclusion_probability:.4f})",
    )
    if strata:
        rows = fill("{population:labelled row|labelled rows}", sample)
        text.append(f"It stands for {rows}: {listed(strata)}.")
    coders = fill_all_of(check.get("coders", []), "{name} ({coded:row|rows}, {blank:,} blank)")
    if coders:
        text.append(
            "It was coded, the silver labels being hidden, by "
            f"{shown(len(coders), 'person|people')}: {listed(coders)}."
        )
    text += fill_all(
        agreement,
        "On {rows:row|rows} coded by two or more, {percent:%} of the pairs of codes agree.",
        "Krippendorff's alpha (Krippendorff, 2018) is {alpha_nominal:.3f} "
        "{alpha_nominal_ci95:.3f} for nominal and {alpha_ordinal:.3f} {alpha_ordinal_ci95:.3f} for "
        "ordinal classes, in the sample, where rare classes have more than their share.",
    )
    text += fill_all_of(
        [pair | {"coders": listed(pair["coders"])} for pair in agreement.get("kappa", [])],
        "Cohen's kappa (Cohen, 1960) of {coders} is {kappa:.3f} {ci95:.3f} ({rows:row|rows}).",
    )
    text += fill_all(
        check,
        "{disagreements:row was|rows were} coded differently, {adjudicated:,} adjudicated; "
        "{undecided:,} stayed undecided, and {uncoded:row has|rows have} no human label.",
    )
    text.append("A row's final label is the adjudicated one, else the one that most coders gave.")
    missing = check.get("undecided", 0) + check.get("uncoded", 0)
    if missing:
        text.append(
            f"{shown(missing, 'row|rows')} without such a label {'is' if missing == 1 else 'are'} "
            "left out, the others of the same silver label standing for them: the rows that people "
            "find hard are those that labels get wrong, so that the figures below flatter the "
            "silver labels."
        )
    text += fill_all(
        silver,
        "Against the people's labels, each row weighted by its inverse inclusion probability, the "
        "silver labels have an accuracy of {accuracy:%} {accuracy_ci95:%}, a macro F1 of "
        "{macro_f1:.3f} {macro_f1_ci95:.3f} and a kappa of {cohen_kappa:.3f} "
        "{cohen_kappa_ci95:.3f} ({rows:row|rows}).",
    )
    classes = fill_all_of(
        silver.get("classes", []),
        "{name} {precision:.2f} {precision_ci95:.2f} and {recall:.2f} {recall_ci95:.2f}",
    )
    if classes:
        text.append(f"Their precision and recall are {listed(classes)}.")
    shares = fill_all_of(
        check.get("shares", []),
        "{name}: {corrected:%} {corrected_ci95:%}; naive {naive:%} {naive_ci95:%}.",
    )
    if shares:
        text.append(
            "Below are the shares of the classes in the whole data set, corrected for the silver "
            "labels' errors by stratified prediction-powered inference (Angelopoulos et al., "
            "2023), beside the naive shares of the silver labels, with 95% intervals. The "
            "intervals of the agreement are quantiles of a Bayesian bootstrap (Rubin, 1981) of "
            "the rows and two pseudo-rows, spread over all pairs of classes; those of the naive "
            "shares are Wilson's (Wilson, 1927). All others are quantiles of draws of each "
            "stratum's shares from a Dirichlet distribution with the prior of Perks (Perks, "
            "1947), whose mean is moved so that the prior weighs 4/k² of its own for k classes, "
            "and whose spread is that of the unbiased variance with the finite population "
            "correction."
        )
    return text, shares


def audit_sentences(audit: dict) -> tuple[list[str], list[str]]:
    """Return how the labels were searched for errors, and what was found."""
    text = fill_all(
        audit,
        "The labels of {rows:row|rows} were searched for errors by confident learning (Northcutt "
        "et al., 2021): {issues:is a probable error|are probable errors}, and "
        "{near_duplicates:group of near-duplicates has|groups of near-duplicates have} labels that "
        "differ.",
        "The class probabilities of a row are those of {method}, cross-validated in "
        "{folds:fold|folds}.",
    )
    return text, []


def inconsistencies(study: Study) -> list[str]:
    """Return what does not belong together: other codebooks, a comparison of other scores."""
    records = {
        **{f"The run {run['run']}": run for run in [*study.runs, *study.unscored]},
        "The record of the silver labels": study.labels,
        "The record of the splits": study.splits,
        "The human check": study.human_check,
        "The label audit": study.audit,
    }
    ours, sample = study.codebook.sha256, study.human_check.get("sample", {})
    found = [
        f"{name} was made with another codebook ({record['codebook_sha256'][:12]}) than "
        f"{study.codebook.path} ({ours[:12]})."
        for name, record in records.items()
        if record.get("codebook_sha256", ours) != ours
    ]
    found += [
        f"{name} is of {shown(rows, 'labelled row|labelled rows')}, and jsonl_to_csv.py has by now "
        f"labelled {shown(study.labels['labelled'], 'row|rows')}: {cure}."
        for name, rows, cure in (
            ("The split", study.splits.get("rows"), "run split_dataset.py and what follows again"),
            ("The human check", sample.get("population"), "its figures are those of older labels"),
            ("The label audit", study.audit.get("rows"), "run human_check.py --audit again"),
        )
        if rows is not None and study.labels and rows != study.labels["labelled"]
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
    agreement = check.get("agreement")
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
        f"classes' shares are not corrected for it{only_silver} (human_check.py --draw, then "
        "--score).",
        "agreement": bool(check)
        and not agreement
        and "Agreement between coders was not measured, as no rows were coded by two.",
        "adjudicated": bool(check.get("disagreements"))
        and not check.get("adjudicated")
        and "Disagreements between coders were not adjudicated.",
        "human_scores": not coded
        and "No model was scored against human coders (an evaluation step with --test-file "
        "human_test.csv).",
        "audit": not study.audit
        and "The labels were not searched for errors (human_check.py --audit).",
    }
    return {key: sentence for key, sentence in found.items() if sentence}


def methods_markdown(study: Study) -> str:
    """Return the methods paragraph as Markdown, the codebook as its appendix."""
    fence = "```"
    while fence in study.codebook.text:
        fence += "`"
    lines = ["# Methods", ""]
    for section in write_methods(study):
        lines += [f"## {section.title}", ""]
        lines += [line for text in section.paragraphs for line in (_plain(text), "")]
        lines += [f"- {_plain(item)}" for item in section.items] + [""] * bool(section.items)
    lines += ["## Appendix: the codebook", "", f"SHA-256: {study.codebook.sha256}", ""]
    return "\n".join([*lines, fence, study.codebook.text, fence]) + "\n"


def _plain(text: str) -> str:
    """Return a text that Markdown leaves as it stands."""
    return re.sub(r"(<(?=[A-Za-z/!?])|[*`\\]|\](?=\()|\b_|_\b)", r"\\\1", text)
