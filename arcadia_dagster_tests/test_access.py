"""Row-level security: what each role of the database sees, tried on every relation and function of the schema, from real log-ins."""

import threading
import uuid
from contextlib import contextmanager
from decimal import Decimal

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ProgrammingError

from arcadia_dagster.digitalocean.kinds import Resource
from arcadia_dagster.ledger import access, billing
from arcadia_dagster.ledger.access import AccessError, ensure_roles, protect, tenant_role
from arcadia_dagster.ledger.attribution import attribute
from arcadia_dagster.ledger.schema import connect, migrate
from arcadia_dagster.ledger.tenants import apply
from arcadia_dagster.ledger.tenants_file import Declaration, Rule, Tenant
from arcadia_dagster_tests import conftest
from arcadia_dagster_tests.books import MAY, Books, as_json, droplet, item, listed
from arcadia_dagster_tests.commands import wait_for

# What a tenant reads in part; everything else is refused.
OWN_ROWS = {"cloud_accounts", "cloud_tenants", "listings", "other_names", "resources", "cloud_resource_events"}
OWN_COLUMNS = {"cloud_cost_lines": "line_id, description, amount_usd", "cloud_invoices": "invoice_uuid, period, issued_at, status"}
NO_ROWS = {"cloud_match_events"}
OWN_VIEWS = {
    "all_cost_lines", "cloud_projects", "cloud_resources", "cost_by_kind", "cost_by_project", "cost_by_resource", "cost_by_tag",
    "cost_by_tenant", "cost_changes", "matched_cost_lines", "month_to_date_lines", "resource_timeline", "running_cost", "unexplained_lines",
    "unknown_products", "waste", "cost_forecast", "project_cost_trend", "resources_by_name",
}  # fmt: skip
NOBODYS = {"focus_services"}  # words of FOCUS, the same for all
REFUSED = {
    "alembic_version", "schema_views", "tenant_rules", "cloud_tenant_events", "cloud_sync_runs", "cloud_balance_snapshots", "rematch_queue",
    "project_memberships", "match_rate", "focus_1_2", "focus_1_4", "focus_billing_period", "focus_cost_and_usage", "focus_invoice_detail",
    "configured_accounts", *access.OWNER_ONLY,
}  # fmt: skip


