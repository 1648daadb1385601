"""Step 15: the plan from files, the plan applied, and what people and the teacher send back."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import request_ids_of

import batch_infer_gen
import human_check
import human_sample
import jsonl_to_csv
import plan_coding
import split_dataset
import submit_batch
from pipeline.coding.probabilities import write_known
from pipeline.common.cli import UserError
from pipeline.common.codebook import read_codebook
from pipeline.common.files import write_json
from pipeline.common.fitting_rows import LABELS_RECORD
from pipeline.common.hashes import text_hashes
from pipeline.common.tables import read_csv, write_csv
from pipeline.evaluation.metrics import compute_metrics
from pipeline.people.human_codes import read_human_codes
from pipeline.people.unsure_rows import read_coded_tasks
from pipeline.planning.plan import Plan
from pre_process.sample import coders

DATAS = Path("pre_process/datas")
UNSURE = DATAS / "unsure_v2.jsonl"
CODING = Path("pre_process/coding")
TUNED = "./bert_checkpoints/final_model"
LABELLED = 1600  # of 2,000 rows, the others are to be coded
AGAINST = {"human coders": "accuracy against", "silver labels": "agreement with"}


def table_of(count):
    """Return rows and what a model says of them: right as often as its confidence says."""
    rng = np.random.default_rng(7)
    truth = rng.choice(4, count, p=[0.2, 0.4, 0.1, 0.3])
    confidence = rng.uniform(0.5, 1, count).round(6)
    right = rng.random(count) < confidence
    predicted = np.where(right, truth, (truth + rng.integers(1, 4, count)) % 4)
    return pd.DataFrame(
        {
            "custom_id": [f"row-{n}" for n in range(2, count + 2)],
            "message": [f"评论 {n // 2}" if n >= count - 4 else f"评论 {n}." for n in range(count)],
            "class": truth,
            "predicted": predicted,
            "confidence": confidence,
        }
    )


def write_run(folder, rows, source="silver labels", **more):
    """Write the folder of an evaluation of the tuned encoder."""
    weights = rows["weight"].to_numpy() if "weight" in rows else None
    name = "human_test" if source == "human coders" else "test"
    test_file = f"./pre_process/evaluation/{name}.csv"
    codebook = read_codebook("prompt.txt")
    metrics = compute_metrics(rows["class"].to_numpy(), rows["predicted"].to_numpy(), 4, 0, weights)
    record = {
        "model": "e5",
        "family": "bert",
        "stage": "after",
        "model_path": "./e5",
        "method": "fine-tuned",
        "test_file": test_file,
        "label_source": source,
        "measured_against": f"{AGAINST[source]} {source} ({test_file})",
        "class_names": list(codebook.names),
        "codebook_sha256": codebook.sha256,
        "settings": {"tuned_path": TUNED},
    }
    write_json(metrics | record | more, Path(folder) / "metrics.json")
    write_csv(rows.assign(reply=""), Path(folder) / "predictions.csv")


def write_coded(rows, coded_by, **more):
    """Write what code_comments.py leaves."""
    model = {"path": TUNED, "name": "e5", "kind": "encoder", "fingerprint": "f", "temperature": 1.0}
    record = {"model": model, "codebook_sha256": read_codebook("prompt.txt").sha256} | more
    write_json(record, "results/coded/coded.json")
    codes = rows.drop(columns="message").assign(coded_by=coded_by, check="")
    write_csv(codes, "results/coded/codes.csv")


@pytest.fixture(autouse=True)
def without_figures(request, monkeypatch):
    """Draw no figure, which takes a second, where a test does not look at it."""
    if "figure" not in request.node.name:
        monkeypatch.setattr("pipeline.planning.plan_plot.plot_plan", lambda plan, path: None)


@pytest.fixture
def study():
    """Write a study of 2,000 rows, 1,600 labelled, with the run on 600 test rows; return rows."""
    rows = table_of(2000)
    write_csv(rows[["custom_id", "message"]].assign(**{"class": -1}), DATAS / "simple.csv")
    labelled = rows[["custom_id", "message", "class"]][:LABELLED]
    write_csv(labelled, "pre_process/purged_labeled_v2.csv")
    write_run("results/e5-after", rows[1000:1600])
    return rows


@pytest.fixture
def coded(study):
    """Code the study's rows: those with a label by the teacher, the others by the model."""
    write_coded(study, ["teacher"] * LABELLED + ["model"] * (len(study) - LABELLED))
    return study


