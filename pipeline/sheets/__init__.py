"""Spreadsheets: read whatever people have, write those that people fill in.

May import common.
"""
