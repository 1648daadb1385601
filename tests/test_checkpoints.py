"""What a training that was killed leaves, and what --resume makes of it: the same training."""

import errno
import json
import shutil
from pathlib import Path

import pytest
import torch
from conftest import write_splits
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers import Trainer

import bert_tune
from pipeline.common.cli import UserError
from pipeline.common.files import write_json
from pipeline.models.checkpoints import hashes, last_usable

TIMES = ("runtime", "per_second")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Write 200 training and 40 validation rows; return their folder."""
    return write_splits(tmp_path_factory.mktemp("data"), 4, train=200, validation=40)


def tune(model, data, *argv, output="tuned"):
    """Train 7 steps an epoch; a point of the loss curve is the mean of 4, some of two epochs."""
    bert_tune.main(
        ["--model-path", model, "--output-dir", str(output), "--num-train-epochs", "5"]
        + ["--train-file", f"{data}/train.csv", "--validation-file", f"{data}/validation.csv"]
        + ["--learning-rate", "3e-3", "--logging-steps", "4", "--max-length", "32"]
        + ["--early-stopping-patience", "1", "--save-total-limit", "9", *argv]
    )


@pytest.fixture(scope="module")
def whole(tiny_bert, data, tmp_path_factory, tiny_codebook):
    """Fine-tune without interruption; it stops early, after three epochs. Return the folder."""
    output = tmp_path_factory.mktemp("whole") / "tuned"
    tune(tiny_bert, data, "--prompt-file", tiny_codebook, output=output)
    assert checkpoints(output) == ["checkpoint-14", "checkpoint-21", "checkpoint-7"]
    return output


def checkpoints(folder):
    return sorted(path.name for path in Path(folder).glob("*checkpoint-*"))


def killed(whole, *removed, output="tuned"):
    """Return a copy of a training without final_model and what else is `removed`."""
    shutil.copytree(whole, output)
    for name in ("final_model", *removed):
        shutil.rmtree(f"{output}/{name}")
    return Path(output)


def record_of(folder):
    """Return a training's record without what depends on the time."""
    record = json.loads((Path(folder) / "final_model/training.json").read_bytes())
    parts = [*record["log_history"], record["train"], record["validation"]]
    return [{k: v for k, v in part.items() if not k.endswith(TIMES)} for part in parts]


def assert_same(whole, output):
    """Compare everything that a training leaves, bit for bit."""
    assert record_of(output) == record_of(whole)
    names = {path.name for path in Path(output).iterdir() if path.name.startswith("checkpoint-")}
    assert names | {"final_model", "loss_curve.png"} <= {path.name for path in whole.iterdir()}
    first, second = (load_file(f"{f}/final_model/model.safetensors") for f in (whole, output))
    assert all(torch.equal(first[weight], second[weight]) for weight in first)
    first, second = (
        json.loads((f / "checkpoint-21/complete.json").read_bytes())["files"]
        for f in (whole, output)
    )
    assert first.keys() == second.keys()
    for name in ("model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth"):
        assert first[name] == second[name], name


@pytest.mark.parametrize("last", ["checkpoint-7", "checkpoint-14", "checkpoint-21"])
def test_a_resumed_training_leaves_what_the_uninterrupted_one_does(whole, tiny_bert, data, last):
    later = [name for name in checkpoints(whole) if int(name[11:]) > int(last[11:])]
    output = killed(whole, *later)
    tune(tiny_bert, data, "--resume")
    assert_same(whole, output)


