"""The parts of a corpus on their way: read as a table, coded, written as a .parquet of their own.

The name of a part's file follows from its place in the corpus alone, and the file appears whole. So
a part that is computed twice, after a kill, is there once, and what is there need not be computed.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.common.files import replacing
from pipeline.corpus.batch_coder import PIECE, SHORTENED
from pipeline.corpus.corpus_files import Columns, Part, read_part
from pipeline.corpus.survey import Survey
from pipeline.sheets.personal_data import mask_personal_data

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Piece:
    """A part of a corpus: the file and the part of it, and the path that its codes get."""

    path: str
    columns: Columns
    part: Part
    codes: str


def pieces_of(folder: str, columns: Columns, surveys: list[Survey], codes: Path) -> list[Piece]:
    """Return the parts of all files in their order; those without a message are none."""
    return [
        Piece(
            str(Path(folder).resolve() / survey.name),
            columns,
            part,
            str(codes.resolve() / f"{survey.number:06d}-{part.first:012d}.parquet"),
        )
        for survey in surveys
        for part in survey.parts
    ]


def read_piece(piece: Piece, number: int) -> "pa.Table":
    """Return the rows with a message: `custom_id`, `message`, and `piece`, which is `number`."""
    import pyarrow as pa

    rows = read_part(Path(piece.path), piece.columns, piece.part)
    places = rows.to_code()
    messages = [rows.messages[n] for n in places]
    if piece.columns.mask:
        messages = [mask_personal_data(message) for message in messages]
    return pa.table(
        {
            "custom_id": pa.array([rows.ids[n] for n in places], pa.string()),
            "message": pa.array(messages, pa.string()),
            PIECE: pa.array([number] * len(places), pa.int32()),
        }
    )


def write_codes(pieces: list[Piece], coded: "pa.Table") -> int:
    """Write the codes of whole parts, as `BatchCoder` returns them; return how many rows it were.

    `piece` of a row is its part's place in `pieces`. Raises ValueError where a part is not whole.
    """
    import pyarrow.compute as pc
    from pyarrow import parquet

    for number in pc.unique(coded[PIECE]).to_pylist():
        rows, piece = coded.filter(pc.equal(coded[PIECE], number)), pieces[number]
        if len(rows) != piece.part.to_code:
            raise ValueError(f"{piece.codes}: {len(rows)} rows came, of {piece.part.to_code}")
        shortened = {SHORTENED: str(rows[SHORTENED][0])}
        rows = rows.drop_columns([SHORTENED, PIECE]).replace_schema_metadata(shortened)
        with replacing(piece.codes) as scratch:
            parquet.write_table(rows, scratch)
    return len(coded)
