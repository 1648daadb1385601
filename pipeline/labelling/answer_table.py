"""Outcomes in columns: what millions of answers say, their replies left in the answers' files."""

from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import numpy as np

from pipeline.common.cli import UserError
from pipeline.common.rows import HUMAN
from pipeline.labelling.outcomes import CONFLICT, MISSING, NOT_ASKED, AnswerFiles, Outcome
from pipeline.labelling.request_lines import Line

NO_LINE = Line(-1, 0, 0, b"")
WITHOUT_ANSWER = MISSING, NOT_ASKED, HUMAN  # the forms of the first places


class AnswerTable:
    """Outcomes of answers, and those that several answers come to, by their places.

    The first places are those of rows without an answer (`WITHOUT_ANSWER`). `forms` and `models`
    number the forms, of malformed lines without the line's number, and the models that answered.
    """

    def __init__(self, source: AnswerFiles) -> None:
        self._source, self._num_labels = source, len(source.codebook.names)
        self.forms: dict[str, int] = {}
        self.models: dict[str, int] = {}
        self._label, self._form, self._model = array("b"), array("i"), array("i")
        self._created = array("d")
        self._file, self._line, self._start = array("i"), array("i"), array("q")
        self._members: dict[int, list[int]] = {}  # of what several answers come to
        self._sure, self._probabilities = array("i"), array("d")  # row of each place, -1 for none
        for form in WITHOUT_ANSWER:
            self.add(Outcome(-1, form, ""), NO_LINE)

    def __len__(self) -> int:
        return len(self._label)

    def add(self, outcome: Outcome, line: Line) -> None:
        """Take the outcome of a line at the next place."""
        form = self.forms.get(outcome.form)
        if form is None:
            form = self.forms.setdefault(outcome.form.partition(" line ")[0], len(self.forms))
        model = self.models.get(outcome.model)
        if model is None:
            model = self.models.setdefault(outcome.model, len(self.models))
        self._label.append(outcome.label)
        self._form.append(form)
        self._model.append(model)
        self._created.append(outcome.created)
        self._file.append(line.file)
        self._line.append(line.number)
        self._start.append(line.start)
        if outcome.probabilities:
            self._sure.append(len(self._probabilities) // self._num_labels)
            self._probabilities.extend(np.nan if p is None else p for p in outcome.probabilities)
        else:
            self._sure.append(-1)

    def join(self, form: str, places: Sequence[int]) -> int:
        """Add that answers come to no label, for the reason `form`; return the place."""
        self.add(Outcome(-1, form, ""), NO_LINE)
        self._members[len(self) - 1] = list(places)
        return len(self) - 1

    def agreed(self, places: Sequence[int]) -> int:
        """Return the place of what answers come to: a label beats a failure, and labels must agree.

        Of failures it is the last, of equal labels the first.
        """
        labelled = [place for place in places if self._label[place] >= 0]
        if not labelled:
            return places[-1]
        labels = [self._label[place] for place in labelled]
        differing = [n for n, label in enumerate(labels) if label != labels[0]]
        if not differing:
            return labelled[0]
        return self.join(CONFLICT, [labelled[0], *labelled[differing[0] :]])

    @property
    def label(self) -> np.ndarray:
        """The label of each place, int8 (places,), -1 for none."""
        return np.array(self._label)

    @property
    def form(self) -> np.ndarray:
        """The number of each place's form in `forms`, int32 (places,)."""
        return np.array(self._form)

    @property
    def model(self) -> np.ndarray:
        """The number of each place's model in `models`, int32 (places,)."""
        return np.array(self._model)

    @property
    def created(self) -> np.ndarray:
        """When each was answered, in seconds since 1970, float (places,), 0 if unknown."""
        return np.array(self._created)

    def know_probabilities(self, places: np.ndarray) -> bool:
        """Return whether any of some places has the probabilities of the classes."""
        return bool((np.array(self._sure)[places] >= 0).any())

    def probabilities(self, places: np.ndarray) -> np.ndarray:
        """Return the probabilities at some places, float (places, classes), NaN for none."""
        rows = np.full((len(places), self._num_labels), np.nan)
        for row, place in enumerate(places.tolist()):
            if (at := self._sure[place]) >= 0:
                rows[row] = self._probabilities[at * self._num_labels : (at + 1) * self._num_labels]
        return rows

    def read_again(self, places: Iterable[int]) -> Iterator[tuple[str, Outcome]]:
        """Yield custom_id and outcome of the answers at some places, from their files."""
        wanted = list(places)
        lines = ((self._file[place], self._line[place], self._start[place]) for place in wanted)
        for place, (custom_id, outcome) in zip(wanted, self._source.again(lines), strict=True):
            if outcome.label != self._label[place]:
                file = self._source.files[self._file[place]]
                raise UserError(f"{file} changed while it was read: run jsonl_to_csv.py again")
            yield custom_id, outcome

    def outcomes(self, places: Iterable[int]) -> Iterator[Outcome]:
        """Yield the outcomes at some places with their replies."""
        wanted, forms = list(places), list(self.forms)
        again = self.read_again(one for place in wanted for one in self._answers_of(place))
        for place in wanted:
            said = [outcome for _, outcome in islice(again, len(self._answers_of(place)))]
            if said and place not in self._members:
                yield said[0]
            else:
                replies = " | ".join(outcome.reply for outcome in said)
                yield Outcome(self._label[place], forms[self._form[place]], replies)

    def _answers_of(self, place: int) -> list[int]:
        """Return the places of the answers that a place is made of."""
        if place in self._members:
            return [one for member in self._members[place] for one in self._answers_of(member)]
        return [place] if place >= len(WITHOUT_ANSWER) else []
