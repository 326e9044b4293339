"""The month to date: the provider's preview as an invoice of its own kind, replaced at each run and gone when the real one arrives."""

import io
from datetime import UTC, date, datetime
from decimal import Decimal

import dagster as dg
import pytest
import stamina
from sqlalchemy import text

from arcadia_dagster.defs.billing.assets import invoice_preview
from arcadia_dagster.defs.billing.jobs import waiting_invoices
from arcadia_dagster.defs.resources import DigitalOcean, Ledger
from arcadia_dagster.demo.account import SimulatedInvoice, messy_account, total
from arcadia_dagster.demo.sky_ai import sky_ai_account
from arcadia_dagster.ledger import billing
from arcadia_dagster.ledger.matching import explain
from arcadia_dagster_tests.books import as_csv, item
from arcadia_dagster_tests.commands import arcadia
from arcadia_dagster_tests.test_dagster import Location, failures, metadata, run_check

WEB, GPU, GONE = 410_000_101, 448_543_583, 999


def preview_of(period, *items, at, amount=None):
    return SimulatedInvoice("preview-uuid", "", period, amount or total(items), list(items), updated_at=at)


def so_far(day, month="2026-05"):
    """Two droplets from the first of the month to 05:43 of a day in it."""
    end = f"{month}-{day:02}"
    lines = [
        item("web-01 (s-1vcpu-1gb)", amount=f"{day}.10", rid=WEB, start=f"{month}-01", end=end),
        item("ghost (s-1vcpu-1gb)", amount="1.00", rid=GONE, start=f"{month}-01", end=end),
        item("GST (18.00%)", "Taxes", "0.40", start=f"{month}-01", end=end),
    ]
    return preview_of(month, *lines, at=f"{end}T05:43:00Z")


class May(Location):
    """The small messy account in May 2026, without invoices, and the questions of these tests."""

    def discover(self):
        return self.run("discover_invoices")

    def invoice(self, amount, *, period="2026-05", issued="2026-06-01", uuid=None):
        """The provider makes an invoice; `issued` None: nothing says when."""
        uuid = uuid or f"invoice-{len(self.account.invoices)}"
        line = item("web-01 (s-1vcpu-1gb)", amount=amount, rid=WEB, start=f"{period}-01", end=f"{period}-28")
        self.account.invoices.insert(0, SimulatedInvoice(uuid, "1", period, amount, [line]))
        if issued:
            entry = {"type": "Invoice", "invoice_uuid": uuid, "invoice_id": "1", "amount": amount, "date": f"{issued}T06:00:00Z"}
            self.account.billing_history.insert(0, entry)

    def previews(self):
        return self.rows("select period::text, amount, line_count, error from arcadia.cloud_invoices where status = 'preview' order by 1")

    def months(self):
        return [row.period[:7] for row in self.previews()]

    def closed(self):
        return self.rows("select coalesce(sum(amount_usd), 0) from arcadia.matched_cost_lines")[0][0]

    def to_date(self):
        return self.rows("select coalesce(sum(amount_usd), 0) from arcadia.month_to_date_lines")[0][0]

    def versions(self):
        return self.rows("select line_id, xmin::text from arcadia.cloud_cost_lines order by 1")


@pytest.fixture
def may(engine, monkeypatch):
    location = May(engine, monkeypatch, messy_account())
    location.account.preview = so_far(17)
    yield location
    location.server.stop()


# Stored, replaced


