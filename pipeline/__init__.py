"""What two or more of the top-level scripts share."""

import logging
import os
import warnings

# Read by the libraries when they are first imported, hence here.
# Threads that spin while they wait make two processes on two cores five times slower than one after
# the other; threads that sleep cost a process alone little.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
# The Trainer would spread a model over every visible GPU; these scripts are made for one.
if "LOCAL_RANK" not in os.environ:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "0")
    os.environ["CUDA_VISIBLE_DEVICES"] = visible.split(",")[0]

# Notices that the libraries address to each other's developers.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
