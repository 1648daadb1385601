"""The embedded sample: a spreadsheet with the faults of real ones, a provider, tiny models."""

from collections import Counter
from pathlib import Path

import pandas as pd
import pytest

import batch_infer_gen
import excel_2_csv
import jsonl_to_csv
import submit_batch
from pre_process.sample import make_sample
from pre_process.sample.comments import SHARES, generate_comments
from pre_process.sample.provider import teacher

PATHS = ["--excel-file", "book.xlsx", "--truth-file", "truth.csv"]
REQUESTS = ["--requests-file", "r.jsonl"]
ANSWERS = [*REQUESTS, "--answers-file", "a.jsonl", "--label-sets-dir", "sets"]
STATE = ["--state-file", "state.json"]
SUBMIT = [*ANSWERS, *STATE, "--poll-seconds", "0.01", "--wait-for-rows", "0", "--accept-missing"]


def convert():
    excel_2_csv.main(
        ["--excel-file", "book.xlsx", "--csv-file", "all.csv", "--simple-file", "simple.csv"]
    )
    return pd.read_csv("simple.csv", dtype=str, na_filter=False)


@pytest.fixture
def sample():
    make_sample.main([*PATHS, "--num-comments", "600"])
    return convert()


def test_comments_have_the_report_s_class_shares_and_real_lengths():
    comments = generate_comments(3000, seed=42)
    counts = Counter(label for _, label in comments)
    assert [counts[k] / 3000 for k in range(4)] == pytest.approx(SHARES, abs=0.001)
    lengths = pd.Series([len(text) for text, _ in comments])
    assert 80 < lengths.mean() < 120
    assert lengths.max() > 500 and lengths.min() < 10
    assert len({text for text, _ in comments}) > 2900
    everything = "".join(text for text, _ in comments)
    assert all(sign in everything for sign in ("@", "http", "#", "😂"))


def test_the_same_seed_gives_the_same_sample_and_another_gives_another(sample):
    truth = Path("truth.csv").read_bytes()
    make_sample.main([*PATHS, "--num-comments", "600"])
    assert Path("truth.csv").read_bytes() == truth
    assert convert().equals(sample)
    make_sample.main([*PATHS, "--num-comments", "600", "--seed", "7"])
    assert Path("truth.csv").read_bytes() != truth


def test_the_truth_belongs_to_the_rows_that_step_1_reads(sample):
    truth = pd.read_csv("truth.csv", dtype=str, na_filter=False)
    assert truth["custom_id"].tolist() == sample["custom_id"].tolist()
    assert truth["message"].tolist() == sample["message"].tolist()
    assert len(truth) == 600


def test_the_sheet_has_what_readers_stumble_over(sample, capsys):
    messages = set(sample["message"])
    assert {"NA", "=1+1", "001", "666"} <= messages
    assert any("<|im_end|>" in message for message in messages)
    assert sample["message"].duplicated().any()
    convert()
    out = capsys.readouterr().out
    counts = {line.split("  ")[-1]: line.split()[0] for line in out.splitlines() if "  " in line}
    assert any(what.startswith("empty comments left out (rows") for what in counts)
    assert counts["numbers read as text"] == "1"
    assert int(counts["messages cleaned of line breaks or control characters"]) > 1


def test_the_provider_answers_in_the_batch_format_with_its_faults(sample, serve):
    batch_infer_gen.main(["--input-file", "simple.csv", *REQUESTS])
    truth = pd.read_csv("truth.csv").set_index("message")["class"].to_dict()
    contents = []
    for _ in range(2):
        submit_batch.main([*SUBMIT, "--yes", "--base-url", serve(teacher(truth, 4, 0.08)).url])
        contents.append(Path("a.jsonl").read_bytes())
        Path("a.jsonl").unlink()
        Path("state.json").unlink()
    assert contents[0] == contents[1]
    Path("a.jsonl").write_bytes(contents[0])
    names = ("unlabeled", "labeled", "purged", "errors")
    files = [f"--{name}-file={name}.csv" for name in names]
    options = ["--input-file", "simple.csv", "--retry-file", "retry.jsonl"]
    jsonl_to_csv.main([*ANSWERS, *STATE, *files, *options])
    labelled = pd.read_csv("labeled.csv").merge(pd.read_csv("truth.csv"), on="custom_id")
    has_label = labelled["class_x"] >= 0
    assert 0.93 < has_label.mean() < 0.99
    agreement = (labelled["class_x"] == labelled["class_y"])[has_label].mean()
    assert 0.88 < agreement < 0.96
    reasons = set(pd.read_csv("errors.csv")["reason"])
    assert len(reasons) >= 6 and "http 429" in reasons and "missing" in reasons


def test_the_tiny_models_load_as_clones_do_and_are_the_same_every_time(
    tiny_qwen2, tiny_bert, codebook
):
    from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer

    from pre_process.sample.tiny_bert import build_bert
    from pre_process.sample.tiny_qwen2 import build_qwen2

    tokenizer = AutoTokenizer.from_pretrained(tiny_qwen2)
    assert [tokenizer.decode([n]) for n in tokenizer("[3]")["input_ids"]] == ["[", "3", "]"]
    assert len(tokenizer("<|im_start|><|im_end|><|endoftext|>")["input_ids"]) == 3
    text = "一条评论 with 😀 and ｆｕｌｌ"
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    model = AutoModelForCausalLM.from_pretrained(tiny_qwen2)
    assert model.config.architectures == ["Qwen2ForCausalLM"]
    assert AutoModelForMaskedLM.from_pretrained(tiny_bert).config.max_position_embeddings == 512
    words = AutoTokenizer.from_pretrained(tiny_bert).tokenize("男女平等")
    assert words == ["男", "女", "平", "等"]
    comments = generate_comments(50, seed=1)
    sizes = {"hidden_size": 64, "num_layers": 1, "pretrain_steps": 2}
    for name in ("a", "b"):
        build_qwen2(f"q{name}", codebook, comments, **sizes)
        build_bert(f"b{name}", comments, **sizes)
    for kind in ("q", "b"):
        assert Path(f"{kind}a", "README.md").is_file()
        for file in ("model.safetensors", "tokenizer.json", "config.json"):
            assert Path(f"{kind}a", file).read_bytes() == Path(f"{kind}b", file).read_bytes()
