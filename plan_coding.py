"""Step 15: who codes what: the rows that the model is sure of stay its own, others code the rest.

Give a target accuracy or a budget. The held-out rows of an evaluation say which threshold on the
model's confidence that takes, how many rows are right with it, and what the rest costs at the
teacher's price or in people's minutes. With neither, only the curve is drawn.
With --apply, the plan that was made is applied to the rows that code_comments.py coded: those below
the threshold that nobody else coded become requests to the teacher, or sheets for people.
With --labels, it says instead how many labels are enough: what more of them would cost and bring.
The labels of a pilot are enough for that.

Reads   RUN, or the run of the tuned model in RESULTS_DIR: against people's labels, else silver ones
        CODED_DIR/codes.csv (from code_comments.py), where there, or INPUT_FILE: the rows to code
        STATE_FILE, SHEETS_DIR, HUMAN_CHECK, where there: price, the teacher's labels and errors
        with --apply: OUTPUT_DIR/plan.json, CODED_DIR, INPUT_FILE, REQUESTS_FILE
        with --labels: TRAIN_FILE and VALIDATION_FILE, or LABELED_FILE; MODEL_PATH; no test rows
Writes  OUTPUT_DIR/plan.json, plan.csv, plan.txt, plan.png; with --labels: labels.json, ...
        with --apply: UNSURE_FILE for submit_batch.py, or CODING_DIR/<coder>.xlsx for people
Run     python plan_coding.py --target-accuracy 0.9   (then with --apply)
"""

import argparse
from pathlib import Path

from pipeline.coding.apply import check_plan, unsure_rows, write_requests, write_sheets
from pipeline.coding.coded_rows import read_coded, rows_to_code
from pipeline.common.cli import UserError, at_least_one, parse_settings, run
from pipeline.common.codebook import Codebook, read_codebook
from pipeline.common.files import check_outputs, written_together
from pipeline.people.sample import coder_names
from pipeline.planning.costs import price_per_row
from pipeline.planning.judged_rows import find_run, model_of, read_judged
from pipeline.planning.plan import PEOPLE, PLAN_FILES, Costs, Plan
from pipeline.planning.plan_files import write_plan
from pipeline.planning.planning import Wishes, check_of_people, check_wishes, make_plan

# ---------------------------------------------------------------------------------------------
STUDY = "."  # the folder of a study: all default paths but those of models lie in it
TARGET_ACCURACY = 0.0  # of all rows, such as 0.9; 0 = none
BUDGET = 0.0  # for the rows that others code, in yuan; 0 = none
MINUTES_BUDGET = 0.0  # the same, in minutes of all coders together; 0 = none
WHO = "teacher"  # who codes the rows that the model is unsure of: teacher or people
APPLY = False  # apply the plan in OUTPUT_DIR: write requests, or sheets for people
LABELS = False  # say how many labels are enough, by the settings of the last group
# what it rests on
RUN = ""  # a folder of results; empty = found: against people, else on the silver test rows
MODEL = ""  # the tuned model's folder; empty = that of CODED_DIR, or the only one with a run
RESULTS_DIR = "./results"  # where runs are looked for
PROMPT_FILE = "./prompt.txt"  # the codebook
CODED_DIR = "./results/coded"  # from code_comments.py
INPUT_FILE = "./pre_process/datas/simple.csv"  # all rows of the spreadsheet
LABELED_FILE = "./pre_process/purged_labeled_v2.csv"  # rows with a label need no model
ROWS = 0  # how many rows are to be coded; 0 = counted
SHEETS_DIR = "./pre_process/human_check"  # people's sample, with the teacher's labels
HUMAN_CHECK = "./results/human_check/human_check.json"  # how right the teacher is
ALPHA = 0.05  # the chance that what is promised does not hold
# prices
STATE_FILE = "./pre_process/datas/submit_batch.json"  # what the teacher's answers took so far
PRICE_PER_MILLION_INPUT_TOKENS = 2.0  # CNY, DeepSeek-V3's list price in 2025; see your provider's
PRICE_PER_MILLION_OUTPUT_TOKENS = 8.0  # the same
SECONDS_PER_COMMENT = 15.0  # that a person takes
PAY_PER_HOUR = 0.0  # yuan for a person's hour; 0 = people's time is counted, not paid
CODERS = "coder1,coder2"  # names, a sheet each: each person codes all rows of the rest
# what is written
OUTPUT_DIR = "./results/plan"  # the plan, its curve and figure
REQUESTS_FILE = "./pre_process/datas/inf_batch_v2.jsonl"  # the requests of all rows
UNSURE_FILE = "./pre_process/datas/unsure_v2.jsonl"  # those of the rows that the model is unsure of
CODING_DIR = "./pre_process/coding"  # sheets for people
MAX_REQUESTS_PER_FILE = 5_000  # SiliconFlow's limit; OpenAI's is 50,000
MAX_BYTES_PER_FILE = 200_000_000  # OpenAI's limit; SiliconFlow's is 1 GB
SEED = 42  # of the coders' orders, and of the rows that learn
# how many labels are enough
TRAIN_FILE = "./pre_process/evaluation/train.csv"  # where it lacks, LABELED_FILE is taken
VALIDATION_FILE = "./pre_process/evaluation/validation.csv"  # the same
MODEL_PATH = "./bert-base-chinese"  # an encoder's folder, as it was cloned
MORE_LABELS = ""  # such as 500,2000; empty = half, once and twice those that are there
SIZES = ""  # labels to learn from, such as 100,200,400,800; empty = eight sizes
DRAWS = 4  # how often the labels are divided anew
TRAIN_SIZES = ""  # such as 500,1000: fine-tune with so many labels, too, which takes long
TUNED_PATH = "./bert_checkpoints/final_model"  # whose settings that takes
DTYPE = "auto"  # precision: the best of the device; or bfloat16, float16, float32
BATCH_SIZE = 64  # rows
MAX_LENGTH = 128  # tokens; longer comments are shortened
# ---------------------------------------------------------------------------------------------


