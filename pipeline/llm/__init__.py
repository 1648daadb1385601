"""Causal language models such as Qwen2.5: before training, by QLoRA, after it.

Prompts as tokens (prompt.py), many rows in one sequence (packing.py), class probabilities
(scoring.py) or text (generating.py), training, and what an adapter's folder holds.
May import models and below.
"""