def plan(*argv):
    plan_coding.main(list(argv))
    return Plan.read("results/plan")


def apply(*argv):
    plan_coding.main(["--apply", *argv])


def test_a_target_gives_the_threshold_the_promise_the_price_and_a_figure(study, capsys):
    made = plan("--target-accuracy", "0.9")
    held_out = study[1000:1600]
    kept = held_out["confidence"] >= made.threshold
    right = (~kept | (held_out["class"] == held_out["predicted"])).mean()
    assert made.accuracy == pytest.approx(right) and made.promised == 0.9
    assert made.accuracy_ci95[0] < right < made.accuracy_ci95[1]
    assert made.rows_to_code == 400 and made.sent_rows == round(400 * (1 - kept.mean()))
    assert made.price == pytest.approx(made.sent_rows * made.costs.teacher_per_row) and made.price
    assert made.others_are_right and not made.weighted and made.minutes is None
    printed = capsys.readouterr().out
    assert "agreement with the teacher, not accuracy against people" in printed
    assert "promised accuracy 90.00%" in printed and "at most 5.0%" in printed
    assert Path("results/plan/plan.png").read_bytes().startswith(b"\x89PNG")
    curve = read_csv("results/plan/plan.csv", ["threshold", "kept_accuracy_low"], "plan_coding.py")
    assert len(curve) == len(made.curve) > 50
    assert made.curve[0].accuracy_with_teacher == 1 and made.curve[-1].kept_share == 1


def test_a_budget_in_yuan_or_minutes_buys_the_least_sure_rows(coded, capsys):
    left = np.sort(coded["confidence"][LABELLED:])
    price = plan("--target-accuracy", "0.9").costs.teacher_per_row
    made = plan("--budget", str(100.5 * price))
    assert made.sent_rows == 100 and made.threshold == left[100]
    assert made.price == pytest.approx(100 * price)
    assert made.promised < made.accuracy
    people = plan("--who", "people", "--minutes-budget", "60", "--coders", "ann")
    assert people.sent_rows == 240 and people.minutes == 60
    two = plan("--who", "people", "--budget", "300", "--pay-per-hour", "150")
    assert two.sent_rows == 240 and two.price == pytest.approx(300)
    capsys.readouterr()
    assert plan("--budget", "1000").sent_rows == 400
    assert "For a budget of 1,000.00 yuan: the model keeps no row\n" in capsys.readouterr().out
    with pytest.raises(UserError, match="run batch_infer_gen.py first"):
        apply()
    assert "400 rows were coded by the model alone, with any confidence" in capsys.readouterr().out


def test_without_a_wish_only_the_curve_is_drawn(study, capsys):
    made = plan()
    assert made.threshold is None and made.guarantee == "" and len(made.curve) > 50
    assert "give --target-accuracy or --budget" in capsys.readouterr().out
    with pytest.raises(UserError, match="the plan has no threshold"):
        apply()


def test_rows_that_people_coded_are_left_out_of_silver_rows(study):
    rows = study[1000:1600].assign(coded_by=["human"] * 100 + [""] * 500)
    write_run("results/e5-after", rows)
    assert plan().held_out_rows == 500


