"""Benchmarks: each module is one command, see README.md."""

import os

os.environ.setdefault("TQDM_DISABLE", "1")  # the engine's bars would run through the tables
