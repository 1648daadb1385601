"""Silver labels from a teacher, a large LLM: requests, what was sent and paid, answers as labels.

A provider that is called in another way goes to provider.py, the two ways to send to
send_batches.py and send_singly.py; what an answer means is decided in outcomes.py.
May import models and below.
"""
