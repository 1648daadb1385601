"""Sample: an online provider on this machine, over HTTP, in the formats of the real ones.

It knows files, batches and chat completions as OpenAI documents them, and what SiliconFlow does
otherwise: the upload's id inside `data`, `in_queue`, no counts before a batch runs. Its labels are
the true classes with some errors. Most answers are `[k]`; others are in another form, hold no
class, were filtered, refused or expired, came twice or never came.

Reads   TRUTH_FILE (from make_sample.py), PROMPT_FILE (the codebook)
Writes  URL_FILE, once the provider listens; it runs until it is stopped, or what started it is gone
Run     python -m pre_process.sample.provider
"""

import json
import os
import random
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from pipeline.common.cli import parse_settings, run
from pipeline.common.codebook import answer, read_codebook
from pipeline.common.files import JsonObject, write_text
from pipeline.common.rows import read_messages
from pipeline.labelling.ids import TRY
from pre_process.sample.replies import completion, failure, reply_of

# --------------------------------------------------------------------------------------------
TRUTH_FILE = "./demo/truth.csv"  # message, class; comments not in it get any class
PROMPT_FILE = "./prompt.txt"  # the codebook
URL_FILE = "./demo/provider.url"  # where the provider listens, for --base-url
ERROR_RATE = 0.08  # share of wrong labels, 0 to 1
POLLS = 2  # questions after a batch until it is done
SEED = 42  # same seed, same answers
# --------------------------------------------------------------------------------------------

# What becomes of a request, and its share; those after "twice" leave it without a label.
OUTCOMES = {
    "[k]": 0.920,
    "(k)": 0.020,
    "【k】": 0.010,
    "类别：k": 0.010,
    "[k] and why": 0.005,
    "twice": 0.005,
    "prose": 0.006,
    "out of range": 0.004,
    "cut": 0.004,
    "filtered": 0.004,
    "429": 0.004,
    "500": 0.002,
    "expired": 0.003,
    "missing": 0.003,
}


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_settings(globals(), argv)
    codebook = read_codebook(args.prompt_file)
    known = read_messages(args.truth_file, "make_sample.py", codebook)
    known = known[known["class"] >= 0]
    truth = dict(zip(known["message"], known["class"], strict=True))
    coder = teacher(truth, len(codebook.names), args.error_rate, args.seed)
    with Provider(coder, args.polls) as provider:
        write_text(provider.url + "\n", args.url_file)
        print(f"listening at {provider.url}")
        threading.Thread(target=stop_when_alone, args=(provider, os.getppid()), daemon=True).start()
        provider.serve_forever()


def stop_when_alone(provider: "Provider", parent: int) -> None:
    """Stop the provider once the process that started it is gone."""
    while os.getppid() == parent:
        time.sleep(0.2)
    provider.shutdown()


def teacher(
    truth: dict[str, int], num_labels: int, error_rate: float = 0.0, seed: int = 42
) -> Callable[[JsonObject, int], list[JsonObject]]:
    """Return what answers a request, asked for the n-th time: 0, 1 or 2 lines of a batch's files.

    `truth` maps messages to classes. A row's answers depend on its message, `n` and the seed alone.
    """
    shares = [1 + list(truth.values()).count(k) for k in range(num_labels)]

    def answers(request: JsonObject, times: int) -> list[JsonObject]:
        custom_id = request["custom_id"]
        rng = random.Random(f"{seed} {custom_id.partition('-')[2]} {times}")
        message = request["body"]["messages"][-1]["content"]
        label = truth.get(message, rng.randrange(num_labels))
        if rng.random() < error_rate:
            others = [k for k in range(num_labels) if k != label]
            [label] = rng.choices(others, [shares[k] for k in others])
        [outcome] = rng.choices(list(OUTCOMES), list(OUTCOMES.values()))
        if outcome == "missing":
            return []
        if outcome in ("429", "500", "expired"):
            return [failure(custom_id, outcome, rng)]
        record = completion(request, *reply_of(outcome, label, num_labels, rng), num_labels, rng)
        return [record] * (2 if outcome == "twice" else 1)

    return answers