def test_the_preview_is_stored_matched_and_kept_apart(may):
    may.run("sync_inventory")
    result = may.discover()
    assert result.success
    (invoice,) = may.rows("select * from arcadia.cloud_invoices")
    assert invoice.invoice_uuid == f"preview:{invoice.account_id}:2026-05"
    assert (invoice.status, invoice.period, invoice.amount, invoice.residual) == ("preview", date(2026, 5, 1), Decimal("18.50"), 0)
    assert invoice.covers_until == datetime(2026, 5, 17, 5, 43, tzinfo=UTC)
    lines = may.rows("select * from arcadia.month_to_date_lines order by ordinal")
    assert [(line.match_status, line.resource_name, line.resource_state) for line in lines] == [
        ("matched", "web-01", "active"),
        ("matched", "ghost", "billing_only"),
        ("tax", None, None),
    ]
    assert {line.covers_until for line in lines} == {invoice.covers_until}
    assert may.rows("select * from arcadia.matched_cost_lines") == []
    assert waiting_invoices(may.engine, retry_failed=True) == []
    assert list(may.instance.get_dynamic_partitions("invoices")) == []
    said = metadata(result, "invoice_preview")
    assert (said["dagster/row_count"], said["period"], said["amount_usd"], said["requests"]) == (3, "2026-05", 18.5, 2)
    assert "| ghost" in said["dearest"]
    assert "matched" in said["lines_by_outcome"]


def test_both_views_show_the_same_columns(engine):
    columns = "select array_agg(attname::text order by attnum) from pg_attribute where attrelid = cast(:view as regclass)"
    with engine.connect() as conn:
        closed, to_date = (
            conn.execute(text(columns), {"view": f"arcadia.{view}"}).scalar_one() for view in ("matched_cost_lines", "month_to_date_lines")
        )
    assert to_date == [*closed, "covers_until"]


def test_the_same_preview_again_writes_no_line(may):
    may.discover()
    before = may.versions()
    assert metadata(may.discover(), "invoice_preview")["written"] is False
    assert may.versions() == before


def test_a_new_preview_replaces_all_lines(may):
    may.discover()
    before = {row.line_id for row in may.versions()}
    may.account.preview = so_far(18)
    may.account.preview.items.pop(1)
    may.account.preview.amount = total(may.account.preview.items)
    may.discover()
    assert may.to_date() == Decimal("18.50")
    assert [(row.amount, row.line_count) for row in may.previews()] == [(Decimal("18.50"), 2)]
    assert not before & {row.line_id for row in may.versions()}


def test_lines_are_matched_anew_where_the_preview_reaches_further(may):
    may.discover()
    before = may.versions()
    may.account.preview.updated_at = "2026-05-18T05:43:00Z"
    assert metadata(may.discover(), "invoice_preview")["written"] is True
    assert may.versions() != before
    assert len(may.versions()) == 3


def test_an_account_without_usage_has_no_preview(may):
    may.account.preview = None
    result = may.discover()
    assert result.success
    assert metadata(result, "invoice_preview")["dagster/row_count"] == 0
    assert may.previews() == []


def test_two_accounts_of_one_ledger_each_have_their_month(may, monkeypatch):
    may.discover()
    other = May(may.engine, monkeypatch, sky_ai_account())
    other.account.invoices, other.account.billing_history = [], []
    other.discover()
    other.server.stop()
    assert may.months() == ["2026-05", "2026-05"]
    assert may.rows("select count(distinct account_id) from arcadia.month_to_date_lines") == [(2,)]


# Gone when the real invoice arrives


def test_the_real_invoice_takes_its_place_and_nothing_is_counted_twice(may):
    may.discover()
    assert (may.closed(), may.to_date()) == (0, Decimal("18.50"))
    may.invoice("31.00")
    result = may.discover()  # while the provider still offers the preview of May
    assert result.success
    assert "has arrived" in metadata(result, "invoice_preview")["note"]
    assert (may.closed(), may.to_date()) == (0, 0)
    assert may.versions() == []
    assert len(waiting_invoices(may.engine)) == 1
    may.ingest()
    assert (may.closed(), may.to_date()) == (Decimal("31.00"), 0)
    may.discover()
    assert (may.closed(), may.to_date()) == (Decimal("31.00"), 0)
    assert may.previews() == []


def test_the_preview_goes_in_the_transaction_that_records_the_invoice(may):
    may.discover()
    may.invoice("31.00")
    may.account.preview = None
    may.discover()
    assert may.previews() == []


def test_an_invoice_in_mid_month_leaves_the_preview_while_that_month_is_previewed(may):
    may.discover()
    may.invoice("500.00", issued="2026-05-20")
    may.account.preview = so_far(21)
    may.discover()
    may.ingest()
    assert (may.months(), may.closed(), may.to_date()) == (["2026-05"], Decimal("500.00"), Decimal("22.50"))
    may.invoice("31.00")
    may.discover()
    assert may.months() == []


