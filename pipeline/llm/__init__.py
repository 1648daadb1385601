"""Causal language models: prompts, packs, scoring, generation, QLoRA.

May import models and below.
"""
