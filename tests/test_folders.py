"""Model folders as the hub and git leave them: each is read, or gets one line with the cure."""

import json
import os
import shlex
import shutil
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from conftest import write_splits
from safetensors.numpy import load_file, save_file

from pipeline.common.cli import UserError
from pipeline.models.folder import check_adapter, check_model_folder
from pipeline.models.weights import WHOLE, fingerprint

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 4242\n"
QWEN = {"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"]}
SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
INDEX = "model.safetensors.index.json"


def change(folder, changes):
    """Write files into a folder, as text or as JSON; one of None is removed."""
    for name, content in changes.items():
        path = Path(folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            path.unlink()
        else:
            text = content if isinstance(content, str) else json.dumps(content)
            path.write_text(text, encoding="utf-8", newline="")
    return str(folder)


def split_weights(folder):
    """Replace a folder's weights by two shards and their index."""
    weights = load_file(Path(folder) / WHOLE)
    places = {name: SHARDS[n % 2] for n, name in enumerate(sorted(weights))}
    for shard in SHARDS:
        part = {name: weights[name] for name in weights if places[name] == shard}
        save_file(part, Path(folder) / shard, {"format": "pt"})
    change(folder, {WHOLE: None, INDEX: {"metadata": {}, "weight_map": places}})


def copied(model, folder, changes):
    """Copy a model's folder and change the copy."""
    shutil.copytree(model, folder)
    return change(folder, changes)


@pytest.fixture
def clone():
    """Write what is checked of a clone with whole weights; return its path."""
    change("m", {"config.json": QWEN, "tokenizer.json": "{}", ".git/HEAD": "ref: x"})
    save_file({"a": np.zeros(4), "b": np.ones(4)}, f"m/{WHOLE}")
    return "m"


PULL = 'run git lfs install, then git -C "m" lfs pull'
NO_TOKENIZER = {"tokenizer.json": None}
QUANTIZED = [
    ({"quant_method": "gptq", "bits": 4}, "gptq"),
    ({"quant_method": "awq"}, "awq"),
    ({"quant_method": "fp8"}, "fp8"),
    ({"quant_method": "mxfp4"}, "mxfp4"),
    ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "bitsandbytes"),
    ({"bits": 4, "group_size": 64}, "another library"),
]
REFUSED = [
    *(
        ({name: POINTER}, f"m/{name} is a git-lfs pointer, not the file itself: {PULL}")
        for name in ("tokenizer.json", "config.json", "tokenizer_config.json")
    ),
    ({"chat_template.jinja": POINTER}, "m/chat_template.jinja is a git-lfs pointer, not the file"),
    (NO_TOKENIZER | {"vocab.txt": POINTER}, "m/vocab.txt is a git-lfs pointer, not the file"),
    (NO_TOKENIZER | {"tokenizer.model": POINTER}, "m/tokenizer.model is a git-lfs pointer, not"),
    ({WHOLE: POINTER}, f"m/{WHOLE} is a git-lfs pointer, not weights: {PULL}"),
    ({WHOLE: "x" * 2000}, f"delete it, {PULL}"),
    ({WHOLE: None, INDEX: {}}, f"m/{INDEX} names no weights: clone m again"),
    ({WHOLE: None, INDEX: []}, f"m/{INDEX} names no weights: clone m again"),
    ({"tokenizer_config.json": '{"a": '}, "m/tokenizer_config.json, line 1 is not JSON: clone m"),
    ({WHOLE: POINTER, ".git/HEAD": None}, f"pointer, not weights: {PULL}"),
    ({WHOLE: None, "other.safetensors": "x"}, "m has no .safetensors weights: clone a revision"),
    ({WHOLE: None, "pytorch_model.bin": POINTER}, "m/pytorch_model.bin is a git-lfs pointer"),
    ({WHOLE: None, "pytorch_model.bin": "x"}, "only pytorch_model.bin: run python -c "),
    ({"config.json": None}, "m is no model folder, it has no config.json: see README.md"),
    (
        {"adapter_config.json": {}},
        "m holds an adapter beside the model (adapter_config.json), which",
    ),
    ({"config.json": None, "inner/config.json": QWEN}, "it has no config.json: give m/inner"),
    (
        {"config.json": None, "snapshots/0a/config.json": QWEN},
        "it has no config.json: give m/snapshots/0a",
    ),
    (
        {"config.json": None, "tokenizer.json": None, WHOLE: None},
        'it has no config.json, and its clone no files: run git -C "m" restore --source=HEAD :/',
    ),
    *(
        (
            {"config.json": QWEN | {"quantization_config": quantization}},
            f"m holds weights quantized by {name}: clone the unquantized model (--load-in-4bit",
        )
        for quantization, name in QUANTIZED
    ),
    (
        {"config.json": QWEN | {"text_config": {"quantization_config": {"quant_method": "awq"}}}},
        "m holds weights quantized by awq",
    ),
    *(
        ({"config.json": QWEN | layers}, "m/config.json asks for code of")
        for layers in (
            {"attn_implementation": "a/kernel"},
            {"_attn_implementation": "paged|a/kernel"},
            {"text_config": {"experts_implementation": "a/kernel"}},
        )
    ),
]


