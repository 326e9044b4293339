"""Billing and matching: documents become lines, lines add up, and each pays for one resource or says why not."""

import csv
import hashlib
import io
import json
import os
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from sqlalchemy import text

from arcadia_dagster.digitalocean.documents import write_items
from arcadia_dagster.digitalocean.invoices import InvoiceError
from arcadia_dagster.digitalocean.kinds import Resource
from arcadia_dagster.ledger import billing
from arcadia_dagster.ledger.accounts import AccountError, account_for_import, account_of_team
from arcadia_dagster.ledger.matching import explain, rematch
from arcadia_dagster.ledger.reconcile import begin, reconcile

DATA = Path(__file__).parent / "data" / "invoices"
APRIL = date(2026, 4, 1)


class Books:
    """One account: what exists, and invoices made of a few lines."""

    def __init__(self, engine, team="team-1"):
        self.engine = engine
        self.id = account_of_team(engine, team_uuid=team, name=team)
        self.number = 0

    def inventory(self, kind, *resources):
        return reconcile(self.engine, begin(self.engine, account_id=self.id, kind=kind), resources)

    def gone(self, kind, *resources, at="2026-06-01"):
        """Resources that were listed once, were last seen two days before `at`, and have been tombstoned then."""
        self.inventory(kind, *resources)
        with self.engine.begin() as conn:
            conn.execute(
                text(
                    "update arcadia.resources set deleted_at = cast(:at as timestamptz), stale_strike_count = 3,"
                    " last_seen_at = cast(:at as timestamptz) - interval '2 days'"
                    " where account_id = :a and kind = :k and provider_id = any(:ids)"
                ),
                {"at": f"{at}T00:00:00Z", "a": self.id, "k": kind, "ids": [resource.provider_id for resource in resources]},
            )

    def invoice(self, *items, amount=None, csv=None, uuid=None, **options):
        """Ingest an invoice of these JSON items; by default it is invoiced at what they add up to."""
        self.number += 1
        uuid = uuid or f"{self.id}-invoice-{self.number}"
        total = sum((Decimal(item["amount"]) for item in items), Decimal(0))
        header = billing.InvoiceHeader(invoice_uuid=uuid, invoice_id="1", period=APRIL, amount=total if amount is None else Decimal(amount))
        self.record(header)
        return self.ingest(uuid, items, csv, **options)

    def ingest(self, uuid, items, csv=None, **options):
        """Ingest these documents: JSON items, and the bytes of a CSV; None where there is none."""
        return billing.ingest(
            self.engine, self.id, uuid, items=items and as_json(*items), csv=None if csv is None else io.BytesIO(csv), **options
        )

    def record(self, *headers):
        return billing.record_invoices(self.engine, begin(self.engine, account_id=self.id, kind="invoice"), headers)

    def lines(self):
        return self.rows("select * from arcadia.matched_cost_lines where account_id = :a order by invoice_uuid, ordinal")

    def line(self):
        (line,) = self.lines()
        return line

    def rows(self, query):
        with self.engine.connect() as conn:
            return conn.execute(text(query), {"a": self.id}).all()


@pytest.fixture
def books(engine):
    return Books(engine)


def droplet(provider_id, name, created="2025-01-01", **fields):
    return Resource(provider_id=str(provider_id), name=name, provider_created_at=datetime.fromisoformat(f"{created}T00:00:00Z"), **fields)


def item(description, product="Droplets", amount="1.00", *, rid="", uuid="", group="", start="2026-04-01", end="2026-05-01", project=""):
    return {
        "product": product,
        "resource_id": str(rid),
        "resource_uuid": uuid,
        "group_description": group,
        "description": description,
        "amount": amount,
        "duration": "720",
        "duration_unit": "Hours",
        "start_time": f"{start}T00:00:00Z",
        "end_time": f"{end}T00:00:00Z",
        "project_name": project,
        "category": "iaas",
    }


def as_json(*items):
    document = io.BytesIO()
    write_items(document, items)
    return document


def as_csv(*items):
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(["product", "group_description", "description", "hours", "start", "end", "USD", "project_name", "category"])
    for one in items:
        when = [f"{one[name][:10]} 00:00:00 +0000" for name in ("start_time", "end_time")]
        writer.writerow(
            [one["product"], one["group_description"], one["description"], one["duration"], *when, f"${one['amount']}", "", "iaas"]
        )
    return out.getvalue().encode()


