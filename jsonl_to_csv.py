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

from functools import reduce

import pandas as pd
from tqdm import tqdm

from pipeline.common.cli import UserError, at_least_one, parse_settings, run
from pipeline.common.codebook import read_codebook
from pipeline.common.files import check_outputs, clean_text, write_csv, write_json
from pipeline.labelling.corrections import correct, read_corrections, write_corrections
from pipeline.labelling.outcomes import (
    MISSING,
    UNDECIDED,
    gather,
    majority,
    merge,
    read_answers,
)
from pipeline.labelling.record import confidence_table, describe_labels, print_summary
from pipeline.labelling.requests import answer_files, read_requests, request_files, write_shards

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
CORRECTIONS = ""  # an audit.xlsx, whose `corrected` classes win; empty = none but those read before
CORRECTIONS_FILE = "./pre_process/corrections.csv"  # all corrections read so far
MAJORITY_VOTE = False  # the class that most answers give, where a row was asked again
MAX_REQUESTS_PER_FILE = 5_000  # of a retry file; SiliconFlow's limit, OpenAI's is 50,000
MAX_BYTES_PER_FILE = 200_000_000  # OpenAI's limit; SiliconFlow's is 1 GB
# ---------------------------------------------------------------------------------------------


def main(argv: list[str] | None = None) -> None:
    args = parse_settings(globals(), argv)
    at_least_one(vars(args), "max_requests_per_file", "max_bytes_per_file")
    codebook = read_codebook(args.prompt_file)
    files = request_files(args.requests_file)
    requests = {request.custom_id: request for request in read_requests(files)}
    print(f"read {files[0]}{' and shards' * (len(files) > 1)}: {len(requests):,} requests")
    if any(request.prompt != codebook.text for request in requests.values()):
        raise UserError(
            f"{files[0]} asks with another codebook than {args.prompt_file}: give --prompt-file "
            "that one, or run batch_infer_gen.py and have the comments labelled again"
        )
    outputs = (args.unlabeled_file, args.labeled_file, args.purged_file, args.errors_file)
    answers = answer_files(args.answers_file)
    outputs += (args.retry_file, args.confidence_file, args.record_file)
    check_outputs(outputs, inputs=[*files, *answers, args.corrections])

    lines = tqdm(read_answers(answers, codebook), unit="answer")
    outcomes, repeats, strays = gather(lines, requests)
    total = sum(map(len, [strays, *outcomes.values(), *repeats.values()]))
    print(f"read {', '.join(map(str, answers))}: {total:,} answers")
    if not outcomes:
        raise UserError(
            f"{answers[0]}: none of its {total:,} answers belongs to a request of "
            f"{args.requests_file}: check that both come from the same run of batch_infer_gen.py"
        )

    together = {custom_id: own + repeats.get(custom_id, []) for custom_id, own in outcomes.items()}
    if args.majority_vote:
        labels = {custom_id: majority(several) for custom_id, several in together.items()}
    else:
        labels = {custom_id: reduce(merge, own) for custom_id, own in outcomes.items()}
    corrections = read_corrections(args.corrections, args.corrections_file, requests, codebook)
    corrected = correct(labels, corrections)
    rows = [(request, labels.get(request.custom_id, MISSING)) for request in requests.values()]
    table = pd.DataFrame(
        [(request.custom_id, clean_text(request.message), out.label) for request, out in rows],
        columns=["custom_id", "message", "class"],
    )
    failed = [(request, out) for request, out in rows if out.label < 0]
    to_send = [(request, out) for request, out in failed if out.form not in UNDECIDED]
    errors = [(request.custom_id, out.form, out.reply) for request, out in failed] + strays
    errors = [(custom_id, reason, clean_text(reply)) for custom_id, reason, reply in errors]
    write_csv(table.assign(**{"class": -1}), args.unlabeled_file)
    write_csv(table, args.labeled_file)
    write_csv(table[table["class"] >= 0], args.purged_file)
    write_csv(pd.DataFrame(errors, columns=["custom_id", "reason", "reply"]), args.errors_file)
    retries = write_shards(
        (request.line for request, _ in to_send),
        args.retry_file,
        args.max_requests_per_file,
        args.max_bytes_per_file,
    )
    print(f"wrote {', '.join(map(str, retries))}: {len(to_send):,} requests")
    if any(out.probabilities for _, out in rows):
        sure = confidence_table(requests, [out for _, out in rows], codebook.names)
        write_csv(sure, args.confidence_file)
    asked_again = [together.get(custom_id, []) for custom_id in repeats]
    record = describe_labels([out for _, out in rows], next(iter(requests.values())), asked_again)
    counts = table["class"].value_counts()
    record |= {
        "classes": {name: int(counts.get(k, 0)) for k, name in enumerate(codebook.names)},
        "corrected": corrected,
        "majority_vote": args.majority_vote,
        "duplicates": sum(len(own) - 1 for own in outcomes.values()),
        "strays": len(strays),
        "codebook_sha256": codebook.sha256,
        "class_names": list(codebook.names),
    }
    write_json(record, args.record_file)
    if args.corrections:
        write_corrections(corrections, requests, args.corrections_file, codebook)
    print_summary(record)


if __name__ == "__main__":
    run(main)
