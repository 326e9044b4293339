"""Billing: documents become lines, lines add up to the invoice or the rest is shown, and nothing is stored by halves."""

import hashlib
import io
import json
import os
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from sqlalchemy import text

from arcadia_dagster.digitalocean.invoices import InvoiceError
from arcadia_dagster.ledger import billing
from arcadia_dagster.ledger.accounts import AccountError, account_for_import, account_of_team
from arcadia_dagster_tests.books import APRIL, Books, as_csv, item

DATA = Path(__file__).parent / "data" / "invoices"


@pytest.fixture
def books(engine):
    return Books(engine)


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


def test_any_text_and_any_number_is_stored_as_it_came(books):
    texts = [
        "",
        " ",
        "a\tb",
        'a"b,c',
        "\x01",
        "a\x01\x01\t\x01",
        "\\.",
        "\\N",
        "a\\",
        "a\nb",
        "a\rb",
        "a\r\n\r\nb",
        "\n",
        "d\u00f6\u2028\U0001f600",
    ]
    items = [
        item(text, product, f"-{number}.{number:010}", group=text, project=text) | {"category": text, "duration": f"{number}.{number:020}"}
        for number, (text, product) in enumerate((text, product) for text in texts for product in ("Quantum", "Droplets", "App Platform"))
    ]
    books.invoice(*items)
    stored = books.rows(
        "select description, product, group_description, project_name, category, (-amount_usd)::text, hours::text"
        " from arcadia.cloud_cost_lines where account_id = :a order by ordinal"
    )
    assert [tuple(row) for row in stored] == [
        tuple(
            i[name].lstrip("-")
            for name in ("description", "product", "group_description", "project_name", "category", "amount", "duration")
        )
        for i in items
    ]
    named = books.rows(
        "select parsed_name, name_key, match_detail ->> 'reason' as reason from arcadia.cloud_cost_lines where product = 'Droplets'"
    )
    assert [row.parsed_name for row in named] == [text.strip() or None for text in texts]
    assert [row.name_key for row in named] == [" ".join(text.casefold().split()) or None for text in texts]
    assert all(row.reason for row in named)


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