class World:
    """A ledger with tenants a and b in one account, where all that is b's says so, a fallback, and log-ins for each."""

    def __init__(self, engine):
        self.engine = engine
        tail = uuid.uuid4().hex[:8]
        self.ids = {name: f"{name}_{tail}" for name in ("a", "b", "shared", "idle")}
        self.logins = []
        self.books = books = Books(engine)
        secret = {"volume_ids": ["canary-volume"], "size_slug": "canary-size", "image": "canary-image"}
        project_of_b = Resource(provider_id="canary-project-id", name="canary-project", attrs='{"description":"canary-description"}')
        books.inventory("project", Resource(provider_id="p-a", name="web"), project_of_b, Resource(provider_id="p-s", name="platform"))
        mine = droplet(1, "a-web", own_project_id="p-a", tags=("a-tag",))
        others = droplet(7770777001, "canary-web", own_project_id="canary-project-id", tags=("canary-tag",), attrs=secret, region="canary1")
        twins = [
            droplet(3, "twin", own_project_id="p-a"),
            droplet(7770777002, "twin", own_project_id="canary-project-id", region="canary2"),
        ]
        pair = [droplet(5, "pair", own_project_id="p-a"), droplet(6, "pair", own_project_id="p-a")]
        moved = droplet(7, "before", own_project_id="canary-project-id", status="off")
        books.inventory("droplet", mine, others, *twins, *pair, moved)
        attribute(engine, books.id, internal_project=None)
        self.declare()
        listed(books, "2027-01-01", mine, others, *twins, *pair, droplet(7, "a-moved", own_project_id="p-a", status="off"))
        attribute(engine, books.id, internal_project=None)
        books.inventory("volume", Resource(provider_id="canary-volume", name="canary-former-vol", own_project_id="canary-project-id"))
        books.inventory("volume", Resource(provider_id="canary-volume", name="canary-vol", own_project_id="canary-project-id",
                                           attrs='{"droplet_ids":[],"size_gigabytes":7770777}'))  # fmt: skip
        books.inventory("volume", Resource(provider_id="a-volume", name="a-vol", own_project_id="p-a", attrs='{"droplet_ids":[]}'))
        attribute(engine, books.id, internal_project=None)
        lines = [
            item("a-web (s)", amount="1.00", rid=1, project="web"),
            item("canary-web (s)", amount="7770777.77", rid=7770777001, project="canary-project", group="canary-group"),
            item("twin (s)", amount="2.00"),
            item("pair (s)", amount="3.00"),
            item("zip (s)", amount="4.00", project="web"),
            item("canary-gone (s)", amount="7770777.78", project="canary-project"),
            item("a thing of canary make", "canary product", "7770777.79", project="canary-project"),
            item("canary-vol (canary1) 7770777GB", "Volumes", "7770777.72", uuid="canary-volume"),
            item("unheard of", "qubits", "5.00", project="web"),
            item("nobody (s)", amount="6.00", project="who"),
            item("GST (18%)", "Taxes", "0.18"),
            item("ghost (s)", amount="7.00", rid=99),
        ]
        books.invoice(*lines, uuid="invoice-shared", amount="8888.88")
        books.invoice(item("canary-web (s)", amount="7770777.70", rid=7770777001), uuid="canary-invoice")
        state = billing.Preview(period=MAY, amount=Decimal("7770777.71"), covers_until=None)
        billing.ingest_preview(engine, books.id, state, as_json(*lines[:4]))
        other = Books(engine, "canary-team")
        other.inventory("droplet", droplet(1, "canary-elsewhere", tags=(self.ids["b"],)))
        attribute(engine, books.id, internal_project=None)
        attribute(engine, other.id, internal_project=None)
        with engine.begin() as conn:
            balance = "insert into arcadia.cloud_balance_snapshots (account_id, account_balance, taken_at) values (:a, 7770777, now())"
            conn.execute(text(balance), {"a": books.id})  # fmt: skip
            conn.execute(text("analyze"))

    def declare(self):
        a, b, shared, idle = (self.ids[name] for name in ("a", "b", "shared", "idle"))
        of_b = (Rule(project="canary-project"), Rule(tag=b))
        tenants = (Tenant(tenant_id=a, name="A", rules=(Rule(project="p-a"),)), Tenant(tenant_id=b, name="canary-b", rules=of_b),
                   Tenant(tenant_id=shared, name="Shared"), Tenant(tenant_id=idle, name="Idle", rules=(Rule(tag="nothing"),)))  # fmt: skip
        apply(self.engine, Declaration(tenants=tenants, fallback=shared))

    def login(self, role, *more):
        """An engine of a new user who is in these roles."""
        name = f"login_{uuid.uuid4().hex[:12]}"
        self.execute(f"create role {name} login password 'x' in role {', '.join((role, *more))}")
        self.logins.append(name)
        return create_engine(self.engine.url.set(username=name, password="x"))

    def of(self, name):
        return self.login(tenant_role(self.ids[name]))

    def execute(self, *statements):
        with self.engine.begin() as conn:
            for statement in statements:
                conn.execute(text(statement))

    def close(self):
        roles = [*self.logins, *(tenant_role(one) for one in self.ids.values())]
        self.execute(*(f"drop owned by {role}" for role in self.logins), f"drop role if exists {', '.join(roles)}")


@pytest.fixture(scope="module")
def world(postgres_server, template_database):
    with conftest._database(postgres_server, template_database) as url:
        engine = connect(url)
        world = World(engine)
        yield world
        world.close()
        engine.dispose()


@contextmanager
def session(reader):
    try:
        with reader.connect() as conn:
            yield conn
    finally:
        reader.dispose()


def rows(conn, query):
    try:
        return conn.execute(text(query)).all()
    finally:
        conn.rollback()


def refused(conn, statement):
    """Whether the statement is refused for want of a right."""
    try:
        conn.execute(text(statement))
    except ProgrammingError as error:
        return error.orig.sqlstate == "42501"
    finally:
        conn.rollback()
    return False


def relations(conn):
    query = "select relname from pg_class where relnamespace = 'arcadia'::regnamespace and relkind not in ('i', 'I', 'c', 'S')"
    return {name for (name,) in rows(conn, query)}


