"""The files of a plan: its record, its curve, its text and its figure."""

from pathlib import Path

from pipeline.common.files import write_text, written_together
from pipeline.common.tables import write_csv
from pipeline.planning.plan import CURVE_FILE, PLAN_FILE, PLOT_FILE, TEXT_FILE, Plan
from pipeline.planning.plan_text import curve_table, plan_text


@written_together()
def write_plan(plan: Plan, folder: Path) -> None:
    """Write and print the plan."""
    from pipeline.planning.plan_plot import plot_plan

    write_csv(curve_table(plan.curve), folder / CURVE_FILE)
    write_text(plan_text(plan), folder / TEXT_FILE)
    plot_plan(plan, folder / PLOT_FILE)
    plan.write(folder)
    print(f"wrote {folder}: {TEXT_FILE}, {PLOT_FILE}, {PLAN_FILE}\n\n{plan_text(plan)}")
