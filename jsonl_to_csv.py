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
from tqdm import tqdm

from pipeline.common.cli import UserError, at_least_one, parse_settings, run
from pipeline.common.codebook import Codebook, read_codebook
from pipeline.common.files import check_outputs, write_json, written_together
from pipeline.common.rows import coded_by_people, read_messages
from pipeline.labelling import label_files as write
from pipeline.labelling.corrections import apply_corrections, read_corrections, write_corrections
from pipeline.labelling.ids import ids_of_rows, plain_id, set_of
from pipeline.labelling.labels import Answers, decide_labels, match_answers
from pipeline.labelling.ledger import answers_to_read, what_was_sent
from pipeline.labelling.outcomes import read_answers
from pipeline.labelling.record import describe_labels, print_summary
from pipeline.labelling.requests import Request, read_requests
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
    rows = read_messages(args.input_file, "excel_2_csv.py", codebook)
    requests, label_set = read_all_requests(args.requests_file, rows, codebook)
    rows["request"] = ids_of_rows(label_set, rows)
    places = args.answers_file, args.state_file, args.label_sets_dir
    answers = read_all_answers(places, rows, label_set, codebook)
    sent, settings = what_was_sent(args.state_file, label_set, requests)
    labels = decide_labels(rows, answers, sent, args.majority_vote)
    corrections = read_corrections(args.corrections, args.corrections_file, rows, codebook)
    final, vote = apply_corrections(labels, corrections), args.majority_vote
    record = describe_labels(labels, final, answers, rows, settings, codebook, vote)

    retries = write.retry_lines(rows, final, requests, answers, sent)
    write_shards(retries, args.retry_file, args.max_requests_per_file, args.max_bytes_per_file)
    write.write_confidence(labels, codebook.names, args.confidence_file)
    if args.corrections:
        write_corrections(corrections, rows, args.corrections_file, codebook)
    write_json(record, args.record_file)
    write.write_label_set(rows, labels, answers, label_set, record, codebook, args.label_sets_dir)
    write.write_labels(rows, final, answers, *outputs[:4])
    print_summary(record)


def check_files(settings: dict[str, str]) -> list[str]:
    """Return the files that are written; stop where one cannot be, or is an input."""
    outputs = [settings[f"{name}_file"] for name in OUTPUTS]
    check_outputs(outputs, inputs=[settings[name] for name in INPUTS])
    return outputs


def read_all_requests(
    path: str, rows: pd.DataFrame, codebook: Codebook
) -> tuple[dict[str, Request], str]:
    """Return plain id -> request, and their label set; none where people coded all rows.

    Raises UserError where they ask with another codebook.
    """
    all_coded = coded_by_people(rows).all()
    if all_coded and not existing_files(Path(path)):
        print("people coded all rows: no answers are needed")
        return {}, ""
    files = request_files(path)
    requests = {plain_id(request.custom_id): request for request in read_requests(files)}
    print(f"read {files[0]}{' and shards' * (len(files) > 1)}: {len(requests):,} requests")
    if any(request.prompt != codebook.text for request in requests.values()):
        if all_coded:
            print("  they ask with another codebook, and people coded all rows: left out")
            return {}, ""
        raise UserError(
            f"{files[0]} asks with another codebook than {codebook.path}: give --prompt-file "
            "that one, or run batch_infer_gen.py and have the comments labelled by this one"
        )
    return requests, set_of(next(iter(requests), ""))


def read_all_answers(
    places: tuple[str, str, str], rows: pd.DataFrame, label_set: str, codebook: Codebook
) -> Answers:
    """Return the answers by row, none without requests; refuse those of which none is a row's.

    `places` are the answers, the state of submit_batch.py and the folder of label sets.
    """
    if not label_set:
        return Answers()
    files = answers_to_read(*places, label_set)
    lines = tqdm(read_answers(files, codebook), unit="answer")
    answers = match_answers(lines, rows["request"], label_set)
    print(f"read {', '.join(map(str, files))}: {answers.total:,} answers")
    if answers.others and not answers.first:
        raise UserError(
            f"{files[0]}: all of its {answers.others:,} answers are by another codebook or model "
            "than the requests ask: run submit_batch.py, which keeps them and sends the requests"
        )
    if not answers.first:
        raise UserError(
            f"{files[0]}: none of its {answers.total:,} answers belongs to a row of the "
            "spreadsheet: check that they are the answers to these requests"
        )
    return answers


if __name__ == "__main__":
    run(main)
