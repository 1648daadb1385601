"""Label sets: what one teacher says by one codebook, with its answers in a file of its own.

The answers of the set that is asked for now are in the answers file, those of every other in the
folder of their set.
"""

import re
from collections.abc import Mapping
from pathlib import Path

from pipeline.common.files import replacing
from pipeline.labelling.answer_file import add_answers, id_of, lines_of
from pipeline.labelling.ids import set_of


def folder_of(label_sets_dir: str | Path, label_set: str, model: str = "") -> Path:
    """Return the folder of a label set: `<model>-<set>`, as it is called if it is there."""
    found = sorted(Path(label_sets_dir).glob(f"*-{label_set}"))
    name = re.sub(r"[^\w.-]+", "-", model.rpartition("/")[2]).strip("-.") or "teacher"
    return found[0] if found else Path(label_sets_dir) / f"{name}-{label_set}"


def answers_elsewhere(answers_file: str | Path, label_sets_dir: str | Path, label_set: str) -> Path:
    """Return the file of a set's answers in its folder."""
    return folder_of(label_sets_dir, label_set) / Path(answers_file).name


def sort_answers(
    answers_file: str | Path,
    label_sets_dir: str | Path,
    label_set: str,
    models: Mapping[str, str],
) -> None:
    """Leave the answers of one set in the answers file, and move all others to their sets' folders.

    What lies in the set's own folder comes back. `models` names the other sets' models. Killed at
    any moment, it leaves an answer in two places rather than in none.
    """
    path = Path(answers_file)
    others = {set_of(id_of(line)) for line in lines_of(path)} - {label_set, ""}
    for other in sorted(others):
        folder = folder_of(label_sets_dir, other, models.get(other, ""))
        lines = (line for line in lines_of(path) if set_of(id_of(line)) == other)
        add_answers(folder / path.name, lines)
        print(f"the answers of another codebook or model are kept in {folder / path.name}")
    if others:
        with replacing(path) as scratch, scratch.open("wb") as out:
            for line in lines_of(path):
                if set_of(id_of(line)) not in others:
                    out.write(line + b"\n")
    back = answers_elsewhere(path, label_sets_dir, label_set)
    if back.is_file():
        add_answers(path, lines_of(back))
        back.unlink()
