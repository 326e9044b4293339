"""What a benchmark prints: one row for each case, ours beside a peer that does the same and beside the least that must be done.

`python -m benchmarks.table FILE` prints, as one table, what all benchmarks of a `make bench` have noted in that file, then the machine and
the date. It exits with 1 where one of them failed.
"""

import json
import math
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple, TypeVar

import psutil
from sqlalchemy import text

from arcadia_dagster import embedded_postgres, settings
from arcadia_dagster.ledger.schema import connect

_Round = TypeVar("_Round")


class Row(NamedTuple):
    """One line of the common table, as text; `limit` is the least that any program must do, "" where none was measured."""

    case: str
    ours: str
    peer: str
    limit: str
    ratio: str


def show(title: str, rows: Iterable[Row]) -> None:
    """Print the table, and note its rows in the file that BENCH_RESULTS names, which `make bench` sets."""
    rows = list(rows)
    print(f"\n{markdown({title: rows})}\n", flush=True)
    if results := os.environ.get("BENCH_RESULTS"):
        with open(results, "a") as file:
            file.writelines(json.dumps({"title": title, "row": row}) + "\n" for row in rows)


def markdown(sections: Mapping[str, Sequence[Row]]) -> str:
    """A table of Markdown, which reads well as it is; titles are rows in bold."""
    lines: list[Sequence[str]] = [Row._fields]
    for title, rows in sections.items():
        lines += [(f"**{title}**", "", "", "", ""), *rows]
    titles = {f"**{title}**" for title in sections}
    widths = [max(len(line[column]) for line in lines if line[0] not in titles) for column in range(len(Row._fields))]
    cells = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines]
    return "\n".join([cells[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *cells[1:]])


def judged(*ratios: float, least: float = 0.0, most: float = math.inf) -> str:
    """Ratios as the table has them, with their goal if there is one, and whether it was missed."""
    goal = f"goal >= {least:g}" if least else f"goal <= {most:g}" if most < math.inf else ""
    missed = "" if all(least <= ratio <= most for ratio in ratios) else ", missed"
    return ", ".join(f"{ratio:#.3g}" for ratio in ratios) + (f" ({goal}{missed})" if goal else "")


def middle(rounds: Iterable[_Round], ratio: Callable[[_Round], float]) -> _Round:
    """The round whose ratio is the middle one: no machine is equally fast all the time."""
    ordered = sorted(rounds, key=ratio)
    return ordered[len(ordered) // 2]


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


@contextmanager
def home() -> Iterator[str]:
    """A temporary folder, ARCADIA_HOME unless there is one; of a server that ran in it nothing is left when it is removed."""
    with tempfile.TemporaryDirectory(prefix="arcadia-bench-") as folder:
        os.environ.setdefault("ARCADIA_HOME", folder)
        data_dir = settings.embedded_data_dir()
        try:
            yield folder
        finally:
            embedded_postgres.stop(data_dir)  # does nothing where none was started


def machine() -> str:
    """What the figures depend on, in words."""
    processor = platform.processor() or platform.machine()
    if (file := Path("/proc/cpuinfo")).exists():
        named = [line.partition(": ")[2] for line in file.read_text().splitlines() if line.startswith("model name")]
        processor = named[0] if named else processor
    with home():
        engine = connect(settings.ledger_url())
        with engine.connect() as conn:
            server = str(conn.scalar(text("show server_version"))).split()[0]
        engine.dispose()
    memory = psutil.virtual_memory().total / 2**30
    return f"{processor}, {os.cpu_count()} cores, {memory:.1f} GB; Python {platform.python_version()}, PostgreSQL {server}"


def main() -> int:
    """Print the table of all; 1 if a benchmark failed."""
    sections: dict[str, list[Row]] = {}
    failed: list[str] = []
    for line in Path(sys.argv[1]).read_text().splitlines():
        noted = json.loads(line)
        if "failed" in noted:
            failed.append(noted["failed"])
        else:
            sections.setdefault(noted["title"], []).append(Row(*noted["row"]))
    if failed:
        sections["failed"] = [Row(name, "", "", "", "") for name in failed]
    print(f"\n{markdown(sections)}\n\n{machine()}\n{datetime.now(UTC):%Y-%m-%d}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
