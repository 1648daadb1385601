"""Encoders of the BERT family: probe, fine-tuning, evaluation.

May import models and below.
"""
