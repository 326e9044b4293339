"""What is made of billed lines: the analysts' table, for which open lines are tried again, a FOCUS file for each month, and the report.

How lines are matched and files written is the ledger's; what the report says and how it looks is decided in `report/`.
"""

import base64
import hashlib
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import dagster as dg
from sqlalchemy import text

from arcadia_dagster import settings
from arcadia_dagster.defs.billing.assets import balance_snapshots, cost_lines, invoice_preview
from arcadia_dagster.defs.inventory.assets import RETRIES, inventory_assets
from arcadia_dagster.defs.resources import Ledger
from arcadia_dagster.defs.scheduling import FRESH_MONTHLY, fresh
from arcadia_dagster.defs.tables import bars, preview, table_metadata
from arcadia_dagster.ledger.export import ExportError, export, whole_file
from arcadia_dagster.ledger.matching import rematch
from arcadia_dagster.ledger.tables import cloud_cost_lines
from arcadia_dagster.ledger.tenants import assign

# Months that are over, in UTC. The provider opened in 2012: no invoice is older.
months = dg.MonthlyPartitionsDefinition(start_date="2012-01", fmt="%Y-%m")


@dg.asset(
    group_name="billing",
    description="`arcadia.matched_cost_lines`: every billed line with the resource it pays for, or the reason why there is none.",
    deps=[cost_lines, "project_resources", *inventory_assets],
    kinds={"postgres"},
    owners=["team:finance"],
    metadata=table_metadata(cloud_cost_lines, "matched_cost_lines"),
    freshness_policy=FRESH_MONTHLY,
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


@dg.asset(
    group_name="costs",
    description="A Parquet file of `arcadia.focus_1_2` for each month, all accounts together, in the folder ARCADIA_EXPORT_DIR. It is"
    " replaced as a whole; of a month that no closed invoice bills there is none.",
    deps=[matched_cost_lines],
    partitions_def=months,
    backfill_policy=dg.BackfillPolicy.single_run(),
    output_required=False,  # a month without a file is not materialised
    kinds={"parquet"},
    owners=["team:finance"],
    retry_policy=RETRIES,
    freshness_policy=FRESH_MONTHLY,
)
def focus_export(context: dg.AssetExecutionContext, ledger: Ledger) -> Iterator[dg.MaterializeResult[None]]:
    """Write the files of this run's partitions, oldest month first."""
    written = 0
    for key in context.partition_keys:
        try:
            metadata = _write_focus(ledger, key)
        except ExportError as problem:
            raise dg.Failure(str(problem), allow_retries=False) from None
        if metadata is None:
            context.log.info(f"No closed invoice bills {key}: no file is written.")
        else:
            written += 1
            context.log_event(dg.AssetMaterialization(asset_key=context.asset_key, partition=key, metadata=metadata))
    if not written:
        raise dg.Failure("No closed invoice bills what was asked for, so that no file is written.", allow_retries=False)
    yield from ()


def _write_focus(ledger: Ledger, key: str) -> dict[str, Any] | None:
    """Write the file of a month and tell about it; None, and no file, where there are no lines."""
    path = settings.export_dir() / f"focus_1_2_{key}.parquet"
    # What is told is what is in the file: all of one snapshot.
    options = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
    with ledger.engine.connect().execution_options(**options) as conn:
        told = conn.execute(
            text(
                'select sum("BilledCost") as usd, max("BillingPeriodStatus") as status from arcadia.focus_1_2'
                ' left join arcadia.focus_billing_period using ("BillingPeriodStart")'
                " where \"BillingPeriodStart\" = cast(:key || '-01' as timestamp) at time zone 'UTC'"
            ),
            {"key": key},
        ).one()
        if told.usd is None:
            return None
        _make_folder(path.parent)
        with whole_file(path) as file:
            rows = export(conn, "focus_1_2", file, format="parquet", period=datetime.strptime(key, "%Y-%m").date())  # noqa: DTZ007
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {
        "path": dg.MetadataValue.path(str(path)),
        "dagster/row_count": rows,
        "billed_usd": str(told.usd),
        "billing_period": told.status,
        "sha256": digest,
    }


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise ExportError(f"ARCADIA_EXPORT_DIR names {folder}, which cannot be made: {problem.strerror}") from None


@dg.asset(
    group_name="costs",
    description="The costs as one HTML page with pictures, `reports/cost-report.html` under `ARCADIA_HOME`: where the money went, what"
    " changed and why, what can be switched off. The same as `arcadia report`.",
    deps=[matched_cost_lines, invoice_preview, balance_snapshots],
    freshness_policy=fresh("write_report"),
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
    except (OSError, ExportError) as problem:
        raise dg.Failure(f"the report cannot be written: {problem}", allow_retries=False) from None
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