@pytest.mark.parametrize(("changes", "message"), REFUSED)
def test_a_folder_that_cannot_be_read_gets_one_line_with_the_cure(clone, changes, message):
    change(clone, changes)
    with pytest.raises(UserError) as error:
        check_model_folder(clone, "causal LM")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_folder_that_is_no_clone_is_cloned_again(clone):
    shutil.rmtree("m/.git")
    change(clone, {WHOLE: POINTER})
    with pytest.raises(UserError, match="run git lfs install, then clone m again"):
        check_model_folder(clone, "causal LM")


@pytest.mark.parametrize("name", ["missing", "pointer", "cut"])
def test_a_shard_that_is_not_whole_is_named(clone, name):
    split_weights(clone)
    shard = Path("m", SHARDS[1])
    whole = shard.read_bytes()
    shard.unlink()
    if name != "missing":
        shard.write_bytes(POINTER.encode() if name == "pointer" else whole[:-8])
    says = {"missing": "not found: run git", "pointer": "is a git-lfs", "cut": "is cut short"}
    with pytest.raises(UserError, match=f"m/{SHARDS[1]} {says[name]}"):
        check_model_folder(clone, "causal LM")


@pytest.mark.parametrize("sharded", [False, True])
@pytest.mark.parametrize(
    "stray",
    [
        "consolidated.safetensors",
        "original/consolidated.safetensors",
        "pytorch_model.bin",
        "tokenizer.model",
        "vocab.txt",
        "onnx/model.onnx",
    ],
)
def test_a_pointer_that_no_loader_reads_is_let_lie_and_tells_no_base_from_another(
    clone, stray, sharded
):
    if sharded:
        split_weights(clone)
    before = fingerprint(clone)
    change(clone, {stray: POINTER})
    assert check_model_folder(clone, "causal LM") == Path("m")
    assert fingerprint(clone) == before


def test_a_pointer_that_hides_whole_shards_is_to_be_deleted(clone):
    split_weights(clone)
    change(clone, {WHOLE: POINTER})
    with pytest.raises(UserError, match=f"rather than the shards of {INDEX}: delete it"):
        check_model_folder(clone, "causal LM")
    change(clone, {WHOLE: None})
    check_model_folder(clone, "causal LM")


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
def test_a_pointer_among_an_adapter_s_files_is_named(clone, codebook, name):
    change("a", {"adapter_config.json": "{}"})
    save_file({"w": np.zeros(1)}, "a/adapter_model.safetensors")
    check_adapter("a", clone, codebook)
    change("a", {name: POINTER})
    with pytest.raises(UserError, match=f"a/{name} is a git-lfs pointer"):
        check_adapter("a", clone, codebook)
    change("a", {name: None})
    with pytest.raises(UserError, match="adapter_"):
        check_adapter("a", clone, codebook)