def test_every_relation_of_the_schema_is_known_to_these_tests(world):
    with session(world.engine) as conn:
        known = OWN_ROWS | set(OWN_COLUMNS) | NO_ROWS | OWN_VIEWS | NOBODYS | REFUSED
        assert relations(conn) | {*access.OWNER_ONLY} == known, "what may a tenant read of it? See access.py, then say it here"
        unprotected = (
            "select relname from pg_class where relnamespace = 'arcadia'::regnamespace and relkind in ('r', 'p') and not relrowsecurity"
        )
        assert rows(conn, unprotected) == []
        barred = """
            select relname from pg_class where relnamespace = 'arcadia'::regnamespace and relkind in ('v', 'm')
               and not coalesce('security_invoker=true' = any (reloptions), false)"""
        assert rows(conn, barred) == []


@pytest.mark.parametrize("name", ["a", "shared", "idle"])
def test_no_tenant_finds_a_word_of_another_in_any_relation(world, name):
    with session(world.of(name)) as conn:
        for relation in sorted(relations(conn)):
            seen = rows_or_refusal(conn, relation)
            assert (seen is None) == (relation in REFUSED), relation
            if seen is not None and relation not in NOBODYS:
                # What nobody can name is the fallback's, and so is what a and b may both mean.
                for secret in ("canary", "7770777", world.ids["b"]):
                    assert secret not in seen, (relation, seen)
            if relation in NO_ROWS or (name == "idle" and relation not in {"cloud_tenants", *REFUSED, *NOBODYS}):
                assert seen == "[]", relation
        sequences = rows(conn, "select oid::regclass::text from pg_class where relnamespace = 'arcadia'::regnamespace and relkind = 'S'")
        for (sequence,) in sequences:
            assert refused(conn, f"select last_value from {sequence}")


def rows_or_refusal(conn, relation):
    """Everything of a relation that can be had, as text; None where it is refused."""
    query = f"select {OWN_COLUMNS.get(relation, '*')} from arcadia.{relation}"
    return None if refused(conn, query) else str([tuple(map(str, row)) for row in rows(conn, query)])


def test_b_does_see_what_the_others_do_not(world):
    """Or the test above would prove nothing."""
    with session(world.of("b")) as conn:
        found = {relation for relation in relations(conn) - REFUSED if "canary" in rows_or_refusal(conn, relation)}
    numbers_only = {"cost_by_kind", "cost_by_tenant", "listings"}
    assert found == (OWN_VIEWS | OWN_ROWS | set(OWN_COLUMNS)) - numbers_only


@pytest.mark.parametrize("name", ["a", "b", "shared", "idle"])
@pytest.mark.parametrize(
    ("view", "columns"),
    [
        ("all_cost_lines", "line_id, invoice_uuid, period, description, amount_usd, match_status, reason, resource_id, tenant_id"),
        ("matched_cost_lines", "line_id, invoice_uuid, issued_at, product, amount_usd, match_method, reason, resource_name, tenant_id"),
        ("cloud_resources", "*"),
        ("cloud_projects", "*"),
        ("cost_by_tenant", "*"),
        ("running_cost", "resource_id, estimated_monthly_usd"),
        ("waste", "resource_id, reason"),
    ],
)
def test_a_tenant_sees_exactly_what_an_admin_sees_of_it(world, name, view, columns):
    order = (
        f"select {columns} from arcadia.{view} where tenant_id = '{world.ids[name]}' order by {columns if columns != '*' else '1, 2, 3'}"
    )
    with session(world.login(access.ADMIN)) as conn:
        whole = rows(conn, order)
    with session(world.engine) as conn:
        assert rows(conn, order) == whole
    with session(world.of(name)) as conn:
        assert rows(conn, order) == whole
        assert rows(conn, f"select count(*) from arcadia.{view}") == [(len(whole),)]


