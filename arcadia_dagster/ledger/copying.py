"""Rows on their way into a table: COPY, and the text that it takes. What is in the rows is not known here."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from decimal import Decimal
from itertools import islice
from typing import Any

import psycopg
from sqlalchemy import Connection

# What separates and quotes cells is rare in texts, so nearly every row is its cells joined. What is empty is NULL.
FORMAT = "format csv, encoding 'utf8', delimiter e'\\t', quote e'\\x01'"
_ROWS = 200  # so many travel together


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


def copy_rows(conn: Connection, table: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """COPY rows of numbers, texts, bytes, times and lists of texts into a table; rows are taken while the server writes those before."""
    lines = map(_line, rows)
    with copying(conn, f"copy {table} ({', '.join(columns)}) from stdin ({FORMAT})") as copy:
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
