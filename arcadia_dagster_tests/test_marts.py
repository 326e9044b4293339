"""The analysts' views: to the cent what the invoices bill, no waste that is none, and every column explained."""

import re
import uuid
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from arcadia_dagster.demo import items
from arcadia_dagster.demo.showcase import showcase_account
from arcadia_dagster.digitalocean.kinds import KINDS, Resource
from arcadia_dagster.ledger import billing
from arcadia_dagster.ledger.attribution import attribute
from arcadia_dagster.ledger.matching import rematch
from arcadia_dagster_tests.books import APRIL, Books, as_json, droplet, item
from arcadia_dagster_tests.test_dagster import Location

MARCH, MAY = date(2026, 3, 1), date(2026, 5, 1)
WHEN = "2025-01-01T00:00:00Z"
EXACT = ("cost_by_project", "cost_by_tenant", "cost_by_kind", "cost_by_resource", "match_rate")
CLOSED = "account_id = :a and status <> 'preview'"
README = (Path(__file__).parent.parent / "README.md").read_text()

TAX, CREDIT = item("GST (18%)", "Taxes", "0.18"), item("Inference Cloud Trial", "Credits", "-5.00")
SPACES = item("Spaces ($5/mo 250GiB storage & 1TiB transfer)", "Spaces Subscription", "5.00")
UNKNOWN = item("qubits (q-1)", "Quantum Computers", "0.07")


@pytest.fixture
def books(engine):
    return Books(engine)


def put(books, kind, *things):
    """A complete listing of these items, as the provider shows them."""
    books.inventory(kind, *(KINDS[kind].read(thing) for thing in things))


def settle(books, **tenants):
    """Projects of these names and tenants; a resource's `own_project_id` is the name of its project."""
    books.inventory("project", *(Resource(provider_id=name, name=name) for name in tenants))
    with books.engine.begin() as conn:
        for name, tenant in tenants.items():
            conn.execute(text("update arcadia.cloud_projects set tenant_id = :t where name = :n"), {"t": tenant, "n": name})
    attribute(books.engine, books.id, internal_project=None)


def preview(books, *lines):
    total = sum(Decimal(line["amount"]) for line in lines)
    billing.ingest_preview(
        books.engine,
        books.id,
        billing.Preview(period=MAY, amount=total, covers_until=datetime(2026, 5, 12, tzinfo=UTC)),
        as_json(*lines),
    )


def totals(books, view):
    """Of each month: the view's dollars."""
    return dict(books.rows(f"select period, sum(amount_usd) from arcadia.{view} where account_id = :a group by 1"))


# Costs


def test_each_mart_adds_up_to_the_invoices_of_each_month_and_account(books):
    accounts = ((books, "1.10"), (Books(books.engine, "team-2"), "7.77"))
    for one, dollars in accounts:
        settle(one, web="acme")
        one.gone("volume", Resource(provider_id="v", name="old"), at="2026-04-20")
        one.inventory("droplet", droplet(1, "web", own_project_id="web", tags=("a", "b")), droplet(2, "twin"), droplet(3, "twin"))
        attribute(one.engine, one.id, internal_project=None)
        one.invoice(item("web (s)", amount=dollars, rid=1), item("old (nyc1) 1GB", "Volumes", "0.33", uuid="v", end="2026-04-19"), TAX)
        one.invoice(item("ghost (s)", amount="2.22", rid=999), item("twin (s)", amount="3.33"), CREDIT, SPACES, UNKNOWN)
        one.invoice(item("web (s)", amount="0.01", rid=1, start="2026-03-01", end="2026-04-01"), TAX, period=MARCH)
        preview(one, item("web (s)", amount="100.00", rid=1, start="2026-05-01", end="2026-05-12"))
    for one, dollars in accounts:
        billed = dict(one.rows(f"select period, sum(amount) from arcadia.cloud_invoices where {CLOSED} group by 1"))
        assert billed == {APRIL: Decimal("6.13") + Decimal(dollars), MARCH: Decimal("0.19")}
        for view in EXACT:
            assert totals(one, view) == billed, view
        states = one.rows("select state, sum(amount_usd) from arcadia.cost_by_resource where account_id = :a and period = '2026-04-01'"
                          " and state <> 'active' group by 1 order by 1")  # fmt: skip
        assert states == [("billing_only", Decimal("2.22")), ("deleted", Decimal("0.33"))]
    assert books.rows("select count(*) from arcadia.match_rate where status = 'preview'") == [(0,)]


