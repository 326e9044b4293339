"""The analysts' table as an asset: lines that had no match are tried again, and the state of matching is reported."""

import dagster as dg
from sqlalchemy import text

from arcadia_dagster.defs.billing.assets import cost_lines
from arcadia_dagster.defs.inventory.assets import inventory_assets
from arcadia_dagster.defs.resources import Ledger
from arcadia_dagster.defs.tables import bars, preview, table_metadata
from arcadia_dagster.ledger.matching import rematch
from arcadia_dagster.ledger.tables import cloud_cost_lines
from arcadia_dagster.ledger.tenants import assign


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
    for account_id in accounts:
        with ledger.engine.begin() as conn:
            assign(conn, account_id)  # what invoices alone tell of
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
