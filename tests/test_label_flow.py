"""From spreadsheet to labels: each label stays with its comment, its codebook and who gave it."""

import json
import random
import shutil
from collections import Counter
from pathlib import Path

import openpyxl
import pandas as pd
import pytest
from conftest import answer_line, request_ids_of

import batch_infer_gen
import excel_2_csv
import human_sample
import jsonl_to_csv
import split_dataset
import submit_batch
from pipeline.common.cli import UserError
from pre_process.sample.provider import always, teacher

SHEET = Path("comments.xlsx")
DATAS = Path("pre_process/datas")
ANSWERS = DATAS / "silver_label_v2.jsonl"
SETS = Path("pre_process/label_sets")
TRUTH = {f"第 {n} 条评论": n % 4 for n in range(60)}


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk")


def write_sheet(messages, title=False, **columns):
    book = openpyxl.Workbook()
    if title:
        book.active.append(["Comments of 2024"])
    book.active.append(["comment", *columns])
    for row in zip(messages, *columns.values(), strict=True):
        book.active.append(row)
    book.save(SHEET)


def label(provider, *excel, request=(), submit=(), read=()):
    """Run steps 1 to 3, as a user would; return the labelled rows."""
    excel_2_csv.main(["--excel-file", str(SHEET), *excel])
    batch_infer_gen.main(list(request))
    submit_batch.main(
        ["--base-url", provider.url, "--poll-seconds", "0.01", "--wait-for-rows", "0.02", "--yes"]
        + list(submit)
    )
    jsonl_to_csv.main(list(read))
    return labels()


def labels(path="pre_process/labeled_v2.csv"):
    return pd.read_csv(path, dtype={"custom_id": str}, keep_default_na=False)


def record():
    return json.loads(Path("pre_process/silver_labels.json").read_bytes())


def rows_moved(messages):
    return random.Random(1).sample(messages, len(messages))


def three_deleted(messages):
    return messages[:5] + messages[8:]


def one_changed_and_one_new(messages):
    return ["一条新评论", *messages[:9], messages[9] + "！", *messages[10:]]


@pytest.mark.parametrize("edit", [rows_moved, three_deleted, one_changed_and_one_new])
def test_in_an_edited_spreadsheet_each_comment_keeps_its_label_and_only_new_ones_are_paid(
    serve, edit
):
    provider = serve(lambda request, times: sure(TRUTH)(request, times))
    messages = list(TRUTH)
    write_sheet(messages)
    first = label(provider)
    assert first["class"].tolist() == list(TRUTH.values())
    edited = edit(messages)
    write_sheet(edited)
    second = label(provider)
    assert second["message"].tolist() == edited
    assert second["custom_id"].tolist() == [f"row-{n + 2}" for n in range(len(edited))]
    assert second["class"].tolist() == [TRUTH.get(message, 3) for message in edited]
    assert len(provider.charged) == 60 + len(set(edited) - set(messages))
    assert set(provider.charged.values()) == {1}


def sure(truth):
    """Return a teacher that knows the classes, and says the last one of other comments."""

    def answers(request, times):
        message = request["body"]["messages"][-1]["content"]
        return always(truth.get(message, 3))(request, times)

    return answers


def test_without_sending_anything_moved_rows_keep_their_labels_and_new_ones_are_not_asked(serve):
    provider = serve(sure(TRUTH))
    write_sheet(list(TRUTH))
    label(provider)
    edited = one_changed_and_one_new(rows_moved(list(TRUTH)))
    write_sheet(edited)
    excel_2_csv.main(["--excel-file", str(SHEET)])
    jsonl_to_csv.main([])
    assert labels()["class"].tolist() == [TRUTH.get(message, -1) for message in edited]
    assert record()["reasons"] == {"not asked yet": 2}
    errors = pd.read_csv("pre_process/silver_errors.csv", keep_default_na=False)
    assert Counter(errors["reason"]) == {"not asked yet": 2, "no such row": 1}
    assert not (DATAS / "retry_v2.jsonl").read_bytes()


