"""A listing of droplets, from the bytes of its pages to the commit: first load, unchanged, 1 % changed.

Beside it, in turn and in one run, from the same bytes: SQLAlchemy upserts and, where it is installed, `dlt` merge; and what nobody can do
without: decoding the pages and hashing their items, or for a first load the COPY of ready rows into the same table. Fetching is not part of
it. Run by `make bench`, or `python benchmarks/reconcile.py [NUMBER OF DROPLETS]`; for dlt, install the extra `bench`. Uses
ARCADIA_DATABASE_URL where set, else an embedded server in a temporary folder.
"""

import gc
import hashlib
import importlib.util
import math
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

import httpx
import msgspec
from sqlalchemy import URL, Column, DateTime, Engine, MetaData, Numeric, Table, Text, func, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, insert

from arcadia_dagster import settings
from arcadia_dagster.demo import items
from arcadia_dagster.digitalocean.client import Client
from arcadia_dagster.digitalocean.inventory import Reading
from arcadia_dagster.digitalocean.kinds import KINDS, Resource
from arcadia_dagster.digitalocean.replies import Paging
from arcadia_dagster.ledger import reconcile as ledger
from arcadia_dagster.ledger.accounts import account_of_team
from arcadia_dagster.ledger.copying import copy_lines, line
from arcadia_dagster.ledger.schema import connect
from benchmarks.table import Row, home, judged, seconds, show

ROUNDS, OF_FIRST_LOADS, OF_PEERS, PER_PAGE = 9, 15, 2, 200
DROPLET = KINDS["droplet"]
Pages = Sequence[bytes]

