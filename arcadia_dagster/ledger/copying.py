"""Rows on their way into a table: COPY, and the text that it takes. What is in the rows is not known here."""

import select
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from decimal import Decimal
from itertools import islice
from typing import Any, TypeVar, cast

import psycopg
from psycopg.abc import PQGen
from psycopg.copy import LibpqWriter
from psycopg.waiting import Wait
from sqlalchemy import Connection

_Result = TypeVar("_Result")

# What separates and quotes cells is rare in texts, so nearly every row is its cells joined. What is empty is NULL.
FORMAT = "format csv, encoding 'utf8', delimiter e'\\t', quote e'\\x01'"
_ROWS = 200  # so many travel together


def driver(conn: Connection) -> psycopg.Connection:
    """The driver's own connection, in this one's transaction."""
    connection = conn.connection.driver_connection
    assert isinstance(connection, psycopg.Connection)  # noqa: S101  # the engine is made for psycopg 3
    return connection


@contextmanager
def copying(conn: Connection, statement: str, meanwhile: Callable[[], bool] = lambda: False) -> Iterator[psycopg.Copy]:
    """The driver's COPY in this connection's transaction, by a statement `copy ... from stdin`; `meanwhile` as in `copy_rows`."""
    with driver(conn).cursor() as cursor:
        writer = LibpqWriter(cursor)
        writer.connection = _Busy(writer.connection, meanwhile)  # type: ignore[assignment]
        with cursor.copy(statement.encode(), writer=writer) as copy:
            yield copy


class _Busy:
    """The driver's connection, which does other work while it would only wait for the server."""

    def __init__(self, connection: psycopg.Connection, meanwhile: Callable[[], bool]) -> None:
        self._connection = connection
        self._meanwhile = meanwhile
        self._problem: BaseException | None = None

    def wait(self, steps: PQGen[_Result]) -> _Result:
        """As the driver's own. What the other work raises is raised when the wait is over: until then nothing can be said to the server."""
        result = self._connection.wait(self._busily(steps))
        if self._problem is not None:
            problem, self._problem = self._problem, None
            raise problem
        return result

    def _busily(self, steps: PQGen[_Result]) -> PQGen[_Result]:
        server, ready = select.poll(), None
        while True:
            try:
                wanted = steps.send(ready)  # type: ignore[arg-type]
            except StopIteration as end:
                return cast(_Result, end.value)
            try:
                server.register(self._connection.fileno(), (wanted & Wait.R and select.POLLIN) | (wanted & Wait.W and select.POLLOUT))
                while self._problem is None and not server.poll(0) and self._meanwhile():
                    pass
            except BaseException as problem:  # Ctrl-C too
                self._problem = problem
            ready = yield wanted


def copy_rows(
    conn: Connection,
    table: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[Any]],
    *,
    meanwhile: Callable[[], bool] = lambda: False,
) -> None:
    """COPY rows of numbers, texts, bytes, times and lists of texts into a table; rows are taken while the server writes those before.

    While there is nothing to do but wait for it, `meanwhile` does a piece of other work, and says whether there is more.
    """
    lines = map(_line, rows)
    with copying(conn, f"copy {table} ({', '.join(columns)}) from stdin ({FORMAT})", meanwhile) as copy:
        while some := "".join(islice(lines, _ROWS)):
            copy.write(some.encode())


def _line(row: Sequence[Any]) -> str:
    cells = [value or _EMPTY if (kind := type(value)) is str else "" if value is None else _TEXT_OF[kind](value) for value in row]
    line = "\t".join(cells)
    if line.count("\t") < len(cells) and "\n" not in line and "\r" not in line and "\x01" not in line:
        return line + "\n"
    return "\t".join(cell if value in (None, "") else quoted(cell) for value, cell in zip(row, cells, strict=True)) + "\n"


def quoted(cell: str) -> str:
    """A cell that may hold anything, and is no NULL when it is empty."""
    return "\x01" + cell.replace("\x01", "\x01\x01") + "\x01"


_EMPTY = quoted("")


def array(values: Sequence[str]) -> str:
    """Texts as one that the server reads as an array of them; the driver would look at each by itself."""
    if not values:
        return "{}"
    together = '","'.join(values)
    if "\\" in together or together.count('"') > 2 * (len(values) - 1):
        together = '","'.join(value.replace("\\", "\\\\").replace('"', '\\"') for value in values)
    return '{"' + together + '"}'


_TEXT_OF: Mapping[type, Callable[[Any], str]] = {
    int: str,
    Decimal: str,
    bytes: lambda value: "\\x" + value.hex(),
    datetime: datetime.isoformat,
    list: array,
    tuple: array,
}
