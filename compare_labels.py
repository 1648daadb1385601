"""Step 3c: label sets beside each other: two codebooks, two teachers, repeats, people's codes.

Which labels changed, from which class to which, with examples; which set agrees with people more
often, where people coded rows; what changed in the codebook. It works on a pilot of a few hundred
rows, before all are labelled.

Reads   LABEL_SETS_DIR/*/labels.csv, prompt.txt, silver_labels.json (from jsonl_to_csv.py), or SETS
        SHEETS_DIR*/human_labels.csv, sample.csv, sample.json, and those in pilot folders (from
        human_check.py and human_sample.py), where there
Writes  OUTPUT_DIR/comparison.html, the page in one file; changed.xlsx, comparison.json
Run     python compare_labels.py
"""

from pathlib import Path

from pipeline.common.cli import parse_settings, run
from pipeline.common.files import check_outputs, write_text, written_together
from pipeline.common.records import write_record
from pipeline.labelling.label_tables import read_label_sets
from pipeline.people.human_codes import read_human_codes
from pipeline.report.set_comparison import compare_sets
from pipeline.report.set_page import render_set_page
from pipeline.report.set_rows import changed_rows, join_sets
from pipeline.report.set_sentences import comparison_text
from pipeline.sheets.coding import write_sheet

# ---------------------------------------------------------------------------------------------
STUDY = "."  # the folder of a study: all default paths but those of models lie in it
LABEL_SETS_DIR = "./pre_process/label_sets"  # a folder per set of labels
SETS = ""  # folders or CSV files (custom_id, message, class) by commas; empty = all, by date
PROMPT_FILE = "./prompt.txt"  # the codebook of a CSV file that has no prompt.txt beside it
SHEETS_DIR = "./pre_process/human_check"  # people's codes; also folders whose names begin so
OUTPUT_DIR = "./results/label_sets"  # the page, the changed rows, the figures
EXAMPLES = 3  # comments of each change on the page; all are in changed.xlsx
TITLE = "Sets of labels beside each other"  # the page's heading
SEED = 42  # of the examples and of the bootstrap intervals
# ---------------------------------------------------------------------------------------------


@written_together()
def main(argv: list[str] | None = None) -> None:
    args = parse_settings(globals(), argv)
    folder = Path(args.output_dir)
    outputs = [folder / name for name in ("comparison.html", "changed.xlsx", "comparison.json")]
    sets = read_label_sets(args.label_sets_dir, args.sets, args.prompt_file)
    samples = read_human_codes(args.sheets_dir)
    joined = join_sets(sets, samples)
    changed = changed_rows(joined)
    found = compare_sets(sets, joined, len(changed), args.examples, args.seed)
    check_outputs(outputs)
    write_sheet(changed, sets[-1].codebook, "", outputs[1])
    write_text(render_set_page(found, sets, args.title), outputs[0])
    write_record(found, outputs[2])
    print(f"\n{comparison_text(found)}\n")
    print(f"wrote {outputs[0]} and {outputs[2].name}; open the page in a browser")


if __name__ == "__main__":
    run(main)
