"""Sample: simulated people who code the sheets of human_sample.py, with known error rates.

First they fill in `class` in their own sheets: the true class, or at their error rate one beside
it; they leave some rows blank. Where there is an adjudication.xlsx, a third person fills in the
true class. With --check, the corrected shares are compared with the true ones.

Reads   SHEETS_DIR/sample.json, the sheets; TRUTH_FILE (from make_sample.py); PROMPT_FILE
Writes  SHEETS_DIR/<coder>.xlsx, or adjudication.xlsx where there is one
Run     python -m pre_process.sample.coders
"""

import random
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import openpyxl
import pandas as pd

from pipeline.common.cli import UserError, parse_settings, run
from pipeline.common.codebook import read_codebook
from pipeline.common.files import replacing
from pipeline.common.rows import read_messages
from pipeline.people.record import ADJUDICATION_FILE, HumanCheck
from pipeline.people.sample import read_sample
from pre_process.sample.comments import NEIGHBOURS

# --------------------------------------------------------------------------------------------
SHEETS_DIR = "./demo/pre_process/human_check"  # where human_sample.py wrote the sheets
TRUTH_FILE = "./demo/truth.csv"  # custom_id, message, class
PROMPT_FILE = "./prompt.txt"  # the codebook
ERROR_RATES = "0.06,0.10"  # share of wrong classes of each coder
BLANK = 0.01  # share of rows that a coder leaves blank
CHECK = False  # compare RESULT_FILE with the truth instead
LABELED_FILE = "./demo/pre_process/purged_labeled_v2.csv"  # the rows whose shares are corrected
RESULT_FILE = "./demo/results/human_check/human_check.json"  # from human_check.py
SEED = 42  # same seed, same codes
# --------------------------------------------------------------------------------------------


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_settings(globals(), argv)
    codebook = read_codebook(args.prompt_file)
    truth = read_messages(args.truth_file, "make_sample.py", codebook, labelled=True)
    folder = Path(args.sheets_dir)
    if args.check:
        labelled = read_messages(args.labeled_file, "jsonl_to_csv.py", codebook, labelled=True)
        truth = truth[truth["custom_id"].isin(labelled["custom_id"])]
        check(HumanCheck.read(args.result_file), truth["class"])
        return
    known = dict(zip(truth["custom_id"], truth["class"], strict=True))
    if (folder / ADJUDICATION_FILE).is_file():
        fill_in(folder / ADJUDICATION_FILE, "adjudicated", lambda row: codebook.names[known[row]])
        return
    coders = read_sample(folder, codebook)[0].coders
    rates = [float(rate) for rate in args.error_rates.split(",")]
    if len(rates) != len(coders):
        raise UserError(f"--error-rates {args.error_rates}: give one for each of {len(coders)}")
    for number, (coder, rate) in enumerate(zip(coders, rates, strict=True)):
        rng = random.Random(f"{args.seed} {number}")
        choose = partial(code, known, codebook.names, args.blank, rate, rng)
        fill_in(folder / f"{coder}.xlsx", "class", choose)


def code(
    known: dict[str, int],
    names: Sequence[str],
    blank: float,
    error_rate: float,
    rng: random.Random,
    row: str,
) -> str:
    """Return what a coder writes beside a row: "", or a class by its name or number."""
    if rng.random() < blank:
        return ""
    label = known[row]
    if rng.random() < error_rate:
        label = rng.choice(NEIGHBOURS[label])
    return rng.choice([names[label], str(label)])


def fill_in(path: Path, column: str, value: Callable[[str], str]) -> None:
    """Write `value(custom_id)` into a column of a sheet, as a person would in Excel."""
    book = openpyxl.load_workbook(path)
    sheet = book["comments"]
    header = [cell.value for cell in sheet[1]]
    place = header.index(column) + 1
    for row in range(2, sheet.max_row + 1):
        sheet.cell(row, place).value = value(sheet.cell(row, header.index("custom_id") + 1).value)
    with replacing(path) as scratch:
        book.save(scratch)
    print(f"filled in {path}: {sheet.max_row - 1:,} rows")


def check(found: HumanCheck, truth: pd.Series) -> None:
    """Print the true share of each class beside the naive and the corrected one.

    Raises UserError where the interval of a corrected share does not hold the true one.
    """
    missed = []
    for k, share in enumerate(found.shares):
        true = (truth == k).mean()
        low, high = share.corrected_ci95
        print(
            f"  {share.name:<12} true {true:.4f}  naive {share.naive:.4f}  corrected "
            f"{share.corrected:.4f} [{low:.4f}, {high:.4f}]"
        )
        if not low <= true <= high:
            missed.append(share.name)
    if missed:
        raise UserError(f"the corrected shares of {', '.join(missed)} do not cover the true ones")
    print("  the intervals of the corrected shares cover all true ones")


if __name__ == "__main__":
    run(main)
