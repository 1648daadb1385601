"""What is fuzzed: each target reads bytes as a file of one kind, and checks what came of them.

A target works in the folder it is run in. It may raise `UserError`, which `run_target` checks;
anything else is a crash.
"""

import io
import json
import re
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path

import excel_2_csv
from pipeline.common.cli import UserError
from pipeline.common.codebook import Codebook, parse_codebook, parse_label, read_codebook
from pipeline.common.examples import read_examples
from pipeline.common.files import clean_text
from pipeline.common.replies import parse_cut_reply, parse_reply
from pipeline.common.rows import read_messages
from pipeline.common.stored_rows import store_rows
from pipeline.labelling.answer_file import count_answers
from pipeline.labelling.ids import label_set_of, request_ids
from pipeline.labelling.ledger import Job, answers_to_read, open_ledger
from pipeline.labelling.outcomes import AnswerFiles
from pipeline.labelling.request_lines import request_line
from pipeline.labelling.requests import Requests, read_requests

PROMPT = "Which?\n[0] Positive: a\n[1] Mild: b\n[2] Negative: c\n[3] Irrelevant: d"
FOUR = parse_codebook("prompt.txt", PROMPT)
TEN = parse_codebook("prompt.txt", "\n".join(f"[{k}] kind {'abcdefghij'[k]}: x" for k in range(10)))
NO_LABEL = {"empty", "no_label", "ambiguous", "out_of_range", "length"}
BASE_URL = "https://example.com/v1"
PART = b"\n--\n"  # between the files of a target that has several
MODEL = "m"
LABEL_SET = label_set_of(PROMPT, MODEL)
IDS = request_ids(LABEL_SET, ["一", "b", "b"])
TOKEN = "0123456789abcdef"


def check_reply(reply: str, codebook: Codebook) -> None:
    parsed, cut = parse_reply(reply, codebook), parse_cut_reply(reply, codebook)
    for one in (parsed, cut):
        assert -1 <= one.label < len(codebook.names)
        assert one.form in ({"strict", "lenient"} if one.label >= 0 else NO_LABEL)
    assert cut.label in (-1, parsed.label)
    strict = re.fullmatch(r"\s*\[([0-9])\]\s*", reply)
    if strict and int(strict[1]) < len(codebook.names):
        assert (parsed.label, parsed.form) == (int(strict[1]), "strict")


def replies(data: bytes) -> None:
    """Any reply is a class of the codebook or has a reason; `[k]` is k."""
    reply = data.decode(errors="surrogateescape")
    check_reply(reply, FOUR)
    check_reply(reply, TEN)


def codebook(data: bytes) -> None:
    """A codebook has classes that are found by their numbers and names, and is read alike again."""
    Path("prompt.txt").write_bytes(data)
    found = read_codebook("prompt.txt")
    assert 2 <= len(found.names) <= 10
    for k, name in enumerate(found.names):
        assert parse_label(str(k), found) == k
        assert parse_label(name, found) in (k, -1, *range(len(found.names)))
        assert parse_reply(f"[{k}]", found).label == k
    for label, comment in found.examples:
        assert -1 <= label < len(found.names)
        assert comment == clean_text(comment) != ""
    Path("prompt.txt").write_text(found.text, encoding="utf-8", newline="\n")
    assert read_codebook("prompt.txt") == found
    for line in found.text.splitlines():
        read_examples(line)


def requests(data: bytes) -> None:
    """Requests have an id each, and are found by it in the file."""
    path = Path("requests.jsonl")
    path.write_bytes(data)
    found = list(read_requests([path]))
    assert len({one.custom_id for one in found}) == len(found)
    if found:
        ids = [one.custom_id for one in found][::-1]
        assert list(Requests([path]).read(ids)) == found[::-1]


def answers(data: bytes) -> None:
    """Each line of answers is one outcome, and none hides those behind it."""
    path, good = Path("answers.jsonl"), answer(IDS[0], "[2]")
    path.write_bytes(data + b"\n" + good)
    found = [pair[:2] for pair in AnswerFiles([path], FOUR)]
    lines = [line.removeprefix(b"\xef\xbb\xbf").strip() for line in data.split(b"\n")]
    assert len(found) == sum(map(bool, lines)) + 1
    assert (found[-1][0], found[-1][1].label) == (IDS[0], 2)
    for _, outcome in found:
        assert -1 <= outcome.label < 4
        assert all(p is None or 0 <= p <= 1 for p in outcome.probabilities)
        assert outcome.created >= 0
        (outcome.form + outcome.model).encode()
    counts = count_answers([*filter(None, lines), good], set(IDS))
    assert counts["answered"] + sum(counts["failed"].values()) + counts["missing"] == len(IDS)


