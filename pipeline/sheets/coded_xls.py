"""The values of a workbook in an old or binary format (.xls, .xlsb), written as an .xlsx."""

from pathlib import Path
from typing import Any

from pipeline.sheets.xlsx_cells import escaped

LOST = (
    "its values, dates and hidden sheets are kept; formulas are their last values; fonts, colours, "
    "column widths, merged cells, charts, pictures and macros are not carried over"
)


def write_values(path: Path, target: Path) -> None:
    """Write all sheets of a workbook that calamine reads as an .xlsx: text is text, dates dates."""
    import python_calamine as calamine
    from openpyxl import Workbook

    book = Workbook(write_only=True)
    with path.open("rb") as data:
        source = calamine.CalamineWorkbook.from_filelike(data)
        for sheet in source.sheets_metadata:
            if sheet.typ == calamine.SheetTypeEnum.WorkSheet:
                page = book.create_sheet(sheet.name)
                if sheet.visible != calamine.SheetVisibleEnum.Visible:
                    page.sheet_state = "hidden"
                for cells in source.get_sheet_by_name(sheet.name).to_python(skip_empty_area=False):
                    page.append([_cell(page, value) for value in cells])
    book.save(target)


def _cell(page: Any, value: Any) -> Any:
    """Return a value as openpyxl writes it; a text that looks like a formula stays text."""
    from openpyxl.cell import WriteOnlyCell

    if not isinstance(value, str):
        return value
    if value == "":
        return None
    cell = WriteOnlyCell(page)
    cell.value = escaped(value)
    cell.data_type = "s"
    return cell