LINES = st.builds(
    lambda line, cents: line | {"amount": f"{Decimal(cents) / 100:.2f}"},
    st.sampled_from([
        item("web (s)", rid=1), item("web (s)"), item("twin (s)"), item("nobody (s)"), item("ghost (s)", rid=99),
        TAX, CREDIT, SPACES, UNKNOWN,
        item("part", "Database Clusters", group="db", uuid="db"), item("web (Weekly Backup Services)", "Droplet Backups", rid=1),
        item("elsewhere (s)", project="data"),
    ]),
    st.integers(-10_000, 10_000_000),
)  # fmt: skip


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from([MARCH, APRIL]), st.lists(LINES, min_size=1, max_size=6)), min_size=1, max_size=3))
def test_whatever_is_billed_adds_up(engine, invoices):
    books = Books(engine, str(uuid.uuid4()))
    books.inventory("droplet", droplet(1, "web", tags=("a", "b")), droplet(2, "twin"), droplet(3, "twin", tags=("b",)))
    billed = {}
    for period, lines in invoices:
        books.invoice(*lines, period=period)
        billed[period] = billed.get(period, 0) + sum(Decimal(line["amount"]) for line in lines)
    for view in EXACT:
        assert totals(books, view) == billed, view


def test_what_has_no_resource_has_rows_of_its_own(books):
    books.inventory("droplet", droplet(1, "web", own_project_id="shop"))
    settle(books, shop="acme")
    books.invoice(item("web (s)", amount="1.10", rid=1), item("new (s)", amount="0.40", project="shop"), TAX, CREDIT, SPACES, UNKNOWN)
    april = "where account_id = :a and period = '2026-04-01' order by amount_usd"
    assert books.rows(f"select project, charge, lines, amount_usd from arcadia.cost_by_project {april}") == [
        (None, "credit", 1, Decimal("-5.00")), (None, "usage", 1, Decimal("0.07")), (None, "tax", 1, Decimal("0.18")),
        ("shop", "usage", 2, Decimal("1.50")), (None, "account_level", 1, Decimal("5.00")),
    ]  # fmt: skip
    assert books.rows(f"select tenant_id, charge, amount_usd from arcadia.cost_by_tenant {april}") == [
        (None, "credit", Decimal("-5.00")), (None, "tax", Decimal("0.18")), (None, "usage", Decimal("0.47")),
        ("acme", "usage", Decimal("1.10")), (None, "account_level", Decimal("5.00")),
    ]  # fmt: skip
    assert books.rows(f"select kind, charge, amount_usd from arcadia.cost_by_kind {april}") == [
        ("credit", "credit", Decimal("-5.00")), (None, "usage", Decimal("0.07")), ("tax", "tax", Decimal("0.18")),
        ("droplet", "usage", Decimal("1.50")), ("account", "account_level", Decimal("5.00")),
    ]  # fmt: skip
    assert books.rows(f"select kind, provider_id, name, state, project, tenant_id, amount_usd from arcadia.cost_by_resource {april}") == [
        ("credit", None, None, None, None, None, Decimal("-5.00")), (None, None, None, None, None, None, Decimal("0.07")),
        ("tax", None, None, None, None, None, Decimal("0.18")), ("droplet", None, None, None, "shop", None, Decimal("0.40")),
        ("droplet", "1", "web", "active", "shop", "acme", Decimal("1.10")),
        ("account", None, None, None, None, None, Decimal("5.00")),
    ]  # fmt: skip


def test_a_line_counts_under_each_tag_of_its_resource(books):
    books.inventory("droplet", droplet(1, "web", tags=("a", "b")), droplet(2, "db", tags=("b",)), droplet(3, "plain"))
    books.invoice(item("web (s)", amount="1.00", rid=1), item("db (s)", amount="0.20", rid=2), item("plain (s)", amount="0.03", rid=3), TAX)
    assert books.rows("select tag, charge, lines, amount_usd from arcadia.cost_by_tag where account_id = :a order by tag, charge") == [
        ("a", "usage", 1, Decimal("1.00")), ("b", "usage", 2, Decimal("1.20")), (None, "tax", 1, Decimal("0.18")),
        (None, "usage", 1, Decimal("0.03")),
    ]  # fmt: skip