def people_s_run(study, teacher_errors=0.1):
    """Write people's sample of 300 rows with weights, and the run on them; return the teacher's."""
    rng = np.random.default_rng(1)
    rows = study[:300].copy()
    other = (rows["class"] + 1) % 4
    silver = np.where(rng.random(300) < teacher_errors, other, rows["class"])
    rows["weight"] = np.where(silver == 2, 1.0, 4.0)
    write_run("results/e5-human", rows, "human coders")
    sample = rows[["custom_id", "message"]].assign(**{"class": silver})
    write_csv(sample, "pre_process/human_check/sample.csv")
    stratum = {"population": 1, "drawn": 1, "inclusion_probability": 1.0}
    strata = [stratum | {"name": name} for name in read_codebook("prompt.txt").names]
    record = {"population": 1, "held_out": 1, "drawn": 300, "date": "", "coders": []}
    record |= {"codebook_sha256": read_codebook("prompt.txt").sha256, "settings": {"seed": 1}}
    write_json(record | {"strata": strata}, "pre_process/human_check/sample.json")
    return rows, silver


def test_the_run_against_people_is_taken_and_the_teacher_judged_row_by_row(study, capsys):
    rows, silver = people_s_run(study)
    made = plan("--target-accuracy", "0.75")
    kept = rows["confidence"] >= made.threshold
    right = np.where(kept, rows["class"] == rows["predicted"], rows["class"] == silver)
    assert made.run == "e5-human" and made.weighted and not made.others_are_right
    assert made.accuracy == pytest.approx(np.average(right, weights=rows["weight"]))
    alone = np.average(silver == rows["class"], weights=rows["weight"])
    assert made.curve[0].accuracy_with_teacher == pytest.approx(alone)
    assert made.curve[0].accuracy_with_people == 1
    assert "approximate, as the rows are weighted" in made.guarantee
    assert "planning by results/e5-human" in capsys.readouterr().out
    assert plan("--run", "results/e5-after").run == "e5-after"


def test_a_target_beyond_the_teacher_is_refused_with_the_best_that_can_be_promised(study):
    people_s_run(study, teacher_errors=0.2)
    with pytest.raises(UserError, match="the teacher alone is right in") as refused:
        plan("--target-accuracy", "0.9")
    best = float(
        str(refused.value).partition("give --target-accuracy ")[2].split(":")[0].split(",")[0]
    )
    assert 0.5 < best < 0.8 and plan("--target-accuracy", str(best)).promised == best
    assert plan("--target-accuracy", "0.9", "--who", "people").accuracy > 0.9


def test_where_the_teacher_s_labels_are_unknown_only_people_can_code_the_rest(study):
    write_run("results/e5-human", study[:300], "human coders")
    with pytest.raises(UserError, match="how right the teacher is .* give --who people"):
        plan("--target-accuracy", "0.8")
    made = plan("--target-accuracy", "0.8", "--who", "people")
    assert made.curve[0].accuracy_with_teacher is None and made.minutes > 0


def test_the_price_is_what_the_provider_counted(study, serve, monkeypatch):
    by_estimate = plan().costs
    assert "an estimate from 600 comments" in by_estimate.teacher_source
    job = {"file": "f", "label_set": "s", "model": "m", "rows": 10, "mode": "batch", "base_url": ""}
    job |= {"settings": {}, "status": "collected"}
    tokens = {"answered": 10, "prompt_tokens": 5000, "completion_tokens": 100, "cost": 0}
    bill = {"answered": 30, "prompt_tokens": 1, "completion_tokens": 1, "cost": 0.5}
    jobs = [job | {"counts": tokens | {"failed": {}}}, job | {"counts": bill | {"failed": {}}}]
    write_json({"answers_file": "a.jsonl", "jobs": jobs}, DATAS / "submit_batch.json")
    costs = plan().costs
    assert costs.teacher_per_row == pytest.approx((0.0108 + 0.5) / 40)
    assert costs.teacher_source == "of 40 answers in ./pre_process/datas/submit_batch.json"


def test_rows_to_be_coded_that_are_not_like_the_held_out_ones_are_pointed_out(coded, capsys):
    plan("--target-accuracy", "0.9")
    assert "WARNING" not in capsys.readouterr().out
    write_coded(coded.assign(confidence=0.55), "model")
    plan("--target-accuracy", "0.9")
    assert (
        "WARNING: the model is unsure of 100.0% of the rows to be coded" in capsys.readouterr().out
    )