def test_every_line_and_resource_has_a_tenant_and_each_is_seen_once(world):
    with session(world.engine) as conn:
        tenants = "'" + "', '".join(world.ids.values()) + "'"
        for view in ("all_cost_lines", "cloud_resources", "cloud_projects"):
            assert rows(conn, f"select count(*) from arcadia.{view} where tenant_id is null or tenant_id not in ({tenants})") == [(0,)]
        whose = dict(rows(conn, "select description, tenant_id from arcadia.matched_cost_lines where invoice_uuid = 'invoice-shared'"))
    assert {line: name for line, tenant in whose.items() for name, one in world.ids.items() if one == tenant} == {
        "a-web (s)": "a", "pair (s)": "a", "zip (s)": "a", "unheard of": "a",
        "canary-web (s)": "b", "canary-gone (s)": "b", "a thing of canary make": "b", "canary-vol (canary1) 7770777GB": "b",
        "twin (s)": "shared", "nobody (s)": "shared", "GST (18%)": "shared", "ghost (s)": "shared",
    }  # fmt: skip


def test_candidates_of_others_are_left_out(world):
    query = "select match_detail -> 'candidates' as c, reason from arcadia.matched_cost_lines where description = '{}'"
    with session(world.of("a")) as conn:
        assert [one["provider_id"] for one in rows(conn, query.format("pair (s)"))[0].c] == ["5", "6"]
        assert rows(conn, query.format("twin (s)")) == []
    with session(world.of("shared")) as conn:
        assert rows(conn, query.format("twin (s)")) == [([], "2 resources of kind droplet fit 'twin' equally well")]
    both = world.login(tenant_role(world.ids["a"]), tenant_role(world.ids["shared"]))
    with session(both) as conn:  # whose line it is does not depend on who asks
        tenants = rows(conn, "select distinct tenant_id from arcadia.matched_cost_lines where description = 'twin (s)'")
        assert tenants == [(world.ids["shared"],)]
    with session(world.login(access.ANALYST)) as conn:
        assert len(rows(conn, query.format("twin (s)"))[0].c) == 2


def test_where_a_resource_was_before_is_not_told(world):
    of_moved = "select e.changes from arcadia.cloud_resource_events e join arcadia.resources using (resource_id) where provider_id = '7'"
    with session(world.engine) as conn:
        assert {"project", "tenant"} <= {key for row in rows(conn, of_moved) for key in row.changes}
    with session(world.of("a")) as conn:
        seen = {key for row in rows(conn, of_moved) for key in row.changes}
        assert "name" in seen
        assert not seen & {"project", "tenant"}


LEAKS = [
    "create function pg_temp.leak(anyelement) returns boolean language plpgsql cost 0.0000001 as $$ begin raise notice 'leaked %', $1;"
    " return true; end $$",
    "create function pg_temp.leak2(text, text) returns boolean language plpgsql cost 0.0000001 as $$ begin raise notice 'leaked %', $1;"
    " return true; end $$",
    "create operator pg_temp.<<< (procedure = pg_temp.leak2, leftarg = text, rightarg = text)",
]


def test_functions_and_operators_of_ones_own_are_shown_no_row_of_others(world):
    with session(world.of("a")) as conn:
        said = []
        conn.connection.driver_connection.add_notice_handler(lambda notice: said.append(notice.message_primary))
        for statement in LEAKS:
            conn.execute(text(statement))
        conn.commit()
        for query in (
            "select * from arcadia.resources where pg_temp.leak(name)",
            "select * from arcadia.resources where name operator(pg_temp.<<<) 'x'",
            "select * from arcadia.cloud_resources where pg_temp.leak(name) and pg_temp.leak(attrs)",
            "select line_id from arcadia.cloud_cost_lines where pg_temp.leak(description) and pg_temp.leak(amount_usd)",
            "select * from arcadia.matched_cost_lines where pg_temp.leak(description) and pg_temp.leak(match_detail)",
            "select invoice_uuid from arcadia.cloud_invoices where pg_temp.leak(invoice_uuid)",
            "select * from arcadia.cloud_tenants where pg_temp.leak(tenant_id)",
            "select * from arcadia.resource_timeline where pg_temp.leak(detail)",
            "select r.name from arcadia.resources r right join arcadia.cloud_resource_events e on pg_temp.leak(e.changes)",
            "select * from arcadia.cloud_accounts where pg_temp.leak(name)",
            "select count(*) filter (where pg_temp.leak(name)) from arcadia.resources_by_name",
        ):
            rows(conn, query)
        assert len(said) > 20
        assert [one for one in said if "canary" in one or "7770777" in one or world.ids["b"] in one] == []


