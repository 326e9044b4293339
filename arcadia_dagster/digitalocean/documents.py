"""The items of an invoice as a document in a file: a JSON array, one item a line, written page by page and read item by item.

So an invoice of any length is kept as one document and never as one list. Also here: what passes for a number in any document. What the
items mean belongs in `invoices.py`.
"""

from collections.abc import Iterable, Iterator
from decimal import Decimal, InvalidOperation
from typing import Any, BinaryIO

import msgspec

_encode_lines = msgspec.json.Encoder(decimal_format="number", order="deterministic").encode_lines
_decode = msgspec.json.Decoder(float_hook=Decimal).decode


class ItemsWriter:
    """Writes items into `file`, from its beginning and in place of what it held; equal items give equal bytes, numbers stay exact."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._count = 0
        file.seek(0)
        file.truncate()
        file.write(b"[\n")

    def __len__(self) -> int:
        return self._count

    def add(self, items: Iterable[Any]) -> None:
        """Append these items."""
        page = [*items]
        if page:
            # A line break inside a JSON text is written \n, so these are between items.
            lines = _encode_lines(page).removesuffix(b"\n").replace(b"\n", b",\n")
            self._file.write(b",\n" + lines if self._count else lines)
            self._count += len(page)

    def end(self) -> None:
        """Close the array. The file stays open."""
        self._file.write(b"\n]\n" if self._count else b"]\n")


def write_items(file: BinaryIO, items: Iterable[Any]) -> None:
    """Make `file` the document of these items."""
    writer = ItemsWriter(file)
    writer.add(items)
    writer.end()


def read_items(file: BinaryIO) -> Iterator[Any]:
    """The items of a document that `ItemsWriter` wrote, numbers with a fraction as Decimal. Reads `file` from its beginning."""
    file.seek(0)
    for line in file:
        text = line.rstrip(b",\n")
        if text not in (b"[", b"]"):
            yield _decode(text)


def read_decimal(value: Any) -> Decimal | None:
    """A number, sent as one or as text; None for anything else, and for those too large or small to be meant, such as 1e999999."""
    if type(value) is int:
        return Decimal(value) if abs(value) < _TOO_LARGE else None
    try:
        number = value if type(value) is Decimal else Decimal(str(value))
    except InvalidOperation:
        return None
    return number if number.is_finite() and abs(number.adjusted()) < _DIGITS else None


_DIGITS = 21
_TOO_LARGE = 10**_DIGITS