MISTAKES = {
    "--target-accuracy 0.999": "at most 99.* can be: .* or judge at least 2,995 rows, or",
    "--target-accuracy 90": "give a share below 1, such as 0.9",
    "--target-accuracy 85": "give a share below 1, such as 0.85",
    "--target-accuracy 0.9 --budget 3": "give one of",
    "--who nobody": "give teacher or people",
    "--minutes-budget 10": "for people: give --who people",
    "--who people --budget 10": "needs --pay-per-hour",
    "--alpha 0.7": "between 0 and 0.5",
    "--model ./other": "no scored run after fine-tuning of ./other",
    "--run results/none": "metrics.json not found: give --run",
    "--target-accuracy 0.9 --apply": "plan.json not found: run plan_coding.py again",
}


@pytest.mark.parametrize(("options", "message"), MISTAKES.items(), ids=MISTAKES)
def test_a_mistake_is_one_line_that_names_the_cure(study, options, message):
    with pytest.raises(UserError, match=message):
        plan(*options.split())
    assert not Path("results/plan/plan.json").exists()


def test_a_run_without_probabilities_of_another_codebook_or_of_learned_rows_is_refused(study):
    rows = study[1000:1600]
    write_run("results/e5-after", rows.assign(confidence=""), family="llm")
    with pytest.raises(UserError, match="run posttune_eval.py with --decoding score"):
        plan()
    write_run("results/e5-after", rows.assign(confidence="nan"))
    with pytest.raises(UserError, match="no share from 0 to 1"):
        plan()
    write_run("results/e5-after", rows, codebook_sha256="another")
    with pytest.raises(UserError, match="evaluated with another codebook"):
        plan()
    write_run("results/e5-after", rows, test_file="./pre_process/evaluation/train.csv")
    with pytest.raises(UserError, match="which the model was fitted to"):
        plan("--run", "results/e5-after")


def test_a_run_of_another_model_or_from_before_fine_tuning_is_refused(study):
    write_run("results/other", study[1000:1600], settings={"tuned_path": "./other"})
    with pytest.raises(UserError, match="is a run of ./other, and not of .*final_model: give"):
        plan("--run", "results/other", "--model", TUNED)
    assert plan("--run", "results/other", "--model", "./other").model.path == "./other"
    write_run("results/e5-before", study[1000:1600], stage="before")
    with pytest.raises(UserError, match="from before fine-tuning.* give --run a run of a tuned"):
        plan("--run", "results/e5-before")


def test_the_model_is_asked_for_where_several_have_runs_unless_one_coded_the_rows(study):
    write_run("results/other", study[1000:1600], settings={"tuned_path": "./other"}, model="other")
    with pytest.raises(UserError, match="several models: give --model one of ./bert_checkpoints"):
        plan()
    assert plan("--model", "./other").model.name == "other"
    write_coded(study, "model")
    assert plan().model.path == TUNED


def test_labels_of_another_codebook_are_no_labels_of_the_rows_to_be_coded(study):
    record = Path("pre_process/purged_labeled_v2.csv").with_name(LABELS_RECORD)
    write_json({"codebook_sha256": "x"}, record)
    assert plan().rows_to_code == 2000
    write_json({"codebook_sha256": read_codebook("prompt.txt").sha256}, record)
    assert plan().rows_to_code == 400


def test_codes_of_another_model_temperature_or_codebook_are_not_applied(coded, capsys):
    plan("--target-accuracy", "0.9")
    model = json.loads(Path("results/coded/coded.json").read_bytes())["model"]
    for more, message in (
        ({"model": model | {"path": "./other"}}, "coded by ./other, and the plan is for"),
        ({"model": model | {"temperature": 2.0}}, "at temperature 2, and the run .* at 1"),
        ({"codebook_sha256": "x"}, "coded with another codebook"),
    ):
        write_coded(coded, "model", **more)
        with pytest.raises(UserError, match=message):
            apply()
        capsys.readouterr()  # code_comments.py asks for a new plan, which must be possible
        assert plan("--target-accuracy", "0.9", "--model", TUNED).rows_to_code == 400
        printed = capsys.readouterr().out
        assert "the rows are counted, and these confidences not used" in printed
    write_coded(coded.assign(confidence=np.nan), "model")
    with pytest.raises(UserError, match="row 2: confidence 'nan' is no share|row 2: confidence ''"):
        apply()