def test_plans_and_statistics_name_nothing_of_others(world):
    with session(world.of("a")) as conn:
        for relation in sorted(OWN_ROWS | OWN_VIEWS | NO_ROWS):
            for explain in ("explain", "explain (analyze, verbose)"):
                assert "canary" not in str(rows(conn, f"{explain} select * from arcadia.{relation}"))
        assert "canary" in str(
            rows(world.engine.connect(), "select most_common_vals::text, histogram_bounds::text from pg_stats where schemaname = 'arcadia'")
        )
        assert rows(conn, "select * from pg_stats where schemaname = 'arcadia'") == []
        assert rows(conn, "select * from pg_stats_ext") == []
        assert refused(conn, "select * from pg_statistic")


def test_joins_and_functions_give_nothing_away(world):
    with session(world.engine) as conn:
        lines = dict(rows(conn, "select line_id, tenant_id from arcadia.all_cost_lines where resource_id is null"))
        functions = {name for (name,) in rows(conn, "select proname from pg_proc where pronamespace = 'arcadia'::regnamespace")}
    assert functions == {"queue_rematch", "reads_all", "tenant_of_open_line", "detail_of_open_line", "take_request"}, (
        "what can a tenant do with the new one?"
    )
    with session(world.of("a")) as conn:
        for line, tenant in lines.items():
            own = tenant == world.ids["a"]
            assert rows(conn, f"select arcadia.tenant_of_open_line({line})") == [(tenant if own else None,)]
            assert (rows(conn, f"select arcadia.detail_of_open_line({line})")[0][0] is not None) == own
        assert refused(conn, "select arcadia.queue_rematch()")
        assert refused(conn, "select arcadia.reads_all('postgres')")
        assert refused(conn, "select arcadia.take_request('x', '{}', '{}', '{}', null, null, null)")
        assert "canary" not in str(
            rows(
                conn,
                "select to_jsonb(r), to_jsonb(n), to_jsonb(e), to_jsonb(l), to_jsonb(p), to_jsonb(t) from arcadia.resources r"
                " full join arcadia.resources_by_name n using (resource_id) full join arcadia.cloud_resource_events e using (resource_id)"
                " full join arcadia.matched_cost_lines l using (resource_id) full join arcadia.cloud_projects p on true"
                " full join arcadia.cloud_tenants t on true",
            )
        )


def test_types_and_operators_of_ones_own_are_not_used_with_the_owner_s_rights(world):
    """What a session has in pg_temp is found first by functions that do not say otherwise."""
    with session(world.of("a")) as conn:
        said = []
        conn.connection.driver_connection.add_notice_handler(lambda notice: said.append(notice.message_primary))
        conn.execute(
            text(
                "create function pg_temp.spy(anyelement) returns boolean language plpgsql as $$ begin raise notice 'as %', current_user;"
                " return true; end $$"
            )
        )
        for name in ("name", "text", "jsonb", "bool", "int8", "oid", "regclass"):
            conn.execute(text(f"create domain pg_temp.{name} as pg_catalog.{name} check (pg_temp.spy(value))"))
        conn.execute(text("create function pg_temp.same(bigint, bigint) returns boolean language sql as 'select true'"))
        conn.execute(text("create operator pg_temp.= (procedure = pg_temp.same, leftarg = bigint, rightarg = bigint)"))
        conn.execute(text("set search_path = pg_temp, pg_catalog"))
        conn.commit()
        conn.execute(text("select 'x'::pg_temp.name"))
        assert said
        said.clear()
        query = "select tenant_id, reason, match_detail from arcadia.all_cost_lines where resource_id is null"
        assert {row.tenant_id for row in rows(conn, query)} == {world.ids["a"]}
        assert said == []


