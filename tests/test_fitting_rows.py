"""Wrong but plausible input: rows, codebooks and tokenizers that do not fit are told in a line."""

from pathlib import Path

import pandas as pd
import pytest

import human_check
import split_dataset
from pipeline.common.cli import UserError
from pipeline.common.codebook import parse_label, read_codebook
from pipeline.common.files import write_text
from pipeline.common.fitting_rows import SAMPLED, refuse_learned_rows, sample_of
from pipeline.common.rows import read_messages, read_test_rows, read_training_rows
from pipeline.common.tables import write_csv
from pipeline.labelling.corrections import read_corrections
from pipeline.labelling.label_tables import read_labels

SPLIT = Path("pre_process/evaluation")


def rows_of(count, start=0, name="评论"):
    numbers = range(start, start + count)
    return pd.DataFrame(
        {
            "custom_id": [f"row-{n}" for n in numbers],
            "message": [f"{name} {n}" for n in numbers],
            "class": [n % 4 for n in numbers],
        }
    )


@pytest.mark.parametrize("trained", [500, 5 * SAMPLED])
def test_test_rows_that_a_model_learned_are_refused_by_their_share(trained):
    sample = sample_of(rows_of(trained))
    assert len(sample) <= 10 * SAMPLED
    test = rows_of(2_000, start=trained - 1_000 if trained > 1_000 else 0)
    with pytest.raises(UserError) as error:
        refuse_learned_rows("test.csv", test, sample, "./adapter")
    found = int(str(error.value).partition("%")[0].rpartition(" ")[2])
    assert abs(found - (50 if trained > 1_000 else 25)) < 8
    assert ("about" in str(error.value)) == (trained > SAMPLED)
    assert "of its rows are rows that ./adapter learned from (such as row-" in str(error.value)
    assert "give --test-file the test.csv of the split that it was trained on" in str(error.value)


def test_a_few_rows_that_a_model_learned_are_told_and_equal_comments_are_no_learned_rows(capsys):
    train = rows_of(1_000)
    sample = sample_of(train)
    test = pd.concat([rows_of(3), rows_of(997, start=1_000)])
    refuse_learned_rows("test.csv", test, sample, "m")
    expected = "  0.30% of test.csv are rows that m learned from (such as row-0): remove them\n"
    assert capsys.readouterr().out == expected
    equal = train.assign(custom_id=[f"other-{n}" for n in range(1_000)])
    refuse_learned_rows("test.csv", equal, sample, "m")
    refuse_learned_rows("test.csv", train.assign(**{"class": -1}), sample, "m")  # to be coded
    refuse_learned_rows("test.csv", train, "", "an older model")
    refuse_learned_rows("test.csv", rows_of(5, 0, "其他"), sample, "m")
    assert capsys.readouterr().out == ""


@pytest.fixture
def split():
    """Split 400 rows; return the folder."""
    write_csv(rows_of(400), "pre_process/purged_labeled_v2.csv")
    split_dataset.main([])
    return SPLIT


def change_codebook():
    text = Path("prompt.txt").read_text(encoding="utf-8")
    write_text(text.replace("[0] Positive: supports", "[0] Positive: opposes"), "prompt.txt")


def test_a_test_or_training_file_of_another_codebook_is_refused(split, codebook):
    read_test_rows(split / "test.csv", codebook, 0)
    read_training_rows(split / "train.csv", split / "validation.csv", codebook, 0)
    change_codebook()
    cure = r"test.csv holds classes by another codebook than prompt.txt, as .*splits.json says: run"
    with pytest.raises(UserError, match=cure):
        read_test_rows(split / "test.csv", read_codebook("prompt.txt"), 0)
    with pytest.raises(UserError, match=r"train.csv holds classes by another codebook"):
        read_training_rows(
            split / "train.csv", split / "validation.csv", read_codebook("prompt.txt"), 0
        )
    write_csv(rows_of(9), split / "mine.csv")  # a file of one's own, of which no record says more
    read_test_rows(split / "mine.csv", read_codebook("prompt.txt"), 0)


def test_people_s_test_set_of_another_codebook_is_refused(codebook):
    file = SPLIT / "human_test.csv"
    human_check.write_human_test(rows_of(8), codebook, file)
    assert len(read_test_rows(file, codebook, 0)) == 8
    change_codebook()
    with pytest.raises(UserError, match=r"another codebook .* run human_check.py with this"):
        read_test_rows(file, read_codebook("prompt.txt"), 0)


def test_a_class_that_a_file_lacks_is_named_and_one_class_is_nothing_to_learn(
    split, codebook, capsys
):
    train, rest = split / "train.csv", split / "validation.csv"
    rows = read_messages(train, "x", codebook)
    write_csv(rows[rows["class"] != 2], "train.csv")
    write_csv(rows[rows["class"] == 3], "one.csv")
    write_csv(rows.assign(**{"class": -1}), "none.csv")
    capsys.readouterr()
    read_training_rows("train.csv", rest, codebook, 0)
    assert "no row of train.csv has class 2 (Negative): a model" in capsys.readouterr().out
    read_training_rows(train, "train.csv", codebook, 0)
    read_test_rows("train.csv", codebook, 0)
    assert capsys.readouterr().out.count("no row of train.csv has class 2 (Negative)") == 2
    read_test_rows("none.csv", codebook, 0)
    read_test_rows(split / "test.csv", codebook, 0)
    assert "no row of" not in capsys.readouterr().out
    with pytest.raises(UserError, match=r"one.csv: all 70 rows to train on have class 3 \(Irr"):
        read_training_rows("one.csv", rest, codebook, 0)
    with pytest.raises(UserError, match=r"train.csv: all 1 rows .* larger --max-train-samples"):
        read_training_rows(train, rest, codebook, 1)


@pytest.mark.parametrize(
    ("cell", "label"),
    [
        *(
            ("Mild", 1),
            ("mild ", 1),
            ("ＭＩＬＤ", 1),
            ("1", 1),
            ("1.0", 1),
            ("１", 1),
            ("１．０", 1),
        ),
        *(("", -1), ("-1", -1), ("－１", -1), ("-1.0", -1), ("4", None), ("1.5", None)),
        *(("Mildly", None), ("1 2", None), ("Mild/Negative", None), ("nan", None), ("TRUE", None)),
    ],
)
def test_a_class_is_read_as_a_number_or_a_name_of_any_width(cell, label, codebook):
    assert parse_label(cell, codebook) == label


TWICE = rows_of(3).assign(custom_id=["row-1", "row-2", "row-1"], message=["a", "b", "a"])


def labels_file(path, codebook):
    write_csv(TWICE, path)
    read_labels(path, codebook)


def corrections_file(path, codebook):
    write_csv(TWICE.assign(codebook_sha256=codebook.sha256), path)
    read_corrections("", path, rows_of(5), codebook)


def messages_file(path, codebook):
    write_csv(TWICE, path)
    read_messages(path, "jsonl_to_csv.py", codebook)


@pytest.mark.parametrize("reader", [labels_file, corrections_file, messages_file])
def test_an_id_that_stands_in_a_file_twice_is_refused(reader, codebook):
    with pytest.raises(UserError, match=r"twice.csv, row 4: custom_id 'row-1' stands there twice"):
        reader("twice.csv", codebook)
