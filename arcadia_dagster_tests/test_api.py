"""The read API as a program meets it: a real server on loopback, a real PostgreSQL, keys as `arcadia keys` makes them."""

import re
import signal
import socket
import threading
import uuid
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError

from arcadia_dagster.api import reading
from arcadia_dagster.api.app import create_app, server
from arcadia_dagster.ledger.access import tenant_role
from arcadia_dagster.ledger.api_keys import ApiKeyError, add_key, find_key, revoke_key
from arcadia_dagster.ledger.attribution import attribute
from arcadia_dagster.ledger.schema import connect
from arcadia_dagster.ledger.tenants import apply
from arcadia_dagster.ledger.tenants_file import Declaration, Rule, Tenant
from arcadia_dagster_tests import conftest
from arcadia_dagster_tests.books import APRIL, Books, droplet, item
from arcadia_dagster_tests.commands import PASSWORD, arcadia, end, processes_of, start, wait_for
from arcadia_dagster_tests.ui import free_port

# Roles are the server's: other sessions of these tests have others.
ACME, GLOBEX, REST = (f"{name}_{uuid.uuid4().hex[:8]}" for name in ("acme", "globex", "rest"))
MAY = date(2026, 5, 1)
ADDRESSES = ["inventory", "resources/1/timeline", "billing/balance", "billing/cost-lines"]
ADMINS_ONLY = ["billing/balance", "billing/cost-lines"]


@dataclass
class Api:
    """A server and its ledger."""

    engine: Engine
    url: str
    admin: str = ""

    def get(self, path, key=None, **parameters):
        headers = {"Authorization": f"Bearer {key or self.admin}"}
        return httpx.get(f"{self.url}/api/v1/{path}", params=parameters, headers=headers, timeout=60)

    def items(self, path, key=None, **parameters):
        reply = self.get(path, key, **parameters)
        assert reply.status_code == 200, reply.text
        return reply.json()["items"]

    def pages(self, path, key=None, between=lambda: None, **parameters):
        """The items of all pages in order, found by the header Link; `between` is done after each page."""
        url, headers = httpx.URL(f"{self.url}/api/v1/{path}", params=parameters), {"Authorization": f"Bearer {key or self.admin}"}
        found = []
        while True:
            reply = httpx.get(url, headers=headers)
            assert reply.status_code == 200, reply.text
            body = reply.json()
            found += body["items"]
            if body["next"] is None:
                assert "link" not in reply.headers
                return found
            assert len(body["items"]) == int(parameters["limit"])
            url = reply.url.join(re.fullmatch(r'<(.+)>; rel="next"', reply.headers["link"])[1])
            assert url.params["cursor"] == body["next"]
            between()

    def execute(self, statement, **values):
        with self.engine.begin() as conn:
            result = conn.execute(text(statement), values)
            return result.all() if result.returns_rows else []

    def tenant_key(self, tenant):
        return add_key(self.engine, tenant, tenant_id=tenant)[1]


def problem(reply, status):
    """The detail of a reply, which must be a problem of this status."""
    assert reply.status_code == status, reply.text
    assert reply.headers["content-type"] == "application/problem+json"
    body = reply.json()
    assert body.keys() == {"type", "title", "status", "detail"}
    assert (body["type"], body["status"]) == ("about:blank", status)
    return body["detail"]


@contextmanager
def serving(engine):
    """The base address of a server on this ledger."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        running = server(engine)
        thread = threading.Thread(target=running.run, args=([listener],))
        thread.start()
        try:
            wait_for(lambda: running.started)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            running.should_exit = True
            thread.join()


@contextmanager
def api_on(engine):
    """A server on this ledger, and an admin's key."""
    with serving(engine) as url:
        yield Api(engine, url, add_key(engine, "tests", tenant_id=None)[1])


@pytest.fixture
def api(engine):
    with api_on(engine) as api:
        yield api


def declare(engine, *tenants):
    """Tenants that own their namesake of a project, and one that has the rest."""
    declared = [Tenant(tenant_id=tenant, name=tenant, rules=(Rule(project=f"project-{tenant}"),)) for tenant in tenants]
    apply(engine, Declaration(tenants=(*declared, Tenant(tenant_id=REST, name=REST)), fallback=REST))


