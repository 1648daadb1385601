"""Model folders, and what both trainings share.

May import evaluation, sheets, common.
"""
