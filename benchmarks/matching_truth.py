"""How often matching is right, on accounts whose truth it cannot see: lines, matched, wrong and ambiguous, by mode and by method.

Run by `make bench`, or `python benchmarks/matching_truth.py [SEED] [RESOURCES]`; `-v` shows what was wrong. An account is made up from the
seed: droplets, volumes, snapshots and load balancers over twelve months, with renames, destroy-and-recreate, resizes, shared names, unicode
and brackets. It is billed by the provider's rules (a line for each resource, size and month; backups to the droplet) and goes through
the real pipeline: listings day by day, invoices as documents. Three modes: JSON items with ids, CSV only, and CSV only with an inventory
that began half-way.

A line is `resolvable` where the ledger can know its resource: with ids, all of them; without, those whose resource the inventory has seen.
The rule of the service before (kind and case-insensitive name, first active hit) is judged on the same lines.
"""

import csv
import io
import itertools
import os
import random
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from rich.console import Console
from rich.table import Table
from sqlalchemy import Engine, text

from arcadia_dagster import settings
from arcadia_dagster.digitalocean.documents import write_items
from arcadia_dagster.digitalocean.kinds import Resource
from arcadia_dagster.ledger import billing
from arcadia_dagster.ledger.accounts import account_of_team
from arcadia_dagster.ledger.matching import rematch
from arcadia_dagster.ledger.reconcile import begin, reconcile
from arcadia_dagster.ledger.schema import connect

MONTHS = [datetime(2025 + (month > 8), (month + 3) % 12 + 1, 1, tzinfo=UTC) for month in range(12)]  # May 2025 to April 2026
END = datetime(2026, 5, 1, tzinfo=UTC)
SIZES = ("s-1vcpu-1gb", "s-1vcpu-2gb", "s-2vcpu-4gb", "c-4")
REGIONS = ("fra1", "nyc1", "blr1")
KINDS = ("droplet", "droplet", "droplet", "droplet", "volume", "snapshot", "load_balancer")


@dataclass
class Thing:
    """A resource as it really was: its names and sizes over time, each from a moment on, and when it lived."""

    kind: str
    provider_id: str
    region: str
    born: datetime
    died: datetime | None
    names: list[tuple[datetime, str]]
    sizes: list[tuple[datetime, str]]
    backups: bool = False

    def at(self, values: list[tuple[datetime, str]], moment: datetime) -> str:
        """The value that held at the moment (the first one before its time)."""
        return next((value for since, value in reversed(values) if since <= moment), values[0][1])

    def lives(self, moment: datetime) -> bool:
        """Whether it existed at the moment."""
        return self.born <= moment and (self.died is None or moment < self.died)