def messages(data: bytes) -> None:
    """A CSV file has rows with an id and a message each, wherever they are read from."""
    Path("rows.csv").write_bytes(data)
    rows = read_messages("rows.csv", "excel_2_csv.py", FOUR)
    assert rows["custom_id"].is_unique and (rows["custom_id"] != "").all()
    assert rows["message"].map(lambda text: text == clean_text(text) != "").all()
    assert rows["class"].between(-1, 3).all()
    stored = store_rows("rows.csv", "excel_2_csv.py", FOUR)
    assert stored.messages(stored.frame.index[::-1]) == rows["message"].tolist()[::-1]


def comments(data: bytes) -> None:
    """A .csv of any program becomes rows with an id and a message each, or a line."""
    Path("comments.csv").write_bytes(data)
    excel_2_csv.main(
        ["--excel-file", "comments.csv", "--csv-file", "all.csv", "--simple-file", "simple.csv"]
    )
    rows = read_messages("simple.csv", "excel_2_csv.py", FOUR)
    assert rows["custom_id"].is_unique and (rows["message"] != "").all()


def ledger(data: bytes) -> None:
    """A ledger is read with its jobs, and saved as it was."""
    state, ids, lines = [*data.split(PART), b"", b""][:3]
    state_file, ids_file = Path("submit_batch.json"), Path(f"jobs/{TOKEN}.txt")
    ids_file.parent.mkdir(exist_ok=True)
    state_file.write_bytes(state)
    ids_file.write_bytes(ids)
    Path("answers.jsonl").write_bytes(lines)
    answers_to_read("answers.jsonl", state_file, "label_sets", LABEL_SET)
    place = state_file, BASE_URL, "answers.jsonl", "label_sets", LABEL_SET
    with open_ledger(*place) as found:
        jobs = list(found.jobs)
        assert set(map(id, found.open_jobs)) <= set(map(id, jobs))
        sent = [found.ids_of(job) for job in jobs if job.token == TOKEN]
        found.save()
    with open_ledger(*place) as again:
        assert again.jobs == jobs
        assert [again.ids_of(job) for job in jobs if job.token == TOKEN] == sent


TARGETS = {
    target.__name__: target
    for target in (replies, codebook, requests, answers, messages, comments, ledger)
}


def run_target(target: Callable[[bytes], None], data: bytes) -> None:
    """Run a target; what a user gets to read is one line, and not a long one."""
    try:
        with redirect_stdout(io.StringIO()):
            target(data)
    except UserError as error:
        assert str(error) == "".join(str(error).splitlines())
        assert 0 < len(str(error)) < 1_100


def answer(custom_id: str, content: str, **fields: object) -> bytes:
    """Return an answer with all that a provider may add."""
    tokens = [
        {"token": c, "logprob": -0.1, "top_logprobs": [{"token": "1", "logprob": -2.0}]}
        for c in content
    ]
    choice = {"index": 0, "finish_reason": "stop", "logprobs": {"content": tokens}}
    choice["message"] = {"role": "assistant", "content": content}
    body = {"choices": [choice], "created": 1_700_000_000, "model": MODEL}
    body["usage"] = {"prompt_tokens": 9, "completion_tokens": 3, "cost": 0.1}
    response = {"status_code": 200, "body": body | fields}
    return json.dumps({"custom_id": custom_id, "response": response, "error": None}).encode()


def failure(custom_id: str) -> bytes:
    """Return an answer that says why there is none."""
    error = {"code": "x", "message": "the context length is 1"}
    response = {"status_code": 400, "body": {"error": error}}
    return json.dumps({"custom_id": custom_id, "response": response}).encode()


