"""The items of a listing as they came: their bytes put aside in one file, found by their ids, decoded only where somebody looks at one.

So a listing of any length takes little memory, and what has not changed is never made into objects: the digest of its bytes says so. What
the fields of an item mean is not known here, nor how pages are asked for.
"""

import functools
import hashlib
import itertools
import tempfile
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any, NamedTuple, TypeAlias

import msgspec

Item: TypeAlias = dict[str, Any]

_IN_MEMORY = 8 * 1024 * 1024  # bytes of a listing; more go to an unnamed file
_NOTHING: Mapping[str, Any] = {}


def _number(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:  # 1e999999999999999999: whoever wants a number refuses this one
        return Decimal("Infinity")


_decode = msgspec.json.Decoder(float_hook=_number).decode
_encode = msgspec.json.Encoder(decimal_format="number", order="deterministic").encode


class _Spool:
    """Bytes put aside, in memory or, if they are many, in an unnamed file. Threads may share it."""

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115
        self._lock = threading.Lock()
        self._size = 0

    def append(self, content: bytes) -> int:
        """Where `content` now begins."""
        with self._lock:
            start = self._size
            self._file.seek(start)
            self._file.write(content)
            self._size += len(content)
        return start

    def read(self, start: int, size: int) -> bytes:
        with self._lock:
            self._file.seek(start)
            return self._file.read(size)

    def __del__(self) -> None:
        self._file.close()


class Stored(NamedTuple):
    """One item that was put aside, and the digest of its bytes and of the fields that were added to it."""

    spool: _Spool
    start: int
    size: int
    digest: bytes
    added: Mapping[str, Any] = _NOTHING

    def item(self) -> Item:
        """The item as objects, numbers with a fraction as Decimal."""
        item: Item = _decode(self.spool.read(self.start, self.size))
        return {**item, **self.added} if self.added else item


class Items(Collection[Item]):
    """Items distinct by their id, in the order first seen. Each look at one decodes it anew."""

    def __init__(self, stored: Mapping[str, Stored]) -> None:
        self.stored = stored

    @classmethod
    def of(cls, items: Iterable[Item], id_field: str) -> "Items":
        """These items, by what is in `id_field`; of two with the same id the later one."""
        if isinstance(items, Items):
            return items
        put_aside = NewItems(id_field)
        put_aside.add([msgspec.Raw(_encode(item)) for item in items])
        return put_aside

    def __len__(self) -> int:
        return len(self.stored)

    def __iter__(self) -> Iterator[Item]:
        return (one.item() for one in self.stored.values())

    def __contains__(self, item: object) -> bool:
        return any(one == item for one in self)

    def __eq__(self, other: object) -> bool:
        return [*self] == [*other] if isinstance(other, Collection) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __or__(self, other: "Items") -> "Items":
        """Both; of two items with the same id the other's."""
        return Items({**self.stored, **other.stored})

    def only(self, ids: Collection[str]) -> "Items":
        """Those with these ids."""
        return Items({one: stored for one, stored in self.stored.items() if one in ids})

    def adding(self, fields: Callable[[str], Mapping[str, Any]]) -> "Items":
        """The same, each with the fields that are given for its id; they count as if the provider had sent them."""
        return Items({one: _with(stored, fields(one)) for one, stored in self.stored.items()})


def _with(stored: Stored, fields: Mapping[str, Any]) -> Stored:
    if not fields:
        return stored
    return stored._replace(digest=_digest(stored.digest + _encode(fields)), added={**stored.added, **fields})


def _digest(content: bytes | msgspec.Raw) -> bytes:
    return hashlib.blake2b(content, digest_size=16).digest()


class NewItems(Items):
    """Items as their pages arrive; all of them where `id_field` is None."""

    def __init__(self, id_field: str | None, beside: "NewItems | None" = None) -> None:
        """`beside` names items of another reading of the same list, in whose file these are kept too."""
        self._new: dict[str, Stored] = {}
        super().__init__(self._new)
        self._id_field = id_field
        self._spool: _Spool = _Spool() if beside is None else beside._spool

    def add(self, items: Sequence[msgspec.Raw]) -> None:
        """Put the items of a page aside. Raises ValueError for the first without id, after those before it."""
        ids: Iterator[str] = map(str, itertools.count(len(self._new)))
        problem: ValueError | None = None
        if self._id_field is not None:
            identified = []
            try:
                for item in items:
                    identified.append(_id(item, self._id_field))  # noqa: PERF401 - those before the problem
            except ValueError as error:
                problem = error
                items = items[: len(identified)]
            ids = iter(identified)
        start = self._spool.append(b"".join(items))
        for one, item in zip(ids, items, strict=False):
            size = len(memoryview(item))
            self._new[one] = Stored(self._spool, start, size, _digest(item))
            start += size
        if problem is not None:
            raise problem


def _id(item: msgspec.Raw, field: str) -> str:
    try:
        value = _identity(field)(item).value
    except msgspec.DecodeError:
        value = None
    if isinstance(value, bool) or not isinstance(value, (int, str)) or value == "":
        raise ValueError(f"an item has no {field!r}")
    return str(value)


@functools.cache
def _identity(field: str) -> Callable[[msgspec.Raw], Any]:
    """A decoder of nothing but this field."""
    type_ = msgspec.defstruct("Identity", [("value", Any, msgspec.field(default=None, name=field))])
    return msgspec.json.Decoder(type_).decode
