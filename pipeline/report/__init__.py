"""The page and the methods text, from what the steps left.

May import people and below.
"""
