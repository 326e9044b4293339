"""The provider's API over HTTP: the token, paging, retries, the request budget, and proof that a listing is complete.

What comes out is decoded JSON (numbers with a fraction are Decimal), items put aside (`items.py`) or a file, or one
`ProviderError` that says what to do. What the fields of an item mean belongs in `kinds.py` and `invoices.py`; nothing
here knows a kind, a database or Dagster.
"""

import bisect
import collections
import contextlib
import email.utils
import functools
import http
import ipaddress
import math
import re
import ssl
import threading
import time
from collections.abc import Callable, Collection, Generator, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from decimal import Decimal
from itertools import islice
from types import TracebackType
from typing import Any, BinaryIO, Protocol, Self, TypeAlias, TypeVar

import httpcore
import httpx  # noqa: TID251
import msgspec
import stamina

from arcadia_dagster.digitalocean.documents import ItemsWriter
from arcadia_dagster.digitalocean.items import STAND_IN, Cut, Item, Items, NewItems
from arcadia_dagster.digitalocean.limits import HOUR, MINUTE, PERCENT_OF_A_MINUTE, REQUESTS_AN_HOUR, SPECIAL_LIMITS, Limit, SharedBudget
from arcadia_dagster.digitalocean.replies import Forbidden, NotFound, Paging, ProviderError, TokenRejected

PUBLIC_API = "https://api.digitalocean.com"

Params: TypeAlias = Mapping[str, str | int]
_One = TypeVar("_One")
_Read = TypeVar("_Read")

_PER_PAGE = 200  # the most that the provider allows
_MAX_PAGES = 50_000
_AT_ONCE = 8  # pages of one list, or lists of their kind, that are asked for at the same time
_MAX_BYTES = 64 * 1024 * 1024  # of a reply that is kept in memory
_MAX_FILE_BYTES = 1024 * 1024 * 1024  # of one that goes to a file; a line of an invoice CSV is some 130 bytes
_SLOWEST = 64 * 1024  # bytes a second: what a reply brings adds to the time that it may take
_MAX_WAIT = 3600.0  # the request budget renews within the hour, so nothing honest asks for a longer wait
_MAX_BACKOFF = 60.0


class _Local(threading.local):
    """What belongs to the request, or the listing, that the current thread is at."""

    deadline = math.inf  # of the request, on the monotonic clock
    requests = 0
    stop: threading.Event | None = None  # set when nobody wants the replies any more


_local = _Local()


class _StoppedError(Exception):
    """Nobody wants the reply any more."""


def _rest(seconds: float) -> None:
    if _local.stop is None:
        time.sleep(seconds)
    elif _local.stop.wait(seconds):
        raise _StoppedError


# Indirection for tests, which need not wait real minutes.
_clock = time.monotonic
_sleep = _rest

_decode = msgspec.json.Decoder(float_hook=Decimal).decode
_encode = msgspec.json.Encoder(decimal_format="number").encode

# `on_wait` reports retries; stamina's own hook would print each on stdout, through structlog that Dagster brings along.
stamina.instrumentation.set_on_retry_hooks([])


@dataclass(frozen=True, kw_only=True)
class Account:
    """The team that a token belongs to. `team_uuid` is the provider's text as it is, with or without dashes."""

    team_uuid: str
    name: str


@dataclass(frozen=True, kw_only=True)
class Listing:
    """One read of one kind: items distinct by id in the order first seen, and why they are not all there is, if so."""

    items: Collection[Item]
    requests: int  # HTTP requests, retries included
    error: ProviderError | None
    id_field: str | None = "id"

    @property
    def complete(self) -> bool:
        """Whether the items are all there are: every page read and as many distinct items as `meta.total` said."""
        return self.error is None

    @property
    def by_id(self) -> Items:
        """The items put aside. Raises TypeError where equal items are legal."""
        if self.id_field is None:
            raise TypeError("these items have no id")
        return Items.of(self.items, self.id_field)

    def __add__(self, other: "Listing") -> "Listing":
        """Two passes of one kind as one: items distinct by id (the later content), requests added, first error kept."""
        return Listing(
            items=self.by_id | other.by_id,
            requests=self.requests + other.requests,
            error=self.error or other.error,
            id_field=self.id_field,
        )


