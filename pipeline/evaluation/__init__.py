"""Scores of runs: metrics, texts, plots, calibration, comparison of models.

May import sheets, common.
"""