@pytest.mark.parametrize("role", [access.ADMIN, access.ANALYST, access.TENANT, "a"])
def test_nobody_writes(world, role):
    reader = world.of(role) if role == "a" else world.login(role)
    with session(reader) as conn:
        for relation in sorted(relations(conn)):
            rights = "insert, update, delete, truncate, references, trigger"
            assert rows(conn, f"select has_table_privilege('arcadia.{relation}', '{rights}')") == [(False,)], relation
            assert rows(conn, f"select has_any_column_privilege('arcadia.{relation}', 'insert, update, references')") == [(False,)], (
                relation
            )
        assert refused(conn, "update arcadia.cloud_projects set tenant_id = 'x'")
        assert refused(conn, "update arcadia.resources set tenant_id = 'x'")
        assert refused(conn, "truncate arcadia.resources")
        assert refused(conn, "create table arcadia.mine (x int)")
        assert refused(conn, "alter table arcadia.resources disable row level security")
        assert refused(conn, "select * from arcadia.resources for update")
        assert refused(conn, "drop policy tenants on arcadia.resources")
        assert refused(conn, f"set role {tenant_role(world.ids['b'])}")
        assert refused(conn, f"select set_config('role', '{tenant_role(world.ids['b'])}', false)")
        assert refused(conn, "set session authorization postgres")
        assert refused(conn, f"grant {tenant_role(world.ids['b'])} to current_user")
        assert refused(conn, f"set role {access.ADMIN}") == (role != access.ADMIN)


def test_a_tenant_cannot_turn_row_security_off(world):
    with session(world.of("a")) as conn:
        conn.execute(text("set row_security = off"))
        with pytest.raises(ProgrammingError, match="would be affected by row-level security"):
            conn.execute(text("select * from arcadia.resources"))


def test_admins_and_analysts_read_all_that_is_theirs(world):
    with session(world.login(access.ADMIN)) as conn, session(world.login(access.ANALYST)) as other:
        for relation in sorted(relations(conn)):
            if relation in access.OWNER_ONLY:
                assert refused(conn, f"select * from arcadia.{relation}")
                assert refused(other, f"select * from arcadia.{relation}")
                continue
            everything = rows(world.engine.connect(), f"select count(*) from arcadia.{relation}")
            assert rows(conn, f"select count(*) from arcadia.{relation}") == everything, relation
            if relation in {"rematch_queue", "project_memberships", "configured_accounts"}:
                assert refused(other, f"select * from arcadia.{relation}")
            else:
                assert rows(other, f"select count(*) from arcadia.{relation}") == everything, relation


def test_a_role_taken_on_counts_and_not_the_log_in(world):
    """As a server does that connects as the owner and takes on a role for each request."""
    query = "select count(*) from arcadia.all_cost_lines where resource_id is null"
    with session(world.engine) as conn:
        conn.execute(text(f"set local role {tenant_role(world.ids['idle'])}"))
        assert rows(conn, query) == [(0,)]
        conn.execute(text(f"set local role {tenant_role(world.ids['a'])}"))
        assert rows(conn, query) == [(4,)]
        assert rows(conn, query)[0][0] > 4


def test_a_reader_in_no_role_of_ours_sees_no_row(world):
    stranger = world.login("pg_monitor")
    world.execute(
        f"grant usage on schema arcadia to {world.logins[-1]}", f"grant select on all tables in schema arcadia to {world.logins[-1]}"
    )
    with session(stranger) as conn:
        for relation in sorted(relations(conn) - NOBODYS - {"alembic_version", "schema_views"}):
            assert refused(conn, f"select * from arcadia.{relation}") or rows(conn, f"select * from arcadia.{relation}") == [], relation


def test_new_views_and_grants_by_hand(world):
    """A new release makes the views again: who reads is the same as before, and what somebody granted besides is taken back."""
    world.execute(f"grant select on arcadia.cloud_invoices to {access.TENANT}", "update arcadia.schema_views set digest = 'older'")
    migrate(world.engine)
    with session(world.of("a")) as conn:
        assert refused(conn, "select amount from arcadia.cloud_invoices")
        assert rows(conn, "select count(*) from arcadia.cloud_invoices") == [(2,)]
        assert refused(conn, "select * from arcadia.match_rate")


def test_roles_are_made_once(world):
    with world.engine.begin() as conn:
        assert ensure_roles(conn, world.ids.values()) == []
        protect(conn)


