"""Requests to an OpenAI-compatible provider, as their files hold them; repeats and other tries.

A repeat is a request that is sent again on purpose, to see whether the teacher agrees with itself.
"""

from array import array
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from heapq import nsmallest
from itertools import islice
from pathlib import Path

import numpy as np

from pipeline.common.cli import UserError
from pipeline.common.files import JsonObject
from pipeline.common.hashes import text_hash
from pipeline.labelling.id_columns import IdColumns, IdsRead, Places, read_columns
from pipeline.labelling.ids import REPEAT, TRY, RequestId, label_set_of, plain_id, rank, read_id
from pipeline.labelling.request_lines import (
    NO_REQUEST,
    Line,
    Request,
    RequestReader,
    read_lines,
    read_request,
    with_id,
)
from pipeline.labelling.shards import SHARD, write_shards

AGAIN = "run batch_infer_gen.py again"


def read_requests(files: Sequence[Path]) -> Iterator[Request]:
    """Yield the requests of all files in order.

    Raises UserError for a line that is no request, that repeats an id, or whose id was made for
    another prompt, model or message.
    """
    taken = IdsRead()
    for _, request, own in _checked_requests(files):
        taken.add(*own[1:])
        yield request
    _refuse_repeats(files, taken.columns())


def _checked_requests(files: Sequence[Path]) -> Iterator[tuple[Line, Request, RequestId]]:
    """Yield the line, the request and the parts of its id; see `read_requests`."""
    first, reader = "", RequestReader()
    for line in read_lines(files):
        where = f"{files[line.file]}, line {line.number}"
        try:
            request = reader.read(line.text)
            label_set = label_set_of(request.prompt, request.model)
            own = read_id(request.custom_id)
            made_for = label_set, text_hash(request.message)
        except NO_REQUEST as why:
            raise UserError(f"{where} is no batch request: {AGAIN}") from why
        if not own or own[:2] != made_for:
            raise UserError(
                f"{where}: {request.custom_id!r} was not made for this model, codebook and "
                f"comment: the line was changed since, so {AGAIN}"
            )
        first = first or label_set
        if label_set != first:
            raise UserError(
                f"{where} asks another model, or with another codebook, than the lines before it: "
                f"{AGAIN}"
            )
        yield line, request, own


def _refuse_repeats(files: Sequence[Path], ids: IdColumns) -> None:
    """Stop where two lines have the same id."""
    repeated = Places(ids, with_mark=True).repeated()
    if len(repeated):
        line = next(islice(read_lines(files), int(repeated.min()), None))
        custom_id = read_request(line.text).custom_id
        raise UserError(
            f"{files[line.file]}, line {line.number}: custom_id {custom_id!r} stands there twice: "
            f"{AGAIN}"
        )


class Requests:
    """The requests of some files, all of one label set; in memory are only their ids and places."""

    def __init__(self, files: Sequence[Path]) -> None:
        self.files = files
        self.largest = 0, 0  # requests and bytes of the largest file
        self.prompt = self.model = self.label_set = ""
        self.settings: JsonObject = {}  # of the first one
        taken, columns = IdsRead(), (array("i"), array("q"), array("i"))
        for line, request, own in _checked_requests(files):
            taken.add(*own[1:])
            for column, value in zip(columns, (line.file, line.start, len(line.text)), strict=True):
                column.append(value)
            if not self.label_set:
                self.prompt, self.model, self.label_set = request.prompt, request.model, own[0]
                self.settings = request.settings
        self.ids = taken.columns()
        _refuse_repeats(files, self.ids)
        self._file, self._start, self._length = map(np.asarray, columns)
        if len(self):
            rows = np.bincount(self._file)
            size = np.bincount(self._file, self._length + 1)
            self.largest = int(rows.max()), int(size.max())

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def name(self) -> str:
        """The files' name without the numbers of shards."""
        return SHARD.sub("", self.files[0].stem) + self.files[0].suffix

    @cached_property
    def _places(self) -> Places:
        return Places(self.ids, with_mark=True)

    def texts(self) -> list[str]:
        """Return the ids as they are sent, in their order."""
        return self.ids.texts(self.label_set)

    def places(self, ids: IdColumns) -> np.ndarray:
        """Return the place of each of some ids among the requests, -1 where it is none of them."""
        return self._places.find(ids)

    def places_of(self, ids: Iterable[str]) -> np.ndarray:
        """Return the place of each of some ids among the requests, -1 where it is none of them."""
        return self.places(read_columns(ids, self.label_set))

    def have(self, ids: Iterable[str]) -> bool:
        """Return whether all of some ids are those of requests here."""
        return bool((self.places_of(ids) >= 0).all())

    def sizes(self, places: np.ndarray) -> np.ndarray:
        """Return how many bytes the requests at some places have, with their line ends."""
        return self._length[places] + 1

    def lines_at(self, places: Iterable[int]) -> Iterator[bytes]:
        """Yield the lines at some places, without line ends."""
        opened, file = -1, None
        try:
            for place in places:
                if self._file[place] != opened:
                    if file:
                        file.close()
                    opened = self._file[place]
                    file = self.files[opened].open("rb")
                file.seek(self._start[place])
                yield file.read(self._length[place])
        finally:
            if file:
                file.close()

    def lines(self, ids: Iterable[str]) -> Iterator[bytes]:
        """Yield the lines of some requests, without line ends."""
        places = self.places_of(ids)
        if (places < 0).any():
            raise KeyError("an id that no request here has")
        return self.lines_at(places.tolist())

    def read(self, ids: Iterable[str]) -> Iterator[Request]:
        """Yield some requests."""
        return map(read_request, self.lines(ids))

    def read_at(self, places: Iterable[int]) -> Iterator[Request]:
        """Yield the requests at some places."""
        return map(read_request, self.lines_at(places))


def write_repeats(
    files: list[Path], times: int, rows: int, seed: int, max_requests: int, max_bytes: int
) -> list[Path]:
    """Write the requests of a random sample of rows `times` more times; return the files.

    They stand beside the requests, each time in a file of its own, cut as by `write_shards`; the
    ids have `--repeat-N` added. The rows are those that a limit with the same seed sends first.
    """
    requests = Requests(files)
    ids = enumerate(requests.texts())
    sample = nsmallest(rows, ids, key=lambda one: rank(one[1], seed))
    chosen = list(requests.read_at(sorted(place for place, _ in sample)))
    stem, written = SHARD.sub("", files[0].stem), []
    for time in range(1, times + 1):
        lines = (
            with_id(request, f"{plain_id(request.custom_id)}{REPEAT}{time}") for request in chosen
        )
        path = files[0].with_name(f"repeat-{time}-{stem}{files[0].suffix}")
        written += write_shards(lines, path, max_requests, max_bytes)
    return written


def another_try(request: Request, number: int) -> str:
    """Return the line of a request that is sent for the `number`-th time."""
    return with_id(request, f"{plain_id(request.custom_id)}{TRY}{number}")
