"""No code of a model's folder is run and no pickle is loaded that could run any."""

import json
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from conftest import write_splits
from transformers import AutoModel

import bert_eval
import bert_tune
import finetune
import local_inference
import posttune_eval
from pipeline.common.cli import UserError
from pipeline.common.files import write_json
from pipeline.models.checkpoints import COMPLETE, hashes

RUN = "it_was_run"  # the file that any of the code below leaves
CODE = f"open({RUN!r}, 'w').close()\n"


class Bomb:
    """Leave a file where it is unpickled."""

    def __reduce__(self):
        return open, (RUN, "w")


def plant(folder, *names):
    """Write a pickle that leaves a file under each name; a checkpoint is whole with them."""
    for name in names:
        torch.save({"weight": torch.zeros(1), "bomb": Bomb()}, Path(folder, name))
    complete = Path(folder, COMPLETE)
    if complete.exists():
        complete.unlink()
        write_json({"files": hashes(folder), "seconds": 0}, complete)


def plant_code(folder, **config):
    """Let a model's files name code that lies beside them."""
    code = {"AutoConfig": "c.C", "AutoTokenizer": ["c.C", "c.C"]}
    code |= dict.fromkeys(
        ("AutoModel", "AutoModelForCausalLM", "AutoModelForSequenceClassification"), "c.C"
    )
    for name, more in (
        ("config.json", config),
        ("tokenizer_config.json", {}),
        ("generation_config.json", {"custom_generate": "."}),
    ):
        path = Path(folder, name)
        before = json.loads(path.read_bytes()) if path.exists() else {}
        path.write_text(json.dumps(before | {"auto_map": code} | more), encoding="utf-8")
    for name in ("c.py", "modeling.py", "configuration.py", "custom_generate/generate.py"):
        Path(folder, name).parent.mkdir(exist_ok=True)
        Path(folder, name).write_text(CODE, encoding="utf-8")


@pytest.fixture
def data(tmp_path):
    return write_splits(tmp_path, 7, train=24, validation=12, test=12)


@pytest.fixture(autouse=True)
def somebody_says_yes(monkeypatch):
    """Answer transformers, which asks where it is not told, that the code may be run."""
    monkeypatch.setattr("builtins.input", lambda prompt="": "y")


def ran():
    return Path(RUN).exists()


def tune_bert(model, *argv):
    bert_tune.main(
        ["--model-path", str(model), "--output-dir", "tuned", "--num-train-epochs", "2", *argv]
        + ["--train-file", "train.csv", "--validation-file", "validation.csv"]
    )


def tune_llm(model, *argv):
    finetune.main(
        ["--model-path", str(model), "--output-dir", "qlora", "--num-train-epochs", "2", *argv]
        + ["--train-file", "train.csv", "--validation-file", "validation.csv"]
    )


def interrupted(folder):
    """Take a finished training back to its first checkpoint, which is returned."""
    shutil.rmtree(f"{folder}/final_model")
    first, last = sorted(Path(folder).glob("checkpoint-*"), key=lambda path: int(path.name[11:]))
    shutil.rmtree(last)
    return first


def test_the_pickles_of_these_tests_would_run():
    plant(".", "x.bin")
    torch.load("x.bin", weights_only=False)
    assert ran()


def test_the_code_of_these_tests_would_run(tiny_bert, monkeypatch):
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(Path.cwd()))
    monkeypatch.syspath_prepend(".")
    shutil.copytree(tiny_bert, "m")
    plant_code("m")
    with pytest.raises(AttributeError):  # the code has no class of that name
        AutoModel.from_pretrained("m", trust_remote_code=True)
    assert ran()


def test_an_encoder_s_code_and_pickles_are_not_run(tiny_bert, data):
    shutil.copytree(tiny_bert, "m")
    plant_code("m")
    plant("m", "pytorch_model.bin", "training_args.bin", "optimizer.pt")
    bert_eval.main(
        ["--model-path", "m", "--train-file", "train.csv", "--test-file", "test.csv"]
        + ["--output-dir", "before"]
    )
    tune_bert("m", "--num-train-epochs", "1")
    assert Path("tuned/final_model").is_dir() and not ran()


def test_a_causal_model_s_code_and_pickles_are_not_run(tiny_qwen2, data):
    shutil.copytree(tiny_qwen2, "m")
    plant_code("m")
    plant("m", "pytorch_model.bin", "training_args.bin", "adapter_model.bin")
    for decoding in ("score", "generate"):
        local_inference.main(
            ["--model-path", "m", "--test-file", "test.csv", "--output-dir", decoding]
            + ["--decoding", decoding, "--max-test-samples", "4"]
        )
    assert not ran()


