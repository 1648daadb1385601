"""Step 3b: the report's splits, to the row."""

import pandas as pd
import pytest

import split_dataset
from pipeline.common.cli import UserError
from pipeline.common.codebook import read_codebook
from pipeline.common.rows import read_messages

SHARES = (0.131, 0.43, 0.088, 0.351)


def labelled_rows(total):
    counts = [round(share * total) for share in SHARES[:3]]
    counts.append(total - sum(counts))
    labels = [k for k, count in enumerate(counts) for _ in range(count)]
    return [(f"row-{n + 2}", f"评论 {n}", k) for n, k in enumerate(labels)]


def split(path, *argv):
    split_dataset.main(["--input-file", path, "--output-dir", "out", *argv])
    codebook = read_codebook("prompt.txt")
    names = ("train", "validation", "test")
    return {name: read_messages(f"out/{name}.csv", "x", codebook) for name in names}


def test_74243_rows_give_the_report_s_counts_and_class_shares(write_rows):
    parts = split(write_rows("rows.csv", labelled_rows(74_243)))
    assert {name: len(part) for name, part in parts.items()} == {
        "train": 51_969,
        "validation": 7_425,
        "test": 14_849,
    }
    for part in parts.values():
        shares = part["class"].value_counts(normalize=True).sort_index()
        assert shares.tolist() == pytest.approx(SHARES, abs=1e-3)
    ids = [custom_id for part in parts.values() for custom_id in part["custom_id"]]
    assert len(set(ids)) == 74_243


def test_the_same_seed_gives_the_same_split_and_another_gives_another(write_rows):
    path = write_rows("rows.csv", labelled_rows(400))
    first, second = split(path)["test"], split(path)["test"]
    assert first.equals(second)
    assert not first.equals(split(path, "--seed", "1")["test"])


def test_messages_in_more_than_one_split_are_counted_or_kept_together(write_rows, capsys):
    rows = [(custom_id, "哈哈", 3) for custom_id, _, k in labelled_rows(400) if k == 3]
    rows += [row for row in labelled_rows(400) if row[2] != 3]
    rows += [(f"more-{n}", f"别的 {n}", 3) for n in range(40)]
    path = write_rows("rows.csv", rows)
    split(path)
    assert "1 messages stand in more than one split" in capsys.readouterr().out
    parts = split(path, "--group-duplicates")
    assert "0 messages stand in more than one split" in capsys.readouterr().out
    assert sum("哈哈" in set(part["message"]) for part in parts.values()) == 1
    assert sum(map(len, parts.values())) == len(rows)


def test_a_class_too_small_to_split_is_named_with_the_rows_it_needs(write_rows):
    rows = [row for row in labelled_rows(400) if row[2] != 2] + [("a", "x", 2), ("b", "y", 2)]
    path = write_rows("rows.csv", rows)
    with pytest.raises(UserError, match=r"class 2 \(Negative\) has 2 rows, and 10 are needed"):
        split(path)


def test_ten_rows_of_a_class_are_enough(write_rows):
    rows = [row for row in labelled_rows(5_000) if row[2] != 2]
    parts = split(write_rows("rows.csv", rows + [(f"n-{n}", f"n {n}", 2) for n in range(10)]))
    assert all((part["class"] == 2).any() for part in parts.values())


def test_a_row_without_a_label_is_refused(write_rows):
    path = write_rows("rows.csv", [*labelled_rows(100), ("row-200", "x", -1)])
    with pytest.raises(UserError, match="row 102: class '-1': it has no label"):
        split(path)


@pytest.mark.parametrize("sizes", [("0.9", "0.2"), ("0", "0.1"), ("0.2", "0.8")])
def test_sizes_that_leave_a_split_empty_are_refused(sizes, write_rows):
    path = write_rows("rows.csv", labelled_rows(100))
    with pytest.raises(UserError, match="--test-size and --validation-size"):
        split(path, "--test-size", sizes[0], "--validation-size", sizes[1])


GROUPED = "--group-duplicates"


@pytest.mark.parametrize("group", [GROUPED, "--no-group-duplicates"])
def test_in_another_split_coded_rows_stay_in_test_and_pilot_rows_out_of_it(write_rows, group):
    rows = [(f"row-{n}", f"评论 {n % 190}", n % 190 % 4) for n in range(200)]
    path = write_rows("rows.csv", rows)
    plain = split(path, group)
    ids = {name: plain[name]["custom_id"].tolist() for name in plain}
    coded, pilot = ids["train"][:9] + ids["test"][:5], ids["test"][4:12] + ids["train"][8:12]
    messages = {custom_id: message for custom_id, message, _ in rows}
    for folder, sampled in (("human_check", coded), ("human_check/pilot", pilot)):
        sample = [(custom_id, messages[custom_id], 0) for custom_id in sampled]
        write_rows(f"pre_process/{folder}/sample.csv", sample)
    splits = split(path, group)
    assert set(coded) <= set(splits["test"]["custom_id"])
    assert not (set(pilot) - set(coded)) & set(splits["test"]["custom_id"])
    if group == GROUPED:
        texts = [set(part["message"]) for part in splits.values()]
        assert not texts[0] & texts[2] and not texts[1] & texts[2]
    else:
        for name, part in splits.items():
            assert sorted(part["class"]) == sorted(plain[name]["class"])
    everyone = pd.concat(splits.values())["custom_id"]
    assert sorted(everyone) == sorted(custom_id for custom_id, _, _ in rows)


def test_a_sample_of_other_data_with_the_same_ids_moves_nothing(write_rows):
    path = write_rows("rows.csv", labelled_rows(300))
    before = split(path)
    write_rows("pre_process/human_check/sample.csv", [(f"row-{n}", "其他", 0) for n in range(300)])
    after = split(path)
    assert all(before[name].equals(after[name]) for name in before)


def test_splitting_nothing_but_coded_rows_is_refused(write_rows):
    path = write_rows("rows.csv", labelled_rows(300))
    write_rows("pre_process/human_check/sample.csv", labelled_rows(300))
    with pytest.raises(UserError, match="no row is left for train: people coded all of them"):
        split(path)
    split(path, "--human-samples", "")
