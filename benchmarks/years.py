"""Ten years of a busy account: how large each table and index is, what each part of a day's work takes against a ledger of one month, and
what retention takes away.

Run by `make years`, or `python benchmarks/years.py [YEARS] [RESOURCES]` (10 and 5,000 by default). Uses ARCADIA_DATABASE_URL where set,
which must name an empty ledger, else an embedded server in a temporary folder. `busy_account.py` says what the account does: of 5,000
resources about 1,000 change, come or go in a day, and 20,000 lines a month are billed, a quarter of them without an id. The young ledger
has the last of the months; what is asked of both is the same, and each figure is the best of three, but for
what takes long.
"""

import io
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from msgspec.structs import replace
from rich.console import Console
from rich.table import Table
from sqlalchemy import Engine, text

from arcadia_dagster import cli, settings
from arcadia_dagster.defs.billing.checks import invoices_add_up
from arcadia_dagster.defs.costs.checks import every_line_is_explained, no_match_contradicts_its_line, no_unknown_product
from arcadia_dagster.defs.costs.jobs import last_changes
from arcadia_dagster.defs.inventory.checks import names_are_unique, no_listing_left_open, no_secret_is_kept, tombstones_are_proven
from arcadia_dagster.defs.ops.retention import KEEP_LEDGER_DAYS
from arcadia_dagster.defs.resources import Ledger
from arcadia_dagster.digitalocean.documents import write_items
from arcadia_dagster.ledger import billing
from arcadia_dagster.ledger.accounts import account_of_team
from arcadia_dagster.ledger.alarms import risen_projects, unexplained_money
from arcadia_dagster.ledger.attribution import attribute
from arcadia_dagster.ledger.matching import rematch
from arcadia_dagster.ledger.reconcile import begin, ever_listed, reconcile
from arcadia_dagster.ledger.retention import forget
from arcadia_dagster.ledger.schema import connect
from arcadia_dagster.report import figures
from benchmarks.busy_account import BusyAccount, as_csv, end_of_last_month, months
from benchmarks.marts import QUERIES
from benchmarks.table import home

ROUNDS = 3
PATIENCE = 10  # seconds
CHANGED = 1000  # resources
WHOLE = (
    "matched_cost_lines", "cost_by_project", "cost_by_tenant", "cost_by_kind", "cost_by_resource", "cost_by_tag", "unexplained_lines",
    "match_rate", "cost_changes", "cost_forecast", "project_cost_trend", "resource_timeline", "running_cost", "waste", "unknown_products",
    "cloud_resources", "focus_1_2", "focus_invoice_detail", "focus_billing_period",
)  # fmt: skip

_console = Console(width=140)


def say(sentence: str) -> None:
    _console.print(f"[dim]{datetime.now():%H:%M:%S}[/dim] {sentence}", highlight=False)  # noqa: DTZ005  # for who waits


