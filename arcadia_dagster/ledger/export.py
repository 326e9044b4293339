"""A relation of the ledger as a file for other programs: CSV, JSON or Parquet, streamed, and whole or not there at all.

Belongs here: what may be exported, how values are spelled, and how a file comes into being. Does not belong here: what the views show.
Reads with the rights of the connection that it is given, so that it serves whoever may read at all.
"""

import os
import re
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, cast

from sqlalchemy import Connection, text

if TYPE_CHECKING:
    import pyarrow

Format = Literal["csv", "json", "parquet"]

_BATCH = 5_000  # rows in memory, and in a row group of a Parquet file

# One precision and scale for all, so that the files of all months have one schema. It is what BigQuery and others take as NUMERIC.
_PRECISION, _SCALE = 38, 9


class ExportError(ValueError):
    """What was asked for cannot be exported. Its text is one sentence for the user."""


@dataclass(frozen=True)
class _Column:
    name: str
    type: str  # as format_type() calls it; of a domain, what it is a domain of
    comment: str | None


@dataclass(frozen=True)
class _Relation:
    name: str
    comment: str | None
    columns: Sequence[_Column]


_Batches = Iterator[Sequence[Sequence[Any]]]


def exportable(conn: Connection) -> dict[str, str | None]:
    """Name and comment of every relation that can be exported: the views of the ledger and its tables `cloud_*` that we may read."""
    # Other tables are not for others: resources and the like have views, and what is added without a thought stays inside.
    query = """
        select relname, obj_description(oid, 'pg_class') from pg_class
         where relnamespace = to_regnamespace('arcadia') and (relkind = 'v' or relkind = 'r' and starts_with(relname, 'cloud_'))
           and has_table_privilege(oid, 'select')
         order by relname"""
    return {row.relname: row.obj_description for row in conn.execute(text(query))}


