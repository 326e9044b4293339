"""The benchmark of ten years writes what listings would have written."""

from datetime import UTC, datetime

from sqlalchemy import text
from sqlalchemy.engine import make_url

from arcadia_dagster.ledger.accounts import account_of_team
from arcadia_dagster.ledger.attribution import attribute
from arcadia_dagster.ledger.reconcile import begin, reconcile
from arcadia_dagster.ledger.schema import connect
from benchmarks.busy_account import BusyAccount

OF_A_RESOURCE = "(select kind || ' ' || provider_id from arcadia.resources k where k.resource_id = {})"
LEFT = {
    "resources": f"""
        select kind, provider_id, name, region, status, tags, attrs, monthly_price, own_project_id, parent_kind, parent_provider_id,
               {OF_A_RESOURCE.format("r.cloud_project_id")} as project, tenant_id, attribution_source, provider_created_at, first_seen_at,
               last_seen_at, stale_strike_count, last_struck_at, deleted_at, billing_only, fingerprint from arcadia.resources r""",
    "names": f"""
        select {OF_A_RESOURCE.format("n.resource_id")} as of, name_key, name, seen_from, seen_until from arcadia.resources_by_name n""",
    "events": f"""
        select {OF_A_RESOURCE.format("e.resource_id")} as of, event, changes, occurred_at, s.kind, s.started_at
          from arcadia.cloud_resource_events e left join arcadia.cloud_sync_runs s using (sync_run_id)""",
    "runs": """
        select kind, started_at, complete, seen, discovered, updated, restored, struck, deleted, requests, error
          from arcadia.cloud_sync_runs where kind in (select kind from arcadia.resources)""",
    "listings": "select kind, started_at from arcadia.listings where kind in (select kind from arcadia.resources)",
}


def left(engine):
    with engine.connect() as conn:
        return {name: sorted(map(repr, conn.execute(text(query)).all())) for name, query in LEFT.items()}


def test_years_loaded_by_sql_are_what_listings_leave(engine, empty_database_url):
    days, ticks = 20, 4
    listed = connect(make_url(empty_database_url))
    with engine.connect() as conn:
        account = BusyAccount(
            conn, account_of_team(engine, team_uuid="t", name="t"), slots=20, days=days, ticks=ticks, end=datetime(2026, 3, 1, tzinfo=UTC)
        )
        account.load()
        account_id = account_of_team(listed, team_uuid="t", name="t")
        for tick in range(days * ticks):
            for kind in account.listed_at(tick):
                run = begin(listed, account_id=account_id, kind=kind, started_at=account.at(tick))
                reconcile(listed, run, account.listing(kind, tick), requests=1)
            attribute(listed, account_id, internal_project=None)
    loaded, reconciled = left(engine), left(listed)
    listed.dispose()
    for table, rows in reconciled.items():
        assert loaded[table] == rows, table
    assert {row.split("'")[3] for row in loaded["events"]} == {"discovered", "updated", "tagged", "drift_detected", "deleted"}
