"""A ledger of every revision that was ever released is brought up to this one with everything in it.

`schema.py` and the migrations do it. What a schema must look like afterwards is in test_schema.py.
"""

import pytest
from alembic import command
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url

from arcadia_dagster.ledger import schema
from arcadia_dagster.ledger.attribution import attribute
from arcadia_dagster.ledger.matching import rematch
from arcadia_dagster.ledger.schema import alembic_config, connect
from arcadia_dagster.ledger.tables import metadata
from arcadia_dagster_tests.books import Books, droplet, item

REVISIONS = schema._revisions()
OF_OLD_KEYS = ("cloud_accounts", "resources")  # what tables of older releases have foreign keys to, and those of today have not
NOW_A_VIEW = {"resource_names": "resources_by_name"}  # tables that other tables have the content of
IDENTITIES = "select table_name, column_name from information_schema.columns where table_schema = 'arcadia' and is_identity = 'YES'"


def fill(engine):
    """Something in every table that has been there from the start: a rename, a tombstone, strikes, ids, names, an unknown product."""
    books = Books(engine)
    books.inventory("project", droplet("p1", "work"))
    books.gone("droplet", droplet(7, "gone"))
    books.inventory("droplet", droplet(1, "before", own_project_id="p1"), droplet(2, "twin"), droplet(3, "twin"))
    books.inventory("droplet", droplet(1, "after", own_project_id="p1"), droplet(2, "twin"))
    books.invoice(
        item("before (s-1vcpu-1gb)"), item("twin (s-1vcpu-1gb)"), item("lost (s-1vcpu-1gb)", rid="99"), item("Q-1", product="Quantum"),
        item("gone (s-1vcpu-1gb)", start="2026-04-01", end="2026-04-03"),
    )  # fmt: skip
    attribute(engine, books.id, internal_project=None)
    rematch(engine, books.id)
    with engine.begin() as conn:
        for statement in (
            "insert into arcadia.cloud_balance_snapshots (account_id, account_balance, taken_at) values (:a, 12.34, now())",
            "insert into arcadia.project_memberships values (:a, 'droplet', '1', 'p1')",
        ):
            conn.execute(text(statement), {"a": books.id})
    return books


def columns(conn):
    """Table -> its columns, as they are in this database."""
    query = """
        select c.relname, array_agg(a.attname::text order by a.attnum) as names
          from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
         where c.relnamespace = 'arcadia'::regnamespace and c.relkind in ('r', 'v') group by 1"""
    return {row.relname: row.names for row in conn.execute(text(query))}


def rows(conn, table, names):
    listed = ", ".join(names)
    return conn.execute(
        text(f"select coalesce(jsonb_agg(to_jsonb(t) order by t), '[]')::text from (select {listed} from arcadia.{table}) t")
    )


@pytest.mark.parametrize("revision", REVISIONS)
def test_a_ledger_of_every_release_is_brought_up_with_all_that_is_in_it(engine, empty_database_url, revision):
    books = fill(engine)
    old = create_engine(make_url(empty_database_url))
    with old.begin() as conn, engine.connect() as filled:
        conn.execute(text("create schema arcadia"))
        command.upgrade(alembic_config(conn), revision)
        there, here = columns(conn), columns(filled)
        tables = dict.fromkeys([*OF_OLD_KEYS, *(table.name for table in metadata.sorted_tables), *NOW_A_VIEW])
        for table in (table for table in tables if table in there):
            source = NOW_A_VIEW.get(table, table)
            common = [name for name in there[table] if name in here.get(source, [])]
            if common and table != "schema_views":
                conn.execute(
                    text(
                        f"insert into arcadia.{table} ({', '.join(common)}) overriding system value select {', '.join(common)}"
                        f" from jsonb_populate_recordset(null::arcadia.{table}, cast(:rows as jsonb))"
                        " on conflict do nothing"  # what a trigger has put there already
                    ),
                    {"rows": rows(filled, source, common).scalar()},
                )
        for table, name in conn.execute(text(IDENTITIES)).all():
            conn.execute(text(f"select setval(pg_get_serial_sequence('arcadia.{table}', '{name}'), 1000)"))
        before = {NOW_A_VIEW.get(table, table): rows(conn, table, names).scalar() for table, names in there.items()}
        lines = filled.execute(
            text("select count(*), count(*) filter (where match_status = 'matched') from arcadia.cloud_cost_lines")
        ).one()
        assert min(lines) > 0
    old.dispose()

    upgraded = connect(make_url(empty_database_url))
    with upgraded.connect() as conn, engine.connect() as filled:
        now = columns(conn)
        for table, names in there.items():
            source = NOW_A_VIEW.get(table, table)
            if source in now and table not in ("alembic_version", "schema_views"):
                assert set(names) <= set(now[source])
                assert rows(conn, source, names).scalar() == before[source], table
        query = "select match_status, resource_name, amount_usd, reason from arcadia.matched_cost_lines order by ordinal"
        assert conn.execute(text(query)).all() == filled.execute(text(query)).all()
    # And it goes on: the first thing after the upgrade is a listing.
    again = Books(upgraded)
    assert again.id == books.id
    assert again.inventory("droplet", droplet(1, "after", own_project_id="p1"), droplet(2, "twin")).updated == 0
    rematch(upgraded, again.id)
    assert [line.match_status for line in again.lines()] == [line.match_status for line in books.lines()]
    upgraded.dispose()


def test_a_name_that_was_kept_in_another_spelling_is_found_all_the_same(empty_database_url):
    old = create_engine(make_url(empty_database_url))
    with old.begin() as conn:
        conn.execute(text("create schema arcadia"))
        command.upgrade(alembic_config(conn), "0014")
        for statement in (
            "insert into arcadia.cloud_accounts (team_uuid, name) values ('t', 't')",
            "insert into arcadia.resources (account_id, kind, provider_id, name, first_seen_at, last_seen_at)"
            " select account_id, 'droplet', '1', 'Große  Straße', now(), now() from arcadia.cloud_accounts",
            "insert into arcadia.resource_names (resource_id, name_key, name, seen_from)"
            " select resource_id, 'grosse strasse', 'GROSSE STRASSE', timestamptz '2026-01-01Z' from arcadia.resources",
            "insert into arcadia.resource_names (resource_id, name_key, name, seen_until)"
            " select resource_id, 'before', 'before', timestamptz '2026-01-02Z' from arcadia.resources",
        ):
            conn.execute(text(statement))
    old.dispose()
    upgraded = connect(make_url(empty_database_url))
    with upgraded.connect() as conn:
        found = conn.execute(
            text("select name, name_key, seen_from::date::text, seen_until::date::text from arcadia.resources_by_name")
        ).all()
    upgraded.dispose()
    assert {tuple(row) for row in found} == {
        ("Große  Straße", "grosse strasse", "2026-01-01", None),
        ("before", "before", None, "2026-01-02"),
    }
