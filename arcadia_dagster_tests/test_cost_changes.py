"""What changed between two months and why: each cause is told from the others, and together they are the difference to the cent."""

import uuid
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from arcadia_dagster.digitalocean.kinds import Resource
from arcadia_dagster.ledger import billing
from arcadia_dagster_tests.books import APRIL, Books, as_json, droplet, item
from arcadia_dagster_tests.test_marts import CREDIT, LINES, SPACES, TAX, UNKNOWN

JANUARY, MARCH, MAY = date(2026, 1, 1), date(2026, 3, 1), date(2026, 5, 1)
WEB = droplet(1, "web", created="2026-04-03")
WHOLE_APRIL = {"start_time": "2026-04-01T00:00:00Z", "end_time": "2026-05-01T00:00:00Z"}
WHOLE_MARCH = {"start_time": "2026-03-01T00:00:00Z", "end_time": "2026-04-01T00:00:00Z"}


@pytest.fixture
def books(engine):
    books = Books(engine)
    books.inventory("droplet", WEB)
    return books


def line(hours="720", amount="6.00", description="web (s-1vcpu-1gb)", **fields):
    return item(description, amount=amount, **{"rid": 1, **fields}) | {"duration": hours}


def backup(number, amount):
    return line(str(number), amount, "web (Weekly Backup Services)", product="Droplet Backups")


def part(name, amount="5.00"):
    return item(name, "App Platform", amount, uuid="app", group="shop")


def changes(books, period=APRIL):
    rows = books.rows("select * from arcadia.cost_changes where account_id = :a order by period, abs(difference_usd) desc, name")
    return [row for row in rows if row.period == period]


def change(books, before, now):
    """(change, detail) of the one thing that changed from the lines of March to those of April."""
    if before:
        books.invoice(*(one | WHOLE_MARCH if one.items() >= WHOLE_APRIL.items() else one for one in before), period=MARCH)
    else:
        books.invoice(TAX, period=MARCH)
        now = [*now, TAX]
    books.invoice(*now) if now else books.invoice(TAX)
    (row,) = (row for row in changes(books) if row.change != "tax")
    assert row.previous_period == MARCH
    assert row.difference_usd == row.amount_usd - row.previous_usd
    return row.change, row.detail


CASES = [
    ([], [line()], ("new", "not billed in 2026-03, created 2026-04-03")),
    ([line(start="2026-03-01", end="2026-03-19")], [], ("gone", "billed until 2026-03-18, still exists, at no charge")),
    (
        [line()],
        [line("300", "3.00"), line("420", "7.00", "web (s-2vcpu-4gb)")],
        ("resized", "s-1vcpu-1gb → s-1vcpu-1gb, s-2vcpu-4gb"),
    ),
    ([line("744")], [line("720", "7.00")], ("price", "same size, same time")),
    ([line("672")], [line("744", "7.00")], ("price", "same size, same time")),
    ([line("")], [line("", "7.00")], ("price", "same size, same time")),
    # A GPU has no month's limit: the longer month costs more.
    ([line("720", "2440.80")], [line("744", "2522.16")], ("usage", "720 h → 744 h")),
    ([line("720", "2440.80")], [line("744", "3000.00")], ("price", "same size, same time")),
    ([line("300", "2.68", start="2026-03-19", end="2026-04-01")], [line()], ("usage", "300 h → 720 h, from 2026-03-19")),
    ([line()], [line("300", "2.68", end="2026-04-13")], ("usage", "720 h → 300 h, until 2026-04-13")),
    ([line(), backup(4, "1.20")], [line(), backup(5, "1.50")], ("usage", "4 → 5 backups")),
    ([line()], [line(), backup(1, "0.30")], ("usage", "0 → 1 backups")),
    ([part("web")], [part("web"), part("worker", "1.00")], ("resized", "with worker")),
    ([part("web"), part("job")], [part("web")], ("resized", "without job")),
    ([part("3 nodes")], [part("4 nodes", "9.00")], ("resized", "with 4 nodes, without 3 nodes")),
    ([line(description="web")], [line(amount="7.00")], ("price", "same size, same time")),  # no size before: nothing to compare
    ([SPACES], [SPACES | {"amount": "6.00"}], ("account_level", None)),
    ([CREDIT], [CREDIT | {"amount": "-6.00"}], ("credit", None)),
    ([UNKNOWN], [UNKNOWN | {"amount": "6.00"}], ("unexplained", None)),
]


