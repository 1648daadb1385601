"""Comments about gender equality with known classes, put together from the word lists."""

import random
import re

from pre_process.sample import grammar

POSITIVE, MILD, NEGATIVE, IRRELEVANT = range(4)
SHARES = (0.13, 0.43, 0.09, 0.35)

# About one comment in twenty cannot be coded rightly from its text, as in real data.
MISLABELLED = 0.03  # share of comments whose text is a neighbouring class's
TOO_SHORT = 0.02  # share of comments too short to tell a class from
NEIGHBOURS = ((MILD,), (POSITIVE, IRRELEVANT), (MILD,), (MILD,))

LENGTH = (3.95, 0.9)  # lognormal, characters
MAX_ATTEMPTS = 100  # a list has an end; the longest comments have about 700 characters


def generate_comments(num: int, seed: int) -> list[tuple[str, int]]:
    """Return `num` comments and their classes, in random order; the classes have `SHARES`."""
    rng = random.Random(seed)
    bounds = [round(num * sum(SHARES[:k])) for k in range(len(SHARES))] + [num]
    labels = [k for k in range(len(SHARES)) for _ in range(bounds[k], bounds[k + 1])]
    rng.shuffle(labels)
    return [(make_comment(label, rng), label) for label in labels]


def make_comment(label: int, rng: random.Random) -> str:
    """Return a comment of a class; some are a neighbouring class's, or too short for any."""
    if rng.random() < TOO_SHORT:
        return decorate(rng.choice(grammar.SHORT), rng)
    if rng.random() < MISLABELLED:
        label = rng.choice(NEIGHBOURS[label])
    if label == IRRELEVANT and rng.random() < 0.06:
        return decorate(rng.choice(grammar.NOISE), rng)

    sentences = make_sentences(label, rng.lognormvariate(*LENGTH), rng)
    if rng.random() < 0.25:
        sentences.insert(0, rng.choice(grammar.OPENERS))
    if rng.random() < 0.25:
        sentences.append(rng.choice(grammar.HEDGES))
    text = sentences[0]
    for part in sentences[1:]:
        text += rng.choice(grammar.CONNECTIVES) + part
    return decorate(text, rng)


def make_sentences(label: int, length: float, rng: random.Random) -> list[str]:
    """Return the sentences of a comment: a stand first of all, and others up to the length."""
    subjects = grammar.OFF_TOPIC if label == IRRELEVANT else grammar.TOPICS
    subject = rng.choice(list(subjects))
    by_phrase: dict[str, str] = {}
    for attempt in range(MAX_ATTEMPTS):
        draw = rng.random() if attempt else 1.0
        if draw < 0.25:
            phrase = rng.choice(grammar.FILLERS)
        elif draw < 0.35:
            phrase = rng.choice(rng.choice(list(grammar.OFF_TOPIC.values())))
        elif draw < 0.50 and label != IRRELEVANT:
            phrase = rng.choice(grammar.TOPICS[subject]["neutral"])
        else:
            phrase = stand(label, subject, rng)
        if phrase not in by_phrase:
            by_phrase[phrase] = fill(phrase, subject, rng)
        elif rng.random() < 0.3:  # a long comment wanders, and need not repeat itself
            subject = rng.choice(list(subjects))
        if sum(map(len, by_phrase.values())) >= length:
            break
    sentences = list(by_phrase.values())
    rng.shuffle(sentences)
    return sentences


def stand(label: int, subject: str, rng: random.Random) -> str:
    """Return a phrase that has the class's stand on the subject."""
    if label == IRRELEVANT:
        phrases = grammar.OFF_TOPIC[subject]
    elif label == MILD:
        phrases = rng.choices([grammar.WEIGHS, grammar.TOPICS[subject]["neutral"]], [2, 1])[0]
    else:
        phrases = grammar.SUPPORTS if label == POSITIVE else grammar.OPPOSES
    return rng.choice(phrases)


def fill(text: str, subject: str, rng: random.Random) -> str:
    """Fill a phrase's slots, and the slots of what they are filled with."""
    slots = {**grammar.SLOTS, **grammar.TOPICS.get(subject, {})}
    while slot := re.search(r"\{(\w+)\}", text):
        text = text[: slot.start()] + rng.choice(slots[slot[1]]) + text[slot.end() :]
    return text


def decorate(text: str, rng: random.Random) -> str:
    """Add what surrounds the words of a post, and sometimes write them in other characters."""
    text += rng.choice(grammar.ENDINGS)
    if rng.random() < 0.25:
        text += rng.choice(grammar.EMOJI) * rng.choice([1, 1, 2, 3])
    if rng.random() < 0.03:
        text = text.translate(grammar.TRADITIONAL)
    if rng.random() < 0.02:
        text = text.translate(grammar.FULL_WIDTH)
    if rng.random() < 0.10:
        text = f"回复@{rng.choice(grammar.HANDLES)}:{text}"
    if rng.random() < 0.08:
        text += f" //@{rng.choice(grammar.HANDLES)}:{rng.choice(grammar.SHORT)}"
    if rng.random() < 0.08:
        text = rng.choice(grammar.TAGS) + text
    if rng.random() < 0.04:
        text += " " + fill(rng.choice(grammar.LINKS), "", rng)
    if rng.random() < 0.03:
        text = text.replace("。", "。\n", 1)
    return text
