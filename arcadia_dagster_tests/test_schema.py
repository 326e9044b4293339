import threading

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import create_engine, event, inspect, text
from sqlalchemy.engine import make_url

from arcadia_dagster.ledger import access, schema
from arcadia_dagster.ledger.schema import DatabaseDown, SchemaError, connect, migrate
from arcadia_dagster.ledger.tables import metadata

HOW_TO_MEND = (
    "tables.py and the migrations differ. Write a migration: python -m arcadia_dagster.ledger.schema 'what changes'"
    " (or, while no release has gone out, delete versions/0001_first.py and do the same with 'first')"
)

# Alembic compares neither check constraints nor what indexes say beyond their columns.
CATALOG = """
    select 'column', attrelid::regclass::text, attname, concat_ws(' ', format_type(atttypid, atttypmod), attnotnull, attidentity,
           pg_get_expr(adbin, adrelid), col_description(attrelid, attnum))
      from pg_attribute left join pg_attrdef on adrelid = attrelid and adnum = attnum join pg_class on pg_class.oid = attrelid
     where relnamespace = 'arcadia'::regnamespace and relkind = 'r' and attnum > 0 and not attisdropped
    union all select 'constraint', conrelid::regclass::text, conname, pg_get_constraintdef(oid)
      from pg_constraint where connamespace = 'arcadia'::regnamespace and contype <> 'n'
    union all select 'domain', typname, '', concat_ws(' ', format_type(typbasetype, typtypmod), typnotnull, typdefault)
      from pg_type where typnamespace = 'arcadia'::regnamespace and typtype = 'd'
    union all select 'index', tablename, indexname, indexdef from pg_indexes where schemaname = 'arcadia'
    union all select 'table', relname, '', coalesce(obj_description(oid), '')
      from pg_class where relnamespace = 'arcadia'::regnamespace and relkind = 'r'
"""


def catalog(engine):
    with engine.connect() as connection:
        return {tuple(row) for row in connection.execute(text(CATALOG)) if "alembic_version" not in row[1]}


def execute(engine, *statements):
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))


def scalar(engine, query):
    with engine.connect() as connection:
        return connection.scalar(text(query))


@pytest.fixture
def empty(empty_database_url):
    engine = create_engine(empty_database_url)
    yield engine
    engine.dispose()


def test_the_migrations_make_what_tables_py_says(engine, empty):
    execute(empty, "create schema arcadia")
    metadata.create_all(empty)
    assert catalog(engine) == catalog(empty), HOW_TO_MEND


def test_alembic_sees_no_difference_either(engine):
    def ours(name, kind, _parents):
        return name == "arcadia" if kind == "schema" else name != "alembic_version"

    options = {"include_schemas": True, "include_name": ours, "compare_server_default": True, "compare_type": True}
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={**options, "version_table_schema": "arcadia"})
        assert compare_metadata(context, metadata) == [], HOW_TO_MEND


def test_every_contract_name_can_be_selected_from(engine):
    names = set(inspect(engine).get_table_names("arcadia")) | set(inspect(engine).get_view_names("arcadia"))
    contract = "accounts sync_runs projects resources resource_events balance_snapshots invoices cost_lines"
    assert {f"cloud_{name}" for name in contract.split()} | {"matched_cost_lines"} <= names


def test_a_current_schema_costs_two_queries_and_waits_for_nobody(engine):
    statements = []
    event.listen(engine, "before_cursor_execute", lambda *args: statements.append(args[2]))
    with engine.connect() as other:
        other.execute(text("select pg_advisory_xact_lock(:lock)"), {"lock": access.LOCK})
        migrate(engine)
    assert len([statement for statement in statements if "advisory" not in statement]) == 2


def test_processes_that_start_together_make_one_schema(empty_database_url):
    url = make_url(empty_database_url)
    outcomes = []

    def start():
        try:
            connect(url).dispose()
            outcomes.append("made")
        except SchemaError as problem:
            outcomes.append(str(problem))

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes == ["made"] * 4
    engine = connect(url)
    assert scalar(engine, "select count(*) from arcadia.alembic_version") == 1
    assert scalar(engine, "select count(*) from arcadia.schema_views") == 1
    engine.dispose()


def test_times_are_utc_and_sessions_are_named(engine):
    assert scalar(engine, "show timezone") == "UTC"
    assert scalar(engine, "show application_name") == "arcadia"


def test_what_the_address_says_goes_first(database_url):
    engine = connect(make_url(database_url).update_query_dict({"application_name": "mine"}))
    assert scalar(engine, "show application_name") == "mine"
    engine.dispose()