@dataclass
class World:
    """An account from a seed."""

    random: random.Random
    things: list[Thing] = field(default_factory=list)

    def name(self, number: int) -> str:
        """A name; every third one is taken from a small pool, so that names are shared and used again."""
        odd = ("web", "Web", "db (old)", "worker, spare", "büro-ß", "データ", 'say "hi"', "a  b", "backup (s-1vcpu-1gb)")
        return self.random.choice(odd) if number % 3 == 0 else f"{self.random.choice(('app', 'job', 'pg'))}-{number}.example.org"

    def moment(self, first: datetime, last: datetime) -> datetime:
        """A whole second between the two."""
        return first + timedelta(seconds=self.random.randrange(max(1, int((last - first).total_seconds()))))

    def fill(self, count: int) -> None:
        """Make the things: some die, some are renamed or resized, and some are made again under the name of one destroyed."""
        for number in range(count):
            kind = self.random.choice(KINDS)
            born = self.moment(MONTHS[0] - timedelta(days=200), END - timedelta(days=20))
            died = self.moment(born + timedelta(hours=3), END + timedelta(days=200))
            thing = Thing(
                kind=kind,
                provider_id=str(1000 + number) if kind in ("droplet", "snapshot") else f"{kind}-{number:06}",
                region=self.random.choice(REGIONS),
                born=born,
                died=died if died < END else None,
                names=[(born, self.name(number))],
                sizes=[(born, self.random.choice(SIZES))],
                backups=kind == "droplet" and self.random.random() < 0.3,
            )
            until = thing.died or END
            if self.random.random() < 0.15:
                thing.names.append((self.moment(born, until), self.name(number * 7 + 1)))
            if kind == "droplet" and self.random.random() < 0.15:
                thing.sizes.append((self.moment(born, until), self.random.choice(SIZES)))
            before = self.random.choice(self.things) if self.things else None
            if before and before.kind == kind and before.died and before.died < END - timedelta(days=5) and self.random.random() < 0.5:
                born = before.died + timedelta(seconds=self.random.choice((5, 600, 90_000)))
                thing.born, thing.died = born, None
                thing.names, thing.sizes = [(born, before.names[-1][1])], [(born, before.sizes[-1][1])]
                thing.region = before.region
            self.things.append(thing)

    def listing(self, kind: str, moment: datetime) -> list[Resource]:
        """What the API would list at the moment."""
        return [
            Resource(
                provider_id=thing.provider_id,
                name=thing.at(thing.names, moment),
                region=thing.region,
                attrs={"size_slug": thing.at(thing.sizes, moment)} if kind == "droplet" else {},
                provider_created_at=thing.born,
            )
            for thing in self.things
            if thing.kind == kind and thing.lives(moment)
        ]

    def invoice(self, month: datetime) -> list[tuple[dict[str, Any], Thing]]:
        """The month's items, each with the thing it really pays for, in the order of the provider: by product, then as it comes."""
        end = _next(month)
        items = []
        for thing in self.things:
            begins, ends = max(thing.born, month), min(thing.died or end, end)
            if begins >= ends:
                continue
            name = thing.at(thing.names, ends - timedelta(seconds=1))
            cuts = [begins, *(since for since, _ in thing.sizes[1:] if begins < since < ends), ends]
            for first, last in itertools.pairwise(cuts):
                size = thing.at(thing.sizes, first)
                product, description = {
                    "droplet": ("Droplets", f"{name} ({size})"),
                    "volume": ("Volumes", f"{name} ({thing.region}) 100GB"),
                    "snapshot": ("Droplet Snapshots", f"{name} ({thing.region}) 4.20GB Droplet Snapshot"),
                    "load_balancer": ("Load Balancers", name),
                }[thing.kind]
                items.append((_item(product, description, thing, first, last), thing))
            if thing.backups and ends - begins > timedelta(days=8):
                when = begins + timedelta(days=7)
                items.append((_item("Droplet Backups", f"{name} (Weekly Backup Services)", thing, when, when), thing))
        items.sort(key=lambda pair: str(pair[0]["product"]))
        return items


def _next(month: datetime) -> datetime:
    return (month + timedelta(days=32)).replace(day=1)