# Matching


def test_an_id_decides_whatever_the_name_says(books):
    books.inventory("droplet", droplet(1, "web"), droplet(2, "old-name"))
    books.invoice(item("web (s-1vcpu-1gb)", rid=2))
    line = books.line()
    assert (line.match_status, line.match_method, line.resource_name, line.resource_state) == ("matched", "id", "old-name", "active")


def test_one_number_in_two_kinds_is_two_things(books):
    books.inventory("droplet", droplet(7, "web"))
    books.inventory("snapshot", droplet(7, "web-1"))
    books.invoice(item("web-1 (fra1) 1.00GB Droplet Snapshot", "Droplet Snapshots", rid=7), item("web (s)", rid=7))
    assert [(line.resource_kind, line.resource_name) for line in books.lines()] == [("snapshot", "web-1"), ("droplet", "web")]


def test_an_id_nobody_has_seen_makes_one_billing_only_resource(books):
    books.invoice(item("ghost (s-1vcpu-1gb)", rid=9, start="2020-01-03", end="2020-01-20"))
    books.invoice(
        item("Ghost (s-1vcpu-1gb)", rid=9, start="2020-02-01", end="2020-02-11"),
        item("ghost (Weekly Backup Services)", "Droplet Backups", rid=9),
    )
    assert {(line.resource_provider_id, line.resource_state, line.match_status) for line in books.lines()} == {
        ("9", "billing_only", "matched")
    }
    (ghost,) = books.rows("select * from arcadia.cloud_resources where account_id = :a")
    assert (ghost.kind, ghost.name) == ("droplet", "ghost")
    assert ghost.provider_created_at == datetime(2020, 1, 3, tzinfo=UTC)
    assert ghost.deleted_at == datetime(2026, 5, 1, tzinfo=UTC)


def test_the_order_in_which_invoices_arrive_does_not_matter(engine):
    months = [
        item("early (s)", rid=9, start="2020-01-03", end="2020-02-01"),
        item("late (s)", rid=9, start="2020-02-01", end="2020-02-11"),
    ]
    found = []
    for team, order in (("forward", months), ("backward", months[::-1])):
        books = Books(engine, team)
        for one in order:
            books.invoice(one)
        found.append(books.rows("select name, provider_created_at, deleted_at from arcadia.cloud_resources where account_id = :a"))
    assert found[0] == found[1]
    assert found[0][0].name == "late"


def test_a_name_matches_whatever_its_case_and_white_space(books):
    books.inventory("droplet", droplet(1, "Mail.Example.org"))
    books.invoice(item("  mail.example.ORG (s-1vcpu-1gb)"))
    assert (books.line().match_method, books.line().resource_provider_id) == ("name", "1")


def test_a_name_borne_before_still_matches(books):
    books.inventory("droplet", droplet(1, "before"))
    books.inventory("droplet", droplet(1, "after"))
    books.invoice(item("before (s-1vcpu-1gb)"))
    assert books.line().resource_name == "after"


def test_a_tombstone_matches_what_it_was_billed_for(books):
    books.gone("droplet", droplet(1, "web"), at="2026-04-20")
    books.invoice(item("web (s-1vcpu-1gb)", end="2026-04-18"))
    assert (books.line().match_status, books.line().resource_state) == ("matched", "deleted")


def test_only_who_lived_in_the_time_of_the_line_is_a_candidate(books):
    books.gone("droplet", droplet(1, "web", created="2026-01-01"), at="2026-04-10")
    books.inventory("droplet", droplet(2, "web", created="2026-04-10"))
    books.invoice(item("web (s-1vcpu-1gb)", end="2026-04-09"), item("web (s-1vcpu-1gb)", start="2026-04-10"))
    assert [line.resource_provider_id for line in books.lines()] == ["1", "2"]


def test_a_name_that_nobody_bore_then_says_so(books):
    books.inventory("droplet", droplet(1, "web", created="2026-05-02"))
    books.invoice(item("web (s-1vcpu-1gb)"))
    assert (books.line().match_status, books.line().reason) == (
        "unmatched",
        "droplet 'web' is known, but did not exist in the time that the line bills",
    )