def execute(engine: Engine, *statements: str, **values: Any) -> None:
    """Each in a transaction of its own, where it may be in one."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as conn:
        for statement in statements:
            conn.execute(text(statement), values)


class Edition:
    """The ledger of so many months of the account, and how long things take in it."""

    def __init__(self, engine: Engine, *, first: datetime, end: datetime, slots: int) -> None:
        self.engine = engine
        self.account_id = account_of_team(engine, team_uuid="busy", name="busy")
        self.conn = engine.connect()
        self.months = months(first, end)
        self.seconds: dict[str, float] = {}
        say(f"{len(self.months) - 1} months: listings")
        self.account = BusyAccount(self.conn, self.account_id, slots=slots, days=(end - first).days, ticks=96, end=end)
        self.account.load()
        execute(engine, "vacuum analyze")
        say("invoices")
        for month, until in zip(self.months[:-2], self.months[1:-1], strict=True):
            self.bill(month, until)
        execute(engine, "vacuum analyze")

    def bill(self, month: datetime, until: datetime) -> float:
        """Ingest a month's invoice from both of its documents; the seconds that this takes."""
        lines = self.account.lines(month, until)
        uuid = f"{month:%Y-%m}"
        amount = sum((Decimal(line["amount"]) for line in lines), Decimal(0))
        header = billing.InvoiceHeader(invoice_uuid=uuid, invoice_id=uuid, period=month.date(), amount=amount, issued_at=until)
        billing.record_invoices(self.engine, begin(self.engine, account_id=self.account_id, kind="invoice"), [header], requests=2)
        document = io.BytesIO()
        write_items(document, lines)
        began = time.perf_counter()
        done = billing.ingest(self.engine, self.account_id, uuid, items=document, csv=io.BytesIO(as_csv(lines)))
        took = time.perf_counter() - began
        open_lines = sum(done.outcomes.get(name, 0) for name in ("ambiguous", "unmatched"))
        if done.residual or done.discrepancy or open_lines > done.line_count / 20:
            raise SystemExit(f"the invoice of {uuid} is not as it was made: {done}")
        return took

    def note(self, what: str, seconds: float) -> None:
        self.seconds[what] = min(self.seconds.get(what, seconds), seconds)

    def time(self, what: str, do: Callable[[], object]) -> None:
        """Note the best of three, or of as many as PATIENCE allows."""
        first = time.perf_counter()
        for _ in range(ROUNDS):
            began = time.perf_counter()
            do()
            self.note(what, time.perf_counter() - began)
            if time.perf_counter() - first > PATIENCE:
                break

    def measure(self) -> None:
        """Do a day's work, and read everything."""
        say("matching")
        for _ in range(ROUNDS):
            execute(self.engine, "delete from arcadia.cloud_invoices where invoice_uuid = :uuid", uuid=f"{self.months[-2]:%Y-%m}")
            self.note("ingest of a month", self.bill(*self.months[-2:]))
        rematch(self.engine, self.account_id)
        execute(self.engine, "vacuum analyze")
        say("sync")
        self.syncs()
        say("checks")
        ledger = Ledger()
        ledger._engine = self.engine
        for check in (
            tombstones_are_proven, names_are_unique, no_listing_left_open, no_secret_is_kept, every_line_is_explained, no_unknown_product,
            no_match_contradicts_its_line, invoices_add_up,
        ):  # fmt: skip
            self.time(f"check {check.check_key.name}", lambda check=check: check(ledger=ledger))  # type: ignore[misc]
        self.with_conn("check unexplained_money_is_little", lambda conn: unexplained_money(conn, Decimal(10)))
        self.with_conn("check projects_cost_what_they_used_to", lambda conn: risen_projects(conn, Decimal(50)))
        self.time("sensor changed_months", lambda: last_changes(self.engine))
        say("marts")
        newest = f"{self.months[-2]:%Y-%m-%d}"
        for view, query in QUERIES.items():
            one = query.replace("2025-12-01", newest).replace("name = 'droplet-1001'", "name like 'droplet-1-%'")
            self.query(
                f"{view}, one month" if "period" in query else f"{view}, top 100" if "limit" in query else f"{view}, one resource", one
            )
        self.with_conn("arcadia report", figures.read)
        for view in WHOLE:
            self.query(f"{view}, whole", f"select count(v) from arcadia.{view} v")  # a row is made of all of its columns

    def syncs(self) -> None:
        """All kinds listed with nothing changed, and with 1,000 resources changed, each with what follows from it."""
        end = self.account.last
        listings = {kind: self.account.listing(kind, end) for kind in self.account.listed_at(0)}
        moment = self.account.at(end)

        def sync(what: str, changed: int) -> None:
            nonlocal moment
            moment += timedelta(seconds=30)
            spent = 0.0
            for kind, things in listings.items():
                again = [
                    replace(thing, tags=(f"round-{moment:%M%S}",)) if kind == "droplet" and place < changed else thing
                    for place, thing in enumerate(things)
                ]
                listings[kind] = again
                run = begin(self.engine, account_id=self.account_id, kind=kind, started_at=moment)
                began = time.perf_counter()
                reconcile(self.engine, run, again, requests=1)
                spent += time.perf_counter() - began
            self.note(f"reconcile, {what}", spent)
            began = time.perf_counter()
            attribute(self.engine, self.account_id, internal_project=None)
            self.note(f"attribute, {what}", time.perf_counter() - began)
            began = time.perf_counter()
            rematch(self.engine, self.account_id)
            self.note(f"rematch, {what}", time.perf_counter() - began)

        for _ in range(ROUNDS):
            sync("nothing changed", 0)
            sync(f"{CHANGED:,} changed", CHANGED)
        touch = "update arcadia.resources set region = region || '1' where kind = :kind and deleted_at is null"
        for _ in range(ROUNDS):
            for what, kind, rest in (
                ("one volume moved", "volume", " and provider_id = (select min(provider_id) from arcadia.resources where kind = 'volume')"),
                ("all volumes moved", "volume", ""),
                ("a pool's droplets moved", "droplet", " and name like 'worker-%'"),
            ):
                with self.engine.begin() as conn:
                    conn.execute(text(touch + rest), {"kind": kind})
                began = time.perf_counter()
                rematch(self.engine, self.account_id)
                self.note(f"rematch, {what}", time.perf_counter() - began)
        self.time("ever_listed, of a kind that never was", lambda: ever_listed(self.engine, self.account_id, "no_such_kind"))
        self.time("arcadia status", self.status)

    def status(self) -> None:
        for show in (cli._show_resources, cli._show_balance, cli._show_month_to_date, cli._show_matching, cli._show_unknown_products):
            with cli.console.capture():
                show(self.engine, self.account_id)

    def query(self, what: str, query: str) -> None:
        self.with_conn(what, lambda conn: conn.execute(text(query)).all())

    def with_conn(self, what: str, do: Callable[[Any], object]) -> None:
        with self.engine.connect() as conn:
            self.time(what, lambda: do(conn))

    def close(self) -> None:
        self.conn.close()


