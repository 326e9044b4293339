"""How often matching is right, on accounts whose truth it cannot see: lines, matched, wrong and ambiguous, by mode and by method.

Run by `make bench`, or `python benchmarks/matching_truth.py SEED... [--resources N]`; `-v` explains each line that was wrong. The accounts
are `account_generator.py`'s; here they go through the real pipeline, listing by listing and invoice by invoice, in three modes: JSON items
with ids, CSV only, and CSV only with an inventory that began half-way. Exit code 1 if a line is wrong, or missed although it names an id.

A line is `resolvable` where the ledger can know its resource: with ids, or an address in its text, always; else where a listing has
shown the resource. Of ambiguous lines, `truth listed` counts those that name the truth among their candidates, and `twins` those that
read exactly as a line of the same invoice that pays for another thing: these nobody could tell apart. The rule of the service before (kind
and case-insensitive name, first active hit) is judged on the same lines.
"""

import argparse
import io
import os
import sys
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

from rich.console import Console
from rich.table import Table
from sqlalchemy import Engine, create_engine, text

from arcadia_dagster import settings
from arcadia_dagster.demo.rules import next_month
from arcadia_dagster.digitalocean.documents import write_items
from arcadia_dagster.ledger import billing
from arcadia_dagster.ledger.accounts import account_of_team
from arcadia_dagster.ledger.matching import rematch
from arcadia_dagster.ledger.reconcile import begin, reconcile
from arcadia_dagster.ledger.schema import connect
from benchmarks.account_generator import INGESTED_AFTER, MONTHS, GeneratedAccount, Invoice, Line, Thing
from benchmarks.table import home

MODES = ("ids", "csv", "csv, half-way")
_NO_RESOURCE = "no resource"


@dataclass(frozen=True)
class Verdict:
    """One line: what it really pays for, what the ledger says, and what the rule of the service before says."""

    seed: int
    mode: str
    line: Line
    truth: Thing | None
    resolvable: bool
    twin: bool
    status: str
    method: str | None
    said: Thing | None
    said_before: Thing | None
    candidates: list[Thing]
    reason: str | None

    @property
    def wrong(self) -> bool:
        if self.truth is None:
            return self.status != self.line.status
        return self.said not in (None, self.truth) or self.status not in ("matched", "ambiguous", "unmatched")

    @property
    def missed(self) -> bool:
        return self.mode == "ids" and self.resolvable and self.said is None

    @property
    def row(self) -> str:
        """Of the table: the method, or why there is none."""
        return self.method or (_NO_RESOURCE if self.truth is None else self.status)

    def __str__(self) -> str:
        item = self.line.item
        printed = f"{item['product']} | {item['group_description']} | {item['description']}"
        return (
            f"\nseed {self.seed}, {self.mode}: {printed} | {item['start_time']} to {item['end_time']}"
            f"\n  truth  {self.truth or self.line.status}{'' if self.resolvable else ' (never listed)'}"
            f"\n  ledger {self.status} {self.method or ''} {self.said or self.reason}"
        )


def run(engine: Engine, account: GeneratedAccount, mode: str) -> list[Verdict]:
    """Put the account through the pipeline in one mode, as an account of its own of the ledger; its lines' verdicts.

    Raises AssertionError where an invoice does not add up or its two documents disagree: then the generator is mistaken.
    """
    account_id = account_of_team(engine, team_uuid=str(uuid.uuid4()), name=mode)
    invoices = {next_month(invoice.month) + INGESTED_AFTER: invoice for invoice in account.invoices()}
    listings = account.listings(MONTHS[6] if mode == "csv, half-way" else MONTHS[0])
    half_months = {month + timedelta(days=15) for month in MONTHS}
    seen: set[tuple[str, str]] = set()
    lines: dict[tuple[str, int], Line] = {}
    for moment in sorted({*listings, *invoices, *half_months}):
        for kind in listings.get(moment, ()):
            listed = account.listing(kind, moment)
            seen |= {(kind, resource.provider_id) for resource in listed}
            sync_run = begin(engine, account_id=account_id, kind=kind, started_at=moment)
            reconcile(engine, sync_run, listed, strike_interval=timedelta(0), allow_mass_deletion=True)
        if moment in invoices:
            invoice_uuid = ingest_invoice(engine, account_id, invoices[moment], with_items=mode == "ids")
            lines |= {(invoice_uuid, ordinal): line for ordinal, line in enumerate(invoices[moment].lines, 1)}
            with engine.begin() as conn:
                # As autovacuum does within a minute, which is more than a year takes here.
                conn.execute(text("analyze arcadia.resources, arcadia.other_names, arcadia.cloud_cost_lines"))
        if moment in invoices or moment in half_months:
            rematch(engine, account_id)
    return _verdicts(engine, account_id, account, mode=mode, lines=lines, seen=seen)


def ingest_invoice(engine: Engine, account_id: int, invoice: Invoice, *, with_items: bool) -> str:
    invoice_uuid = str(uuid.uuid4())
    header = billing.InvoiceHeader(invoice_uuid=invoice_uuid, invoice_id=None, period=invoice.month.date(), amount=invoice.amount)
    billing.record_invoices(engine, begin(engine, account_id=account_id, kind="invoice"), [header])
    items = io.BytesIO() if with_items else None
    if items is not None:
        write_items(items, invoice.items)
    done = billing.ingest(engine, account_id, invoice_uuid, items=items, csv=io.BytesIO(invoice.csv()))
    assert done.line_count == len(invoice.lines), done
    assert done.residual == 0, done
    assert done.discrepancy is None, done
    return invoice_uuid


