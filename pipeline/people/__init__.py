"""The human check: draw a sample, read what people coded, score it.

May import models and below.
"""
