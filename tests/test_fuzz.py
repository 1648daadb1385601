"""The targets of the fuzzer hold on their seeds, and on seeds with some bytes changed."""

import random

import pytest

from tests.fuzz_targets import SEEDS, TARGETS, WORDS, run_target

CHANGES = 40  # of each seed


def changed(seed, rng):
    """Return a seed with some bytes put in, taken out or doubled."""
    data = bytearray(seed)
    for _ in range(rng.randint(1, 6)):
        start = rng.randrange(len(data) + 1)
        end = start + rng.choice([0, 1, 1, 2, 20])
        new = rng.choice([bytes([rng.randrange(256)]), data[start:end] * 2, b"", b'"', b"\n", b"9"])
        data[start:end] = new
    return bytes(data)


@pytest.mark.parametrize("name", TARGETS)
def test_a_target_holds_on_its_seeds_and_on_changed_ones(name):
    rng = random.Random(name)
    for seed in [b"", *SEEDS[name]]:
        run_target(TARGETS[name], seed)
        for _ in range(CHANGES):
            run_target(TARGETS[name], changed(seed, rng))


def test_each_target_has_seeds_and_words():
    assert SEEDS.keys() == WORDS.keys() == TARGETS.keys()