def test_accounts_of_one_name_stay_apart(engine):
    one, other = Books(engine, "team-1"), Books(engine, "team-2")
    with engine.begin() as conn:
        conn.execute(text("update arcadia.cloud_accounts set name = 'same'"))
    for books, dollars in ((one, "1.00"), (other, "2.00")):
        books.inventory("droplet", droplet(1, "web", tags=("t",)))
        books.invoice(item("web (s)", amount=dollars, rid=1))
    for view in (*EXACT, "cost_by_tag"):
        assert sorted(one.rows(f"select account, amount_usd from arcadia.{view}")) == [("same", Decimal("1.00")), ("same", Decimal("2.00"))]


# Matches


def test_unexplained_lines_say_why_and_who_might_it_be(books):
    books.inventory("droplet", droplet(1, "twin"), droplet(2, "twin"), droplet(3, "web"))
    twins, nobody = item("twin (s)", amount="6.00"), item("nobody (s)", amount="0.50")
    books.invoice(item("web (s)", rid=3), twins, nobody, UNKNOWN, TAX, CREDIT, SPACES)
    preview(books, item("nobody (s)", start="2026-05-01", end="2026-05-12"))
    rows = books.rows("select description, match_status, amount_usd, candidates, reason from arcadia.unexplained_lines order by ordinal")
    assert [tuple(row)[:4] for row in rows] == [
        ("twin (s)", "ambiguous", Decimal("6.00"), ["twin (1)", "twin (2)"]),
        ("nobody (s)", "unmatched", Decimal("0.50"), None),
        ("qubits (q-1)", "unmatched", Decimal("0.07"), None),
    ]
    assert all(row.reason for row in rows)


def test_the_match_rate_counts_what_asks_for_a_resource(books):
    books.inventory("droplet", droplet(1, "web"), droplet(2, "twin"), droplet(3, "twin"))
    books.invoice(
        item("web (s)", amount="-3.00", rid=1), item("twin (s)"), UNKNOWN | {"amount": "1.00"}, TAX, SPACES, uuid="u", amount="9.99"
    )
    books.invoice(TAX, uuid="tax")
    books.record(billing.InvoiceHeader(invoice_uuid="new", invoice_id="3", period=MAY, amount=Decimal(1)))
    columns = (
        "lines, matched_lines, unexplained_lines, line_rate, matched_usd, unexplained_usd, usd_rate, invoice_usd, residual_usd, status"
    )
    assert books.rows(f"select {columns} from arcadia.match_rate order by invoice_uuid") == [
        (0, 0, 0, None, 0, 0, None, 1, None, "pending"),
        (1, 0, 0, None, 0, 0, None, Decimal("0.18"), 0, "ingested"),
        (5, 1, 2, Decimal("0.3333"), -3, 2, Decimal("0.6"), Decimal("9.99"), Decimal("5.81"), "ingested"),
    ]


def test_a_rate_of_one_means_all(books):
    books.inventory("droplet", droplet(1, "web"))
    books.invoice(item("web (s)", amount="1000000.00", rid=1), item("nobody (s)", amount="0.01"))
    assert books.rows("select usd_rate from arcadia.match_rate") == [(Decimal("0.9999"),)]


# The timeline


def test_a_resource_has_its_whole_life_in_one_relation(books):
    web = items.droplet(1, "web", created_at=WHEN, size_slug="s-1vcpu-1gb")
    put(books, "droplet", web)
    put(books, "droplet", items.droplet(1, "web", created_at=WHEN, size_slug="s-2vcpu-4gb"))
    books.invoice(item("web (s)", amount="6.00", rid=1), item("web (Weekly Backup Services)", "Droplet Backups", "0.30", rid=1), TAX)
    preview(books, item("web (s)", rid=1, start="2026-05-01", end="2026-05-12"))
    rows = books.rows("select * from arcadia.resource_timeline where resource_id = (select resource_id from arcadia.cloud_resources)")
    assert [row.at for row in rows] == sorted(row.at for row in rows)
    told = {row.what: (row.detail, row.amount_usd) for row in rows}
    assert told.keys() == {"created", "discovered", "drift_detected", "price_changed", "billed"}
    assert told["billed"] == ("invoice 1 for 2026-04: Droplet Backups, Droplets (2 lines)", Decimal("6.30"))
    assert told["price_changed"] == ("list price a month: 6 USD → 24 USD", None)
    assert "size_slug: s-1vcpu-1gb → s-2vcpu-4gb" in told["drift_detected"][0]
    assert "monthly_price" not in told["drift_detected"][0]
    assert next(row.at for row in rows if row.what == "billed") == datetime(2026, 5, 1, tzinfo=UTC)


