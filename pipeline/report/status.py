"""The state of a study: which steps are done, which wait and for whom, which are out of date.

`make status STUDY=studies/gender` runs this, with the steps as `study.mk` lists them in the
environment variable STEPS.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from pipeline.common.cli import UserError, run
from pipeline.labelling.ledger import read_jobs
from pipeline.people.record import ADJUDICATION_FILE
from pipeline.people.waiting import uncoded_sheets, undecided_rows

SCORED_BY = "human_check.py"


@dataclass(frozen=True)
class Step:
    """A step: `file` follows changes of `follows`, and is made from `once` a single time."""

    script: str
    model: str
    target: str
    file: Path
    follows: list[Path]
    once: list[Path]


def main() -> None:
    study, steps = os.environ.get("STUDY", "."), read_steps(os.environ.get("STEPS", ""))
    for step in steps:
        try:
            state = state_of(step, steps, study)
        except UserError as error:
            state = str(error)
        print(f"{step.script:<26}{step.model:<20} {state}")


def read_steps(text: str) -> list[Step]:
    """Return the steps of lines of script|model|target|file|follows|once.

    Paths are parted by spaces; a space inside one has a backslash before it.
    """
    if not text.strip():
        raise UserError("no steps are given: run make status STUDY=...")
    steps = []
    for line in text.strip().splitlines():
        script, model, target, file, *sources = line.split("|")
        follows, once = (
            [Path(word.replace("\0", " ")) for word in part.replace("\\ ", "\0").split()]
            for part in sources
        )
        steps.append(Step(script, model, target, Path(file), follows, once))
    return steps


def state_of(step: Step, steps: list[Step], study: str) -> str:
    """Return `done`, `out of date: ...`, `waiting for ...` or `to do: make ...`."""
    sources = dict.fromkeys([*step.follows, *step.once])
    if not step.file.exists():
        if waited := waited_for(step):
            return f"waiting for {waited}"
        made_by = {other.file: other.script for other in steps}
        for source in sources:
            if not source.exists():
                return f"waiting for {made_by.get(source, source)}"
        return f"to do: make {step.target} STUDY={study}"
    made = step.file.stat().st_mtime
    changed = [path for path in sources if path.exists() and path.stat().st_mtime > made]
    if not changed:
        rows = undecided_rows(step.once[0].parent) if step.script == SCORED_BY else 0
        return f"done, but {rows:,} rows of {ADJUDICATION_FILE} wait for people" if rows else "done"
    if changed[0] in step.follows:
        return f"out of date, {changed[0].name} changed: make {step.target}"
    return f"done before {changed[0].name} changed, and kept"


def waited_for(step: Step) -> str:
    """Return the people or the provider that a step waits for, "" where it waits for none."""
    if step.file.name == "submit_batch.done":
        ledger = step.file.with_name("submit_batch.json")
        if ledger.is_file():
            _, jobs = read_jobs(ledger, "restore it")
            under_way = sum(job.is_open for job in jobs)
            return f"the provider: {under_way} of {len(jobs)} jobs" if under_way else ""
    if step.script == SCORED_BY and step.once[0].exists():
        names = [sheet.name for sheet in uncoded_sheets(step.once[0].parent)]
        return f"{', '.join(names)}: have it coded" if names else ""
    return ""


if __name__ == "__main__":
    run(main)