def test_shards_beside_a_stray_pointer_and_a_cache_of_links_are_read(tiny_qwen2):
    from pipeline.llm.loading import load_model, load_tokenizer

    known = load_model(tiny_qwen2, load_in_4bit=False).state_dict()
    folder = copied(tiny_qwen2, "my models/模型 ü", {"consolidated.safetensors": POINTER})
    split_weights(folder)
    links = Path("models--a--b/snapshots/0a")
    links.mkdir(parents=True)
    for n, file in enumerate(sorted(Path(folder).iterdir())):
        Path("models--a--b/blobs").mkdir(exist_ok=True)
        shutil.copy(file, f"models--a--b/blobs/{n}")
        os.symlink(f"../../blobs/{n}", links / file.name)
    for path in (folder, str(links)):
        read = load_model(path, load_in_4bit=False).state_dict()
        assert all(read[name].equal(known[name]) for name in known)
        assert load_tokenizer(path).get_vocab() == load_tokenizer(tiny_qwen2).get_vocab()


def test_weights_that_lack_one_are_not_completed_by_random_numbers(tiny_qwen2):
    from safetensors.torch import load_file, save_file

    from pipeline.llm.loading import load_model

    folder = copied(tiny_qwen2, "incomplete", {})
    weights = load_file(f"{folder}/model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, f"{folder}/model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match="lacks 1 of the model's weights, such as .*1.mlp.up_proj"):
        load_model(folder, load_in_4bit=False)


@pytest.mark.parametrize("size", ["num_hidden_layers", "vocab_size"])
def test_weights_of_another_size_than_the_config_s_are_not_replaced_by_random_numbers(
    tiny_qwen2, tiny_bert, codebook, size
):
    from pipeline.bert.encoder import load_classifier, load_encoder
    from pipeline.llm.loading import load_model

    folders = []
    for model in (tiny_qwen2, tiny_bert):
        config = json.loads(Path(model, "config.json").read_bytes())
        larger = config | {size: config[size] + 1, "layer_types": None}
        folders.append(copied(model, Path(model).name, {"config.json": larger}))
    causal, encoder = folders
    for load in (
        lambda: load_model(causal, load_in_4bit=False),
        lambda: load_model(causal, load_in_4bit=True),
        lambda: load_encoder(encoder),
        lambda: load_classifier(encoder, codebook, seed=1),
    ):
        with pytest.raises(UserError, match="or has them in another size: they would be random"):
            load()


def test_the_command_for_pickled_weights_makes_them_readable(tiny_bert):
    import torch

    from pipeline.bert.encoder import load_encoder

    folder = copied(tiny_bert, "old encoder", {})
    known = load_file(f"{folder}/{WHOLE}")
    tensors = {name: torch.from_numpy(weight) for name, weight in known.items()}
    torch.save(tensors, f"{folder}/pytorch_model.bin")
    change(folder, {WHOLE: None})
    with pytest.raises(UserError) as error:
        load_encoder(folder)
    [program, option, code] = shlex.split(str(error.value).partition(": run ")[2])
    assert (program, option) == ("python", "-c")
    exec(code, {})
    converted = load_file(f"{folder}/{WHOLE}")
    assert converted.keys() == known.keys()
    assert all(np.array_equal(converted[name], known[name]) for name in known)
    load_encoder(folder)


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_an_old_folder_with_vocab_txt_alone_has_the_same_fast_tokenizer(tiny_bert, line_end):
    from pipeline.bert.encoder import encode, load_encoder, load_tokenizer

    known = load_tokenizer(tiny_bert, 64)
    words = Path(tiny_bert, "vocab.txt").read_text(encoding="utf-8")
    config = json.loads(Path(tiny_bert, "config.json").read_bytes())
    del config["architectures"]
    changes = {"vocab.txt": words.replace("\n", line_end), "config.json": config}
    old = copied(
        tiny_bert, "old", changes | {"tokenizer.json": None, "tokenizer_config.json": None}
    )
    read = load_tokenizer(old, 64)
    texts = ["男女平等 Women can't", "[SEP] é"]
    assert read.is_fast
    assert encode(read, texts, 64) == encode(known, texts, 64)
    load_encoder(old)
    change(old, {"tokenizer_config.json": {"do_lower_case": False}})
    assert load_tokenizer(old, 64).do_lower_case is False


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{}", "m/tokenizer.json holds no vocabulary: clone m again"),
        ('{"model": null}', "m/tokenizer.json holds no vocabulary: clone m again"),
        ("[]", "m/tokenizer.json holds no vocabulary: clone m again"),
        ('{"model": {"vocab', "m/tokenizer.json, line 1 is not JSON: clone m again"),
    ],
)
def test_a_vocabulary_that_is_cut_short_is_named(tiny_qwen2, content, message):
    from pipeline.llm.loading import load_tokenizer

    folder = copied(tiny_qwen2, "m", {"tokenizer.json": content})
    with pytest.raises(UserError, match=message):
        load_tokenizer(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "new9"}, "holds a model of type new9, which transformers 5"),
        (
            {
                "model_type": "new9",
                "auto_map": {"AutoConfig": "c.C", "AutoModelForCausalLM": "m.M"},
            },
            "does not know, and code in the folder is never run: use another model",
        ),
    ],
)
def test_a_model_that_only_its_own_code_could_load_is_refused(tiny_qwen2, changes, message):
    from pipeline.llm.loading import load_tokenizer

    config = json.loads(Path(tiny_qwen2, "config.json").read_bytes())
    folder = copied(tiny_qwen2, "m", {"config.json": config | changes})
    with pytest.raises(UserError, match=message):
        load_tokenizer(folder)


