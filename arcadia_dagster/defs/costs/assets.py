"""What is made of the billed lines: the analysts' table, in which lines that had no match are tried again, and the report.

What the report says and how it looks is decided in `report/`.
"""

import base64
from typing import Any

import dagster as dg
from sqlalchemy import text

from arcadia_dagster import settings
from arcadia_dagster.defs.billing.assets import balance_snapshots, cost_lines, invoice_preview
from arcadia_dagster.defs.inventory.assets import inventory_assets
from arcadia_dagster.defs.resources import Ledger
from arcadia_dagster.defs.tables import bars, preview, table_metadata
from arcadia_dagster.ledger.matching import rematch
from arcadia_dagster.ledger.tables import cloud_cost_lines


@dg.asset(
    group_name="billing",
    description="`arcadia.matched_cost_lines`: every billed line with the resource it pays for, or the reason why there is none.",
    deps=[cost_lines, "project_resources", *inventory_assets],
    kinds={"postgres"},
    owners=["team:finance"],
    metadata=table_metadata(cloud_cost_lines, "matched_cost_lines"),
)
def matched_cost_lines(ledger: Ledger) -> dg.MaterializeResult[None]:
    """Try open lines again in every account; report lines by outcome and the newest invoice by what it pays for."""
    with ledger.engine.connect() as conn:
        accounts = conn.execute(text("select account_id from arcadia.cloud_accounts order by 1")).scalars().all()
    rematched = sum(rematch(ledger.engine, account_id) for account_id in accounts)
    with ledger.engine.connect() as conn:
        outcomes = conn.execute(text("select match_status, count(*) from arcadia.matched_cost_lines group by 1 order by 2 desc, 1")).all()
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": sum(row[1] for row in outcomes),
            "changed": rematched,
            "lines_by_outcome": bars([(row[0], row[1]) for row in outcomes]),
            "newest_invoice": preview(
                ledger.engine,
                "select coalesce(resource_name, description) as pays_for, coalesce(resource_kind, kind) as kind,"
                " coalesce(resource_state, '') as state, count(*) as lines, sum(amount_usd) as usd, min(match_status) as status,"
                " coalesce(min(match_method), '') as method from arcadia.matched_cost_lines"
                " where period = (select max(period) from arcadia.matched_cost_lines)"
                " group by 1, 2, 3 order by 5 desc, 1 limit 20",
            ),
        }
    )


@dg.asset(
    group_name="costs",
    description="The costs as one HTML page with pictures, `reports/cost-report.html` under `ARCADIA_HOME`: where the money went, what"
    " changed and why, what can be switched off. The same as `arcadia report`.",
    deps=[matched_cost_lines, invoice_preview, balance_snapshots],
    kinds={"html"},
    owners=["team:finance"],
)
def cost_report(ledger: Ledger) -> dg.MaterializeResult[None]:
    """Write the report of all accounts; its pictures are shown with the materialisation."""
    from arcadia_dagster.report import charts, figures, page

    path = settings.home() / "reports" / "cost-report.html"
    with ledger.engine.connect() as conn:
        found = figures.read(conn)
    try:
        page.write(path, found)
    except OSError as problem:
        raise dg.Failure(f"the report cannot be written to {path}: {problem.strerror or problem}", allow_retries=False) from None
    metadata: dict[str, Any] = {"path": dg.MetadataValue.path(path)}
    if found.newest is not None:
        metadata |= {
            "month": f"{found.newest:%Y-%m}",
            "amount_usd": float(found.newest_usd),  # for Dagster's plot; the page has the exact amount
            "cost_by_kind": _picture(charts.by_month(found.by_kind, charts.ALONE), "USD by month and kind"),
            "cost_by_project": _picture(charts.by_month(found.by_project, charts.ALONE), "USD by month and project"),
            "match_rate": _picture(charts.rates(found.rates, charts.ALONE), "Share that is matched, by month"),
        }
        if found.changes is not None and found.changes.by_class:
            metadata["changes"] = _picture(charts.changes(found.changes, charts.ALONE), "USD more or less than the month before, by cause")
    return dg.MaterializeResult(metadata=metadata)


def _picture(svg: str, words: str) -> dg.MarkdownMetadataValue:
    return dg.MetadataValue.md(f"![{words}](data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()})")