def test_an_invoice_of_unknown_date_takes_the_place_once_a_later_month_is_previewed(may):
    may.discover()
    may.invoice("31.00", issued=None)
    may.discover()
    assert may.months() == ["2026-05"]
    may.account.preview = so_far(1, "2026-06")
    may.discover()
    assert may.months() == ["2026-06"]
    may.account.preview = so_far(31)  # an answer from before
    may.discover()
    assert may.months() == ["2026-06"]


def test_at_roll_over_both_months_stand_until_the_invoice_is_made(may):
    may.discover()
    may.account.preview = so_far(1, "2026-06")
    may.discover()
    assert [(row.period, row.amount) for row in may.previews()] == [("2026-05-01", Decimal("18.50")), ("2026-06-01", Decimal("2.50"))]
    may.invoice("31.00")
    may.discover()
    assert may.months() == ["2026-06"]
    assert may.to_date() == Decimal("2.50")


def test_an_imported_invoice_is_a_real_one(may):
    may.discover()
    may.account.preview = so_far(1, "2026-06")
    may.discover()
    (account_id,) = may.rows("select account_id from arcadia.cloud_accounts")[0]
    billing.import_csv(may.engine, account_id, io.BytesIO(as_csv(item("web-01 (s)", start="2026-05-01", end="2026-06-01"))))
    assert may.months() == ["2026-06"]


# What goes wrong


@pytest.mark.parametrize("known", [True, False])
def test_items_that_may_not_be_read_leave_what_was_stored(may, known):
    if known:
        may.discover()
    may.account.preview = so_far(18)
    may.account.denied.add("/v2/customers/my/invoices/preview")
    result = may.discover()
    assert failures(result).keys() == {"invoice_preview"}
    sentence = failures(result)["invoice_preview"]
    assert "billing:read" in sentence
    assert [tuple(row) for row in may.previews()] == [
        ("2026-05-01", Decimal("18.50"), 3, sentence) if known else ("2026-05-01", Decimal("19.50"), None, sentence)
    ]
    assert may.to_date() == (Decimal("18.50") if known else 0)
    may.account.denied.clear()
    assert may.discover().success
    assert [tuple(row) for row in may.previews()] == [("2026-05-01", Decimal("19.50"), 3, None)]


def test_a_fault_of_the_provider_is_worth_another_try_and_loses_nothing(may):
    may.discover()
    before = may.versions()
    may.account.preview.items = [object()]  # which the server cannot put into words: HTTP 500
    with stamina.set_testing(True), pytest.raises(dg.Failure) as failed:  # no waits
        invoice_preview(billing_api=DigitalOcean(purpose="billing"), ledger=Ledger())
    assert failed.value.allow_retries is True
    assert "answered HTTP 500" in failed.value.description
    assert [row.error for row in may.previews()] == [failed.value.description]
    assert may.versions() == before


def test_an_item_that_cannot_be_read_leaves_what_was_stored(may):
    may.discover()
    before = may.versions()
    may.account.preview = so_far(18)
    may.account.preview.items[1] |= {"amount": "a lot"}
    result = may.discover()
    assert failures(result).keys() == {"invoice_preview"}
    assert "item 2: 'a lot' is not an amount" in failures(result)["invoice_preview"]
    ((_, amount, _, error),) = may.previews()
    assert amount == Decimal("18.50")
    assert "item 2: 'a lot' is not an amount" in error
    assert may.versions() == before


def test_a_malformed_amount_fails_this_asset_alone(may):
    may.discover()
    before = may.versions()
    may.account.preview.amount = "a lot"
    result = may.discover()
    assert failures(result) == {"invoice_preview": "invoice preview: 'a lot' is not an amount of money"}
    assert [row.error for row in may.previews()] == ["invoice preview: 'a lot' is not an amount of money"]
    assert may.versions() == before


GOOD = {"invoice_uuid": "x", "amount": "1.20", "invoice_period": "2026-05", "updated_at": "2026-05-17T05:43:00Z"}


