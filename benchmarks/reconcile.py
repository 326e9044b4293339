"""`reconcile` of droplets against a plain SQLAlchemy upsert of the same rows, side by side: first load, unchanged, 1 % changed.

Run by `make bench`, or `python benchmarks/reconcile.py [NUMBER OF DROPLETS]`. Uses ARCADIA_DATABASE_URL where set, else an embedded server
in a temporary folder. Fetching is not part of it: both sides start from decoded items of the droplet listing.
"""

import copy
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.table import Table
from sqlalchemy import Column, DateTime, Engine, MetaData, Numeric, Text, func, text
from sqlalchemy import Table as SqlTable
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, insert

from arcadia_dagster import settings
from arcadia_dagster.demo import items
from arcadia_dagster.digitalocean.kinds import KINDS
from arcadia_dagster.ledger.accounts import account_of_team
from arcadia_dagster.ledger.reconcile import begin, reconcile
from arcadia_dagster.ledger.schema import connect

ROUNDS = 5

mirror = SqlTable(
    "bench_mirror",
    MetaData(),
    Column("provider_id", Text, primary_key=True),
    Column("name", Text),
    Column("region", Text),
    Column("status", Text),
    Column("tags", ARRAY(Text)),
    Column("attrs", JSONB),
    Column("monthly_price", Numeric),
    Column("provider_created_at", DateTime(timezone=True)),
    Column("last_seen_at", DateTime(timezone=True)),
)


def upsert(engine: Engine, droplets: list[dict[str, Any]]) -> None:
    """What a user writes first: every row, every time, by INSERT ... ON CONFLICT DO UPDATE."""
    kind = KINDS["droplet"]
    rows = []
    for item in droplets:
        read = kind.read(item)
        rows.append(
            {
                "provider_id": read.provider_id,
                "name": read.name,
                "region": read.region,
                "status": read.status,
                "tags": list(read.tags),
                "attrs": read.attrs,
                "monthly_price": read.monthly_price,
                "provider_created_at": read.provider_created_at,
                "last_seen_at": func.now(),
            }
        )
    statement = insert(mirror)
    changed = {column.name: statement.excluded[column.name] for column in mirror.columns if not column.primary_key}
    with engine.begin() as conn:
        for first in range(0, len(rows), 1000):
            conn.execute(
                insert(mirror).values(rows[first : first + 1000]).on_conflict_do_update(index_elements=["provider_id"], set_=changed)
            )


def ours(engine: Engine, account_id: int, droplets: list[dict[str, Any]]) -> None:
    """One listing of droplets, as the asset does it."""
    kind = KINDS["droplet"]
    run = begin(engine, account_id=account_id, kind="droplet")
    reconcile(engine, run, [kind.read(item) for item in droplets])


def seconds(work: Callable[[], None]) -> float:
    """Wall time of one call."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def main() -> None:
    """Print the table."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    with tempfile.TemporaryDirectory(prefix="arcadia-bench-") as folder:
        os.environ.setdefault("ARCADIA_HOME", folder)
        engine = connect(settings.ledger_url())
        with engine.begin() as conn:
            conn.execute(text("drop table if exists bench_mirror"))
            mirror.create(conn)
        account_id = account_of_team(engine, team_uuid=f"bench-{time.time_ns()}", name="bench")
        droplets = [
            items.droplet(500_000_000 + number, f"web-{number:06}", created_at="2026-01-01T00:00:00Z", tags=("web", "bench"))
            for number in range(count)
        ]
        table = Table(
            "case", "reconcile", "upsert", "times as fast", title=f"{count:,} droplets, median of {ROUNDS} in turn (first load: 1)"
        )
        table.add_row(
            *case("first load", [seconds(lambda: ours(engine, account_id, droplets))], [seconds(lambda: upsert(engine, droplets))])
        )
        a, b = [], []
        for _ in range(ROUNDS):
            a.append(seconds(lambda: ours(engine, account_id, droplets)))
            b.append(seconds(lambda: upsert(engine, droplets)))
        table.add_row(*case("unchanged", a, b))
        a, b = [], []
        for number in range(ROUNDS):
            changed = copy.deepcopy(droplets[: count // 100])
            for item in changed:
                item["status"] = "off" if number % 2 else "archive"
            listing = [*changed, *droplets[count // 100 :]]
            a.append(seconds(lambda listing=listing: ours(engine, account_id, listing)))  # type: ignore[misc]
            b.append(seconds(lambda listing=listing: upsert(engine, listing)))  # type: ignore[misc]
        table.add_row(*case("1 % changed", a, b))
        Console().print(table)
        with engine.begin() as conn:
            conn.execute(text("drop table bench_mirror"))
        engine.dispose()


def case(name: str, ours_seconds: list[float], peer_seconds: list[float]) -> tuple[str, ...]:
    """A row: both medians, and the median of the ratios of the pairs."""
    ratio = statistics.median(peer / own for own, peer in zip(ours_seconds, peer_seconds, strict=True))
    return name, f"{statistics.median(ours_seconds):.3f} s", f"{statistics.median(peer_seconds):.3f} s", f"{ratio:.1f}"


if __name__ == "__main__":
    main()