def test_the_user_s_own_ids_are_kept_and_are_not_sent(serve):
    provider = serve(sure(TRUTH))
    ids = [f"weibo/{n:04d}" for n in range(60)]
    write_sheet(list(TRUTH), id=ids)
    labelled = label(provider, "--id-column", "id")
    assert labelled["custom_id"].tolist() == ids
    everything = pd.read_csv(DATAS / "weibo_data.csv", dtype=str)
    assert everything["custom_id"].tolist() == ids
    sent = b"".join(content for _, content in provider.files.values())
    assert sent and b"weibo" not in sent


def test_equal_comments_are_asked_one_by_one_and_each_keeps_an_answer(serve):
    replies = iter(["[0]", "[1]", "[2]"])

    def answers(request, times):
        return [json.loads(answer_line(request["custom_id"], next(replies)))]

    provider = serve(answers)
    write_sheet(["哈哈", "哈哈", "哈哈"])
    assert label(provider)["class"].tolist() == [0, 1, 2]
    write_sheet(["哈哈", "哈哈"])
    assert label(provider)["class"].tolist() == [0, 1]
    assert record()["unmatched"] == 0
    assert len(provider.charged) == 3


def test_equal_comments_can_be_asked_once_for_all(serve, capsys):
    provider = serve(sure({"哈哈": 2, "不": 1}))
    write_sheet(["哈哈", "不", "哈哈", "哈哈"])
    labelled = label(provider, request=["--ask-equal-comments-once"])
    assert "2 comments equal another and are not asked: 50.0% saved" in capsys.readouterr().out
    assert labelled["class"].tolist() == [2, 1, 2, 2]
    assert len(provider.charged) == 2 and (len(request_ids_of()), record()["labelled"]) == (2, 4)
    assert label(provider)["class"].tolist() == [2, 1, 2, 2]
    assert len(provider.charged) == 4


def test_which_of_equal_comments_people_coded_costs_nothing(serve):
    provider = serve(sure({}))
    for codes in ([0, "", ""], ["", "", 0], ["", 0, ""]):
        write_sheet(["哈哈"] * 3, code=codes)
        labelled = label(provider, "--label-column", "code")
        assert labelled["class"].tolist() == [3 if code == "" else code for code in codes]
    assert len(provider.charged) == 2 and set(provider.charged.values()) == {1}


def test_an_answer_that_counts_for_equal_comments_stays_when_people_code_the_first(serve):
    provider = serve(sure({}))
    write_sheet(["哈哈"] * 3)
    label(provider, request=["--ask-equal-comments-once"])
    write_sheet(["哈哈"] * 3, code=[0, "", ""])
    once = ["--ask-equal-comments-once"]
    assert label(provider, "--label-column", "code", request=once)["class"].tolist() == [0, 3, 3]
    assert len(provider.charged) == 1


