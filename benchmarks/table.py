"""What a benchmark prints: one row for each case, ours beside a peer that does the same and beside the least that must be done."""

import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

from rich.console import Console
from rich.table import Table


class Row(NamedTuple):
    """One line of the common table, as text; `limit` is the least that any program must do, "" where none was measured."""

    case: str
    ours: str
    peer: str
    limit: str
    ratio: str


def show(title: str, rows: Iterable[Row]) -> None:
    """Print the table."""
    table = Table(*Row._fields, title=title)
    for row in rows:
        table.add_row(*row)
    Console(width=140).print(table)


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