def test_a_price_alone_is_told_once(books):
    put(books, "addon", items.addon("x", "logs"))
    put(books, "addon", items.addon("x", "logs") | {"plan_price_per_month": 25})
    assert [row.what for row in books.rows("select what from arcadia.resource_timeline")] == ["discovered", "price_changed"]


def test_changed_matches_are_told_to_the_one_that_lost_and_the_one_that_gained(books):
    books.inventory("droplet", droplet(1, "web"))
    line = item("web (s)", amount="6.00")
    books.invoice(line, uuid="u")
    books.inventory("droplet", droplet(1, "web"), droplet(2, "web"))
    rematch(books.engine, books.id)
    query = (
        "select provider_id, what, detail from arcadia.resource_timeline join arcadia.cloud_resources using (resource_id)"
        " where what like 'line%'"
    )
    text_of = "line 1 of invoice 1 (web (s), 6.00 USD)"
    assert books.rows(query) == [("1", "line_lost", f"{text_of} is ambiguous now")]
    books.ingest("u", [line | {"resource_id": "2"}])
    assert books.rows(f"{query} order by 1, what") == [
        ("1", "line_lost", f"{text_of} is ambiguous now"), ("2", "line_gained", f"{text_of} was ambiguous before"),
    ]  # fmt: skip
    books.ingest("u", [line | {"resource_id": "1"}])
    moved = books.rows(f"{query} and detail like '%another%' order by 1")
    assert moved == [
        ("1", "line_gained", f"{text_of} was matched to another resource before"),
        ("2", "line_lost", f"{text_of} is matched to another resource now"),
    ]


# What runs, and what for


def test_the_running_cost_is_list_price_where_one_is_known(books):
    put(Books(books.engine, "team-2"), "registry", items.registry("theirs", created_at=WHEN))
    put(books, "droplet", items.droplet(1, "web", created_at=WHEN, size_slug="s-2vcpu-4gb"))
    books.gone("app", Resource(provider_id="a", name="gone", monthly_price=Decimal(5)))
    put(books, "volume", items.volume("v", "data", created_at=WHEN, size_gigabytes=15))
    put(
        books,
        "snapshot",
        *(items.snapshot(n, str(n), resource_id=1, created_at=WHEN, size_gigabytes=size) for n, size in ((1, 10.15), (2, 0.02))),
    )
    put(books, "reserved_ip", items.reserved_ip("1.1.1.1", project_id="p"))
    put(books, "registry", items.registry("first", created_at=WHEN), items.registry("second", created_at=WHEN))
    put(books, "managed_db", items.database("db", "db", created_at=WHEN, project_id="p"))
    put(books, "ssh_key", items.ssh_key(1, "free"))
    books.inventory("snapshot_of_tomorrow", Resource(provider_id="s", name="x", attrs='{"size_gigabytes":"many"}'))
    query = "select kind, name, estimated_monthly_usd from arcadia.running_cost where account_id = :a order by kind, resource_id"
    assert books.rows(query) == [
        ("droplet", "web", 24), ("managed_db", "db", None), ("registry", "first", 5), ("registry", "second", 0),
        ("reserved_ip", "1.1.1.1", 5), ("snapshot", "1", Decimal("0.61")), ("snapshot", "2", Decimal("0.01")),
        ("snapshot_of_tomorrow", "x", None), ("volume", "data", Decimal("1.50")),
    ]  # fmt: skip


def wasted(books):
    return {(row.kind, row.name): row for row in books.rows("select * from arcadia.waste where account_id = :a")}


def test_an_unattached_volume_is_waste(books):
    def volume(name, *droplets):
        return KINDS["volume"].read(items.volume(name, name, created_at=WHEN, size_gigabytes=10, droplet_ids=droplets))

    books.inventory("volume", volume("used", 1), volume("idle"), Resource(provider_id="x", name="only its URN is known"))
    (row,) = wasted(books).values()
    assert (row.name, row.reason, row.monthly_usd, row.cost_basis, row.billed_period) == ("idle", "unattached_volume", 1, "estimated", None)


