"""Step 14: the page and the methods paragraph, from what the other steps wrote.

Reads   RESULTS_DIR/*/metrics.json and predictions.csv (from the evaluation steps 5, 7, 8 and 10)
        where there: comparison.json and figures (step 12), human_check.json (step 13b), audit.json
        (step 3c), LABELS_RECORD (step 3), SPLITS_RECORD (step 3b), the trainings' training.json
        (steps 6 and 9), plan/plan.json, plan/labels.json and coded/coded.json of the coded
        spreadsheet; PROMPT_FILE (the codebook)
Writes  RESULTS_DIR/report.html, the page in one file, and methods.md
Run     python write_report.py
"""

from pathlib import Path

from pipeline.coding.record import Coding
from pipeline.common.cli import parse_settings, run
from pipeline.common.codebook import Codebook, read_codebook
from pipeline.common.files import check_outputs, read_json, write_text
from pipeline.evaluation.learned import MARK, warning_text
from pipeline.evaluation.predictions import read_predictions
from pipeline.evaluation.runs import read_runs
from pipeline.people.record import HumanCheck
from pipeline.planning.label_plan import LABELS_FILE, LabelPlan
from pipeline.planning.plan import PLAN_FILE, Plan
from pipeline.report.methods import methods_markdown
from pipeline.report.page import render_page
from pipeline.report.study import Study, check_classes, inconsistencies, not_done, read_trainings

# ---------------------------------------------------------------------------------------------
STUDY = "."  # the folder of a study: all default paths but those of models lie in it
RESULTS_DIR = "./results"  # a folder per run, and those of steps 3a, 12 and 13b
PROMPT_FILE = "./prompt.txt"  # the codebook
LABELS_RECORD = "./pre_process/silver_labels.json"  # from jsonl_to_csv.py
SPLITS_RECORD = "./pre_process/evaluation/splits.json"  # from split_dataset.py
TITLE = "Comments coded by models"  # the page's heading
SEED = 42  # of the rows that are drawn where the page has no room for all
# ---------------------------------------------------------------------------------------------

PICTURES = ("figure1.png", "calibration.png", "coverage.png", "plan/plan.png", "plan/labels.png")


def main(argv: list[str] | None = None) -> None:
    args = parse_settings(globals(), argv)
    folder = Path(args.results_dir)
    codebook = read_codebook(args.prompt_file)
    study = read_study(folder, codebook, args.labels_record, args.splits_record)
    check_outputs([folder / "report.html", folder / "methods.md"])
    there = [run for run in study.runs if run.predictions_file.is_file()]
    predictions = {run.name: read_predictions(run) for run in there}
    pictures = {name: folder / name for name in PICTURES if (folder / name).is_file()}
    page = render_page(study, predictions, pictures, args.title, args.seed, folder)
    write_text(page, folder / "report.html")
    write_text(methods_markdown(study), folder / "methods.md")
    print_outcome(study, folder)


def read_study(folder: Path, codebook: Codebook, labels_record: str, splits_record: str) -> Study:
    """Return what the other steps left in the folder of results and in their records."""
    runs = read_runs(folder)
    check_classes(runs, codebook)
    plans = folder / "plan"
    check, coded = folder / "human_check/human_check.json", folder / "coded/coded.json"
    return Study(
        codebook=codebook,
        runs=[run for run in runs if run.scored],
        unscored=[run for run in runs if not run.scored],
        trainings=read_trainings(runs),
        comparison=read_if_there(folder / "comparison.json", "compare_models.py"),
        human_check=HumanCheck.read(check) if check.is_file() else None,
        audit=read_if_there(folder / "audit/audit.json", "label_audit.py"),
        labels=read_if_there(labels_record, "jsonl_to_csv.py"),
        splits=read_if_there(splits_record, "split_dataset.py"),
        label_plan=LabelPlan.read(plans) if (plans / LABELS_FILE).is_file() else None,
        plan=Plan.read(plans) if (plans / PLAN_FILE).is_file() else None,
        coding=Coding.read(coded) if coded.is_file() else None,
    )


def read_if_there(path: str | Path, made_by: str) -> dict:
    """Return what a step left in a JSON file, {} where it was not run."""
    return read_json(path, f"run {made_by} again") if Path(path).is_file() else {}


def print_outcome(study: Study, folder: Path) -> None:
    """Print what is to be mended, and what was written."""
    for line in inconsistencies(study):
        print(f"to be mended: {line}")
    for one in study.runs:
        if one.metrics["warning"]:
            print(f"{MARK} {one.title}\n{warning_text(one.metrics)}", end="")
    print(f"wrote {folder / 'methods.md'}: {len(not_done(study))} things are named as not done")
    megabytes = (folder / "report.html").stat().st_size / 1e6
    print(f"wrote {folder / 'report.html'}: {megabytes:.1f} MB; open it in a browser")


if __name__ == "__main__":
    run(main)