def test_two_equally_good_candidates_are_ambiguous_and_listed(books):
    books.inventory("droplet", droplet(1, "web"), droplet(2, "WEB"))
    books.invoice(item("web (s-1vcpu-1gb)"))
    line = books.line()
    assert (line.match_status, line.resource_id) == ("ambiguous", None)
    assert line.reason == "2 resources of kind droplet fit 'web' equally well"
    assert [candidate["provider_id"] for candidate in line.match_detail["candidates"]] == ["1", "2"]


def test_size_breaks_a_tie_but_is_never_required(books):
    books.inventory("droplet", droplet(1, "web", attrs={"size_slug": "c-2"}), droplet(2, "web", attrs={"size_slug": "s-1vcpu-1gb"}))
    books.inventory("droplet", droplet(1, "web", attrs={"size_slug": "c-2"}), droplet(2, "web", attrs={"size_slug": "s-1vcpu-1gb"}),
                    droplet(3, "resized", attrs={"size_slug": "c-4"}))  # fmt: skip
    books.invoice(item("web (s-1vcpu-1gb)"), item("resized (s-1vcpu-1gb)"))
    assert [line.resource_provider_id for line in books.lines()] == ["2", "3"]


def test_a_volume_of_that_name_in_another_region_is_not_it(books):
    books.inventory(
        "volume", droplet("v1", "data", region="nyc1"), droplet("v2", "data", region="fra1"), droplet("v3", "logs", region="nyc1")
    )
    books.invoice(item("data (fra1) 100GB", "Volumes"), item("logs (sgp1) 5GB", "Volumes"))
    first, second = books.lines()
    assert first.resource_provider_id == "v2"
    assert (second.match_status, second.reason) == ("unmatched", "volume 'logs' is known, but not in region sgp1")


def listed(books, at, *resources):
    run = begin(books.engine, account_id=books.id, kind="droplet", started_at=datetime.fromisoformat(f"{at}T00:00:00Z"))
    reconcile(books.engine, run, resources)


def test_a_name_matches_who_bore_it_in_the_time_of_the_line(books):
    for at in ("2026-01-05", "2026-02-15"):
        listed(books, at, droplet(1, "web"), droplet(2, "spare"))
    listed(books, "2026-02-20", droplet(1, "web-old"), droplet(2, "web"))
    listed(books, "2026-05-01", droplet(1, "web-old"), droplet(2, "web"))
    books.invoice(
        item("web (s)", start="2026-01-01", end="2026-02-01"),
        item("web (s)", start="2026-03-01", end="2026-04-01"),
        item("web-old (s)", start="2026-03-01", end="2026-04-01"),
        item("web-old (s)", start="2026-01-01", end="2026-02-01"),
    )
    assert [line.resource_provider_id for line in books.lines()] == ["1", "2", "1", None]
    assert books.lines()[3].reason == "droplet 'web-old' is known, but bore another name in the time that the line bills"


@pytest.mark.parametrize("printed", ["before", "after"])
def test_in_the_month_of_a_rename_either_name_may_be_printed(books, printed):
    listed(books, "2026-01-05", droplet(1, "before"))
    listed(books, "2026-04-20", droplet(1, "after"))
    books.invoice(item(f"{printed} (s)"))
    assert books.line().match_status == "matched"


def test_a_resize_is_two_lines_of_one_resource(books):
    books.inventory("droplet", droplet(1, "web"))
    books.invoice(item("web (c-2)", end="2026-04-12"), item("web (c-4)", start="2026-04-12"))
    assert [line.resource_provider_id for line in books.lines()] == ["1", "1"]


def test_a_line_that_stops_while_the_resource_lives_on_pays_for_another_one(books):
    books.inventory("droplet", droplet(1, "web"))
    books.invoice(item("web (s)", end="2026-04-12"))
    assert books.line().match_status == "unmatched"
    assert "billed for another time" in books.line().reason


def test_a_line_that_begins_long_after_the_creation_pays_for_another_one(books):
    books.inventory("droplet", droplet(1, "web"))
    books.invoice(item("web (s)", start="2026-04-12"))
    assert books.line().match_status == "unmatched"


