"""Training by two processes, as torchrun starts them: it ends as one process's of the same rows."""

import json
import os
import shutil
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from accelerate.commands.launch import launch_command_parser
from accelerate.utils.launch import prepare_simple_launcher_cmd_env
from conftest import ROOT, write_splits
from safetensors.torch import load_file

import bert_tune
import finetune
from pipeline.common.cli import UserError, run
from pipeline.models.training import claim_output, train_and_save

DRIVER = '''
"""Train by the scripts in calls.json, then by a trainer whose processes have their own folders."""

import importlib
import json
import shutil
from pathlib import Path

import pandas as pd
from safetensors.torch import save_file

import bert_tune
from pipeline.bert.training import bert_trainer
from pipeline.common import machine, processes
from pipeline.common.cli import run
from pipeline.common.codebook import read_codebook
from pipeline.models.shared_batches import SharedBatchTrainer
from pipeline.models.training import TrainingOptions, options_of


def train_in_own_folders(model, data):
    settings = {name.lower(): value for name, value in vars(bert_tune).items()}
    settings |= {"num_train_epochs": 2, "learning_rate": 1e-6, "logging_steps": 1}
    settings |= {"output_dir": f"own-{processes.process_index()}"}
    settings |= {"per_device_train_batch_size": 5}
    rows = [pd.read_csv(f"{data}/{name}.csv") for name in ("train", "validation")]
    options = options_of(TrainingOptions, settings)
    more = {"max_length": 64, "warmup_ratio": 0.1, "balanced": True}
    more |= {"freeze_word_embeddings": False}
    trainer = bert_trainer(model, read_codebook("prompt.txt"), *rows, options, **more)
    trainer.train()
    name = f"best-{processes.process_index()}.safetensors"
    save_file(trainer.model.state_dict(), name)


def main():
    machine.cpu_has_bf16 = lambda: False
    called = json.loads(Path("calls.json").read_text(encoding="utf-8"))
    *calls, refused = called["calls"]
    SharedBatchTrainer.end = lambda trainer: None  # another training follows
    for script, argv in calls:
        if "--resume" in argv and processes.is_main_process():
            shutil.copytree(called["resumed"], argv[-1])
            shutil.rmtree(f"{argv[-1]}/final_model")
            shutil.rmtree(f"{argv[-1]}/{called['last']}")
        importlib.import_module(script).main(argv)
    train_in_own_folders(called["model"], called["data"])
    importlib.import_module(refused[0]).main(refused[1])


run(main)
'''
SCRIPTS = {"bert": bert_tune, "adapter": finetune, "packs": finetune}


def arguments(data, model, output, rows, *more):
    """Return a training's arguments; `rows` are those of a batch in each process."""
    return [
        *["--model-path", str(model), "--num-train-epochs", "2", "--logging-steps", "1"],
        *["--train-file", f"{data}/train.csv", "--validation-file", f"{data}/validation.csv"],
        *["--per-device-train-batch-size", str(rows), "--per-device-eval-batch-size", str(rows)],
        *[*more, "--output-dir", output],
    ]


def trainings(data, bert, llm, rows):
    """Return the arguments of what one process and two are to train alike, by name."""
    adapter = ["--no-load-in-4bit", "--lora-dropout", "0", "--learning-rate", "2e-3"]
    adapter += ["--warmup-steps", "2"]
    packs = ["--max-tokens-per-pack", "512", "--gradient-accumulation-steps", "2"]
    return {
        "bert": arguments(data, bert, "bert", rows, "--learning-rate", "1e-3"),
        "adapter": arguments(data, llm, "adapter", rows, *adapter),
        "packs": arguments(data, llm, "packs", rows, *adapter, *packs, "--class-weights"),
    }


