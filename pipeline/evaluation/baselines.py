"""What a model must beat: always the most frequent class, and a list of keywords."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.feature_selection import chi2
from sklearn.naive_bayes import BernoulliNB

from pipeline.evaluation.metrics import compute_metrics
from pipeline.evaluation.predictions import Predictions
from pipeline.evaluation.runs import Run

# Scripts without spaces between words: kana and Chinese characters.
UNSPACED = "\u3040-\u30ff\u3400-\u9fff"
STRETCH = re.compile(rf"([^\W{UNSPACED}]+)|([{UNSPACED}]+)")
MAX_WORDS = 100_000  # the most frequent; a rarer one is in too few messages to tell a class
MAX_ROWS = 60_000  # training rows that keywords are looked for in; more change hardly any
NUM_HASHES = 2**22  # by which words are counted before they are chosen
NUM_KEYWORDS = 200  # in all, the same number for each class
NUM_CANDIDATES = 1000  # per class, of which overlapping ones are left out
NUM_LISTED = 10


@dataclass(frozen=True)
class Keywords:
    """Words that are typical of a class, and a model of which messages hold which of them.

    `by_class[k]` are the words of class k, strongest first by chi-squared; naive Bayes is fitted
    on `num_rows` training rows, drawn at random where there are more, `total` in all.
    """

    by_class: list[list[str]]
    vectorizer: CountVectorizer
    model: BernoulliNB
    num_rows: int
    total: int

    @property
    def method(self) -> str:
        """What the baseline does, in a sentence."""
        return (
            "Naive Bayes (Bernoulli) on whether a message holds each of "
            f"{len(set().union(*self.by_class))} keywords, found by chi-squared in "
            f"{self.num_rows:,} training rows"
            f"{f' drawn at random from {self.total:,}' * (self.num_rows < self.total)}."
        )

    def predict(self, parts: Iterable[Sequence[str]]) -> np.ndarray:
        """Return the classes (rows,) of messages, which come in parts."""
        return np.concatenate(
            [self.model.predict(self.vectorizer.transform(messages)) for messages in parts]
        )

    def by_name(self, names: Sequence[str]) -> dict[str, list[str]]:
        """Return the ten strongest words of each class."""
        return {name: self.by_class[k][:NUM_LISTED] for k, name in enumerate(names)}


@dataclass(frozen=True)
class Trained:
    """What the baselines take from the training rows: `counts` (classes,) of all, and keywords.

    Keywords are None where no word tells a class.
    """

    counts: np.ndarray
    keywords: Keywords | None


def train_baselines(parts: Iterable[pd.DataFrame], num_labels: int, seed: int) -> Trained:
    """Return what the baselines take from the training rows, whose tables come in parts."""
    rng = np.random.default_rng(seed)
    counts, kept = np.zeros(num_labels, int), pd.DataFrame()
    for part in parts:
        counts += np.bincount(part["class"], minlength=num_labels)
        drawn = part[["message", "class"]].assign(draw=rng.random(len(part)))
        kept = pd.concat([kept, drawn], ignore_index=True)
        if len(kept) > MAX_ROWS:
            kept = kept.nsmallest(MAX_ROWS, "draw").sort_index()
    return Trained(counts, fit_keywords(kept.reset_index(), num_labels, int(counts.sum())))


def baselines(
    groups: list[list[Run]],
    predictions: dict[str, Predictions],
    train: Trained | None,
    seed: int,
) -> dict[str, list | dict]:
    """Return `baselines`, both on each group's rows, and `keywords`, the ten strongest by class.

    The runs of a group were scored on the same rows, `predictions` holds them by run. Without
    `train`, rows of the runs' classes, the most frequent class is that of a group's rows, and there
    are no keywords; nor are there where no word of `train` tells a class.
    """
    keywords = train.keywords if train else None
    scores = [
        score | {"runs": [run.name for run in group]}
        for group in groups
        for score in baseline_scores(
            predictions[group[0].name].frame,
            predictions[group[0].name].message_parts(),
            train,
            group[0].class_names,
            seed,
        )
    ]
    names = groups[0][0].class_names
    return {"baselines": scores, "keywords": keywords.by_name(names) if keywords else {}}


def baseline_scores(
    test: pd.DataFrame,
    messages: Iterable[Sequence[str]],
    train: Trained | None,
    names: Sequence[str],
    seed: int,
) -> list[dict]:
    """Return the scores of both baselines on `test`: `class` and perhaps `weight`.

    `messages` are those of `test`, in parts.
    """
    source = "training" if train else "test"
    counts = train.counts if train else np.bincount(test["class"], minlength=len(names))
    majority = int(counts.argmax())
    method = f"The most frequent class of the {source} rows, for every row."
    always = np.full(len(test), majority)
    scores = [score(f"Always {names[majority]}", method, test, always, len(names), seed)]
    if train and train.keywords:
        predicted = train.keywords.predict(messages)
        scores.append(score("Keywords", train.keywords.method, test, predicted, len(names), seed))
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


def fit_keywords(train: pd.DataFrame, num_labels: int, total: int) -> Keywords | None:
    """Return the keywords of the classes of `train`, None where no word tells a class.

    `train` has `message` and `class`; `total` is the number of rows that it was drawn from.
    """
    messages, labels = train["message"], train["class"]
    if not messages.str.contains(r"\w").any():
        return None
    holds, vocabulary = count_words(messages)
    each = NUM_KEYWORDS // num_labels
    columns = [strongest(each, holds, labels == k, vocabulary) for k in range(num_labels)]
    used = sorted(set().union(*columns))
    if not used:
        return None
    model = BernoulliNB().fit(holds[:, used], labels)
    known = frozenset(vocabulary[used])
    only_these = partial(words_of, known=known)
    vectorizer = CountVectorizer(analyzer=only_these, binary=True, vocabulary=vocabulary[used])
    found = [vocabulary[best].tolist() for best in columns]
    return Keywords(found, vectorizer, model, len(train), total)


def count_words(messages: pd.Series) -> tuple[csr_matrix, np.ndarray]:
    """Return which messages hold which of the MAX_WORDS most frequent words, and these words.

    Most words are in one message alone, and a vocabulary of all would take gigabytes. So words are
    first counted by their hashes, which never count one too low, and only those are looked at whose
    hash is frequent. If the rarest word that is left is rarer than these, that was too strict.
    Of equally frequent words the first by the alphabet stay, since hashes differ between processes.
    """
    counts = hash_counts(messages)
    candidates = MAX_WORDS + MAX_WORDS // 2  # some hashes are frequent by rare words alone
    least = int(np.partition(counts, -candidates)[-candidates])
    while True:
        frequent = (counts >= least).tobytes()
        vectorizer = CountVectorizer(
            analyzer=partial(words_among, frequent=frequent),
            binary=True,
            dtype=np.int8,
        )
        holds = vectorizer.fit_transform(messages)
        frequency = np.asarray(holds.sum(0)).ravel()
        most = np.argsort(-frequency, kind="stable")[:MAX_WORDS]
        if least <= 1 or (len(most) == MAX_WORDS and frequency[most[-1]] >= least):
            most.sort()
            vocabulary = vectorizer.get_feature_names_out()
            return holds[:, most].astype(np.float64), vocabulary[most]
        least //= 2


def words_of(message: str, known: frozenset[str]) -> frozenset[str]:
    """Return those words of a message that are known."""
    return known.intersection(words(message))


def words_among(message: str, frequent: bytes) -> Iterator[str]:
    """Yield those words of a message whose hash is marked in `frequent`, (NUM_HASHES,)."""
    return (word for word in words(message) if frequent[hash(word) % NUM_HASHES])


def hash_counts(messages: pd.Series) -> np.ndarray:
    """Return how many messages hold a word of each hash, (NUM_HASHES,)."""
    counts = np.zeros(NUM_HASHES, np.int32)
    for message in messages:
        found = [hash(word) % NUM_HASHES for word in set(words(message))]
        np.add.at(counts, np.array(found, int), 1)
    return counts


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