def test_a_resource_is_not_billed_twice_for_the_same_time(books):
    books.inventory("droplet", droplet(1, "web"))
    books.invoice(item("web (s)"), item("web (s)"))
    assert [line.match_status for line in books.lines()] == ["ambiguous", "ambiguous"]
    assert "one of them pays for another" in books.lines()[0].reason


def test_of_two_lines_for_the_same_time_the_size_decides(books):
    books.inventory("droplet", droplet(1, "web", attrs={"size_slug": "c-2"}))
    books.invoice(item("web (c-2)"), item("web (c-4)"))
    assert [line.match_status for line in books.lines()] == ["matched", "ambiguous"]


def test_a_backup_is_in_doubt_where_its_droplets_line_is(books):
    books.inventory("droplet", droplet(1, "web"))
    backup = item("web (Weekly Backup Services)", "Droplet Backups", start="2026-04-08", end="2026-04-08")
    books.invoice(item("web (s)"), item("web (s)"), backup)
    assert books.lines()[2].match_status == "ambiguous"


def test_an_explanation_says_what_spoke_for_and_against_each_candidate(books):
    books.inventory("droplet", droplet(1, "web"), droplet(2, "web", created="2026-04-20"))
    books.invoice(item("web (s)"))
    with books.engine.connect() as conn:
        explanation = explain(conn, books.line().line_id)
        assert explain(conn, -1) is None
    one, two = explanation.considered
    assert (one["provider_id"], one["speaks_against"]) == ("1", [])
    assert (two["provider_id"], two["speaks_against"]) == ("2", ["was created after the line begins"])


def test_a_backup_line_pays_for_its_parent_droplet(books):
    books.inventory("droplet", droplet(1, "git.example.org"))
    books.invoice(item("git.example.org (Weekly Backup Services)", "Droplet Backups", start="2026-04-05", end="2026-04-05"))
    assert (books.line().resource_kind, books.line().match_method) == ("droplet", "parent")


def test_grouped_lines_match_by_their_group(books):
    books.inventory("k8s_cluster", droplet("k-1", "prod"))
    books.invoice(item("3 nodes - 4 GB / 2 vCPU / 80 GB SSD", "Kubernetes Clusters", group="prod"))
    assert (books.line().resource_kind, books.line().match_method, books.line().resource_name) == ("k8s_cluster", "group", "prod")


def test_the_ip_in_the_text_is_the_id_of_a_reserved_ip(books):
    books.inventory("reserved_ip", droplet("192.0.2.10", "192.0.2.10"))
    books.invoice(item("Unused Floating IP - 192.0.2.10", "Floating IPs"), item("Unused Floating IP - 192.0.2.99", "Floating IPs"))
    assert [(line.match_method, line.resource_provider_id, line.resource_state) for line in books.lines()] == [
        ("ip", "192.0.2.10", "active"),
        ("ip", "192.0.2.99", "billing_only"),
    ]


def test_account_tax_credit_and_unknown_lines_say_what_they_are(books):
    books.invoice(
        item("Spaces ($5/mo 250GiB storage & 1TiB bandwidth)", "Spaces Subscription", "5.00"),
        item("GST (18.00%)", "Taxes", "0.90"),
        item("Inference Cloud Trial", "Credits", "-5.00"),
        item("2 qubits", "Quantum Computers", "3.00"),
    )
    assert [line.match_status for line in books.lines()] == ["account_level", "tax", "credit", "unmatched"]
    assert all(line.reason for line in books.lines())
    assert "Quantum Computers" in books.lines()[3].reason


def test_another_accounts_resource_never_matches(engine, books):
    Books(engine, "team-2").inventory("droplet", droplet(1, "web"))
    books.invoice(item("web (s-1vcpu-1gb)"))
    assert books.line().match_status == "unmatched"


def test_two_identical_lines_are_two_lines(books):
    books.invoice(item("web (s)", rid=1), item("web (s)", rid=1))
    assert [line.ordinal for line in books.lines()] == [1, 2]


def test_lines_without_a_match_are_tried_again_when_inventory_learns_more(books):
    books.invoice(item("web (s-1vcpu-1gb)"), item("other (s-1vcpu-1gb)", rid=5))
    assert rematch(books.engine, books.id) == 0
    books.inventory("droplet", droplet(1, "web"), droplet(2, "other"))
    assert rematch(books.engine, books.id) == 1
    assert [line.resource_provider_id for line in books.lines()] == ["1", "5"]  # what the id decided stays
    assert rematch(books.engine, books.id) == 0


