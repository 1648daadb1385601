"""What a coding leaves: the coded spreadsheet, codes.csv, coded.json, the probabilities."""

import datetime
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.coding.check_rule import NO_RULE, CheckRule
from pipeline.coding.codes import BookCells, Codes, book_columns, write_codes
from pipeline.coding.model import FoundModel
from pipeline.coding.probabilities import KNOWN_FILE, write_known
from pipeline.coding.record import CODES_FILE, RECORD_FILE, CodedBy, Coding, Quality
from pipeline.coding.record_sheets import CALLED, SHEETS, new_sheets
from pipeline.common.codebook import Codebook
from pipeline.common.files import check_outputs, read_json, write_json, written_together
from pipeline.planning.plan import confidence_below
from pipeline.sheets.coded_book import (
    check_book,
    coded_files,
    coded_suffix,
    file_sha256,
    write_coded_book,
)
from pipeline.sheets.comments import CommentSheet

WRITTEN_FILE = "written.json"


@dataclass(frozen=True)
class Places:
    """Where a coding is written: the folder of its files, and the coded spreadsheet."""

    folder: Path
    output: Path
    prefix: str

    @property
    def written_file(self) -> Path:
        """The file with the hashes of the spreadsheets that were written."""
        return self.folder / WRITTEN_FILE


def places_of(output_dir: str, output_file: str, excel_file: str, prefix: str) -> Places:
    """Return where a coding is written; {name} and {suffix} are those of the spreadsheet."""
    output = output_file.replace("{name}", Path(excel_file).stem)
    if "{suffix}" in output and Path(excel_file).is_file():
        output = output.replace("{suffix}", coded_suffix(excel_file))
    return Places(Path(output_dir), Path(output), prefix)


def check_places(places: Places, sheet: CommentSheet, codebook: Codebook) -> None:
    """Stop before any work where a file could not be written, or somebody has changed it."""
    names = (CODES_FILE, KNOWN_FILE, WRITTEN_FILE, RECORD_FILE)
    check_outputs([places.folder / name for name in names], inputs=[sheet.path])
    columns = book_columns(codebook.names, places.prefix)
    files = coded_files(sheet.path, places.output, SHEETS)
    known = read_hashes(places.written_file)
    written = {}
    for path in filter(Path.is_file, files):
        if (now := file_sha256(path)) in known.get(str(path), []):
            written[path.name] = now
    check_book(sheet.path, places.output, sheet, columns, SHEETS, written)


def read_hashes(path: Path) -> dict[str, list[str]]:
    """Return the hashes of what earlier runs wrote, by the files' paths."""
    return read_json(path, "delete it, and the coded spreadsheet") if path.is_file() else {}


@written_together()
def save(
    places: Places,
    sheet: CommentSheet,
    codes: Codes,
    coding: Coding,
    codebook: Codebook,
    key: str,
) -> None:
    """Write all files of a coding; `key` is that of the probabilities, see `read_known`.

    The hash of the spreadsheet is on the disk before it takes its place: a run that is killed in
    between leaves none that the next run would take for one that somebody has changed.
    """
    write_codes(codes, places.folder / CODES_FILE)
    write_known(places.folder / KNOWN_FILE, key, codes.rows.hashes, codes.probabilities)
    columns = book_columns(codebook.names, places.prefix)
    written = write_coded_book(
        sheet.path,
        places.output,
        sheet,
        columns,
        BookCells(codes),
        new_sheets(coding, codebook, places.prefix),
    )
    hashes = read_hashes(places.written_file)
    for name, digest in written.items():
        path = places.output.with_name(name)
        there = {file_sha256(path)} if path.is_file() else set()
        hashes[str(path)] = sorted({*there, digest})
    with written_together():
        write_json(hashes, places.written_file)
    coding.write(places.folder / RECORD_FILE)


def coding_record(
    codes: Codes,
    sheet: CommentSheet,
    found: FoundModel,
    rule: CheckRule,
    codebook: Codebook,
    output: Path,
    quality: list[Quality],
    start: float,
    settings: dict[str, Any],
) -> Coding:
    """Return what coded.json says of a run that began at `start`, as `perf_counter` counts."""
    from pipeline.common.machine import versions

    return Coding(
        output_file=str(output),
        spreadsheet=str(sheet.path),
        sheet=sheet.sheet.name,
        model=CodedBy(
            found.options.path, found.kind, found.name, found.fingerprint, found.temperature
        ),
        codebook_sha256=codebook.sha256,
        class_names=list(codebook.names),
        rows=codes.rows.num_rows,
        rows_with_message=len(codes.rows),
        computed=len(codes.rows.hashes),
        coded_by=codes.coded_by(),
        class_counts=codes.class_counts(),
        checked=codes.checked,
        threshold=rule.threshold,
        plan=rule.plan,
        quality=quality,
        date=datetime.date.today().isoformat(),
        seconds=round(time.perf_counter() - start, 3),
        versions=versions(),
        settings=settings,
    )


def print_counts(coding: Coding, shortened: int, learned: str) -> None:
    """Print who coded how many rows, how many are to be checked, and how many are not coded."""
    print(f"{coding.rows_with_message:,} rows coded:")
    for who, rows in coding.coded_by.items():
        print(f"  {rows:>9,}  by {CALLED[who]}")
    for name, counts in coding.class_counts.items():
        rows = sum(counts.values())
        print(f"  {rows:>9,}  {name} ({rows / coding.rows_with_message:.1%})")
    print(f"  {coding.rows - coding.rows_with_message:>9,}  rows without a comment are not coded")
    if shortened:
        print(f"  {shortened:>9,}  comments were shortened to fit the model")
    if coding.checked is None:
        print(NO_RULE)
    else:
        print(
            f"  {coding.checked:>9,}  rows to check: only the model coded them, with "
            f"{confidence_below(coding.threshold)}"
        )
    if learned:
        print(learned)
