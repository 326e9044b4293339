"""Checks on what was billed: that invoices add up, agree with their documents, and that none is left behind."""

import dagster as dg
from sqlalchemy import text

from arcadia_dagster.defs.resources import Ledger
from arcadia_dagster.defs.tables import preview


@dg.asset_check(
    asset="cost_lines", description="The lines of every invoice add up to the invoice, to the cent, and its two documents agree."
)
def invoices_add_up(ledger: Ledger) -> dg.AssetCheckResult:
    """Fails where money is left over; a difference between the documents alone is named in the metadata."""
    query = """
        select to_char(period, 'YYYY-MM') as period, invoice_uuid, amount, line_total, residual, discrepancy
          from arcadia.cloud_invoices where status = 'ingested' and (residual <> 0 or discrepancy is not null)"""
    with ledger.engine.connect() as conn:
        row = conn.execute(
            text(
                "select count(*) filter (where residual <> 0) as off, count(*) filter (where discrepancy is not null) as disagree,"
                " coalesce(sum(abs(residual)), 0) as money from arcadia.cloud_invoices where status = 'ingested'"
            )
        ).one()
    return dg.AssetCheckResult(
        passed=row.off == 0,
        metadata={
            "invoices_with_residual": row.off,
            "residual_usd": str(row.money),
            "invoices_whose_documents_disagree": row.disagree,
            "which": preview(ledger.engine, query + " order by abs(residual) desc nulls last, period desc limit 20"),
        },
    )


@dg.asset_check(
    asset="invoices", description="Every known invoice is ingested: retries end, and what is then quiet is not the same as done."
)
def invoices_are_ingested(ledger: Ledger) -> dg.AssetCheckResult:
    """Fails for failed invoices; pending ones are in the metadata, as they are ingested within a minute or two."""
    query = """
        select to_char(period, 'YYYY-MM') as period, invoice_uuid, amount, status, tried_at, error
          from arcadia.cloud_invoices where status <> 'ingested'"""
    with ledger.engine.connect() as conn:
        row = conn.execute(
            text(
                "select count(*) filter (where status = 'failed') as failed, count(*) filter (where status = 'pending') as pending"
                " from arcadia.cloud_invoices"
            )
        ).one()
    return dg.AssetCheckResult(
        passed=row.failed == 0,
        metadata={
            "failed": row.failed,
            "pending": row.pending,
            "which": preview(ledger.engine, query + " order by status, period desc limit 20"),
        },
    )
