"""What requests will cost, by estimate, and what they did cost, as the provider says."""

import json
import re
from collections import Counter
from dataclasses import dataclass

from pipeline.common.cli import UserError
from pipeline.common.codebook import answer
from pipeline.common.files import JsonObject
from pipeline.labelling.ledger import Job, Ledger
from pipeline.labelling.request_lines import Request
from pipeline.labelling.requests import Requests

CHINESE = re.compile(r"[\u2e80-\u9fff\uf900-\ufaff\uff00-\uffef]+")


def print_plan(
    ledger: Ledger,
    new: list[Job],
    requests: Requests,
    mode: str,
    price_in: float,
    price_out: float,
) -> None:
    """Print what is under way, what is to be sent, and what that will cost."""
    if sent := sum(job.rows for job in ledger.open_jobs if job not in new):
        print(f"{sent:,} requests are under way")
    if not new:
        print("no request is left to send")
        return
    ids = [custom_id for job in new for custom_id in ledger.ids_of(job)]
    print_request(next(requests.read(ids)))
    others = sorted({job.model for job in ledger.jobs if job.label_set != requests.label_set})
    if others and not ledger.jobs_of(requests.label_set)[len(new) :]:
        print(
            f"the labels so far are by another codebook or model ({', '.join(others)}): they are "
            "kept, and these requests are labelled anew"
        )
    print(f"{len(ids):,} requests to send to {ledger.base_url} ({mode} mode)")
    estimate, prompt_tokens = Estimate(), estimate_tokens(requests.prompt)
    for request in requests.read(ids):
        estimate.add(prompt_tokens, request.message, request.max_tokens)
    estimate.print(price_in, price_out)


def print_result(
    ledger: Ledger, refused: list[Job], requests: Requests, price_in: float, price_out: float
) -> None:
    """Print what came of the requests so far; stop with a line where batches were refused."""
    jobs = [job for job in ledger.jobs_of(requests.label_set) if job.file == requests.name]
    if counts := [job.counts for job in jobs if job.counts]:
        print_outcome(counts, price_in, price_out)
        print(f"wrote {ledger.answers_file}: run jsonl_to_csv.py, which says what to send again")
    if refused:
        raise UserError(
            f"refused by the provider: {len(refused)} of the batches, at no cost ({refused[0]}: "
            f"{refused[0].message}): correct the requests, or wait where it names a limit, and run "
            "this again"
        )


def print_request(request: Request) -> None:
    """Print one whole request."""
    print("The first request:")
    print(json.dumps(json.loads(request.line), ensure_ascii=False, indent=2))


@dataclass
class Estimate:
    """About how many tokens requests have; they are counted one by one."""

    count: int = 0
    tokens_in: float = 0
    most_out: int = 0

    def add(self, prompt_tokens: float, message: str, max_tokens: int) -> None:
        """Count a request; `prompt_tokens` is the `estimate_tokens` of its prompt."""
        self.count += 1
        self.tokens_in += prompt_tokens + estimate_tokens(message)
        self.most_out += max_tokens

    @property
    def tokens_out(self) -> int:
        """About how many tokens the answers have, if each is a class number in brackets."""
        return self.count * (len(answer(0)) + 1)

    def price(self, price_in: float, price_out: float) -> float:
        """Return the price at so much per million tokens."""
        return (self.tokens_in * price_in + self.tokens_out * price_out) / 1e6

    def print(self, price_in: float, price_out: float) -> None:
        """Print the tokens, and their price at so much per million tokens."""
        price, most = self.tokens_out * price_out / 1e6, self.most_out * price_out / 1e6
        print(
            f"  input  about {self.tokens_in:,.0f} tokens, "
            f"price {self.tokens_in * price_in / 1e6:,.2f}"
        )
        print(
            f"  output about {self.tokens_out:,} tokens, price {price:,.2f} "
            f"(at most {self.most_out:,} tokens, {most:,.2f})"
        )


def estimate_tokens(text: str) -> float:
    """Return about how many tokens a text has: 0.6 per Chinese character, 0.3 per other one.

    Source: DeepSeek's API documentation, "Token & Token Usage".
    """
    others = len(CHINESE.sub("", text))
    return 0.6 * (len(text) - others) + 0.3 * others


def print_outcome(counts: list[JsonObject], price_in: float, price_out: float) -> None:
    """Print the sum of what came of requests (`pipeline.labelling.answer_file.count_answers`)."""
    sums: Counter[str] = Counter()
    failed: Counter[str] = Counter()
    messages: dict[str, str] = {}
    for part in counts:
        failed.update(part["failed"])
        messages = part.get("messages", {}) | messages
        sums.update({name: n for name, n in part.items() if isinstance(n, int | float)})
    rows = sums["answered"] + failed.total() + sums["missing"]
    print(
        f"{sums['answered']:,} of {rows:,} requests were answered ({sums['answered'] / rows:.2%})"
    )
    for reason, number in failed.most_common():
        message = f" ({messages[reason]})" if messages.get(reason) else ""
        print(f"  {number:>9,}  failed: {reason}{message}")
    for name, words in (
        ("missing", "came back without an answer"),
        ("unknown", "answers belong to no request of these"),
        ("retried", "calls were tried again"),
    ):
        if sums[name]:
            print(f"  {sums[name]:>9,}  {words}")
    tokens_in, tokens_out = sums["prompt_tokens"], sums["completion_tokens"]
    price = (tokens_in * price_in + tokens_out * price_out) / 1e6
    print(f"  input {tokens_in:,} tokens, output {tokens_out:,} tokens, price {price:,.2f}", end="")
    print(f"; the provider reports {sums['cost']:,.4f}" if sums["cost"] else "")