def always(label: int, num_labels: int = 4) -> Callable[[JsonObject, int], list[JsonObject]]:
    """Return what answers every request with one class."""

    def answers(request: JsonObject, times: int) -> list[JsonObject]:
        rng = random.Random(f"{request['custom_id']} {times}")
        return [completion(request, answer(label), "stop", num_labels, rng)]

    return answers


class Provider(ThreadingHTTPServer):
    """A provider on loopback; `charged` counts how often each row was answered, and paid for.

    `answers` maps a request and how often it came to lines of the batch format. What goes wrong is
    asked for: `fault` for calls; `endings` for the batches to come ("failed", "expired",
    "cancelled", "errors only", or "late" and "short", which end well, but show no output file, or
    half of it, for `polls` questions more); `most` for how many batches it takes at once, and
    `refuses` for how it says so ("429", or "failed": the batch fails); `wrapped` for SiliconFlow's
    form.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self,
        answers: Callable[[JsonObject, int], list[JsonObject]],
        polls: int = 1,
        wrapped: bool = True,
    ) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/v1"
        self.answers, self.polls, self.wrapped = answers, polls, wrapped
        self.files: dict[str, tuple[str, bytes]] = {}
        self.batches: dict[str, JsonObject] = {}
        self.endings: list[str] = []
        self.most, self.refuses = 10**6, "429"
        self.faults: list[list] = []
        self.charged: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()
        self.lock = threading.RLock()

    def handle_error(self, request, client_address) -> None:
        """Keep quiet of callers that went away."""

    def fault(self, call: str, action: str, times: int = 1) -> None:
        """Let the next calls that match a pattern, such as `POST /v1/files`, go wrong.

        `action` is a status with or without the seconds of a `Retry-After` ("429 0.2"), "drop"
        (the connection, before anything is done), "drop after", "cut" (it breaks after half of the
        answer), "short" (half of the answer as if it were all), "empty", "html", or "slow" and
        seconds.
        """
        self.faults.append([call, action, times])

    def fault_of(self, call: str) -> str:
        """Return the action that a call meets, or ""."""
        with self.lock:
            self.calls[re.sub(r"(file|batch)-\w+", r"\1", call)] += 1
            for fault in self.faults:
                if fault[2] and re.fullmatch(fault[0], call):
                    fault[2] -= 1
                    return fault[1]
        return ""

    def answer(self, request: JsonObject) -> list[JsonObject]:
        """Answer a request, and charge for it."""
        row = request["custom_id"].partition(TRY)[0]
        with self.lock:
            self.charged[row] += 1
            times = self.charged[row]
        return self.answers(request, times)

    def store(self, name: str, content: bytes) -> JsonObject:
        """Keep a file; return its description."""
        file_id = f"file-{len(self.files):06d}"
        self.files[file_id] = (name, content)
        return self.description_of(file_id)

    def description_of(self, file_id: str) -> JsonObject:
        """Return what the API says of a file."""
        name, content = self.files[file_id]
        return {
            "id": file_id,
            "object": "file",
            "filename": name,
            "bytes": len(content),
            "purpose": "batch",
            "created_at": 1735689600,
            "status": "processed",
        }

    @property
    def under_way(self) -> int:
        """How many batches have not ended."""
        ended = ("completed", "failed", "expired", "cancelled")
        return sum(batch["status"] not in ended for batch in self.batches.values())

    def create(self, asked: JsonObject) -> JsonObject:
        """Start a batch."""
        full = self.under_way >= self.most
        if full and self.refuses == "429":
            message = "Maximum number of batches in progress reached"
            return {"status_code": 429, "error": {"message": message, "code": "batch_limit"}}
        lines = self.files[asked["input_file_id"]][1].splitlines()
        batch = {
            "id": f"batch-{len(self.batches):06d}",
            "object": "batch",
            "endpoint": asked["endpoint"],
            "errors": None,
            "input_file_id": asked["input_file_id"],
            "completion_window": asked["completion_window"],
            "status": "in_queue" if self.wrapped else "validating",
            "output_file_id": None,
            "error_file_id": None,
            "created_at": 1735689600 + len(self.batches),
            "request_counts": None,
            "metadata": asked.get("metadata"),
            "replace": asked.get("replace"),
            "polls": self.polls,
            "ending": self.endings.pop(0) if self.endings else "completed",
            "full": full,
            "beside": self.under_way,
        }
        self.batches[batch["id"]] = batch
        batch["ending"] = "failed" if full else batch["ending"]
        if batch["ending"] != "failed":
            requests = [json.loads(line) for line in lines]
            if batch["ending"] in ("expired", "cancelled"):
                requests = requests[: len(requests) // 2]
            replaced = (asked.get("replace") or {}).get("model")
            for request in requests if replaced else []:
                request["body"]["model"] = replaced
            batch["answers"] = [self.answer(request) for request in requests]
            if batch["ending"] == "errors only":
                batch["answers"] = [
                    [failure(request["custom_id"], "500", random.Random(0))] for request in requests
                ]
        batch["total"] = len(lines)
        return batch

    def go_on(self, batch: JsonObject) -> JsonObject:
        """Let a batch go on by one step."""
        batch["polls"] -= 1
        counts = {"total": batch["total"], "completed": 0, "failed": 0}
        if batch["polls"] > 0:
            return batch | {"status": "in_progress", "request_counts": counts}
        if batch["status"] not in ("failed", "expired", "cancelled", "completed"):
            self.finish(batch, counts)
        if batch["polls"] > -self.polls:
            return batch | batch.get("at first", {})
        return batch

    def finish(self, batch: JsonObject, counts: dict[str, int]) -> None:
        """End a batch: its answers in shuffled files, or the reason why there are none."""
        early = ("failed", "expired", "cancelled")
        batch["status"] = batch["ending"] if batch["ending"] in early else "completed"
        if batch["ending"] == "failed":
            reason = {"code": "invalid_json_line", "line": 2, "message": "This line is not JSON."}
            if batch["full"]:
                message = "Enqueued token limit reached for this model in your organization."
                reason = {"code": "token_limit_exceeded", "line": None, "message": message}
            batch["errors"] = {"object": "list", "data": [reason]}
            return
        records = [record for answers in batch.pop("answers") for record in answers]
        random.Random(batch["id"]).shuffle(records)
        good = [r for r in records if (r["response"] or {}).get("status_code") == 200]
        bad = [r for r in records if r not in good] if len(good) < len(records) else []
        counts |= {"completed": len(good), "failed": len(bad)}
        batch["request_counts"] = counts
        for key, part in (("output_file_id", good), ("error_file_id", bad)):
            text = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in part)
            empty = "" if self.wrapped else None
            batch[key] = self.store(f"{key}.jsonl", text.encode())["id"] if part else empty
        if batch["ending"] == "late":
            batch["at first"] = {"output_file_id": None, "error_file_id": None}
        if batch["ending"] == "short":
            half = b"".join(self.files[batch["output_file_id"]][1].splitlines(True)[::2])
            batch["at first"] = {"output_file_id": self.store("output_file_id.jsonl", half)["id"]}


class Handler(BaseHTTPRequestHandler):
    """A call to a `Provider`."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or each reply waits 40 ms between its head and its body
    server: Provider

    def do_GET(self) -> None:
        self.call(self.get)

    def do_POST(self) -> None:
        self.call(self.post)

    def call(self, serve: Callable[[str, bytes], Any]) -> None:
        """Serve a call, or let it go wrong as was asked for."""
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = self.path.partition("?")[0]
        fault = self.server.fault_of(f"{self.command} {path}")
        action, seconds = re.fullmatch(r"(.*?)(?: ([\d.]+))?", fault).groups("")
        if action == "drop":
            self.close_connection = True
            return
        if action.isdigit():
            key = self.headers.get("Authorization", "")
            error = {"message": f"status {action}; you sent {key}", "code": f"code_{action}"}
            self.reply({"error": error}, int(action), {"Retry-After": seconds} if seconds else {})
            return
        if action == "slow":
            time.sleep(float(seconds))
        with self.server.lock:
            result = serve(path, content)
        if action == "drop after":
            self.close_connection = True
        elif result is None:
            self.reply({"error": {"message": f"no {path} here", "code": "not_found"}}, 404)
        else:
            status = result.pop("status_code", 200) if isinstance(result, dict) else 200
            match action:
                case "short":
                    result = result[: len(result) // 2]
                case "empty":
                    result = b""
                case "html":
                    result = b"<html>welcome</html>"
            self.reply(result, status, cut=action == "cut")

    def get(self, path: str, content: bytes) -> Any:
        """Return what a GET asks for: a JSON value or a file's bytes."""
        match path.split("/")[2:]:
            case ["files"] if not self.server.wrapped or "purpose=batch" in self.path:
                files = [self.server.description_of(file) for file in self.server.files]
                listing = {"object": "list", "data": files}
                return {"code": 20000, "data": listing} if self.server.wrapped else listing
            case ["files", file_id, "content"] if file_id in self.server.files:
                return self.server.files[file_id][1]
            case ["batches"]:
                return {
                    "object": "list",
                    "data": [visible(batch) for batch in self.server.batches.values()],
                    "has_more": False,
                }
            case ["batches", batch_id] if batch_id in self.server.batches:
                return visible(self.server.go_on(self.server.batches[batch_id]))

    def post(self, path: str, content: bytes) -> Any:
        """Do what a POST asks for."""
        match path.split("/")[2:]:
            case ["files"]:
                name, content = upload_of(content, self.headers["Content-Type"])
                file = self.server.store(name, content)
                return {"code": 20000, "data": file} if self.server.wrapped else file
            case ["batches"]:
                return visible(self.server.create(json.loads(content)))
            case ["chat", "completions"]:
                body = json.loads(content)
                message = body["messages"][-1]["content"]
                request = {"custom_id": f"chat {message}", "body": body}
                [*records] = self.server.answer(request)
                record = records[0] if records else failure("", "500", random.Random(0))
                response = record["response"] or {"status_code": 500, "body": {}}
                return response["body"] | {"status_code": response["status_code"]}

    def reply(
        self, result: Any, status: int = 200, headers: dict | None = None, cut: bool = False
    ) -> None:
        """Send a JSON value or bytes; with `cut` the connection breaks in the middle."""
        content = result if isinstance(result, bytes) else json.dumps(result).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if cut else content)
        self.close_connection = self.close_connection or cut

    def log_message(self, *args) -> None:
        """Keep quiet."""


def visible(batch: JsonObject) -> JsonObject:
    """Return what the API says of a batch."""
    hidden = ("polls", "ending", "answers", "total", "full", "beside", "at first")
    return {key: value for key, value in batch.items() if key not in hidden}


def upload_of(content: bytes, content_type: str) -> tuple[str, bytes]:
    """Return name and content of the file in a multipart form."""
    boundary = b"--" + content_type.partition("boundary=")[2].encode()
    for part in content.split(boundary):
        head, _, body = part.partition(b"\r\n\r\n")
        if name := re.search(rb'filename="([^"]*)"', head):
            return name[1].decode(), body.removesuffix(b"\r\n")
    raise ValueError("no file in the form")


if __name__ == "__main__":
    run(main)