def main(argv: list[str] | None = None) -> None:
    args = parse_settings(globals(), argv)
    at_least_one(vars(args), "max_requests_per_file", "max_bytes_per_file")
    codebook, folder = read_codebook(args.prompt_file), Path(args.output_dir)
    if args.labels:
        from pipeline.planning.label_planning import plan_labels

        plan_labels(codebook, folder, vars(args))
        return
    if args.apply:
        apply(Plan.read(folder), codebook, args)
        return
    wishes = Wishes(args.who, args.target_accuracy, args.budget, args.minutes_budget, args.alpha)
    check_wishes(wishes, args.pay_per_hour)
    check_outputs([folder / name for name in PLAN_FILES])
    plan = new_plan(wishes, codebook, args)
    write_plan(plan, folder)


def new_plan(wishes: Wishes, codebook: Codebook, args: argparse.Namespace) -> Plan:
    """Return the plan from what is on disk."""
    coded = None if args.rows else read_coded(args.coded_dir)
    model_path = args.model or (coded.model.path if coded else "")
    chosen = find_run(args.results_dir, args.run, model_path, codebook)
    print(f"planning by {chosen.folder}: {chosen.title}, {chosen.measured_against}")
    judged = read_judged(chosen, codebook, args.sheets_dir)
    to_code, source = args.rows, "as --rows says"
    if not args.rows:
        files = args.input_file, args.labeled_file
        to_code, source = rows_to_code(coded, model_of(chosen), codebook, *files)
    prices = args.price_per_million_input_tokens, args.price_per_million_output_tokens
    costs = Costs(
        *price_per_row(args.state_file, judged.messages, codebook, *prices),
        args.seconds_per_comment,
        len(coder_names(args.coders)),
        args.pay_per_hour,
    )
    check = check_of_people(args.human_check, codebook)
    about = (to_code, source, check, codebook, vars(args))
    return make_plan(chosen, judged, wishes, costs, *about)


@written_together()
def apply(plan: Plan, codebook: Codebook, args: argparse.Namespace) -> None:
    """Write the rows that the model is unsure of, for those whom the plan names."""
    for name in ("target_accuracy", "budget", "minutes_budget", "who"):
        if vars(args)[name] not in (globals()[name.upper()], getattr(plan, name)):
            raise UserError(
                f"{args.output_dir} holds a plan for another --{name.replace('_', '-')}: run this "
                "without --apply first"
            )
    coded = check_plan(plan, read_coded(args.coded_dir), codebook)
    stored, places = unsure_rows(coded, plan.threshold, args.input_file, codebook)
    if plan.who == PEOPLE:
        coders = coder_names(args.coders)
        write_sheets(stored, places, plan, coders, codebook, args.coding_dir, vars(args))
    else:
        files = args.requests_file, args.state_file, args.unsure_file
        limits = args.max_requests_per_file, args.max_bytes_per_file
        check_outputs([args.unsure_file], inputs=[args.requests_file, args.input_file])
        write_requests(stored, places, codebook, *files, *limits)


if __name__ == "__main__":
    run(main)