def test_code_beside_a_model_that_transformers_knows_is_not_run(tiny_qwen2):
    from pipeline.llm.loading import load_model, load_tokenizer

    config = json.loads(Path(tiny_qwen2, "config.json").read_bytes())
    config |= {"auto_map": {"AutoConfig": "c.C", "AutoModelForCausalLM": "m.M"}}
    code = "raise SystemExit('it was run')"
    folder = copied(tiny_qwen2, "m", {"config.json": config, "c.py": code, "m.py": code})
    load_tokenizer(folder)
    load_model(folder, load_in_4bit=False)
    settings = json.loads(Path(folder, "tokenizer_config.json").read_bytes())
    settings |= {"tokenizer_class": "C", "auto_map": {"AutoTokenizer": ["c.C", None]}}
    config |= {"model_type": "llama", "architectures": ["LlamaForCausalLM"]}
    change(folder, {"tokenizer_config.json": settings, "config.json": config})
    with pytest.raises(UserError, match="m: its tokenizer is Python code of its own"):
        load_tokenizer(folder)


def test_a_vocabulary_of_sentencepiece_alone_names_the_packages_that_read_it(
    tiny_qwen2, monkeypatch
):
    from pipeline.llm.loading import load_tokenizer
    from pipeline.models import tokenizer

    folder = copied(tiny_qwen2, "m", NO_TOKENIZER | {"tokenizer.model": "x"})
    monkeypatch.setattr(tokenizer, "SENTENCEPIECE", ("sentencepiece", "no_such_package.protobuf"))
    with pytest.raises(UserError, match=r"tokenizer.model needs .* run pip install sentencepiece"):
        load_tokenizer(folder)


@pytest.mark.parametrize("place", ["chat_template.jinja", "chat_template.json"])
def test_a_chat_template_in_a_file_of_its_own_is_used_and_kept(tiny_qwen2, codebook, place):
    from pipeline.llm.loading import load_tokenizer
    from pipeline.llm.prompt import build_prompt

    settings = json.loads(Path(tiny_qwen2, "tokenizer_config.json").read_bytes())
    template = settings.pop("chat_template")
    content = template if place.endswith("jinja") else {"chat_template": template}
    folder = copied(tiny_qwen2, "m", {"tokenizer_config.json": settings, place: content})
    tokenizer = load_tokenizer(folder)
    assert build_prompt(tokenizer, codebook) == build_prompt(load_tokenizer(tiny_qwen2), codebook)
    tokenizer.save_pretrained("saved")
    assert Path("saved/chat_template.jinja").read_text(encoding="utf-8") == template


