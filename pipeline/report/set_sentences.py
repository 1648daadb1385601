"""The comparison of label sets in sentences, for the page and for the terminal."""

from pipeline.report.set_comparison import Repeats, SetComparison, SetPair, SetSummary
from pipeline.report.set_people import LEVEL, PeopleTest
from pipeline.report.set_rows import SPREADSHEET
from pipeline.report.words import as_text, fill, fill_all, joined


def comparison_text(found: SetComparison) -> str:
    """Return all figures as text for the terminal."""
    parts = ["Sets of labels, in the order of this comparison:"]
    parts += [f"  {set_sentence(one)}" for one in found.sets]
    for pair in found.pairs:
        parts += ["", f"From {pair.first} to {pair.second}"]
        parts += [*changed_sentences(pair), *rows_sentences(pair, found)]
        parts += [
            f"  {change.rows:>7,}  {' -> '.join(change.classes)}" for change in pair.changes[:10]
        ]
    for one in found.repeats:
        parts += ["", f"{one.name} asked again", *repeat_sentences(one)]
    for test in found.people:
        if test.scores:
            parts += ["", f"{joined(test.sets)} against people ({test.source})"]
            parts += [*people_sentences(test), *score_lines(test), *test_sentences(test, found)]
    return "\n".join([*parts, *unscored_lines(found)])


def unscored_lines(found: SetComparison) -> list[str]:
    """Return for which sets and which codes of people there is no score, and why."""
    lines = [
        f"  {joined(test.sets)} against people ({test.source}): {why_unscored(test)}"
        for test in found.people
        if not test.scores
    ]
    return ["", "Here nothing can be said about agreement with people:", *lines] if lines else []


def why_unscored(test: PeopleTest) -> str:
    """Return why sets have no score against people, and what would give them one."""
    if test.rows:
        return "people and the codebooks share one class only"
    asked = "; batch_infer_gen.py --ask-coded-rows has a model asked about rows that people coded"
    from_spreadsheet = test.source == SPREADSHEET and test.without_label
    return "no row is left" + asked * bool(from_spreadsheet)


def set_sentence(one: SetSummary) -> str:
    """Return whose a set is, and how many of its rows have a label."""
    teacher = f", by {joined(one.teachers)}" * bool(one.teachers)
    days = f", {days_of(one)}" * bool(one.first_answer)
    coded = f", {one.by_people:,} coded by people" * bool(one.by_people)
    return (
        f"{one.name}: {as_text(one.rows, 'row|rows')}, {one.labelled:,} with a label{coded}"
        f"{teacher}{days}; {len(one.class_names)} classes: {', '.join(one.class_names)}"
    )


def days_of(one: SetSummary) -> str:
    """Return the days on which a set's answers came, "" where they are not known."""
    if one.first_answer == one.last_answer:
        return one.first_answer
    return f"{one.first_answer} to {one.last_answer}"


def changed_sentences(pair: SetPair) -> list[str]:
    """Return how many labels of a pair changed."""
    if not pair.compared:
        return ["No row has a label in both sets: there is nothing to compare."]
    return fill_all(
        vars(pair),
        "{changed:label|labels} of {compared:,} changed: {changed_share:%} {changed_share_ci95:%}.",
        "Cohen's kappa of the two sets is {kappa:.3f} {kappa_ci95:.3f}.",
    )


def rows_sentences(pair: SetPair, found: SetComparison) -> list[str]:
    """Return which rows of a pair were compared, and what to know of the figures."""
    facts = {key: value for key, value in vars(pair).items() if value}
    return [
        fill("{rows:row is|rows are} in both sets, {compared:,} with a label in both.", vars(pair)),
        *fill_all(
            facts,
            "{rows_first_alone:row is|rows are} in {first} alone.",
            "{rows_second_alone:row is|rows are} in {second} alone.",
            "{without_first:row has|rows have} no label in {first}.",
            "{without_second:row has|rows have} no label in {second}.",
            "{without_both:row has|rows have} no label in either.",
            "{by_people:row that people coded was|rows that people coded were} not labelled by "
            "both models.",
        ),
        *class_sentences(pair),
        *chance_sentences(pair, found.repeats),
    ]


def class_sentences(pair: SetPair) -> list[str]:
    """Return which classes the codebooks of a pair do not share."""
    if len(pair.classes_first_alone) == len(pair.classes_first):
        return [
            "The codebooks have no class of the same name, so that every label counts as changed."
        ]
    alone = [
        f"{joined(names)} {'is a class' if len(names) == 1 else 'are classes'} of {name} alone."
        for name, names in (
            (pair.first, pair.classes_first_alone),
            (pair.second, pair.classes_second_alone),
        )
        if names
    ]
    rule = "Labels of these classes count as changed, also where a class was only renamed or split."
    return [*alone, rule] if alone else []


def chance_sentences(pair: SetPair, repeats: list[Repeats]) -> list[str]:
    """Return how many labels change without any change of the codebook, where that is known."""
    if pair.changed_share is None:
        return []
    return [
        f"Asked again with the same codebook, the teacher of {one.name} gave another class in "
        f"{as_text(1 - one.pairs_agree, '%')} of pairs of answers "
        f"{as_text([1 - end for end in reversed(one.pairs_agree_ci95)], '%')}: so much "
        "changes by chance alone."
        for one in repeats
        if one.name in (pair.first, pair.second)
    ]


def repeat_sentences(one: Repeats) -> list[str]:
    """Return how far a teacher repeats itself."""
    return fill_all(
        vars(one),
        "{rows:row was|rows were} asked again with the same codebook, with {asked_again:more "
        "answer|more answers} in all.",
        "All answers agree for {all_agree:%} of the rows {all_agree_ci95:%}, and "
        "{pairs_agree:%} of the pairs of answers agree {pairs_agree_ci95:%}.",
        "Krippendorff's alpha of the answers is {alpha:.3f} {alpha_ci95:.3f}.",
    )


