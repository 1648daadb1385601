"""The methods text on the plan of who codes what: the rule, what it promises, what it costs."""

from pipeline.planning.plan import PEOPLE, Plan
from pipeline.report.words import fill, fill_all


def plan_sentences(plan: Plan | None) -> tuple[list[str], list[str]]:
    """Return which rows the small model codes by the plan, what to expect, what it costs."""
    if plan is None:
        return [], []
    text = [rule_sentence(plan), *expected_sentences(plan), meaning_sentence(plan)]
    text += fill_all(
        vars(plan),
        "The plan was made on {date} from the {held_out_rows:held-out row|held-out rows} of the "
        "run {run}. Its figures stand in results/plan/plan.json.",
    )
    return text, [f"{name}: {what}." for name, what in alternatives(plan).items()]


def rule_sentence(plan: Plan) -> str:
    """Return which rows the small model codes, and who codes the others."""
    if plan.threshold is None:
        return (
            "No rule was chosen: the plan was asked for no accuracy and no budget "
            "(plan_coding.py --target-accuracy or --budget)."
        )
    others = "people code" if plan.who == PEOPLE else "the teacher codes"
    wish = wish_of(plan)
    if not plan.kept_share:
        return fill(f"For {wish} {others} all of {{rows_to_code:row|rows}}.", vars(plan))
    return fill(
        f"For {wish} the small model, {{name}}, codes the rows of which its confidence is at least "
        f"{{threshold}}, {{kept_share:%}} of all; {others} {{sent_rows:,}} of "
        "{rows_to_code:row|rows}.",
        vars(plan) | {"name": plan.model.name},
    )


def wish_of(plan: Plan) -> str:
    """Return what the plan was asked for."""
    if plan.target_accuracy:
        return fill("an accuracy of {target_accuracy:%}", vars(plan))
    if plan.minutes_budget:
        return fill("{minutes_budget:,.0f} minutes of people's time", vars(plan))
    return fill("a budget of {budget:,.2f} yuan", vars(plan))


def expected_sentences(plan: Plan) -> list[str]:
    """Return the accuracy to expect, what of it is promised, and the price."""
    text = fill_all(
        vars(plan),
        "The expected accuracy of all these rows is {accuracy:%} {accuracy_ci95:%}, measured as "
        "{measured_against}.",
    )
    text += [plan.guarantee] * bool(plan.guarantee)
    if plan.who == PEOPLE:
        paid = vars(plan) | {"price": plan.price or None}
        return text + fill_all(
            paid,
            "People take {minutes:,.0f} minutes for their part, those of all coders together.",
            "They are paid {price:,.2f} yuan.",
        )
    return text + fill_all(
        vars(plan) | vars(plan.costs),
        "The teacher takes {price:,.2f} yuan for its part, by the price {teacher_source}.",
    )


def meaning_sentence(plan: Plan) -> str:
    """Return what stands behind the accuracy of who codes the rest."""
    if not plan.others_are_right:
        return "The teacher's labels are judged by people, row by row."
    if plan.who == PEOPLE:
        return "What people code counts as right."
    known = fill(
        "people found {teacher_accuracy:%} {teacher_accuracy_ci95:%} of its labels right",
        vars(plan),
    )
    return (
        "What the teacher codes counts as right here, so that this is agreement with the teacher; "
        f"{known or 'how often people agree with it was not measured'}."
    )


def alternatives(plan: Plan) -> dict[str, str]:
    """Return what it comes to where one codes all rows alone, by who that is."""
    none, every = plan.curve[0], plan.curve[-1]
    return {
        "The small model alone": fill(
            "{kept_accuracy:%} {kept_accuracy_ci95:%} right, at no further price", vars(every)
        ),
        "The teacher alone": fill(
            f"{teacher_alone(plan)}, {{teacher_price:,.2f}} yuan", vars(none)
        ),
        "People alone": fill(
            "right by definition, {people_minutes:,.0f} minutes, at {seconds_per_comment} seconds "
            "a comment for {coders:coder|coders}",
            vars(none) | vars(plan.costs),
        ),
    }


def teacher_alone(plan: Plan) -> str:
    """Return how often the teacher is right where it codes all rows."""
    alone = vars(plan.curve[0])
    if alone["accuracy_with_teacher"] is None:
        return "it is not known how often right"
    if alone["accuracy_with_teacher"] == 1:
        return "right by definition"
    return fill("{accuracy_with_teacher:%} {accuracy_with_teacher_ci95:%} right", alone)


def plan_description(plan: Plan) -> str:
    """Return what the plan's plot shows, for who does not see it."""
    parts = [f"{name}: {what}" for name, what in alternatives(plan).items()]
    chosen = fill("the plan: {accuracy:%} right, {price:,.2f} yuan", vars(plan))
    return f"Accuracy against cost. {'; '.join(filter(None, [*parts, chosen]))}."
