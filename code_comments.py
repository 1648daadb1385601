"""Step 16: code the whole spreadsheet by the tuned model, and give it back with its classes.

Each row's class is that of people, where they coded it, else the teacher's, else the model's.
Equal comments are computed once. A run that was killed goes on where it stopped. A second run takes
the probabilities of the first one for the comments that it knows, so that new labels are quick to
merge: it computes new comments only, and all of them where the model, its precision, MAX_LENGTH or
the codebook is another. Comments leave this machine only for the server of BASE_URL.

A corpus is a folder of .csv (UTF-8) or .parquet, each row with an id: its codes come as a folder of
.parquet, from this process or, by ENGINE, from Ray on the cores or GPUs of one or more machines.

Reads   EXCEL_FILE (.xlsx, .xls, .ods, .csv, or a folder), MODEL (from finetune.py or bert_tune.py),
        PROMPT_FILE; where there: LABELS_FILE, the labels beside the samples in SHEETS_DIR and in
        CODING_DIR (from human_check.py), PLAN_FILE (from plan_coding.py), RESULTS_DIR, MASKED_FILE
Writes  OUTPUT_FILE: the spreadsheet as it was, with class, class_name, coded_by, check and p_<name>
        at the right of the sheet, and sheets with the codebook and how the rows were coded
        OUTPUT_DIR/codes.csv, coded.json, probabilities.npz; of a folder: codes, manifest.json,
        failed.csv, survey
Run     python code_comments.py --excel-file comments.xlsx --model ./bert_checkpoints/final_model
"""

import time
from argparse import Namespace

from pipeline.coding.check_rule import CheckRule, read_rule
from pipeline.coding.codes import Codes
from pipeline.coding.model import FoundModel, ModelOptions, find_model
from pipeline.coding.outcome import (
    Places,
    check_places,
    coding_record,
    places_of,
    print_counts,
    save,
)
from pipeline.coding.probabilities import compute
from pipeline.coding.quality import quality_of
from pipeline.coding.sheet_rows import learned_rows, read_rows, refuse_unmasked
from pipeline.coding.who import given_classes
from pipeline.common.cli import at_least_one, parse_settings, run
from pipeline.common.codebook import Codebook, read_codebook
from pipeline.common.processes import is_main_process
from pipeline.common.scratch import scratch_beside
from pipeline.corpus.corpus import Engine, code_corpus, is_corpus
from pipeline.corpus.corpus_files import Columns
from pipeline.models.kept_rows import KeptRows, keeping_rows
from pipeline.sheets.comments import ID, CommentSheet, open_comment_sheet
from pipeline.sheets.messages import Messages

# ---------------------------------------------------------------------------------------------
STUDY = "."  # the folder of a study: all default paths but those of models lie in it
# the spreadsheet, as in excel_2_csv.py
EXCEL_FILE = "./pre_process/datas/weibo_data.xlsx"  # .xlsx, .xls, .ods or .csv; or a folder
SHEET = ""  # the sheet's name; empty = the first
ENCODING = ""  # of a .csv, such as gb18030 or cp1252; empty = found out
TEXT_COLUMN = "comment"  # the comments: a column's name or letter
ID_COLUMN = ""  # name or letter of your own ids, each once; empty = custom_id if there, else row-N
USER_COLUMN = ""  # name or letter; as in excel_2_csv.py, since the model learned such messages
LABEL_COLUMN = ""  # name or letter of classes that people coded, as numbers or names
MASK_PERSONAL_DATA = False  # hide it from the model, as excel_2_csv.py did; the sheet keeps it
MASKED_FILE = "./pre_process/datas/masked.csv"  # where excel_2_csv.py says what it has hidden
# the model
MODEL = "./qlora_checkpoints/final_model"  # an adapter, a merged model or a tuned BERT: its folder
BASE_MODEL = ""  # the folder of an adapter's base; empty = where it was in training
PROMPT_FILE = "./prompt.txt"  # the codebook of the training
BASE_URL = ""  # of a server that computes, such as http://localhost:8000/v1; empty = this machine
SERVED_MODEL = ""  # the model's name there; empty = the only one that it has
LOAD_IN_4BIT = True  # NF4, as in training; off = 16 bit (32 on a CPU); not for a BERT
DTYPE = "auto"  # precision: the best of the device; or bfloat16, float16, float32
BATCH_SIZE = 64  # rows at once, of a BERT
MAX_TOKENS_PER_PACK = 0  # tokens at once, of an LLM; 0 = as many as the memory takes
MAX_LENGTH = 0  # tokens; 0 = as in training; longer comments are shortened and counted
# who else coded rows, and which ones people should look at
LABELS_FILE = "./pre_process/purged_labeled_v2.csv"  # the teacher's labels
SHEETS_DIR = "./pre_process/human_check"  # the samples that people coded
CODING_DIR = "./pre_process/coding"  # the rows that people coded for the model
PLAN_FILE = "./results/plan/plan.json"  # the threshold of `check`
CHECK_BELOW = 0.0  # a confidence such as 0.8 in place of the plan's threshold; 0 = the plan's
RESULTS_DIR = "./results"  # the evaluations of the model, for the record
# a folder of .csv or .parquet
ENGINE = ""  # empty = this process; ray = several, on one or more machines: requirements-ray.txt
WORKERS = 0  # processes of Ray; 0 = one for each GPU, else one for each core
# what is written
OUTPUT_DIR = "./results/coded"  # codes.csv and the record
OUTPUT_FILE = "./results/coded/{name}_coded{suffix}"  # the coded spreadsheet
PREFIX = ""  # before the names of the new columns, such as coded_
# ---------------------------------------------------------------------------------------------


