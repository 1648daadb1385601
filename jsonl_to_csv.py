"""Step 3: join the provider's answers to the requests and read them as silver labels.

Reads   REQUESTS_FILE and its shards (from batch_infer_gen.py)
        ANSWERS_FILE and its siblings, such as silver_label_v2-2.jsonl (the provider's answers and
        errors, in any order and any number of files), PROMPT_FILE (the codebook)
        CORRECTIONS, the sheet of label_audit.py once people filled in `corrected`
Writes  UNLABELED_FILE, LABELED_FILE, PURGED_FILE: custom_id, message, class (-1 = no label)
        ERRORS_FILE, why rows have no label; RETRY_FILE, the requests to send again
        CONFIDENCE_FILE, the teacher's probability of each class, where the answers have it
        RECORD_FILE, how the labels came about; CORRECTIONS_FILE, what people corrected
Run     python jsonl_to_csv.py
"""

from pathlib import Path

import pandas as pd
from tqdm import tqdm

from pipeline.common.cli import UserError, at_least_one, parse_settings, run
from pipeline.common.codebook import Codebook, read_codebook
from pipeline.common.files import check_outputs, clean_text, write_json
from pipeline.labelling.corrections import apply_corrections, read_corrections, write_corrections
from pipeline.labelling.label_files import write_confidence, write_errors, write_labels, write_retry
from pipeline.labelling.labels import Answers, decide_labels, match_answers
from pipeline.labelling.outcomes import read_answers
from pipeline.labelling.record import describe_labels, print_summary
from pipeline.labelling.requests import Request, answer_files, read_requests, request_files

# ---------------------------------------------------------------------------------------------
STUDY = "."  # the folder of a study: all default paths but those of models lie in it
REQUESTS_FILE = "./pre_process/datas/inf_batch_v2.jsonl"  # also matches its numbered shards
ANSWERS_FILE = (
    "./pre_process/datas/silver_label_v2.jsonl"  # also silver_label_v2-*.jsonl; or a pattern
)
PROMPT_FILE = "./prompt.txt"  # the codebook that the requests were made with
UNLABELED_FILE = "./pre_process/unlabeled_v2.csv"  # every row, class -1
LABELED_FILE = "./pre_process/labeled_v2.csv"  # every row, -1 where there is no label
PURGED_FILE = "./pre_process/purged_labeled_v2.csv"  # the labelled rows
ERRORS_FILE = "./pre_process/silver_errors.csv"  # custom_id, reason, reply
RETRY_FILE = "./pre_process/datas/retry_v2.jsonl"  # requests of the rows without a label
CONFIDENCE_FILE = "./pre_process/silver_confidence.csv"  # custom_id, p_<name> of each class
RECORD_FILE = "./pre_process/silver_labels.json"  # teacher, dates, rows with and without a label
CORRECTIONS = ""  # an audit.xlsx, whose `corrected` classes replace labels; empty = no new ones
CORRECTIONS_FILE = "./pre_process/corrections.csv"  # all corrections read so far
MAJORITY_VOTE = False  # the class that most answers give, where a row was asked again
MAX_REQUESTS_PER_FILE = 5_000  # of a retry file; SiliconFlow's limit, OpenAI's is 50,000
MAX_BYTES_PER_FILE = 200_000_000  # OpenAI's limit; SiliconFlow's is 1 GB
# ---------------------------------------------------------------------------------------------


def main(argv: list[str] | None = None) -> None:
    args = parse_settings(globals(), argv)
    at_least_one(vars(args), "max_requests_per_file", "max_bytes_per_file")
    codebook = read_codebook(args.prompt_file)
    request_paths, answer_paths = request_files(args.requests_file), answer_files(args.answers_file)
    requests = read_all_requests(request_paths, codebook)
    outputs = [args.unlabeled_file, args.labeled_file, args.purged_file, args.errors_file]
    outputs += [args.retry_file, args.confidence_file, args.record_file]
    check_outputs(outputs, inputs=[*request_paths, *answer_paths, args.corrections])
    answers = read_all_answers(answer_paths, requests, codebook, args.requests_file)

    labels = decide_labels(answers, requests, args.majority_vote)
    rows = rows_of(requests)
    corrections = read_corrections(args.corrections, args.corrections_file, rows, codebook)
    corrected = apply_corrections(labels, corrections)
    write_labels(requests, labels, args.unlabeled_file, args.labeled_file, args.purged_file)
    write_errors(labels, answers.unmatched, args.errors_file)
    limits = args.max_requests_per_file, args.max_bytes_per_file
    write_retry(requests, labels, args.retry_file, *limits)
    write_confidence(labels, codebook.names, args.confidence_file)
    if args.corrections:
        write_corrections(corrections, rows, args.corrections_file, codebook)
    record = describe_labels(labels, answers, requests, codebook, corrected, args.majority_vote)
    write_json(record, args.record_file)
    print_summary(record)


def read_all_requests(files: list[Path], codebook: Codebook) -> dict[str, Request]:
    """Return custom_id -> request; refuse requests that ask with another codebook."""
    requests = {request.custom_id: request for request in read_requests(files)}
    print(f"read {files[0]}{' and shards' * (len(files) > 1)}: {len(requests):,} requests")
    if any(request.prompt != codebook.text for request in requests.values()):
        raise UserError(
            f"{files[0]} asks with another codebook than {codebook.path}: give --prompt-file "
            "that one, or run batch_infer_gen.py and have the comments labelled again"
        )
    return requests


def rows_of(requests: dict[str, Request]) -> pd.DataFrame:
    """Return the `custom_id` and `message` of requests."""
    rows = [(request.custom_id, clean_text(request.message)) for request in requests.values()]
    return pd.DataFrame(rows, columns=["custom_id", "message"])


def read_all_answers(
    files: list[Path], requests: dict[str, Request], codebook: Codebook, requests_file: str
) -> Answers:
    """Return the answers by row; refuse files in which none belongs to any of the requests."""
    answers = match_answers(tqdm(read_answers(files, codebook), unit="answer"), requests)
    print(f"read {', '.join(map(str, files))}: {len(answers):,} answers")
    if not answers.first:
        raise UserError(
            f"{files[0]}: none of its {len(answers):,} answers belongs to a request of "
            f"{requests_file}: check that both come from the same run of batch_infer_gen.py"
        )
    return answers


if __name__ == "__main__":
    run(main)
