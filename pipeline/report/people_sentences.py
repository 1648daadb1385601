"""The methods text on people's work: the human check and the label audit."""

from pipeline.people.record import Agreement, HumanCheck, Sample
from pipeline.report.words import as_text, fill, fill_all, fill_all_of, joined


def human_sentences(check: HumanCheck | None) -> tuple[list[str], list[str]]:
    """Return the sample, the coders, their agreement, and the silver labels against them."""
    if check is None:
        return [], []
    coders = [
        f"{coder.name} ({as_text(coder.coded, 'row|rows')}, {coder.blank:,} blank)"
        for coder in check.coders
    ]
    text = [
        *sample_sentences(check.sample),
        "It was coded, the silver labels being hidden, by "
        f"{as_text(len(coders), 'person|people')}: {joined(coders)}.",
        *agreement_sentences(check.agreement),
        fill(
            "{disagreements:row was|rows were} coded differently, {adjudicated:,} adjudicated; "
            "{undecided:,} stayed undecided, and {uncoded:row has|rows have} no human label.",
            vars(check),
        ),
        "A row's final label is the adjudicated one, else the one that most coders gave.",
    ]
    if missing := check.without_label:
        text.append(
            f"{as_text(missing, 'row|rows')} without such a label "
            f"{'is' if missing == 1 else 'are'} "
            "left out, the others of the same silver label standing for them: the rows that people "
            "find hard are those that labels get wrong, so that the figures below flatter the "
            "silver labels."
        )
    text.append(
        fill(
            "Against the people's labels, each row weighted by its inverse inclusion probability, "
            "the silver labels have an accuracy of {accuracy:%} {accuracy_ci95:%}, a macro F1 of "
            "{macro_f1:.3f} {macro_f1_ci95:.3f} and a kappa of {cohen_kappa:.3f} "
            "{cohen_kappa_ci95:.3f} ({rows:row|rows}).",
            vars(check.silver),
        )
    )
    classes = fill_all_of(
        map(vars, check.silver.classes),
        "{name} {precision:.2f} {precision_ci95:.2f} and {recall:.2f} {recall_ci95:.2f}",
    )
    text.append(f"Their precision and recall are {joined(classes)}.")
    text.append(
        "Below are the shares of the classes in the whole data set, corrected for the silver "
        "labels' errors by stratified prediction-powered inference (Angelopoulos et al., "
        "2023), beside the naive shares of the silver labels, with 95% intervals. All those of "
        "the human check are Wilson's (Wilson, 1927). Those of the naive shares count all "
        "rows; all others rest on the effective sample size (Franco et al., 2019), that of a "
        "simple random sample with the same variance. The variance is that of the jackknife "
        "over the rows, for the agreement of the coders as Fleiss and Davies have it (Fleiss & "
        "Davies, 1982), for all else within the strata (Wolter, 2007) and with the finite "
        "population correction (Cochran, 1977). Macro F1 counts as a share; alpha and kappa, "
        "of −1 to 1, are taken as shares: (1 + value) / 2."
    )
    shares = fill_all_of(
        map(vars, check.shares),
        "{name}: {corrected:%} {corrected_ci95:%}; naive {naive:%} {naive_ci95:%}.",
    )
    return text, shares


def sample_sentences(sample: Sample) -> list[str]:
    """Return how the sample was drawn, and what it stands for."""
    source = (
        as_text(sample.held_out, "held-out row|held-out rows")
        if sample.held_out
        else as_text(sample.population, "labelled row|labelled rows")
    )
    strata = fill_all_of(
        map(vars, sample.strata),
        "{name} {drawn:,} for {population:,} (inclusion probability {inclusion_probability:.4f})",
    )
    of_people = fill_all_of(map(vars, sample.strata), "{name} {by_people:,}")
    coded_before = [
        f"{as_text(sample.by_people, 'row of these was|rows of these were')} coded by people "
        f"before ({joined(of_people)}), and could not be drawn: the shares of the classes count "
        "them with that class; the other figures are those of the rows with a silver label."
    ]
    return [
        f"A sample of {as_text(sample.drawn, 'row|rows')} was drawn at random "
        f"(seed {sample.seed}), stratified by silver label, from {source}.",
        f"Of each class at least {as_text(sample.min_per_class, 'row was|rows were')} drawn, where "
        "it has as many.",
        f"It was drawn on {sample.date}.",
        f"It stands for {as_text(sample.population, 'labelled row|labelled rows')}: "
        f"{joined(strata)}.",
        *coded_before * bool(sample.by_people),
    ]


def agreement_sentences(found: Agreement | None) -> list[str]:
    """Return how far the coders agree, no sentence where no rows were coded by two."""
    if found is None:
        return []
    return [
        *fill_all(
            vars(found),
            "On {rows:row|rows} coded by two or more, {percent:%} of the pairs of codes agree.",
            "Krippendorff's alpha (Krippendorff, 2018) for nominal classes is {alpha_nominal:.3f} "
            "{alpha_nominal_ci95:.3f}, in the sample, where rare classes have more than their "
            "share.",
            "For the classes as steps of a scale (ordinal) it is {alpha_ordinal:.3f} "
            "{alpha_ordinal_ci95:.3f}.",
        ),
        *fill_all_of(
            (vars(pair) | {"coders": joined(pair.coders)} for pair in found.kappa),
            "Cohen's kappa (Cohen, 1960) of {coders} is {kappa:.3f} {ci95:.3f} ({rows:row|rows}).",
        ),
    ]


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
    if audit.get("settings", {}).get("splits_dir"):
        text.append(
            "Test rows were left out, since labels that are corrected where a model disputes them "
            "would favour that model."
        )
    return text, []
