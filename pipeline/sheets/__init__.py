"""Spreadsheets: those that people have (.xlsx, .xls, .ods, .csv), and those that they fill in.

Another file format is read in reading.py.
May import common.
"""