@pytest.mark.parametrize(("template", "why"), [("{% for x in %}", r" \(.+\)"), ("Hello", "")])
def test_a_chat_template_of_no_use_is_told_with_its_fault(tiny_qwen2, codebook, template, why):
    from pipeline.llm.loading import load_tokenizer
    from pipeline.llm.prompt import build_prompt

    tokenizer = load_tokenizer(tiny_qwen2)
    tokenizer.chat_template = template
    with pytest.raises(
        UserError, match=f"codebook and the comment{why}: use .*chat_template.jinja"
    ):
        build_prompt(tokenizer, codebook)


LLAMA = """\
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now("%d %b %Y") %}
    {%- else %}
        {%- set date_string = "26 Jul 2024" %}
    {%- endif %}
{%- endif %}
{{- "Today Date: " + date_string + "\\n" }}
"""
SMOL = """\
{%- macro today() -%}{{ strftime_now("%-d %B %Y, %A") }}{%- endmacro -%}
{{- "Today Date: " ~ today() ~ "\\n" -}}
"""
OPEN = '\n  {{- "Current date: " + strftime_now("%Y-%m-%d") + "\\n" }}'
DATED = [
    (LLAMA, "Today Date: 26 Jul 2024\n"),
    (SMOL, "Today Date: 26 July 2024, Friday\n"),
    (OPEN, "Current date: 2024-07-26\n"),
]


