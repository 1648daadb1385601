"""What it costs that the teacher codes a row, as labelling recorded it, or by estimate."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from pipeline.common.codebook import Codebook
from pipeline.labelling.ledger import read_jobs
from pipeline.labelling.price import Estimate, estimate_tokens

BILLED = ("answered", "prompt_tokens", "completion_tokens", "cost")  # what a job's counts may have


def price_per_row(
    state_file: str,
    messages: Sequence[str],
    codebook: Codebook,
    price_in: float,
    price_out: float,
) -> tuple[float, str]:
    """Return what the teacher takes for a row, in yuan, and where that comes from.

    It is what the provider reports, or the tokens that it counted, of the requests that were
    answered by now, at so much per million; where nothing was sent, an estimate from some of the
    rows' `messages`.
    """
    _, jobs = read_jobs(Path(state_file), "restore it") if Path(state_file).is_file() else ("", [])
    sums: Counter[str] = Counter()
    for job in jobs:
        counts = {name: job.counts.get(name, 0) for name in BILLED}
        if counts["answered"] and (counts["cost"] or counts["prompt_tokens"]):
            sums.update(counts)
            sums["priced"] += (
                counts["cost"]
                or (counts["prompt_tokens"] * price_in + counts["completion_tokens"] * price_out)
                / 1e6
            )
    if sums["answered"]:
        return sums["priced"] / sums["answered"], f"of {sums['answered']:,} answers in {state_file}"
    estimate, prompt_tokens = Estimate(), estimate_tokens(codebook.text)
    for message in messages:
        estimate.add(prompt_tokens, message, 0)
    return (
        estimate.price(price_in, price_out) / estimate.count,
        f"an estimate from {estimate.count:,} comments",
    )
