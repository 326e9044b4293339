"""Checks on matching: that every line is explained, and that no line was matched by guessing."""

import dagster as dg
from sqlalchemy import text

from arcadia_dagster.defs.resources import Ledger
from arcadia_dagster.defs.tables import preview


@dg.asset_check(
    asset="matched_cost_lines",
    description="Every line is matched to a resource, or pays for the account, a tax or a credit. What is unmatched or ambiguous has a"
    " reason and is listed here with its money.",
)
def every_line_is_explained(ledger: Ledger) -> dg.AssetCheckResult:
    """Warns of unmatched and ambiguous lines."""
    query = """
        select to_char(period, 'YYYY-MM') as period, product, description, amount_usd, match_status, reason
          from arcadia.matched_cost_lines where match_status in ('unmatched', 'ambiguous')"""
    with ledger.engine.connect() as conn:
        row = conn.execute(text(f"select count(*) as lines, coalesce(sum(abs(amount_usd)), 0) as money from ({query}) q")).one()  # noqa: S608
    return dg.AssetCheckResult(
        passed=row.lines == 0,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={
            "unexplained_lines": row.lines,
            "unexplained_usd": str(row.money),
            "which": preview(ledger.engine, query + " order by abs(amount_usd) desc limit 20"),
        },
    )


@dg.asset_check(
    asset="matched_cost_lines",
    description="No match contradicts its line: the kind is the line's, the account is the line's, and an id on the line is the"
    " resource's own.",
)
def no_match_contradicts_its_line(ledger: Ledger) -> dg.AssetCheckResult:
    """Fails for matched lines whose resource is of another account or kind, or has another id than the line names."""
    query = """
        select l.line_id, l.product, l.description, l.provider_resource_id, l.provider_resource_uuid, r.kind, r.provider_id
          from arcadia.cloud_cost_lines l join arcadia.resources r using (resource_id)
         where r.account_id <> l.account_id or r.kind <> l.kind
            or (coalesce(l.provider_resource_id, l.provider_resource_uuid) is not null
                and r.provider_id is distinct from l.provider_resource_id
                and r.provider_id is distinct from l.provider_resource_uuid)"""
    with ledger.engine.connect() as conn:
        wrong = conn.execute(text(f"select count(*) from ({query}) q")).scalar_one()  # noqa: S608
    return dg.AssetCheckResult(passed=wrong == 0, metadata={"contradictions": wrong, "which": preview(ledger.engine, query + " limit 20")})
