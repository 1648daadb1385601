"""The page and the methods text, and a page of label sets, from what other steps left on disk.

A picture is drawn in evaluation, described in page.py and placed in page.html.jinja. A sentence
for a paper goes to methods.py, its source to references.py; study.py reads the files, status.py
says what is done. Label sets are compared in set_comparison.py, with people in set_people.py.
May import audit, corpus and below.
"""
