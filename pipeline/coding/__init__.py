"""The whole spreadsheet coded: by a tuned model, the teacher and people, by a plan.

`model.py` is the one interface of all tuned models, here and on a server. The workbook is written
in sheets.
May import planning and below.
"""