def test_rights_are_given_while_the_server_tidies_a_table(world):
    """Who holds a table to analyze it waits for whoever has granted something of it, and so must not be waited for by the same."""
    world.execute(
        "insert into arcadia.project_memberships (account_id, kind, provider_id, project_id)"
        f" select {world.books.id}, 'droplet', n, 'p-a' from generate_series(1, 1000) n"
    )
    with world.engine.begin() as conn:
        access.release(conn)  # as before there were roles
    problems = []

    def give():
        try:
            with world.engine.begin() as conn:
                protect(conn)
        except Exception as problem:
            problems.append(problem)

    giving = threading.Thread(target=give)
    with world.engine.begin() as tidying, world.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as looking:
        tidying.execute(text("lock table arcadia.project_memberships in share update exclusive mode"))
        giving.start()
        wait_for(lambda: rows(looking, "select pid from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"))
        tidying.execute(text("analyze arcadia.project_memberships"))
    giving.join()
    assert problems == []


def test_databases_of_one_server_make_their_roles_together(engine, empty_database_url):
    other = connect(make_url(empty_database_url))
    names = [f"race_{uuid.uuid4().hex[:8]}" for _ in range(5)]
    outcomes = []

    def make(where):
        try:
            with where.begin() as conn:
                outcomes.append(ensure_roles(conn, names))
        except Exception as problem:
            outcomes.append(problem)

    threads = [threading.Thread(target=make, args=(where,)) for where in (engine, other) * 2]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(role for made in outcomes for role in made) == sorted(map(tenant_role, names))
    finally:
        other.dispose()
        with engine.begin() as conn:
            conn.execute(text(f"drop role if exists {', '.join(map(tenant_role, names))}"))


@pytest.fixture
def owner(postgres_server, empty_database_url):
    """An engine of a user that is no superuser and owns its database; and its name."""
    name = f"owner_{uuid.uuid4().hex[:12]}"
    admin = create_engine(postgres_server, isolation_level="AUTOCOMMIT")
    url = make_url(empty_database_url)
    with admin.connect() as conn:
        conn.execute(text(f"create role {name} login password 'x'"))
        conn.execute(text(f"alter database {url.database} owner to {name}"))
    engine = connect(url.set(username=name, password="x"))
    yield engine, name, admin
    engine.dispose()
    here = create_engine(url, isolation_level="AUTOCOMMIT")
    with here.connect() as conn:
        tenants = conn.execute(text("select rolname from pg_roles where rolname like 'arcadia_tenant_own%'")).scalars().all()
        conn.execute(text(f"reassign owned by {name} to current_user"))
        conn.execute(text(f"drop owned by {name}"))
        conn.execute(text(f"drop role {', '.join([*tenants, name])}"))
    here.dispose()
    admin.dispose()


def test_who_may_not_make_roles_is_told_what_an_administrator_must_run(owner):
    engine, name, admin = owner
    tenant = f"own{uuid.uuid4().hex[:8]}"
    with engine.begin() as conn, pytest.raises(AccessError) as raised:
        ensure_roles(conn, [tenant])
    sentence = str(raised.value)
    assert sentence.startswith("this user of the database may not make the roles of tenants; let an administrator run: ")
    assert f"grant {tenant_role(tenant)} to {name}" in sentence
    with admin.connect() as conn:
        for statement in sentence.partition("run: ")[2].split("; "):
            conn.execute(text(statement))
    with engine.begin() as conn:
        assert ensure_roles(conn, [tenant]) == []
        conn.execute(text(f"set local role {tenant_role(tenant)}"))
        assert conn.scalar(text("select count(*) from arcadia.resources")) == 0


def test_an_owner_that_may_make_roles_takes_them_on(owner):
    engine, name, admin = owner
    tenant = f"own{uuid.uuid4().hex[:8]}"
    with admin.connect() as conn:
        conn.execute(text(f"alter role {name} createrole"))
        # The roles that every ledger shares may be another's.
        for role in (access.ADMIN, access.ANALYST, access.TENANT):
            conn.execute(text(f"grant {role} to {name} with admin option"))
    with engine.begin() as conn:
        assert ensure_roles(conn, [tenant]) == [tenant_role(tenant)]
    with engine.begin() as conn:
        assert ensure_roles(conn, [tenant]) == []
        for role in (tenant_role(tenant), access.ADMIN):
            conn.execute(text(f"set local role {role}"))
            assert conn.scalar(text("select current_user")) == role
            conn.execute(text("reset role"))
