"""Labels that are probably wrong, and near-duplicates that disagree, as a list for people.

Another way to find wrong labels goes here; reading the corrections back is labelling's.
May import coding and below.
"""