@pytest.mark.parametrize("kind", ["encoder", "causal LM"])
def test_a_model_that_only_its_own_code_can_load_is_refused(tiny_bert, tiny_qwen2, data, kind):
    shutil.copytree(tiny_bert if kind == "encoder" else tiny_qwen2, "m")
    plant_code("m", model_type="unheard_of")
    with pytest.raises(UserError, match="and code in the folder is never run"):
        if kind == "encoder":
            tune_bert("m")
        else:
            tune_llm("m")
    assert not ran()


def test_weights_that_are_pickled_alone_are_refused(tiny_bert, data):
    shutil.copytree(tiny_bert, "m")
    Path("m/model.safetensors").unlink()
    plant("m", "pytorch_model.bin")
    with pytest.raises(UserError, match="only pytorch_model.bin: run python -c "):
        tune_bert("m")
    assert not ran()


def test_the_command_that_converts_pickled_weights_runs_no_code_of_theirs(tiny_bert):
    plant(".", "pytorch_model.bin")
    with pytest.raises(pickle.UnpicklingError, match="Weights only load failed"):
        torch.load("pytorch_model.bin", weights_only=True)
    assert not ran()


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.append.__globals__ }}",
        "{{ cycler.__init__.__globals__.os.system('touch it_was_run') }}",
        "{% include '/etc/hostname' %}",
        "{% for n in range(1000000000) %}{% endfor %}",
    ],
)
def test_a_chat_template_reaches_nothing_beyond_its_messages(tiny_qwen2, data, template):
    shutil.copytree(tiny_qwen2, "m")
    Path("m/chat_template.jinja").write_text(template, encoding="utf-8")
    with pytest.raises(UserError, match="chat_template.jinja"):
        local_inference.main(["--model-path", "m", "--test-file", "test.csv"])
    assert not ran()


@pytest.fixture(scope="module")
def trained(tiny_bert, tiny_qwen2, tmp_path_factory, tiny_codebook):
    """Train an encoder and an adapter; return the folder in which they lie."""
    place = tmp_path_factory.mktemp("trained")
    write_splits(place, 7, train=24, validation=12, test=12)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        shutil.copy(tiny_codebook, "prompt.txt")
        tune_bert(tiny_bert)
        tune_llm(tiny_qwen2)
    return place


@pytest.fixture
def in_training(trained, tmp_path):
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)


def test_an_adapter_s_code_and_pickles_are_not_run(in_training, tiny_qwen2, monkeypatch):
    monkeypatch.syspath_prepend(".")
    adapter = Path("qlora/final_model")
    plant(adapter, "adapter_model.bin", "training_args.bin")
    plant_code(adapter)
    Path("planted.py").write_text(CODE, encoding="utf-8")
    config = json.loads((adapter / "adapter_config.json").read_bytes())
    config["auto_mapping"] = {"base_model_class": "C", "parent_library": "planted"}
    (adapter / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    arguments = ["--model-path", tiny_qwen2, "--adapter-path", str(adapter)]
    posttune_eval.main([*arguments, "--test-file", "test.csv", "--output-dir", "after"])
    assert not ran()
    (adapter / "adapter_model.safetensors").unlink()
    with pytest.raises(UserError, match="adapter_model.safetensors"):
        posttune_eval.main([*arguments, "--test-file", "test.csv", "--output-dir", "again"])
    assert not ran()


@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt", "rng_state.pth", "scaler.pt"])
def test_a_checkpoint_s_state_that_holds_code_stops_the_resume(in_training, tiny_bert, name):
    plant(interrupted("tuned"), name)
    with pytest.raises((pickle.UnpicklingError, AttributeError)):
        tune_bert(tiny_bert, "--resume")
    assert not ran()


def test_pickles_that_a_resume_does_not_need_are_not_loaded(in_training, tiny_bert, tiny_qwen2):
    plant(interrupted("tuned"), "training_args.bin", "pytorch_model.bin", "optimizer.bin")
    tune_bert(tiny_bert, "--resume")
    plant(interrupted("qlora"), "training_args.bin", "adapter_model.bin", "optimizer.bin")
    tune_llm(tiny_qwen2, "--resume")
    assert Path("tuned/final_model").is_dir() and Path("qlora/final_model").is_dir()
    assert not ran()
