"""The two sheets that a coded workbook gets: the codebook, and how the rows were coded."""

from pipeline.coding.record import HUMAN, MODEL, TEACHER, Coding
from pipeline.common.codebook import CLASS_LINE, Codebook
from pipeline.common.files import clean_text
from pipeline.planning.plan import confidence_below

CODEBOOK_SHEET, RECORD_SHEET = SHEETS = "codebook", "record"
Table = list[list[str | int | float]]
LONGEST = 8_000  # characters of a cell; a workbook's may have 32,767
CALLED = {HUMAN: "people", TEACHER: "the large model (the teacher)", MODEL: "the tuned model"}


def new_sheets(coding: Coding, codebook: Codebook, prefix: str) -> dict[str, Table]:
    """Return the sheets by their titles, each as its rows."""
    return {
        CODEBOOK_SHEET: codebook_table(codebook),
        RECORD_SHEET: record_table(coding, prefix),
    }


def codebook_table(codebook: Codebook) -> Table:
    """Return number, name and definition of each class, and the whole text below."""
    table: Table = [["class", "class_name", "definition"]]
    table += [[k, name, text] for k, (name, text) in enumerate(definitions(codebook))]
    table += [[], ["the whole codebook"]]
    for line in codebook.text.splitlines():
        table += [[part] for part in _parts(clean_text(line))]
    return table


def definitions(codebook: Codebook) -> list[tuple[str, str]]:
    """Return each class's name and definition: its line after the name, and indented ones below."""
    found: list[tuple[str, str]] = []
    inside = False
    for line in codebook.text.split("\n"):
        match = CLASS_LINE.match(line)
        if match and len(found) < len(codebook.names) and match[2] == codebook.names[len(found)]:
            found.append((match[2], line[match.end() :].strip()))
            inside = True
        elif inside and line[:1] in (" ", "\t") and line.strip():
            name, text = found[-1]
            found[-1] = name, f"{text} {line.strip()}".strip()
        else:
            inside = False
    return [(name, clean_text(text)[:LONGEST]) for name, text in found]


def _parts(line: str) -> list[str]:
    return [line[start : start + LONGEST] for start in range(0, len(line) or 1, LONGEST)]


def record_table(coding: Coding, prefix: str) -> Table:
    """Return how the rows were coded: by which model, when, at what quality, who coded what."""
    model = coding.model
    table: Table = [
        ["how this sheet was coded", ""],
        ["coded on", coding.date],
        ["from", f"{coding.spreadsheet}{f', sheet {coding.sheet}' * bool(coding.sheet)}"],
        ["model", f"{model.name}, fine-tuned ({model.kind}): {model.path}"],
        ["model's fingerprint", model.fingerprint],
        ["temperature of its probabilities", round(model.temperature, 4)],
        ["codebook (SHA-256)", coding.codebook_sha256],
        ["rows", coding.rows],
        ["rows with a comment", coding.rows_with_message],
        ["different comments", coding.computed],
    ]
    table += [[f"coded by {CALLED.get(who, who)}", count] for who, count in coding.coded_by.items()]
    if coding.checked is not None:
        table.append(["rows for people to check", coding.checked])
    table += [[], ["how good the model is", "on rows that it did not learn from"]]
    if not coding.quality:
        table.append(["not measured", "run posttune_eval.py or bert_tune_eval.py"])
    for quality in coding.quality:
        low_high = ""
        if quality.ci95:
            low_high = f", 95 % interval {quality.ci95[0]:.4f} to {quality.ci95[1]:.4f}"
        f1 = "" if quality.macro_f1 is None else f", macro F1 {quality.macro_f1:.4f}"
        score = f"accuracy {quality.accuracy:.4f}{low_high}{f1}, {quality.rows:,} rows"
        table.append([quality.measured_against, score])
    return [*table, [], *_meanings(coding, prefix)]


def _meanings(coding: Coding, prefix: str) -> Table:
    """Return what the columns mean."""
    if coding.threshold is None:
        check = "blank: no rule was given for it"
    else:
        source = "the plan" if coding.plan else "--check-below"
        check = (
            f"1 = people should look at the row, by {source}: only the model coded it, with "
            f"{confidence_below(coding.threshold)} (its highest probability); 0 = not"
        )
    return [
        ["column", "what it means"],
        [f"{prefix}class", "the number of the class, see the sheet codebook"],
        [f"{prefix}class_name", "its name"],
        [
            f"{prefix}coded_by",
            f"who gave the class: {HUMAN} (people), {TEACHER} (the large model), {MODEL} (the "
            "tuned model)",
        ],
        [f"{prefix}check", check],
        [
            f"{prefix}p_...",
            "the probability that the tuned model gives each class, also where another coded the "
            "row; a temperature fitted on the validation rows calibrates it",
        ],
    ]
