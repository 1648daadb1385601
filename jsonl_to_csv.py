"""Step 3: join the provider's answers to the rows and read them as silver labels.

A label belongs to the comment, the codebook and the model that it was asked of: rows that moved in
the spreadsheet keep theirs, and rows that changed are new. What people coded stays.

Reads   INPUT_FILE, the list of rows (from excel_2_csv.py), PROMPT_FILE (the codebook)
        REQUESTS_FILE and its shards (from batch_infer_gen.py)
        ANSWERS_FILE (the provider's answers and errors, in any order and any number of files)
        STATE_FILE, what was sent (from submit_batch.py), where there
        CORRECTIONS, the sheet of label_audit.py once people filled in `corrected`
Writes  UNLABELED_FILE, LABELED_FILE, PURGED_FILE: custom_id, message, class (-1 = no label)
        ERRORS_FILE, why rows have no label; RETRY_FILE, the requests to send again
        CONFIDENCE_FILE, the teacher's probability of each class, where the answers have it
        RECORD_FILE, how the labels came about; CORRECTIONS_FILE, what people corrected
        LABEL_SETS_DIR/<model>-<set>, the labels of this codebook and model, to be compared
Run     python jsonl_to_csv.py
"""

from pathlib import Path

import pandas as pd

from pipeline.common.cli import UserError, at_least_one, parse_settings, run
from pipeline.common.codebook import Codebook, read_codebook
from pipeline.common.files import check_outputs, write_json, written_together
from pipeline.common.rows import MESSAGE_KEY, coded_by_people, message_keys
from pipeline.common.stored_rows import StoredRows, store_rows
from pipeline.labelling import label_files as write
from pipeline.labelling.answers import Answers, match_answers, refuse_strangers
from pipeline.labelling.corrections import apply_corrections, read_corrections, write_corrections
from pipeline.labelling.id_columns import IdColumns, ids_of_rows
from pipeline.labelling.labels import decide_labels
from pipeline.labelling.ledger import answers_to_read, what_was_sent
from pipeline.labelling.outcomes import AnswerFiles
from pipeline.labelling.record import describe_labels, print_summary
from pipeline.labelling.requests import Requests
from pipeline.labelling.shards import existing_files, request_files, write_shards

# ---------------------------------------------------------------------------------------------
STUDY = "."  # the folder of a study: all default paths but those of models lie in it
INPUT_FILE = "./pre_process/datas/simple.csv"  # the rows: custom_id, message, class, coded_by
REQUESTS_FILE = "./pre_process/datas/inf_batch_v2.jsonl"  # also matches its numbered shards
ANSWERS_FILE = (
    "./pre_process/datas/silver_label_v2.jsonl"  # several: with commas between, or a pattern
)
STATE_FILE = "./pre_process/datas/submit_batch.json"  # what was sent
PROMPT_FILE = "./prompt.txt"  # the codebook that the requests were made with
UNLABELED_FILE = "./pre_process/unlabeled_v2.csv"  # every row, class -1
LABELED_FILE = "./pre_process/labeled_v2.csv"  # every row, -1 where there is no label
PURGED_FILE = "./pre_process/purged_labeled_v2.csv"  # the labelled rows
ERRORS_FILE = "./pre_process/silver_errors.csv"  # custom_id, reason, reply
RETRY_FILE = "./pre_process/datas/retry_v2.jsonl"  # requests of the rows without a label
CONFIDENCE_FILE = "./pre_process/silver_confidence.csv"  # custom_id, p_<name> of each class
RECORD_FILE = "./pre_process/silver_labels.json"  # teacher, dates, rows with and without a label
LABEL_SETS_DIR = "./pre_process/label_sets"  # a folder for each codebook and model
CORRECTIONS = ""  # an audit.xlsx, whose `corrected` classes replace labels; empty = no new ones
CORRECTIONS_FILE = "./pre_process/corrections.csv"  # all corrections read so far
MAJORITY_VOTE = False  # the class that most answers give, where a row was asked again
MAX_REQUESTS_PER_FILE = 5_000  # of a retry file; SiliconFlow's limit, OpenAI's is 50,000
MAX_BYTES_PER_FILE = 200_000_000  # OpenAI's limit; SiliconFlow's is 1 GB
# ---------------------------------------------------------------------------------------------


OUTPUTS = ("unlabeled", "labeled", "purged", "errors", "retry", "confidence", "record")
INPUTS = ("input_file", "prompt_file", "requests_file", "answers_file", "corrections")


