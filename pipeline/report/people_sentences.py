"""The methods text on people's work: the human check and the label audit."""

from pipeline.report.words import as_text, fill, fill_all, fill_all_of, joined


def human_sentences(check: dict) -> tuple[list[str], list[str]]:
    """Return the sample, the coders, their agreement, and the silver labels against them."""
    if not check:
        return [], []
    sample, agreement, silver = (check.get(key) or {} for key in ("sample", "agreement", "silver"))
    frame = "held_out" if sample.get("held_out") else "population"
    noun = "held-out row|held-out rows" if sample.get("held_out") else "labelled row|labelled rows"
    text = fill_all(
        sample,
        "A sample of {drawn:row|rows} was drawn at random (seed {seed:d}), stratified by silver "
        f"label, from {{{frame}:{noun}}}.",
        "Of each class at least {min_per_class:row was|rows were} drawn, where it has as many.",
        "It was drawn on {date}.",
    )
    strata = fill_all_of(
        sample.get("strata", []),
        "{name} {drawn:,} for {population:,} (inclusion probability {inclusion_probability:.4f})",
    )
    if strata:
        rows = fill("{population:labelled row|labelled rows}", sample)
        text.append(f"It stands for {rows}: {joined(strata)}.")
    coders = fill_all_of(check.get("coders", []), "{name} ({coded:row|rows}, {blank:,} blank)")
    if coders:
        text.append(
            "It was coded, the silver labels being hidden, by "
            f"{as_text(len(coders), 'person|people')}: {joined(coders)}."
        )
    text += fill_all(
        agreement,
        "On {rows:row|rows} coded by two or more, {percent:%} of the pairs of codes agree.",
        "Krippendorff's alpha (Krippendorff, 2018) is {alpha_nominal:.3f} "
        "{alpha_nominal_ci95:.3f} for nominal and {alpha_ordinal:.3f} {alpha_ordinal_ci95:.3f} for "
        "ordinal classes, in the sample, where rare classes have more than their share.",
    )
    text += fill_all_of(
        [pair | {"coders": joined(pair["coders"])} for pair in agreement.get("kappa", [])],
        "Cohen's kappa (Cohen, 1960) of {coders} is {kappa:.3f} {ci95:.3f} ({rows:row|rows}).",
    )
    text += fill_all(
        check,
        "{disagreements:row was|rows were} coded differently, {adjudicated:,} adjudicated; "
        "{undecided:,} stayed undecided, and {uncoded:row has|rows have} no human label.",
    )
    text.append("A row's final label is the adjudicated one, else the one that most coders gave.")
    missing = check.get("undecided", 0) + check.get("uncoded", 0)
    if missing:
        text.append(
            f"{as_text(missing, 'row|rows')} without such a label "
            f"{'is' if missing == 1 else 'are'} "
            "left out, the others of the same silver label standing for them: the rows that people "
            "find hard are those that labels get wrong, so that the figures below flatter the "
            "silver labels."
        )
    text += fill_all(
        silver,
        "Against the people's labels, each row weighted by its inverse inclusion probability, the "
        "silver labels have an accuracy of {accuracy:%} {accuracy_ci95:%}, a macro F1 of "
        "{macro_f1:.3f} {macro_f1_ci95:.3f} and a kappa of {cohen_kappa:.3f} "
        "{cohen_kappa_ci95:.3f} ({rows:row|rows}).",
    )
    classes = fill_all_of(
        silver.get("classes", []),
        "{name} {precision:.2f} {precision_ci95:.2f} and {recall:.2f} {recall_ci95:.2f}",
    )
    if classes:
        text.append(f"Their precision and recall are {joined(classes)}.")
    shares = fill_all_of(
        check.get("shares", []),
        "{name}: {corrected:%} {corrected_ci95:%}; naive {naive:%} {naive_ci95:%}.",
    )
    if shares:
        text.append(
            "Below are the shares of the classes in the whole data set, corrected for the silver "
            "labels' errors by stratified prediction-powered inference (Angelopoulos et al., "
            "2023), beside the naive shares of the silver labels, with 95% intervals. The "
            "intervals of the agreement are quantiles of a Bayesian bootstrap (Rubin, 1981) of "
            "the rows and two pseudo-rows, spread over all pairs of classes; those of the naive "
            "shares are Wilson's (Wilson, 1927). All others are quantiles of draws of each "
            "stratum's shares from a Dirichlet distribution with the prior of Perks (Perks, "
            "1947), whose mean is moved so that the prior weighs 4/k² of its own for k classes, "
            "and whose spread is that of the unbiased variance with the finite population "
            "correction."
        )
    return text, shares


def audit_sentences(audit: dict) -> tuple[list[str], list[str]]:
    """Return how the labels were searched for errors, and what was found."""
    text = fill_all(
        audit,
        "The labels of {rows:row|rows} were searched for errors by confident learning (Northcutt "
        "et al., 2021): {issues:is a probable error|are probable errors}, and "
        "{near_duplicates:group of near-duplicates has|groups of near-duplicates have} labels that "
        "differ.",
        "The class probabilities of a row are those of {method}, cross-validated in "
        "{folds:fold|folds}.",
    )
    return text, []
