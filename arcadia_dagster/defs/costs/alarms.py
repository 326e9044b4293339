"""Checks on money as alerts: each failed one says in a sentence what a person should look at. The rules are `ledger/alarms.py`'s."""

from collections.abc import Callable, Sequence
from typing import Any

import dagster as dg
from sqlalchemy import Connection, Row

from arcadia_dagster import settings
from arcadia_dagster.defs.resources import Ledger
from arcadia_dagster.defs.tables import as_markdown
from arcadia_dagster.ledger.alarms import LEAST_INCREASE, months_over_budget, risen_projects, unexplained_money

Rows = Sequence[Row[Any]]

_TOLD = 3


def _alarm(
    name: str, *, asset: str, description: str, find: Callable[[Connection], Rows], say: Callable[[Row[Any]], str]
) -> dg.AssetChecksDefinition:
    """A check that passes while `find` gives no row; `say` makes a sentence of one. In a job without `asset` it comes after the rest."""

    @dg.asset_check(name=name, asset=asset, description=description, op_tags={"dagster/priority": "-1"})
    def check(ledger: Ledger) -> dg.AssetCheckResult:
        try:
            with ledger.engine.connect() as conn:
                rows = find(conn)
        except settings.SettingsError as problem:
            raise dg.Failure(str(problem), allow_retries=False) from None
        more = [f"And {len(rows) - _TOLD} more."] if len(rows) > _TOLD else []
        return dg.AssetCheckResult(
            passed=not rows,
            severity=dg.AssetCheckSeverity.WARN,
            description=" ".join([*map(say, rows[:_TOLD]), *more]) or None,
            metadata={"found": len(rows), "which": as_markdown(rows[:20])},
        )

    return check


unexplained_money_is_little = _alarm(
    "unexplained_money_is_little",
    asset="matched_cost_lines",
    description="Of the last closed month and of the month to date, no more than ARCADIA_ALERT_UNEXPLAINED_USD stands on lines that are"
    " unmatched or ambiguous.",
    find=lambda conn: unexplained_money(conn, settings.unexplained_limit()),
    say=lambda row: f"Nobody knows what {row.usd:,.2f} USD of {row.account} in {row.period} pay for (lines: {row.lines}).",
)

projects_cost_what_they_used_to = _alarm(
    "projects_cost_what_they_used_to",
    asset="matched_cost_lines",
    description="No project costs over ARCADIA_ALERT_PROJECT_INCREASE_PERCENT percent more than the median of its last six months, and more"
    f" than in any of them, by {LEAST_INCREASE} USD at least: in the last closed month, or by the forecast of this one.",
    find=lambda conn: risen_projects(conn, settings.project_increase_limit()),
    say=lambda row: (
        f"Project {row.project} of {row.account} {'is to cost' if row.cost_basis == 'forecast' else 'cost'} {row.usd:,.2f} USD"
        f" in {row.period}, where {row.typical_usd:,.2f} USD are usual."
    ),
)

month_is_within_budget = _alarm(
    "month_is_within_budget",
    asset="invoice_preview",
    description="The month to date is not on course above ARCADIA_MONTHLY_BUDGET_USD, all accounts together. In the first three days there"
    " is no forecast, and only what is billed already counts. Passes where no budget is set.",
    find=lambda conn: [] if (budget := settings.monthly_budget()) is None else months_over_budget(conn, budget),
    say=lambda row: (
        f"{row.period} is above the budget: {row.so_far_usd:,.2f} USD so far"
        + ("." if row.forecast_usd is None else f", on course for {row.forecast_usd:,.2f} USD.")
    ),
)
