"""The methods paragraph: what was done, in sentences that a paper can take over.

Every figure comes from the steps' JSON files. A sentence whose figure is missing is left out, and a
step that left no file is named as not done.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.report.coding_sentences import coding_sentences
from pipeline.report.label_sentences import label_plan_sentences
from pipeline.report.model_sentences import (
    comparison_sentences,
    evaluation_sentences,
    model_sentences,
)
from pipeline.report.people_sentences import audit_sentences, human_sentences
from pipeline.report.plan_sentences import plan_sentences
from pipeline.report.references import REFERENCES
from pipeline.report.study import Study, inconsistencies, not_done
from pipeline.report.words import as_text, fill, fill_all, joined


@dataclass(frozen=True)
class Section:
    """A heading with paragraphs, then a list."""

    title: str
    paragraphs: Sequence[str]
    items: Sequence[str] = ()


def write_methods(study: Study) -> list[Section]:
    """Return the methods paragraph, section by section; a section without a file is left out."""
    parts = {
        "Data and codebook": data_sentences(study),
        "Silver labels": label_sentences(study.labels),
        "Splits": split_sentences(study.splits),
        "Models": model_sentences(study),
        "Evaluation": evaluation_sentences(study),
        "Comparison of the models": comparison_sentences(study),
        "Human check": human_sentences(study.human_check),
        "Label audit": audit_sentences(study.audit),
        "Number of labels": label_plan_sentences(study.label_plan),
        "Plan of the coding": plan_sentences(study.plan),
        "Coding of the spreadsheet": coding_sentences(study.coding, study.human_check),
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
    coded = labels.get("human_rows")
    if coded:
        text = fill_all(
            labels | {"silver": labels.get("labelled", coded) - coded},
            "The data are {requests:comment|comments}. People coded {human_rows:,} of them, and "
            "{silver:,} of the others received a silver label.",
        )
    else:
        text = fill_all(
            labels,
            "The data are {requests:comment|comments}, of which {labelled:,} received a silver "
            "label.",
        )
    unlabelled = sum(labels.get("reasons", {}).values())
    if unlabelled and labels.get("requests"):
        why = ", ".join(f"{reason} {rows:,}" for reason, rows in labels["reasons"].items())
        share = as_text(unlabelled / labels["requests"], "%")
        rows = as_text(unlabelled, "row|rows")
        text.append(f"No label was obtained for {rows} ({share}), which were left out: {why}.")
    if labels.get("classes") and labels.get("labelled"):
        shares = [
            f"{name} {rows:,} ({as_text(rows / labels['labelled'], '%')})"
            for name, rows in labels["classes"].items()
        ]
        text.append(f"The {'' if coded else 'silver '}labels are {joined(shares)}.")
    text.append(
        f"The codebook defines {as_text(len(names), 'class|classes')} ({joined(names)}); its full "
        f"text is in the appendix (SHA-256 beginning {study.codebook.sha256[:12]})."
    )
    return text, []


def label_sentences(labels: dict) -> tuple[list[str], list[str]]:
    """Return who gave the silver labels, how and when."""
    coded = labels.get("human_rows")
    if not labels or (coded and coded == labels.get("labelled")):
        return [], []
    how = fill_all(labels, "at temperature {temperature}", "in at most {max_tokens:token|tokens}")
    text = [
        f"The silver labels were given by {teachers_of(labels)}, with the codebook as the system "
        f"prompt and the comment as the user message{', ' if how else ''}{' and '.join(how)}."
    ]
    first, last = labels.get("first_answer"), labels.get("last_answer")
    if first:
        days = f"on {first}" if first == last else f"between {first} and {last}"
        text.append(f"The answers were given {days}.")
    else:
        text.append("The dates of the answers are not on record.")
    text += fill_all(
        labels.get("asked_coded_rows") or {},
        "As a check, the same was asked of {rows:row|rows} that people had coded: the answers have "
        "the class of people for {agreement:%} {agreement_ci95:%} of them.",
        "Cohen's kappa (Cohen, 1960) of these is {cohen_kappa:.3f}.",
    )
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


def teachers_of(labels: dict) -> str:
    """Return the models that gave the silver labels, and the name asked for where it is another."""
    teachers = list(filter(None, labels.get("teachers", [])))
    asked = labels.get("requested_model")
    names = joined(teachers or ["a model that is not on record"])
    return f"{names} (asked for as {asked})" if asked and teachers != [asked] else names


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
