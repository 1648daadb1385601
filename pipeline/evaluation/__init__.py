"""How good predictions are: a run's metrics and files, and models side by side.

A new metric goes to metrics.py, a new picture to plots.py, a new test between models to
comparison.py. Nothing here loads a model: predictions come as tables.
May import sheets and below.
"""
