"""Spreadsheets: those that people have (.xlsx, .xls, .ods, .csv), and those that they fill in.

Another file format is read in reading.py, another encoding of a .csv in encoding.py; a large .xlsx
is streamed by large_xlsx.py, and messages.py makes the rows of step 1.
May import common.
"""