def test_unsure_rows_become_the_very_requests_and_are_answered_and_paid_for_once(
    coded, serve, monkeypatch, capsys
):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-key")
    batch_infer_gen.main(["--max-tokens", "7"])
    made = plan("--target-accuracy", "0.9")
    with_labels = coded["confidence"] < made.threshold
    unsure = with_labels & (np.arange(len(coded)) >= LABELLED)
    apply()
    lines = UNSURE.read_text(encoding="utf-8").splitlines()
    everything = (DATAS / "inf_batch_v2.jsonl").read_text(encoding="utf-8").splitlines()
    wanted = set(coded["message"][unsure])
    assert set(lines) <= set(everything) and len(lines) == unsure.sum() == made.sent_rows
    asked = [json.loads(line)["body"]["messages"][1]["content"] for line in lines]
    assert Counter(asked) == Counter(coded["message"][unsure])

    provider = serve()
    send = ["--base-url", provider.url, "--poll-seconds", "0.01", "--yes"]
    submit_batch.main(["--requests-file", str(UNSURE), *send])
    assert provider.charged == Counter(request_ids_of(UNSURE))
    for requests in (["--requests-file", str(UNSURE)], []):
        jsonl_to_csv.main(requests)
        labels = read_csv("pre_process/purged_labeled_v2.csv", ["message"], "jsonl_to_csv.py")
        assert set(labels["custom_id"]) >= set(coded["custom_id"][unsure])
        assert set(labels["message"]) == wanted
    capsys.readouterr()
    apply()
    assert f"{unsure.sum()} of them were sent before" in capsys.readouterr().out
    submit_batch.main(["--requests-file", str(UNSURE), *send])
    submit_batch.main(send)
    assert set(provider.charged.values()) == {1} and len(provider.charged) == len(coded)


def test_equal_comments_share_a_request_and_a_row_without_one_is_refused(coded):
    batch_infer_gen.main(["--ask-equal-comments-once"])
    write_coded(coded.assign(confidence=0.5), ["teacher"] * 1996 + ["model"] * 4)
    plan("--target-accuracy", "0.9", "--rows", "4000")
    apply()
    assert len(request_ids_of(UNSURE)) == coded["message"][-4:].nunique() == 2
    Path(DATAS / "inf_batch_v2.jsonl").unlink()
    write_csv(coded[:1990][["custom_id", "message"]], "part.csv")
    batch_infer_gen.main(["--input-file", "part.csv"])
    with pytest.raises(UserError, match="4 of the rows have no request .* batch_infer_gen.py"):
        apply()


def test_a_sheet_whose_rows_are_others_since_they_were_coded_is_refused(coded):
    plan("--target-accuracy", "0.9")
    batch_infer_gen.main([])
    rows = read_csv(DATAS / "simple.csv", ["custom_id", "message"], "excel_2_csv.py")
    more = pd.DataFrame({"custom_id": ["row-2002"], "message": ["评论"], "class": ["-1"]})
    now = pd.concat([more, rows]).assign(custom_id=[*rows["custom_id"], "row-2002"])
    write_csv(now, DATAS / "simple.csv")
    with pytest.raises(UserError, match="codes.csv has 2,000 rows, and .* 2,001: run excel_2_csv"):
        apply()
    write_csv(rows.assign(custom_id=[f"x{n}" for n in range(2000)]), DATAS / "simple.csv")
    with pytest.raises(UserError, match="codes.csv: row-16.. is not in .*simple.csv: run excel_2"):
        apply()
    assert not UNSURE.exists()


def test_where_others_coded_all_rows_below_the_threshold_nothing_is_written(coded):
    made = plan("--target-accuracy", "0.9")
    sure = coded["confidence"] >= made.threshold
    write_coded(coded, np.where(sure, "model", "teacher"))
    with pytest.raises(UserError, match="no row is left for others"):
        apply()
    assert not UNSURE.exists() and not CODING.exists()


