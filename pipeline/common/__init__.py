"""What every step uses: command line, files, codebook, replies, rows, machine.

Imports no other room.
"""