mirror = Table(
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


def droplet(number: int) -> bytes:
    """One of them as the provider sends it, some 2.5 KB."""
    item = items.droplet(
        500_000_000 + number, f"web-{number:06}", created_at="2026-01-01T00:00:00Z", tags=("web", "bench"), backup_ids=(number,)
    )
    item["region"]["sizes"] = [f"{family}-{cpus}vcpu-{cpus * 4}gb" for family in "scgm" for cpus in (1, 2, 4, 8, 16, 32, 40, 48, 60, 64)]
    item["region"]["sizes"] += [f"so1_5-{cpus}vcpu-{cpus * 8}gb-{disk}" for cpus in (2, 4, 8) for disk in ("nvme", "intel", "amd")]
    return msgspec.json.encode(item)


def switched_off(encoded: bytes) -> bytes:
    """The same droplet, changed."""
    return encoded.replace(b'"status":"active"', b'"status":"off"', 1)


def page_of(encoded: list[bytes], *, last: bool, total: int) -> bytes:
    """A reply that lists these."""
    links = b"{}" if last else b'{"pages":{"next":"https://api.digitalocean.com/v2/droplets?page=2"}}'
    return b'{"droplets":[%b],"links":%b,"meta":{"total":%d}}' % (b",".join(encoded), links, total)


def pages_of(encoded: list[bytes]) -> Pages:
    """The replies that list them."""
    starts = range(0, len(encoded), PER_PAGE)
    return [page_of(encoded[first : first + PER_PAGE], last=first == starts[-1], total=len(encoded)) for first in starts]


class Fed(Client):
    """The client, given replies that have come already. So nothing is asked ahead: the threads for that are part of fetching."""

    def __init__(self) -> None:
        super().__init__("benchmark")
        self.came: Pages = ()

    def _read_pages(self, items: Any, path: str, key: str, *, kind: str, paging: Paging, **_: Any) -> str | None:
        return self._add_up(items, self, path, key, kind=kind, paging=paging)  # type: ignore[arg-type]

    def page(self, number: int) -> tuple[bytes, httpx.Response]:
        """The reply for this page."""
        return self.came[number - 1], httpx.Response(200)

    def expect(self, last: int) -> None:
        """All are there."""


CLIENT = Fed()


def ours(engine: Engine, account_id: int, pages: Pages, **rules: Any) -> None:
    """One listing, as the asset does it; there are no GPU droplets. `rules` are of what is missing."""
    run = ledger.begin(engine, account_id=account_id, kind="droplet")
    recalled = ledger.recall(engine, run)
    CLIENT.came = pages
    reading = Reading(DROPLET, CLIENT.list("/v2/droplets", "droplets", kind="droplet", known=recalled.digests))
    ledger.reconcile(engine, run, reading, recalled=recalled, error=reading.error, **rules)
    assert reading.error is None


decode = msgspec.json.Decoder(float_hook=Decimal).decode


def read_before(pages: Pages) -> list[Resource]:
    """What these pages list, read one by one."""
    return [DROPLET.read(item) for page in pages for item in decode(page)["droplets"]]


def upsert(engine: Engine, pages: Pages) -> None:
    """What a user writes first: every row, every time, by INSERT ... ON CONFLICT DO UPDATE."""
    statement = insert(mirror)
    changed = {column.name: statement.excluded[column.name] for column in mirror.columns if not column.primary_key}
    with engine.begin() as conn:
        for page in pages:
            rows = []
            for item in decode(page)["droplets"]:
                read = DROPLET.read(item)
                row = {name: getattr(read, name) for name in ("provider_id", "name", "region", "status", "attrs", "monthly_price")}
                times = {"provider_created_at": read.provider_created_at, "last_seen_at": func.now()}
                rows.append({**row, **times, "tags": list(read.tags)})
            conn.execute(insert(mirror).values(rows).on_conflict_do_update(index_elements=["provider_id"], set_=changed))


class Merge:
    """`dlt` with write disposition merge, lists inside items kept as JSON columns."""

    def __init__(self, url: URL, folder: str) -> None:
        import dlt

        os.environ["RUNTIME__DLTHUB_TELEMETRY"] = "false"
        os.environ["RUNTIME__LOG_LEVEL"] = "ERROR"
        # dlt insists on a host and a password; the folder of a socket, among the rest of the address, goes before the host.
        place = url.set(drivername="postgresql", password=url.password or "none", host=url.host or "localhost")
        target = dlt.destinations.postgres(place.render_as_string(hide_password=False))
        self._pipeline = dlt.pipeline("bench", pipelines_dir=folder, destination=target, dataset_name="bench_dlt")

    def __call__(self, pages: Pages) -> None:
        import dlt

        def listed() -> Any:
            for page in pages:
                yield msgspec.json.decode(page)["droplets"]

        self._pipeline.run(
            dlt.resource(listed, name="droplets", primary_key="id", write_disposition="merge", max_table_nesting=0)
        ).raise_on_failed_jobs()


class _Listed(msgspec.Struct):
    droplets: list[msgspec.Raw]


class _Identified(msgspec.Struct):
    id: int


def decode_and_hash(pages: Pages) -> None:
    """What it takes to know an item's id and whether its bytes are those of the last time."""
    listed, identified = msgspec.json.Decoder(_Listed).decode, msgspec.json.Decoder(_Identified).decode
    {identified(item).id: hashlib.sha256(item).digest() for page in pages for item in listed(page).droplets}


class Copy:
    """COPY of rows that are ready in memory into the table that the first load fills."""

    def __init__(self, engine: Engine, seen: Sequence[Resource]) -> None:
        self._engine = engine
        self._rows = [self._row(one) for one in seen]

    def __call__(self, account_id: int) -> None:
        columns = ("account_id", "kind", *ledger._READ, "first_seen_at", "last_seen_at")
        with self._engine.begin() as conn:
            now = conn.execute(text("select now()")).scalar_one()
            copy_lines(conn, "arcadia.resources", columns, (line((account_id, "droplet", *row, now, now)) for row in self._rows))

    def _row(self, one: Resource) -> list[Any]:
        values = {**msgspec.structs.asdict(one), "name_key": ledger.name_key(one.name)}
        return [*map(values.__getitem__, ledger._READ[:-2]), os.urandom(16), os.urandom(24)]


def empty(engine: Engine) -> None:
    """Take all resources from the ledger."""
    with engine.begin() as conn:
        conn.execute(text("truncate arcadia.resources, arcadia.other_names, arcadia.cloud_resource_events, arcadia.rematch_queue"))


def row(
    case: str, own: list[float], peers: dict[str, list[float]], limit: list[float], *, faster: float = 0.0, most: float = math.inf
) -> Row:
    """The row of a case: medians, and ratios; `faster` is the goal beside the peers, `most` beside the limit.

    Beside the limit, of those that ran one right after the other. A peer takes so long that it has the machine's good and bad seconds
    in it, as many of ours have only together.
    """
    middle = statistics.median
    ratios = ["ours/limit " + judged(middle(one / least for one, least in zip(own, limit, strict=True)), most=most)]
    if peers:
        ratios.insert(0, "peer/ours " + judged(*(middle(peer) / middle(own) for peer in peers.values()), least=faster))
    return Row(
        case,
        f"{middle(own):.2f} s",
        ", ".join(f"{name} {middle(peer):.1f} s" for name, peer in peers.items()),
        f"{middle(limit):.2f} s",
        "; ".join(ratios),
    )


def first_loads(engine: Engine, pages: Pages, peers: dict[str, list[float]], rows: list[Row]) -> int:
    """Add the rows of the first load, each of which is into an empty ledger. Returns the account that has the last one."""

    def new_account() -> int:
        empty(engine)  # so that the ledger has as many as are listed, as the peers' tables
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as conn:
            conn.execute(text("checkpoint"))  # of what the load before wrote
        return account_of_team(engine, team_uuid=f"bench-{time.time_ns()}", name="bench")

    seen = read_before(pages)
    copy = Copy(engine, seen)
    gc.collect()
    gc.freeze()  # what this program holds ready for all of them is no part of anybody's work
    whole, written, limit = [], [], []
    for _ in range(OF_FIRST_LOADS):
        account_id = new_account()
        limit.append(seconds(lambda: copy(account_id)))  # noqa: B023
        run = ledger.begin(engine, account_id=new_account(), kind="droplet")
        written.append(seconds(lambda: ledger.reconcile(engine, run, seen)))  # noqa: B023
        account_id = new_account()
        whole.append(seconds(lambda: ours(engine, account_id, pages)))  # noqa: B023
    rows.append(row("first load", whole, peers, limit, most=1.5))
    rows.append(row("of it, to write what has been read", written, {}, limit))
    return account_id


def main() -> None:
    """Print the table."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    encoded = [droplet(number) for number in range(count)]
    same = pages_of(encoded)
    changed = pages_of([one if number % 100 else switched_off(one) for number, one in enumerate(encoded)])
    size = sum(map(len, encoded)) / count / 1000
    rounds = f"medians of {ROUNDS} in turn, of first loads {OF_FIRST_LOADS}, of peers {OF_PEERS}"
    title = f"reconcile: {count:,} droplets of {size:.1f} KB; {rounds}"
    with home() as folder:
        engine = connect(settings.ledger_url())

        def settled(work: Callable[[], None]) -> float:
            """Seconds of it a minute after the last: autovacuum has been there, and what others left in memory is looked at no more."""
            with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as conn:
                conn.execute(text("vacuum analyze"))
            gc.collect()
            gc.freeze()
            return seconds(work)

        def reset() -> None:
            with engine.begin() as conn:
                conn.execute(text("drop table if exists bench_mirror"))
                conn.execute(text("drop schema if exists bench_dlt cascade"))
                conn.execute(text("drop schema if exists bench_dlt_staging cascade"))
                mirror.create(conn)

        reset()
        peers: dict[str, Callable[[Pages], None]] = {"upserts": lambda pages: upsert(engine, pages)}
        if importlib.util.find_spec("dlt"):
            peers["dlt"] = Merge(settings.ledger_url(), folder)
        rows: list[Row] = []
        first = {name: [seconds(lambda peer=peer: peer(same))] for name, peer in peers.items()}  # type: ignore[misc]
        account_id = first_loads(engine, same, first, rows)
        for case, editions in (("unchanged", (same, same)), ("1 % changed", (changed, same))):
            own, limit = [], []
            theirs: dict[str, list[float]] = {name: [] for name in peers}
            for number in range(ROUNDS):
                pages = editions[number % 2]
                limit.append(settled(lambda: decode_and_hash(pages)))  # noqa: B023
                own.append(seconds(lambda: ours(engine, account_id, pages)))  # noqa: B023
                for name, peer in peers.items():
                    if number < OF_PEERS:
                        theirs[name].append(settled(lambda peer=peer: peer(pages)))  # type: ignore[misc]  # noqa: B023
            rows.append(row(case, own, theirs, limit, faster=30, most=1.5))
        show(title, rows)
        reset()
        engine.dispose()


if __name__ == "__main__":
    main()
