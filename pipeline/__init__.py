"""What the top-level scripts share, in thirteen rooms. A room may import only those below it.

report      the page and the methods text
audit       labels that are probably wrong
corpus      a folder of tables coded, also by Ray
coding      the whole spreadsheet coded, by models, the teacher and people
planning    who codes what, and how many labels are enough
llm         causal language models: prompts, packs, scoring, QLoRA
bert        encoders: probe, fine-tuning
people      the sample that people code, and what they found
labelling   silver labels from a teacher: requests, payments, answers
models      model folders, and what both trainings share
evaluation  metrics, runs, models side by side
sheets      spreadsheets
common      command line, files, codebook, replies, machine

Rooms that do not import each other: audit and corpus; llm, bert, people and labelling. The order is
held by .importlinter.
"""

import logging
import os
import warnings

# Read by the libraries when they are first imported, hence here.
# An OpenMP thread that waits keeps its core busy, which slows a second training on the same cores.
# After this many rounds it sleeps, which costs a training alone little.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
# bitsandbytes hands functions that are not used here to torch.compile, whose import takes a second.
os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")

# Notices that are for the developers of other libraries, not for users.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
