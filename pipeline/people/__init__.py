"""What people code by hand: the sample drawn for them, their agreement, the errors they find.

A new figure of coders or of silver labels goes to agreement.py or label_quality.py, its words to
score_text.py; waiting.py says whose sheets are not coded yet. The spreadsheets themselves are
written and read by sheets.
May import models and below.
"""
