"""Tests, a module per step or room, and `python -m tests.kills`."""
