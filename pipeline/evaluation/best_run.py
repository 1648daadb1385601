"""The tuned model that codes best, by the runs that scored it.

`make code` and `make plan` run this with a folder of results and the models' names, and read the
name that it prints.
"""

import sys
from pathlib import Path

from pipeline.common.cli import UserError, run
from pipeline.common.files import read_json

PEOPLE, SILVER = "human", "after"  # the endings of a model's runs, by whose labels score it


def main() -> None:
    results, *names = sys.argv[1:]
    print(best_model(Path(results), names))


def best_model(results: Path, names: list[str]) -> str:
    """Return the name of the model whose accuracy is the highest, "" where none was scored.

    People's codes decide where all scored models have a run against them, on the same rows; else
    the test rows do. Only runs with probabilities count, as the plan needs them. Of equal models
    the first is taken.
    """
    silver, people = (scored_runs(results, names, ending) for ending in (SILVER, PEOPLE))
    rows = {metrics.get("scored_rows_sha256") for metrics in people.values()}
    judged = people if silver.keys() == people.keys() and len(rows) == 1 else silver
    return max(judged, key=lambda name: judged[name]["accuracy_all_rows"], default="")


def scored_runs(results: Path, names: list[str], ending: str) -> dict[str, dict]:
    """Return by model the scores of its run with an ending, where it has some.

    Raises UserError for an accuracy that is no share.
    """
    found = {}
    for name in names:
        file = results / f"{name}-{ending}" / "metrics.json"
        metrics = read_json(file, "run its evaluation step again") if file.is_file() else {}
        if "ece" in metrics and "accuracy_all_rows" in metrics:
            if not 0 <= (accuracy := metrics["accuracy_all_rows"]) <= 1:
                raise UserError(f"{file}: accuracy {accuracy}: run its evaluation step again")
            found[name] = metrics
    return found


if __name__ == "__main__":
    run(main)
