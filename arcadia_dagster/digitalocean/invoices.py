"""Invoice documents -> invoice lines: the CSV that the control panel offers, and the JSON items of the billing API.

What is read is exact or an `InvoiceError`: no row is skipped, no amount is rounded. What a line's texts mean is in `products.py`; fetching
documents and storing lines belong elsewhere.
"""

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from operator import attrgetter
from typing import Any

from arcadia_dagster.digitalocean.products import Charge, LookUp, Meaning, meaning_of

__all__ = [
    "Charge",
    "Document",
    "InvoiceError",
    "InvoiceLine",
    "LookUp",
    "Meaning",
    "difference",
    "meaning_of",
    "parse_csv",
    "parse_items",
]


class InvoiceError(ValueError):
    """An invoice document that cannot be read; `str()` is one sentence: what is wrong, where, the text, and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InvoiceLine:
    """One row of one invoice. Its key is `ordinal`, from 1: two rows may be alike in everything else.

    Texts are as printed, "" where absent. `amount` is USD, exact as printed, negative for credits. `hours` is what the document prints:
    on backup lines it is the number of backups; None where there is none or the API counts in another unit. Times are UTC, None where
    absent.
    """

    ordinal: int
    product: str
    group_description: str
    description: str
    hours: Decimal | None
    started_at: datetime | None
    ended_at: datetime | None
    amount: Decimal
    project_name: str
    category: str
    resource_id: str | None
    resource_uuid: str | None
    meaning: Meaning


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """The lines of a CSV in their order, and one sentence for each thing about its columns that was not expected."""

    lines: list[InvoiceLine]
    warnings: list[str]


# https://docs.digitalocean.com/reference/api/digitalocean/#tag/Billing; exports until about 2021 have no category.
_COLUMNS = ("product", "group_description", "description", "hours", "start", "end", "USD", "project_name", "category")
_REQUIRED = ("product", "description", "USD")
_SPELLING = {name.casefold(): name for name in _COLUMNS}

# Twelve digits before the point and ten after: a sum of a million such amounts is still exact in 28 digits.
_NUMBER = r"(?:\d{1,3}(?:,\d{3}){1,3}|\d{1,12})"
_AMOUNT = re.compile(rf"(\()?(-)?\$?(-)?({_NUMBER}(?:\.\d{{1,10}})?|\.\d{{1,10}})(\))?", re.ASCII)
_HOURS = re.compile(rf"-?{_NUMBER}(?:\.\d{{1,20}})?", re.ASCII)

_DOWNLOAD = "download the CSV again and import it unedited"


def parse_csv(document: bytes) -> Document:
    """The lines of an invoice CSV.

    Columns are found by name, in any order, on the first line that names the required ones; text before that line and columns that are not
    known are passed over, the latter with a warning. BOM and CRLF are allowed. Raises InvoiceError for everything else.
    """
    text = _decode(document)
    stream = io.StringIO(text, newline="")
    names, header_line = _read_header(stream)
    return Document(lines=list(_read_rows(stream, names, header_line)), warnings=_unexpected(names, header_line))


def _decode(document: bytes) -> str:
    try:
        text = document.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        line = document.count(b"\n", 0, problem.start) + 1
        raise InvoiceError(
            f"line {line}: the bytes {_shown(document[problem.start : problem.start + 8])} are not UTF-8; {_DOWNLOAD}"
        ) from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        shown = _shown(text.split("\n")[line - 1])
        raise InvoiceError(f"line {line}: there is a NUL character in {shown}, so this is no text file; {_DOWNLOAD}")
    return text


def _read_header(stream: io.StringIO) -> tuple[list[str], int]:
    """The column names, known ones in their usual spelling, and the number of their line. Leaves `stream` at the line after it."""
    before: list[tuple[int, list[str]]] = []
    nearest: tuple[int, list[str]] | None = None
    for number, line in enumerate(stream, 1):
        try:
            cells = next(csv.reader([line]))
        except (csv.Error, StopIteration):
            continue
        names = [_SPELLING.get(cell.strip().casefold(), cell.strip()) for cell in cells]
        missing = [name for name in _REQUIRED if name not in names]
        if not missing:
            _refuse_duplicates(names, number)
            _refuse_rows_before(names, before, number)
            return names, number
        if nearest is None and len(missing) < len(_REQUIRED) and len(set(names) & set(_COLUMNS)) >= 3:
            nearest = number, missing
        before.append((number, cells))
    if nearest is not None:
        raise InvoiceError(
            f"line {nearest[0]}: the header has no column {' and no column '.join(nearest[1])}, without which lines cannot be read;"
            f" {_DOWNLOAD}"
        )
    number, cells = next(((number, cells) for number, cells in before if any(cells)), (1, []))
    if not cells:
        raise InvoiceError(f"line 1: the document is empty; {_DOWNLOAD}")
    raise InvoiceError(
        f"line {number}: neither {_shown(','.join(cells))} nor any later line is the header of an invoice CSV, which names the columns"
        f" {', '.join(_REQUIRED)}; {_DOWNLOAD}"
    )


def _refuse_duplicates(names: list[str], number: int) -> None:
    twice = [name for name, count in Counter(names).items() if name and count > 1]
    if twice:
        raise InvoiceError(f"line {number}: the header names the column {_shown(twice[0])} twice, so what it holds is unclear; {_DOWNLOAD}")


def _refuse_rows_before(names: list[str], before: list[tuple[int, list[str]]], header_line: int) -> None:
    """A row that stands before the header would be lost with the text that may stand there."""
    product, description, amount = (names.index(name) for name in _REQUIRED)
    for number, cells in before:
        if len(cells) == len(names) and cells[product] and cells[description] and _AMOUNT.fullmatch(cells[amount].strip()):
            raise InvoiceError(
                f"line {number}: {_shown(cells[description])} is an invoice row before the header on line {header_line}; {_DOWNLOAD}"
            )


def _unexpected(names: list[str], header_line: int) -> list[str]:
    warnings = [
        f"line {header_line}: column {place}, {_shown(name)}, is not known and was not read"
        for place, name in enumerate(names, 1)
        if name not in _COLUMNS
    ]
    known = [name for name in names if name in _COLUMNS]
    usual = [name for name in _COLUMNS if name in known]
    if known != usual:
        warnings.append(f"line {header_line}: the columns stand in another order than {', '.join(usual)}; they were read by name")
    missing = [name for name in _COLUMNS[:-1] if name not in known]
    if missing:
        warnings.append(f"line {header_line}: the header has no column {', '.join(missing)}")
    return warnings


def _read_rows(stream: io.StringIO, names: list[str], header_line: int) -> Iterator[InvoiceLine]:
    # A column that the document lacks is read from the empty cell appended to each row.
    place = {name: names.index(name) if name in names else len(names) for name in _COLUMNS}
    product, group, description, hours, start, end, amount, project, category = (place[name] for name in _COLUMNS)
    reader = csv.reader(stream, strict=True)
    ordinal = 0
    while True:
        number = header_line + reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as problem:
            raise InvoiceError(f"line {number}: the row that begins here is not CSV ({problem}); {_DOWNLOAD}") from None
        if cells is None:
            return
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) != len(names):
            raise InvoiceError(
                f"line {number}: {_shown(','.join(cells))} has {len(cells)} cells where the header has {len(names)}; {_DOWNLOAD}"
            )
        cells.append("")
        ordinal += 1
        try:
            yield _line(
                ordinal=ordinal,
                product=cells[product],
                group_description=cells[group],
                description=cells[description],
                hours=_read_hours(cells[hours]),
                started_at=_read_time(cells[start]),
                ended_at=_read_time(cells[end]),
                amount=_read_amount(cells[amount]),
                project_name=cells[project],
                category=cells[category],
            )
        except InvoiceError as problem:
            raise InvoiceError(f"line {number}: {problem} (in the row of {_shown(cells[description])}); {_DOWNLOAD}") from None


def parse_items(items: Sequence[Mapping[str, Any]]) -> list[InvoiceLine]:
    """The lines of the `invoice_items` of `/v2/customers/my/invoices/{uuid}`, all pages, in their order.

    Any field but `amount` may be absent, null or "". Numbers must have been decoded as int or Decimal: a float is refused, because it no
    longer is what the invoice says. Raises InvoiceError that names the item by its number, from 1.
    """
    lines = []
    for ordinal, item in enumerate(items, 1):
        try:
            if not isinstance(item, Mapping):
                raise InvoiceError(f"it is of type {type(item).__name__}, not an object")
            lines.append(
                _line(
                    ordinal=ordinal,
                    product=_text(item, "product"),
                    group_description=_text(item, "group_description"),
                    description=_text(item, "description"),
                    hours=_read_duration(item),
                    started_at=_read_time(_text(item, "start_time")),
                    ended_at=_read_time(_text(item, "end_time")),
                    amount=_read_amount(_number(item, "amount")),
                    project_name=_text(item, "project_name"),
                    category=_text(item, "category"),
                    resource_id=_number(item, "resource_id").strip() or None,
                    resource_uuid=_text(item, "resource_uuid").strip() or None,
                )
            )
        except InvoiceError as problem:
            raise InvoiceError(f"item {ordinal}: {problem}; fetch the invoice again, and if this stays report it to the provider") from None
    return lines


def _line(
    *,
    ordinal: int,
    product: str,
    group_description: str,
    description: str,
    hours: Decimal | None,
    started_at: datetime | None,
    ended_at: datetime | None,
    amount: Decimal,
    project_name: str,
    category: str,
    resource_id: str | None = None,
    resource_uuid: str | None = None,
) -> InvoiceLine:
    return InvoiceLine(
        ordinal=ordinal,
        product=product,
        group_description=group_description,
        description=description,
        hours=hours,
        started_at=started_at,
        ended_at=ended_at,
        amount=amount,
        project_name=project_name,
        category=category,
        resource_id=resource_id,
        resource_uuid=resource_uuid,
        meaning=meaning_of(product, group_description, description, amount=amount, has_id=bool(resource_id or resource_uuid)),
    )


def _text(item: Mapping[str, Any], field: str) -> str:
    value = item.get(field)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise InvoiceError(f"{field} is of type {type(value).__name__}, not a text")
    # Postgres stores neither.
    if "\0" in value or not (value.isascii() or _encodable(value)):
        raise InvoiceError(f"{field} is {_shown(value)}, which holds a character that no text may hold")
    return value


def _encodable(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _number(item: Mapping[str, Any], field: str) -> str:
    """A number as text, whether the API sent it as text, as documented, or as a number."""
    value = item.get(field)
    if isinstance(value, int | Decimal) and not isinstance(value, bool):
        number = Decimal(value)
        # Checked before writing it out: 1e999999 has a million digits.
        if not number.is_finite() or abs(number.adjusted()) > 20 or len(number.as_tuple().digits) > 40:
            raise InvoiceError(f"{field} {_shown(number)} is no number that an invoice can have")
        return format(number, "f")
    return _text(item, field)


def _read_duration(item: Mapping[str, Any]) -> Decimal | None:
    """`duration` where it counts hours. The unit is free text, so the number alone must not pass for hours."""
    unit = _text(item, "duration_unit").strip().casefold()
    hours = _read_hours(_number(item, "duration"))
    return hours if unit in ("", "hour", "hours") else None


def _absent(text: str) -> bool:
    return text == "" or text.casefold() == "n/a"


def _read_amount(text: str) -> Decimal:
    """`12.34`, `$12.34`, `$1,234.56`, and negative `-1.23`, `-$1.23`, `$-1.23`, `($1.23)`."""
    match = _AMOUNT.fullmatch(text.strip())
    if match is not None:
        opened, before, after, number, closed = match.groups()
        signs = [sign for sign in (opened, before, after) if sign]
        if len(signs) <= 1 and bool(opened) == bool(closed):
            return Decimal(("-" if signs else "") + number.replace(",", ""))
    raise InvoiceError(f"{_shown(text)} is not an amount of US dollars" if text.strip() else "there is no amount of US dollars")


def _read_hours(text: str) -> Decimal | None:
    text = text.strip()
    if _absent(text):
        return None
    if _HOURS.fullmatch(text) is None:
        raise InvoiceError(f"{_shown(text)} is not a number of hours")
    return Decimal(text.replace(",", ""))


@lru_cache(maxsize=4096)  # most lines of an invoice begin and end with the month
def _read_time(text: str) -> datetime | None:
    """`2020-07-01 00:00:00 +0000` or `2020-07-01T00:00:00Z`, with any offset, in UTC."""
    stripped = text.strip()
    if _absent(stripped):
        return None
    clock, space, offset = stripped.rpartition(" ")
    try:
        time = datetime.fromisoformat(clock + offset if space and offset[:1] in ("+", "-", "Z") else stripped)
        if time.tzinfo is not None:
            return time.astimezone(UTC)
    except (ValueError, OverflowError):
        raise InvoiceError(f"{_shown(text)} is not a time") from None
    raise InvoiceError(f"{_shown(text)} is a time without its offset from UTC")


def _shown(value: object) -> str:
    """A value as an error quotes it, on one line and short."""
    text = value if isinstance(value, bytes) else str(value)[:200]
    shown = repr(text)
    return shown if len(shown) <= 80 else f"{shown[:78]}…{shown[-1]}"


_ALWAYS_COMPARED = ("product", "description", "amount")
_COMPARED_IF_PRINTED = ("group_description", "hours", "started_at", "ended_at", "project_name", "category")


def difference(items: Sequence[InvoiceLine], csv: Sequence[InvoiceLine]) -> str | None:
    """Where the two documents of one invoice disagree, in one sentence; None if they agree, in whatever order.

    They agree if they hold the same lines equally often. A column that one of them leaves empty throughout (older CSVs have no category) is
    not compared, nor are ids, which only the items have, nor fractions of a second.
    """
    fields = [*_ALWAYS_COMPARED, *(field for field in _COMPARED_IF_PRINTED if _prints(items, field) and _prints(csv, field))]
    contents_of_items, contents_of_csv = _contents(items, fields), _contents(csv, fields)
    counts_of_items, counts_of_csv = Counter(contents_of_items), Counter(contents_of_csv)
    if counts_of_items == counts_of_csv:
        return None
    sentence = f"the JSON items have {_tally(items)}, the CSV has {_tally(csv)}"
    in_items = _first_of(contents_of_items, counts_of_items - counts_of_csv)
    in_csv = _first_of(contents_of_csv, counts_of_csv - counts_of_items)
    if in_items is not None:
        sentence += f"; line {in_items + 1} of the items, {_label(items[in_items])}, is not in the CSV"
    if in_csv is not None:
        sentence += f"; line {in_csv + 1} of the CSV, {_label(csv[in_csv])}, is not in the items"
    if in_items is not None and in_csv is not None:
        pairs = zip(fields, contents_of_items[in_items], contents_of_csv[in_csv], strict=True)
        sentence += f": they differ in {', '.join(field for field, one, other in pairs if one != other)}"
    return sentence


def _prints(lines: Sequence[InvoiceLine], field: str) -> bool:
    return any(value not in (None, "") for value in map(attrgetter(field), lines))


def _contents(lines: Sequence[InvoiceLine], fields: Sequence[str]) -> list[tuple[Any, ...]]:
    content = attrgetter(*fields)
    return [tuple(map(_comparable, content(line))) for line in lines]


def _comparable(value: str | Decimal | datetime | None) -> str | Decimal | datetime | None:
    if isinstance(value, str):
        return value.strip()
    return value.replace(microsecond=0) if isinstance(value, datetime) else value


def _first_of(contents: Sequence[tuple[Any, ...]], wanted: Counter[tuple[Any, ...]]) -> int | None:
    return next((place for place, content in enumerate(contents) if content in wanted), None)


def _tally(lines: Sequence[InvoiceLine]) -> str:
    total = sum((line.amount for line in lines), Decimal(0))
    return f"{len(lines)} {'line' if len(lines) == 1 else 'lines'} for ${total}"


def _label(line: InvoiceLine) -> str:
    return f"{_shown(line.product)} {_shown(line.description)} ${line.amount}"