@pytest.fixture
def sheets(coded):
    """Give the rows that the model is unsure of to two people; return these rows."""
    made = plan("--target-accuracy", "0.85", "--who", "people")
    apply("--coders", "ann,ben")
    return coded[(coded["confidence"] < made.threshold) & (coded.index >= LABELLED)]


def code_sheets(rows):
    """Let ann give each row its class, and ben differ in the first three rows of rows.csv."""
    truth = dict(zip(rows["custom_id"], rows["class"].tolist(), strict=True))
    first = set(read_csv(CODING / "rows.csv", ["custom_id"], "plan_coding.py")["custom_id"][:3])
    coders.fill_in(CODING / "ann.xlsx", "class", truth.get)
    coders.fill_in(
        CODING / "ben.xlsx",
        "class",
        lambda custom_id: (truth[custom_id] + (custom_id in first)) % 4,
    )
    return truth, first


def test_people_s_classes_of_unsure_rows_are_scored_without_any_estimate(sheets, codebook, capsys):
    truth, first = code_sheets(sheets)
    human_check.main(["--sheets-dir", str(CODING)])
    result = json.loads(Path("results/human_check/coding/agreement.json").read_bytes())
    assert result["rows"] == len(sheets) and result["coded"] == len(sheets) - 3
    assert result["disagreements"] == result["undecided"] == 3 and not result["random_sample"]
    report = Path("results/human_check/coding/report.txt").read_text(encoding="utf-8")
    assert "alpha" in report and "no random sample" in report
    assert "Silver labels" not in report and "Share of each class" not in report
    assert not Path("results/human_check/human_check.json").exists()
    assert not Path("pre_process/evaluation/human_test.csv").exists()
    coders.fill_in(CODING / "adjudication.xlsx", "adjudicated", truth.get)
    human_check.main(["--sheets-dir", str(CODING)])
    coded = read_coded_tasks(CODING, codebook)
    assert dict(zip(coded["custom_id"], coded["class"], strict=True)) == truth


def test_rows_on_which_people_agree_nowhere_have_no_class_yet(sheets, codebook, capsys):
    for coder, given in (("ann", 0), ("ben", 1)):
        coders.fill_in(CODING / f"{coder}.xlsx", "class", lambda custom_id, given=given: given)
    human_check.main(["--sheets-dir", str(CODING)])
    capsys.readouterr()
    assert read_coded_tasks(CODING, codebook).empty
    assert "fill in pre_process/coding/adjudication.xlsx, then run human_check.py --sheets-dir" in (
        capsys.readouterr().out
    )


def test_no_other_step_takes_unsure_rows_for_a_sample(sheets, capsys):
    code_sheets(sheets)
    human_check.main(["--sheets-dir", str(CODING)])
    assert read_human_codes("./pre_process/human_check") == []
    split_dataset.main([])
    capsys.readouterr()
    human_sample.main(["--sample-size", "100", "--min-per-class", "5"])
    assert "before" not in capsys.readouterr().out
    with pytest.raises(UserError, match="is a folder of random samples"):
        apply("--coding-dir", "./pre_process/human_check")
    with pytest.raises(UserError, match="is a folder of random samples"):
        apply("--coding-dir", "./pre_process/human_check_unsure")
    with pytest.raises(UserError, match="lies in a folder of random samples.* pre_process/coding"):
        apply("--coding-dir", "./pre_process/human_check/unsure")