def set_date(monkeypatch, *date):
    """Let transformers think that it is another day."""
    from transformers.utils import chat_template_utils

    class Another(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime(*date)

    monkeypatch.setattr(chat_template_utils, "datetime", Another)


@pytest.mark.parametrize(("start", "printed"), DATED)
def test_a_template_that_prints_the_date_gives_the_same_prompt_every_day(
    tiny_qwen2, codebook, monkeypatch, start, printed
):
    from pipeline.llm.loading import load_tokenizer
    from pipeline.llm.prompt import build_prompt

    tokenizer = load_tokenizer(tiny_qwen2)
    plain = build_prompt(tokenizer, codebook)
    tokenizer.chat_template = start + tokenizer.chat_template
    set_date(monkeypatch, 2031, 1, 2)
    first = build_prompt(tokenizer, codebook)
    set_date(monkeypatch, 2032, 11, 28)
    second = build_prompt(tokenizer, codebook)
    assert first == second and first.sha256 == second.sha256
    assert first.prefix_text == printed + plain.prefix_text
    assert first.sha256 != plain.sha256


SAMPLING = {"do_sample": False, "temperature": 0.6, "top_k": 20, "repetition_penalty": 5.0}
INVALID = {"do_sample": True, "cache_implementation": "none such", "min_new_tokens": 9}


@pytest.mark.parametrize("generation", [SAMPLING, INVALID])
def test_a_model_s_own_way_to_generate_changes_no_reply(tiny_qwen2, generation, codebook, recwarn):
    from pipeline.llm.generating import generate_replies
    from pipeline.llm.loading import load_model, load_tokenizer
    from pipeline.llm.prompt import build_prompt

    tokenizer = load_tokenizer(tiny_qwen2)
    prompt = build_prompt(tokenizer, codebook)
    other = copied(tiny_qwen2, "m", {"generation_config.json": generation})
    comments = [tokenizer(text)["input_ids"] for text in ("男女平等", "a？", "好！")]
    replies = [
        generate_replies(load_model(path, False), tokenizer, prompt, comments, 4, 8, packed)
        for packed in (True, False)
        for path in (tiny_qwen2, other)
    ]
    assert replies[0] == replies[1] and replies[2] == replies[3]
    assert not list(recwarn)


@pytest.fixture(scope="module")
def dated(tiny_qwen2, tiny_codebook, tmp_path_factory):
    """Train on a base whose template prints the date; return the folders of base and training."""
    import finetune

    place = tmp_path_factory.mktemp("dated")
    settings = json.loads(Path(tiny_qwen2, "tokenizer_config.json").read_bytes())
    template = LLAMA + settings.pop("chat_template")
    changes = {"tokenizer_config.json": settings, "chat_template.jinja": template}
    base = copied(tiny_qwen2, place / "base", changes | {"generation_config.json": SAMPLING})
    data = write_splits(place / "data", 3, train=8, validation=8, test=8)
    finetune.main(
        ["--model-path", base, "--output-dir", f"{place}/qlora", "--prompt-file", tiny_codebook]
        + ["--train-file", f"{data}/train.csv", "--validation-file", f"{data}/validation.csv"]
        + ["--num-train-epochs", "1", "--merge"]
    )
    return place


def evaluate(dated, base, *argv):
    import posttune_eval

    posttune_eval.main(
        ["--model-path", str(base), "--adapter-path", f"{dated}/qlora/final_model"]
        + ["--test-file", f"{dated}/data/test.csv", *argv]
    )


def test_a_training_keeps_template_generation_settings_and_the_hash_of_its_prompt(dated):
    template = (dated / "base/chat_template.jinja").read_text(encoding="utf-8")
    hashes = set()
    for name in ("final_model", "merged_model"):
        folder = dated / "qlora" / name
        assert (folder / "chat_template.jinja").read_text(encoding="utf-8") == template
        hashes.add(json.loads((folder / "training.json").read_bytes())["prompt_sha256"])
    copy = json.loads((dated / "qlora/merged_model/generation_config.json").read_bytes())
    assert copy == SAMPLING
    evaluate(dated, dated / "base", "--output-dir", "scored")
    hashes.add(json.loads(Path("scored/metrics.json").read_bytes())["prompt_sha256"])
    assert len(hashes) == 1


def test_an_adapter_is_not_asked_with_another_prompt_than_it_was_trained_with(dated):
    template = (dated / "base/chat_template.jinja").read_text(encoding="utf-8")
    other = copied(dated / "base", "other", {"chat_template.jinja": "Be brief." + template})
    with pytest.raises(UserError) as error:
        evaluate(dated, other)
    message = f"{dated}/qlora/final_model was trained with other tokens around a comment"
    assert str(error.value).startswith(message)
    for file in ("chat_template.jinja", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(dated / "qlora/final_model" / file, other)
    evaluate(dated, other)


def test_an_adapter_is_not_asked_by_another_vocabulary_than_it_was_trained_with(dated):
    other = Path(shutil.copytree(dated / "base", "other"))
    content = json.loads((other / "tokenizer.json").read_bytes())
    words = content["model"]["vocab"]
    first, second = sorted(words, key=words.get)[-2:]  # words that the prompt does not have
    words[first], words[second] = words[second], words[first]
    (other / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(UserError, match="final_model was trained with another tokenizer than the"):
        evaluate(dated, other)


def test_an_adapter_is_not_scored_on_the_rows_that_it_learned(dated):
    with pytest.raises(UserError, match="100% of its rows are rows that .*final_model learned"):
        evaluate(dated, dated / "base", "--test-file", f"{dated}/data/train.csv")


def test_an_older_record_without_the_hash_is_taken_as_it_is(dated):
    shutil.copytree(dated / "qlora", "older/qlora")
    shutil.copytree(dated / "data", "older/data")
    record = json.loads(Path("older/qlora/final_model/training.json").read_bytes())
    del record["prompt_sha256"]
    change("older/qlora/final_model", {"training.json": record})
    base = copied(dated / "base", "other", {"chat_template.jinja": "Be brief."})
    change(base, {"chat_template.jinja": (dated / "base/chat_template.jinja").read_text() + " "})
    evaluate(Path("older"), base)


def test_a_training_is_not_resumed_with_another_prompt(dated, tiny_codebook):
    import finetune

    shutil.copytree(dated / "qlora", "qlora")
    shutil.rmtree("qlora/final_model")
    template = (dated / "base/chat_template.jinja").read_text(encoding="utf-8")
    other = copied(dated / "base", "other", {"chat_template.jinja": "Be brief." + template})
    with pytest.raises(UserError, match=r"belongs to another training \(prompt_sha256\)"):
        finetune.main(
            ["--model-path", other, "--output-dir", "qlora", "--prompt-file", tiny_codebook]
            + ["--train-file", f"{dated}/data/train.csv", "--num-train-epochs", "1", "--resume"]
            + ["--validation-file", f"{dated}/data/validation.csv"]
        )