def saved_ledger() -> bytes:
    """Return a ledger of a batch whose answers are there, its ids and its answers."""
    job = Job("r.jsonl", LABEL_SET, MODEL, 3, "batch", BASE_URL, {"model": MODEL}, token=TOKEN)
    job.end("completed", {"answered": 1, "failed": {"x": 1}, "missing": 1})
    other = Job("r.jsonl", LABEL_SET, MODEL, 3, "chat", BASE_URL, {}, token=TOKEN)
    state = {"answers_file": "answers.jsonl", "jobs": [vars(job), vars(other)]}
    lines = answer(IDS[0], "[1]") + b"\n" + failure(IDS[1])
    return PART.join([json.dumps(state).encode(), " ".join(IDS).encode(), lines])


def request_lines() -> bytes:
    body = {"model": MODEL, "max_tokens": 20}
    pairs = zip(IDS, ["一", "b", "b"], strict=True)
    return "".join(request_line(*pair, PROMPT, body) + "\n" for pair in pairs).encode()


NUMBERED = ("[0] ", "[1]: ", "[2]：", "\n", "\t", "“", "”", "'", "Example: ", "例：", "e.g. ", "- ")
JSON = ("{", "}", "[", "]", ", ", ": ", "null", "true", "1e999", "-1", "NaN", "\\ud83d", *IDS)
ANSWER = ("error", "code", "message", "response", "status_code", "body", "choices", "content")
ANSWER += ("finish_reason", "length", "logprobs", "top_logprobs", "token", "usage", "created")
CSV = ('"', '""', ",", ";", "\t", "\r", "\n", "\r\n", "custom_id", "message", "class", "comment")
WORDS: dict[str, tuple[str, ...]] = {  # for a fuzzer to put in
    "replies": (
        *(
            *NUMBERED,
            "class ",
            "label: ",
            "类别",
            "第",
            "类",
            "is ",
            " or ",
            "不是",
            "not ",
            "（1）",
        ),
        *("<think>", "</think>", "<|channel|>final<|message|>", "Positive", "Mild", "１", "kind c"),
    ),
    "codebook": NUMBERED,
    "requests": (*JSON, "custom_id", "model", "messages", "content", "max_tokens", "body", PROMPT),
    "answers": (*JSON, *ANSWER, "custom_id", "--repeat-1", "--try-2"),
    "messages": (*CSV, "coded_by", "coded_as", "weight", "human"),
    "comments": CSV,
    "ledger": (*JSON, *Job.__dataclass_fields__, "jobs", "answers_file", "collected", "sending"),
}
SEEDS: dict[str, list[bytes]] = {
    "replies": [
        text.encode()
        for text in (
            *(
                "[1]",
                " [3] because",
                "类别：１",
                "【2】",
                "Mild",
                "[0] or [1]",
                "(1)",
                "not class 2",
            ),
            *(
                "<think>[1]</think>[2]",
                "第3类",
                "class is 4",
                "[1] Mild: he",
                "[1, 2]",
                "answer: -1",
            ),
        )
    ],
    "codebook": [
        PROMPT.encode(),
        "[0] 好：x\n[1] 坏：y\n例：“甲”，“乙” [1]\nExamples:\n- one => [0]\n2. two".encode(),
        b"[0] a: x\n[1] b\n",
    ],
    "requests": [request_lines(), request_lines().replace(b"\n", b"\r\n\n", 1), b"{}"],
    "answers": [
        answer(IDS[0], "[1]") + b"\n" + failure(IDS[1]),
        answer(f"{IDS[0]}--repeat-1", "\ud83d [0]") + b"\n" + answer(f"{IDS[1]}--try-2", "Mild"),
        answer(IDS[2], "[1]", created=1e400, usage={"cost": "1"}, error={"type": "y"}),
    ],
    "messages": [
        b'\xef\xbb\xbf"custom_id","message","class"\n"a","x\ny","1"\r"b","""z""","-1"\r\n\n"",""\n',
        b"message,weight,coded_by,coded_as,class\nx,1.5,human,Mild,1\ny,2,,,\n",
    ],
    "comments": [
        b'comment,class\n"a\nb",1\n=1+1,x\n',
        "id;comment\n1;男女平等\n2;“好”\n".encode("gb18030"),
        "comment\tx\n\u00e9t\u00e9\t1\n".encode("utf-16"),
        "comment,x\nétait là, déjà\n".encode("cp1252"),
    ],
    "ledger": [saved_ledger(), b'{"answers_file": "a", "jobs": []}'],
}