def test_each_change_has_its_cause(engine):
    found = []
    for number, (before, now, _) in enumerate(CASES):
        books = Books(engine, f"team-{number}")
        books.inventory("droplet", WEB)
        found.append(change(books, before, now))
    assert found == [expected for _, _, expected in CASES]


def test_what_is_gone_says_when_that_was_found(books):
    books.gone("volume", Resource(provider_id="v", name="old"), at="2026-04-20")
    assert change(books, [item("old (nyc1) 1GB", "Volumes", uuid="v")], []) == (
        "gone", "billed until 2026-03-31, found deleted 2026-04-20",
    )  # fmt: skip
    assert changes(books, MARCH)[0].detail == "first month with invoices"


def test_what_was_gone_before_the_first_listing_says_so(books):
    assert change(books, [line(rid=99)], []) == ("gone", "billed until 2026-03-31, gone before the first listing")


def test_taxes_are_a_cause_of_their_own_and_what_costs_the_same_is_left_out(books):
    for period, tax in ((MARCH, "0.18"), (APRIL, "0.20")):
        books.invoice(line(), SPACES, TAX | {"amount": tax}, period=period)
    (row,) = changes(books)
    assert (row.change, row.name, row.kind, row.resource_id, row.difference_usd) == ("tax", "Taxes", "tax", None, Decimal("0.02"))


def test_a_month_is_held_against_the_last_one_that_was_billed(books):
    books.invoice(line(), period=JANUARY)
    books.record(billing.InvoiceHeader(invoice_uuid="unread", invoice_id="9", period=MARCH, amount=Decimal(6)))
    books.invoice(line(amount="7.00"))
    (row,) = changes(books)
    assert (row.previous_period, row.change, row.previous_usd) == (JANUARY, "price", Decimal("6.00"))
    assert changes(books, MARCH) == []


def test_previews_and_other_accounts_are_kept_out(books):
    other = Books(books.engine, "team-2")
    other.invoice(line(amount="100.00"), period=MARCH)
    for period in (MARCH, APRIL):
        books.invoice(line(), period=period)
    preview = billing.Preview(period=MAY, amount=Decimal(9), covers_until=datetime(2026, 5, 12, tzinfo=UTC))
    billing.ingest_preview(books.engine, books.id, preview, as_json(line(amount="9.00")))
    assert changes(books) == changes(books, MAY) == changes(other) == []


def test_a_change_names_project_and_tenant(books):
    books.inventory("project", Resource(provider_id="shop", name="shop"))
    books.inventory("droplet", droplet(1, "web"), droplet(2, "lone"))
    with books.engine.begin() as conn:
        conn.execute(text("update arcadia.cloud_projects set tenant_id = 'acme'"))
        conn.execute(
            text(
                "update arcadia.resources set tenant_id = 'acme', cloud_project_id = (select cloud_project_id from arcadia.cloud_projects)"
                " where provider_id = '1'"
            )
        )
    books.invoice(line(project="old"), item("lone (s)", rid=2, project="old"), period=MARCH)
    books.invoice(line(amount="7.00", project="old"), item("lone (s)", rid=2, amount="3.00", project="new"))
    assert {row.name: (row.project, row.tenant_id) for row in changes(books)} == {"web": ("shop", "acme"), "lone": ("new", None)}


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(LINES, max_size=6), st.lists(LINES, max_size=6), st.lists(LINES, max_size=3))
def test_the_causes_add_up_to_the_difference(engine, before, now, also):
    books = Books(engine, str(uuid.uuid4()))
    books.inventory("droplet", droplet(1, "web"), droplet(2, "twin"), droplet(3, "twin"))
    books.invoice(*before, period=MARCH)
    books.invoice(*now)
    books.invoice(*also)
    for lines, other, period in ((now + also, before, APRIL), (before, [], MARCH)):
        difference = sum(Decimal(one["amount"]) for one in lines) - sum(Decimal(one["amount"]) for one in other)
        rows = changes(books, period)
        assert sum(row.difference_usd for row in rows) == difference
        assert all(row.difference_usd for row in rows)
        assert all((row.resource_id is None) == (row.change in {"account_level", "tax", "credit", "unexplained"}) for row in rows)
