"""Silver labels: requests to a teacher, its answers, and the label that they give each row.

May import models and below.
"""
