"""Which column the comments of the last run stood in, as its two tables show."""

import csv
from itertools import islice
from pathlib import Path

from pipeline.common.cli import UserError
from pipeline.sheets.comments import CommentSheet
from pipeline.sheets.reading import column_letter

COMPARED = 50  # rows of the two tables


def refuse_moved_column(
    sheet: CommentSheet, text_column: str, csv_file: str | Path, simple_file: str | Path
) -> None:
    """Stop where a letter names another column than in the last run, which stands elsewhere now.

    A letter that the user has changed, or a column that is gone or renamed, is no reason to stop.
    """
    now = sheet.header[sheet.text]
    if text_column == now or not (Path(csv_file).is_file() and Path(simple_file).is_file()):
        return
    before, place = _last_text(_rows(csv_file), _rows(simple_file))
    same_place = place > 0 and sheet.places[place - 1 : place] == [sheet.text]
    if same_place and before != now and before in sheet.header:
        letter = column_letter(sheet.header.index(before))
        raise UserError(
            f"{sheet.path}: column {text_column.upper()} is {now!r} and was {before!r} when "
            f"{csv_file} was made; {before!r} stands in {letter} now: give --text-column "
            f"{before!r}, or {now!r} if that is meant"
        )


def _last_text(table: list[list[str]], messages: list[list[str]]) -> tuple[str, int]:
    """Return the column of a table that holds most of the messages, and its place; -1 for none."""
    if not table or not messages or "message" not in messages[0]:
        return "", -1
    told = messages[0].index("message")
    known = {row[0]: row[told] for row in messages[1:] if len(row) > told}
    same = [
        sum(known.get(row[0]) == row[place] for row in table[1:] if len(row) > place)
        for place in range(len(table[0]))
    ]
    best = max(same, default=0)
    if not best or same.count(best) > 1:
        return "", -1
    return table[0][same.index(best)], same.index(best)


def _rows(path: str | Path) -> list[list[str]]:
    """Return the first rows of a table that step 1 has written; none where it is another file."""
    try:
        with Path(path).open(encoding="utf-8-sig", newline="") as file:
            return list(islice(csv.reader(file), COMPARED + 1))
    except (UnicodeDecodeError, csv.Error):
        return []
