"""Invoice documents -> invoice lines: the CSV that the control panel offers, and the JSON items of the billing API.

What is read is exact or an `InvoiceError`: no row is skipped, no amount is rounded. Lines are read one after the other and none is kept,
so an invoice may have any number of them. What a line's texts mean is in `products.py`; fetching documents and storing lines belong
elsewhere.
"""

import codecs
import contextlib
import csv
import io
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from itertools import chain, islice, zip_longest
from operator import attrgetter
from typing import Any, BinaryIO

import msgspec

from arcadia_dagster.digitalocean.products import Charge, LookUp, Meaning, meaning_of

__all__ = [
    "Charge",
    "Document",
    "InvoiceError",
    "InvoiceLine",
    "LookUp",
    "Meaning",
    "Reading",
    "difference",
    "meaning_of",
    "parse_csv",
    "parse_items",
]


class InvoiceError(ValueError):
    """An invoice document that cannot be read; `str()` is one sentence: what is wrong, where, the text, and what to do."""


class InvoiceLine(msgspec.Struct, frozen=True, kw_only=True, gc=False):  # a third of the time that a dataclass takes to make
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
    resource_id: str | None = None
    resource_uuid: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """The lines of a CSV in their order, read as they are asked for, and one sentence for each thing about its columns not expected."""

    lines: Iterator[InvoiceLine]
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


_CHUNK = 1024 * 1024  # bytes


def parse_csv(stream: BinaryIO) -> Document:
    """The lines of an invoice CSV, which `stream` holds from its beginning on. It must be able to go back, and is left open.

    Columns are found by name, in any order, on the first line that names the required ones; text before that line and columns that are not
    known are passed over, the latter with a warning. BOM and CRLF are allowed. Raises InvoiceError for everything else: for what is no
    text or has no header at once, for a row that cannot be read when its turn comes.
    """
    _refuse_what_is_no_text(stream)
    names, header_line = _read_header(stream)
    return Document(lines=_read_rows(stream, names, header_line), warnings=_unexpected(names, header_line))


