"""A plan made: the threshold for a target or a budget, what it is worth, and the curve."""

import datetime
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.common.cli import UserError
from pipeline.common.codebook import Codebook
from pipeline.evaluation.runs import Run
from pipeline.people.record import HumanCheck
from pipeline.planning.judged_rows import JudgedRows, model_of
from pipeline.planning.plan import PEOPLE, TEACHER, WHO, Costs, Plan, Point
from pipeline.planning.routing import (
    ABOVE_ALL,
    Routes,
    find_routes,
    lowest_promised,
    most_promised,
    promised_at,
    rows_needed,
)

CURVE_STEP = 0.02  # of the share of rows that the model keeps


@dataclass(frozen=True)
class Wishes:
    """What the user wants: who codes the rest, and a target or a budget (0 = none)."""

    who: str
    target_accuracy: float
    budget: float  # yuan
    minutes_budget: float
    alpha: float


def check_wishes(wishes: Wishes, costs_pay: float) -> None:
    """Refuse wishes that contradict each other, or that nothing can be made of."""
    if wishes.who not in WHO:
        raise UserError(f"--who {wishes.who}: give {TEACHER} or {PEOPLE}")
    if not wishes.target_accuracy < 1:
        percent = 1 < wishes.target_accuracy < 100
        share = wishes.target_accuracy / 100 if percent else 0.9
        raise UserError(
            f"--target-accuracy {wishes.target_accuracy:g}: give a share below 1, such as {share:g}"
        )
    if not 0 < wishes.alpha < 0.5:
        raise UserError(f"--alpha {wishes.alpha:g}: give a chance between 0 and 0.5, such as 0.05")
    if sum(map(bool, (wishes.target_accuracy, wishes.budget, wishes.minutes_budget))) > 1:
        raise UserError("give one of --target-accuracy, --budget and --minutes-budget")
    if wishes.minutes_budget and wishes.who != PEOPLE:
        raise UserError("--minutes-budget is for people: give --who people, or --budget in yuan")
    if wishes.budget and wishes.who == PEOPLE and not costs_pay:
        raise UserError(
            "--budget in yuan needs --pay-per-hour where people code: give it, or --minutes-budget"
        )


def make_plan(
    run: Run,
    judged: JudgedRows,
    wishes: Wishes,
    costs: Costs,
    to_code: np.ndarray | int,
    rows_source: str,
    check: HumanCheck | None,
    codebook: Codebook,
    settings: dict[str, Any],
) -> Plan:
    """Return the plan for rows like the held-out ones.

    `to_code` are the confidences (rows,) that the model has for the rows to be coded, or how many
    there are. Raises UserError where a target cannot be promised, with the best that can.
    """
    total = to_code if isinstance(to_code, int) else len(to_code)
    if not total:
        raise UserError(f"{rows_source}: others coded all of them, and there is nothing to plan")
    columns = judged.confidence, judged.model_wrong
    with_people = find_routes(*columns, None, judged.weights)
    with_teacher = None
    if judged.teacher_known:
        with_teacher = find_routes(*columns, judged.teacher_wrong, judged.weights)
    routes = with_people if wishes.who == PEOPLE else with_teacher
    if routes is None:
        raise UserError(
            f"how right the teacher is on the rows of {run.folder} is not known, as they are not "
            "those of human_sample.py: give --who people, or --run a run on silver test rows"
        )
    threshold = _threshold(routes, wishes, costs, to_code, total)
    place = None if threshold is None else routes.at(threshold)
    most = most_promised(routes, wishes.alpha, total)
    promised = sent = None
    if place is not None:
        sent = _sent(routes, threshold, to_code, total)
        promised = wishes.target_accuracy or promised_at(routes, place, wishes.alpha, total)
    return Plan(
        run=run.name,
        model=model_of(run),
        measured_against=run.measured_against,
        held_out_rows=len(judged),
        weighted=routes.weighted,
        rows_to_code=total,
        rows_source=rows_source,
        costs=costs,
        who=wishes.who,
        others_are_right=routes.others_are_right,
        target_accuracy=wishes.target_accuracy,
        budget=wishes.budget,
        minutes_budget=wishes.minutes_budget,
        alpha=wishes.alpha,
        most_promised=most,
        threshold=threshold,
        kept_share=None if sent is None else 1 - sent / total,
        sent_rows=sent,
        accuracy=None if place is None else float(routes.right[place]),
        accuracy_ci95=None if place is None else routes.interval(place, total),
        promised=promised,
        guarantee="" if promised is None else guarantee(routes, promised, wishes, total),
        price=None if sent is None else _price(costs, wishes.who, sent),
        minutes=costs.minutes(sent) if sent is not None and wishes.who == PEOPLE else None,
        teacher_accuracy=check.silver.accuracy if check else None,
        teacher_accuracy_ci95=check.silver.accuracy_ci95 if check else None,
        codebook_sha256=codebook.sha256,
        class_names=list(codebook.names),
        date=datetime.date.today().isoformat(),
        curve=_curve(with_people, with_teacher, costs, total, place),
        settings=settings,
    )


def _price(costs: Costs, who: str, rows: float) -> float:
    return costs.people_price(rows) if who == PEOPLE else costs.teacher_price(rows)