def _item(product: str, description: str, thing: Thing, first: datetime, last: datetime) -> dict[str, Any]:
    numbered = thing.kind in ("droplet", "snapshot")
    return {
        "product": product,
        "resource_id": thing.provider_id if numbered else "",
        "resource_uuid": "" if numbered else thing.provider_id,
        "group_description": "",
        "description": description,
        "amount": "1.00",
        "duration": str(int((last - first).total_seconds()) // 3600),
        "duration_unit": "Hours",
        "start_time": f"{first:%Y-%m-%dT%H:%M:%SZ}",
        "end_time": f"{last:%Y-%m-%dT%H:%M:%SZ}",
        "project_name": "",
        "category": "iaas",
    }


def _csv(items: list[dict[str, Any]]) -> bytes:
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(["product", "group_description", "description", "hours", "start", "end", "USD", "project_name", "category"])
    for item in items:
        times = [item[name].replace("T", " ").replace("Z", " +0000") for name in ("start_time", "end_time")]
        writer.writerow([item["product"], "", item["description"], item["duration"], *times, f"${item['amount']}", "", "iaas"])
    return out.getvalue().encode()


def _json(items: list[dict[str, Any]]) -> io.BytesIO:
    document = io.BytesIO()
    write_items(document, items)
    return document


@dataclass
class Verdict:
    """One line: what it really pays for, what the ledger says, and what the rule of the service before says (resource ids or None)."""

    product: str
    truth: str
    known: bool
    status: str
    method: str | None
    said: str | None
    said_before: str | None


def run(engine: Engine, world: World, mode: str) -> list[Verdict]:
    """Put the world through the pipeline in one mode, in an account of its own."""
    account_id = account_of_team(engine, team_uuid=f"truth-{mode}-{world.random.random()}", name=mode)
    first_listing = MONTHS[6] if mode == "csv, half-way" else MONTHS[0]
    truths: dict[tuple[str, int], tuple[str, Thing]] = {}
    days = [MONTHS[0] + timedelta(days=number) for number in range(0, (END - MONTHS[0]).days + 6)]
    seen: set[tuple[str, str]] = set()
    for day in days:
        if day >= first_listing:
            for kind in dict.fromkeys(KINDS):
                listed = world.listing(kind, day)
                seen |= {(kind, resource.provider_id) for resource in listed}
                # Three listings an hour apart, so that what is gone is known to be gone the same day.
                for hour in range(3):
                    started = day + timedelta(hours=hour)
                    sync_run = begin(engine, account_id=account_id, kind=kind, started_at=started)
                    reconcile(engine, sync_run, listed, strike_interval=timedelta(0), allow_mass_deletion=True)
                    if len(listed) == _active(engine, account_id, kind):
                        break
        if day.day == 3 and day > MONTHS[0]:
            month = (day - timedelta(days=4)).replace(day=1)
            pairs = world.invoice(month)
            uuid = f"{account_id}-{month:%Y-%m}"
            header = billing.InvoiceHeader(invoice_uuid=uuid, invoice_id=None, period=month.date(), amount=Decimal(len(pairs)))
            billing.record_invoices(engine, begin(engine, account_id=account_id, kind="invoice"), [header])
            items = [item for item, _ in pairs]
            billing.ingest(engine, account_id, uuid, items=_json(items) if mode == "ids" else None, csv=io.BytesIO(_csv(items)))
            truths |= {(uuid, number): (str(item["product"]), thing) for number, (item, thing) in enumerate(pairs, 1)}
            rematch(engine, account_id)
    query = """
        select l.invoice_uuid, l.ordinal, l.match_status, l.match_method, r.kind || ':' || r.provider_id as said,
               (select o.kind || ':' || o.provider_id from arcadia.cloud_resources o
                 where o.account_id = l.account_id and o.kind = l.kind and o.state = 'active' and lower(o.name) = lower(l.parsed_name)
                 order by o.resource_id limit 1) as said_before
          from arcadia.cloud_cost_lines l left join arcadia.cloud_resources r using (resource_id) where l.account_id = :account_id"""
    with engine.connect() as conn:
        rows = conn.execute(text(query), {"account_id": account_id}).all()
    verdicts = []
    for row in rows:
        product, thing = truths[row.invoice_uuid, row.ordinal]
        known = mode == "ids" or (thing.kind, thing.provider_id) in seen
        truth = f"{thing.kind}:{thing.provider_id}"
        verdicts.append(Verdict(product, truth, known, row.match_status, row.match_method, row.said, row.said_before))
    return verdicts


def _active(engine: Engine, account_id: int, kind: str) -> int:
    with engine.connect() as conn:
        query = "select count(*) from arcadia.resources where account_id = :a and kind = :k and deleted_at is null"
        return int(conn.execute(text(query), {"a": account_id, "k": kind}).scalar_one())


def main() -> int:
    """Print the table; 1 if a line was matched wrongly."""
    seed = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 300
    table = Table("mode", "method", "lines", "resolvable", "matched", "wrong", "ambiguous", "unmatched", "before: right", "before: wrong")
    wrong = 0
    with tempfile.TemporaryDirectory(prefix="arcadia-bench-") as folder:
        os.environ.setdefault("ARCADIA_HOME", folder)
        engine = connect(settings.ledger_url())
        for mode in ("ids", "csv", "csv, half-way"):
            world = World(random.Random(seed))
            world.fill(count)
            verdicts = run(engine, world, mode)
            for method in (None, *sorted({verdict.method for verdict in verdicts if verdict.method})):
                some = [verdict for verdict in verdicts if method in (None, verdict.method)]
                status = Counter(verdict.status for verdict in some)
                missed = [verdict for verdict in some if verdict.said is not None and verdict.said != verdict.truth]
                wrong += len(missed) if method is None else 0
                if method is None and "-v" in sys.argv:
                    for verdict in missed[:10]:
                        print(verdict)
                table.add_row(
                    mode if method is None else "",
                    method or "all",
                    *(
                        f"{number:,}"
                        for number in (
                            len(some),
                            sum(verdict.known for verdict in some),
                            status["matched"],
                            len(missed),
                            status["ambiguous"],
                            status["unmatched"],
                            sum(verdict.said_before == verdict.truth for verdict in some),
                            sum(verdict.said_before not in (None, verdict.truth) for verdict in some),
                        )
                    ),
                )
        engine.dispose()
    Console(width=130).print(table)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