def test_what_the_ledger_says_does_not_depend_on_which_twin_was_known_first(engine):
    outcomes = []
    for team, parts in (("together", [["1", "2"]]), ("apart", [["1"], ["1", "2"]])):
        books = Books(engine, team)
        books.inventory("droplet", *[droplet(number, "web") for number in parts[0]])
        books.invoice(item("web (s-1vcpu-1gb)"))
        for numbers in parts[1:]:
            books.inventory("droplet", *[droplet(number, "web") for number in numbers])
            rematch(engine, books.id)
        outcomes.append(books.line().match_status)
    assert outcomes == ["ambiguous", "ambiguous"]


# Invoices


def test_lines_add_up_to_the_invoice_or_the_rest_is_shown(books):
    result = books.invoice(item("a (s)", amount="0.10"), item("b (s)", amount="0.20"), amount="0.31")
    assert (result.line_total, result.residual) == (Decimal("0.30"), Decimal("0.01"))
    assert books.rows("select status, residual from arcadia.cloud_invoices where account_id = :a") == [("ingested", Decimal("0.01"))]


def test_the_same_documents_again_write_nothing(books):
    lines = [item("web (s)", rid=1), item("GST (18%)", "Taxes")]
    books.invoice(*lines, uuid="u")
    before = books.rows("select line_id, xmin::text from arcadia.cloud_cost_lines where account_id = :a order by 1")
    assert books.invoice(*lines, uuid="u").written is False
    assert books.rows("select line_id, xmin::text from arcadia.cloud_cost_lines where account_id = :a order by 1") == before


def test_changed_documents_replace_all_lines(books):
    books.invoice(item("web (s)", rid=1), item("db (s)", rid=2), uuid="u")
    assert books.invoice(item("web (s)", rid=1, amount="2.00"), uuid="u").written is True
    assert [(line.ordinal, line.amount_usd) for line in books.lines()] == [(1, Decimal("2.00"))]


def test_a_line_that_cannot_be_read_fails_its_invoice_alone_and_keeps_the_documents(books):
    books.invoice(item("good (s)", rid=1), uuid="good")
    header = billing.InvoiceHeader(invoice_uuid="bad", invoice_id="2", period=APRIL, amount=Decimal(1))
    books.record(header)
    with pytest.raises(InvoiceError):
        books.ingest("bad", [item("web (s)") | {"amount": "lots"}], b"kept")
    good, bad = books.rows("select * from arcadia.cloud_invoices where account_id = :a order by invoice_uuid desc")
    assert (good.status, bad.status) == ("ingested", "failed")
    assert "lots" in bad.error
    assert b"lots" in bytes(bad.items_document)
    assert bytes(bad.csv_document) == b"kept"
    assert len(books.lines()) == 1


def test_a_line_that_cannot_be_read_leaves_the_lines_stored_before(books):
    lines = [item(f"web-{number} (s)", rid=number) for number in range(1, 301)]
    books.invoice(*lines, uuid="u")
    before = books.rows("select line_id, xmin::text from arcadia.cloud_cost_lines where account_id = :a order by 1")
    with pytest.raises(InvoiceError, match="item 301"):
        books.ingest("u", [item("new (s)", rid=5), *lines[1:], item("web (s)") | {"amount": "lots"}])
    assert books.rows("select line_id, xmin::text from arcadia.cloud_cost_lines where account_id = :a order by 1") == before
    (invoice,) = books.rows("select * from arcadia.cloud_invoices where account_id = :a")
    assert (invoice.status, invoice.line_count) == ("failed", 300)
    assert b"lots" in bytes(invoice.items_document)