def export(
    conn: Connection, name: str, file: BinaryIO, *, format: Format, period: date | None = None, account_id: int | None = None
) -> int:
    """Write the relation `name` (see `exportable`) to `file`, and return how many rows that is: those of one statement's snapshot.

    `period` is the first day of the month, `account_id` the account to which the rows are narrowed down. Rows come in an order that is
    the same for the same rows; of a table that holds documents as received, these are left out. Needs a transaction: not autocommit.
    Raises ExportError, and OSError where `file` cannot be written; what is in it then is of no use.

    - `csv`: UTF-8 with a header, comma, `"`; NULL is an empty cell, an empty text is `""`. Numbers are decimal digits, times end in Z,
      arrays and objects are JSON. Texts are as `spreadsheet_safe` makes them.
    - `json`: an object a line (NDJSON). Numerics, money among them, are strings of exact digits, since readers take numbers for floats.
    - `parquet`: numerics are decimal128(38, 9), and one that does not fit is an error; times are UTC in microseconds, arrays are lists,
      objects are JSON text. Comments are metadata (`comment`) of the schema and its fields.
    """
    relations = exportable(conn)
    if name not in relations:
        raise ExportError(f"there is no {name!r} to export; there are {', '.join(relations)}")
    relation = _Relation(name, relations[name], [column for column in _columns(conn, name) if column.type != "bytea"])
    write: Callable[[_Relation, _Batches, BinaryIO], int]
    if format == "csv":
        shown, write = _texts(relation), _write_csv
    elif format == "json":
        shown, write = _object(relation), _write_json
    else:
        shown, write = _values(relation), _write_parquet
    where, values = _condition(relation, period, account_id)
    # Otherwise the planner takes a cursor for one of which the first rows are wanted soon.
    conn.execute(text("set local cursor_tuple_fraction = 1"))
    rows = conn.execute(
        text(f"select {shown} from arcadia.{_quoted(name)} v{where} order by {_order(relation)}"),
        values,
        execution_options={"stream_results": True},
    )
    with rows:
        return write(relation, cast(_Batches, rows.partitions(_BATCH)), file)


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write to that takes the place of `path` once the block has ended well, and otherwise leaves what is there as it is.

    Meanwhile it is `.arcadia-export-...` in the same folder, where a killed process leaves it. Raises ExportError where it cannot be
    written, or `path` is something else than a file.
    """
    path = path.resolve()  # of a link, what it points to
    if path.exists() and not path.is_file():  # to take the place of a device would be possible for root
        raise ExportError(f"{path} cannot be written: it is {'a folder' if path.is_dir() else 'no file'}")
    beside = path.parent / f".arcadia-export-{secrets.token_hex(8)}"
    try:
        try:
            with beside.open("xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            beside.replace(path)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise
    except OSError as problem:
        raise ExportError(f"{path} cannot be written: {problem.strerror or problem}") from None
    with suppress(OSError):  # not every file system can
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


# Reading

_TIME = "timestamp with time zone"


def _columns(conn: Connection, name: str) -> list[_Column]:
    query = """
        select a.attname, format_type(coalesce(nullif(t.typbasetype, 0), t.oid), null), col_description(a.attrelid, a.attnum)
          from pg_attribute a join pg_type t on t.oid = a.atttypid
         where a.attrelid = (select oid from pg_class where relnamespace = to_regnamespace('arcadia') and relname = :name)
           and a.attnum > 0 and not a.attisdropped
         order by a.attnum"""
    return [_Column(*row) for row in conn.execute(text(query), {"name": name})]


def _condition(relation: _Relation, period: date | None, account_id: int | None) -> tuple[str, dict[str, Any]]:
    """The WHERE clause, and its values."""
    names = {column.name for column in relation.columns}
    terms: list[str] = []
    values: dict[str, Any] = {}
    if period is not None:
        if "period" in names:
            terms.append("period = :period")
        elif "BillingPeriodStart" in names:
            terms.append("\"BillingPeriodStart\" = cast(:period as timestamp) at time zone 'UTC'")
        else:
            raise ExportError(f"{relation.name} is not kept by month; export it without a period")
        values["period"] = period
    if account_id is not None:
        if "account_id" in names:
            terms.append("account_id = :account_id")
        elif "BillingAccountId" in names:
            terms.append(
                "\"BillingAccountId\" = (select coalesce(team_uuid, 'import:' || name) from arcadia.cloud_accounts"
                " where account_id = :account_id)"
            )
        else:
            raise ExportError(f"{relation.name} does not say which account a row is of; export it without an account")
        values["account_id"] = account_id
    return f" where {' and '.join(terms)}" if terms else "", values


def _order(relation: _Relation) -> str:
    """Every column, as a view has no key; what tells most rows apart goes first, as the others need not be compared then."""
    names = [column.name for column in relation.columns]
    first = [name for name in ("InvoiceId", "x_InvoiceLine") if name in names]
    return ", ".join(f"v.{_quoted(name)}" for name in dict.fromkeys([*first, *names]))


def _texts(relation: _Relation) -> str:
    """SELECT list of every column as text."""
    return ", ".join(_spelled(column) for column in relation.columns)


def _object(relation: _Relation) -> str:
    """SELECT list of one column: the row as a JSON object, on one line."""
    fields = [
        f"{_spelled(column) if column.type in ('numeric', _TIME) else _quoted(column.name)} as {_quoted(column.name)}"
        for column in relation.columns
    ]
    return f"(select row_to_json(o)::text from (select {', '.join(fields)}) o)"


def _values(relation: _Relation) -> str:
    """SELECT list of every column as what Parquet takes."""
    types = _arrow_types()
    return ", ".join(_quoted(column.name) if column.type in types else _spelled(column) for column in relation.columns)


def _spelled(column: _Column) -> str:
    """SQL for a column's value as text, whatever the session's settings say of dates and time zones."""
    name = _quoted(column.name)
    if column.type == _TIME:
        return f"(to_json({name} at time zone 'UTC') #>> '{{}}') || 'Z'"
    if column.type == "date":
        return f"to_json({name}) #>> '{{}}'"
    return f"to_json({name})::text" if column.type.endswith("[]") else f"{name}::text"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


# Writing

_NEEDS_QUOTES = re.compile(r'[",\r\n]|^\s|\s$|^$')
# Every sign that is = + - or @, or is made of one, in any of its Unicode forms; and the minus sign.
_SIGNS = "=+\\-@⁺⁻⁼₊₋₌−⩴⩵⩶﬩﹢﹣﹦﹫＋－＝＠"  # noqa: RUF001
_UNSAFE = re.compile(rf"['\t\r\n]|\W*[{_SIGNS}]")
# Types whose values are spelled without anything that CSV or a spreadsheet could take for something else.
_PLAIN = ("smallint", "integer", "bigint", "numeric", "boolean", "date", _TIME)


def spreadsheet_safe(value: str) -> str:
    """The text, with an apostrophe in front if a spreadsheet could take it for a formula, or it begins with an apostrophe itself.

    That is where = + - @ (full-width and other forms too) comes before the first letter or digit, as spreadsheets skip white space and
    quotes, or where it begins with a tab or line break. To have the text back, take one apostrophe off where it begins with one. See
    https://owasp.org/www-community/attacks/CSV_Injection
    """
    return f"'{value}" if _UNSAFE.match(value) else value


def _write_csv(relation: _Relation, batches: _Batches, file: BinaryIO) -> int:
    spell = [str if column.type in _PLAIN else _csv_text for column in relation.columns]
    file.write((",".join(_csv_text(column.name) for column in relation.columns) + "\n").encode())
    count = 0
    for batch in batches:
        for row in batch:
            cells = ["" if value is None else as_cell(value) for as_cell, value in zip(spell, row, strict=True)]
            file.write((",".join(cells) + "\n").encode())
        count += len(batch)
    return count


def _csv_text(value: str) -> str:
    value = spreadsheet_safe(value)
    return '"' + value.replace('"', '""') + '"' if _NEEDS_QUOTES.search(value) else value


def _write_json(relation: _Relation, batches: _Batches, file: BinaryIO) -> int:  # noqa: ARG001  # as the others
    count = 0
    for batch in batches:
        file.write("".join(f"{line}\n" for (line,) in batch).encode())
        count += len(batch)
    return count


def _arrow_types() -> dict[str, "pyarrow.DataType"]:
    """How PostgreSQL's types are called in Parquet; all others are text."""
    import pyarrow as pa

    return {
        "smallint": pa.int16(),
        "integer": pa.int32(),
        "bigint": pa.int64(),
        "boolean": pa.bool_(),
        "numeric": pa.decimal128(_PRECISION, _SCALE),
        "date": pa.date32(),
        _TIME: pa.timestamp("us", "UTC"),
        "text[]": pa.list_(pa.string()),
    }


def _write_parquet(relation: _Relation, batches: _Batches, file: BinaryIO) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = _arrow_types()
    schema = pa.schema(
        [pa.field(column.name, types.get(column.type, pa.string()), metadata=_metadata(column.comment)) for column in relation.columns],
        metadata=_metadata(relation.comment),
    )
    count = 0
    with pq.ParquetWriter(file, schema) as writer:
        for batch in batches:
            arrays = []
            for field, values in zip(schema, zip(*batch, strict=True), strict=True):
                try:
                    arrays.append(pa.array(values, field.type))
                except pa.ArrowInvalid:
                    raise ExportError(
                        f"{field.name} holds a value that {field.type} cannot without rounding; export it as csv or json"
                    ) from None
            writer.write_batch(pa.record_batch(arrays, schema), row_group_size=_BATCH)
            count += len(batch)
    return count


def _metadata(comment: str | None) -> dict[str, str] | None:
    return None if comment is None else {"comment": comment}
