"""The tenants' file as an asset: applied before what is listed is attributed, so that an edit takes effect by itself."""

import dagster as dg

from arcadia_dagster import settings
from arcadia_dagster.defs.resources import Ledger
from arcadia_dagster.defs.tables import preview, table_metadata
from arcadia_dagster.ledger.access import AccessError
from arcadia_dagster.ledger.tables import cloud_tenants
from arcadia_dagster.ledger.tenants import SUMMARY, apply
from arcadia_dagster.ledger.tenants_file import TenantsFileError, read_tenants


@dg.asset(
    group_name="inventory",
    description="The tenants that `ARCADIA_TENANTS_FILE` declares, what belongs to each, and their roles in the database. Nothing is"
    " applied unless the whole file is right. Asks nothing of the provider.",
    kinds={"postgres"},
    owners=["team:infrastructure"],
    metadata=table_metadata(cloud_tenants),
    op_tags={"dagster/priority": "2"},  # before all that is listed; yet a file that is wrong must not stop it
)
def tenants(ledger: Ledger) -> dg.MaterializeResult[None]:
    """Apply the file where one is named; report each tenant with what it has."""
    file = settings.tenants_file()
    if file is None:
        return dg.MaterializeResult(metadata={"note": "ARCADIA_TENANTS_FILE names no file: tenants stay as they are."})
    try:
        applied = apply(ledger.engine, read_tenants(file))
    except (TenantsFileError, AccessError) as problem:
        raise dg.Failure(str(problem), allow_retries=False) from None
    except OSError as problem:
        raise dg.Failure(f"ARCADIA_TENANTS_FILE names {file}, which cannot be read: {problem.strerror}", allow_retries=False) from None
    with ledger.engine.connect() as conn:
        count = conn.exec_driver_sql("select count(*) from arcadia.cloud_tenants").scalar_one()
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": count,
            "declared": len(applied.declared),
            "changed": len(applied.changed),
            "withdrawn": len(applied.withdrawn),
            "moved": applied.moved,
            "roles_made": len(applied.roles),
            "tenants": preview(ledger.engine, SUMMARY),
        }
    )
