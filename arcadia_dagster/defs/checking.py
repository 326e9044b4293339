"""Asset checks as data: a query for rows that ought not to be there. What such rows mean is said where each check is defined."""

import dagster as dg
from sqlalchemy import text

from arcadia_dagster.defs.resources import Ledger
from arcadia_dagster.defs.tables import as_markdown, preview


def no_rows(
    name: str,
    query: str,
    *,
    asset: str,
    description: str,
    worst: str,
    severity: dg.AssetCheckSeverity = dg.AssetCheckSeverity.ERROR,
    after_the_rest: bool = False,
) -> dg.AssetChecksDefinition:
    """A check that passes while `query` finds no row; its metadata counts the rows and shows twenty, by the ORDER BY terms `worst`.

    `after_the_rest`: in a job that does not materialise `asset`, it waits for the job's assets all the same.
    """

    @dg.asset_check(name=name, asset=asset, description=description, op_tags={"dagster/priority": "-1"} if after_the_rest else None)
    def check(ledger: Ledger) -> dg.AssetCheckResult:
        with ledger.engine.connect() as conn:
            found = conn.execute(text(f"select count(*) from ({query}) q")).scalar_one()  # noqa: S608  # the queries are our own
        return dg.AssetCheckResult(
            passed=found == 0,
            severity=severity,
            # Of nothing, nothing is looked for: some queries read all that the ledger ever held.
            metadata={"found": found, "which": preview(ledger.engine, f"{query} order by {worst} limit 20") if found else as_markdown([])},
        )

    return check
