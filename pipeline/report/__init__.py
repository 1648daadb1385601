"""The page and the methods text, written from what the other steps left on disk.

A picture is drawn in evaluation, described in page.py and placed in page.html.jinja. A sentence
for a paper goes to methods.py, its source to references.py; study.py reads the files. What
`make status` says of a study stands in status.py.
May import llm, bert, people, labelling and below.
"""
