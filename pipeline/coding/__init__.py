"""The whole spreadsheet or corpus coded: by a tuned model, the teacher and people, by a plan.

`model.py` is the one interface of all tuned models; a way to run it over more rows, or on another
machine, goes beside it. Who codes what is planned here; sheets are written in sheets.
May import llm, bert, people, labelling and below.
"""