@pytest.mark.parametrize("part", [1, 7, 1 << 20])
def test_documents_are_kept_as_they_came_with_their_digest(books, monkeypatch, part):
    monkeypatch.setattr(billing, "_PART", part)
    lines = [item("web (s)", rid=1), item("d\u00f6 (s)", rid=2)]
    books.invoice(*lines, csv=as_csv(*lines), uuid="u")
    (invoice,) = books.rows("select * from arcadia.cloud_invoices where account_id = :a")
    assert bytes(invoice.csv_document) == as_csv(*lines)
    assert json.loads(bytes(invoice.items_document)) == lines
    for name in ("csv", "items"):
        assert hashlib.sha256(getattr(invoice, f"{name}_document")).hexdigest() == getattr(invoice, f"{name}_sha256")
    books.ingest("u", lines, b"")
    (invoice,) = books.rows("select * from arcadia.cloud_invoices where account_id = :a")
    assert (bytes(invoice.csv_document), json.loads(bytes(invoice.items_document))) == (b"", lines)
    books.ingest("u", lines)
    (invoice,) = books.rows("select * from arcadia.cloud_invoices where account_id = :a")
    assert (invoice.csv_document, invoice.csv_sha256) == (None, None)


def test_a_document_that_the_ledger_cannot_hold_fails_its_invoice_with_one_sentence(books, monkeypatch):
    books.invoice(item("web (s)", rid=1), uuid="u")
    monkeypatch.setattr(billing, "_LARGEST", 10)
    with pytest.raises(InvoiceError, match=r"the invoice's JSON items are \d+ bytes, and the ledger keeps documents of up to 10"):
        books.ingest("u", [item("web (s)", rid=1)])
    assert books.rows("select status, line_count from arcadia.cloud_invoices where account_id = :a") == [("failed", 1)]


def test_documents_that_disagree_are_kept_and_flagged(books):
    lines = [item("web (s)", rid=1), item("db (s)", rid=2)]
    result = books.invoice(*lines, csv=as_csv(*lines[:1]))
    assert (result.line_count, result.residual) == (2, 0)
    assert result.discrepancy
    assert books.invoice(*lines, csv=as_csv(*lines)).discrepancy is None


def test_a_csv_alone_is_the_fallback(books):
    lines = [item("web (s)"), item("GST (18%)", "Taxes")]
    books.invoice(*lines, uuid="u")
    result = books.ingest("u", None, as_csv(*lines), warning="no items")
    assert (result.line_count, result.discrepancy) == (2, "no items")


def test_invoices_come_from_the_list_and_the_history_several_in_a_month():
    listed = [
        {"invoice_uuid": "a", "invoice_id": "1", "amount": "12.34", "invoice_period": "2026-04"},
        {"invoice_uuid": "b", "invoice_id": "2", "amount": "500.00", "invoice_period": "2026-04"},
    ]
    history = [
        {"type": "Invoice", "invoice_uuid": "a", "invoice_id": "1", "amount": "12.34", "date": "2026-05-01T06:05:59Z"},
        {"type": "Invoice", "invoice_uuid": "old", "invoice_id": "0", "amount": "7.00", "date": "2015-01-01T06:05:59Z"},
        {"type": "Payment", "amount": "-12.34", "date": "2026-05-02T06:05:59Z"},
    ]
    headers = billing.read_headers(listed, history)
    assert [(header.invoice_uuid, header.period, header.amount) for header in headers] == [
        ("old", date(2014, 12, 1), Decimal("7.00")),
        ("a", APRIL, Decimal("12.34")),
        ("b", APRIL, Decimal("500.00")),
    ]
    assert headers[1].issued_at == datetime(2026, 5, 1, 6, 5, 59, tzinfo=UTC)


@pytest.mark.parametrize(
    "entry",
    [
        {},
        {"invoice_uuid": "a"},
        {"invoice_uuid": "a", "invoice_period": "April", "amount": "1"},
        {"invoice_uuid": "a", "invoice_period": "2026-04", "amount": "NaN"},
    ],
)
def test_an_invoice_list_that_cannot_be_read_is_an_error(entry):
    with pytest.raises(ValueError, match="invoice"):
        billing.read_headers([entry], [])


def test_an_invoice_whose_amount_changes_is_ingested_again(books):
    books.invoice(item("web (s)", rid=1), uuid="u")
    header = billing.InvoiceHeader(invoice_uuid="u", invoice_id="1", period=APRIL, amount=Decimal("9.99"))
    assert books.record(header) == {"new": 0, "changed": 1}
    assert books.rows("select status from arcadia.cloud_invoices where account_id = :a") == [("pending",)]
    assert books.record(header) == {"new": 0, "changed": 0}


