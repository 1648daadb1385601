"""Labels that are probably wrong, for people to look at."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from cleanlab.filter import find_label_issues
from sklearn.model_selection import StratifiedGroupKFold, train_test_split

from pipeline.audit.near_duplicates import near_duplicates
from pipeline.bert.encoder import (
    encode,
    fit_probe,
    forward,
    load_encoder,
    load_tokenizer,
    mean_of_tokens,
    softmax_of_logits,
)
from pipeline.common.cli import UserError
from pipeline.common.codebook import Codebook
from pipeline.common.files import check_outputs, read_json, write_json
from pipeline.common.rows import read_messages
from pipeline.models.folder import RECORD, check_codebook, check_model_folder, refuse_tuned
from pipeline.sheets.coding import read_filled_in, write_sheet

METHODS = ("probe", "tune")
TOP = 20  # rows that the report page shows


def audit(settings: dict, codebook: Codebook) -> None:
    """Write the labels that the comments' text makes improbable, and duplicates that disagree.

    A row's class probabilities come from a model that saw neither it nor a near-duplicate of it;
    cleanlab's confident learning (Northcutt et al. 2021) says which labels they contradict.
    """
    if settings["audit_method"] not in METHODS:
        raise UserError(f"--audit-method {settings['audit_method']}: give {' or '.join(METHODS)}")
    if settings["folds"] < 2:
        raise UserError(f"--folds {settings['folds']}: give at least 2")
    if not 0 < settings["similarity"] <= 1:
        raise UserError(f"--similarity {settings['similarity']}: give a share above 0, at most 1")
    refuse_tuned(check_model_folder(settings["model_path"], "encoder"))
    folder = Path(settings["audit_dir"])
    rows = read_messages(settings["labeled_file"], "jsonl_to_csv.py", codebook, labelled=True)
    refuse_filled_in(folder / "audit.xlsx", rows, codebook)
    check_outputs([folder / "audit.xlsx", folder / "audit.json"])
    labels = rows["class"].to_numpy()
    groups = near_duplicates(rows["message"].tolist(), settings["similarity"])
    refuse_few(settings, codebook, pd.Series(groups).groupby(labels).nunique())
    predict = probe_folds if settings["audit_method"] == "probe" else tuned_folds
    probabilities, method = predict(settings, codebook, rows, groups)

    ranked = find_label_issues(
        labels, probabilities, return_indices_ranked_by="normalized_margin", n_jobs=1
    )
    disputed = pd.Series(labels).groupby(groups).transform("nunique").to_numpy() > 1
    table = audit_table(rows, probabilities, groups, ranked, disputed, codebook)
    write_sheet(table, codebook, "corrected", folder / "audit.xlsx")
    best = probabilities.argmax(1)
    result = {
        "rows": len(rows),
        "method": method,
        "model_path": settings["model_path"],
        "folds": settings["folds"],
        "issues": len(ranked),
        "near_duplicates": len(np.unique(groups[disputed])),
        "class_names": list(codebook.names),
        "codebook_sha256": codebook.sha256,
        "settings": settings,
        "top": [
            {
                "custom_id": rows["custom_id"][i],
                "message": rows["message"][i],
                "class": int(labels[i]),
                "suggested": int(best[i]),
                "p_class": float(probabilities[i, labels[i]]),
                "p_suggested": float(probabilities[i, best[i]]),
            }
            for i in ranked[:TOP]
        ],
    }
    write_json(result, folder / "audit.json")
    print(
        f"{result['issues']:,} of {result['rows']:,} labels are improbable; "
        f"{result['near_duplicates']:,} groups of near-duplicates have different labels: look at "
        f"{folder / 'audit.xlsx'}, fill in `corrected` where a label is wrong, and run "
        f"jsonl_to_csv.py --corrections {folder / 'audit.xlsx'}"
    )


def refuse_few(settings: dict, codebook: Codebook, different: pd.Series) -> None:
    """Stop where a class has fewer `different` messages than folds: a model would not know it."""
    if len(different) < 2 or different.min() < settings["folds"]:
        raise UserError(
            f"{settings['labeled_file']}: class {codebook.names[different.idxmin()]} has "
            f"{different.min()} rows that are no near-duplicates, and {settings['folds']} folds "
            "need two classes of one a fold: give fewer --folds, or label more"
        )


def refuse_filled_in(path: Path, rows: pd.DataFrame, codebook: Codebook) -> None:
    """Stop where an audit would overwrite what people filled in."""
    if not path.is_file():
        return
    messages = dict(zip(rows["custom_id"], rows["message"], strict=True))
    labels = read_filled_in(path, codebook, "corrected", messages, "")
    if any(label >= 0 for label in labels.values()):
        raise UserError(
            f"{path} holds people's corrections: read them back by jsonl_to_csv.py --corrections, "
            "and give another --audit-dir"
        )


def audit_table(
    rows: pd.DataFrame,
    probabilities: np.ndarray,
    groups: np.ndarray,
    ranked: np.ndarray,
    disputed: np.ndarray,
    codebook: Codebook,
) -> pd.DataFrame:
    """Return the rows to look at: the least probable labels first, near-duplicates together."""
    labels, best = rows["class"].to_numpy(), probabilities.argmax(1)
    names, every = np.array(codebook.names), np.arange(len(rows))
    rank = np.full(len(rows), len(rows))
    rank[ranked] = np.arange(len(ranked))
    table = pd.DataFrame(
        {
            "custom_id": rows["custom_id"],
            "message": rows["message"],
            "label": names[labels],
            "p_label": probabilities[every, labels].round(4),
            "suggested": names[best],
            "p_suggested": probabilities[every, best].round(4),
            "near_duplicates": np.where(disputed, groups.astype(str), ""),
            "corrected": "",
        }
    )
    own = np.where(disputed, groups, len(rows) + every)  # a row without a dispute stands alone
    order = pd.DataFrame({"own": own, "rank": rank})
    order["first"] = order.groupby("own")["rank"].transform("min")
    listed = order[(rank < len(rows)) | disputed].sort_values(["first", "own", "rank"])
    return table.loc[listed.index]


def split_folds(
    settings: dict, rows: pd.DataFrame, groups: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the rows to learn from and the rows to predict; near-duplicates stay together."""
    splitter = StratifiedGroupKFold(settings["folds"], shuffle=True, random_state=settings["seed"])
    yield from splitter.split(rows, rows["class"], groups)