def test_a_ledger_of_a_newer_release_is_refused_and_left_alone(engine):
    execute(engine, "update arcadia.alembic_version set version_num = '9999'", "update arcadia.schema_views set digest = 'theirs'")
    with pytest.raises(SchemaError, match=r"the ledger at .*/arcadia_test_\w+ was made by a newer arcadia-dagster \(revision 9999\)"):
        migrate(engine)
    assert scalar(engine, "select digest from arcadia.schema_views") == "theirs"
    assert scalar(engine, "select version_num from arcadia.alembic_version") == "9999"


def test_changed_views_are_made_again_and_their_readers_keep_them(engine):
    role = f"reader_{make_url(str(engine.url)).database[-12:]}"
    execute(
        engine,
        f'create role "{role}"',
        f'grant select on arcadia.matched_cost_lines to "{role}" with grant option',
        "grant select on arcadia.cloud_projects to public",
        "update arcadia.schema_views set digest = 'older'",
        "comment on view arcadia.cloud_resources is 'older'",
    )
    try:
        migrate(engine)
        assert scalar(engine, "select obj_description('arcadia.cloud_resources'::regclass)") != "older"
        assert scalar(engine, f"select has_table_privilege('{role}', 'arcadia.matched_cost_lines', 'select with grant option')")
        assert not scalar(engine, f"select has_table_privilege('{role}', 'arcadia.matched_cost_lines', 'update')")
        assert scalar(engine, f"select has_table_privilege('{role}', 'arcadia.cloud_projects', 'select')")
        assert scalar(engine, "select digest from arcadia.schema_views") != "older"
    finally:
        execute(engine, f'drop owned by "{role}"', f'drop role "{role}"')


def test_a_view_that_others_built_on_is_named_and_nothing_is_lost(engine):
    execute(
        engine,
        "create view public.bi as select amount_usd from arcadia.matched_cost_lines",
        "update arcadia.schema_views set digest = 'older'",
    )
    with pytest.raises(SchemaError, match=r"view bi depends on view arcadia\.matched_cost_lines"):
        migrate(engine)
    assert scalar(engine, "select count(*) from public.bi") == 0


def test_a_failure_half_way_leaves_nothing(empty, tmp_path, monkeypatch):
    (tmp_path / "99_broken.sql").write_text("create view arcadia.broken as select nonsense from arcadia.resources")
    monkeypatch.setattr(schema, "_VIEWS", tmp_path)
    with pytest.raises(SchemaError, match=r'cannot be brought to this release.s schema: column "nonsense" does not exist'):
        migrate(empty)
    assert scalar(empty, "select to_regnamespace('arcadia')") is None


def test_tables_of_somebody_else_are_not_overwritten(empty):
    execute(empty, "create schema arcadia", "create table arcadia.resources (mine int)", "insert into arcadia.resources values (1)")
    with pytest.raises(SchemaError, match='"resources" already exists'):
        migrate(empty)
    assert scalar(empty, "select mine from arcadia.resources") == 1


def test_a_reader_without_rights_can_use_a_current_schema(engine, database_url):
    role = f"reader_{make_url(database_url).database[-12:]}"
    rights = (f"grant usage on schema arcadia to {role}", f"grant select on all tables in schema arcadia to {role}")
    execute(engine, f"create role {role}", *rights)
    reader = create_engine(make_url(database_url), connect_args={"options": f"-crole={role}"})
    try:
        migrate(reader)
        execute(engine, "update arcadia.schema_views set digest = 'older'")
        with pytest.raises(SchemaError, match="must be owner of"):
            migrate(reader)
    finally:
        reader.dispose()
        execute(engine, f"drop owned by {role}", f"drop role {role}")


@pytest.mark.parametrize(
    ("address", "place"),
    [
        ("127.0.0.1:1/ledger", "127.0.0.1:1/ledger"),
        ("/ledger?host=/nowhere", "/nowhere/ledger"),
        ("no-such-host.invalid/l", "no-such-host.invalid/l"),
    ],
)
def test_a_database_that_is_down_is_one_clear_sentence(address, place):
    with pytest.raises(DatabaseDown) as raised:
        connect(make_url(f"postgresql+psycopg://me:hunter2@{address}"))
    assert str(raised.value).startswith(f"cannot connect to the ledger's database at {place}: ")
    assert "hunter2" not in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_database_that_is_not_there(empty_database_url):
    with pytest.raises(DatabaseDown, match='database "no_such_ledger" does not exist'):
        connect(make_url(empty_database_url).set(database="no_such_ledger"))


def test_a_server_that_is_too_old(engine, monkeypatch):
    monkeypatch.setattr(schema, "_OLDEST_SERVER", (99,))
    with pytest.raises(SchemaError, match=r"needs PostgreSQL 99 or newer, and .* is 1\d"):
        migrate(engine)
