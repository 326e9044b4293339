"""Checks on what was billed: that invoices add up, agree with their documents, and that none is left behind or stands in twice."""

import dagster as dg

from arcadia_dagster.defs.checking import no_rows
from arcadia_dagster.ledger.billing import SUPERSEDED

invoices_add_up = no_rows(
    "invoices_add_up",
    "select to_char(period, 'YYYY-MM') as period, invoice_uuid, amount, line_total, residual from arcadia.cloud_invoices"
    " where status = 'ingested' and residual <> 0",
    asset="cost_lines",
    description="The lines of every invoice add up to the invoice, to the cent.",
    worst="abs(residual) desc",
)

documents_agree = no_rows(
    "documents_agree",
    "select to_char(period, 'YYYY-MM') as period, invoice_uuid, discrepancy from arcadia.cloud_invoices"
    " where status = 'ingested' and discrepancy is not null",
    asset="cost_lines",
    description="The JSON items and the CSV of every invoice say the same, in a format that is known.",
    worst="period desc",
    severity=dg.AssetCheckSeverity.WARN,
)

invoices_are_ingested = no_rows(
    "invoices_are_ingested",
    "select to_char(period, 'YYYY-MM') as period, invoice_uuid, amount, tried_at, error from arcadia.cloud_invoices"
    " where status = 'failed'",
    asset="invoices",
    description="No invoice has failed: retries end, and what is then quiet is not the same as done.",
    worst="period desc",
)

previews_give_way = no_rows(
    "previews_give_way",
    f"select account_id, to_char(period, 'YYYY-MM') as period, amount, covers_until from arcadia.cloud_invoices p"  # noqa: S608
    f" where status = 'preview' and {SUPERSEDED}",
    asset="invoice_preview",
    description="No preview stands beside its real invoice: what is billed is not in the ledger twice.",
    worst="period desc",
)

previews_add_up = no_rows(
    "previews_add_up",
    "select account_id, to_char(period, 'YYYY-MM') as period, covers_until, amount, line_total, residual from arcadia.cloud_invoices"
    " where status = 'preview' and residual <> 0",
    asset="invoice_preview",
    description="The lines of the month to date add up to its amount. The provider makes the two apart, so they may differ for a day.",
    worst="abs(residual) desc",
    severity=dg.AssetCheckSeverity.WARN,
)
