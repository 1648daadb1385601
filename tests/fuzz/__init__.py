"""Coverage-guided fuzzing of the readers: `python -m tests.fuzz replies --minutes 10`.

The targets are plain functions of bytes (targets.py) and need no fuzzer; __main__.py gives them to
atheris, which runs on Linux alone and is installed by hand.
"""