class Client:
    """A client for one token; threads may share it.

    Every request has time-outs, is paced to stay within the request budget that the reply headers state, and is tried
    `attempts` times where trying again can help: 408, 429, 5xx and broken connections. Other replies are errors at
    once. Redirects are not followed.

    With a `budget`, the requests of all clients that share it keep to the limits together; each paces itself besides, as a budget may be
    out of reach.

    Limits: https://docs.digitalocean.com/reference/api/digitalocean/#section/Introduction/Rate-Limit
    """

    def __init__(
        self,
        token: str,
        *,
        base_url: str = PUBLIC_API,
        timeout: float = 30.0,
        attempts: int = 5,
        backoff: float = 0.5,
        budget: SharedBudget | None = None,
        on_wait: Callable[[float, str], None] | None = None,
        token_place: str = "DO_API_TOKEN",  # noqa: S107 - where it is
    ) -> None:
        """Prepare a client; nothing is sent yet.

        `timeout` is in seconds for each step (connect, read, write); a reply as a whole may take four times as long,
        and as much longer as 64 KB a second need for what it brings.
        `backoff` is the wait before the first retry, in seconds; it doubles from one to the next, and a random part of
        the first is added. `on_wait(seconds, reason)` is told of each wait, before it; the reason follows the words "waits 5 s".
        `token_place` says in errors where a person finds the token.

        Raises ValueError for a token or an address that cannot be one.
        """
        self._base = _base_address(base_url)
        token = token.strip()
        if not re.fullmatch(r"[\x21-\x7e]+", token):  # httpx prints the header that it cannot send, token and all
            raise ValueError(f"the API token is empty or holds spaces or characters outside ASCII; check {token_place}")
        self._secret = re.compile(rf"(?<!\w){re.escape(token)}(?!\w)")
        self._attempts = attempts
        self._backoff = backoff
        self._token_place = token_place
        self._on_wait = on_wait or (lambda _seconds, _reason: None)
        self._timeout = timeout
        self._budget = _Budget(self._on_wait)
        self._shared = budget
        self._special = [_Window(limit) for limit in SPECIAL_LIMITS]
        self._account: Account | None = None
        self.listed: dict[str, Listing] = {}  # complete listings that others are read along, for as long as this client lives
        host = httpx.URL(self._base).host
        self._http = httpx.Client(
            headers={"Authorization": f"Bearer {token}", "User-Agent": "arcadia-dagster"},
            timeout=timeout,
            follow_redirects=False,
            mounts={f"all://{host}": None} if _is_loopback(host) else None,  # not through the proxy of the environment
        )
        # httpx limits each read, not a reply as a whole, and has no public way to set the network backend.
        for transport in (self._http._transport, *self._http._mounts.values()):
            if isinstance(transport, httpx.HTTPTransport):
                transport._pool._network_backend = _DeadlineBackend()

    @property
    def requests(self) -> int:
        """HTTP requests sent so far, retries included."""
        return self._budget.requests

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    def get(self, path: str, *, kind: str, scope: str | None = None, params: Params | None = None) -> dict[str, Any]:
        """The JSON object at `path` (from the base address on, for example `/v2/account`).

        `kind` and `scope` name the thing and the scope that it needs in errors. Raises ProviderError.
        """
        content, reply = self._request("GET", path, kind=kind, scope=scope, params=params)
        return self._object(content, reply, kind=kind, path=path)

    def save(self, path: str, file: BinaryIO, *, kind: str, scope: str | None = None, accept: str) -> None:
        """Put the document at `path`, which is asked for as the media type `accept` (for example `text/csv`), into `file`.

        `file` then holds that document and nothing else. Raises ProviderError, also where HTML, JSON or nothing came
        instead; what the file holds then is of no use.
        """
        _, reply = self._request("GET", path, kind=kind, scope=scope, accept=accept, file=file)
        media_type = reply.headers.get("content-type", "").partition(";")[0].strip().lower()
        beginning = _beginning(file)
        if beginning in {b"", b"<", b"{", b"["} or media_type.endswith(("html", "json")):
            what = "nothing" if not file.tell() else f"something else ({media_type or 'no content type'})"
            raise self._error(reply, kind=kind, path=path, message=f"{accept} was asked for and {what} came")

    def post(self, path: str, body: Mapping[str, Any], *, kind: str, scope: str | None = None) -> dict[str, Any]:
        """Send `body` as JSON and return the JSON object that comes back. Raises ProviderError.

        It is tried again only where the provider cannot have acted on it: on 429 and where no connection was made.
        """
        content, reply = self._request("POST", path, kind=kind, scope=scope, body=msgspec.json.encode(body))
        return self._object(content, reply, kind=kind, path=path)

    def account(self) -> Account:
        """The team of the token, asked for once; the user where the reply names no team. Raises ProviderError."""
        if self._account is None:
            path = "/v2/account"
            account = self.get(path, kind="account", scope="account:read").get("account")
            user: dict[str, Any] = account if isinstance(account, dict) else {}
            team = user.get("team") or {}
            # The user stands in for no team, but never for one that cannot be read: that would be another account.
            uuid = (team.get("uuid") or user.get("uuid")) if isinstance(team, dict) and user.get("team") != [] else None
            if not isinstance(uuid, str):
                raise ProviderError(kind="account", path=path, status=200, message="the reply has no account uuid", advice=_NOT_THE_API)
            self._account = Account(team_uuid=uuid, name=str(team.get("name") or user.get("name") or uuid))
        return self._account

    def list(
        self,
        path: str,
        key: str,
        *,
        kind: str,
        id_field: str | None = "id",
        scope: str | None = None,
        params: Params | None = None,
        paging: Paging = Paging.PAGES,
        known: Mapping[str, bytes | None] | None = None,
    ) -> Listing:
        """Every item under `key` on all pages of `path`.

        Never raises ProviderError: it is in `.error`, beside what had been read. `id_field` names what makes an item
        distinct; None where equal items are legal. Of an item that has the digest that `known` has for its id, no more
        is kept.

        Pages are asked for by number, because `links` name the provider's host and not the configured one; where page 1
        tells how many there are, several of the others at once, which are then taken in order. The last
        page is the one without `links.pages.next`, unless `meta.total` says that there are more items. A list that may
        leave both out, and does, or that says no more than a total, is read on until a page is empty: a page that is not
        full proves nothing, because the provider may allow less to a page than was asked for.

        A read that does not add up (an item on two pages, a total that changes or is not reached) is done once more
        from page 1. What cannot be seen: between two pages, an item on a page already read is deleted and another is
        appended. The total stays, and the item that moves to the earlier page is missed; so being missing in one
        complete listing is no proof of deletion.
        """
        before = _local.requests
        items = NewItems(id_field, known=known)
        seen: Items = items
        error: ProviderError | None = None
        try:
            for attempt in range(2):
                items = NewItems(id_field, beside=items) if attempt else items
                try:
                    problem = self._read_pages(
                        items,
                        path,
                        key,
                        kind=kind,
                        scope=scope,
                        params=params,
                        paging=paging,
                    )
                finally:
                    seen = seen | items if attempt else items
                if problem is None:
                    seen = items
                    break
            else:
                error = _does_not_add_up(problem, kind=kind, path=path)
        except ProviderError as failure:
            error = failure
        return Listing(items=seen, requests=_local.requests - before, error=error, id_field=id_field)

    def save_list(self, path: str, key: str, file: BinaryIO, *, kind: str, scope: str | None = None) -> None:
        """Put every item under `key` on all pages of `path` into `file`, as one JSON array (see `documents.py`).

        Pages go to the file as they arrive. They are read as `list` does, equal items being legal and `meta.total`
        being always there. Raises ProviderError where that is not all there is; what the file holds then is of no use.
        """
        for _ in range(2):
            items = _Document(file)
            problem = self._read_pages(items, path, key, kind=kind, scope=scope, params=None, paging=Paging.PAGES)
            if problem is None:
                items.end()
                return
        raise _does_not_add_up(problem, kind=kind, path=path)

    def _read_pages(
        self,
        items: "_Pages",
        path: str,
        key: str,
        *,
        kind: str,
        scope: str | None,
        params: Params | None,
        paging: Paging,
    ) -> str | None:
        """Read page 1 to the last into `items`. Returns what does not add up, None if all does."""

        def ask(number: int) -> tuple[bytes, httpx.Response]:
            query = {**(params or {}), "per_page": _PER_PAGE, "page": number}
            if paging is Paging.SINGLE:  # and yet, should it say that there is more, that is read too
                query = {**(params or {}), **({"page": number} if number > 1 else {})}
            return self._request("GET", path, kind=kind, scope=scope, params=query)

        with contextlib.closing(_Replies(ask)) as replies:
            return self._add_up(items, replies, path, key, kind=kind, paging=paging)

    def _add_up(self, items: "_Pages", replies: "_Replies", path: str, key: str, *, kind: str, paging: Paging) -> str | None:
        """As `_read_pages`, of these replies."""
        total: int | None = None
        previous: bytes | None = None
        for number in range(1, _MAX_PAGES + 1):
            content, reply = replies.page(number)
            known = len(items)
            try:
                first, body = self._body(content, reply, items, key, kind=kind, path=path)
                page = _Page.read(body, 0 if first is None else len(first.ids), key, number, paging)
                items.add(body.items, first)
            except ValueError as error:
                raise ProviderError(kind=kind, path=path, status=200, message=f"page {number}: {error}", advice=_NOT_THE_API) from None
            if None not in (total, page.total) and total != page.total:
                return f"meta.total went from {total} to {page.total} while it was read"
            total = total if page.total is None else page.total
            if page.is_last(known=known, read=len(items), total=total):
                break
            if page.size and content == previous:
                return f"page {number} is page {number - 1} again"
            if len(items) == known:
                return f"page {number} brings nothing new and is not the last ({len(items)} items, meta.total {total})"
            if total is not None and len(items) > total:
                break
            previous = content
            if number == 1 and page.last is not None:
                replies.expect(min(page.last, _MAX_PAGES))
        else:
            return f"it has more than {_MAX_PAGES} pages"
        if total is not None and len(items) != total:
            return f"{len(items)} distinct items where meta.total says {total}"
        return None

    def _body(
        self, content: bytes, reply: httpx.Response, items: "_Pages", key: str, *, kind: str, path: str
    ) -> tuple[Cut | None, "_Body"]:
        """What `items` cut out of a page, and the rest of it, its items not decoded. Raises ProviderError, or ValueError, for no page."""
        try:
            if not content.isascii():
                content.decode()  # the decoder does not look into texts that it leaves alone
            first = items.cut(content, key)
            if first is not None:
                rest = _pages_of(key)(first.rest)
                if rest.items and bytes(rest.items.pop(0)) == STAND_IN:
                    return first, rest
            return None, _pages_of(key)(content)
        except (ValueError, RecursionError):  # slowly then, for the words that it deserves
            body = self._object(content, reply, kind=kind, path=path)
            listed = body.get(key)
            if not isinstance(listed, list):
                raise ValueError(_no_list(key)) from None
            raw = [msgspec.Raw(_encode(item)) for item in listed]
            return None, _Body(raw, body.get("meta"), body.get("links"), body.get("total"))

    def _object(self, content: bytes, reply: httpx.Response, *, kind: str, path: str) -> dict[str, Any]:
        try:
            body = _decode(content)
        except (ValueError, ArithmeticError, RecursionError):  # the last two: absurd numbers, absurd nesting
            body = None
        if not isinstance(body, dict):
            raise self._error(reply, kind=kind, path=path, message="the body is not a JSON object, or was cut off")
        return body

    def _error(self, reply: httpx.Response, *, kind: str, path: str, message: str) -> ProviderError:
        """The error for a reply of the right status and the wrong body, which is not quoted: it may hold secrets."""
        return ProviderError(
            kind=kind,
            path=path,
            status=reply.status_code,
            message=message,
            request_id=self._clean(reply.headers.get("x-request-id")),
            advice=_NOT_THE_API,
        )

    def _clean(self, text: str | None) -> str | None:
        """Text from outside on one line, short, without the token (a proxy may echo what it was sent)."""
        return " ".join(self._secret.sub("***", text).split())[:300] if text else None

    def _request(
        self,
        method: str,
        path: str,
        *,
        kind: str,
        scope: str | None,
        params: Params | None = None,
        accept: str = "application/json",
        body: bytes | None = None,
        file: BinaryIO | None = None,
    ) -> tuple[bytes, httpx.Response]:
        for attempt in stamina.retry_context(
            on=lambda error: isinstance(error, ProviderError) and error.again,
            attempts=self._attempts,
            timeout=None,
            wait_initial=self._backoff,
            wait_max=_MAX_BACKOFF,
            wait_jitter=self._backoff,
        ):
            with attempt:
                try:
                    return self._send(method, path, kind=kind, scope=scope, params=params, accept=accept, body=body, file=file)
                except ProviderError as error:
                    if error.again is True and attempt.num < self._attempts:
                        self._on_wait(attempt.next_wait, f"before it tries again; {kind}: {error.message}")
                    raise
        raise AssertionError("stamina returns or raises")

    def _send(
        self,
        method: str,
        path: str,
        *,
        kind: str,
        scope: str | None,
        params: Params | None,
        accept: str,
        body: bytes | None,
        file: BinaryIO | None,
    ) -> tuple[bytes, httpx.Response]:
        """One HTTP request: the whole body and the reply's head, or ProviderError. With `file`, the body of a 200 is there."""
        if _local.stop is not None and _local.stop.is_set():
            raise _StoppedError
        headers = {"Accept": accept} if body is None else {"Accept": accept, "Content-Type": "application/json"}
        window = next((window for window in self._special if window.limit.covers(path)), None)
        window_from = 0.0 if window is None else window.acquire(self._on_wait)
        sent_at = self._budget.acquire()
        content = bytearray()
        if file is not None:  # there may be the half of an earlier reply in it
            file.seek(0)
            file.truncate()
        try:
            if self._shared is not None:
                self._take(self._shared, window)
            _local.requests += 1
            _local.deadline = time.monotonic() + 4 * self._timeout
            with self._http.stream(method, self._base + path, params=params, headers=headers, content=body) as reply:
                held = self._budget.heard(reply.headers, self._shared)
                into_file = file if reply.status_code == 200 else None
                size, limit = 0, _MAX_BYTES if into_file is None else _MAX_FILE_BYTES
                for chunk in reply.iter_bytes():
                    size += len(chunk)
                    _local.deadline += len(chunk) / _SLOWEST
                    if size > limit:
                        content.clear()  # an error that is kept, as those of listings are, would keep it through its traceback
                        raise self._error(reply, kind=kind, path=path, message=f"the body exceeds {limit >> 20} MB")
                    if into_file is None:
                        content += chunk
                    else:
                        into_file.write(chunk)
        except httpx.RequestError as error:
            content.clear()  # likewise
            raise self._broken(error, method, kind=kind, path=path) from error
        finally:
            self._budget.release(sent_at)
            if window is not None:
                window.release(window_from)
        if reply.status_code == 200 or (method == "POST" and reply.is_success):
            return bytes(content), reply
        raise self._refused(reply, bytes(content), method, held=held, kind=kind, path=path, scope=scope)

    def _take(self, shared: SharedBudget, window: "_Window | None") -> None:
        """Wait until the clients that share the budget may send one more request, and count it there."""
        limit = self._budget.limit or shared.hourly_limit() or REQUESTS_AN_HOUR
        limits = [Limit(requests=limit, seconds=HOUR), _of_a_minute(limit), *([] if window is None else [window.limit])]
        while (wait := shared.take(limits)) is not None:
            self._on_wait(*wait)
            _sleep(max(wait[0], 0.001))

    def _broken(self, error: httpx.RequestError, method: str, *, kind: str, path: str) -> ProviderError:
        """The error for a request that got no whole reply."""
        unconnected = isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError))
        if unconnected:
            what = f"cannot reach {self._base}"
        elif isinstance(error, httpx.TimeoutException):
            what = f"{self._base} gave no whole reply in time"
        elif isinstance(error, httpx.DecodingError):
            what = f"the reply of {self._base} cannot be decompressed"
        else:
            what = f"the connection to {self._base} broke"
        detail = self._clean(str(error))
        failure = ProviderError(
            kind=kind,
            path=path,
            message=what if detail is None else f"{what}: {detail}",
            advice="check DIGITALOCEAN_API_URL and the network",
        )
        untrusted = _has_cause(error, ssl.SSLCertVerificationError)
        failure.again = isinstance(error, httpx.TransportError) and not untrusted and (method == "GET" or unconnected)
        return failure

    def _refused(
        self,
        reply: httpx.Response,
        content: bytes,
        method: str,
        *,
        held: bool,
        kind: str,
        path: str,
        scope: str | None,
    ) -> ProviderError:
        """The error for a reply of another status than the one hoped for."""
        status = reply.status_code
        message, request_id = _words(content)
        what: dict[str, Any] = {
            "kind": kind,
            "path": path,
            "status": status,
            "message": self._clean(message) or _phrase(status),
            "request_id": self._clean(request_id or reply.headers.get("x-request-id")),
        }
        if status == 403:
            return Forbidden(**what, scope=scope)
        wait = _number(reply.headers.get("retry-after")) or 0.0
        if not (status in {408, 429} or status >= 500) or wait > _MAX_WAIT:
            kind_of_error = {401: TokenRejected, 404: NotFound}.get(status, ProviderError)
            return kind_of_error(**what, advice=_advice(status, wait, self._token_place))
        error = ProviderError(**what, advice=_advice(status, wait, self._token_place))
        if wait > 0:
            reason = f"as the provider asks to; {kind}: HTTP {status}"
            self._budget.hold(wait, reason)
            if status == 429 and self._shared is not None:
                self._shared.hold(wait, reason)
        if method == "GET" or status == 429:
            # 0.0: the budget makes the next attempt wait, and with it every other thread's requests.
            error.again = 0.0 if wait > 0 or held else True
        return error