@pytest.mark.parametrize("stated", [None, {}])
def test_no_preview_is_no_error(stated):
    assert billing.read_preview(stated) is None


def test_a_preview_need_not_say_when_it_was_made():
    assert billing.read_preview(GOOD | {"updated_at": None}) == billing.Preview(
        period=date(2026, 5, 1), amount=Decimal("1.20"), covers_until=None
    )


@pytest.mark.parametrize(
    "stated",
    [
        "preview",
        [GOOD],
        {"invoice_uuid": "x"},
        GOOD | {"amount": None},
        GOOD | {"amount": "NaN"},
        GOOD | {"invoice_period": "May"},
        GOOD | {"invoice_period": 202605},
        GOOD | {"updated_at": "yesterday"},
        GOOD | {"updated_at": "2026-05-17T05:43:00"},
        GOOD | {"updated_at": 1779000000},
    ],
)
def test_a_preview_that_cannot_be_read_is_one_sentence(stated):
    with pytest.raises(ValueError, match=r"^invoice preview: .+") as failed:
        billing.read_preview(stated)
    assert "\n" not in str(failed.value)


# Never counted with the closed ones


def test_a_preview_is_neither_waiting_nor_adrift_nor_ingested(may):
    may.account.preview.amount = "99.00"
    may.invoice("31.00", period="2026-04", issued="2026-05-01")
    may.discover()
    assert may.ingest()[0].success
    for check in ("invoices_add_up", "documents_agree", "invoices_are_ingested", "every_line_is_explained", "previews_give_way"):
        assert run_check(may, check).passed
    result = may.run("ingest_invoices", tags={"dagster/partition": may.instance.get_dynamic_partitions("invoices")[0]})
    assert metadata(result, "matched_cost_lines")["dagster/row_count"] == 1
    assert waiting_invoices(may.engine, retry_failed=True) == []
    assert (may.closed(), may.to_date()) == (Decimal("31.00"), Decimal("18.50"))


def test_a_preview_whose_lines_do_not_add_up_is_a_warning(may):
    may.discover()
    assert run_check(may, "previews_add_up").passed
    may.account.preview.amount = "18.60"
    may.discover()
    found = run_check(may, "previews_add_up")
    assert (found.passed, found.severity.value) == (False, "WARN")


def test_a_preview_beside_its_invoice_is_found(may):
    may.discover()
    assert run_check(may, "previews_give_way").passed
    with may.engine.begin() as conn:
        conn.execute(
            text(
                "insert into arcadia.cloud_invoices (invoice_uuid, account_id, period, amount, issued_at) select 'real', account_id,"
                " '2026-05-01', 31, '2026-06-01T00:00:00Z' from arcadia.cloud_accounts"
            )
        )
    assert not run_check(may, "previews_give_way").passed


# What a person sees


def status(may):
    return arcadia("status", ARCADIA_DATABASE_URL=may.engine.url.render_as_string(hide_password=False)).out


def test_status_says_what_the_month_costs_so_far(may):
    may.account.preview.items.append(item("2 qubits", "Quantum Computers", "3.00", end="2026-05-17"))
    may.account.preview.amount = "1021.50"
    may.run("sync_inventory", "discover_invoices")
    out = status(may)
    assert "Month to date (May 2026, up to 2026-05-17 05:43 UTC): 1,021.50 USD in 4 lines, 3 explained\n" in out
    for words in ("Billed lines", "Not explained", "do not add up", "invoices preview"):
        assert words not in out
    may.account.denied.add("/v2/customers/my/invoices/preview")
    may.discover()
    out = status(may)
    assert "1,021.50 USD in 4 lines, 3 explained\n" in out
    assert "Its newest reading failed: invoice_item: /v2/customers/my/invoices/preview answered HTTP 403" in out


def test_a_line_of_the_month_to_date_can_be_explained(may):
    may.discover()
    (line,) = may.rows("select line_id from arcadia.month_to_date_lines where ordinal = 1")
    with may.engine.connect() as conn:
        assert explain(conn, line.line_id).line["description"] == "web-01 (s-1vcpu-1gb)"