@pytest.fixture(scope="module")
def both(tmp_path_factory, tiny_qwen2, tiny_bert, tiny_codebook):
    """Train in one process and in two; return the folders, and how the two ended."""
    data = write_splits(tmp_path_factory.mktemp("data"), 3, train=51, validation=21)
    still = tmp_path_factory.mktemp("models") / "bert-without-dropout"
    shutil.copytree(tiny_bert, still)
    config = json.loads((still / "config.json").read_text(encoding="utf-8"))
    config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (still / "config.json").write_text(json.dumps(config), encoding="utf-8")

    one, two = (tmp_path_factory.mktemp("processes") / name for name in ("one", "two"))
    for folder in (one, two):
        folder.mkdir()
        shutil.copy(tiny_codebook, folder / "prompt.txt")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(one)
        for name, argv in trainings(data, still, tiny_qwen2, 10).items():
            SCRIPTS[name].main(argv)

    calls = trainings(data, still, tiny_qwen2, 5)
    called = [(SCRIPTS[name].__name__, argv) for name, argv in calls.items()]
    called += [
        ("bert_tune", arguments(data, tiny_bert, "whole", 5)),
        ("bert_tune", arguments(data, tiny_bert, "resumed", 5, "--resume")),
        ("finetune", calls["adapter"]),
    ]
    asked = {"calls": called, "resumed": "whole", "last": "checkpoint-12"}
    asked |= {"model": tiny_bert, "data": str(data)}
    (two / "calls.json").write_text(json.dumps(asked), encoding="utf-8")
    (two / "driver.py").write_text(DRIVER, encoding="utf-8")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    done = subprocess.run(
        [*torchrun, "--nproc-per-node", "2", "driver.py"],
        cwd=two,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        encoding="utf-8",
        timeout=120,
    )
    return one, two, done


def record_of(folder):
    return json.loads((folder / "final_model/training.json").read_bytes())


def weights_of(folder):
    [file] = folder.glob("*model.safetensors")
    return load_file(file)


@pytest.mark.parametrize("name", SCRIPTS)
def test_two_processes_train_as_one_does(both, name):
    one, two = (record_of(folder / name) for folder in both[:2])
    assert (one["processes"], two["processes"]) == (1, 2)
    assert len(one["log_history"]) == len(two["log_history"]) == (9 if name == "packs" else 15)
    for first, second in zip(one["log_history"], two["log_history"], strict=True):
        assert first.keys() == second.keys()
        for key, value in first.items():
            if isinstance(value, str):
                assert second[key] == value
            elif not key.endswith(("runtime", "per_second", "flos")):
                assert second[key] == pytest.approx(value, rel=1e-4), key
    first, second = (weights_of(folder / name / "final_model") for folder in both[:2])
    for weight in first:
        # The gradient of a key's bias is 0, and what rounding leaves of it makes a whole step.
        if not weight.endswith("key.bias"):
            torch.testing.assert_close(second[weight], first[weight], rtol=0, atol=2e-5)


def test_a_resumed_training_of_two_processes_ends_as_the_uninterrupted_one(both):
    whole, resumed = (weights_of(both[1] / name / "checkpoint-12") for name in ("whole", "resumed"))
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    whole, resumed = (record_of(both[1] / name)["validation"] for name in ("whole", "resumed"))
    assert whole["loss"] == resumed["loss"]


def test_each_process_draws_masks_of_its_own(both):
    states = [
        torch.load(both[1] / f"whole/checkpoint-12/rng_state_{index}.pth", weights_only=False)
        for index in range(2)
    ]
    seeds = [torch.Generator().set_state(state["cpu"]).initial_seed() for state in states]
    assert seeds == [42, 43]


def test_every_process_has_the_best_weights_where_one_alone_could_read_them(both):
    first, second = (load_file(both[1] / f"best-{index}.safetensors") for index in range(2))
    best, last = (weights_of(both[1] / f"own-0/checkpoint-{step}") for step in (6, 12))
    assert not list((both[1] / "own-1").glob("checkpoint-*/model.safetensors"))
    assert all(torch.equal(best[name], first[name]) for name in best)
    assert all(torch.equal(best[name], second[name]) for name in best)
    assert not all(torch.equal(best[name], last[name]) for name in best)


