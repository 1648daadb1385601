"""The methods text on the coded spreadsheet: who coded which rows, with which model, how well."""

from pipeline.coding.record import NOBODY, Coding
from pipeline.people.record import HumanCheck
from pipeline.planning.plan import confidence_below
from pipeline.report.coded import coded_classes, coded_rows, coders_of, labelled_rows
from pipeline.report.words import as_text, fill, fill_all, fill_all_of, joined


def coding_sentences(
    coding: Coding | None, check: HumanCheck | None
) -> tuple[list[str], list[str]]:
    """Return who coded the spreadsheet, with which model, and the classes of its rows."""
    if coding is None:
        return [], []
    by = [
        f"{name} coded {as_text(coding.coded_by[key], 'row|rows')}"
        for key, name in coders_of(coding).items()
    ]
    text = fill_all(
        vars(coding),
        "The spreadsheet {spreadsheet} has {rows:row|rows}, and {rows_with_message:,} of them hold "
        "a comment.",
    )
    coders = joined(by) or "no row was coded"
    text.append(f"{coders[0].upper()}{coders[1:]}.")
    text.append(
        "A row has the class that people gave it, else the teacher's, else the small model's."
    )
    if without := coding.coded_by.get(NOBODY):
        text.append(f"{as_text(without, 'row|rows')} with a comment got no class.")
    text += fill_all(
        vars(coding.model) | {"computed": coding.computed, "date": coding.date},
        "The small model is {name} ({kind}, fingerprint {fingerprint}).",
        "Its probabilities are scaled by a temperature of {temperature:.3f}.",
        "It was run on {computed:different comment|different comments}, on {date}.",
    )
    text += fill_all_of(
        map(vars, coding.quality),
        "On {rows:row|rows} its {measured_against} is {accuracy:%} {ci95:%} "
        "(results/{run}/metrics.json).",
    )
    text.append(check_sentence(coding))
    text.append(share_sentence(coding, check))
    text.append("The figures of this section stand in results/coded/coded.json.")
    return text, class_items(coding, check)


def check_sentence(coding: Coding) -> str:
    """Return how many rows people should look at, and by which rule."""
    marked = fill("{checked:row is|rows are} marked for people to look at", vars(coding))
    if coding.threshold is None or not marked:
        return "No rule says which rows people should look at."
    below = confidence_below(coding.threshold)
    return f"{marked}: only the small model coded them, with {below}."


def share_sentence(coding: Coding, check: HumanCheck | None) -> str:
    """Return of which rows the shares of the classes are, and which of them have an interval."""
    naive = (
        "Below are the classes of the coded rows. Their shares take every code for right, so that "
        "they have no interval"
    )
    if check is None:
        return f"{naive}, and no human check corrects them."
    if check.class_names != coding.class_names:
        return f"{naive}. The human check is of other classes, and corrects none of them."
    return (
        f"{naive}. Beside them stand the corrected shares of the human check with 95% intervals, "
        f"which are shares of the {as_text(labelled_rows(check), 'labelled row|labelled rows')} "
        "alone."
    )


def class_items(coding: Coding, check: HumanCheck | None) -> list[str]:
    """Return the rows and shares of each class."""
    items = []
    for one in coded_classes(coding, check):
        parts = [f"{one.name}: {as_text(one.rows, 'row|rows')}, {as_text(one.share, '%')}"]
        parts.append(f" of {as_text(coded_rows(coding), 'coded row|coded rows')}")
        if one.corrected:
            parts.append(
                fill("; corrected {corrected:%} {corrected_ci95:%}", vars(one.corrected))
                + f" of {as_text(labelled_rows(check), 'labelled row|labelled rows')}"
            )
        items.append(f"{''.join(parts)}.")
    return items
