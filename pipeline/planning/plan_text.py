"""A plan as text: plan.txt, and the table of its curve, plan.csv."""

from collections.abc import Iterable

import pandas as pd

from pipeline.planning.plan import PEOPLE, Interval, Plan, Point

SHOWN = 0.1  # step of the kept shares in the text's table


def plan_text(plan: Plan) -> str:
    """Return who codes what, the price, the promise, and the curve."""
    return "\n".join(
        [
            f"Model: {plan.model.name} ({plan.model.path})",
            f"Judged by: {plan.measured_against}, {plan.held_out_rows:,} held-out rows "
            f"of the run {plan.run}{', weighted' * plan.weighted}",
            f"Rows to be coded: {plan.rows_to_code:,}, {plan.rows_source}",
            *_prices(plan),
            "",
            *_meaning(plan),
            "",
            *_decision(plan),
            "",
            *_table(plan),
            "",
        ]
    )


def _prices(plan: Plan) -> list[str]:
    costs, rows = plan.costs, plan.rows_to_code
    pay = f", {costs.people_price(rows):,.2f} yuan" * bool(costs.pay_per_hour)
    each = f"{costs.seconds_per_comment:g} seconds a comment"
    coders = f"{costs.coders} people code each" if costs.coders > 1 else "one person codes each"
    return [
        f"All of them by the teacher: {costs.teacher_price(rows):,.2f} yuan "
        f"({costs.teacher_per_row * 1000:.3f} yuan for 1,000 rows, {costs.teacher_source})",
        f"All of them by people: {hours(costs.minutes(rows))}{pay} ({each}, {coders})",
    ]


def hours(minutes: float) -> str:
    """Return a time in minutes, or hours where there are many."""
    return f"{minutes:,.0f} minutes" if minutes < 120 else f"{minutes / 60:,.1f} hours"


def _meaning(plan: Plan) -> list[str]:
    """Return what the accuracy is, and what it is not."""
    if not plan.measured_against.startswith("accuracy"):
        lines = [
            "Against silver labels the teacher is right by definition: accuracy here is agreement "
            "with the teacher, not accuracy against people."
        ]
        if plan.teacher_accuracy is None:
            lines.append("How often the teacher agrees with people, human_check.py can say.")
        else:
            lines.append(
                "The teacher agrees with people in "
                f"{with_interval(plan.teacher_accuracy, plan.teacher_accuracy_ci95)} of the rows "
                "(human_check.py). Its errors and the model's may add up."
            )
        return lines
    lines = ["What people code is right by definition, as the rows are judged by people."]
    alone = plan.curve[0]
    if alone.accuracy_with_teacher is None:
        lines.append("The teacher's labels of these rows are not known: no curve is drawn for it.")
    else:
        lines.append(
            "The teacher's labels are judged row by row, since it errs more often where the model "
            "is unsure."
        )
    return lines


def _decision(plan: Plan) -> list[str]:
    few = (
        f"By these held-out rows at most {plan.most_promised:.2%} can be promised where the model "
        "codes any row."
    )
    if plan.threshold is None:
        return ["No target and no budget: give --target-accuracy or --budget.", few]
    who = "people" if plan.who == PEOPLE else "the teacher"
    kept = plan.rows_to_code - plan.sent_rows
    price = f"{plan.price:,.2f} yuan"
    if plan.minutes is not None:
        price = hours(plan.minutes) + f", {price}" * bool(plan.costs.pay_per_hour)
    wish = f"a target of {plan.target_accuracy:.1%}"
    if not plan.target_accuracy:
        minutes = f"{plan.minutes_budget:,.0f} minutes"
        wish = f"a budget of {f'{plan.budget:,.2f} yuan' if plan.budget else minutes}"
    rows = f"the rows for which its confidence is at least {plan.threshold:.6g}"
    return [
        f"For {wish}: the model keeps {rows if kept else 'no row'}",
        f"  the model codes {kept:>12,} rows ({plan.kept_share:.1%})",
        f"  {who} {'code' if plan.who == PEOPLE else 'codes'} {plan.sent_rows:,} rows ({price})",
        f"  expected accuracy {with_interval(plan.accuracy, plan.accuracy_ci95)}",
        f"  promised accuracy {plan.promised:.2%}",
        plan.guarantee,
        few,
    ]


def _table(plan: Plan) -> list[str]:
    """Return the curve at some shares, a line each."""
    head = f"{'model keeps':<13}{'accuracy on them':<24}{'all, rest by teacher':<24}"
    lines = [
        "The curve, with 95 % intervals:",
        f"  {head}{'yuan':<12}{'all, rest by people':<24}time",
    ]
    for point in _thinned(plan.curve):
        lines.append(
            f"  {point.kept_share:<13.1%}"
            f"{_cell(point.kept_accuracy, point.kept_accuracy_ci95)}"
            f"{_cell(point.accuracy_with_teacher, point.accuracy_with_teacher_ci95)}"
            f"{point.teacher_price:<12,.2f}"
            f"{_cell(point.accuracy_with_people, point.accuracy_with_people_ci95)}"
            f"{hours(point.people_minutes)}"
        )
    return lines


def _thinned(curve: Iterable[Point]) -> list[Point]:
    """Return the points that begin another tenth of the kept share."""
    shown: dict[int, Point] = {}
    for point in curve:
        shown.setdefault(int(point.kept_share / SHOWN + 1e-6), point)
    return list(shown.values())


def _cell(value: float | None, interval: Interval | None) -> str:
    return f"{'-' if value is None else with_interval(value, interval):<24}"


def with_interval(value: float, interval: Interval) -> str:
    """Return a share and its interval."""
    low, high = interval
    return f"{value:.1%} [{low:.1%}, {high:.1%}]"


def curve_table(curve: list[Point]) -> pd.DataFrame:
    """Return the curve as a table, an interval as two columns."""
    rows = []
    for point in curve:
        row = {}
        for name, value in vars(point).items():
            if name.endswith("_ci95"):
                low, high = value or (None, None)
                row |= {f"{name.removesuffix('_ci95')}_low": low}
                row |= {f"{name.removesuffix('_ci95')}_high": high}
            else:
                row[name] = value
        rows.append(row)
    return pd.DataFrame(rows)
