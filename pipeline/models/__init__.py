"""Model folders as they are downloaded, and what llm and bert share: training, rows in batches.

A check of a folder before it is loaded goes to folder.py; what is of one kind of model only goes
to llm or bert.
May import evaluation and below.
"""