def _verdicts(
    engine: Engine,
    account_id: int,
    account: GeneratedAccount,
    *,
    mode: str,
    lines: dict[tuple[str, int], Line],
    seen: set[tuple[str, str]],
) -> list[Verdict]:
    things = {thing.key: thing for thing in account.things}
    query = """
        select l.invoice_uuid, l.ordinal, l.match_status, l.match_method, l.match_detail ->> 'reason' as reason, l.resource_id,
               array(select (c ->> 'resource_id')::bigint from jsonb_array_elements(l.match_detail -> 'candidates') c) as candidates,
               (select o.resource_id from arcadia.cloud_resources o
                 where o.account_id = l.account_id and o.kind = l.kind and o.state = 'active' and lower(o.name) = lower(l.parsed_name)
                 order by o.resource_id limit 1) as said_before
          from arcadia.cloud_cost_lines l where l.account_id = :account_id"""
    with engine.connect() as conn:
        rows = conn.execute(text(query), {"account_id": account_id}).all()
        known = conn.execute(
            text("select resource_id, kind, provider_id from arcadia.resources where account_id = :account_id"), {"account_id": account_id}
        )
        thing_of = {row.resource_id: things[row.kind, row.provider_id] for row in known}
    alike: dict[tuple[str, ...], set[Thing | None]] = {}
    for (invoice_uuid, _), line in lines.items():
        alike.setdefault((invoice_uuid, *_printed(line)), set()).add(line.truth)
    verdicts = []
    for row in rows:
        line = lines[row.invoice_uuid, row.ordinal]
        truth = line.truth
        if truth is not None and truth.cluster and truth.kind == "load_balancer" and truth.key not in seen:
            truth = truth.cluster  # nobody can know more of it than its name
        verdicts.append(
            Verdict(
                seed=account.seed,
                mode=mode,
                line=line,
                truth=truth,
                resolvable=truth is not None and (mode == "ids" or truth.key in seen or truth.kind in ("reserved_ip", "reserved_ipv6")),
                twin=len(alike[row.invoice_uuid, *_printed(line)]) > 1,
                status=row.match_status,
                method=row.match_method,
                said=thing_of.get(row.resource_id),
                said_before=thing_of.get(row.said_before),
                candidates=[thing_of[resource_id] for resource_id in row.candidates],
                reason=row.reason,
            )
        )
    assert len(verdicts) == len(lines)
    return verdicts


def _printed(line: Line) -> tuple[str, ...]:
    return tuple(line.item[name] for name in ("product", "group_description", "description", "start_time", "end_time"))


def table_of(verdicts: Iterable[Verdict]) -> Table:
    """Each mode's lines altogether, then by method."""
    verdicts = list(verdicts)
    table = Table("mode", "method", "lines", "resolvable", "matched", "wrong", "missed", "ambiguous", "truth listed", "twins", "unmatched",
                  "before: right", "before: wrong")  # fmt: skip
    for mode in MODES:
        of_mode = [verdict for verdict in verdicts if verdict.mode == mode]
        rows = Counter(verdict.row for verdict in of_mode)
        for method in (None, *sorted(rows)):
            some = [verdict for verdict in of_mode if method in (None, verdict.row)]
            status = Counter(verdict.status for verdict in some)
            numbers = (
                len(some),
                sum(verdict.resolvable for verdict in some),
                status["matched"],
                sum(verdict.wrong for verdict in some),
                sum(verdict.missed for verdict in some),
                status["ambiguous"],
                sum(verdict.truth in verdict.candidates for verdict in some),
                sum(verdict.status == "ambiguous" and verdict.twin for verdict in some),
                status["unmatched"],
                sum(verdict.said_before is not None and verdict.said_before is verdict.truth for verdict in some),
                sum(verdict.said_before not in (None, verdict.truth) for verdict in some),
            )
            table.add_row(mode if method is None else "", method or "all", *(f"{number:,}" for number in numbers))
        table.add_section()
    return table


@contextmanager
def own_ledger() -> Iterator[Engine]:
    """A ledger in a database of its own, on the server of ARCADIA_DATABASE_URL or an embedded one; gone at the end."""
    with home():
        os.environ.setdefault("PGOPTIONS", "-c synchronous_commit=off")  # nothing here is worth a wait for the disk
        server = create_engine(settings.ledger_url(), isolation_level="AUTOCOMMIT")
        name = f"arcadia_bench_{uuid.uuid4().hex}"
        with server.connect() as conn:
            conn.execute(text(f"create database {name}"))
        engine = connect(server.url.set(database=name))
        try:
            yield engine
        finally:
            engine.dispose()
            with server.connect() as conn:
                conn.execute(text(f"drop database {name} with (force)"))
            server.dispose()


def main() -> int:
    """Print the table over all seeds; 1 if a line was matched wrongly, or not although it names an id."""
    parser = argparse.ArgumentParser(description="How often matching is right, on accounts made up from seeds.")
    parser.add_argument("seeds", nargs="*", type=int, default=[1])
    parser.add_argument("--resources", type=int, default=300)
    parser.add_argument("-v", "--verbose", action="store_true", help="explain each line that was wrong or missed")
    arguments = parser.parse_args()
    verdicts = []
    with own_ledger() as engine:
        for seed in arguments.seeds:
            for mode in MODES:
                verdicts += run(engine, GeneratedAccount(seed, arguments.resources), mode)
    bad = [verdict for verdict in verdicts if verdict.wrong or verdict.missed]
    if arguments.verbose:
        for verdict in bad:
            print(verdict)
    Console(width=200).print(table_of(verdicts))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
