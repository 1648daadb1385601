"""Labels that are probably wrong, for people to look at.

May import bert, people and below.
"""