def test_an_unassigned_reserved_ip_is_waste(books):
    web = items.droplet(1, "web", created_at=WHEN)
    put(books, "reserved_ip", items.reserved_ip("1.1.1.1", project_id="p"), items.reserved_ip("2.2.2.2", droplet=web, project_id="p"))
    put(books, "reserved_ipv6", items.reserved_ipv6("2604::1", reserved_at=WHEN))
    (row,) = wasted(books).values()
    assert (row.name, row.reason, row.monthly_usd, row.cost_basis) == ("1.1.1.1", "unassigned_reserved_ip", 5, "estimated")


def test_a_powered_off_droplet_is_waste_and_a_node_is_billed_with_its_cluster(books):
    off = {"status": "off"}
    node_tag = f"k8s:{uuid.uuid4()}"
    put(books, "droplet",
        items.droplet(1, "on", created_at=WHEN), items.droplet(2, "off", created_at=WHEN) | off,
        items.droplet(3, "node", created_at=WHEN, tags=(node_tag,)) | off)  # fmt: skip
    (row,) = wasted(books).values()
    assert (row.name, row.reason, row.monthly_usd, row.cost_basis) == ("off", "powered_off_droplet", 6, "estimated")


def test_a_load_balancer_without_targets_is_waste(books):
    Books(books.engine, "team-2").inventory("droplet", droplet(2, "theirs", tags=("nobody",)))

    def balancer(name, *droplets, **fields):
        return items.load_balancer(name, name, created_at=WHEN, droplet_ids=droplets, project_id="p") | fields

    put(books, "droplet", items.droplet(1, "web", created_at=WHEN, tags=("web",)))
    put(books, "load_balancer", balancer("busy", 1), balancer("tagged", tag="web"), balancer("global", type="GLOBAL"),
        balancer("idle", type="REGIONAL"), balancer("stale", tag="nobody"))  # fmt: skip
    assert {(row.name, row.reason, row.monthly_usd, row.cost_basis) for row in wasted(books).values()} == {
        ("idle", "load_balancer_without_targets", None, None), ("stale", "load_balancer_without_targets", None, None),
    }  # fmt: skip


def test_snapshots_and_backups_of_what_is_gone_are_waste(books):
    books.gone("droplet", droplet(1, "gone"))
    Books(books.engine, "team-2").inventory("droplet", droplet(1, "theirs"))
    put(books, "snapshot", *(
        items.snapshot(number, of, resource_id=parent, resource_type=kind, created_at=WHEN, size_gigabytes=10)
        for number, of, parent, kind in (
            (1, "of gone", 1, "droplet"), (2, "of alive", 2, "droplet"), (3, "of nobody", 3, "droplet"), (4, "not listed", "v", "volume"),
        )
    ))  # fmt: skip
    put(books, "droplet_backup", *(
        items.backup(number, of, created_at=WHEN, size_gigabytes=9) | {"droplet_id": parent}
        for number, of, parent in ((1, "of gone", 1), (2, "of alive", 2))
    ))  # fmt: skip
    books.inventory("droplet", droplet(2, "alive"))
    found = {(row.kind, row.name, row.reason, row.monthly_usd) for row in wasted(books).values()}
    assert found == {
        ("snapshot", "of gone", "snapshot_of_what_is_gone", Decimal("0.60")),
        ("snapshot", "of nobody", "snapshot_of_what_is_gone", Decimal("0.60")),
        ("droplet_backup", "of gone", "backup_of_what_is_gone", None),
    }
    put(books, "droplet", items.droplet(3, "nobody", created_at=WHEN))  # 2 is missing, for the first time: it may yet be there
    assert ("snapshot", "of alive") not in wasted(books)


def test_a_snapshot_of_what_no_listing_could_have_shown_yet_is_no_waste(books):
    books.inventory("droplet", droplet(1, "other"))
    put(books, "snapshot", items.snapshot(1, "fresh", resource_id=2, created_at="2100-01-01T00:00:00Z", size_gigabytes=10))
    assert wasted(books) == {}


