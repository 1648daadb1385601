"""Plans: who codes which rows at what accuracy and price, and what more labels would bring.

A rule for leaving rows to the model goes to `routing.py`, a way to choose rows to label to
`active.py`. Applying a plan to coded rows is coding's.
May import llm, bert, people, labelling and below.
"""
