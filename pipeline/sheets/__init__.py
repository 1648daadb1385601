"""Spreadsheets: those that people have (.xlsx, .xls, .ods, .csv), and those that they fill in.

Another file format is read in reading.py, another encoding of a .csv in encoding.py.
May import common.
"""
