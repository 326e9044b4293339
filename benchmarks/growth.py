"""What grows faster than the work: time and memory of what the ledger does, at sizes ten times apart, and the exponent of the growth.

`python benchmarks/growth.py [SIZE...]`; `make bench` takes 10,000 and 100,000, and without sizes it goes from a thousand up to a million.
A size is a number of droplets in the first part and of invoice lines in the others, which have a tenth as many resources. Each case is a
process of its own, so that the peak memory is the case's, on embedded servers in a temporary folder, and what it is fed is read from disk
as it goes. A cell is the best of up to three rounds: seconds, then MB of the process, then those of the server's processes without what
they share (looked at twenty times a second; Linux alone tells). The exponent is the slope of a straight line through the logarithms of
sizes from 10,000 on: 1 where ten times as much takes ten times as long. It exits with 1 where a case failed.
"""

import json
import math
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any, overload

from rich.console import Console
from rich.table import Table
from sqlalchemy import Engine, text
from sqlalchemy.engine import make_url

from arcadia_dagster import embedded_postgres, settings
from arcadia_dagster.api import reading
from arcadia_dagster.ledger.accounts import account_for_import, account_of_team
from arcadia_dagster.ledger.attribution import attribute
from arcadia_dagster.ledger.billing import import_csv
from arcadia_dagster.ledger.export import export, whole_file
from arcadia_dagster.ledger.matching import rematch
from arcadia_dagster.ledger.reconcile import STRIKES
from arcadia_dagster.ledger.schema import connect
from arcadia_dagster.ledger.tenants import apply
from arcadia_dagster.ledger.tenants_file import Declaration, Rule, Tenant
from benchmarks import marts, matching
from benchmarks.reconcile import PER_PAGE, Pages, droplet, ours, page_of, switched_off
from benchmarks.table import Row, seconds, show

SIZES = (1_000, 10_000, 100_000, 1_000_000)
ROUNDS, PATIENCE = 3, 10  # seconds: what takes longer is done once
LARGE = 10_000  # below, what is the same for any size takes the most
LINES_OF_A_DROPLET = 10
PAGE = 1000  # rows, the most that the read API gives at once


@dataclass(frozen=True)
class Place:
    """Where a case is at work."""

    engine: Engine
    folder: Path  # the pages and the invoice
    size: int

    @property
    def team(self) -> int:
        """The account whose droplets are listed."""
        return account_of_team(self.engine, team_uuid="growth", name="growth")

    @property
    def customer(self) -> int:
        """The account whose invoice is imported."""
        return account_for_import(self.engine, matching.ACCOUNT)

    @property
    def lines(self) -> dict[str, int]:
        return {"resources": self.size // LINES_OF_A_DROPLET, "each": LINES_OF_A_DROPLET}

    def execute(self, query: str, **values: object) -> None:
        with self.engine.begin() as conn:
            conn.execute(text(query), values)


Work = Callable[[], object]


@dataclass(frozen=True)
class Case:
    """One row. `prepare` is given the number of the round, and what it returns is timed."""

    prepare: Callable[[Place, int], Work]
    rounds: int = ROUNDS


# Droplets


class OnDisk(Pages):
    """The replies that list the droplets, each read when it is looked at; of the first `edited`, the edited ones."""

    def __init__(self, folder: Path, count: int, edited: int = 0) -> None:
        self._folder, self._count, self._edited = folder, count, edited

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, number: int) -> bytes: ...
    @overload
    def __getitem__(self, number: slice) -> Pages: ...
    def __getitem__(self, number: int | slice) -> bytes | Pages:
        assert isinstance(number, int)
        return (self._folder / f"{'edited' if number < self._edited else 'page'}-{number}").read_bytes()