def _refuse_what_is_no_text(stream: BinaryIO) -> None:
    """Raise InvoiceError for bytes that are not UTF-8 and, where there are none of these, for a NUL character."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    position = line_start = _to_first_character(stream)
    number = 1
    first_nul: tuple[int, int] | None = None  # the number of its line, and where that begins
    while True:
        chunk = stream.read(_CHUNK)
        try:
            decoder.decode(chunk, final=not chunk)
        except UnicodeDecodeError as problem:
            number += problem.object.count(b"\n", 0, problem.start)
            bad = (problem.object[problem.start :] + stream.read(8))[:8]
            raise InvoiceError(f"line {number}: the bytes {_shown(bad)} are not UTF-8; {_DOWNLOAD}") from None
        if not chunk:
            break
        nul = chunk.find(b"\0") if first_nul is None else -1
        if nul >= 0:
            line_break = chunk.rfind(b"\n", 0, nul)
            first_nul = number + chunk.count(b"\n", 0, nul), line_start if line_break < 0 else position + line_break + 1
        line_break = chunk.rfind(b"\n")
        if line_break >= 0:
            number += chunk.count(b"\n")
            line_start = position + line_break + 1
        position += len(chunk)
    if first_nul is not None:
        number, line_start = first_nul
        stream.seek(line_start)
        line = stream.read(1000).partition(b"\n")[0].decode(errors="ignore")
        raise InvoiceError(f"line {number}: there is a NUL character in {_shown(line)}, so this is no text file; {_DOWNLOAD}")


def _to_first_character(stream: BinaryIO) -> int:
    """Go to the beginning of the text, after a BOM; its position."""
    stream.seek(0)
    return stream.seek(3 if stream.read(3) == codecs.BOM_UTF8 else 0)


@contextlib.contextmanager
def _text(stream: BinaryIO) -> Iterator[io.TextIOWrapper]:
    """The text of `stream` from its beginning on, line breaks as they are. It must have passed `_refuse_what_is_no_text`."""
    _to_first_character(stream)
    text = io.TextIOWrapper(stream, "utf-8", newline="")
    try:
        yield text
    finally:
        if not stream.closed:
            text.detach()  # or it would close the stream with itself


def _read_header(stream: BinaryIO) -> tuple[list[str], int]:
    """The column names, known ones in their usual spelling, and the number of their line."""
    first: tuple[int, list[str]] = (1, [])
    nearest: tuple[int, list[str]] | None = None
    with _text(stream) as text:
        for number, cells in _read_before_header(text):
            names = [_SPELLING.get(cell.strip().casefold(), cell.strip()) for cell in cells]
            missing = [name for name in _REQUIRED if name not in names]
            if not missing:
                break
            if nearest is None and len(missing) < len(_REQUIRED) and len(set(names) & set(_COLUMNS)) >= 3:
                nearest = number, missing
            if not first[1] and any(cells):
                first = number, cells
        else:
            raise _no_header(first, nearest)
    _refuse_duplicates(names, number)
    with _text(stream) as text:
        _refuse_rows_before(names, _read_before_header(islice(text, number - 1)), number)
    return names, number


def _read_before_header(text: Iterable[str]) -> Iterator[tuple[int, list[str]]]:
    """The lines by themselves, numbered from 1, as cells: text before the header may hold a quote that is never closed."""
    for number, line in enumerate(text, 1):
        try:
            cells = next(csv.reader([line]))
        except (csv.Error, StopIteration):
            continue
        yield number, cells


def _no_header(first: tuple[int, list[str]], nearest: tuple[int, list[str]] | None) -> InvoiceError:
    if nearest is not None:
        return InvoiceError(
            f"line {nearest[0]}: the header has no column {' and no column '.join(nearest[1])}, without which lines cannot be read;"
            f" {_DOWNLOAD}"
        )
    number, cells = first
    if not cells:
        return InvoiceError(f"line 1: the document is empty; {_DOWNLOAD}")
    return InvoiceError(
        f"line {number}: neither {_shown(','.join(cells))} nor any later line is the header of an invoice CSV, which names the columns"
        f" {', '.join(_REQUIRED)}; {_DOWNLOAD}"
    )


def _refuse_duplicates(names: list[str], number: int) -> None:
    twice = [name for name, count in Counter(names).items() if name and count > 1]
    if twice:
        raise InvoiceError(f"line {number}: the header names the column {_shown(twice[0])} twice, so what it holds is unclear; {_DOWNLOAD}")


def _refuse_rows_before(names: list[str], before: Iterable[tuple[int, list[str]]], header_line: int) -> None:
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


def _read_rows(stream: BinaryIO, names: list[str], header_line: int) -> Iterator[InvoiceLine]:
    # A column that the document lacks is read from the empty cell appended to each row.
    place = {name: names.index(name) if name in names else len(names) for name in _COLUMNS}
    product, group, description, hours, start, end, amount, project, category = (place[name] for name in _COLUMNS)
    width = len(names)
    with _text(stream) as text:
        for _ in islice(text, header_line):
            pass
        number, ordinal, longest = header_line + 1, 1, csv.field_size_limit()
        for row in text:
            height = 1
            if '"' in row or len(row) > longest:
                reader = csv.reader(chain((row,), text), strict=True)
                try:
                    cells = next(reader)
                except csv.Error as problem:
                    raise InvoiceError(f"line {number}: the row that begins here is not CSV ({problem}); {_DOWNLOAD}") from None
                height = reader.line_num
            else:  # no need of a parser
                cells = row.rstrip("\r\n").split(",")
            if len(cells) == width:
                cells.append("")
                try:
                    line = InvoiceLine(
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
                    if "".join(cells).strip():
                        raise InvoiceError(f"line {number}: {problem} (in the row of {_shown(cells[description])}); {_DOWNLOAD}") from None
                else:
                    yield line
                    ordinal += 1
            elif "".join(cells).strip():
                raise InvoiceError(
                    f"line {number}: {_shown(','.join(cells))} has {len(cells)} cells where the header has {width}; {_DOWNLOAD}"
                )
            number += height


def parse_items(items: Iterable[Any]) -> Iterator[InvoiceLine]:
    """The lines of the `invoice_items` of `/v2/customers/my/invoices/{uuid}`, all pages, in their order, read as they are asked for.

    Any field but `amount` may be absent, null or "". Numbers must have been decoded as int or Decimal: a float is refused, because it no
    longer is what the invoice says. Raises InvoiceError that names the item by its number, from 1.
    """
    for ordinal, item in enumerate(items, 1):
        try:
            if not isinstance(item, Mapping):
                raise InvoiceError(f"it is of type {type(item).__name__}, not an object")
            line = InvoiceLine(
                ordinal=ordinal,
                product=_text_of(item, "product"),
                group_description=_text_of(item, "group_description"),
                description=_text_of(item, "description"),
                hours=_read_duration(item),
                started_at=_read_time(_text_of(item, "start_time")),
                ended_at=_read_time(_text_of(item, "end_time")),
                amount=_read_amount(_number(item, "amount")),
                project_name=_text_of(item, "project_name"),
                category=_text_of(item, "category"),
                resource_id=_number(item, "resource_id").strip() or None,
                resource_uuid=_text_of(item, "resource_uuid").strip() or None,
            )
        except InvoiceError as problem:
            raise InvoiceError(f"item {ordinal}: {problem}; fetch the invoice again, and if this stays report it to the provider") from None
        yield line


def _text_of(item: Mapping[str, Any], field: str) -> str:
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
    return _text_of(item, field)


def _read_duration(item: Mapping[str, Any]) -> Decimal | None:
    """`duration` where it counts hours. The unit is free text, so the number alone must not pass for hours."""
    unit = _text_of(item, "duration_unit").strip().casefold()
    hours = _read_hours(_number(item, "duration"))
    return hours if unit in ("", "hour", "hours") else None


def _absent(text: str) -> bool:
    return text == "" or text.casefold() == "n/a"


@lru_cache(maxsize=4096)
def _read_amount(text: str) -> Decimal:
    """`12.34`, `$12.34`, `$1,234.56`, and negative `-1.23`, `-$1.23`, `$-1.23`, `($1.23)`."""
    match = _AMOUNT.fullmatch(text.strip())
    if match is not None:
        opened, before, after, number, closed = match.groups()
        signs = [sign for sign in (opened, before, after) if sign]
        if len(signs) <= 1 and bool(opened) == bool(closed):
            return Decimal(("-" if signs else "") + number.replace(",", ""))
    raise InvoiceError(f"{_shown(text)} is not an amount of US dollars" if text.strip() else "there is no amount of US dollars")


@lru_cache(maxsize=4096)
def _read_hours(text: str) -> Decimal | None:
    text = text.strip()
    if _absent(text):
        return None
    if _HOURS.fullmatch(text) is None:
        raise InvoiceError(f"{_shown(text)} is not a number of hours")
    return Decimal(text.replace(",", ""))


@lru_cache(maxsize=4096)
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


class Reading:
    """The lines of a document that can be read again, and what those that passed add up to, for `difference`.

    `read` begins anew with each call. `count` and `total` (USD) are of the lines that the last whole iteration over this gave.
    """

    def __init__(self, read: Callable[[], Iterable[InvoiceLine]], *, to_compare: bool = True) -> None:
        self.read = read
        self.count = 0
        self.total = Decimal(0)
        self.printed: set[str] = set()
        self.sum = 0  # of what each line contains: the same lines have the same, in whatever order
        self._to_compare = to_compare

    def __iter__(self) -> Iterator[InvoiceLine]:
        count, total = 0, Decimal(0)
        self.printed, self.sum = set(), 0
        unprinted = [*_COMPARED_IF_PRINTED]
        to_compare = self._to_compare
        for line in self.read():
            count += 1
            total += line.amount
            if to_compare:
                self.sum += _fingerprint(_content_of_all(line))
                for field in unprinted:
                    if getattr(line, field) not in (None, ""):
                        self.printed.add(field)
                        unprinted = [other for other in unprinted if other != field]
            yield line
        self.count, self.total = count, total

    def __str__(self) -> str:
        return f"{self.count} {'line' if self.count == 1 else 'lines'} for ${self.total}"


_ALWAYS_COMPARED = ("product", "description", "amount")
_COMPARED_IF_PRINTED = ("group_description", "hours", "started_at", "ended_at", "project_name", "category")
_BUCKETS = 1 << 16
_LOOKED_INTO = 256


def difference(items: Reading, csv: Reading) -> str | None:
    """Where the two documents of one invoice disagree, in one sentence; None if they agree, in whatever order. Both must have been read.

    They agree if they hold the same lines equally often. A column that one of them leaves empty throughout (older CSVs have no category) is
    not compared, nor are ids, which only the items have, nor fractions of a second.
    """
    if (items.count, items.total, items.sum) == (csv.count, csv.total, csv.sum):
        return None
    fields = [*_ALWAYS_COMPARED, *(field for field in _COMPARED_IF_PRINTED if field in items.printed and field in csv.printed)]
    content_of = _content(fields)
    # However long the documents and however little they agree in, what is kept is small: what lines contain is added up in buckets, and
    # only lines of the first buckets that do not cancel out are looked at.
    balances = [0] * _BUCKETS
    for sign, document in ((1, items), (-1, csv)):
        for line in document.read():
            fingerprint = _fingerprint(content_of(line))
            balances[fingerprint % _BUCKETS] += sign * fingerprint
    looked_into: set[int] = set()
    found: dict[tuple[Any, ...], _Found] = {}
    for pair in zip_longest(items.read(), csv.read()):
        for side, line in enumerate(pair):
            if line is None:
                continue
            content = content_of(line)
            bucket = _fingerprint(content) % _BUCKETS
            if balances[bucket] and (bucket in looked_into or len(looked_into) < _LOOKED_INTO):
                looked_into.add(bucket)
                found.setdefault(content, _Found()).add(side, line)
    if not found:
        return None
    sentence = f"the JSON items have {items}, the CSV has {csv}"
    in_items = _first_of(one.first[0] for one in found.values() if one.surplus > 0)
    in_csv = _first_of(one.first[1] for one in found.values() if one.surplus < 0)
    if in_items is not None:
        sentence += f"; line {in_items.ordinal} of the items, {_label(in_items)}, is not in the CSV"
    if in_csv is not None:
        sentence += f"; line {in_csv.ordinal} of the CSV, {_label(in_csv)}, is not in the items"
    if in_items is not None and in_csv is not None:
        pairs = zip(fields, content_of(in_items), content_of(in_csv), strict=True)
        sentence += f": they differ in {', '.join(field for field, one, other in pairs if one != other)}"
    return sentence


class _Found:
    """How much oftener the items (0) hold what a line contains than the CSV (1), and the first line of each that does."""

    __slots__ = ("first", "surplus")

    def __init__(self) -> None:
        self.surplus = 0
        self.first: list[InvoiceLine | None] = [None, None]

    def add(self, side: int, line: InvoiceLine) -> None:
        self.surplus += -1 if side else 1
        if self.first[side] is None:
            self.first[side] = line


def _first_of(lines: Iterable[InvoiceLine | None]) -> InvoiceLine | None:
    return min((line for line in lines if line is not None), key=attrgetter("ordinal"), default=None)


def _content(fields: Sequence[str]) -> Callable[[InvoiceLine], tuple[Any, ...]]:
    values_of = attrgetter(*fields)
    return lambda line: tuple(map(_comparable, values_of(line)))


_content_of_all = _content((*_ALWAYS_COMPARED, *_COMPARED_IF_PRINTED))


def _fingerprint(content: tuple[Any, ...]) -> int:
    # The numbers -1 and -2 have the same hash; and hashes of tuples are too much alike to be added up, those of texts are not.
    return hash(f"{hash(content)} {[value == -1 for value in content]}")


def _comparable(value: str | Decimal | datetime | None) -> str | Decimal | datetime | None:
    if isinstance(value, str):
        return value.strip()
    return value.replace(microsecond=0) if isinstance(value, datetime) and value.microsecond else value


def _label(line: InvoiceLine) -> str:
    return f"{_shown(line.product)} {_shown(line.description)} ${line.amount}"