@pytest.mark.parametrize("name", ["trainer_state.json", "model.safetensors", "optimizer.pt"])
@pytest.mark.parametrize("cut", [True, False])
def test_a_half_written_checkpoint_is_passed_over(whole, tiny_bert, data, capsys, name, cut):
    output = killed(whole)
    half = output / "checkpoint-21" / name
    if cut:
        half.write_bytes(half.read_bytes()[: half.stat().st_size // 2])
    else:
        half.unlink()
    tune(tiny_bert, data, "--resume")
    said, reason = capsys.readouterr().out, "not as it was written" if cut else "missing"
    assert f"checkpoint-21 is not used: its {name} is {reason}" in said
    assert f"resuming from {Path('tuned/checkpoint-14')}" in said
    assert_same(whole, output)
    assert "unused-checkpoint-21" in checkpoints(output)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("", ""),
        ("trainer_state.json", "missing or cut, so that it may be half-written"),
        ("model.safetensors", "missing or cut"),
        ("optimizer.pt", "missing or cut"),
        ("scheduler.pt", "missing or cut"),
        ("rng_state.pth", "missing or cut"),
    ],
)
@pytest.mark.parametrize("cut", [True, False])
def test_checkpoints_of_an_earlier_version_are_used_where_they_are_whole(
    whole, tiny_bert, data, capsys, name, why, cut
):
    """They have no complete.json, and their state is that of the Trainer."""
    output = killed(whole, "checkpoint-21")
    for folder in output.glob("checkpoint-*"):
        (folder / "complete.json").unlink()
    if name:
        broken = output / "checkpoint-14" / name
        content = broken.read_bytes()
        broken.unlink()
        if cut:
            broken.write_bytes(content[: len(content) // 2])
        assert last_usable(output) == output / "checkpoint-7"
        assert f"checkpoint-14 is not used: its {name} is {why};" in capsys.readouterr().out
    elif cut:
        tune(tiny_bert, data, "--resume")
        said = capsys.readouterr().out
        assert f"{Path('tuned/checkpoint-14')} is of an earlier version of this project" in said
        assert_same(whole, output)
    else:
        assert last_usable(output) == output / "checkpoint-14"


def test_a_moved_training_ends_with_its_best_weights(whole, tiny_bert, data):
    shutil.move(killed(whole), "moved")
    tune(tiny_bert, data, "--resume", output="moved")
    assert_same(whole, Path("moved"))


def test_a_checkpoint_whose_best_one_is_broken_is_not_used(whole, tiny_bert, data, capsys):
    output = killed(whole)
    (output / "checkpoint-14/model.safetensors").unlink()
    tune(tiny_bert, data, "--resume")
    said = capsys.readouterr().out
    assert "checkpoint-21 is not used: the best one until then, checkpoint-14, is" in said
    assert f"resuming from {Path('tuned/checkpoint-7')}" in said
    assert_same(whole, output)


def test_a_half_written_first_checkpoint_blocks_no_fresh_start(whole, tiny_bert, data, capsys):
    output = killed(whole, "checkpoint-14", "checkpoint-21")
    (output / "checkpoint-7/optimizer.pt").unlink()
    with pytest.raises(UserError, match="holds no checkpoint to resume from: start without"):
        tune(tiny_bert, data, "--resume")
    tune(tiny_bert, data)
    assert_same(whole, output)


def test_a_checkpoint_counts_when_it_is_whole(whole, tiny_bert, data, monkeypatch):
    """A kill between two files of the second checkpoint leaves no checkpoint-14."""

    class Killed(BaseException):
        pass

    def killed_in_the_second(trainer, folder):
        if trainer.state.global_step == 14:
            assert checkpoints("tuned")[-1] == "checkpoint-7"
            raise Killed
        save(trainer, folder)

    save = Trainer._save_rng_state
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Trainer, "_save_rng_state", killed_in_the_second)
        tune(tiny_bert, data)
    assert checkpoints("tuned") == ["checkpoint-7"]
    tune(tiny_bert, data, "--resume")
    assert_same(whole, Path("tuned"))


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed"),
        SafetensorError("I/O error: No space left on device (os error 28)"),
    ],
)
def test_a_full_disk_leaves_the_checkpoint_before_it(tiny_bert, data, monkeypatch, error):
    def full_in_the_second(trainer, folder):
        if trainer.state.global_step == 14:
            raise error
        save(trainer, folder)

    save = Trainer._save_optimizer_and_scheduler
    monkeypatch.setattr(Trainer, "_save_optimizer_and_scheduler", full_in_the_second)
    with pytest.raises(UserError, match="cannot write .*checkpoint-14 .* space.*; add --resume"):
        tune(tiny_bert, data)
    assert {path.name for path in Path("tuned").iterdir()} == {"checkpoint-7", "training.json"}


@pytest.mark.parametrize(
    ("best", "broken", "used", "unused"),
    [
        ({24: 12, 36: 36}, [], "checkpoint-36", []),
        ({24: 12, 36: 36}, [36], "checkpoint-24", ["unused-checkpoint-36"]),
        (
            {7: 7, 14: 14, 21: 14},
            [14],
            "checkpoint-7",
            [f"unused-checkpoint-{n}" for n in (14, 21)],
        ),
        ({8: 8}, [8], None, ["unused-checkpoint-8"]),
        ({8: 8, 100: 100}, [], "checkpoint-100", []),
        ({}, [], None, []),
    ],
)
def test_the_last_checkpoint_that_is_whole_with_its_best_one_is_used(best, broken, used, unused):
    """Where the best one until then has been removed for a better one, that will come again."""
    Path("tuned").mkdir()
    for step, best_step in best.items():
        folder = Path(f"tuned/checkpoint-{step}")
        write_json({"best_global_step": best_step}, folder / "trainer_state.json")
        write_json({"files": hashes(folder)}, folder / "complete.json")
        if step in broken:
            write_json({}, folder / "trainer_state.json")
    chosen = last_usable(Path("tuned"))
    assert (chosen and chosen.name) == used
    assert sorted(path.name for path in Path("tuned").glob("unused-*")) == unused


def test_a_training_without_its_best_weights_does_not_end_with_others(whole, tiny_bert, data):
    killed(whole, "checkpoint-7", "checkpoint-14")
    with pytest.raises(UserError, match="checkpoint-14 is missing, which had the best weights"):
        tune(tiny_bert, data, "--resume")
    assert not Path("tuned/final_model").exists()