_NOT_THE_API = "check that DIGITALOCEAN_API_URL is the address of the API"


def _advice(status: int, wait: float, token_place: str) -> str:
    if wait > _MAX_WAIT:
        return f"the provider asks to wait for {wait:.0f} s: run again after that"
    if status == 429:
        return "the request limit of the token is used up: run again later"
    if status == 408 or status >= 500:
        return "the provider has a fault: run again later"
    return {
        401: f"the token was not accepted: check {token_place}",
        404: "it does not exist, or this is not the API: check DIGITALOCEAN_API_URL",
    }.get(status, "trying again does not help" if status >= 400 else _NOT_THE_API)


def _does_not_add_up(problem: str | None, *, kind: str, path: str) -> ProviderError:
    return ProviderError(
        kind=kind,
        path=path,
        status=200,
        message=f"the listing does not add up, read twice: {problem}",
        advice="the listing is incomplete; run again when the account is not changing",
    )


def _beginning(file: BinaryIO) -> bytes:
    """The first byte of a text that is no white space, b"" if there is none; all of the text before it has been read then."""
    file.seek(0)
    chunk = file.read(4096).removeprefix(b"\xef\xbb\xbf")
    while chunk and not chunk.strip():
        chunk = file.read(4096)
    return chunk.lstrip()[:1]