def refine(old="Mild", new="Neutral"):
    path = Path("prompt.txt")
    path.write_text(path.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")


def test_a_refined_codebook_is_a_label_set_of_its_own_that_asks_for_its_price(serve, capsys):
    provider = serve(sure(TRUTH))
    write_sheet(list(TRUTH))
    label(provider, submit=["--limit", "20"])
    assert (labels()["class"] >= 0).sum() == 20 and record()["reasons"] == {"not asked yet": 40}
    pilot = set(labels()["message"][labels()["class"] >= 0])
    refine()
    with pytest.raises(
        UserError, match="40 requests were not sent: they ask with another codebook"
    ):
        submit_batch.main(["--base-url", provider.url, "--yes"])
    with pytest.raises(UserError, match="asks with another codebook than ./prompt.txt"):
        jsonl_to_csv.main([])
    batch_infer_gen.main([])
    with pytest.raises(UserError, match="all of its 20 answers are by another codebook or model"):
        jsonl_to_csv.main([])
    capsys.readouterr()
    with pytest.raises(UserError, match="nobody is there to ask: give --yes"):
        submit_batch.main(["--base-url", provider.url, "--limit", "20"])
    out = capsys.readouterr().out
    assert "the labels so far are by another codebook or model" in out
    assert "20 requests to send" in out and "input  about" in out
    assert not SETS.joinpath("silver_label_v2.jsonl").exists() and len(provider.charged) == 20

    label(provider, submit=["--limit", "20"])
    assert set(labels()["message"][labels()["class"] >= 0]) == pilot
    assert len(provider.charged) == 40
    [first, second] = sorted(
        SETS.iterdir(), key=lambda folder: (folder / "labels.csv").stat().st_mtime
    )
    assert (first / "silver_label_v2.jsonl").is_file()
    assert not (second / "silver_label_v2.jsonl").exists()
    for folder in (first, second):
        table = labels(folder / "labels.csv")
        assert set(table["message"][table["class"] >= 0]) == pilot
    assert "Mild" in (first / "prompt.txt").read_text(encoding="utf-8")
    assert "Neutral" in (second / "prompt.txt").read_text(encoding="utf-8")

    refine("Neutral", "Mild")
    label(provider)
    assert len(provider.charged) == 80 and set(provider.charged.values()) == {1}
    assert labels()["class"].tolist() == list(TRUTH.values())
    assert not (first / "silver_label_v2.jsonl").exists()
    assert (second / "silver_label_v2.jsonl").is_file()


@pytest.mark.parametrize("script", [split_dataset, human_sample])
def test_labels_of_a_codebook_that_was_changed_are_not_taken_for_those_of_the_new_one(
    serve, script
):
    provider = serve(sure(TRUTH))
    write_sheet(list(TRUTH))
    label(provider)
    refine()
    with pytest.raises(UserError, match="purged_labeled_v2.csv holds labels by another codebook"):
        script.main([])
    label(provider)
    split_dataset.main([])


@pytest.mark.parametrize(("action", "paid"), [("503", 0), ("drop after", 60)])
@pytest.mark.parametrize("asked_anew", [True, False])
def test_a_batch_that_may_have_been_made_before_the_codebook_changed_is_found_or_never_made(
    serve, action, paid, asked_anew
):
    provider = serve(sure(TRUTH))
    write_sheet(list(TRUTH))
    provider.fault("POST /v1/batches", action, times=20)
    with pytest.raises(UserError, match="answers 503|cannot be reached"):
        label(provider, submit=["--max-retries", "0"])
    provider.faults.clear()
    assert len(provider.charged) == paid
    refine()
    if asked_anew:
        label(provider)
        assert set(labels()["class"]) == {0, 1, 2, 3}
    elif paid:
        submit_batch.main(["--base-url", provider.url, "--poll-seconds", "0.01", "--yes"])
    else:
        with pytest.raises(UserError, match="60 requests were not sent: they ask with another"):
            submit_batch.main(["--base-url", provider.url, "--poll-seconds", "0.01", "--yes"])
    assert len(provider.charged) == paid + 60 * asked_anew
    assert set(provider.charged.values()) <= {1}
    refine("Neutral", "Mild")
    label(provider)
    assert labels()["class"].tolist() == list(TRUTH.values())
    assert len(provider.charged) == 60 + 60 * asked_anew and set(provider.charged.values()) == {1}


def test_a_batch_that_is_refused_for_a_limit_after_the_codebook_changed_is_not_sent_again(serve):
    provider = serve(sure(TRUTH), polls=3)
    write_sheet(list(TRUTH))
    provider.most, provider.refuses = 0, "failed"
    provider.fault("GET /v1/batches/.*", "401", times=1)
    with pytest.raises(UserError, match="refuses the key"):
        label(provider)
    provider.most = 10
    refine()
    with pytest.raises(UserError, match="refused by the provider: 1 of the batches, at no cost"):
        submit_batch.main(["--base-url", provider.url, "--poll-seconds", "0.01", "--yes"])
    assert not provider.charged


def test_answers_of_an_interrupted_chat_stay_with_their_codebook_when_it_changes(serve):
    provider = serve(sure(TRUTH))
    write_sheet(list(TRUTH))
    chat = ["--mode", "chat", "--max-retries", "0", "--max-concurrency", "1"]
    provider.fault("POST /v1/chat/completions", "slow 0", times=10)
    provider.fault("POST /v1/chat/completions", "401", times=1)
    with pytest.raises(UserError, match="refuses the key"):
        label(provider, submit=chat)
    assert len(ANSWERS.read_bytes().splitlines()) == 10
    refine()
    label(provider, submit=chat)
    assert {folder.name.rpartition("-")[0] for folder in SETS.iterdir()} == {"DeepSeek-V3"}
    jobs = json.loads((DATAS / "submit_batch.json").read_text())["jobs"]
    assert [(job["rows"], job["counts"]["answered"]) for job in jobs] == [(10, 10), (60, 60)]
    refine("Neutral", "Mild")
    label(provider, submit=chat)
    assert labels()["class"].tolist() == list(TRUTH.values())
    assert set(provider.charged.values()) == {2}


def test_the_answers_in_a_set_s_folder_count_beside_several_files_that_are_named(serve):
    provider = serve(sure(TRUTH))
    write_sheet(list(TRUTH))
    label(provider)
    refine()
    label(provider)
    refine("Neutral", "Mild")
    batch_infer_gen.main([])
    Path("by_hand.jsonl").touch()
    jsonl_to_csv.main(["--answers-file", f"{ANSWERS},by_hand.jsonl"])
    assert labels()["class"].tolist() == list(TRUTH.values())
    with pytest.raises(UserError, match="by-hand.jsonl not found"):
        jsonl_to_csv.main(["--answers-file", f"{ANSWERS},by-hand.jsonl"])


def test_a_job_whose_requests_are_lost_is_told_and_its_answers_still_count(serve):
    provider = serve(sure(TRUTH))
    write_sheet(list(TRUTH))
    label(provider, submit=["--limit", "20"])
    [ids_file] = (DATAS / "jobs").iterdir()
    ids_file.unlink()
    with pytest.raises(UserError, match=f"{ids_file.name} not found: restore it .* move .* away"):
        label(provider)
    (DATAS / "submit_batch.json").rename("moved.json")
    label(provider)
    assert labels()["class"].tolist() == list(TRUTH.values())
    assert len(provider.charged) == 60 and set(provider.charged.values()) == {1}


def test_where_people_coded_all_rows_requests_with_another_codebook_are_left_out(serve):
    provider = serve(sure(TRUTH))
    write_sheet(list(TRUTH))
    label(provider)
    refine()
    write_sheet(list(TRUTH), code=list(TRUTH.values()))
    excel_2_csv.main(["--excel-file", str(SHEET), "--label-column", "code"])
    jsonl_to_csv.main([])
    assert (record()["human_rows"], record()["teachers"]) == (60, [""])


def test_another_model_is_a_label_set_of_its_own(serve):
    write_sheet(list(TRUTH))
    label(serve(always(1)))
    other = serve(always(2))
    again = label(other, request=["--model", "b/other-7B"])
    assert set(again["class"]) == {2} and len(other.charged) == 60
    kept = labels(next(SETS.glob("DeepSeek-V3-*/labels.csv")))
    assert set(kept["class"]) == {1} and next(SETS.glob("other-7B-*/labels.csv"))
    assert record()["teachers"] == ["b/other-7B"]


def test_the_model_of_the_record_is_the_one_that_answered(serve):
    write_sheet(list(TRUTH))
    label(serve(sure(TRUTH)), submit=["--replace-model", "deepseek-ai/DeepSeek-V3.2"])
    assert record()["teachers"] == ["deepseek-ai/DeepSeek-V3.2"]
    assert record()["requested_model"] == "deepseek-ai/DeepSeek-V3"


CODED = [0 if n % 5 == 0 else 1 if n % 5 == 1 else "" for n in range(60)]


def test_rows_that_people_coded_are_not_asked_and_stay_human_in_every_file(serve, capsys):
    provider = serve(sure(TRUTH))
    write_sheet(list(TRUTH), code=CODED)
    labelled = label(provider, "--label-column", "code")
    assert "24 rows that people coded are not asked" in capsys.readouterr().out
    assert len(provider.charged) == 36
    people = [code != "" for code in CODED]
    assert (labelled["coded_by"] == "human").tolist() == people
    expected = [code if code != "" else k for code, k in zip(CODED, TRUTH.values(), strict=True)]
    assert labelled["class"].tolist() == expected
    assert (record()["human_rows"], record()["labelled"]) == (24, 60)
    assert record()["asked_coded_rows"] is None
    split_dataset.main(["--test-size", "0.3", "--validation-size", "0.2"])
    parts = [
        labels(f"pre_process/evaluation/{name}.csv") for name in ("train", "validation", "test")
    ]
    assert (pd.concat(parts)["coded_by"] == "human").sum() == 24


def test_what_people_coded_is_never_taken_for_a_class_of_a_changed_codebook(serve):
    names = ["Positive" if n % 2 else "Mild" for n in range(60)]
    provider = serve(sure(TRUTH))
    write_sheet(list(TRUTH), code=[*names[:24], *[""] * 36])
    label(provider, "--label-column", "code")
    text = Path("prompt.txt").read_text(encoding="utf-8")
    swapped = text.replace("Mild", "?").replace("Positive", "Mild").replace("?", "Positive")
    for changed in (swapped, text.replace("Mild", "Neutral")):
        Path("prompt.txt").write_text(changed, encoding="utf-8")
        for script in (batch_infer_gen, jsonl_to_csv):
            with pytest.raises(UserError, match="row 2: people coded it as 'Mild', class 1 then"):
                script.main([])
    Path("prompt.txt").write_text(swapped, encoding="utf-8")
    labelled = label(provider, "--label-column", "code")
    assert labelled["class"].tolist()[:24] == [0, 1] * 12


def test_the_teacher_can_be_asked_about_coded_rows_to_see_how_far_it_agrees_with_people(
    serve, capsys
):
    provider = serve(sure(TRUTH))
    write_sheet(list(TRUTH), code=CODED)
    labelled = label(provider, "--label-column", "code", request=["--ask-coded-rows"])
    assert len(provider.charged) == 60
    assert (labelled["coded_by"] == "human").sum() == 24
    agree = sum(code == k for code, k in zip(CODED, TRUTH.values(), strict=True))
    check = record()["asked_coded_rows"]
    assert (check["rows"], check["agreement"]) == (24, agree / 24)
    assert check["agreement_ci95"][0] < agree / 24 < check["agreement_ci95"][1]
    assert "on 24 rows that people coded, the model gives their class in" in capsys.readouterr().out
    excel_2_csv.main(["--excel-file", str(SHEET), "--label-column", "code"])
    batch_infer_gen.main([])
    jsonl_to_csv.main([])
    assert record()["asked_coded_rows"] == check


def test_where_people_coded_all_rows_nothing_is_asked_and_the_labels_are_theirs(capsys):
    write_sheet(list(TRUTH), code=list(TRUTH.values()))
    excel_2_csv.main(["--excel-file", str(SHEET), "--label-column", "code"])
    with pytest.raises(UserError, match="people coded all rows: there is nothing to ask"):
        batch_infer_gen.main([])
    jsonl_to_csv.main([])
    purged = labels("pre_process/purged_labeled_v2.csv")
    assert purged["class"].tolist() == list(TRUTH.values())
    assert set(purged["coded_by"]) == {"human"}
    assert not SETS.exists()


def test_one_answer_in_two_files_votes_once_and_confidence_of_other_answers_goes(serve):
    provider = serve(always(1))
    write_sheet(["一", "二"])
    label(provider, request=["--top-logprobs", "5"])
    assert Path("pre_process/silver_confidence.csv").is_file()
    one, two = request_ids_of()
    own, repeats = answer_line(one, "[1]"), [f"{one}--repeat-{n}" for n in (1, 2)]
    lines = [own, *(answer_line(row, "[2]") for row in repeats), answer_line(two, "[1]")]
    ANSWERS.write_text("\n".join(lines), encoding="utf-8")
    Path("again.jsonl").write_text("\n".join([own] * 3), encoding="utf-8")
    jsonl_to_csv.main(["--answers-file", f"{ANSWERS},again.jsonl", "--majority-vote"])
    assert labels()["class"].tolist() == [2, 1]
    assert record()["duplicates"] == 3
    assert not Path("pre_process/silver_confidence.csv").exists()
    table = labels(next(SETS.glob("*/labels.csv")))
    assert table["repeat_1"].tolist() == ["2", ""]


def test_answers_are_found_where_the_record_of_what_was_sent_says_that_they_went(serve):
    write_sheet(list(TRUTH))
    provider = serve(sure(TRUTH))
    assert label(provider, submit=["--answers-file", "elsewhere.jsonl"])["class"].tolist() == list(
        TRUTH.values()
    )


def test_a_pilot_is_a_random_part_and_the_same_comments_for_every_codebook(serve):
    provider = serve(teacher(TRUTH, 4))
    write_sheet(list(TRUTH))
    label(provider, submit=["--limit", "20", "--accept-missing"])
    asked = {json.loads(line)["custom_id"].partition("--")[0] for line in ANSWERS.open()}
    places = sorted(request_ids_of().index(custom_id) for custom_id in asked)
    assert places[-1] > 40 and places != list(range(len(places)))


def test_the_settings_of_the_record_are_those_that_were_sent(serve):
    write_sheet(list(TRUTH))
    label(serve(sure(TRUTH)), request=["--temperature", "0.3"])
    batch_infer_gen.main(["--temperature", "0.7", "--max-tokens", "9"])
    jsonl_to_csv.main([])
    assert (record()["temperature"], record()["max_tokens"]) == (0.3, 20)


def test_a_study_that_was_copied_or_renamed_knows_what_was_sent(serve, monkeypatch):
    provider = serve(sure(TRUTH))
    write_sheet(list(TRUTH))
    label(provider)
    shutil.copytree("pre_process", "copies/gender/pre_process")
    shutil.copy("prompt.txt", "copies/gender")
    study = ["--study", "copies/gender"]
    submit_batch.main([*study, "--base-url", provider.url, "--yes"])
    jsonl_to_csv.main(study)
    assert set(provider.charged.values()) == {1} and len(provider.charged) == 60
    kept = labels("copies/gender/pre_process/labeled_v2.csv")
    assert kept["class"].tolist() == list(TRUTH.values())


def test_ten_repeats_stand_in_the_columns_of_their_numbers(serve):
    write_sheet(["一", "二"])
    label(serve(always(1)))
    row = request_ids_of()[0]
    with ANSWERS.open("a", encoding="utf-8") as file:
        for number in (2, 10):
            file.write(answer_line(f"{row}--repeat-{number}", f"[{number % 4}]") + "\n")
    jsonl_to_csv.main([])
    table = labels(next(SETS.glob("*/labels.csv")))
    assert [name for name in table if "repeat" in name] == ["repeat_2", "repeat_10"]
    assert table["repeat_2"].tolist() == table["repeat_10"].tolist() == ["2", ""]