@written_together()
def main(argv: list[str] | None = None) -> None:
    args = parse_settings(globals(), argv)
    at_least_one(vars(args), "max_requests_per_file", "max_bytes_per_file")
    outputs = check_files(vars(args))
    codebook = read_codebook(args.prompt_file)
    stored = read_rows(args.input_file, codebook, args.corrections, args.corrections_file)
    rows, ids = stored.frame, ids_of_rows(stored.frame)
    requests = read_all_requests(args.requests_file, rows, codebook)
    label_set = requests.label_set if requests else ""
    places = args.answers_file, args.state_file, args.label_sets_dir
    answers = read_all_answers(places, ids, label_set, codebook)
    sent, settings = what_was_sent(args.state_file, label_set, requests, ids)
    labels = decide_labels(rows, answers, sent, args.majority_vote)
    corrections = read_corrections(args.corrections, args.corrections_file, rows, codebook)
    final, vote = apply_corrections(labels, rows["custom_id"], corrections), args.majority_vote
    record = describe_labels(labels, final, answers, rows, settings, codebook, vote)

    retries = write.retry_lines(final, requests, answers, sent)
    write_shards(retries, args.retry_file, args.max_requests_per_file, args.max_bytes_per_file)
    write.write_confidence(rows["custom_id"], labels, codebook.names, args.confidence_file)
    keep_corrections(corrections, stored, codebook, args.corrections, args.corrections_file)
    write_json(record, args.record_file)
    write.write_label_set(stored, labels, answers, label_set, record, codebook, args.label_sets_dir)
    write.write_labels(stored, final, answers, *outputs[:4])
    print_summary(record)


def read_rows(path: str, codebook: Codebook, sheet: str, kept: str) -> StoredRows:
    """Read the rows; with what finds them in a sheet of corrections, or the kept ones, if any."""
    columns = {MESSAGE_KEY: message_keys} if sheet or Path(kept).is_file() else {}
    return store_rows(path, "excel_2_csv.py", codebook, **columns)


def keep_corrections(
    corrections: dict[str, int], rows: StoredRows, codebook: Codebook, sheet: str, path: str
) -> None:
    """Write the corrections, where a sheet brought new ones."""
    if sheet:
        some = rows.frame[rows.frame["custom_id"].isin(list(corrections))]
        corrected = pd.concat(rows.parts(some)) if len(some) else some.assign(message="")
        write_corrections(corrections, corrected, rows.frame, path, codebook)


def check_files(settings: dict[str, str]) -> list[str]:
    """Return the files that are written; stop where one cannot be, or is an input."""
    outputs = [settings[f"{name}_file"] for name in OUTPUTS]
    check_outputs(outputs, inputs=[settings[name] for name in INPUTS])
    return outputs


def read_all_requests(path: str, rows: pd.DataFrame, codebook: Codebook) -> Requests | None:
    """Return the requests, None where there are none or people coded all rows.

    Raises UserError where they ask with another codebook.
    """
    all_coded = coded_by_people(rows).all()
    if all_coded and not existing_files(Path(path)):
        print("people coded all rows: no answers are needed")
        return None
    files = request_files(path)
    requests = Requests(files)
    count = len(requests) - len(requests.ids.by_message.repeated())
    print(f"read {files[0]}{' and shards' * (len(files) > 1)}: {count:,} requests")
    if not count or requests.prompt == codebook.text:
        return requests if count else None
    if all_coded:
        print("  they ask with another codebook, and people coded all rows: left out")
        return None
    raise UserError(
        f"{files[0]} asks with another codebook than {codebook.path}: give --prompt-file "
        "that one, or run batch_infer_gen.py and have the comments labelled by this one"
    )


def read_all_answers(
    places: tuple[str, str, str], ids: IdColumns, label_set: str, codebook: Codebook
) -> Answers:
    """Return the answers by row, none without requests; refuse those of which none is a row's.

    `places` are the answers, the state of submit_batch.py and the folder of label sets.
    """
    if not label_set:
        return match_answers(AnswerFiles([], codebook), ids, "")
    files = answers_to_read(*places, label_set)
    answers = match_answers(AnswerFiles(files, codebook), ids, label_set)
    print(f"read {', '.join(map(str, files))}: {answers.total:,} answers")
    refuse_strangers(answers, files[0])
    return answers


if __name__ == "__main__":
    run(main)
