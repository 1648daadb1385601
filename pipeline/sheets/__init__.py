"""Spreadsheets: those that people have (.xlsx, .xls, .ods, .csv), fill in, and get back coded.

Another file format is read in reading.py, another encoding of a .csv in encoding.py; a large .xlsx
is streamed by large_xlsx.py, and messages.py makes the rows of step 1. coded_book.py writes a
spreadsheet back with new columns, in its own format.
May import common.
"""
