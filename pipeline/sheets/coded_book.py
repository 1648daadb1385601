"""A spreadsheet with columns added to one sheet, in its own format, all else as it was.

.xlsx, .xlsm, .ods and .csv stay what they are; the values of an .xls or .xlsb go into an .xlsx.
What people typed is never overwritten: a file that is there is replaced only where it is, byte for
byte, what an earlier run wrote.
"""

import hashlib
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.common.cli import UserError
from pipeline.common.files import check_outputs, replacing
from pipeline.common.scratch import scratch_beside
from pipeline.sheets.coded_csv import check_csv, csv_form, write_coded_csv, write_table
from pipeline.sheets.coded_ods import check_ods, write_ods
from pipeline.sheets.coded_xls import LOST, write_values
from pipeline.sheets.coded_xlsx import check_xlsx, refuse_width, write_xlsx
from pipeline.sheets.comments import CommentSheet
from pipeline.sheets.new_columns import CellsOf, NewColumns, Table
from pipeline.sheets.protection import refuse_open

TEXT_FORMATS = (".csv", ".tsv", ".txt")
XLSX, ODS, CSV, OTHER = "xlsx", "ods", "csv", "other"


def coded_suffix(source: str | Path) -> str:
    """Return the ending that the coded form of a spreadsheet has: its own, or .xlsx."""
    source = Path(source)
    suffix, kind = source.suffix.lower(), _kind(source)
    if kind == XLSX:
        return suffix if suffix in (".xlsx", ".xlsm") else ".xlsx"
    return {ODS: ".ods", CSV: suffix, OTHER: ".xlsx"}[kind]


def coded_files(source: str | Path, output: str | Path, titles: Sequence[str]) -> list[Path]:
    """Return the files that are written: the output and, beside a .csv, one for each new sheet."""
    output = Path(output)
    if _kind(Path(source)) != CSV:
        return [output]
    return [output, *(output.with_name(f"{output.stem}_{t}{output.suffix}") for t in titles)]


def _kind(source: Path) -> str:
    """Return the format of a spreadsheet by its content: an .xlsx may be called .xls."""
    if source.suffix.lower() in TEXT_FORMATS:
        return CSV
    if zipfile.is_zipfile(source):
        with zipfile.ZipFile(source) as archive:
            names = set(archive.namelist())
        if "xl/workbook.xml" in names:
            return XLSX
        if "content.xml" in names:
            return ODS
    return OTHER


def check_book(
    source: str | Path,
    output: str | Path,
    sheet: CommentSheet,
    columns: Sequence[str],
    titles: Sequence[str] = ("codebook", "record"),
    written: Mapping[str, str] | None = None,
) -> None:
    """Refuse what would spoil the coded workbook, before anything is computed.

    `columns` are the names of the new columns and `titles` those of the new sheets. `written` is
    what `write_coded_book` returned the last time. What is protected, and what a format loses, is
    printed. Raises UserError.
    """
    source, output = Path(source), Path(output)
    title, kind = sheet.sheet.name, _kind(source)
    _refuse_suffix(source, output)
    files = coded_files(source, output, titles)
    for path in (source, *files):
        refuse_open(path)
    check_outputs(files, inputs=[source])
    for path in files:
        _refuse_changed(path, written or {})
    _refuse_names(sheet, columns)
    if kind == XLSX:
        check_xlsx(source, title, sheet.first, columns, titles)
    elif kind == ODS:
        check_ods(source, title, sheet.first, columns, titles)
    elif kind == CSV:
        check_csv(source, sheet.sheet.encoding, columns)
    else:
        refuse_width(source, title, len(sheet.header), len(columns))
        print(f"{source} is coded as {output.name}, an .xlsx: {LOST}")


def _refuse_suffix(source: Path, output: Path) -> None:
    suffix = coded_suffix(source)
    if output.suffix.lower() != suffix:
        raise UserError(
            f"{output}: the coded form of {source.name} is a {suffix} file: give --output-file a "
            f"name that ends in {suffix}"
        )


def _refuse_changed(path: Path, written: Mapping[str, str]) -> None:
    """Stop where a file is there that is not, byte for byte, what an earlier run wrote."""
    if path.is_file() and written.get(path.name) != file_sha256(path):
        raise UserError(
            f"{path} was changed since it was written, or something else wrote it: give it another "
            "name to keep it, delete it, or give another --output-file"
        )


def file_sha256(path: Path) -> str:
    """Return the hash of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _refuse_names(sheet: CommentSheet, columns: Sequence[str]) -> None:
    """Stop where the sheet has a column of the name of a new one; case makes no difference."""
    there = {name.strip().casefold(): name for name in sheet.header}
    for column in columns:
        if name := there.get(column.strip().casefold()):
            raise UserError(
                f"{sheet.path} has a column {name!r}, which is the name of a new one: give "
                "--prefix a word that is put before the new names, such as coded_"
            )


def write_coded_book(
    source: str | Path,
    output: str | Path,
    sheet: CommentSheet,
    columns: Sequence[str],
    cells_of: CellsOf,
    more_sheets: Mapping[str, Table],
) -> dict[str, str]:
    """Write a spreadsheet with new columns, and return the hash of each file written, by its name.

    `cells_of` gives the cells of a row by its number in the sheet, one for each of `columns`, None
    or "" where it is to be empty, or nothing at all. It is called once for each row that the sheet
    has below the names, in order. `more_sheets` are new sheets by their titles, each as its rows;
    beside a .csv they are files of their own, see `coded_files`.
    """
    source, output = Path(source), Path(output)
    title, kind = sheet.sheet.name, _kind(source)
    new = NewColumns(columns, sheet.first, cells_of)
    written: dict[str, str] = {}
    with replacing(output) as scratch:
        if kind == XLSX:
            write_xlsx(source, scratch, title, new, more_sheets)
        elif kind == ODS:
            write_ods(source, scratch, title, new, more_sheets)
        elif kind == CSV:
            write_coded_csv(source, scratch, sheet.sheet.encoding, new)
        else:
            _write_as_xlsx(source, scratch, title, new, more_sheets)
        written[output.name] = file_sha256(scratch)
    if kind == CSV:
        delimiter = csv_form(source, sheet.sheet.encoding).delimiter
        files = coded_files(source, output, list(more_sheets))[1:]
        for path, table in zip(files, more_sheets.values(), strict=True):
            with replacing(path) as scratch:
                write_table(scratch, table, delimiter)
                written[path.name] = file_sha256(scratch)
    print(f"wrote {', '.join(str(output.with_name(name)) for name in written)}")
    return written


def _write_as_xlsx(
    source: Path, target: Path, title: str, new: NewColumns, more_sheets: Mapping[str, Table]
) -> None:
    with scratch_beside(target) as values:
        write_values(source, values)
        write_xlsx(values, target, title, new, more_sheets)