@pytest.fixture(scope="module", autouse=True)
def no_roles_are_left(postgres_server):
    yield
    conftest._execute(postgres_server, f"drop role if exists {', '.join(map(tenant_role, (ACME, GLOBEX, REST)))}")


@pytest.fixture(scope="module")
def shared(postgres_server, template_database):
    """A ledger that these tests only read: two accounts, the first with two tenants in it, and a server on it.

    Of `team-1`: ten droplets of acme, five of globex, one of nobody; an invoice in April and one in May.
    """
    with conftest._database(postgres_server, template_database) as url:
        engine = connect(make_url(url))
        books, other = Books(engine), Books(engine, team="team-2")
        books.inventory("project", *[droplet(f"p-{name}", f"project-{name}") for name in (ACME, GLOBEX)])
        owners = {n: ACME if n <= 10 else GLOBEX if n <= 15 else "lonely" for n in range(1, 17)}
        droplets = [
            droplet(n, f"{owner.partition('_')[0]}-{n}", own_project_id=f"p-{owner}", tags=("odd", "all") if n % 2 else ("all",))
            for n, owner in owners.items()
        ]
        books.inventory("droplet", *droplets)
        other.inventory("droplet", droplet(1, "elsewhere", monthly_price=Decimal("24.00"), region="fra1"))
        attribute(engine, books.id, internal_project=None)
        declare(engine, ACME, GLOBEX)
        with engine.begin() as conn:
            for account, amount in ((books.id, "-12.340"), (other.id, "0.00")):
                for day in ("2026-05-01", "2026-05-02"):
                    conn.execute(
                        text(
                            "insert into arcadia.cloud_balance_snapshots (account_id, account_balance, month_to_date_usage, taken_at)"
                            " values (:account, :amount, extract(day from cast(:day as date)), cast(:day as date))"
                        ),
                        {"account": account, "amount": Decimal(amount), "day": day},
                    )
        for period, start, end_ in ((APRIL, "2026-04-01", "2026-05-01"), (MAY, "2026-05-01", "2026-06-01")):
            lines = [item(resource.name, rid=resource.provider_id, amount=f"{n}.10", start=start, end=end_)
                     for n, resource in enumerate(droplets, 1)]  # fmt: skip
            books.invoice(*lines, item("Sales tax", "Taxes", "0.10", start=start, end=end_), period=period)
        other.invoice(item("gone", rid=99, amount="7.00"))
        with api_on(engine) as api:
            yield api
        engine.dispose()


@pytest.fixture(scope="module")
def acme(shared):
    return shared.tenant_key(ACME)


# What the OpenAPI document says, held against the server

DOCUMENT = schemathesis.openapi.from_dict(create_app(None).openapi())
DOCUMENT.config.generation.with_security_parameters = False  # the key is given below


