"""A handful of the kills of `python -m tests.kills`."""

import re
import subprocess
import sys

import pytest
from conftest import ROOT


@pytest.mark.slow
@pytest.mark.torch
def test_what_was_killed_and_started_again_leaves_what_an_uninterrupted_run_leaves():
    only = "bert_tune.py,local_inference.py,bert_tune_eval.py"
    done = subprocess.run(
        [sys.executable, "-m", "tests.kills", "--times", "6", "--preloaded", "--only", only],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    assert re.search(r"^6 kills, 0 differences", done.stdout, re.MULTILINE)