def test_the_main_process_alone_speaks(both):
    said = both[2].stdout.splitlines()
    for name in ("bert", "adapter", "packs", "whole", "resumed"):
        assert sum(line.endswith(f"wrote {name}/final_model") for line in said) == 1, said
    assert sum(line.startswith("51 rows as tokens") for line in said) == 6
    assert sum("epoch 1: " in line for line in said) == 4  # a resumed one has none
    assert "[transformers]" not in both[2].stderr


def test_what_all_processes_refuse_is_said_once(both):
    assert both[2].returncode == 1
    refusal = "driver.py: adapter holds the final_model of an earlier training: "
    assert both[2].stderr.count(refusal) == 1, both[2].stderr


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("[pair.cc:553] Connection closed by peer [127.0.0.1]:2264.", UserError),
        ("mat1 and mat2 shapes cannot be multiplied", RuntimeError),
    ],
)
def test_a_training_whose_other_process_has_ended_says_so(message, shown):
    def train(resume_from_checkpoint):
        raise RuntimeError(message)

    trainer = SimpleNamespace(
        train=train, remove_callback=lambda kind: None, add_callback=lambda kind: None
    )
    with pytest.raises(shown) as ended:
        train_and_save(trainer, None, {}, "a training")
    expected = "another process of this run has ended: see what it says"
    assert str(ended.value) == (expected if shown is UserError else message)


def test_a_training_goes_on_with_as_many_processes_as_it_had(tmp_path):
    before = {"settings": {}, "base_fingerprint": "", "codebook_sha256": "", "data_sha256": {}}
    (tmp_path / "checkpoint-5").mkdir()
    (tmp_path / "checkpoint-5/trainer_state.json").write_text("{}", encoding="utf-8")
    (tmp_path / "checkpoint-5/complete.json").write_text('{"files": {}}', encoding="utf-8")
    (tmp_path / "training.json").write_text(json.dumps(before), encoding="utf-8")
    assert claim_output(str(tmp_path), before | {"processes": 1}, resume=True)
    with pytest.raises(UserError, match=r"another training \(it had 1 process\)"):
        claim_output(str(tmp_path), before | {"processes": 2}, resume=True)


def refusal(monkeypatch, capsys, environment):
    """Return the line that a script ends with in an environment."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "argv", ["finetune.py"])
    with pytest.raises(SystemExit) as ended:
        run(lambda: pytest.fail("the script was run"))
    return ended.value.code


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("ACCELERATE_USE_FSDP", "finetune.py: FSDP is not supported"),
        ("ACCELERATE_USE_DEEPSPEED", "finetune.py: DeepSpeed is not supported"),
    ],
)
def test_a_model_in_shards_is_refused(monkeypatch, capsys, name, line):
    ended = refusal(monkeypatch, capsys, {name: "true", "RANK": "0", "WORLD_SIZE": "2"})
    assert ended.startswith(line)
    assert ended.endswith("torchrun --nproc-per-node NUMBER SCRIPT")


def test_a_launcher_that_starts_one_process_instead_of_several_is_refused(monkeypatch, capsys):
    options = ["--cpu", "--num_processes", "2", "--num_machines", "1", "--mixed_precision", "no"]
    options += ["--dynamo_backend", "no", "finetune.py"]
    _, environment = prepare_simple_launcher_cmd_env(launch_command_parser().parse_args(options))
    added = {name: environment[name] for name in environment.keys() - os.environ.keys()}
    ended = refusal(monkeypatch, capsys, added)
    assert ended.startswith("finetune.py: accelerate launch has started one process only: ")
    monkeypatch.delenv("MASTER_PORT")  # as for --num_processes 1
    run(lambda: None)