@DOCUMENT.parametrize()
@settings(max_examples=25, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
def test_the_server_does_what_its_openapi_document_says(case, shared):
    query, excluded = case.query or {}, []
    if "cursor" in query:  # what a cursor is, no schema can say
        excluded.append(positive_data_acceptance)
    if "" in query.values():  # allowEmptyValue
        excluded.append(negative_data_rejection)
    case.call_and_validate(base_url=shared.url, headers={"Authorization": f"Bearer {shared.admin}"}, excluded_checks=excluded)


def test_the_document_says_everything():
    document = create_app(None).openapi()
    assert document["components"]["securitySchemes"]["key"]["scheme"] == "bearer"
    assert "HTTPValidationError" not in str(document)
    assert "null" not in str([path["get"].get("parameters") for path in document["paths"].values()])
    for path, methods in document["paths"].items():
        assert methods.keys() == {"get"}
        operation = methods["get"]
        assert operation["description"]
        assert ("security" in operation) == (path != "/api/v1/health")
        for parameter in operation.get("parameters", []):
            assert parameter["description"]
        for status, response in operation["responses"].items():
            media = "application/json" if status == "200" else "application/problem+json"
            assert response["content"].keys() == {media}
    for model in ("CostLine", "Resource", "Balance", "TimelineEntry"):
        properties = document["components"]["schemas"][model]
        assert set(properties["required"]) == set(properties["properties"])


# What is answered


def test_a_resource(shared):
    (found,) = shared.items("inventory", account="team-2", kind="droplet", state="active")
    seen = found.pop("first_seen_at"), found.pop("last_seen_at")
    assert all(re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", moment) for moment in seen)
    ours = (found.pop("resource_id"), found.pop("account_id"))
    assert all(isinstance(identity, int) for identity in ours)
    assert found == {
        "account": "team-2", "kind": "droplet", "provider_id": "1", "name": "elsewhere", "region": "fra1", "status": None,
        "state": "active", "tags": [], "attrs": {}, "monthly_price": "24.00", "project": None, "tenant_id": REST, "parent_kind": None,
        "parent_provider_id": None, "provider_created_at": "2025-01-01T00:00:00Z", "deleted_at": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        ({"name": "ACME-1"}, ["acme-1"]),
        ({"name": "*-1?"}, []),  # only * stands for anything
        ({"name": "*e*-*3"}, ["acme-3", "globex-13"]),
        ({"name": "%"}, []),
        ({"name": "acme_1"}, []),
        ({"project": f"project-{GLOBEX}", "tag": "odd"}, ["globex-11", "globex-13", "globex-15"]),
        ({"state": "billing_only"}, ["gone"]),
        ({"state": "active", "kind": "volume"}, []),
        ({"account": "team-2"}, ["elsewhere", "gone"]),
        ({"account": "no such"}, []),
        ({"kind": "", "tag": "", "state": "", "limit": "", "cursor": "", "name": "lonely-16"}, ["lonely-16"]),
        ({"name": "'; drop table arcadia.resources; --"}, []),
    ],
)
def test_filters_of_the_inventory(shared, filters, names):
    assert [one["name"] for one in shared.items("inventory", **filters)] == names


def test_an_account_can_be_named_by_its_number(shared):
    (one, *_) = shared.items("inventory", account="team-2")
    assert shared.items("inventory", account=one["account_id"]) == shared.items("inventory", account="team-2")


def test_a_cost_line(shared):
    (found,) = shared.items("billing/cost-lines", period="2026-05-01", kind="droplet", limit=1)
    for name in ("line_id", "account_id", "resource_id"):
        assert isinstance(found.pop(name), int)
    assert found == {
        "period": "2026-05-01", "invoice_uuid": found["invoice_uuid"], "invoice_id": "1", "ordinal": 1, "account": "team-1",
        "product": "Droplets", "group_description": "", "description": "acme-1", "hours": "720", "started_at": "2026-05-01T00:00:00Z",
        "ended_at": "2026-06-01T00:00:00Z", "amount_usd": "1.10", "kind": "droplet", "project": f"project-{ACME}", "tenant_id": ACME,
        "match_status": "matched", "match_method": "id", "reason": None, "resource_provider_id": "1", "resource_name": "acme-1",
        "resource_region": None, "resource_state": "active",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("filters", "usd"),
    [
        ({"period": "2026-04-01", "account": "team-1"}, "137.70"),
        ({"period": "2026-04-01"}, "144.70"),
        ({"period": "2026-06-01"}, "0"),
        ({"kind": "tax"}, "0.20"),
        ({"status": "tax", "period": "2026-05-01"}, "0.10"),
        ({"project": f"project-{GLOBEX}", "period": "2026-05-01"}, "65.50"),
        ({"kind": "droplet", "account": "team-2"}, "7.00"),
    ],
)
def test_filters_of_cost_lines(shared, filters, usd):
    assert sum(Decimal(line["amount_usd"]) for line in shared.items("billing/cost-lines", **filters)) == Decimal(usd)


def test_the_newest_balance_of_each_account(shared):
    found = shared.items("billing/balance")
    assert [(one["account"], one["account_balance"], one["month_to_date_usage"], one["taken_at"]) for one in found] == [
        ("team-1", "-12.340", "2", "2026-05-02T00:00:00Z"),
        ("team-2", "0.00", "2", "2026-05-02T00:00:00Z"),
    ]
    assert found[0]["month_to_date_balance"] is None
    assert shared.items("billing/balance", account="team-1") == found[:1]


def test_money_is_exact_and_previews_are_none(api):
    amounts = ["0.0000000000", "-0.10", "1234567890123456789012345.67", "100"]
    for amount in amounts:
        books = Books(api.engine, team=amount)
        api.execute(
            "insert into arcadia.cloud_balance_snapshots (account_id, account_balance, taken_at) values (:a, cast(:m as numeric), now())",
            a=books.id, m=amount,
        )  # fmt: skip
        books.invoice(item("web-1", rid=1, amount="1.00"))
    assert [one["account_balance"] for one in api.items("billing/balance")] == amounts
    api.execute("update arcadia.cloud_invoices set status = 'preview' where invoice_uuid = '1-invoice-1'")
    assert [one["account"] for one in api.items("billing/cost-lines")] == amounts[1:]


def test_a_timeline(shared):
    resource = shared.items("inventory", name="acme-3")[0]
    found = shared.get(f"resources/{resource['resource_id']}/timeline").json()
    assert found["resource"] == resource
    assert found["next"] is None
    assert [(one["what"], one["amount_usd"]) for one in found["items"]] == [
        ("created", None), ("billed", "3.10"), ("billed", "3.10"), ("discovered", None),
    ]  # fmt: skip
    assert found["items"][1]["at"] == "2026-05-01T00:00:00Z"


# Pages


@pytest.mark.parametrize("limit", [1, 3, 5, 18, 1000])
@pytest.mark.parametrize("path", ["inventory", "billing/cost-lines", "resources/3/timeline"])
def test_pages_together_are_the_whole(shared, path, limit):
    whole = shared.items(path, limit=1000)
    assert len(whole) > 3
    assert shared.pages(path, limit=limit) == whole


def test_a_walk_shows_what_was_there_exactly_once_while_more_comes(api):
    books = Books(api.engine)
    books.inventory("droplet", *[droplet(n, f"web-{n}") for n in range(100, 140)])
    lines = [item(f"web-{n}", rid=n) for n in range(100, 140)]
    books.invoice(*lines, uuid="m")
    number = iter(range(1000))

    def more():
        n = next(number)
        books.inventory("droplet", *[droplet(n, f"web-{n}") for n in range(100 - n, 140 + n)])
        books.invoice(*lines[:3], uuid=f"{'az'[n % 2]}{n}", period=(date(2026, 3, 1), APRIL, MAY)[n % 3])
        books.ingest("m", lines)  # the same again

    before = {"inventory": api.items("inventory", limit=1000), "billing/cost-lines": api.items("billing/cost-lines", limit=1000)}
    for path, key in (("inventory", ["resource_id"]), ("billing/cost-lines", ["invoice_uuid", "ordinal"])):
        walked = [tuple(one[name] for name in key) for one in api.pages(path, between=more, limit=7)]
        assert len(set(walked)) == len(walked)
        assert {tuple(one[name] for name in key) for one in before[path]} <= set(walked)


def test_entries_that_are_alike_are_all_shown(api):
    books = Books(api.engine)
    books.inventory("droplet", droplet(1, "web-1"))
    for _ in range(5):
        api.execute(
            "insert into arcadia.cloud_resource_events (resource_id, account_id, event, occurred_at)"
            " select resource_id, account_id, 'restored', '2026-05-01' from arcadia.resources"
        )
    (resource,) = api.items("inventory")
    path = f"resources/{resource['resource_id']}/timeline"
    walked = api.pages(path, limit=2)
    assert [one["what"] for one in walked] == ["created", *["restored"] * 5, "discovered"]


def test_a_cursor_belongs_to_its_question(shared):
    cursor = shared.get("inventory", limit=1, kind="droplet").json()["next"]
    assert shared.get("inventory", limit=5, kind="droplet", cursor=cursor).status_code == 200
    for path, parameters in (("inventory", {}), ("inventory", {"kind": "volume"}), ("billing/cost-lines", {"kind": "droplet"})):
        detail = problem(shared.get(path, cursor=cursor, **parameters), 400)
        assert detail == "cursor: it belongs to another question; keep the filters as they were, or leave it out to begin anew"


@settings(max_examples=30, deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cursor=st.text(min_size=1, max_size=200) | st.text("abcABC012-_", min_size=1, max_size=60))
def test_a_cursor_that_is_none_is_a_problem(shared, cursor):
    assert problem(shared.get("inventory", cursor=cursor), 400).startswith("cursor: ")


@pytest.mark.parametrize("change", [{"resource_id": -1}, {"resource_id": 2**63}, {"resource_id": "x"}, {}, {"resource_id": None}])
def test_a_forged_cursor_is_a_problem(shared, change):
    import base64
    import json

    cursor = shared.get("inventory", limit=1).json()["next"]
    question, _ = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    forged = base64.urlsafe_b64encode(json.dumps([question, change]).encode()).decode()
    assert problem(shared.get("inventory", cursor=forged), 400).startswith("cursor: this is none")


# Who may


@pytest.mark.parametrize("path", ADDRESSES)
@pytest.mark.parametrize("header", [None, "Bearer", "Bearer wrong", "Basic YTpi", "Bearer \xff", "bearer arcadia_" + "x" * 9000])
def test_without_a_key_nothing_is_answered(shared, path, header):
    headers = {} if header is None else {"Authorization": header.encode("latin-1")}
    reply = httpx.get(f"{shared.url}/api/v1/{path}?limit=nonsense", headers=headers)
    assert "key" in problem(reply, 401)
    assert reply.headers["www-authenticate"].startswith("Bearer")


def test_a_revoked_key_is_refused_at_once(shared):
    key, secret = add_key(shared.engine, "short", tenant_id=None)
    assert shared.get("inventory", secret).status_code == 200
    first = revoke_key(shared.engine, key.key_id)
    assert problem(shared.get("inventory", secret), 401).startswith("this key is not known, or has been revoked")
    assert revoke_key(shared.engine, key.key_id) == first


def test_a_key_is_nowhere_in_the_database(shared):
    relations = shared.execute("select oid::regclass::text from pg_class where relnamespace = 'arcadia'::regnamespace and relkind = 'r'")
    for (relation,) in relations:
        assert shared.execute(f"select count(*) from {relation} t where t::text like :key", key=f"%{shared.admin[8:]}%") == [(0,)]
    known = "select count(*) from arcadia.api_keys where digest = sha256(cast(:key as bytea))"
    assert shared.execute(known, key=shared.admin.encode()) == [(1,)]


def test_no_role_may_read_keys(shared):
    for role in ("arcadia_admin", "arcadia_analyst", tenant_role(ACME)):
        with reading.transaction(shared.engine, role) as conn, pytest.raises(DBAPIError, match="permission denied"):
            conn.execute(text("select * from arcadia.api_keys"))


def test_keys_are_of_tenants_that_there_are(engine):
    with pytest.raises(ApiKeyError, match="there is no tenant 'nobody'"):
        add_key(engine, "x", tenant_id="nobody")
    with pytest.raises(ApiKeyError, match="a key needs a name"):
        add_key(engine, " ", tenant_id=None)
    with pytest.raises(ApiKeyError, match="there is no key 77"):
        revoke_key(engine, 77)


def test_a_tenant_sees_its_own_and_nothing_else(shared, acme):
    everything = shared.items("inventory", limit=1000)
    own = [one for one in everything if one["tenant_id"] == ACME]
    assert len(own) == 10
    assert shared.items("inventory", acme, limit=1000) == own
    for filters in ({"project": f"project-{GLOBEX}"}, {"name": "globex-*"}, {"account": "team-2"}, {"state": "billing_only"}):
        assert shared.items("inventory", acme, **filters) == []
    for resource in everything:
        path = f"resources/{resource['resource_id']}/timeline"
        if resource in own:
            assert shared.get(path, acme).json() == shared.get(path).json()
        else:
            assert shared.get(path, acme).status_code == 404


def test_what_is_anothers_is_as_what_does_not_exist(shared, acme):
    (other,) = shared.items("inventory", name="globex-11")
    theirs, nothing = (shared.get(f"resources/{identity}/timeline", acme) for identity in (other["resource_id"], 10**15))
    assert problem(theirs, 404) == "there is no such resource"
    assert (theirs.content, theirs.headers["content-type"]) == (nothing.content, nothing.headers["content-type"])


def test_a_cursor_grants_nothing(shared, acme):
    cursor = shared.get("inventory", limit=12).json()["next"]  # globex's next
    assert shared.items("inventory", acme, cursor=cursor) == []


@pytest.mark.parametrize("path", ADMINS_ONLY)
def test_money_is_for_admins(shared, acme, path):
    assert problem(shared.get(path, acme), 403) == "this key is a tenant's, and only an admin's may read this"


def test_the_key_of_a_tenant_that_is_no_more(api):
    declare(api.engine, ACME)
    key = api.tenant_key(ACME)
    assert api.items("inventory", key) == []
    api.execute("update arcadia.api_keys set tenant_id = 'never_made', role_name = 'arcadia_tenant_never_made' where tenant_id is not null")
    assert problem(api.get("inventory", key), 403) == "the database has no role for this key any more"


@pytest.mark.parametrize("role", [None, "arcadia_admin"])
def test_nothing_can_be_written(engine, role):
    add_key(engine, "makes the roles", tenant_id=None)
    for statement in ("insert into arcadia.cloud_accounts (name) values ('x')", "create table public.x ()"):
        with reading.transaction(engine, role) as conn, pytest.raises(DBAPIError, match=r"read-only transaction|permission denied"):
            conn.execute(text(statement))


def test_a_connection_is_nobodys_again_afterwards(engine):
    secret = add_key(engine, "x", tenant_id=None)[1]
    with reading.transaction(engine, "arcadia_admin") as conn:
        process = conn.scalar(text("select pg_backend_pid()"))
        assert conn.scalar(text("select current_user")) == "arcadia_admin"
    with engine.connect() as conn:
        mine = text("select pg_backend_pid(), current_user = session_user, current_setting('transaction_read_only')")
        assert conn.execute(mine).one() == (
            process, True, "off",
        )  # fmt: skip
        assert find_key(conn, secret)


# What cannot be


@pytest.mark.parametrize("method", ["HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
@pytest.mark.parametrize("path", ADDRESSES)
def test_only_get(shared, method, path):
    reply = httpx.request(method, f"{shared.url}/api/v1/{path}", headers={"Authorization": f"Bearer {shared.admin}"})
    assert reply.status_code == 405
    assert reply.headers["allow"] == "GET"
    if method != "HEAD":
        assert problem(reply, 405) == f"{method} is not possible here: this API is read only, use GET"


@pytest.mark.parametrize(
    "path", ["/", "/api", "/api/v1", "/api/v1/inventory/", "/api/v1/resources/1", "/docs", "/%00", "/api/v2/inventory"]
)
def test_what_is_not_there(shared, path):
    assert problem(httpx.get(shared.url + path), 404).startswith(
        "there is nothing at this address; /api/v1/openapi.json lists what there is"
    )


@pytest.mark.parametrize(
    ("path", "detail"),
    [
        ("inventory?limit=0", "limit: input should be greater than or equal to 1"),
        ("inventory?limit=-5", "limit: input should be greater than or equal to 1"),
        ("inventory?limit=1001", "limit: input should be less than or equal to 1000"),
        ("inventory?limit=" + "9" * 5000, "limit: "),
        ("inventory?limit=5.0", "limit: must be a whole number"),
        ("inventory?limit=%205", "limit: must be a whole number"),
        ("inventory?limit=%D9%A3", "limit: must be a whole number"),
        ("inventory?limit=ten&state=odd", "limit: must be a whole number; state: input should be 'active', 'deleted' or 'billing_only'"),
        ("inventory?kind=a&kind=b", "kind: given more than once"),
        ("inventory?limt=5", "there is no parameter 'limt' here"),
        ("billing/balance?limit=5", "there is no parameter 'limit' here"),
        ("inventory?name=%00", "name: must not hold a NUL character"),
        ("inventory?tag=a%00b", "tag: must not hold a NUL character"),
        ("inventory?account=%00", "account: must not hold a NUL character"),
        ("inventory?cursor=%00", "cursor: must not hold a NUL character"),
        ("inventory?name=" + "x" * 1001, "name: string should have at most 1000 characters"),
        ("billing/cost-lines?period=2026-04-02", "period: must be the first day of a month, such as 2026-04-01"),
        ("billing/cost-lines?period=2026-13-01", "period: must be the first day of a month, such as 2026-04-01"),
        ("billing/cost-lines?period=April", "period: must be the first day of a month, such as 2026-04-01"),
        ("billing/cost-lines?period=0", "period: must be the first day of a month, such as 2026-04-01"),
        (
            "billing/cost-lines?status=odd",
            "status: input should be 'matched', 'account_level', 'tax', 'credit', 'ambiguous' or 'unmatched'",
        ),
        ("resources/0/timeline", "resource_id: input should be greater than or equal to 1"),
        ("resources/-1/timeline", "resource_id: input should be greater than or equal to 1"),
        (f"resources/{2**63}/timeline", "resource_id: input should be less than or equal to 9223372036854775807"),
        ("resources/one/timeline", "resource_id: must be a whole number"),
        ("resources/%00/timeline", "resource_id: must be a whole number"),
    ],
)
def test_odd_parameters(shared, path, detail):
    reply = httpx.get(f"{shared.url}/api/v1/{path}", headers={"Authorization": f"Bearer {shared.admin}"})
    assert problem(reply, 400).startswith(detail)


@pytest.mark.parametrize("words", ["%F0%9F%90%98", "%FF%FE", "\\", "%25", "x" * 1000, "%0d%0aX-Evil:%201"])
def test_odd_words_are_only_words(shared, words):
    for name in ("kind", "project", "tag", "name", "account"):
        reply = httpx.get(f"{shared.url}/api/v1/inventory?{name}={words}", headers={"Authorization": f"Bearer {shared.admin}"})
        assert reply.status_code == 200
        assert reply.json()["items"] == []


# Health, and a database that does not answer


def test_health_needs_no_key(shared):
    reply = httpx.get(f"{shared.url}/api/v1/health")
    revision = shared.execute("select version_num from arcadia.alembic_version")[0][0]
    assert (reply.status_code, reply.json()) == (200, {"status": "ok", "schema_revision": revision})


def test_a_ledger_of_another_release_is_not_healthy(api):
    api.execute("update arcadia.alembic_version set version_num = '9999'")
    assert problem(httpx.get(f"{api.url}/api/v1/health"), 503).startswith(
        "the ledger's schema is of revision 9999, this server is made for "
    )


@pytest.mark.parametrize("path", ["health", *ADDRESSES])
def test_a_database_that_is_down_is_a_problem_without_secrets(path, capfd, caplog):
    engine = create_engine(f"postgresql+psycopg://me:{PASSWORD}@127.0.0.1:1/ledger")
    with serving(engine) as url:
        reply = httpx.get(f"{url}/api/v1/{path}", headers={"Authorization": "Bearer arcadia_secret"})
    assert problem(reply, 503) == "the ledger's database cannot answer now; try again later"
    said = "".join(capfd.readouterr()) + caplog.text
    assert "Connection refused" in said
    for secret in (PASSWORD, "arcadia_secret", "select", "Traceback"):
        assert secret not in said


def test_a_database_that_takes_too_long(shared, monkeypatch, caplog):
    monkeypatch.setattr(reading, "STATEMENT_SECONDS", 1)
    with shared.engine.begin() as conn:
        conn.execute(text("lock table arcadia.resources in access exclusive mode"))
        detail = problem(shared.get("inventory", name="canary"), 503)
    assert detail == "the database took too long over this; ask for less, with a smaller limit or more filters"
    (said,) = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert said == "the database: canceling statement due to statement timeout"


def test_a_database_that_was_started_anew(shared):
    lost = "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
    shared.items("inventory")
    with create_engine(shared.engine.url).connect() as conn:
        conn.execute(text(lost))
    assert shared.items("inventory", limit=1)


def test_a_fault_of_ours_is_a_problem_too(shared, monkeypatch):
    monkeypatch.setattr(reading, "inventory", lambda *_, **__: [{"resource_id": "none"}])
    assert problem(shared.get("inventory"), 500) == "this is a fault of the server; its log says more"


# The commands


def test_keys_on_the_command_line(engine, database_url):
    variables = {"ARCADIA_DATABASE_URL": database_url}
    declare(engine, ACME)
    add_key(engine, "theirs", tenant_id=ACME)
    made = arcadia("keys", "add", "our [dashboards]", "--admin", **variables)
    assert (made.code, made.sentence) == (0, "Key 2, an admin's. Keep it: nobody can show it again.")
    secret = made.out.removesuffix("\n")
    assert re.fullmatch(r"arcadia_[\w-]{43}", secret)
    unknown = arcadia("keys", "add", "x", "--tenant", "acne", **variables)
    assert (unknown.code, unknown.out) == (1, "")
    assert unknown.sentence == f"arcadia: there is no tenant 'acne'; the tenants' file declares: {ACME}, {REST}"
    assert arcadia("keys", "add", "x", **variables).code == 2

    revoked = arcadia("keys", "revoke", 1, **variables)
    assert (revoked.code, revoked.out) == (0, "Key 1 (theirs) is revoked.\n")
    listed = arcadia("keys", "list", **variables).out
    assert secret[8:] not in listed
    first, second = [line for line in listed.splitlines() if re.match(" *[12] ", line)]
    assert re.fullmatch(rf" *1 +theirs +of tenant {ACME} +20\S+ \d\d:\d\d +20\S+ \d\d:\d\d *", first)
    assert re.fullmatch(r" *2 +our \[dashboards\] +an admin's +20\S+ \d\d:\d\d *", second)


@contextmanager
def started(**variables):
    """`arcadia serve` in a process of its own, and its base address once it answers."""
    port = free_port()
    process, base = start("serve", "--port", port, **variables), f"http://127.0.0.1:{port}/api/v1"
    try:

        def answers():
            assert process.poll() is None, process.communicate()
            try:
                return httpx.get(f"{base}/health").is_success
            except httpx.TransportError:
                return False

        wait_for(answers)
        yield process, base
    finally:
        process.kill()


def test_serving_on_the_embedded_database(server_folder):
    key = arcadia("keys", "add", "me", "--admin").out.strip()
    with started() as (process, base):
        reply = httpx.get(f"{base}/inventory", headers={"Authorization": f"Bearer {key}"})
        assert reply.json() == {"items": [], "next": None}
        process.send_signal(signal.SIGTERM)
        done = end(process)
    assert done.code == 0
    assert done.out == f"Read API: {base}, described in {base}/openapi.json (Ctrl-C stops it)\n"
    assert re.fullmatch(r'(\S+ \S+ INFO 127\.0\.0\.1:\d+ - "GET /api/v1/(health|inventory) HTTP/1\.1" 200\n)+', done.err)
    wait_for(lambda: processes_of(server_folder) == {})


def test_a_request_under_way_is_answered_before_the_server_stops(engine, database_url):
    headers, replies = {"Authorization": f"Bearer {add_key(engine, 'x', tenant_id=None)[1]}"}, []
    waiting = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
    with started(ARCADIA_DATABASE_URL=database_url) as (process, base):
        asking = threading.Thread(target=lambda: replies.append(httpx.get(f"{base}/inventory", headers=headers, timeout=60)))
        with engine.begin() as conn, engine.connect() as other:
            conn.execute(text("lock table arcadia.resources in access exclusive mode"))
            asking.start()
            wait_for(lambda: (other.rollback(), other.scalar(text(waiting)))[1])
            process.send_signal(signal.SIGINT)
        asking.join()
        assert replies[0].json() == {"items": [], "next": None}
        assert end(process).code == 0


def test_only_the_owner_of_the_ledger_can_serve_it(engine, database_url):
    role = f"reader_{make_url(database_url).database[-12:]}"
    conftest._execute(make_url(database_url), f"create role {role} login", f"grant usage on schema arcadia to {role}",
                      f"grant select on all tables in schema arcadia to {role}")  # fmt: skip
    try:
        reader = make_url(database_url).update_query_dict({"options": f"-crole={role}"}).render_as_string(hide_password=False)
        done = arcadia("serve", "--port", 0, ARCADIA_DATABASE_URL=reader)
        assert done.code == 1
        assert done.sentence.startswith(f"arcadia: the database's user {role} does not own the schema arcadia; ")
    finally:
        conftest._execute(make_url(database_url), f"drop owned by {role}", f"drop role {role}")


def test_a_port_in_use_is_one_sentence(server_folder):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = arcadia("serve", "--port", port)
    assert done.code == 1
    assert done.sentence == f"arcadia: 127.0.0.1:{port} cannot be served on (Address already in use); choose another with --port"
    assert not server_folder.exists()