class _Pages(Protocol):
    """Where the items of the pages go."""

    def __len__(self) -> int: ...

    def cut(self, page: bytes, key: str) -> Cut | None:
        """The items that need not be decoded, or no more than they have been, if there are such."""

    def add(self, items: Sequence[msgspec.Raw], first: Cut | None) -> None:
        """Take the items of a page, after those that were cut out of it."""


class _Document(ItemsWriter):
    """Items that go to a document, where equal ones are legal."""

    def cut(self, page: bytes, key: str) -> None:
        """Nothing: each is decoded."""

    def add(self, items: Iterable[msgspec.Raw], first: Cut | None = None) -> None:  # noqa: ARG002
        try:
            super().add([_decode(item) for item in items])
        except ArithmeticError:
            raise ValueError("an item holds a number that is none") from None


class _Body(msgspec.Struct):
    """The parts of a page that matter; what each of the last three must be is checked where it is read."""

    items: list[msgspec.Raw]
    meta: Any = None
    links: Any = None
    total: Any = None


@functools.cache
def _pages_of(key: str) -> Callable[[bytes], _Body]:
    """A decoder of pages that hold their items under `key`."""
    type_ = msgspec.defstruct("Body", [("items", list[msgspec.Raw], msgspec.field(name=key))], bases=(_Body,))
    decode: Callable[[bytes], _Body] = msgspec.json.Decoder(type_).decode  # type: ignore[assignment]
    return decode


