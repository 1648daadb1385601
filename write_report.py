"""Step 14: the report page and the methods paragraph, from what the other steps wrote.

Reads   RESULTS_DIR/*/metrics.json and predictions.csv (from the evaluation steps 5, 7, 8 and 10)
        where there: comparison.json and figures (step 12), human_check.json (step 13b), audit.json
        (step 3a), LABELS_RECORD (step 3), SPLITS_RECORD (step 3b), the trainings' training.json
        (steps 6 and 9); PROMPT_FILE (the codebook)
Writes  RESULTS_DIR/report.html, one file that holds all it shows, and methods.md
Run     python write_report.py
"""

from pathlib import Path

from pipeline.common.cli import UserError, parse_settings, run
from pipeline.common.codebook import Codebook, read_codebook
from pipeline.common.files import check_outputs, read_json, write_text
from pipeline.models.folder import RECORD
from pipeline.people.record import HumanCheck
from pipeline.report.methods import methods_markdown
from pipeline.report.page import read_predictions, render_page
from pipeline.report.study import EVALUATIONS, Study, inconsistencies, not_done

# ---------------------------------------------------------------------------------------------
STUDY = "."  # the folder of a study: all default paths but those of models lie in it
RESULTS_DIR = "./results"  # a folder per run, and those of steps 3a, 12 and 13b
PROMPT_FILE = "./prompt.txt"  # the codebook
LABELS_RECORD = "./pre_process/silver_labels.json"  # from jsonl_to_csv.py
SPLITS_RECORD = "./pre_process/evaluation/splits.json"  # from split_dataset.py
TITLE = "Comments coded by models"  # the page's heading
# ---------------------------------------------------------------------------------------------

PICTURES = ("figure1.png", "calibration.png", "coverage.png")
NEEDED = ("model", "family", "stage", "test_file", "method", "settings", "class_names")
SCORES = ("total", "valid", "valid_rate", "accuracy_all_rows", "confusion_matrix")


def main(argv: list[str] | None = None) -> None:
    args = parse_settings(globals(), argv)
    folder = Path(args.results_dir)
    codebook = read_codebook(args.prompt_file)
    runs, unscored = read_runs(folder, codebook)
    check = folder / "human_check/human_check.json"
    study = Study(
        codebook=codebook,
        runs=runs,
        unscored=unscored,
        comparison=read_record(folder / "comparison.json", "compare_models.py"),
        human_check=HumanCheck.read(check) if check.is_file() else None,
        audit=read_record(folder / "audit/audit.json", "label_audit.py"),
        labels=read_record(args.labels_record, "jsonl_to_csv.py"),
        splits=read_record(args.splits_record, "split_dataset.py"),
    )
    check_outputs([folder / "report.html", folder / "methods.md"])
    predictions = {one["run"]: read_predictions(folder, one, codebook) for one in runs}
    pictures = {name: folder / name for name in PICTURES if (folder / name).is_file()}
    page = render_page(study, predictions, pictures, args.title)
    write_text(page, folder / "report.html")
    write_text(methods_markdown(study), folder / "methods.md")
    for line in inconsistencies(study):
        print(f"to be mended: {line}")
    print(f"wrote {folder / 'methods.md'}: {len(not_done(study))} things are named as not done")
    print(
        f"wrote {folder / 'report.html'}: {len(page.encode()) / 1e6:.1f} MB; open it in a browser"
    )


def read_runs(folder: Path, codebook: Codebook) -> tuple[list[dict], list[dict]]:
    """Return the scored runs' metrics, a model's together and "before" first, and the others'."""
    runs = []
    for file in sorted(folder.glob("*/metrics.json")):
        metrics = read_json(file, "run its evaluation step again")
        needed = NEEDED + SCORES * ("accuracy" in metrics)
        if missing := [key for key in needed if key not in metrics]:
            raise UserError(f"{file} lacks {missing[0]}: run its evaluation step again")
        if metrics["class_names"] != list(codebook.names):
            raise UserError(
                f"{file} has the classes {', '.join(metrics['class_names'])}, and {codebook.path} "
                f"has {', '.join(codebook.names)}: give --prompt-file the run's, or move the run"
            )
        source = metrics.setdefault("label_source", "silver labels")
        old = f"agreement with {source} ({metrics['test_file']})"
        against = metrics["measured_against"] if "weighted" in metrics else old
        runs.append(
            metrics
            | {"run": file.parent.name, "against": against, "training": training_of(metrics)}
        )
    runs.sort(key=lambda one: (one["family"] != "llm", one["model"], one["stage"] == "after"))
    scored = [one for one in runs if "accuracy" in one]
    if not scored:
        steps = [command.rpartition(" ")[2] for command in EVALUATIONS.values()]
        raise UserError(
            f"{folder} holds no scored run (*/metrics.json): run {', '.join(steps[:-1])} or "
            f"{steps[-1]} first"
        )
    for one in scored:
        one["short_title"] = f"{one['stage']} fine-tuning"
        alike = [other for other in scored if all(other[k] == one[k] for k in ("model", "stage"))]
        if len(alike) > 1:
            one["short_title"] += f" ({one['run']})"
        one["title"] = f"{one['model']} {one['short_title']}"
    unscored = [one | {"title": one["run"]} for one in runs if "accuracy" not in one]
    return scored, unscored


def training_of(metrics: dict) -> dict:
    """Return the record of the training that made a run's model, {} where there is none."""
    places = [metrics.get("adapter_path"), metrics["settings"].get("tuned_path")]
    if metrics["stage"] == "after":
        places.append(metrics.get("model_path"))
    files = [Path(place) / RECORD for place in places if place]
    found = [file for file in files if file.is_file()]
    return read_json(found[0], "run its training again") if found else {}


def read_record(path: str | Path, made_by: str) -> dict:
    """Return what a step left in a JSON file, {} where it was not run."""
    return read_json(path, f"run {made_by} again") if Path(path).is_file() else {}


if __name__ == "__main__":
    run(main)