def probe_folds(
    settings: dict, codebook: Codebook, rows: pd.DataFrame, groups: np.ndarray
) -> tuple[np.ndarray, str]:
    """Return out-of-sample probabilities (rows, classes) of a linear probe, and how it was done."""
    path = settings["model_path"]
    tokenizer = load_tokenizer(path, settings["max_length"])
    ids, _ = encode(tokenizer, rows["message"].tolist(), settings["max_length"])
    features = forward(load_encoder(path), tokenizer, ids, settings["batch_size"], mean_of_tokens)
    probabilities = np.zeros((len(rows), len(codebook.names)))
    for known, unseen in split_folds(settings, rows, groups):
        probe = fit_probe(features[known], rows["class"].to_numpy()[known])
        probabilities[np.ix_(unseen, probe.classes_)] = probe.predict_proba(features[unseen])
    return probabilities, "a linear probe on frozen features"


def tuned_folds(
    settings: dict, codebook: Codebook, rows: pd.DataFrame, groups: np.ndarray
) -> tuple[np.ndarray, str]:
    """Return the same of BERT, fine-tuned once a fold with the settings of `tuned_path`."""
    from pipeline.bert.training import bert_trainer
    from pipeline.models.training import TrainingOptions

    record = read_json(f"{settings['tuned_path']}/{RECORD}", "run bert_tune.py first")
    check_codebook(settings["tuned_path"], record, codebook)
    training = record["settings"]
    tokenizer = load_tokenizer(settings["model_path"], training["max_length"])
    ids, _ = encode(tokenizer, rows["message"].tolist(), training["max_length"])
    probabilities = np.zeros((len(rows), len(codebook.names)))
    for known, unseen in split_folds(settings, rows, groups):
        learned = rows.iloc[known]
        enough = learned["class"].value_counts().min() >= 10  # for one of each in a tenth
        train, validation = train_test_split(
            learned,
            test_size=0.1,
            stratify=learned["class"] if enough else None,
            random_state=settings["seed"],
        )
        with tempfile.TemporaryDirectory() as scratch:
            trainer = bert_trainer(
                settings["model_path"],
                codebook,
                train,
                validation,
                TrainingOptions.of(training | {"output_dir": scratch}),
                max_length=training["max_length"],
                warmup_ratio=training["warmup_ratio"],
                balanced=training["class_weights"],
            )
            trainer.train()
        probabilities[unseen] = forward(
            trainer.model,
            tokenizer,
            [ids[i] for i in unseen],
            settings["batch_size"],
            softmax_of_logits,
        )
    return probabilities, f"BERT fine-tuned with the settings of {settings['tuned_path']}"