def people_sentences(test: PeopleTest) -> list[str]:
    """Return which rows people coded, which of them count, and what they stand for."""
    known = {key: value for key, value in vars(test).items() if value}
    text = [
        fill("People coded {coded:row|rows} that the sets have.", vars(test)),
        *fill_all(
            known,
            "{lost:more row that people coded is|more rows that people coded are} in no set.",
            "Not counted: {without_label:row|rows} without a label in a set.",
            "Not counted: {other_class:row|rows} of a class by people that a codebook lacks.",
        ),
    ]
    if not test.scores:
        return [*text, f"So nothing can be said about agreement with people: {why_unscored(test)}."]
    if test.empty_classes:
        text.append(
            f"People gave none of these rows the class {joined(test.empty_classes)}, which lowers "
            "macro F1 alike for all sets."
        )
    return [*text, *weight_sentences(test), *codebook_sentences(test)]


def weight_sentences(test: PeopleTest) -> list[str]:
    """Return what the scores stand for: the data set or the coded rows."""
    if test.weighted:
        return ["The scores are weighted to the data set that the sample was drawn from."]
    if test.sampled:
        return [
            "Too few rows of a class of the sample are left to weight them: the scores are those "
            "of these rows, not of the data set."
        ]
    return ["These rows are no random sample: the scores are those of these rows alone."]


def codebook_sentences(test: PeopleTest) -> list[str]:
    """Return which set's codebook people had, where it is not that of all sets."""
    if test.same_codebook is None:
        return ["Which codebook people coded by is not on record."]
    if all(test.same_codebook):
        return []
    if not any(test.same_codebook):
        return [
            f"People coded by another codebook than that of {joined(test.sets)}: agreement with "
            "them says how well the labels fit that codebook."
        ]
    [one], [other] = (
        [name for name, same in zip(test.sets, test.same_codebook, strict=True) if same is wanted]
        for wanted in (True, False)
    )
    return [
        f"People coded by the codebook of {one}: where that of {other} asks for another class, "
        f"{other} counts as wrong."
    ]


def score_lines(test: PeopleTest) -> list[str]:
    """Return the scores as lines for the terminal."""
    return [
        f"  {one.name}: "
        + fill(
            "accuracy {accuracy:%} {accuracy_ci95:%}, macro F1 {macro_f1:.3f} {macro_f1_ci95:.3f}, "
            "kappa {cohen_kappa:.3f} {cohen_kappa_ci95:.3f}",
            vars(one),
        )
        for one in test.scores
    ]


def test_sentences(test: PeopleTest, found: SetComparison) -> list[str]:
    """Return which of two sets people agree with more often, and what could have been seen."""
    if test.test is None:
        return []
    tested, (first, second) = test.test, test.sets
    facts = vars(tested) | {"first": first, "second": second}
    tests = sum(one.test is not None for one in found.people)
    corrected = f", corrected for {tests} tests {as_text(tested.p_holm, 'p')}" * (tests > 1)
    text = [
        fill(
            "{second} alone is right on {only_second_right:row|rows}, {first} alone on "
            "{only_first_right:,}: a difference of {difference:points} percentage points "
            "{difference_ci95:points}, each row counting once; McNemar's exact test {p_value:p}",
            facts,
        )
        + f"{corrected}."
    ]
    text += fill_all(
        facts,
        "Weighted to the data set the difference is {difference_weighted:points} points "
        "{difference_weighted_ci95:points}; the test does not test this one.",
    )
    return [verdict(test), *text, power_sentence(test), *pilot_sentences(test, found)]


def verdict(test: PeopleTest) -> str:
    """Return which of two sets is better, as far as the test shows it."""
    tested, (first, second) = test.test, test.sets
    if tested.p_holm >= LEVEL:
        return "These rows do not show which of the two agrees with people more often."
    better, sign = (second, 1) if tested.difference > 0 else (first, -1)
    ends = tested.difference_weighted_ci95
    if ends and min(sign * end for end in ends) <= 0:
        return (
            f"{better} agrees with people more often in rows drawn as these were; of the whole "
            "data set they do not show it."
        )
    return f"{better} agrees with people more often."


def power_sentence(test: PeopleTest) -> str:
    """Return what difference the test could have found."""
    tested = test.test
    separating = tested.only_first_right + tested.only_second_right
    rows = as_text(separating, "row separates|rows separate")
    if tested.detectable is None:
        return (
            f"{rows} the two sets (one alone is right), and the test needs {tested.needed} or more "
            f"to find anything: with these {test.rows:,} coded rows no difference could have been "
            "found. Have more rows coded."
        )
    return (
        f"{rows} the two sets (one alone is right). With so many among {test.rows:,} coded rows, "
        f"the test finds a true difference of {100 * tested.detectable:.1f} points in 8 of 10 "
        "samples; a smaller one mostly goes unseen."
    )


def pilot_sentences(test: PeopleTest, found: SetComparison) -> list[str]:
    """Return the caution about a codebook that was refined on the rows that it is tested on.

    Rows that people coded by the second codebook were drawn after it was written.
    """
    books = {one.name: one.codebook_sha256 for one in found.sets}
    drawn_after = test.same_codebook is not None and test.same_codebook[1]
    if len({books[name] for name in test.sets}) < 2 or drawn_after:
        return []
    return [
        "If a codebook was changed with these rows in view, its agreement with them says too much: "
        "rows that nobody looked at in writing it are the fair test."
    ]
