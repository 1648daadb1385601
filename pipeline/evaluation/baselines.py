"""What a model must beat: always the most frequent class, and a list of keywords."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.feature_selection import chi2
from sklearn.naive_bayes import BernoulliNB

from pipeline.evaluation.metrics import compute_metrics
from pipeline.evaluation.runs import Run

# Scripts without spaces between words: kana and Chinese characters.
UNSPACED = "\u3040-\u30ff\u3400-\u9fff"
STRETCH = re.compile(rf"([^\W{UNSPACED}]+)|([{UNSPACED}]+)")
MAX_WORDS = 100_000  # the most frequent; a rarer one is in too few messages to tell a class
NUM_KEYWORDS = 200  # in all, the same number for each class
NUM_CANDIDATES = 1000  # per class, of which overlapping ones are left out
NUM_LISTED = 10


@dataclass(frozen=True)
class Keywords:
    """Words that are typical of a class, and a model of which messages hold which of them.

    `by_class[k]` are the words of class k, strongest first by chi-squared; naive Bayes is fitted
    on `num_rows` training rows.
    """

    by_class: list[list[str]]
    vectorizer: CountVectorizer
    model: BernoulliNB
    num_rows: int

    def predict(self, messages: pd.Series) -> np.ndarray:
        """Return the classes (rows,) of messages."""
        return self.model.predict(self.vectorizer.transform(messages))

    def by_name(self, names: Sequence[str]) -> dict[str, list[str]]:
        """Return the ten strongest words of each class."""
        return {name: self.by_class[k][:NUM_LISTED] for k, name in enumerate(names)}


def baselines(
    groups: list[list[Run]],
    predictions: dict[str, pd.DataFrame],
    train: pd.DataFrame | None,
    seed: int,
) -> dict[str, list | dict]:
    """Return `baselines`, both on each group's rows, and `keywords`, the ten strongest by class.

    The runs of a group were scored on the same rows, `predictions` holds them by run. Without
    `train`, rows of the runs' classes, the most frequent class is that of a group's rows, and there
    are no keywords; nor are there where no word of `train` tells a class.
    """
    names = groups[0][0].class_names
    keywords = None if train is None else fit_keywords(train, len(names))
    scores = [
        score | {"runs": [run.name for run in group]}
        for group in groups
        for score in baseline_scores(
            predictions[group[0].name], train, keywords, group[0].class_names, seed
        )
    ]
    return {"baselines": scores, "keywords": keywords.by_name(names) if keywords else {}}


def baseline_scores(
    test: pd.DataFrame,
    train: pd.DataFrame | None,
    keywords: Keywords | None,
    names: Sequence[str],
    seed: int,
) -> list[dict]:
    """Return the scores of both baselines on `test`: `message`, `class` and perhaps `weight`."""
    source = "test" if train is None else "training"
    counts = np.bincount((test if train is None else train)["class"], minlength=len(names))
    majority = int(counts.argmax())
    method = f"The most frequent class of the {source} rows, for every row."
    always = np.full(len(test), majority)
    scores = [score(f"Always {names[majority]}", method, test, always, len(names), seed)]
    if keywords:
        method = (
            "Naive Bayes (Bernoulli) on whether a message holds each of "
            f"{len(set().union(*keywords.by_class))} keywords, found by chi-squared in "
            f"{keywords.num_rows:,} training rows."
        )
        predicted = keywords.predict(test["message"])
        scores.append(score("Keywords", method, test, predicted, len(names), seed))
    return scores


def score(
    name: str, method: str, test: pd.DataFrame, predicted: np.ndarray, num_labels: int, seed: int
) -> dict:
    """Return a baseline's accuracy and macro F1 over all rows, weighted, with 95 % intervals."""
    weighted = "weight" in test and test["weight"].nunique() > 1
    weights = test["weight"].to_numpy() if weighted else None
    metrics = compute_metrics(test["class"].to_numpy(), predicted, num_labels, seed, weights)
    return {
        "name": name,
        "method": method,
        "rows": metrics["total"],
        "accuracy": metrics["accuracy_all_rows"],
        "accuracy_ci95": metrics["accuracy_all_rows_ci95"],
        "macro_f1": metrics["macro_f1"],
        "macro_f1_ci95": metrics["macro_f1_ci95"],
    }


def words(message: str) -> Iterator[str]:
    """Yield the words of a message: between spaces, or 2 to 4 characters in a row of Chinese."""
    for spaced, unspaced in STRETCH.findall(message.lower()):
        if spaced or len(unspaced) == 1:
            yield spaced or unspaced
        for size in (2, 3, 4):
            for start in range(len(unspaced) - size + 1):
                yield unspaced[start : start + size]


def fit_keywords(train: pd.DataFrame, num_labels: int) -> Keywords | None:
    """Return the keywords of the classes of `train`, None where no word tells a class."""
    if not train["message"].str.contains(r"\w").any():
        return None
    vectorizer = CountVectorizer(analyzer=words, binary=True, max_features=MAX_WORDS)
    holds = vectorizer.fit_transform(train["message"])
    vocabulary = vectorizer.get_feature_names_out()
    each = NUM_KEYWORDS // num_labels
    columns = [strongest(each, holds, train["class"] == k, vocabulary) for k in range(num_labels)]
    used = sorted(set().union(*columns))
    if not used:
        return None
    model = BernoulliNB().fit(holds[:, used], train["class"])
    vectorizer = CountVectorizer(analyzer=words, binary=True, vocabulary=vocabulary[used])
    found = [vocabulary[best].tolist() for best in columns]
    return Keywords(found, vectorizer, model, len(train))


def strongest(
    number: int, holds: csr_matrix, of_class: pd.Series, vocabulary: np.ndarray
) -> list[int]:
    """Return the columns of `holds` (messages, words) that tell a class best, by chi-squared.

    There are at most `number`. Left out are parts, extensions and companions of others. Of a word
    and its part the longer stands where it is nearly as strong. Companions are pieces of one
    phrase: of the messages that hold either of two words, more than half hold both.
    """
    in_class = holds[of_class.to_numpy()].sum(0) / max(of_class.sum(), 1)
    frequent_in_class = np.asarray(in_class > holds.sum(0) / len(of_class)).ravel()
    strength = np.where(frequent_in_class, chi2(holds, of_class)[0], 0)
    lengths = np.array([len(word) for word in vocabulary])
    order = np.lexsort((vocabulary, -lengths, -strength))[:NUM_CANDIDATES]
    order = order[strength[order] > 0]
    together = (holds[:, order].T @ holds[:, order]).toarray()
    alone = together.diagonal()
    companions = together > 0.5 * (alone[:, None] + alone - together)
    chosen: list[int] = []
    for i, column in enumerate(order):
        word = vocabulary[column]
        part = any(
            word in vocabulary[j] and j != column and strength[j] >= 0.8 * strength[column]
            for j in order
        )
        known = any(
            word in vocabulary[order[j]] or vocabulary[order[j]] in word or companions[i, j]
            for j in chosen
        )
        if not part and not known:
            chosen.append(i)
        if len(chosen) == number:
            break
    return order[chosen].tolist()
