"""`make quick` leaves out what imports torch, and fails where a test that it runs does."""

import os
import subprocess
import sys
from pathlib import Path

from conftest import ROOT

TESTS = {
    "test_data.py": "def test_of_data():\n    assert True\n",
    "test_lazy.py": "def test_that_comes_to_torch():\n    import torch\n",
    "test_model.py": "import torch\n\ndef test_of_a_model():\n    assert False\n",
    "test_tiny.py": "def test_of_a_tiny_model(tiny_bert):\n    assert False\n",
    "test_marked.py": "import pytest\n\n@pytest.mark.torch\ndef test_m():\n    import torch\n",
}


def run(*arguments):
    """Run pytest on these tests, with this project's settings and fixtures."""
    for name in ("pytest.ini", "prompt.txt", "tests/conftest.py"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_bytes((ROOT / name).read_bytes())
    for name, source in TESTS.items():
        Path("tests", name).write_text(source, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    return done.stdout


def test_a_quick_test_that_imports_torch_fails_at_that_line():
    out = run("-m", "not torch")
    assert "tests/test_lazy.py:2:" in out
    assert "ImportError: a test that imports torch needs the marker torch" in out
    assert out.splitlines()[-1].startswith("1 failed, 1 passed, 2 deselected in")


def test_a_test_without_the_marker_fails_where_it_is_run_alone_too():
    out = run("tests/test_lazy.py")
    assert "ImportError: a test that imports torch needs the marker torch" in out
    assert out.splitlines()[-1].startswith("1 failed in")
