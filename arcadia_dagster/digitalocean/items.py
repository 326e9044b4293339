"""The items of a listing as they came: their bytes put aside in one file, found by their ids, decoded only where somebody looks at one.

So a listing of any length takes little memory, and what has not changed is never made into objects: the digest of its bytes says so. What
the fields of an item mean is not known here, nor how pages are asked for.
"""

import functools
import hashlib
import itertools
import os
import re
import tempfile
import threading
from array import array
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any, NamedTuple, TypeAlias

import msgspec

Item: TypeAlias = dict[str, Any]


def decode_number(text: str) -> Decimal:
    """A number with a fraction or an exponent."""
    try:
        return Decimal(text)
    except InvalidOperation:  # 1e999999999999999999: whoever wants a number refuses this one
        return Decimal("Infinity")


decode_item: Callable[[bytes | memoryview], Item] = msgspec.json.Decoder(float_hook=decode_number).decode
_encode = msgspec.json.Encoder(decimal_format="number", order="deterministic").encode


class _Spool:
    """Bytes put aside in an unnamed file, whose pages the system keeps in memory while there is room. Threads may share it."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115
        self._lock = threading.Lock()
        self._size = 0

    def append(self, content: bytes) -> int:
        """Where `content` now begins."""
        with self._lock:
            start = self._size
            self._size += len(content)
        rest = memoryview(content)
        while rest:
            rest = rest[os.pwrite(self._file.fileno(), rest, start + len(content) - len(rest)) :]
        return start

    def read(self, start: int, size: int) -> bytes:
        return os.pread(self._file.fileno(), size, start)

    def __del__(self) -> None:
        self._file.close()


class _Page:
    """Items put aside together, one behind the other."""

    def __init__(self, spool: _Spool, items: Sequence[msgspec.Raw | bytes], ids: Sequence[str]) -> None:
        """Of an item without content, nothing but the id is kept."""
        self.ids = ids
        self._spool = spool
        start = spool.append(b"".join(items))
        self._starts = array("Q", itertools.accumulate(map(len, items), initial=start))

    def all(self) -> memoryview:
        """All of them, read at once."""
        return memoryview(self._spool.read(self._starts[0], self._starts[-1] - self._starts[0]))

    def item(self, number: int, among: memoryview | None = None) -> bytes | memoryview:
        """One of them, from 0; where they have been read, `among` all of them."""
        start, end = self._starts[number], self._starts[number + 1]
        if among is None:
            return self._spool.read(start, end - start)
        return among[start - self._starts[0] : end - self._starts[0]]


class Items(Collection[Item]):
    """Items distinct by their id, in the order first seen. Each look at one decodes it anew.

    `digests` are of their bytes and of the fields that were added, by id. None: it has not been worked out, see `content`.
    """

    def __init__(self, digests: Mapping[str, bytes | None], pages: Sequence[_Page], added: Mapping[str, Mapping[str, Any]]) -> None:
        self.digests = digests
        self._pages = pages
        self._added = added
        self._places: dict[str, int] = {}  # number of the page and, in its lower half, of the item in it
        self._near: tuple[int, memoryview | None] = (-1, None)  # the page of which an item was looked at last, and all that is in it

    @classmethod
    def of(cls, items: Iterable[Item], id_field: str) -> "Items":
        """These items, by what is in `id_field`; of two with the same id the later one."""
        if isinstance(items, Items):
            return items
        put_aside = NewItems(id_field)
        put_aside.add([msgspec.Raw(_encode(item)) for item in items])
        return put_aside

    def locate(self, ids: Collection[str]) -> None:
        """Find out where these are: the first look at any other one finds out where all are, which takes time and memory."""
        wanted = self.digests if len(ids) >= len(self.digests) else set(ids)
        self._places = {
            one: page_number << 32 | number
            for page_number, page in enumerate(self._pages)
            for number, one in enumerate(page.ids)
            if one in wanted
        }

    def item(self, one: str) -> Item:
        """The item of this id as objects, numbers with a fraction as Decimal. Raises ValueError for one that was not put aside."""
        item = decode_item(self._content(one))
        return {**item, **self._added[one]} if one in self._added else item

    def content(self, one: str) -> tuple[bytes | memoryview | None, bytes | None]:
        """The item of this id as it came, None where fields were added to it; and its digest.

        Raises ValueError for one that was not put aside.
        """
        if one in self._added:
            return None, self.digests[one]
        content = self._content(one)
        return content, self.digests[one] or _digest(content)

    def _content(self, one: str) -> bytes | memoryview:
        """Of items next to each other, the second look is at their whole page: that is one read for all that follow."""
        if one not in self._places:
            self.locate(self.digests)
        place = self._places[one]
        page, number = place >> 32, place & 0xFFFFFFFF
        near, items = self._near
        if page == near and items is None:
            items = self._pages[page].all()
        self._near = (page, items if page == near else None)
        content = self._pages[page].item(number, self._near[1])
        if not content:
            raise ValueError("it was as the ledger had it when the listing began, and another sync has changed that since; run again")
        return content

    def __len__(self) -> int:
        return len(self.digests)

    def __iter__(self) -> Iterator[Item]:
        return map(self.item, self.digests)

    def __contains__(self, item: object) -> bool:
        return any(one == item for one in self)

    def __eq__(self, other: object) -> bool:
        return [*self] == [*other] if isinstance(other, Collection) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __or__(self, other: "Items") -> "Items":
        """Both; of two items with the same id the other's."""
        if not self.digests or not other.digests:
            return self if self.digests else other
        added = {one: fields for one, fields in self._added.items() if one not in other.digests}
        return Items({**self.digests, **other.digests}, [*self._pages, *other._pages], {**added, **other._added})

    def unlike(self, known: Mapping[str, bytes | None]) -> list[str]:
        """The ids of those that have another digest than in `known`, or none there, or none that is worked out."""
        return [one for one, digest in self.digests.items() if digest is None or known.get(one) != digest]

    def only(self, ids: Collection[str]) -> "Items":
        """Those with these ids."""
        return Items({one: digest for one, digest in self.digests.items() if one in ids}, self._pages, self._added)

    def adding(self, fields: Callable[[str], Mapping[str, Any]]) -> "Items":
        """The same, each with the fields that are given for its id; they count as if the provider had sent them."""
        new = {one: given for one in self.digests if (given := fields(one))}
        before = {one: self.digests[one] or _digest(self._content(one)) for one in new}
        digests = {one: _hashed(before[one] + _encode(given)) + _NO_LENGTH for one, given in new.items()}
        added = {one: {**self._added.get(one, {}), **given} for one, given in new.items()}
        return Items({**self.digests, **digests}, self._pages, {**self._added, **added})