def test_the_balance_is_kept_as_decimals(books):
    row = billing.record_balance(books.engine, books.id, {"account_balance": "-12.10", "month_to_date_usage": "0.30"})
    assert (row["account_balance"], row["month_to_date_usage"], row["month_to_date_balance"]) == (Decimal("-12.10"), Decimal("0.30"), None)


@pytest.mark.parametrize("balance", [{}, {"account_balance": "much"}])
def test_a_balance_that_cannot_be_read_is_an_error(books, balance):
    with pytest.raises(ValueError, match="balance"):
        billing.record_balance(books.engine, books.id, balance)


# Imports


def import_file(engine, account_id, file):
    with file.open("rb") as document:
        return billing.import_csv(engine, account_id, document)


def test_the_two_real_invoices_give_nine_explained_lines_however_often_they_are_imported(engine):
    account_id = account_for_import(engine, "valued customer")
    files = sorted(DATA.glob("real_*.csv"))
    assert len(files) == 2
    for expected in (True, False):
        assert [import_file(engine, account_id, file).written for file in files] == [expected] * 2
        with engine.connect() as conn:
            lines = conn.execute(text("select * from arcadia.matched_cost_lines order by period, ordinal")).all()
        assert len(lines) == 9
        assert sum(line.amount_usd for line in lines) == Decimal("125.38")
        assert all(line.kind and line.match_status and (line.resource_id or line.reason) for line in lines)
        assert {str(line.period) for line in lines} == {"2019-01-01", "2020-07-01"}


def test_an_imported_invoice_gives_way_to_the_providers_own(books):
    lines = [item("web (s)", rid=1)]
    billing.import_csv(books.engine, books.id, io.BytesIO(as_csv(*lines)))
    books.invoice(*lines, csv=as_csv(*lines), uuid="official")
    assert [row.invoice_uuid for row in books.rows("select invoice_uuid from arcadia.cloud_invoices where account_id = :a")] == ["official"]
    assert billing.import_csv(books.engine, books.id, io.BytesIO(as_csv(*lines))).written is False
    assert len(books.lines()) == 1


def test_an_import_bills_the_month_in_which_most_of_its_lines_begin(books):
    lines = [item("a (s)", start="2026-03-31"), item("b (s)"), item("c (s)", start="2026-04-20"), item("d (s)", start="2026-05-01")]
    assert billing.import_csv(books.engine, books.id, io.BytesIO(as_csv(*lines))).period == APRIL


def test_an_import_may_come_through_a_pipe(books):
    reading, writing = os.pipe()
    with open(reading, "rb") as pipe:
        os.write(writing, as_csv(item("web (s)")))
        os.close(writing)
        assert billing.import_csv(books.engine, books.id, pipe).line_count == 1


def test_an_import_stands_in_for_an_invoice_that_could_never_be_read(books):
    lines = [item("web (s)", rid=1)]
    with pytest.raises(InvoiceError):
        books.invoice(lines[0], item("db (s)") | {"product": 1}, csv=as_csv(*lines), uuid="u")
    assert billing.import_csv(books.engine, books.id, io.BytesIO(as_csv(*lines))).line_count == 1
    books.invoice(*lines, csv=as_csv(*lines), uuid="u")
    assert [line.invoice_uuid for line in books.lines()] == ["u"]


def test_an_import_that_cannot_be_read_stores_nothing(engine):
    account_id = account_for_import(engine, "x")
    for document in (b"", b"hello", b"product,description,USD\nDroplets,web (s),lots\n", b"product,description,USD\n"):
        with pytest.raises(InvoiceError):
            billing.import_csv(engine, account_id, io.BytesIO(document))
    with engine.connect() as conn:
        assert conn.execute(text("select count(*) from arcadia.cloud_invoices")).scalar_one() == 0


def test_an_import_names_its_account_by_name_or_team(engine):
    team = account_of_team(engine, team_uuid="uuid-1", name="Acme")
    assert account_for_import(engine, "Acme") == account_for_import(engine, "uuid-1") == team
    account_of_team(engine, team_uuid="uuid-2", name="Acme")
    with pytest.raises(AccountError, match="uuid-1, uuid-2"):
        account_for_import(engine, "Acme")
    assert account_for_import(engine, "New") == account_for_import(engine, "New")
