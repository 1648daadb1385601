"""Which of the rows that the model coded people should look at: those of little confidence."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.coding.model import FoundModel
from pipeline.common.cli import UserError
from pipeline.common.codebook import Codebook
from pipeline.common.records import read_record
from pipeline.planning.plan import PLAN_AGAIN, Plan

NO_RULE = (
    "`check` stays blank, as no rule was given: run plan_coding.py with --target-accuracy or "
    "--budget, or give --check-below a confidence such as 0.8, and run this again"
)
LEFT_OUT = ("curve", "settings")  # of a plan, in the record of what was coded


@dataclass(frozen=True)
class CheckRule:
    """Rows of less confidence than `threshold` are to be checked; None is no rule.

    `plan` holds the figures of the plan that it is from, {} for none.
    """

    threshold: float | None
    plan: dict[str, Any]


def read_rule(
    plan_file: str, check_below: float, found: FoundModel, codebook: Codebook
) -> CheckRule:
    """Return the rule of `check_below`, where it is not 0, or else that of a plan.

    Raises UserError where the plan is for another model, codebook or training.
    """
    if check_below > 1:
        raise UserError(f"--check-below {check_below}: give a confidence from 0 to 1, 0 = the plan")
    if check_below:
        return CheckRule(check_below, {})
    if not Path(plan_file).is_file():
        return CheckRule(None, {})
    plan = read_record(plan_file, Plan, PLAN_AGAIN)
    path, cure = found.options.path, f"{PLAN_AGAIN}, or give --check-below a confidence"
    if plan.codebook_sha256 != codebook.sha256:
        raise UserError(f"{plan_file} is by another codebook than {codebook.path}: {cure}")
    if Path(plan.model.path).resolve() != Path(path).resolve():
        raise UserError(
            f"{plan_file} is a plan for {plan.model.path}, and {path} is to code the rows: {cure}"
        )
    if not found.is_trained_as(plan.model):
        raise UserError(
            f"{plan_file} was made when {path} was another training: evaluate the model again, "
            f"then {cure}"
        )
    if plan.threshold is None:
        return CheckRule(None, {})
    figures = {name: value for name, value in asdict(plan).items() if name not in LEFT_OUT}
    return CheckRule(plan.threshold, figures)