_NO_LENGTH = bytes(4)  # of what are not the bytes of one item


def _hashed(content: bytes | memoryview | msgspec.Raw) -> bytes:
    """As no other content is. Most processors have instructions for this hash: no other safe one takes as little."""
    return hashlib.sha256(content).digest()[:12]


def _digest(item: msgspec.Raw | bytes | memoryview) -> bytes:
    """Its hash, and its length in four bytes, by which it is found on a page that is not decoded."""
    return _hashed(item) + len(item).to_bytes(4, "big")


class Cut(NamedTuple):
    """The first items of a page, cut out of it without decoding those that are known: of them the content is empty."""

    ids: list[str]
    digests: list[bytes]
    contents: list[bytes]
    rest: bytes  # the page with `STAND_IN` for these items


STAND_IN = b"0"  # as valid in their place as they are, and no item itself


class NewItems(Items):
    """Items as their pages arrive; all of them where `id_field` is None."""

    def __init__(self, id_field: str | None, *, known: Mapping[str, bytes | None] | None = None, beside: "NewItems | None" = None) -> None:
        """The digest alone is kept of an item that has the one in `known`. Where nothing is known, digests are worked out when they are
        asked for: not before all have been listed.

        `beside` names items of another reading of the same list, in whose file these are kept too.
        """
        self._new: tuple[dict[str, bytes | None], list[_Page]] = ({}, [])
        super().__init__(*self._new, {})
        self._id_field = id_field
        self._known = {} if known is None else known
        self._all_new = known is not None and not known
        self._unlike: list[str] = []
        self._spool: _Spool = _Spool() if beside is None else beside._spool

    def cut(self, page: bytes, key: str) -> Cut | None:
        """The items that a page in UTF-8 begins with under `key`, where any is known; None where there are none to be seen.

        Bytes that have the digest of an item are that item, and end where it ended. Any other is looked for up to where the
        next one seems to begin, and decoded: nothing but a whole item is valid there. From the first that is not found so,
        all are in the rest.
        """
        if not self._known or self._id_field is None:
            return None
        opening = _opening(key).match(page)
        if opening is None:
            return None
        leading, known, looked_at = _leading(self._id_field), self._known, memoryview(page)
        ids: list[str] = []
        digests: list[bytes] = []
        contents: list[bytes] = []
        start = end = opening.end()
        while (match := leading(page, start)) is not None:
            one = (match[1] or match[2]).decode()
            digest = known.get(one) or _NO_LENGTH
            content = b""
            end_then = start + int.from_bytes(digest[-4:], "big")
            if _hashed(looked_at[start:end_then]) == digest[:-4]:
                end = end_then
            else:
                content = _item_from(page, start, self._id_field)
                if not content:
                    break
                digest = _digest(content)
                end = start + len(content)
            ids.append(one)
            digests.append(digest)
            contents.append(content)
            start = end + 1
            if page[end:start] != b",":
                break
        return Cut(ids, digests, contents, page[: opening.end()] + STAND_IN + page[end:]) if ids else None

    def add(self, items: Sequence[msgspec.Raw], first: Cut | None = None) -> None:
        """Put the items of a page aside, after those that have been cut out of it.

        Raises ValueError for the first without id, after those before it.
        """
        ids, digests, contents, _ = first or ([], [], [], b"")
        cut = len(ids)
        try:
            if self._id_field is None:
                ids += [str(number) for number in range(len(self), len(self) + len(items))]
            else:
                _identify(items, self._id_field, ids)
        finally:
            items = items[: len(ids) - cut]
            new: list[bytes | None] = [None] * len(items)
            kept: Sequence[msgspec.Raw | bytes] = items
            if not self._all_new:
                new = [*map(_digest, items)]
                known = map(self._known.get, ids[cut:])
                kept = [*contents, *(b"" if digest == before else item for item, digest, before in zip(items, new, known, strict=True))]
            all_digests, pages = self._new
            pages.append(_Page(self._spool, kept, ids))
            all_digests.update(zip(ids, (*digests, *new), strict=True))
            self._unlike += itertools.compress(ids, kept)

    def unlike(self, known: Mapping[str, bytes | None]) -> list[str]:
        """As of any items; where these were compared as they came, that is not done again."""
        if known is not self._known:
            return super().unlike(known)
        return [one for one in dict.fromkeys(self._unlike) if self.digests[one] is None or known.get(one) != self.digests[one]]