def _threshold(
    routes: Routes, wishes: Wishes, costs: Costs, to_code: np.ndarray | int, total: int
) -> float | None:
    """Return the threshold for a target or a budget, None without either."""
    if wishes.target_accuracy:
        place = lowest_promised(routes, wishes.target_accuracy, wishes.alpha, total)
        if not place:
            _refuse_target(routes, wishes, total)
        return float(routes.threshold[place])
    if not wishes.budget and not wishes.minutes_budget:
        return None
    each = costs.minutes(1) if wishes.minutes_budget else _price(costs, wishes.who, 1)
    money = wishes.minutes_budget or wishes.budget
    affordable = int(min(total, money / each + 1e-9)) if each else total
    if affordable == total:
        return ABOVE_ALL
    if isinstance(to_code, int):
        return float(routes.threshold[routes.keeping(1 - affordable / total)])
    return float(np.sort(to_code)[affordable])


def _refuse_target(routes: Routes, wishes: Wishes, total: int) -> None:
    """Raise UserError: no row can be left to the model; say what can be promised instead."""
    most, target = most_promised(routes, wishes.alpha, total), wishes.target_accuracy
    alone = ""
    if not routes.others_are_right:
        low, high = routes.interval(0)
        alone = f"; the teacher alone is right in {routes.right[0]:.1%} [{low:.1%}, {high:.1%}]"
    cure = f"give --target-accuracy {most:.4g}" if most else "have more rows judged"
    needed = rows_needed(target, wishes.alpha)
    if routes.rows < needed:
        cure += f", or judge at least {needed:,} rows"
    raise UserError(
        f"a target of {target:.1%} cannot be promised with any row left to the model: by "
        f"the {routes.rows:,} held-out rows at most {most:.2%} can be{alone}: {cure}, or leave "
        f"all rows to {'people' if wishes.who == PEOPLE else 'the teacher'}"
    )


def _sent(routes: Routes, threshold: float, to_code: np.ndarray | int, total: int) -> int:
    """Return how many rows go to others; say so where the held-out rows are not like these."""
    place = routes.at(threshold)
    expected = 1 - float(routes.kept_share[place])
    if isinstance(to_code, int):
        return round(total * expected)
    sent = int((to_code < threshold).sum())
    spread = np.sqrt(expected * (1 - expected) * (1 / total + 1 / routes.size[place]))
    if abs(sent / total - expected) > 3 * spread + 1e-9:
        print(
            f"WARNING: the model is unsure of {sent / total:.1%} of the rows to be coded, and of "
            f"{expected:.1%} of the held-out rows: they are not alike, and what is promised may "
            "not hold; have people judge a random sample of the rows to be coded"
        )
    return sent


def guarantee(routes: Routes, promised: float, wishes: Wishes, total: int) -> str:
    """Return what is promised, in sentences."""
    how = (
        "This chance is approximate, as the rows are weighted (Learn then Test, Angelopoulos et "
        "al., 2021, with the Clopper-Pearson tail at the effective sample size, Korn & Graubard, "
        "1998)."
    )
    if not routes.weighted:
        how = (
            "This chance is exact for rows drawn at random (a risk-controlling threshold, Bates et "
            "al., 2021; hypergeometric tail)."
            if routes.others_are_right
            else "This chance is that of Learn then Test (Angelopoulos et al., 2021)."
        )
    choice = "chosen and judged by all held-out rows"
    if not wishes.target_accuracy:
        choice = "which follows from the budget alone"
    return (
        f"At least {promised:.2%} of the {total:,} rows are right with this threshold, {choice}. "
        f"The chance that held-out rows lead to a promise that does not hold is at most "
        f"{wishes.alpha:.1%}. {how} The promise is for rows like the held-out ones: from the same "
        "source, coded by the same codebook."
    )


def _curve(
    people: Routes, teacher: Routes | None, costs: Costs, total: int, chosen: int | None
) -> list[Point]:
    """Return points of the curve at even shares of kept rows, and the chosen one."""
    shares = np.arange(0, 1 + CURVE_STEP / 2, CURVE_STEP)
    places = {people.keeping(share) for share in shares} | {0, len(people.kept) - 1}
    places |= set() if chosen is None else {chosen}
    points = []
    for place in sorted(places):
        kept, share = int(people.kept[place]), float(people.kept_share[place])
        rest = total * (1 - share)
        points.append(
            Point(
                threshold=float(people.threshold[place]),
                kept_share=share,
                kept_rows=kept,
                kept_accuracy=float(people.kept_right[place]) if kept else None,
                kept_accuracy_ci95=people.kept_interval(place, total) if kept else None,
                accuracy_with_teacher=float(teacher.right[place]) if teacher else None,
                accuracy_with_teacher_ci95=teacher.interval(place, total) if teacher else None,
                accuracy_with_people=float(people.right[place]),
                accuracy_with_people_ci95=people.interval(place, total),
                teacher_price=costs.teacher_price(rest),
                people_minutes=costs.minutes(rest),
            )
        )
    return points


def check_of_people(path: str | Path, codebook: Codebook) -> HumanCheck | None:
    """Return the human check by this codebook, None where there is none."""
    if not Path(path).is_file():
        return None
    check = HumanCheck.read(path)
    return check if check.codebook_sha256 == codebook.sha256 else None
