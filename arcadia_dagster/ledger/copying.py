"""Rows on their way into a table: COPY, and the text that it takes. What is in the rows is not known here."""

import select
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from decimal import Decimal
from itertools import islice
from typing import Any, TypeVar, cast

import msgspec
import psycopg
from psycopg.abc import PQGen
from psycopg.pq import TransactionStatus
from psycopg.waiting import Wait
from sqlalchemy import Connection

_Result = TypeVar("_Result")

# What separates and quotes cells is rare in texts, so nearly every row is its cells joined. What is empty is NULL.
FORMAT = "format csv, encoding 'utf8', delimiter e'\\t', quote e'\\x01'"
_ROWS = 100  # so many travel together


def driver(conn: Connection) -> psycopg.Connection:
    """The driver's own connection, in this one's transaction."""
    connection = conn.connection.driver_connection
    assert isinstance(connection, psycopg.Connection)  # noqa: S101  # the engine is made for psycopg 3
    return connection


@contextmanager
def copying(conn: Connection, statement: str) -> Iterator[psycopg.Copy]:
    """The driver's COPY in this connection's transaction, by a statement `copy ... from stdin`."""
    with driver(conn).cursor() as cursor, cursor.copy(statement.encode()) as copy:
        yield copy


@contextmanager
def busy(conn: Connection, work: Callable[[], bool]) -> Iterator[None]:
    """While this connection would only wait for the server, `work` does a piece of something else, and says whether there is more.

    What it raises ends it, and is raised before the next statement, or at the end: in the middle of what is said to the server, the
    connection would be lost.
    """
    connection, server = driver(conn), select.poll()
    wait_idly, problem = connection.wait, None

    def busily(steps: PQGen[_Result]) -> PQGen[_Result]:
        nonlocal problem, work
        ready = None
        while True:
            try:
                wanted = steps.send(ready)  # type: ignore[arg-type]
            except StopIteration as end:
                return cast(_Result, end.value)
            try:
                server.register(connection.fileno(), (wanted & Wait.R and select.POLLIN) | (wanted & Wait.W and select.POLLOUT))
                while not server.poll(0) and work():
                    pass
            except BaseException as raised:  # Ctrl-C too
                problem, work = raised, lambda: False
            ready = yield wanted

    def raise_problem() -> None:
        nonlocal problem
        if problem is not None:
            raised, problem = problem, None
            raise raised

    def wait(steps: PQGen[_Result], *options: Any, **more: Any) -> _Result:
        if connection.pgconn.transaction_status != TransactionStatus.ACTIVE:
            raise_problem()
        return wait_idly(busily(steps), *options, **more)

    connection.wait = wait  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        del connection.wait
    raise_problem()


def copy_lines(conn: Connection, table: str, columns: Sequence[str], lines: Iterable[str]) -> None:
    """COPY rows, each a `line` of cells, into a table; they are taken while the server writes those before."""
    lines = iter(lines)
    with copying(conn, f"copy {table} ({', '.join(columns)}) from stdin ({FORMAT})") as copy:
        while some := [*islice(lines, _ROWS)]:
            some.append("")
            copy.write("\n".join(some).encode())


def line(row: Sequence[Any]) -> str:
    """Numbers, texts, bytes, times and lists of texts as cells of one line. Lines joined by tabs are one with the cells of all."""
    cells = [value or _EMPTY if (kind := type(value)) is str else "" if value is None else _TEXT_OF[kind](value) for value in row]
    plain = "".join(cells)
    if "\t" not in plain and "\n" not in plain and "\r" not in plain and "\x01" not in plain:
        return "\t".join(cells)
    return "\t".join(cell if value in (None, "") else quoted(cell) for value, cell in zip(row, cells, strict=True))


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


def bytea(value: bytes) -> str:
    """Bytes as a text that the server reads as such."""
    return "\\x" + value.hex()


_TEXT_OF: Mapping[type, Callable[[Any], str]] = {
    int: str,
    Decimal: str,
    bytes: bytea,
    datetime: msgspec.to_builtins,  # ISO 8601
    list: array,
    tuple: array,
}
