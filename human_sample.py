"""Step 13a: a random sample of the labelled rows for people to code, a spreadsheet per coder.

Give each coder the spreadsheet with their name. They choose a class for every comment in `class`,
without seeing the silver labels or each other's. Then run human_check.py.

The sample is drawn from the rows that are held out for tests. With --pilot, it is drawn from the
other rows, to try out the codebook before everything is labelled: a hundred rows are enough, and
they must have labels and a split. The pilot's files are in SHEETS_DIR/pilot; once prompt.txt and
the labels are others, a pilot of that codebook is in SHEETS_DIR/pilot_2, and so on. Rows that
people coded before (`coded_by` is human) have no silver label to check, and are not drawn.

Reads   LABELED_FILE (from jsonl_to_csv.py), TEST_FILE (from split_dataset.py), PROMPT_FILE
        EXCLUDE: the sample.csv files of earlier samples, where there are
Writes  SHEETS_DIR/<coder>.xlsx, for people to fill in `class`; sample.csv, sample.json
Run     python human_sample.py
"""

from glob import glob
from pathlib import Path

from pipeline.common.cli import at_least_one, parse_settings, run
from pipeline.common.codebook import read_codebook
from pipeline.common.files import written_together
from pipeline.people.record import PILOTS, SAMPLE_FILE
from pipeline.people.sample import (
    coder_names,
    draw_sample,
    read_population,
    refuse_drawn,
    rows_to_draw_from,
    sample_folder,
    sample_record,
    say_drawn_again,
    write_sample,
)

# ---------------------------------------------------------------------------------------------
STUDY = "."  # the folder of a study: all default paths but those of models lie in it
PILOT = False  # draw the sample to refine the codebook on, from rows outside TEST_FILE, if any
LABELED_FILE = "./pre_process/purged_labeled_v2.csv"  # the data set: custom_id, message, class
TEST_FILE = "./pre_process/evaluation/test.csv"  # held-out rows to draw from; empty = all rows
PROMPT_FILE = "./prompt.txt"  # the codebook
SHEETS_DIR = "./pre_process/human_check"  # the sample and the coders' sheets
EXCLUDE = "./pre_process/human_check*/**/sample.csv"  # earlier samples, not to be drawn again
CODERS = "coder1,coder2"  # names, a sheet each
SAMPLE_SIZE = 500  # rows
MIN_PER_CLASS = 50  # rows of each silver class, or all that it has
SEED = 42  # of the draw and of the coders' orders
# ---------------------------------------------------------------------------------------------


@written_together()
def main(argv: list[str] | None = None) -> None:
    args = parse_settings(globals(), argv)
    at_least_one(vars(args), "sample_size")
    codebook = read_codebook(args.prompt_file)
    coders = coder_names(args.coders)
    folder = sample_folder(args.sheets_dir, args.pilot, codebook)
    refuse_drawn(folder, coders)
    rows, held_out = read_population(args.labeled_file, args.test_file, codebook, args.pilot)
    earlier = earlier_samples(args.exclude, args.sheets_dir)
    floor = args.min_per_class
    pool, before = rows_to_draw_from(rows, held_out, args.pilot, earlier, codebook, floor)
    drawn = draw_sample(pool, codebook, args.sample_size, floor, args.seed)
    say_drawn_again(drawn, before)
    record = sample_record(drawn, rows, held_out, coders, codebook, vars(args))
    write_sample(drawn, record, codebook, folder)
    print(
        f"next: have {', '.join(f'{folder / coder}.xlsx' for coder in coders)} coded, then run "
        f"human_check.py{' --pilot' * args.pilot}"
    )


def earlier_samples(exclude: str, sheets_dir: str) -> list[Path]:
    """Return the sample.csv files that the pattern `exclude` finds, and those in `sheets_dir`."""
    files = {Path(file) for file in glob(exclude, recursive=True)}
    return sorted(files | {Path(sheets_dir) / SAMPLE_FILE, *Path(sheets_dir).glob(PILOTS)})


if __name__ == "__main__":
    run(main)