def test_rows_of_another_spreadsheet_than_the_coded_one_are_not_given_to_others(coded, codebook):
    coded["confidence"] = coded.groupby("message")["confidence"].transform("first")
    write_coded(coded, ["teacher"] * LABELLED + ["model"] * (len(coded) - LABELLED))
    plan("--target-accuracy", "0.9", "--who", "people")
    shares = (1 - coded["confidence"].to_numpy()) / 3
    values = np.column_stack([coded["confidence"], shares, shares, shares])
    hashes, first = np.unique(text_hashes(coded["message"]), return_index=True)
    write_known(Path("results/coded/probabilities.npz"), "key", hashes, values[first])
    simple = pd.read_csv(DATAS / "simple.csv", dtype=str)
    for moved in (
        simple.assign(message=[f"another {text}" for text in simple["message"]]),
        simple.assign(message=simple["message"].tolist()[::-1]),
    ):
        write_csv(moved, DATAS / "simple.csv")
        with pytest.raises(
            UserError, match="is not the comment that was coded: .* one spreadsheet"
        ):
            apply("--coders", "ann,ben")
        assert not CODING.exists()
    write_csv(simple, DATAS / "simple.csv")
    apply("--coders", "ann,ben")
    assert (CODING / "ann.xlsx").is_file()


def test_sheets_that_people_may_have_coded_are_never_written_over(sheets, codebook, capsys):
    code_sheets(sheets)
    before = {path.name: path.read_bytes() for path in CODING.iterdir()}
    with pytest.raises(UserError, match="perhaps with people's work"):
        apply("--coders", "ann,ben")
    (CODING / "rows.csv").unlink()
    with pytest.raises(UserError, match="ann.xlsx is there already"):
        apply("--coders", "ann,ben")
    assert all((CODING / name).read_bytes() == before[name] for name in ("ann.xlsx", "ben.xlsx"))
    (CODING / "rows.csv").write_bytes(before["rows.csv"])
    with pytest.raises(UserError, match="all of the rows stand in earlier sheets"):
        apply("--coding-dir", f"{CODING}_2")


def test_a_later_round_takes_other_rows_and_both_are_read(sheets, coded, codebook, capsys):
    code_sheets(sheets)
    human_check.main(["--sheets-dir", str(CODING)])
    made = plan("--target-accuracy", "0.9", "--who", "people")
    apply("--coding-dir", f"{CODING}_2", "--coders", "ann")
    printed = capsys.readouterr().out
    assert f"left out {len(sheets)} rows that stand in earlier sheets" in printed
    second = read_csv(f"{CODING}_2/rows.csv", ["custom_id"], "plan_coding.py")
    assert not set(second["custom_id"]) & set(sheets["custom_id"])
    unsure = (coded["confidence"] < made.threshold) & (coded.index >= LABELLED)
    assert len(second) + len(sheets) == unsure.sum()
    assert len(read_coded_tasks(CODING, codebook)) == len(sheets) - 3
    assert "human_check.py --sheets-dir pre_process/coding_2" in capsys.readouterr().out
    Path("prompt.txt").write_text(codebook.text + "\nBe kind.", encoding="utf-8")
    changed = read_codebook("prompt.txt")
    assert read_coded_tasks(CODING, changed).empty
    with pytest.raises(UserError, match="made with another codebook"):
        human_check.main(["--sheets-dir", str(CODING)])


def test_rows_that_people_coded_by_another_codebook_are_given_to_them_again(
    sheets, coded, codebook, capsys
):
    code_sheets(sheets)
    human_check.main(["--sheets-dir", str(CODING)])
    Path("prompt.txt").write_text(codebook.text + "\nBe kind.", encoding="utf-8")
    write_run("results/e5-after", coded[1000:1600])
    write_coded(coded, ["teacher"] * LABELLED + ["model"] * (len(coded) - LABELLED))
    plan("--target-accuracy", "0.85", "--who", "people")
    apply("--coding-dir", f"{CODING}_2", "--coders", "ann")
    second = read_csv(f"{CODING}_2/rows.csv", ["custom_id"], "plan_coding.py")
    assert set(second["custom_id"]) == set(sheets["custom_id"])
    assert "left out" not in capsys.readouterr().out


def test_a_plan_for_another_wish_is_not_applied(coded):
    plan("--target-accuracy", "0.9")
    for options in (["--target-accuracy", "0.8"], ["--who", "people"], ["--budget", "1"]):
        with pytest.raises(UserError, match="holds a plan for another --"):
            apply(*options)