def write_pages(place: Place) -> None:
    """All of them, and once more those that hold the first hundredth, which is changed there."""
    for number, first in enumerate(range(0, place.size, PER_PAGE)):
        encoded = [droplet(one) for one in range(first, min(first + PER_PAGE, place.size))]
        last = first + PER_PAGE >= place.size
        (place.folder / f"page-{number}").write_bytes(page_of(encoded, last=last, total=place.size))
        if (changed := place.size // 100 - first) > 0:
            encoded = [*map(switched_off, encoded[:changed]), *encoded[changed:]]
            (place.folder / f"edited-{number}").write_bytes(page_of(encoded, last=last, total=place.size))


def listing(place: Place, *, edited: bool = False) -> Work:
    pages = OnDisk(place.folder, math.ceil(place.size / PER_PAGE), math.ceil(place.size / 100 / PER_PAGE) if edited else 0)
    account_id = place.team
    return lambda: ours(place.engine, account_id, pages)


def half_gone(place: Place, _: int) -> Work:
    """The last of three listings that show the first half."""
    half = place.size // 2 // PER_PAGE * PER_PAGE
    for number in range(half // PER_PAGE):
        encoded = [droplet(one) for one in range(number * PER_PAGE, (number + 1) * PER_PAGE)]
        (place.folder / f"page-{number}").write_bytes(page_of(encoded, last=(number + 1) * PER_PAGE >= half, total=half))
    account_id = place.team

    def listed() -> None:
        pages = OnDisk(place.folder, half // PER_PAGE)
        ours(place.engine, account_id, pages, strike_interval=timedelta(0), allow_mass_deletion=True)

    for _round in range(STRIKES - 1):
        listed()
    return listed


TENANTS = Declaration(
    tenants=(
        Tenant(tenant_id="one", name="One", rules=(Rule(name="web-*1"), Rule(tag="no-such-tag"))),
        Tenant(tenant_id="rest", name="Rest"),
    ),
    fallback="rest",
)


def attributed(*, gone_too: bool) -> Callable[[Place, int], Work]:
    def prepare(place: Place, _: int) -> Work:
        account_id = place.team
        return lambda: attribute(place.engine, account_id, internal_project=None, gone_too=gone_too)

    return prepare


def pages_read(place: Place, read: Callable[[Any, Any], Any], first: Any) -> Work:
    """All rows as the read API gives them, page by page."""

    def every() -> None:
        after = first
        while after is not None:
            with reading.transaction(place.engine) as conn:
                rows = read(conn, after)
            after = rows[-1] if len(rows) == PAGE else None

    return every


def resources_read(place: Place, _: int) -> Work:
    return pages_read(
        place, lambda conn, after: reading.inventory(conn, {}, after=after["resource_id"], limit=PAGE), {"resource_id": 0}
    )  # fmt: skip


# Lines of one invoice


def write_invoice(place: Place) -> None:
    place.execute(matching.INVENTORY, account_id=place.customer, resources=place.lines["resources"])
    matching.write_csv(place.engine, place.folder / "invoice.csv", place.lines)


def invoice_imported(place: Place, _: int) -> Work:
    account_id = place.customer

    def work() -> None:
        with (place.folder / "invoice.csv").open("rb") as document:
            done = import_csv(place.engine, account_id, document)
        assert (done.line_count, done.outcomes) == (place.size, {"matched": place.size}), done

    return work


def rematched(changed: str) -> Callable[[Place, int], Work]:
    """`changed`: the statement that makes it necessary."""

    def prepare(place: Place, _: int) -> Work:
        account_id = place.customer
        rematch(place.engine, account_id)
        if changed:
            place.execute(changed)
        return lambda: rematch(place.engine, account_id)

    return prepare


def lines_read(place: Place, _: int) -> Work:
    def read(conn: Any, after: Mapping[str, Any]) -> Any:
        key = {name: after[name] for name in ("period", "invoice_uuid", "ordinal")}
        return reading.cost_lines(conn, {}, after=key, limit=PAGE)

    return pages_read(place, read, {"period": date(1, 1, 1), "invoice_uuid": "", "ordinal": 0})


# Lines of twelve months


def queried(query: str) -> Callable[[Place, int], Work]:
    def prepare(place: Place, _: int) -> Work:
        def work() -> None:
            with place.engine.connect() as conn:
                conn.execute(text(query)).all()

        return work

    return prepare


def exported(place: Place, _: int) -> Work:
    def work() -> None:
        with place.engine.connect() as conn, whole_file(place.folder / "focus.parquet") as file:
            export(conn, "focus_1_2", file, format="parquet")

    return work


def reported(place: Place, _: int) -> Work:
    from arcadia_dagster.report import figures, page  # as the command does: it takes a while

    def work() -> None:
        with place.engine.connect() as conn:
            page.write(place.folder / "report.html", figures.read(conn))

    return work


def checked(module: str, name: str) -> Callable[[Place, int], Work]:
    def prepare(place: Place, _: int) -> Work:
        import importlib

        from arcadia_dagster.defs.resources import Ledger  # Dagster's memory is no other case's

        check = getattr(importlib.import_module(f"arcadia_dagster.defs.{module}.checks"), name)
        given = Ledger()
        given._engine = place.engine
        return lambda: check(ledger=given)

    return prepare


def checks(module: str, *names: str) -> dict[str, Case]:
    return {f"check {name}": Case(checked(module, name)) for name in names}


# Of each part: what makes it ready, and its cases, in order.
PARTS: dict[str, tuple[Callable[[Place], None], dict[str, Case]]] = {
    "droplets": (
        write_pages,
        {
            "first load": Case(lambda place, _: listing(place), rounds=1),
            "listed again, nothing changed": Case(lambda place, _: listing(place)),
            "listed again, 1 % changed": Case(lambda place, number: listing(place, edited=number % 2 == 0)),
            "tenants declared, each thing gets one": Case(lambda place, _: lambda: apply(place.engine, TENANTS), rounds=1),
            "projects and tenants, nothing changed": Case(attributed(gone_too=False)),
            **checks("inventory", "names_are_unique", "no_secret_is_kept"),
            "every resource, by pages of the API": Case(resources_read),
            "half of them gone": Case(half_gone, rounds=1),
            "projects and tenants of what is left": Case(attributed(gone_too=False)),
            "projects and tenants, tombstones too": Case(attributed(gone_too=True)),
            **checks("inventory", "tombstones_are_proven"),
        },
    ),
    "lines of one invoice": (
        write_invoice,
        {
            "import": Case(invoice_imported, rounds=1),
            "rematch, every line": Case(
                rematched("insert into arcadia.rematch_queue select resource_id, account_id from arcadia.resources")
            ),
            "rematch, nothing changed": Case(rematched("")),
            "rematch, one droplet changed": Case(
                rematched("update arcadia.resources set region = region || '1' where provider_id = '1'")
            ),
            "every line, by pages of the API": Case(lines_read),
            **checks("costs", "no_match_contradicts_its_line"),
        },
    ),
    "lines of twelve months": (
        lambda place: marts.fill(place.engine, place.size, place.size // LINES_OF_A_DROPLET),
        {
            **{f"{view}, {'one month' if 'period' in query else 'top 100' if 'limit' in query else 'one'}": Case(queried(query))
               for view, query in marts.QUERIES.items()},
            "cost_changes, whole": Case(queried("select count(v) from arcadia.cost_changes v")),
            **checks("costs", "every_line_is_explained", "no_unknown_product"),
            "report": Case(reported),
            "focus_1_2 as Parquet": Case(exported),
        },
    ),
}  # fmt: skip


def measure(part: str, name: str, size: int, folder: Path) -> None:
    """Do a case in this process, and print its seconds and MB as JSON."""
    engine = connect(settings.ledger_url())
    place = Place(engine, folder, size)
    case = PARTS[part][1][name]
    took: list[float] = []
    while len(took) < case.rounds and sum(took) < PATIENCE:
        took.append(seconds(case.prepare(place, len(took))))
    engine.dispose()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps([min(took), peak / 1024 if sys.platform == "linux" else peak / 1024**2]))


class ServerMemory:
    """The most that the processes of a server held at once without what they share, in MB; 0 where nothing tells."""

    def __init__(self, data_dir: Path) -> None:
        server = (data_dir / "postmaster.pid").read_text().splitlines()[0]
        self._children = Path(f"/proc/{server}/task/{server}/children")
        self.peak = 0.0

    @contextmanager
    def watched(self) -> Iterator[None]:
        self.peak, done = 0.0, threading.Event()

        def watch() -> None:
            while not done.wait(0.05):
                self.peak = max(self.peak, self._now())

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            yield
        finally:
            done.set()
            watcher.join()

    def _now(self) -> float:
        held = 0
        try:
            for pid in self._children.read_text().split():
                status = Path(f"/proc/{pid}/status").read_text()
                held += sum(int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon:"))
        except OSError:  # one has just ended, or this is no Linux
            return 0.0
        return held / 1024


Cell = tuple[float, float, float]  # seconds, MB of the process, MB of the server


def grow(size: int, folder: Path) -> Iterator[tuple[str, Cell | None]]:
    """Every case at one size; None: it failed, and said why on standard error."""
    for number, (part, (make_ready, cases)) in enumerate(PARTS.items()):
        here = folder / f"{size}-{number}"
        here.mkdir()
        url = embedded_postgres.start(here / "postgres")
        try:
            engine = connect(make_url(url).set(drivername="postgresql+psycopg"))
            make_ready(Place(engine, here, size))
            memory = ServerMemory(here / "postgres")
            for name in cases:
                matching.tidy(engine)
                command = [sys.executable, __file__, "--case", part, name, str(size), str(here)]
                with memory.watched():
                    done = subprocess.run(
                        command, env={**os.environ, "ARCADIA_DATABASE_URL": url}, stdout=subprocess.PIPE, text=True, check=False
                    )
                yield f"{part}: {name}", None if done.returncode else (*json.loads(done.stdout), memory.peak)
            engine.dispose()
        finally:
            embedded_postgres.stop(here / "postgres")
            shutil.rmtree(here)


def shown(cell: Cell | None) -> str:
    """As the table has it."""
    return f"{cell[0]:#.3g}; {cell[1]:.0f} + {cell[2]:.0f}" if cell else "failed"


def exponent(cells: Sequence[tuple[int, Cell | None]]) -> str:
    """Of the time, as the table has it; empty where two sizes are not large."""
    large = [(math.log(size), math.log(cell[0])) for size, cell in cells if cell is not None and size >= LARGE]
    return f"{statistics.linear_regression(*zip(*large, strict=True)).slope:.2f}" if len(large) > 1 else ""


def main() -> None:
    """Print the table of all sizes, and that of the largest."""
    sizes = [int(size) for size in sys.argv[1:]] or SIZES
    cells: dict[str, list[tuple[int, Cell | None]]] = {}
    with tempfile.TemporaryDirectory(prefix="arcadia-bench-") as folder:
        for size in sizes:
            for name, cell in grow(size, Path(folder)):
                cells.setdefault(name, []).append((size, cell))
                print(f"{size:,} {name}: {shown(cell)}", file=sys.stderr)  # all of it takes long
    table = Table("seconds; MB of the process + MB of the server", *(f"{size:,}" for size in sizes), "exponent")
    for part in PARTS:
        table.add_section()
        table.add_row(part)
        for name, row in cells.items():
            if name.startswith(f"{part}: "):
                table.add_row(f"  {name.removeprefix(part)[2:]}", *(shown(cell) for _, cell in row), exponent(row))
    Console(width=140).print(table)
    show(
        f"growth: {sizes[-1]:,} of them; seconds, and MB of the process + MB of the server",
        [Row(name, shown(row[-1][1]), "", "", f"exponent {exponent(row)}" if exponent(row) else "") for name, row in cells.items()],
    )
    if any(cell is None for row in cells.values() for _, cell in row):
        raise SystemExit(1)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--case"]:
        measure(sys.argv[2], sys.argv[3], int(sys.argv[4]), Path(sys.argv[5]))
    else:
        main()
