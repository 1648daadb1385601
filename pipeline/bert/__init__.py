"""Encoders such as bert-base-chinese: a linear probe before training, fine-tuning, evaluation.

Another encoder family is loaded in encoder.py, which alone knows how an encoder is built.
May import models and below.
"""