def main(argv: list[str] | None = None) -> None:
    start, args = time.perf_counter(), parse_settings(globals(), argv)
    at_least_one(vars(args), "batch_size")
    codebook = read_codebook(args.prompt_file)
    found = find_model(model_options(args), codebook)
    rule = read_rule(args.plan_file, args.check_below, found, codebook)
    if is_corpus(vars(args)):
        columns = Columns(args.id_column or ID, args.text_column, args.mask_personal_data)
        corpus = args.excel_file, args.output_dir, columns
        engine = Engine(args.engine, args.workers, args.dtype)
        return code_corpus(*corpus, found, codebook, rule, engine, vars(args))
    places = places_of(args.output_dir, args.output_file, args.excel_file, args.prefix)

    from pipeline.common.machine import start_run

    start_run(args.dtype)
    source = args.excel_file, args.sheet, args.text_column, args.id_column, args.encoding
    with open_comment_sheet(*source) as sheet, keeping_rows(places.folder) as kept:
        check_places(places, sheet, codebook)
        kept.claim()
        code(sheet, kept, found, rule, codebook, places, start, args)


def code(
    sheet: CommentSheet,
    kept: KeptRows,
    found: FoundModel,
    rule: CheckRule,
    codebook: Codebook,
    places: Places,
    start: float,
    args: Namespace,
) -> None:
    """Code the rows of a sheet, and write the outcome of a run that began at `start`."""
    refuse_unmasked(args.masked_file, args.mask_personal_data)
    read_by = args.user_column, args.label_column, codebook, args.mask_personal_data
    learned, messages = learned_rows(found), Messages(sheet, *read_by)
    with scratch_beside(places.folder / "messages.txt") as texts:
        rows = read_rows(messages, texts, learned)
        labels = args.labels_file, args.sheets_dir, args.coding_dir
        given = given_classes(rows, codebook, *labels)
        quality = quality_of(args.results_dir, found, codebook)
        computed = compute(rows, found, codebook, places.folder, kept)
    if not is_main_process():
        return
    codes = Codes(rows, given, computed.probabilities, rule.threshold, codebook.names)
    of_run = (places.output, quality, start, vars(args))
    coding = coding_record(codes, sheet, found, rule, codebook, *of_run)
    save(places, sheet, codes, coding, codebook, computed.key)
    kept.remove(coded_by=computed.key)
    print_counts(coding, computed.shortened, str(learned))


def model_options(args: Namespace) -> ModelOptions:
    """Return how the model is loaded and run."""
    return ModelOptions(
        path=args.model,
        base_path=args.base_model,
        load_in_4bit=args.load_in_4bit,
        batch_size=args.batch_size,
        max_tokens_per_pack=args.max_tokens_per_pack,
        max_length=args.max_length,
        base_url=args.base_url,
        served_model=args.served_model,
    )


if __name__ == "__main__":
    run(main)