def test_waste_costs_what_the_newest_invoices_bill(books):
    put(books, "volume", *(items.volume(name, name, created_at=WHEN, size_gigabytes=10) for name in ("billed", "before")))
    march = {"start": "2026-03-01", "end": "2026-04-01"}
    books.invoice(item("before (nyc1) 10GB", "Volumes", "0.70", uuid="before", **march), period=MARCH)
    books.invoice(item("billed (nyc1) 10GB", "Volumes", "0.40", uuid="billed", end="2026-04-10"), TAX)
    books.invoice(item("billed (nyc1) 10GB", "Volumes", "0.20", uuid="billed", start="2026-04-10"))
    preview(books, item("billed (nyc1) 10GB", "Volumes", "9.00", uuid="billed", start="2026-05-01", end="2026-05-12"))
    Books(books.engine, "team-2").invoice(TAX, period=MAY)
    books.record(billing.InvoiceHeader(invoice_uuid="new", invoice_id="3", period=MAY, amount=Decimal(1)))  # not read yet
    rows = wasted(books)
    assert [(row.monthly_usd, row.cost_basis, row.billed_period) for _, row in sorted(rows.items())] == [
        (1, "estimated", None), (Decimal("0.60"), "billed", APRIL),
    ]  # fmt: skip


def test_what_is_gone_is_no_waste_and_does_not_run(books):
    volume = KINDS["volume"].read(items.volume("v", "v", created_at=WHEN, size_gigabytes=10))
    books.gone("volume", volume)
    books.invoice(item("ghost (nyc1) 10GB", "Volumes", "1.00", uuid="ghost"))
    assert wasted(books) == {}
    assert books.rows("select * from arcadia.running_cost") == []


# A whole account


def test_the_showcase_adds_up_and_its_waste_is_found(engine, monkeypatch):
    location = Location(engine, monkeypatch, showcase_account())
    try:
        location.run("sync_inventory", "sync_snapshots", "discover_invoices")
        assert all(result.success for result in location.ingest())
    finally:
        location.server.stop()
    invoiced = dict(location.rows("select period, sum(amount) from arcadia.cloud_invoices where status <> 'preview' group by 1"))
    assert len(invoiced) == 4
    for view in EXACT:
        assert dict(location.rows(f"select period, sum(amount_usd) from arcadia.{view} group by 1")) == invoiced, view
    assert location.rows("select name, reason, cost_basis, monthly_usd from arcadia.waste order by 1") == [
        ("45.55.96.60", "unassigned_reserved_ip", "billed", Decimal("5.00")),
    ]  # fmt: skip
    assert location.rows("select description from arcadia.unexplained_lines where period = '2026-04-01'") == [("qubits (q-1)",)]


# What people read


def test_every_view_and_every_column_of_one_is_explained(engine):
    with engine.connect() as conn:
        views = conn.execute(
            text(
                "select relname, obj_description(oid), array(select attname::text from pg_attribute where attrelid = c.oid and attnum > 0"
                " and coalesce(col_description(c.oid, attnum), '') = '') from pg_class c"
                " where relnamespace = 'arcadia'::regnamespace and relkind = 'v'"
            )
        ).all()
    assert views
    assert [view for view in views if not view[1] or view[2]] == []


def test_every_column_that_is_explained_for_many_views_is_in_one(engine):
    shared = (Path(billing.__file__).parent / "views" / "99_shared_columns.sql").read_text()
    with engine.connect() as conn:
        columns = set(conn.execute(text("select column_name from information_schema.columns where table_schema = 'arcadia'")).scalars())
    assert set(re.findall(r"^ +\('(\w+)', '", shared, re.MULTILINE)) <= columns


QUERIES = [
    query for block in re.findall(r"^```sql\n(.*?)^```", README, re.MULTILINE | re.DOTALL) for query in block.split(";") if query.strip()
]
MARTS = re.findall(r"^\| `(\w+)` \| .* \| `(select .*)` \|$", README, re.MULTILINE)


@pytest.mark.parametrize("query", [*QUERIES, *(query for _, query in MARTS)])
def test_every_query_of_the_readme_runs(books, query):
    books.inventory("droplet", droplet(1, "web-01", tags=("t",)), droplet(2, "web-01"))
    books.invoice(item("web-01 (s)", rid=1), item("web-01 (s)"), TAX)
    with books.engine.begin() as conn:
        conn.execute(text(query))


def test_every_mart_is_in_the_readme_and_its_query_asks_it():
    files = (Path(billing.__file__).parent / "views").glob("5*.sql")
    marts = {name for file in files for name in re.findall(r"create view arcadia\.(\w+)", file.read_text())}
    assert marts | {"matched_cost_lines"} == {name for name, _ in MARTS}
    assert all(f"arcadia.{name} " in query for name, query in MARTS)
