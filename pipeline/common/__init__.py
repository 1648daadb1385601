"""What every step uses: command line, files, codebook, replies, rows, splits, the machine.

A setting becomes an option in cli.py; columns are checked in files.py; a form of reply that counts
as a class is recognised in replies.py.
Imports no other room.
"""