def _no_list(key: str) -> str:
    return f"{key!r} is not a list of objects"


@dataclass(frozen=True, kw_only=True)
class _Page:
    size: int  # number of its items
    total: int | None
    has_next: bool | None  # None: nothing says
    last: int | None  # the number of the last page; None: nothing says it for sure

    @classmethod
    def read(cls, body: _Body, cut: int, key: str, number: int, paging: Paging) -> "_Page":
        """Page `number` of a list, of which so many items have been cut out. Raises ValueError for a body that is no page of `key`."""
        if {memoryview(item)[0] for item in body.items} - {ord("{")}:
            raise ValueError(_no_list(key))
        meta = _object_or_nothing(body.meta, "meta")
        where, said = ("total", body.total) if paging is Paging.TOTAL else ("meta.total", meta.get("total"))
        total = _count(said, where, as_text=paging in (Paging.META, Paging.TOTAL))
        if total is None and paging is Paging.PAGES:
            raise ValueError("meta.total is missing")
        pages = _object_or_nothing(_object_or_nothing(body.links, "links").get("pages"), "pages")
        has_next: bool | None = bool(pages.get("next"))
        if not has_next and paging in (Paging.META, Paging.TOTAL):
            last = _count(meta.get("pages"), "meta.pages", as_text=True)
            has_next = number < last if last is not None else None
        said_last = re.search(r"[?&]page=(\d{1,9})(?:&|$)", str(pages.get("last")), re.ASCII)
        last_page = int(said_last[1]) if said_last else None
        size = cut + len(body.items)
        if total is not None and size == _PER_PAGE:  # fewer: the provider gives less to a page than was asked for
            last_page = min(last_page or _MAX_PAGES, -(-total // _PER_PAGE))
        return cls(size=size, total=total, has_next=has_next, last=None if paging is Paging.SINGLE else last_page)

    def is_last(self, *, known: int, read: int, total: int | None) -> bool:
        """Whether the list ends here, with `read` items of `total`, `known` of them before this page."""
        if self.has_next is None:  # a total alone is not believed: it may be too low
            return not self.size or known == read == total
        return not self.has_next and (total is None or read >= total)


def _count(value: Any, where: str, *, as_text: bool) -> int | None:
    """A number of items or pages, None if missing; 64-bit ones may come as text. Raises ValueError for what is none."""
    if as_text and isinstance(value, str) and re.fullmatch(r"\d{1,18}", value, re.ASCII):
        return int(value)
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 0):
        raise ValueError(f"{where} is not a number of items")
    return value


def _object_or_nothing(value: Any, where: str) -> Mapping[str, Any]:
    """An object; absent, null and `{}` are alike. Raises ValueError for anything else."""
    if value is not None and not isinstance(value, dict):
        raise ValueError(f"{where!r} is not an object")
    return value or {}


def at_once(read: Callable[[_One], _Read], of: Iterable[_One]) -> Generator[_Read, None, None]:
    """What `read`, which makes requests, gives of each, in their order; a few threads are ahead of who takes it. Raises what `read` does.

    Once it is closed no further request is sent, and those under way have been waited for.
    """
    each = [*of]
    if len(each) < 2:  # a single one needs no thread
        yield from map(read, each)
        return
    stop, stop_of_all = threading.Event(), _local.stop
    sent: list[int] = []  # requests, by the threads

    def read_in_thread(one: _One) -> _Read:
        _local.stop = stop
        before = _local.requests
        try:
            return read(one)
        finally:
            sent.append(_local.requests - before)

    threads = ThreadPoolExecutor(min(_AT_ONCE, len(each)), thread_name_prefix="digitalocean")
    try:
        coming = collections.deque(threads.submit(read_in_thread, one) for one in each[:_AT_ONCE])
        rest = iter(each[_AT_ONCE:])
        while coming:
            found = coming.popleft().result()
            if stop_of_all is not None and stop_of_all.is_set():  # this itself is read in a thread, for somebody who wants no more
                raise _StoppedError
            # One for one: what waits in memory is bounded, should the threads be faster than who reads.
            coming.extend(threads.submit(read_in_thread, one) for one in islice(rest, 1))
            yield found
    finally:
        stop.set()
        threads.shutdown(cancel_futures=True)
        _local.requests += sum(sent)


class _Replies:
    """The replies to the requests for pages. Once it is known how many there are, those that follow are asked for ahead."""

    def __init__(self, ask: Callable[[int], tuple[bytes, httpx.Response]]) -> None:
        self._ask = ask
        self._coming = at_once(ask, range(0))

    def page(self, number: int) -> tuple[bytes, httpx.Response]:
        """The reply for this page; pages are wanted in order. Raises ProviderError."""
        return next(self._coming, None) or self._ask(number)

    def expect(self, last: int) -> None:
        """Page 1 is there, and says that this is the last."""
        self._coming = at_once(self._ask, range(2, last + 1))

    def close(self) -> None:
        """No further request is sent; those under way are waited for."""
        self._coming.close()


class _Window:
    """A limit for some paths only. Shared by threads."""

    def __init__(self, limit: Limit) -> None:
        self.limit = limit
        self._lock = threading.Lock()
        self._times: list[float] = []  # of the last requests, as many as are allowed: when sent, then when answered

    def acquire(self, on_wait: Callable[[float, str], None]) -> float:
        """Wait until a request may be sent, and count it. Returns its time, for `release`."""
        while True:
            with self._lock:
                now = _clock()
                self._times = [time for time in self._times if time + self.limit.seconds > now]
                if len(self._times) < self.limit.requests:
                    self._times.append(now)
                    return now
                wait = self._times[-self.limit.requests] + self.limit.seconds - now
            on_wait(wait, f"for {self.limit}")
            _sleep(max(wait, 0.001))

    def release(self, sent_at: float) -> None:
        """The request is over. It counts from now on: when the provider counted it is not known better than that."""
        with self._lock:
            if sent_at in self._times:
                self._times.remove(sent_at)
            self._times.append(_clock())


class _Budget:
    """When the next request may be sent, from the headers of earlier replies. Shared by threads.

    Two limits: 5 % of `ratelimit-limit` within a minute, and `ratelimit-limit` within the hour, of which
    `ratelimit-remaining` are left. Both windows slide: `ratelimit-reset` is when the oldest request of the hour expires
    and one more is allowed, not when all are.
    """

    def __init__(self, on_wait: Callable[[float, str], None]) -> None:
        self.requests = 0
        self._on_wait = on_wait
        self._lock = threading.Lock()
        self._times: list[float] = []  # sorted, of the last minute: when answered or, until then, when sent
        self._in_flight = 0
        self.limit: int | None = None  # of the hour; unknown until the first reply
        self._spacing = 1.0  # seconds from one request to the next at the hourly rate
        self._spent = False  # the requests of the hour
        self._next_at = -math.inf  # when the hour has another one, if it is spent
        self._not_before = -math.inf  # as the provider asked
        self._reason = ""

    def acquire(self) -> float:
        """Wait until a request may be sent, and count it. Returns its time, for `release`."""
        while True:
            with self._lock:
                now = _clock()
                wait, reason = self._wait(now)
                if wait <= 0:
                    self.requests += 1
                    self._in_flight += 1
                    self._times.append(now)
                    if self._spent:  # this is the one that was allowed; its reply says when there will be another
                        self._next_at = now + self._spacing
                    return now
            self._on_wait(wait, reason)
            _sleep(max(wait, 0.001))

    def _wait(self, now: float) -> tuple[float, str]:
        del self._times[: bisect.bisect_right(self._times, now - MINUTE)]
        wait, reason = self._not_before - now, self._reason
        if self._spent and self._next_at - now > wait:
            wait, reason = self._next_at - now, "for the next request of the hour, as the token's are used up"
        if self.limit is not None and len(self._times) >= (minute := _of_a_minute(self.limit)).requests:
            until_room = self._times[-minute.requests] + MINUTE - now
            if until_room > wait:
                wait, reason = until_room, f"for {minute}"
        return wait, reason

    def release(self, sent_at: float) -> None:
        """The request is over. It counts from now on: when the provider counted it is not known better than that."""
        with self._lock:
            self._in_flight -= 1
            place = bisect.bisect_left(self._times, sent_at)
            if place < len(self._times) and self._times[place] == sent_at:
                del self._times[place]
            self._times.append(max(_clock(), sent_at))

    def hold(self, seconds: float, reason: str) -> None:
        """Send nothing for so long."""
        with self._lock:
            until = _clock() + seconds
            if until > self._not_before:
                self._not_before, self._reason = until, reason

    def heard(self, headers: httpx.Headers, shared: SharedBudget | None) -> bool:
        """Learn from a reply, and let others learn. True if the hour's requests are used up and it says when there will be another."""
        limit, remaining = _number(headers.get("ratelimit-limit")), _number(headers.get("ratelimit-remaining"))
        with self._lock:
            if limit is not None and limit >= 1:
                self.limit = int(limit)
                self._spacing = min(HOUR / limit, _MAX_WAIT)
            if remaining is None:
                return False
            if shared is not None and self.limit is not None:
                shared.heard(self.limit, int(remaining), _until_reset(headers))
            self._spent = remaining < self._in_flight  # those of other threads may not be in the number yet
            wait = _until_reset(headers) if self._spent else None
            self._next_at = _clock() + (self._spacing if wait is None else wait)
        return wait is not None


def _of_a_minute(limit: int) -> Limit:
    """What may be sent within a minute, where `limit` may within the hour."""
    return Limit(requests=max(1, limit * PERCENT_OF_A_MINUTE // 100), seconds=MINUTE)


def _until_reset(headers: httpx.Headers) -> float | None:
    """Seconds until `ratelimit-reset`, by the provider's own clock where it tells it; None if that makes no sense."""
    reset = _number(headers.get("ratelimit-reset"))
    if reset is None:
        return None
    now = time.time()
    try:
        date = email.utils.parsedate_tz(headers.get("date", ""))
        if date is not None:
            now = email.utils.mktime_tz(date)
    except (ValueError, OverflowError):
        pass
    wait = reset - now + 1  # both are whole seconds
    return wait if 0 < wait <= _MAX_WAIT + 1 else None


def _number(text: str | None) -> float | None:
    """A count or a number of seconds from a header; None if it is missing or is no such thing."""
    return float(text) if text is not None and re.fullmatch(r"\d{1,15}(\.\d{1,9})?", text, re.ASCII) else None


def _words(content: bytes) -> tuple[str | None, str | None]:
    """The (message, request id) of an error body; None for what it does not have, as where it is no JSON."""
    try:
        body = _decode(content)
    except (ValueError, ArithmeticError, RecursionError):
        return None, None
    if not isinstance(body, dict):
        return None, None
    message = body.get("message") or body.get("messages") or body.get("error")
    if isinstance(message, list):
        message = ", ".join(str(part) for part in message)
    request_id = body.get("request_id")
    return message if isinstance(message, str) else None, request_id if isinstance(request_id, str) else None


def _phrase(status: int) -> str:
    try:
        return http.HTTPStatus(status).phrase
    except ValueError:
        return "no message"


def _has_cause(error: BaseException | None, wanted: type[BaseException]) -> bool:
    while error is not None:
        if isinstance(error, wanted):
            return True
        error = error.__cause__ or error.__context__
    return False


def _base_address(text: str) -> str:
    """The base address without a slash at the end. Raises ValueError, without the text where it may hold a password."""
    advice = f"set it to an address like {PUBLIC_API}"
    try:
        url = httpx.URL(text.strip())
        url.raw_host.decode().encode("idna")  # what the socket does first, and fails at in its own way
        if url.port is not None and url.port > 65535:
            raise ValueError
    except (httpx.InvalidURL, ValueError):
        raise ValueError(f"DIGITALOCEAN_API_URL is not an address; {advice}") from None
    if url.userinfo or url.query or url.fragment:
        raise ValueError(f"DIGITALOCEAN_API_URL may not have a user name, a query or a fragment; {advice}")
    if url.scheme not in {"http", "https"} or not url.host:
        raise ValueError(f"DIGITALOCEAN_API_URL is {text!r}, which has no http:// or https:// and host; {advice}")
    base = str(url).rstrip("/")
    if base.endswith("/v2"):
        raise ValueError(f"DIGITALOCEAN_API_URL is {text!r}, with a /v2 at its end that is added anyway; {advice}")
    return base


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class _DeadlineBackend(httpcore.NetworkBackend):
    """Connections that keep to the deadline of the current request, so that a reply of one byte a second ends too."""

    def __init__(self) -> None:
        self._backend = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        stream = self._backend.connect_tcp(host, port, timeout, local_address, socket_options)
        return _DeadlineStream(stream)


class _DeadlineStream(httpcore.NetworkStream):
    def __init__(self, stream: httpcore.NetworkStream) -> None:
        self._stream = stream

    def _cut(self, timeout: float | None) -> float:
        left = _local.deadline - time.monotonic()
        if left <= 0:
            raise httpcore.ReadTimeout("the reply as a whole took too long")
        return left if timeout is None else min(left, timeout)

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, self._cut(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, self._cut(timeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        return _DeadlineStream(self._stream.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)
