"""Model folders as they are downloaded, and what the trainings of llm and bert share.

A check of a folder before it is loaded goes to folder.py; what is of one kind of model only goes
to llm or bert.
May import evaluation and below.
"""
