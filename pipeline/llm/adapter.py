"""What `finetune.py` leaves beside an adapter: record, decision files, README, a merged model."""

import shutil
from pathlib import Path

import pandas as pd
import torch
from transformers import PreTrainedTokenizerBase

from pipeline.common.codebook import Codebook
from pipeline.common.files import read_json, write_json, write_text
from pipeline.common.processes import is_main_process
from pipeline.evaluation.learned import warning_text
from pipeline.llm.decision import SERVE, save_decision
from pipeline.llm.loading import load_model, load_tokenizer
from pipeline.llm.prompt import Prompt, build_prompt
from pipeline.models.folder import RECORD
from pipeline.models.training import save_final, training_record

CARD = """---
base_model: {base}
library_name: peft
pipeline_tag: text-generation
tags:
- lora
- text-classification
---

# Comment coding: {classes}

A LoRA adapter of `{base}` that codes a comment into one of {num_classes} classes. It answers with
the class's number in brackets, as its codebook asks:

{codebook}

## Validation

| measure | value |
| --- | --- |
| rows | {rows} |
| accuracy | {accuracy:.4f} |
| macro F1 | {macro_f1:.4f} |
| expected calibration error | {ece:.4f} |
| the same at temperature {temperature:.3f}, which was fitted on these rows | {scaled_ece:.4f} |

They are agreement with the labels of the validation file, after epoch {epochs:.0f} (the best by
accuracy), and say nothing about agreement with people.
{warning}
## Training

{training}

## Use

`posttune_eval.py` scores a CSV of comments with it. `decision.json`, `decision_template.jinja` and
`decision_serve.json` make it a decision model: transformers' `pipeline("decision")` and
`transformers serve` give the classes' probabilities.
"""


def adapter_record(
    codebook: Codebook,
    model_path: str,
    files: tuple[str, str],
    rows: tuple[pd.DataFrame, pd.DataFrame],
    settings: dict,
) -> dict:
    """Return `training_record`'s record with the hash of all tokens of a row but the comment's."""
    prompt = build_prompt(load_tokenizer(model_path), codebook)
    record = training_record(codebook, model_path, files, rows, settings)
    return record | {"prompt_sha256": prompt.sha256}


def finish_adapter(
    tokenizer: PreTrainedTokenizerBase,
    codebook: Codebook,
    prompt: Prompt,
    folder: Path,
    record: dict,
) -> None:
    """Write decision-model files and README.md, from the record of a finished training.

    `folder` is written beside its place, `final_model`.
    """
    validation, settings = record["validation"], record["settings"]
    place = folder.with_name("final_model")
    reason = save_decision(folder, tokenizer, codebook, prompt, validation["temperature"], place)
    if reason:
        print(f"no decision.json beside the adapter: {reason}")

    write_text(
        CARD.format(
            base=settings["model_path"],
            classes=", ".join(codebook.names),
            num_classes=len(codebook.names),
            codebook="\n".join(f"    {line}".rstrip() for line in codebook.text.splitlines()),
            rows=f"{record['num_rows']['validation']:,}",
            accuracy=validation["accuracy"],
            macro_f1=validation["macro_f1"],
            ece=validation["ece"],
            temperature=validation["temperature"],
            scaled_ece=validation["ece_with_temperature"],
            epochs=validation["epoch"],
            warning=f"\n{warning}" if (warning := warning_text(validation)) else "",
            training="\n".join(
                f"- {name}: {settings[name]}"
                for name in sorted(settings)
                if not name.endswith(("_file", "_dir", "_path"))
            ),
        ),
        folder / "README.md",
    )


def merge_adapter(model_path: str, output_dir: str) -> None:
    """Write base and adapter as one model in bfloat16, with all that lies beside the adapter.

    The adapter is `final_model` in `output_dir`, the model `merged_model` beside it. The base is
    loaded unquantized, on the CPU. Of several processes the main one does it.
    """
    if not is_main_process():
        return
    adapter, folder = (Path(output_dir) / name for name in ("final_model", "merged_model"))
    cpu = torch.device("cpu")
    model = load_model(model_path, False, str(adapter), torch.bfloat16, cpu).merge_and_unload()
    generation = Path(model_path) / "generation_config.json"

    def save(scratch: str) -> None:
        model.save_pretrained(scratch)
        load_tokenizer(model_path).save_pretrained(scratch)
        if generation.is_file():
            shutil.copy(generation, scratch)
        for name in ("decision.json", "decision_template.jinja"):
            if (adapter / name).is_file():
                shutil.copy(adapter / name, scratch)
        if (adapter / SERVE).is_file():
            served = read_json(adapter / SERVE, "run finetune.py again")
            write_json(served | {"adapter": None}, Path(scratch) / SERVE)

    save_final(folder, read_json(adapter / RECORD, "run finetune.py again"), save)
    print(f"wrote {folder}: base and adapter as one model, bfloat16")
