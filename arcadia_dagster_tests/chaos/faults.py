"""The simulated provider, misbehaving: what can go wrong with a reply, and a server that does it to the requests that a test names.

Belongs here: the faults and how they are made on the wire. What they may do to the ledger is in `test_provider.py`.
"""

import asyncio
import inspect
import json
import re
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlencode

from arcadia_dagster.demo.server import SimulatedServer
from arcadia_dagster.digitalocean.client import Client
from arcadia_dagster_tests.chaos import tls

PAGE = 2  # items: what a reply holds at most, whatever is asked for, so that a few items are several pages
_TRIES = inspect.signature(Client).parameters["attempts"].default
HTML = b"<!doctype html><html><body><h1>Sign in to the network</h1></body></html>"


@dataclass
class Asked:
    """One request under a fault, with the reply that would have been right. `state` lasts as long as the fault, for one list."""

    page: int
    body: dict
    key: str
    everything: list
    size: int
    state: dict

    def slice(self, everything, page=None):
        """The reply that a list of these items would be cut into."""
        page = page or self.page
        body = dict(self.body)
        body[self.key] = everything[(page - 1) * self.size : page * self.size]
        last = max(-(-len(everything) // self.size), 1)
        if "links" in body:
            body["links"] = {"pages": {"next": f"https://api.digitalocean.com/?page={page + 1}"} if page < last else {}}
        return with_total(body, len(everything), pages=last)


def with_total(body, total, pages=None):
    """The reply, with another number of items in all where it says one."""
    body = dict(body)
    if "total" in (body.get("meta") or {}):
        body["meta"] = {**body["meta"], "total": total}
        if pages is not None and "pages" in body["meta"]:
            body["meta"]["pages"] = pages
    if "total" in body:
        body["total"] = total
    return body


def _without_total(asked):
    body = {name: value for name, value in asked.body.items() if name != "total"}
    return {**body, "meta": {name: value for name, value in body["meta"].items() if name != "total"}} if "meta" in body else body


def _twice(asked):
    """Page 2 begins with the last item of page 1, and its own first one is nowhere."""
    body = dict(asked.body)
    if asked.page == 2:
        body[asked.key] = [asked.everything[asked.size - 1], *body[asked.key][1:]]
    return body


def _vanishing(asked):
    """The first item is deleted once page 1 has been read: what was first on page 2 is now on page 1."""
    if "pages_read" not in asked.state:
        asked.state["pages_read"] = 1
        return asked.body
    return asked.slice(asked.everything[1:])


def _repeats(asked):
    """Page 1 again and again, each time as if it were the page that was asked for."""
    body = dict(asked.body)
    body[asked.key] = asked.everything[: asked.size]
    return body


def _empty(asked):
    """As if the account had nothing: a reply that nothing is wrong with, but that it is not true."""
    return asked.slice([])


def _ids_as_text(asked):
    """Numbers that name things come as text."""

    def text(item):
        return {name: str(value) if name == "id" or name.endswith("_id") else value for name, value in item.items()}

    return {**asked.body, asked.key: [text(item) for item in asked.body[asked.key]]}


def _ids_as_numbers(asked):
    """Text of digits that names things comes as a number."""

    def number(name, value):
        return int(value) if (name == "id" or name.endswith("_id")) and isinstance(value, str) and value.isdecimal() else value

    return {**asked.body, asked.key: [{name: number(name, value) for name, value in item.items()} for item in asked.body[asked.key]]}


def _garbled(asked):
    """Every field of the first item but those that name it is of a type that nobody expects."""

    def garble(item):
        named = ("id", "uuid", "ip", "name", "urn", "slug", "access_key", "bucket", "droplet_id", "invoice_uuid")
        return {name: value if name in named else [None, {"garbled": [5]}] for name, value in item.items()}

    items = asked.body[asked.key]
    return {**asked.body, asked.key: [garble(item) for item in items[:1]] + items[1:]}


@dataclass(frozen=True)
class Fault:
    """`reply` makes the body of a wrong reply; without it, `wire` says what is done on the connection, or `status` is answered."""

    name: str
    says: str
    expects: str  # a phrase for the table
    reply: Callable[[Asked], object] | None = None
    wire: str | None = None
    status: int | None = None
    headers: dict = field(default_factory=dict)
    outcomes: frozenset = frozenset({"named"})  # what may become of a listing: named (incomplete, with the reason), healed, told
    lists_only: bool = True
    words: str = ""  # a pattern of what the sentence that names it must say
    needs: str | None = None  # "pages": several of them; "total": the reply says how many items there are
    hurry: int = 60


def _status(status, says, **more):
    return Fault(f"{status}", says, "incomplete, named", status=status, lists_only=False, words=f"HTTP {status}", **more)


def _fault(*said, **more):
    return Fault(*said, lists_only=False, **more)


HEALS = frozenset({"named", "healed"})
_NO_LIST, _NO_DOCUMENT = "is not a list of objects", "is not a JSON object|something else"
FAULTS = [
    _status(401, "the token is not accepted"),
    _status(403, "the token may not"),
    _status(404, "there is no such thing"),
    _status(408, "the request took too long"),
    _status(429, "too many requests, without retry-after"),
    _fault("429 retry-after", "too many requests, wait a second", "incomplete, named", status=429, headers={"retry-after": "1"},
           words="HTTP 429"),
    _status(500, "the provider has a fault"),
    _fault("502 HTML", "a gateway's page", "incomplete, named", status=502, wire="html", words="HTTP 502"),
    _fault("200 HTML", "a captive portal's page", "incomplete, named", status=200, wire="html", words=_NO_DOCUMENT),
    _fault("cut JSON", "the text ends in the middle, the length agrees", "incomplete, named", wire="cut", words="cut off"),
    Fault("null items", "[null, null]", "incomplete, named", lambda asked: {**asked.body, asked.key: [None, None]}, words=_NO_LIST),
    Fault("null list", "null where the list stands", "incomplete, named", lambda asked: {**asked.body, asked.key: None}, words=_NO_LIST),
    _fault("list for object", "[{...}]", "incomplete, named", lambda asked: [asked.body], words=_NO_DOCUMENT),
    Fault("lists for items", "[[], []]", "incomplete, named", lambda asked: {**asked.body, asked.key: [[], []]}, words=_NO_LIST),
    Fault("garbled item", "fields of other types", "no strike, named or recorded", _garbled, outcomes=HEALS | {"told"}),
    Fault("total too high", "meta.total is 7 more", "incomplete, named", lambda asked: with_total(asked.body, len(asked.everything) + 7),
          needs="total", words="total"),
    Fault("total too low", "meta.total is 1 less", "incomplete, named", lambda asked: with_total(asked.body, len(asked.everything) - 1),
          needs="total", words="total"),
    Fault("no total", "meta.total is missing", "incomplete, or read to the end", _without_total, needs="total", outcomes=HEALS,
          words="total"),
    Fault("item twice", "an item on two pages, another on none", "incomplete, named", _twice, needs="pages", words="add up"),
    Fault("item vanishes", "deleted while pages are read", "read again", _vanishing, needs="pages", outcomes=HEALS | {"told"}),
    Fault("page repeats", "page 1 whatever is asked for", "incomplete, named", _repeats, needs="pages", words="add up"),
    _fault("hangs", "a connection that never answers", "time-out, named", wire="hang", hurry=100, words="in time"),
    _fault("drips", "a byte now and then", "time-out, named", wire="drip", hurry=150, words="in time"),
    _fault("reset", "reset in the middle of the body", "incomplete, named", wire="reset", words="connection to .* broke"),
    _fault("TLS untrusted", "a certificate that nobody vouches for", "incomplete, named", wire=tls.UNTRUSTED,
           words="cannot reach .*certificate"),
    _fault("TLS handshake", "it breaks off", "incomplete, named", wire=tls.BROKEN, words="cannot reach .*(EOF|SSL)"),
    Fault("empty", "a complete list of nothing", "one strike each, no more", _empty, outcomes=frozenset({"told"})),
    Fault("ids as text", "numbers that name things come as text", "the same things", _ids_as_text, outcomes=HEALS),
    Fault("ids as numbers", "digits that name things come as numbers", "the same things", _ids_as_numbers, outcomes=HEALS),
    _fault("100 MB", "a body without end", "named, memory bounded", wire="huge", words=f"exceeds|{_NO_DOCUMENT}"),
    _fault("clock jumps", "the Date header, and with it the limits' reset, is a year ahead", "nothing", wire="clock",
           outcomes=frozenset({"healed"})),
]  # fmt: skip
BY_NAME = {fault.name: fault for fault in FAULTS}


@dataclass(frozen=True)
class Target:
    """One kind of request that faults are done to. `key` is where its reply holds the list, None where it holds none."""

    name: str
    path: str
    key: str | None = None
    per_page: str | None = None  # only requests that ask for this many

    def is_asked(self, path, query):
        return re.fullmatch(self.path, path) is not None and self.per_page in (None, query.get("per_page"))


class FaultyServer(SimulatedServer):
    """Serves accounts in small pages; while `fault` is set, the requests of `targets` get it instead of what is right.

    `hit` holds the names of the targets whose fault was really given. With `https`, a folder for its certificates, it is asked through
    `front` alone, at whose connections the faults of TLS are: all of them, where the account itself is a target; else those that follow
    a request of a target, as the request's own is there already and is cut.
    """

    def __init__(self, accounts, *, https=None, **options):
        super().__init__(accounts, **options)
        self.fault, self.targets, self.hit, self.state = None, [], set(), {}
        self._https, self.front = https, None

    @property
    def url(self):
        return super().url if self.front is None else self.front.url

    def start(self):
        super().start()
        if self._https is not None:
            self.front = tls.Front(self._port, self._https, lambda: self.hit.update(self._everything_at_once()))
        return self

    def stop(self):
        if self.front is not None:
            self.front.close()
        super().stop()

    def attack(self, fault, targets):
        self.fault, self.targets, self.hit, self.state = fault, targets, set(), {}
        if self.front is not None and self._everything_at_once():
            self.front.always = fault.wire

    def _everything_at_once(self):
        return {target.name for target in self.targets if target.name == "account"}

    def relent(self):
        self.fault, self.targets = None, []
        if self.front is not None:
            self.front.always, self.front.spoil = None, []

    def _app(self):
        inner = super()._app()

        async def app(scope, receive, send):
            path, query = scope["path"], dict(parse_qsl(scope["query_string"].decode()))
            target = next((target for target in self.targets if self.fault and target.is_asked(path, query)), None)
            size = 12 if path.startswith("/v2/customers") else PAGE
            if int(query.get("per_page", 1)) > size:
                scope = _asking(scope, query, per_page=size)
            if target is None or scope["method"] != "GET":
                return await inner(scope, receive, send)
            status, headers, body = await _answer(inner, scope, _nothing)
            if status != 200:
                return await _send(send, status, headers, body)
            await self._spoil(target, scope, receive, send, inner, headers, body, size)

        return app

    async def _spoil(self, target, scope, receive, send, inner, headers, body, size):
        fault, query = self.fault, dict(parse_qsl(scope["query_string"].decode()))
        transport = send.__self__.transport if hasattr(send, "__self__") else None
        if fault.reply is not None:
            right = json.loads(body) if target.key or fault.name == "list for object" else None
            if right is None or (fault.needs == "total" and "total" not in {**right, **(right.get("meta") or {})}):
                return await _send(send, 200, headers, body)
            everything, page = [], int(query.get("page", 1))
            if target.key:
                _, _, whole = await _answer(inner, _asking(scope, query, per_page=200, page=1), _nothing)
                everything = json.loads(whole)[target.key]
            if fault.needs == "pages" and (len(everything) <= size or "page" not in query or page < 1):
                return await _send(send, 200, headers, body)
            place = (scope["path"], query.get("type"))
            state = self.state.setdefault(place, {})
            asked = Asked(page, right, target.key or "", everything, size, state)
            spoiled = fault.reply(asked)
            if spoiled != right or fault.name in ("item vanishes", "item twice", "page repeats", "empty"):
                self.hit.add(target.name)
            return await _send(send, 200, headers, json.dumps(spoiled).encode())
        self.hit.add(target.name)
        if fault.wire == "html":
            return await _send(send, fault.status, {b"content-type": b"text/html"}, HTML)
        if fault.wire == "cut":
            return await _send(send, 200, headers, body[: max(len(body) * 2 // 3, 1)])
        if fault.wire == "clock":
            ahead = {b"date": b"Sat, 12 May 2029 06:00:00 GMT", b"ratelimit-reset": b"1900000000", b"ratelimit-remaining": b"4000"}
            return await _send(send, 200, {**headers, **ahead}, body)
        if fault.wire in (tls.UNTRUSTED, tls.BROKEN):
            # This is the first try of the request; but for a certificate, it is tried again as often as anything.
            self.front.spoil += [fault.wire] * (1 if fault.wire == tls.UNTRUSTED else _TRIES - 1)
            transport.abort()
            return await _until_hung_up(receive)
        if fault.wire == "hang":
            return await _until_hung_up(receive)
        if fault.wire in ("drip", "reset", "huge"):
            length = 100 * 1024 * 1024 if fault.wire == "huge" else len(body) + 1_000_000
            started = [(name, value) for name, value in headers.items() if name != b"content-length"]
            await send({"type": "http.response.start", "status": 200, "headers": [*started, (b"content-length", b"%d" % length)]})
            if fault.wire == "huge":
                for _ in range(100):
                    await send({"type": "http.response.body", "body": b" " * (1024 * 1024), "more_body": True})
                return await send({"type": "http.response.body", "body": b""})
            if fault.wire == "reset":
                await send({"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True})
                await asyncio.sleep(0.001)
                transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                return transport.abort()
            gone = asyncio.ensure_future(_until_hung_up(receive))
            while not gone.done():
                await send({"type": "http.response.body", "body": b" ", "more_body": True})
                await asyncio.sleep(0.02)
            return None
        error = {"id": "fault", "message": fault.says, "request_id": "fault-1"}
        return await _send(send, fault.status, {b"content-type": b"application/json", **_bytes(fault.headers)}, json.dumps(error).encode())


def _bytes(headers):
    return {name.encode(): value.encode() for name, value in headers.items()}


def _asking(scope, query, **changes):
    return {**scope, "query_string": urlencode({**query, **changes}).encode()}


async def _nothing():
    """A request without a body."""
    return {"type": "http.request", "body": b"", "more_body": False}


async def _answer(app, scope, receive):
    """Status, headers and body of what the app says."""
    messages = []

    async def keep(message):
        messages.append(message)

    await app(scope, receive, keep)
    body = b"".join(message.get("body", b"") for message in messages)
    return messages[0]["status"], dict(messages[0]["headers"]), body


async def _send(send, status, headers, body):
    headers = {**headers, b"content-length": b"%d" % len(body)}
    await send({"type": "http.response.start", "status": status, "headers": list(headers.items())})
    await send({"type": "http.response.body", "body": body})


async def _until_hung_up(receive):
    while (await receive())["type"] != "http.disconnect":
        pass