def _identify(items: Sequence[msgspec.Raw], field: str, ids: list[str]) -> None:
    """Append the ids of these items to `ids`. Raises ValueError for the first that has none."""
    found = [*map(_leading(field), items)]
    if None not in found:
        ids += [(match[1] or match[2]).decode() for match in found]  # type: ignore[index]
        return
    for item in items:
        value = _value(item, field)
        if type(value) not in (int, str) or value == "":
            raise ValueError(f"an item has no {field!r}")
        ids.append(str(value))


@functools.cache
def _opening(key: str) -> re.Pattern[bytes]:
    """Finds where the list begins in a page that begins with it, as nearly all do."""
    return re.compile(rb'\{"%b":\[' % re.escape(key).encode())


# Lists of objects inside an item can look like the next item; where there are more of them, to decode the page takes less.
_TRIES = 4


def _item_from(page: bytes, start: int, field: str) -> bytes:
    """The item that begins there, if it is followed by another with this field before all others, else nothing."""
    end = start
    for _ in range(_TRIES):
        end = page.find(b'},{"%b":' % field.encode(), end) + 1
        if end == 0:
            break
        content = page[start:end]
        try:
            _whole(content)
        except (msgspec.DecodeError, RecursionError):
            continue
        return content
    return b""


_whole = msgspec.json.Decoder(msgspec.Raw).decode


@functools.cache
def _leading(field: str) -> Callable[..., re.Match[bytes] | None]:
    """Finds the id where it is the item's first field, as nearly always: to decode an item for nothing else takes five times as long."""
    pattern = rb'\{"%b":(?:(\d{1,18})|"([^"\\]+)")[,}]' % re.escape(field).encode()
    return re.compile(pattern).match  # a Raw is a buffer of bytes


def _value(item: msgspec.Raw, field: str) -> Any:
    try:
        return _identity(field)(item).value
    except msgspec.DecodeError:
        return None


@functools.cache
def _identity(field: str) -> Callable[[msgspec.Raw], Any]:
    """A decoder of nothing but this field."""
    type_ = msgspec.defstruct("Identity", [("value", Any, msgspec.field(default=None, name=field))])
    return msgspec.json.Decoder(type_).decode
