"""Silver labels: requests to a teacher, its answers, what they say.

May import models and below.
"""
