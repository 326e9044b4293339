"""Books: one account of a ledger, with what exists in it and invoices of a few lines, for tests of billing and matching."""

import csv
import io
from datetime import date, datetime
from decimal import Decimal

from sqlalchemy import text

from arcadia_dagster.digitalocean.documents import write_items
from arcadia_dagster.digitalocean.kinds import Resource, spell_attrs
from arcadia_dagster.ledger import billing
from arcadia_dagster.ledger.accounts import account_of_team
from arcadia_dagster.ledger.reconcile import begin, reconcile

APRIL, MAY = date(2026, 4, 1), date(2026, 5, 1)


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

    def invoice(self, *items, amount=None, csv=None, uuid=None, period=APRIL, **options):
        """Ingest an invoice of these JSON items; by default it is invoiced at what they add up to."""
        self.number += 1
        uuid = uuid or f"{self.id}-invoice-{self.number}"
        total = sum((Decimal(item["amount"]) for item in items), Decimal(0))
        header = billing.InvoiceHeader(
            invoice_uuid=uuid, invoice_id="1", period=period, amount=total if amount is None else Decimal(amount)
        )
        self.record(header)
        return self.ingest(uuid, items, csv, **options)

    def ingest(self, uuid, items, csv=None, **options):
        """Ingest these documents: JSON items, and the bytes of a CSV; None where there is none."""
        documents = {"items": None if items is None else as_json(*items), "csv": None if csv is None else io.BytesIO(csv)}
        return billing.ingest(self.engine, self.id, uuid, **documents, **options)

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


def droplet(provider_id, name, created="2025-01-01", *, attrs=None, **fields):
    created_at = datetime.fromisoformat(f"{created}T00:00:00Z")
    return Resource(provider_id=str(provider_id), name=name, attrs=spell_attrs(attrs or {}), provider_created_at=created_at, **fields)


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


def listed(books, at, *resources):
    run = begin(books.engine, account_id=books.id, kind="droplet", started_at=datetime.fromisoformat(f"{at}T00:00:00Z"))
    reconcile(books.engine, run, resources)


def rows_read(engine):
    """How many rows of `resources` were ever read, this connection's included."""
    with engine.begin() as conn:
        conn.execute(text("select pg_stat_force_next_flush()"))
    with engine.connect() as conn:
        query = "select seq_tup_read + idx_tup_fetch from pg_stat_user_tables where relid = 'arcadia.resources'::regclass"
        return conn.execute(text(query)).scalar_one()