SIZES = """
select c.relname as name, c.reltuples::bigint as rows, pg_table_size(c.oid) as size,
       (select jsonb_object_agg(i.indexrelid::regclass::text, pg_relation_size(i.indexrelid))
          from pg_index i where i.indrelid = c.oid) as indexes
  from pg_class c where c.relnamespace = 'arcadia'::regnamespace and c.relkind = 'r' and pg_total_relation_size(c.oid) > 100000
 order by pg_total_relation_size(c.oid) desc"""


Sizes = tuple[int, int, dict[str, int]]


def sizes(engine: Engine) -> dict[str, Sizes]:
    """Table -> rows, bytes of it and its documents, bytes of each index."""
    with engine.connect() as conn:
        return {row.name: (row.rows, row.size, row.indexes or {}) for row in conn.execute(text(SIZES))}


def show_sizes(before: dict[str, Sizes], after: dict[str, Sizes], days: int) -> None:
    """The table of tables, each with its larger indexes, before and after retention."""
    table = Table("table or index", "rows", "MB", "rows kept", "MB kept", "of them indexes", "KB a day")
    whole = [0.0, 0.0]
    for name, (rows, size, indexes) in before.items():
        kept_rows, kept, kept_indexes = after.get(name, (0, 0, {}))
        total, kept_total = size + sum(indexes.values()), kept + sum(kept_indexes.values())
        whole = [whole[0] + total, whole[1] + kept_total]
        table.add_row(
            name, f"{rows:,}", megabytes(total), f"{kept_rows:,}", megabytes(kept_total), megabytes(sum(kept_indexes.values())),
            f"{kept_total / days / 1e3:,.1f}",
        )  # fmt: skip
        for index, large in sorted(indexes.items(), key=lambda one: -one[1]):
            if large > 1_000_000:
                table.add_row(
                    f"  {index.removeprefix('arcadia.')}", "", megabytes(large), "", megabytes(kept_indexes.get(index, 0)), "", ""
                )
    table.add_row("all", "", megabytes(whole[0]), "", megabytes(whole[1]), "", f"{whole[1] / days / 1e3:,.1f}")
    _console.print(table)


def megabytes(size: float) -> str:
    return f"{size / 1e6:,.1f}"


def main() -> None:
    """Load both ledgers, one after the other, and print the tables."""
    years = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    slots = int(sys.argv[2]) if len(sys.argv) > 2 else 5000
    with home():
        engine = connect(settings.ledger_url())
        with engine.connect() as conn:
            if conn.scalar(text("select count(*) from arcadia.cloud_accounts")):
                raise SystemExit("the ledger of ARCADIA_DATABASE_URL is not empty; give this a database of its own")
        end = end_of_last_month()
        young = Edition(engine, first=months_before(end, 1), end=end, slots=slots)
        young.measure()
        young.close()
        execute(engine, "truncate arcadia.cloud_accounts, arcadia.rematch_queue cascade")
        old = Edition(engine, first=months_before(end, 12 * years), end=end, slots=slots)
        old.measure()
        table = Table(f"seconds, {slots:,} resources", "young", f"{years} years", "ratio")
        for what, seconds in old.seconds.items():
            table.add_row(what, f"{young.seconds[what]:.3f}", f"{seconds:.3f}", f"{seconds / young.seconds[what]:.1f}")
        _console.print(table)
        old.close()
        execute(engine, "vacuum analyze")
        before = sizes(engine)
        say("retention")
        limit = datetime.now(UTC) - timedelta(days=KEEP_LEDGER_DAYS)
        table = Table("retention", "seconds", "sync runs", "balances")
        for what in ("of all these years", "a day later"):
            began = time.perf_counter()
            forgotten = forget(engine, before=limit + timedelta(days=what == "a day later"))
            took = time.perf_counter() - began
            table.add_row(what, f"{took:.1f}", f"{forgotten.sync_runs:,}", f"{forgotten.balances:,}")
        _console.print(table)
        # As large as if it had been done every day.
        execute(engine, "vacuum full analyze arcadia.cloud_sync_runs", "vacuum full analyze arcadia.cloud_balance_snapshots")
        show_sizes(before, sizes(engine), (end - months_before(end, 12 * years)).days)
        engine.dispose()


def months_before(end: datetime, count: int) -> datetime:
    year, month = divmod(end.year * 12 + end.month - 1 - count, 12)
    return end.replace(year=year, month=month + 1)


if __name__ == "__main__":
    main()
