"""Step 3b: the report's splits, to the row."""

import pandas as pd
import pytest

import split_dataset
from pipeline.common.cli import UserError
from pipeline.common.codebook import read_codebook
from pipeline.common.rows import read_messages
from pipeline.common.tables import write_csv

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


def messages_of(parts):
    return {name: set(part["message"]) for name, part in parts.items()}


def moved(rows, *gone):
    """Return rows as an edited sheet has them: sorted, some deleted, the title row too."""
    left = sorted((row for row in rows if row[1] not in gone), key=lambda row: row[1][::-1])
    return [(f"row-{n}", message, k) for n, (_, message, k) in enumerate(left, start=1)]


@pytest.mark.parametrize("group", [GROUPED, "--no-group-duplicates"])
def test_a_row_stays_in_its_split_when_labels_are_corrected_and_the_sheet_is_edited(
    write_rows, capsys, group
):
    rows = labelled_rows(400)
    rows += [(f"more-{n}", f"评论 {n}", rows[n][2]) for n in range(0, 400, 9)]
    before = split(write_rows("rows.csv", rows), group)
    corrected = [
        (custom_id, message, (k + (int(message[3:]) % 11 == 0)) % 4)
        for custom_id, message, k in rows
    ]
    after = split(write_rows("rows.csv", corrected), group)
    assert messages_of(after) == messages_of(before)
    labels = {custom_id: k for custom_id, _, k in corrected}
    for part in after.values():
        assert part["class"].tolist() == [labels[custom_id] for custom_id in part["custom_id"]]
    gone = ("评论 7", "评论 8", "评论 310")
    capsys.readouterr()
    edited = split(write_rows("rows.csv", moved(corrected, *gone)), group)
    assert "0 are new and are drawn, 3 are gone" in capsys.readouterr().out
    assert {name: texts - set(gone) for name, texts in messages_of(before).items()} == (
        messages_of(edited)
    )


def test_new_rows_are_drawn_in_the_same_shares_and_old_ones_stay(write_rows):
    rows = labelled_rows(1_000)
    first = split(write_rows("rows.csv", rows[::2]))
    both = split(write_rows("rows.csv", rows))
    for name, share in (("train", 0.7), ("validation", 0.1), ("test", 0.2)):
        assert messages_of(first)[name] <= messages_of(both)[name]
        for k in range(4):
            of_class = sum(row[2] == k for row in rows)
            assert (both[name]["class"] == k).sum() == pytest.approx(share * of_class, abs=1.01)
    assert sum(map(len, both.values())) == 1_000
    again = split(write_rows("rows.csv", rows))
    assert all(again[name].equals(both[name]) for name in both)


def test_another_codebook_or_other_settings_draw_all_rows_anew(write_rows, capsys):
    path = write_rows("rows.csv", labelled_rows(300))
    first = split(path)
    split(path, "--validation-size", "0.15")
    assert "those in out were drawn with another validation_size" in capsys.readouterr().out
    corrected = [(a, b, (k + (n % 9 == 0)) % 4) for n, (a, b, k) in enumerate(labelled_rows(300))]
    write_rows("rows.csv", corrected)
    assert messages_of(split(path)) != messages_of(first)
    capsys.readouterr()
    with open("prompt.txt", "a", encoding="utf-8") as prompt:
        prompt.write("\nQuotations count as their speaker means them.\n")
    split(path)
    assert "those in out were drawn with another codebook" in capsys.readouterr().out


def test_coded_rows_that_moved_in_the_sheet_still_go_to_test_and_pilot_rows_out_of_it(write_rows):
    rows = labelled_rows(300)
    sample, pilots = rows[:200:10], (rows[5:300:30], rows[7:300:30])
    write_rows("pre_process/human_check/sample.csv", sample)
    write_rows("pre_process/human_check/pilot/sample.csv", pilots[0])
    write_rows("pre_process/human_check/pilot_2/sample.csv", pilots[1])
    gone = [sample[0][1], pilots[0][0][1], pilots[1][0][1]]
    parts = messages_of(split(write_rows("rows.csv", moved(rows, *gone))))
    assert {message for _, message, _ in sample[1:]} <= parts["test"]
    for pilot in pilots:
        assert not {message for _, message, _ in pilot} & parts["test"]


def test_rows_that_people_coded_say_so_in_each_split(write_rows):
    rows = pd.DataFrame(labelled_rows(300), columns=["custom_id", "message", "class"])
    human = set(rows["custom_id"][::7])
    rows["coded_by"] = ["human" if name in human else "" for name in rows["custom_id"]]
    write_csv(rows, "rows.csv")
    for _ in range(2):
        parts = pd.concat(split("rows.csv").values())
        assert set(parts["custom_id"][parts["coded_by"] == "human"]) == human
        assert (parts["coded_by"] == "human").sum() == len(human)
