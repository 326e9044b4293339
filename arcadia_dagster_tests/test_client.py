"""The API client against a real HTTP server on loopback: each promise of `digitalocean/client.py`, one test each."""

import gzip
import io
import json
import logging
import socket
import threading
import time
import traceback
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from email.utils import formatdate
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from arcadia_dagster.digitalocean import client as client_module
from arcadia_dagster.digitalocean.client import Account, Client, Listing, at_once
from arcadia_dagster.digitalocean.documents import read_items
from arcadia_dagster.digitalocean.replies import Forbidden, NotFound, Paging, ProviderError, TokenRejected
from arcadia_dagster_tests.scripted_server import Reply, Request, Server, serving

TOKEN = "dop_v1_0123456789abcdef"


@pytest.fixture(scope="module")
def _server() -> Iterator[Server]:
    with serving() as server:
        yield server


@pytest.fixture
def server(_server: Server) -> Server:
    _server.replies(Reply(status=404, body={}))
    return _server


@pytest.fixture
def waits() -> list[tuple[float, str]]:
    return []


@pytest.fixture
def client(server: Server, waits: list[tuple[float, str]]) -> Iterator[Client]:
    with make_client(server.url, on_wait=lambda seconds, reason: waits.append((seconds, reason))) as client:
        yield client


def make_client(url: str, **options: Any) -> Client:
    return Client(TOKEN, base_url=url, **{"backoff": 0.001, "timeout": 60.0, **options})


class Clock:
    """Time that passes only by waiting."""

    def __init__(self) -> None:
        self.now = 1_000_000.0
        self.waited: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.waited.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(client_module, "_clock", lambda: clock.now)
    monkeypatch.setattr(client_module, "_sleep", clock.sleep)
    return clock


def page(ids: Any, *, total: Any = None, more: bool = False, links: Any = "by more", **item: Any) -> Reply:
    """A page of droplets; `total=None` leaves `meta.total` away."""
    body: dict[str, Any] = {"droplets": [{"id": one, **item} for one in ids]}
    if links == "by more":
        links = {"pages": {"next": "https://api.digitalocean.com/v2/droplets?page=99"}} if more else {}
    if links is not None:
        body["links"] = links
    body["meta"] = {} if total is None else {"total": total}
    return Reply(body=body)


def paged(server: Server, pages: list[Reply]) -> None:
    """Serve these pages by number, empty ones after the last."""
    server.seen.clear()
    server.reply = lambda request: pages[request.page - 1] if request.page <= len(pages) else page([], total=0)


def droplets(client: Client, **options: Any) -> Listing:
    return client.list("/v2/droplets", "droplets", kind="droplet", **{"scope": "droplet:read", **options})


def ids(listing: Listing) -> list[Any]:
    return [item["id"] for item in listing.items]


def incomplete(listing: Listing) -> str:
    assert not listing.complete
    assert listing.error is not None
    assert listing.error.kind == "droplet"
    assert listing.error.path == "/v2/droplets"
    assert TOKEN not in str(listing.error)
    return str(listing.error)


# --- one object


def test_get_sends_the_token_and_decodes_decimals(server: Server, client: Client) -> None:
    server.replies(Reply(body=b'{"size": {"price_monthly": 0.10, "memory": 1024}}'))
    assert client.get("/v2/x", kind="droplet", params={"type": "gpus"}) == {"size": {"price_monthly": Decimal("0.10"), "memory": 1024}}
    (request,) = server.seen
    assert (request.method, request.path, request.query) == ("GET", "/v2/x", {"type": "gpus"})
    assert request.headers["authorization"] == f"Bearer {TOKEN}"
    assert request.headers["accept"] == "application/json"
    assert client.requests == 1


@pytest.mark.parametrize("suffix", ["", "/", "/some/path", "/some/path/"])
def test_the_base_address_may_have_a_path_and_a_slash(server: Server, suffix: str) -> None:
    server.replies(Reply())
    with make_client(server.url + suffix) as client:
        client.get("/v2/account", kind="account")
    assert server.seen[0].path == f"{suffix.rstrip('/')}/v2/account"


@pytest.mark.parametrize(
    "base",
    [
        "",
        "api.digitalocean.com",
        "ftp://host",
        "http://",
        "http://[::1",
        "http://a..b",
        "http://host:99999",
        "http://host:x",
        "https://host/v2/",
        "https://user:hunter2@host",
        "https://host?key=hunter2",
    ],
)
def test_an_address_that_is_none_is_one_clear_sentence(base: str) -> None:
    with pytest.raises(ValueError, match=r"^DIGITALOCEAN_API_URL .*https://api\.digitalocean\.com$") as caught:
        Client(TOKEN, base_url=base)
    assert "hunter2" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("token", ["", "  ", "two words", "line\nbreak", "t\u00f6ken", "nul\0"])
def test_a_token_that_is_none_is_refused_without_printing_it(token: str) -> None:
    with pytest.raises(ValueError, match="DO_API_TOKEN") as caught:
        Client(token)
    assert not token.strip() or token not in str(caught.value)


def test_a_line_break_at_the_end_of_a_token_file_is_harmless(server: Server) -> None:
    server.replies(Reply())
    with Client(f"{TOKEN}\n", base_url=server.url) as client:
        client.get("/v2/account", kind="account")
    assert server.seen[0].headers["authorization"] == f"Bearer {TOKEN}"


NOT_OBJECTS = [
    b"",
    b"null",
    b"[]",
    b"12",
    b'"text"',
    b"<html><body>Sign in</body></html>",
    b'{"droplets": [{"id": 1}',
    b'{"droplets": [{"id": "\xff"}]}',
    b'{"price": 1e999999999999999999999}',
    b"[" * 100_000,
]


@pytest.mark.parametrize("body", NOT_OBJECTS, ids=lambda body: repr(body[:20]))
def test_a_body_that_is_no_json_object_is_an_error(server: Server, client: Client, body: bytes) -> None:
    server.replies(Reply(body=body))
    with pytest.raises(ProviderError, match="not a JSON object"):
        client.get("/v2/droplets", kind="droplet")
    assert droplets(client).items == []
    assert "not a JSON object" in incomplete(droplets(client))
    assert client.requests == 3  # never tried again: the reply was whole


def test_a_body_in_an_error_is_not_quoted_because_it_may_hold_secrets(server: Server, client: Client) -> None:
    server.replies(Reply(body=b'{"databases": [{"password": "hunter2'))
    with pytest.raises(ProviderError) as caught:
        client.get("/v2/databases", kind="managed_db")
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("status", [201, 204, 206, 301, 302, 304, 307])
def test_other_statuses_than_200_are_errors_and_redirects_are_not_followed(server: Server, client: Client, status: int) -> None:
    server.replies(Reply(status=status, headers={"location": f"{server.url}/elsewhere"}, body=b""))
    with pytest.raises(ProviderError) as caught:
        client.get("/v2/droplets", kind="droplet")
    assert caught.value.status == status
    assert "DIGITALOCEAN_API_URL" in str(caught.value)
    assert len(server.seen) == 1


def test_a_huge_body_is_cut_off(server: Server, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "_MAX_BYTES", 2 * 1024 * 1024)
    packed = gzip.compress(b'{"a": "' + b" " * (8 * 1024 * 1024) + b'"}')
    assert len(packed) < 100_000
    server.replies(Reply(body=packed, headers={"content-encoding": "gzip"}))
    with pytest.raises(ProviderError, match="exceeds 2 MB"):
        client.get("/v2/droplets", kind="droplet")
    assert client.requests == 1


@pytest.mark.parametrize(
    "reply", [Reply(body=b" " * (4 << 20)), Reply(raw=(b"HTTP/1.1 200 OK\r\ncontent-length: 9999999\r\n\r\n" + b" " * (2 << 20),))]
)
def test_errors_that_are_kept_keep_no_bodies(server: Server, client: Client, monkeypatch: pytest.MonkeyPatch, reply: Reply) -> None:
    monkeypatch.setattr(client_module, "_MAX_BYTES", 3 << 20)
    server.replies(reply)
    tracemalloc.start()
    try:
        kept = [droplets(client) for _ in range(5)]
        assert all(listing.error for listing in kept)
        assert tracemalloc.get_traced_memory()[0] < 2 << 20  # the bodies were more than that each
    finally:
        tracemalloc.stop()


def test_a_body_that_cannot_be_decompressed_is_an_error(server: Server, client: Client) -> None:
    server.replies(Reply(body=b"{}", headers={"content-encoding": "gzip"}))
    with pytest.raises(ProviderError, match="cannot be decompressed"):
        client.get("/v2/droplets", kind="droplet")


# --- bytes


def test_a_csv_comes_as_it_is(server: Server, client: Client) -> None:
    csv = b"\xef\xbb\xbfproduct,USD\r\nDroplets,$1.00\r\n"
    server.replies(Reply(body=csv, headers={"content-type": "text/csv; charset=utf-8"}))
    file = io.BytesIO(b"what was in it before, which is longer than that")
    client.save("/v2/x/csv", file, kind="invoice", accept="text/csv")
    assert file.getvalue() == csv
    assert server.seen[0].headers["accept"] == "text/csv"


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"", "text/csv"),
        (b" \r\n", "text/csv"),
        (b"<!doctype html>", "text/csv"),
        (b"\xef\xbb\xbf\n  <html>", ""),
        (b'{"id": "x"}', "text/csv"),
        (b"[]", "text/csv"),
        (b"product,USD", "text/html; charset=utf-8"),
        (b"product,USD", "application/problem+json"),
    ],
)
def test_what_is_no_csv_is_an_error(server: Server, client: Client, body: bytes, content_type: str) -> None:
    server.replies(Reply(body=body, headers={"content-type": content_type}))
    with pytest.raises(ProviderError, match="text/csv was asked for"):
        client.save("/v2/x/csv", io.BytesIO(), kind="invoice", accept="text/csv")


def save(client: Client, **options: Any) -> bytes:
    file = io.BytesIO()
    client.save("/v2/x/csv", file, kind="invoice", accept="text/csv", **options)
    return file.getvalue()


@pytest.mark.parametrize(
    "broken",
    [
        Reply(raw=(b"HTTP/1.1 200 OK\r\ncontent-type: text/csv\r\ncontent-length: 100\r\n\r\n", b"product,USD\nDrop")),
        Reply(status=503, body=b"not the CSV but longer than it is"),
    ],
    ids=["half of it", "an error"],
)
def test_a_file_that_is_asked_for_again_holds_the_last_reply_alone(server: Server, client: Client, broken: Reply) -> None:
    server.replies(broken, Reply(body=b"product,USD\n", headers={"content-type": "text/csv"}))
    assert save(client) == b"product,USD\n"
    assert client.requests == 2


def test_a_refused_file_says_why(server: Server, client: Client) -> None:
    server.replies(Reply(status=403, body={"message": "no"}))
    with pytest.raises(Forbidden, match="HTTP 403: no; the token lacks the scope billing:read"):
        save(client, scope="billing:read")


def test_a_file_may_be_larger_than_a_reply_in_memory_but_not_endless(
    server: Server, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "_MAX_BYTES", 1024 * 1024)
    monkeypatch.setattr(client_module, "_MAX_FILE_BYTES", 3 * 1024 * 1024)
    server.replies(*(Reply(body=b"a" * size, headers={"content-type": "text/csv"}) for size in (2 << 20, 4 << 20)))
    assert len(save(client)) == 2 << 20
    with pytest.raises(ProviderError, match="exceeds 3 MB"):
        save(client)


@pytest.mark.parametrize(("speed", "comes"), [(1.5, True), (0.5, False)])
def test_a_long_reply_may_take_as_much_longer_as_it_is_long(
    server: Server, monkeypatch: pytest.MonkeyPatch, speed: float, comes: bool
) -> None:
    """Four time-outs, and what its bytes take at the slowest. Time passes as they come."""
    clock = Clock()
    monkeypatch.setattr(client_module, "time", SimpleNamespace(monotonic=lambda: clock.now, time=time.time))

    class File(io.BytesIO):
        def write(self, chunk: Any) -> int:
            clock.now += len(chunk) / (speed * client_module._SLOWEST)
            return super().write(chunk)

    file, body = File(), b"a" * (64 * client_module._SLOWEST)  # 43 s, or 128 s
    server.replies(Reply(body=body, headers={"content-type": "text/csv"}))
    with make_client(server.url, timeout=10.0, attempts=1) as client:  # 40 s for a short one
        if not comes:
            with pytest.raises(ProviderError, match="gave no whole reply in time"):
                client.save("/v2/x/csv", file, kind="invoice", accept="text/csv")
            return
        client.save("/v2/x/csv", file, kind="invoice", accept="text/csv")
    assert file.getvalue() == body


# --- errors of the provider


def test_401_tells_to_check_the_token(server: Server, client: Client) -> None:
    server.replies(
        Reply(
            status=401,
            body={"id": "unauthorized", "message": "Unable to authenticate you.", "request_id": "4851a473"},
        )
    )
    with pytest.raises(TokenRejected) as caught:
        client.get("/v2/account", kind="account")
    error = caught.value
    assert (error.kind, error.path, error.status) == ("account", "/v2/account", 401)
    assert (error.message, error.request_id) == ("Unable to authenticate you.", "4851a473")
    assert str(error) == (
        "account: /v2/account answered HTTP 401: Unable to authenticate you (request id 4851a473); "
        "the token was not accepted: check DO_API_TOKEN"
    )
    assert client.requests == 1


def test_403_names_the_scope(server: Server, client: Client) -> None:
    server.replies(Reply(status=403, body={"message": "no"}, headers={"x-request-id": "from-header"}))
    with pytest.raises(Forbidden, match="the token lacks the scope firewall:read") as caught:
        client.get("/v2/firewalls", kind="firewall", scope="firewall:read")
    assert caught.value.scope == "firewall:read"
    assert caught.value.request_id == "from-header"
    with pytest.raises(Forbidden, match="the token lacks a scope"):
        client.get("/v2/firewalls", kind="firewall")
    assert client.requests == 2


def test_404_is_not_found(server: Server, client: Client) -> None:
    server.replies(Reply(status=404, body=b"<html>"))
    with pytest.raises(NotFound, match="HTTP 404: Not Found;"):
        client.get("/v2/images/1", kind="image")


@pytest.mark.parametrize("status", [400, 409, 412, 422, 451, 499])
def test_other_4xx_are_not_tried_again(server: Server, client: Client, status: int) -> None:
    server.replies(Reply(status=status, body={"error": "bad", "messages": ["one", "two"], "root_causes": []}))
    with pytest.raises(ProviderError, match=f"HTTP {status}: one, two; trying again does not help"):
        client.get("/v2/droplets", kind="droplet")
    assert client.requests == 1


@pytest.mark.parametrize("body", [b"", b"<html>down</html>", b"[]", b'{"message": 5}', b'{"message": null}', b'{"a'])
def test_an_error_without_a_message_has_a_sentence_all_the_same(server: Server, client: Client, body: bytes) -> None:
    server.replies(Reply(status=502, body=body))
    with pytest.raises(ProviderError, match=r"droplet: /v2/droplets answered HTTP 502: Bad Gateway; .*run again later"):
        client.get("/v2/droplets", kind="droplet")


def test_the_message_is_one_line_and_short(server: Server, client: Client) -> None:
    server.replies(Reply(status=400, body={"message": "line\r\n  line " + "x" * 10_000}))
    with pytest.raises(ProviderError) as caught:
        client.get("/v2/droplets", kind="droplet")
    assert "line line" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_the_token_is_never_shown(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    server.replies(
        Reply(status=500, body={"message": f"Bearer {TOKEN}", "request_id": TOKEN}),
        Reply(reset=True),
        Reply(status=400, body={"message": f"bad header {TOKEN}!"}),
    )
    told: list[str] = []
    with make_client(server.url, on_wait=lambda _seconds, reason: told.append(reason)) as client:
        with pytest.raises(ProviderError) as caught:
            client.get("/v2/droplets", kind="droplet")
        shown = [repr(client), str(vars(caught.value)), repr(caught.value), *traceback.format_exception(caught.value)]
    assert len(told) == 2
    assert "bad header ***!" in str(caught.value)
    assert TOKEN not in "".join([*shown, *told, caplog.text])


# --- trying again


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504, 599])
def test_a_passing_fault_is_tried_again(server: Server, client: Client, waits: list[tuple[float, str]], status: int) -> None:
    server.replies(Reply(status=status, body={"message": "busy"}), Reply(status=status, body=b""), Reply(body={"a": 1}))
    assert client.get("/v2/x", kind="droplet") == {"a": 1}
    assert client.requests == len(server.seen) == 3
    assert [round(seconds, 6) for seconds, _ in waits] == [0.001, 0.002]
    assert waits[0][1] == "before it tries again; droplet: busy"


def test_attempts_are_limited_and_the_waits_double(server: Server, waits: list[tuple[float, str]]) -> None:
    server.replies(Reply(status=503, body={"message": "down", "request_id": "r1"}))
    with make_client(server.url, attempts=4, on_wait=lambda *wait: waits.append(wait)) as client:
        with pytest.raises(ProviderError, match=r"HTTP 503: down \(request id r1\)"):
            client.get("/v2/x", kind="droplet")
        assert client.requests == 4
    assert [round(seconds, 6) for seconds, _ in waits] == [0.001, 0.002, 0.004]


HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"


@pytest.mark.parametrize(
    "broken",
    [
        Reply(reset=True),
        Reply(raw=(b"",)),
        Reply(raw=(b"HTTP/1.1 200 O",)),
        Reply(raw=(b"SSH-2.0-OpenSSH_9.6\r\n",)),
        Reply(raw=(HEAD + b"content-length: 100\r\n\r\n", b'{"a": 1}')),
        Reply(raw=(HEAD + b"content-length: 100\r\n\r\n", b'{"a": 1}'), reset=True),
        Reply(raw=(HEAD + b'transfer-encoding: chunked\r\n\r\n8\r\n{"a": 1}\r\n',)),
    ],
    ids=["reset", "closed", "cut head", "not http", "cut body", "reset in body", "cut chunks"],
)
def test_a_broken_connection_is_tried_again(server: Server, client: Client, broken: Reply) -> None:
    server.replies(broken, Reply(body={"a": 1}))
    assert client.get("/v2/x", kind="droplet") == {"a": 1}
    assert client.requests == 2
    server.replies(broken)
    with pytest.raises(ProviderError, match="check DIGITALOCEAN_API_URL and the network") as caught:
        client.get("/v2/x", kind="droplet")
    assert caught.value.status is None
    assert server.url in str(caught.value)


def test_an_unreachable_address_says_which(server: Server) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        with make_client(url, attempts=2) as client:
            listing = droplets(client)
            assert incomplete(listing).startswith(f"droplet: /v2/droplets failed: cannot reach {url}: ")
            assert str(listing.error).endswith("; check DIGITALOCEAN_API_URL and the network")
            assert listing.requests == 2


def test_a_plain_server_where_tls_is_spoken_is_an_error(server: Server) -> None:
    client = make_client(server.url.replace("http:", "https:"), attempts=1)
    with client, pytest.raises(ProviderError, match="cannot reach https:"):
        client.get("/v2/x", kind="droplet")


def test_a_proxy_of_the_environment_is_not_asked_for_loopback(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    server.replies(Reply(body={"a": 1}))
    with make_client(server.url, attempts=1) as client:
        assert client.get("/v2/x", kind="droplet") == {"a": 1}


def test_a_server_that_does_not_answer_times_out(server: Server) -> None:
    answer = threading.Event()
    server.reply = lambda _request: Reply(body={"late": answer.wait(60)})
    try:
        with make_client(server.url, timeout=0.05, attempts=2) as client:
            with pytest.raises(ProviderError, match="gave no whole reply in time"):
                client.get("/v2/x", kind="droplet")
            assert client.requests == 2
    finally:
        answer.set()


@pytest.mark.parametrize("head", [b"", HEAD + b"content-length: 10000\r\n\r\n"], ids=["in the head", "in the body"])
def test_a_reply_that_drips_for_ever_ends(server: Server, head: bytes) -> None:
    dripping = (head or b"HTTP/1.1 200 OK\r\nx: ", *([b" "] * 10_000))
    server.replies(Reply(raw=dripping, pause=0.02))
    client = make_client(server.url, timeout=0.1, attempts=1)
    with client, pytest.raises(ProviderError, match="gave no whole reply in time"):
        client.get("/v2/x", kind="droplet")


# --- post


def test_post_sends_json(server: Server, client: Client) -> None:
    server.replies(Reply(status=201, body={"project": {"id": "p"}}))
    assert client.post("/v2/projects", {"name": "n"}, kind="project") == {"project": {"id": "p"}}
    (request,) = server.seen
    assert (request.method, request.body) == ("POST", b'{"name":"n"}')
    assert request.headers["content-type"] == "application/json"


@pytest.mark.parametrize("reply", [Reply(status=500), Reply(status=408), Reply(reset=True), Reply(raw=(b"HTTP",))])
def test_post_is_not_repeated_once_it_may_have_been_done(server: Server, client: Client, reply: Reply) -> None:
    server.replies(reply)
    with pytest.raises(ProviderError):
        client.post("/v2/projects", {}, kind="project")
    assert len(server.seen) == 1


def test_post_is_repeated_after_429(server: Server, client: Client) -> None:
    server.replies(Reply(status=429), Reply(status=201, body={"a": 1}))
    assert client.post("/v2/projects", {}, kind="project") == {"a": 1}


def test_post_is_repeated_where_no_connection_was_made() -> None:
    with make_client("http://127.0.0.1:9", attempts=3) as client:
        with pytest.raises(ProviderError, match="cannot reach"):
            client.post("/v2/projects", {}, kind="project")
        assert client.requests == 3


# --- account


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (
            {"uuid": "u", "name": "Sammy", "team": {"uuid": "t", "name": "My Team"}},
            Account(team_uuid="t", name="My Team"),
        ),
        ({"uuid": "u", "name": "Sammy"}, Account(team_uuid="u", name="Sammy")),
        ({"uuid": "u", "team": None}, Account(team_uuid="u", name="u")),
        ({"uuid": "u", "name": "", "team": {}}, Account(team_uuid="u", name="u")),
    ],
)
def test_account_is_the_team_and_asked_for_once(server: Server, client: Client, body: dict[str, Any], expected: Account) -> None:
    server.replies(Reply(body={"account": body}))
    assert client.account() == expected
    assert client.account() == expected
    assert client.requests == 1


@pytest.mark.parametrize("body", [{}, {"account": None}, {"account": []}, {"account": {"team": {"uuid": 5}}}])
def test_an_account_without_uuid_is_an_error(server: Server, client: Client, body: dict[str, Any]) -> None:
    server.replies(Reply(body=body))
    with pytest.raises(ProviderError, match="no account uuid"):
        client.account()


# --- listings


def test_all_pages_are_read_by_number_at_200_a_page(server: Server, client: Client) -> None:
    paged(server, [page(range(200), total=450, more=True), page(range(200, 400), total=450, more=True),
                   page(range(400, 450), total=450)])  # fmt: skip
    listing = droplets(client, params={"type": "gpus"})
    assert listing.complete
    assert ids(listing) == list(range(450))
    assert listing.requests == 3
    asked = sorted((request.query for request in server.seen), key=lambda query: query["page"])
    assert asked == [{"type": "gpus", "per_page": "200", "page": str(number)} for number in (1, 2, 3)]


@pytest.mark.parametrize("links", [{}, None, {"pages": {}}, {"pages": None}, {"pages": {"next": None}}])
def test_links_may_be_empty_or_absent_on_any_page(server: Server, client: Client, links: Any) -> None:
    paged(server, [page([1, 2], total=3, links=links), page([3], total=3, links=links)])
    assert droplets(client) == Listing(items=[{"id": 1}, {"id": 2}, {"id": 3}], requests=2, error=None)


def test_an_empty_list_is_complete(server: Server, client: Client) -> None:
    server.replies(page([], total=0))
    assert droplets(client) == Listing(items=[], requests=1, error=None)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"droplets": None},
        {"droplets": {}},
        {"droplets": "x"},
        {"droplets": [None]},
        {"droplets": [{"id": 1}, [2]]},
        {"droplets": [{}]},
        {"droplets": [{"id": None}]},
        {"droplets": [{"id": ""}]},
        {"droplets": [{"id": True}]},
        {"droplets": [{"id": {"x": 1}}]},
        {"droplets": [], "meta": []},
        {"droplets": [], "links": "x"},
        {"droplets": [], "links": {"pages": []}},
        {"droplets": [], "meta": {"total": "0"}},
        {"droplets": [], "meta": {"total": True}},
        {"droplets": [], "meta": {"total": -1}},
        {"droplets": [], "meta": {"total": 0.5}},
        {"droplets": [], "meta": {"total": None}},
        {"droplets": [], "meta": None},
        {"id": "not_found", "message": "a 404 body with status 200"},
    ],
    ids=str,
)
def test_what_is_no_page_is_an_error_and_never_an_empty_list(server: Server, client: Client, body: dict[str, Any]) -> None:
    server.replies(Reply(body={"meta": {"total": len(body.get("droplets") or [])}, **body}))
    listing = droplets(client)
    assert "page 1: " in incomplete(listing)
    assert listing.requests == 1


def test_what_was_read_before_an_error_is_returned(server: Server, client: Client) -> None:
    paged(server, [page([1, 2], total=4, more=True), Reply(status=403, body={"message": "no"})])
    listing = droplets(client)
    assert "the token lacks the scope droplet:read" in incomplete(listing)
    assert isinstance(listing.error, Forbidden)
    assert ids(listing) == [1, 2]


def test_requests_of_a_listing_include_retries(server: Server, client: Client) -> None:
    client_error = [Reply(status=500), page([1], total=2, more=True), Reply(reset=True), page([2], total=2)]
    server.replies(*client_error)
    listing = droplets(client)
    assert listing.complete
    assert listing.requests == client.requests == 4


def test_an_item_on_two_pages_is_one_item(server: Server, client: Client) -> None:
    paged(server, [page([1, 2], total=3, more=True), page([2, 3], total=3)])
    listing = droplets(client)
    assert listing.complete
    assert ids(listing) == [1, 2, 3]


def test_ids_that_change_their_type_are_the_same(server: Server, client: Client) -> None:
    paged(server, [page([1, "2"], total=3, more=True), page(["1", 2, 3], total=3)])
    listing = droplets(client)
    assert listing.complete
    assert [str(one) for one in ids(listing)] == ["1", "2", "3"]


def test_a_listing_that_changes_while_read_is_read_once_more(server: Server, client: Client) -> None:
    server.replies(
        page([1, 2], total=4, more=True),
        page([4], total=3),  # 1 was deleted, so 3 moved to the page that was read before
        page([2, 3], total=3, more=True),
        page([4], total=3),
    )
    listing = droplets(client)
    assert listing.complete
    assert ids(listing) == [2, 3, 4]
    assert listing.requests == 4


def test_a_second_read_that_does_not_add_up_is_incomplete_with_all_that_was_seen(server: Server, client: Client) -> None:
    server.replies(page([1, 2], total=3), page([], total=3), page([2, 3], total=3), page([], total=3))
    listing = droplets(client)
    assert ids(listing) == [1, 2, 3]
    assert "does not add up" in incomplete(listing)
    assert "2 items, meta.total 3" in str(listing.error)


@pytest.mark.parametrize(
    ("pages", "words"),
    [
        ([page([1], total=5)], "brings nothing new"),
        ([page([1, 2, 3], total=2)], "3 distinct items where meta.total says 2"),
        ([page([1], total=0)], "1 distinct items where meta.total says 0"),
        ([page([1], total=2, more=True), page([2], total=3)], "went from 2 to 3"),
    ],
)
def test_a_total_that_is_wrong_every_time_is_incomplete(server: Server, client: Client, pages: list[Reply], words: str) -> None:
    server.reply = lambda request: pages[min(request.page, len(pages)) - 1]
    listing = droplets(client)
    assert words in incomplete(listing) or "again" in str(listing.error)


def test_a_page_that_repeats_for_ever_ends(server: Server, client: Client) -> None:
    server.replies(page([1, 2], total=4, more=True))
    listing = droplets(client)
    assert "page 2 is page 1 again" in incomplete(listing)
    assert listing.requests == 4


def test_a_repeated_page_is_seen_where_items_have_no_id_and_the_count_would_fit(server: Server, client: Client) -> None:
    server.replies(page([1, 2], total=4, more=True))
    assert "page 2 is page 1 again" in incomplete(droplets(client, id_field=None))


@pytest.mark.parametrize("total", [0, 3, 10, None])
def test_pages_without_end_end(server: Server, client: Client, monkeypatch: pytest.MonkeyPatch, total: int | None) -> None:
    monkeypatch.setattr(client_module, "_MAX_PAGES", 20)
    server.reply = lambda request: page([request.page], total=total, more=True)
    listing = droplets(client, paging=Paging.LINKS)
    assert "does not add up" in incomplete(listing)
    assert listing.requests == 2 * (20 if total is None else total + 1)


# --- several pages at once


def long_list(pages: int, at_once: int, **total_of: int) -> Callable[[Request], Reply]:
    """`pages` full pages. All but the first are answered in the opposite order, `at_once` of them, and so must be asked for together."""
    meeting = threading.Barrier(at_once)
    turns = [threading.Event() for _ in range(pages + 2)]

    def reply(request: Request) -> Reply:
        number = request.page
        if number > 1:
            first = number - (number - 2) % at_once
            meeting.wait(60)
            if number < first + at_once - 1:
                assert turns[number + 1].wait(60)
            threading.Timer(0.005, turns[number].set).start()  # once this one is on its way
        everything = range((number - 1) * 200, number * 200)
        return page(everything, total=total_of.get(f"page_{number}", pages * 200), more=number < pages)

    return reply


def test_pages_that_come_in_another_order_are_one_listing_in_order(server: Server, client: Client) -> None:
    server.seen.clear()
    server.reply = long_list(9, at_once=8)
    listing = droplets(client)
    assert listing.complete
    assert ids(listing) == list(range(1800))
    assert listing.requests == client.requests == len(server.seen) == 9
    server.reply = long_list(9, at_once=8)
    assert [item["id"] for item in json.loads(saved_list(client))] == list(range(1800))


def test_the_last_page_may_be_named_where_pages_are_smaller(server: Server, client: Client) -> None:
    meeting = threading.Barrier(3)
    last = {"last": "https://api.digitalocean.com/v2/droplets?page=4&per_page=2"}

    def reply(request: Request) -> Reply:
        number = request.page
        if number > 1:
            meeting.wait(60)
        links = {"pages": {"next": "https://api.digitalocean.com/v2/droplets?page=2", **last} if number < 4 else {}}
        return page([2 * number, 2 * number + 1], total=8, links=links)

    server.seen.clear()
    server.reply = reply
    assert ids(droplets(client)) == [*range(2, 10)]
    assert len(server.seen) == 4


def test_a_page_that_fails_in_the_middle_is_the_error_and_ends_the_asking(server: Server, client: Client) -> None:
    """Page 3 is refused, and page 5 with other words before that; of 100 pages few are asked for."""
    refused_first = threading.Event()

    def reply(request: Request) -> Reply:
        if request.page == 5:
            threading.Timer(0.02, refused_first.set).start()
            return Reply(status=422, body={"message": "five"})
        if request.page == 3:
            assert refused_first.wait(60)
            return Reply(status=403, body={"message": "three"})
        return page(range((request.page - 1) * 200, request.page * 200), total=20_000, more=True)

    server.seen.clear()
    server.reply = reply
    listing = droplets(client)
    assert "three" in incomplete(listing)
    assert isinstance(listing.error, Forbidden)
    assert ids(listing) == list(range(400))
    assert listing.requests == client.requests == len(server.seen) <= 11


def test_who_waits_to_ask_for_a_page_that_nobody_wants_any_more_asks_no_more(
    server: Server, client: Client, waits: list[tuple[float, str]]
) -> None:
    """Four requests a minute: the pages after the second would be asked for in minutes, and page 2 fails at once."""

    def reply(request: Request) -> Reply:
        headers = limits(80, 79)
        if request.page == 1:
            body = page(range(200), total=20_000, more=True).body
            return Reply(body=body, headers=headers)
        return Reply(status=403, body={"message": "no"}, headers=headers)

    server.seen.clear()
    server.reply = reply
    assert "no" in incomplete(droplets(client))
    assert len(server.seen) <= 4
    assert all("limit of 4 requests" in reason for _, reason in waits)


def test_a_total_that_changes_among_pages_read_at_once_is_seen(server: Server, client: Client) -> None:
    server.reply = long_list(9, at_once=8, page_6=1801)
    server_reply = server.reply
    first = threading.Event()

    def reply(request: Request) -> Reply:
        if request.page == 1 and first.is_set():  # the second time
            server.reply = long_list(9, at_once=8)
            return server.reply(request)
        first.set()
        return server_reply(request)

    server.reply = reply
    listing = droplets(client)
    assert listing.complete
    assert ids(listing) == list(range(1800))
    assert listing.requests == 18
    server.reply = lambda request: page(range((request.page - 1) * 200, request.page * 200), total=1800 + (request.page == 6), more=True)
    assert "went from 1800 to 1801" in incomplete(droplets(client))


# --- several lists at once


def list_of(client: Client) -> Callable[[int], Listing]:
    return lambda one: client.list(f"/v2/projects/{one}/resources", "droplets", kind="project_resource")


def test_lists_read_at_once_come_in_order(server: Server, client: Client) -> None:
    """All eight must have been asked for before one is answered; one of them is refused, which is its own."""
    meeting = threading.Barrier(8)

    def reply(request: Request) -> Reply:
        meeting.wait(60)
        one = int(request.path.split("/")[3])
        return Reply(status=403, body={"message": "no"}) if one == 4 else page([one], total=1)

    server.seen.clear()
    server.reply = reply
    listings = [*at_once(list_of(client), iter(range(8)))]
    assert [ids(listing) if listing.complete else "refused" for listing in listings] == [[0], [1], [2], [3], "refused", [5], [6], [7]]
    assert [listing.requests for listing in listings] == [1] * 8
    assert client.requests == len(server.seen) == 8
    assert [*at_once(list_of(client), [])] == []


def test_lists_that_nobody_wants_any_more_are_not_read_on(server: Server, client: Client) -> None:
    """Of a hundred lists the first is short, the others have a hundred pages; whoever reads them stops after the first."""
    stopped = threading.Event()

    def reply(request: Request) -> Reply:
        if request.path.startswith("/v2/projects/0/"):
            return page([0], total=1)
        if request.page > 1:
            assert stopped.wait(60)
        return page(range((request.page - 1) * 200, request.page * 200), total=20_000, more=True)

    server.seen.clear()
    server.reply = reply
    listings = at_once(list_of(client), range(100))
    assert ids(next(listings)) == [0]
    threading.Timer(0.2, stopped.set).start()
    listings.close()
    assert len(server.seen) <= 1 + 8 * 10  # eight lists had been begun, with eight pages under way each


# --- the other ways of paging


def body(ids: Any, **rest: Any) -> Reply:
    return Reply(body={"droplets": [{"id": one} for one in ids], **rest})


def test_a_list_without_pages_is_one_request_without_page_numbers(server: Server, client: Client) -> None:
    paged(server, [])
    server.reply = lambda _request: body([1, 2])
    listing = droplets(client, paging=Paging.SINGLE, params={"region": "blr1"})
    assert listing.complete
    assert (ids(listing), listing.requests) == ([1, 2], 1)
    assert server.seen[0].query == {"region": "blr1"}


def test_a_list_without_pages_that_says_that_there_is_more_is_read_on(server: Server, client: Client) -> None:
    more = {"links": {"pages": {"next": "https://api.digitalocean.com/v2/droplets?page=2"}}}
    server.reply = lambda request: body([2]) if "page" in request.query else body([1], **more)
    listing = droplets(client, paging=Paging.SINGLE)
    assert listing.complete
    assert ids(listing) == [1, 2]
    server.reply = lambda _request: body([1], meta={"total": 2})
    assert "page 2 is page 1 again" in incomplete(droplets(client, paging=Paging.SINGLE))


@pytest.mark.parametrize(
    ("paging", "says"),
    [
        (Paging.META, lambda page: {"meta": {"page": page, "pages": 3, "total": 5}, "links": {}}),
        (Paging.META, lambda page: {"meta": {"page": page, "pages": 3}}),
        (Paging.META, lambda page: {"meta": {"total": "5"}}),
        (Paging.META, lambda page: {"links": {"pages": {"next": "x"} if page < 3 else {}}}),
        (Paging.META, lambda page: {}),
        (Paging.TOTAL, lambda page: {"total": 5}),
        (Paging.TOTAL, lambda page: {}),
    ],
)
def test_a_list_is_read_to_its_end_whatever_it_says_of_its_length(server: Server, client: Client, paging: Paging, says: Any) -> None:
    pages = [[1, 2], [3, 4], [5]]
    server.reply = lambda request: body(pages[request.page - 1] if request.page <= 3 else [], **says(request.page))
    listing = droplets(client, paging=paging)
    assert listing.complete
    assert ids(listing) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(("paging", "says"), [(Paging.META, {"meta": {"total": 3}}), (Paging.TOTAL, {"total": 3})])
def test_fewer_items_than_the_total_are_no_listing(server: Server, client: Client, paging: Paging, says: Any) -> None:
    server.reply = lambda request: body([1, 2] if request.page == 1 else [], **says)
    assert "2 distinct items" in incomplete(droplets(client, paging=paging))


@pytest.mark.parametrize(("paging", "total"), [(Paging.META, {"meta": {"total": 2}}), (Paging.TOTAL, {"total": 2})])
def test_a_total_that_is_too_low_hides_nothing_where_nothing_else_ends_the_list(
    server: Server, client: Client, paging: Paging, total: Any
) -> None:
    pages = [[1, 2], [3, 4]]
    server.reply = lambda request: body(pages[request.page - 1] if request.page <= 2 else [], **total)
    assert "4 distinct items where meta.total says 2" in incomplete(droplets(client, paging=paging))
    server.reply = lambda request: body([1, 2], **total)  # it knows no pages
    listing = droplets(client, paging=paging)
    assert listing.complete
    assert (ids(listing), listing.requests) == ([1, 2], 2)


@pytest.mark.parametrize("paging", Paging)
def test_a_body_without_the_key_is_an_error_however_it_pages(server: Server, client: Client, paging: Paging) -> None:
    server.replies(Reply(body={"meta": {"total": 0}, "total": 0}))
    assert "'droplets' is not a list" in incomplete(droplets(client, paging=paging))


@pytest.mark.parametrize(("path", "limit", "seconds"), [("/v2/account/keys", 10, 60), ("/v2/cdn/endpoints", 5, 10)])
def test_the_limits_of_single_lists_are_kept_and_hold_up_nothing_else(
    server: Server, client: Client, clock: Clock, path: str, limit: int, seconds: int
) -> None:
    server.replies(Reply())
    for _ in range(limit):
        client.get(path, kind="x")
    client.get("/v2/account", kind="account")
    assert clock.waited == []
    client.get(path, kind="x")
    assert sum(clock.waited) == pytest.approx(seconds, abs=0.1)


def test_a_total_that_always_grows_ends(server: Server, client: Client) -> None:
    server.reply = lambda request: page([request.page], total=request.page + 1, more=True)
    assert "meta.total went from 2 to 3" in incomplete(droplets(client))


def test_equal_items_without_id_are_kept(server: Server, client: Client) -> None:
    paged(server, [page([7, 7, 7], total=5, more=True), page([7, 7], total=5)])
    listing = droplets(client, id_field=None)
    assert listing.complete
    assert ids(listing) == [7] * 5


def saved_list(client: Client) -> bytes:
    file = io.BytesIO(b"what was in it before " * 100)
    client.save_list("/v2/droplets", "droplets", file, kind="droplet", scope="droplet:read")
    assert [*read_items(file)] == json.loads(file.getvalue())
    return file.getvalue()


def test_a_list_is_saved_as_one_array_however_it_is_cut_into_pages(server: Server, client: Client) -> None:
    paged(server, [page([7, 7, 7], total=5, more=True), page([7, 7], total=5)])
    document = saved_list(client)
    assert json.loads(document) == [{"id": 7}] * 5
    paged(server, [page([7], total=5, more=True), page([7, 7, 7, 7], total=5)])
    assert saved_list(client) == document
    paged(server, [page([], total=0)])
    assert json.loads(saved_list(client)) == []


def test_a_saved_list_that_changes_while_it_is_read_is_saved_anew(server: Server, client: Client) -> None:
    server.replies(page([1, 2], total=3, more=True), page([3, 4], total=4), page([5, 6], total=3, more=True), page([7], total=3))
    assert json.loads(saved_list(client)) == [{"id": 5}, {"id": 6}, {"id": 7}]


def test_a_saved_list_that_is_not_all_there_is_is_an_error(server: Server, client: Client) -> None:
    paged(server, [page([1, 2], total=4, more=True), page([3], total=4), page([], total=4)])
    with pytest.raises(ProviderError, match=r"the listing does not add up, read twice: .*meta.total 4"):
        saved_list(client)
    paged(server, [page([1, 2], total=3, more=True), Reply(status=404, body={})])
    with pytest.raises(NotFound):
        saved_list(client)


def test_a_total_is_not_needed_where_it_is_optional(server: Server, client: Client) -> None:
    paged(server, [page([1, 2], more=True), page([3])])
    listing = droplets(client, paging=Paging.LINKS)
    assert listing.complete
    assert ids(listing) == [1, 2, 3]
    assert "meta.total is missing" in incomplete(droplets(client))


def test_two_passes_are_one_listing() -> None:
    error = ProviderError(kind="droplet", path="/v2/droplets", message="first")
    late = ProviderError(kind="droplet", path="/v2/droplets", message="second")
    one = Listing(items=[{"id": 1}, {"id": 2, "v": "old"}], requests=2, error=None)
    two = Listing(items=[{"id": "2", "v": "new"}, {"id": 3}], requests=3, error=error)
    assert one + two == Listing(items=[{"id": 1}, {"id": "2", "v": "new"}, {"id": 3}], requests=5, error=error)
    assert (two + Listing(items=[], requests=1, error=late)).error is error
    assert (one + one).complete


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    total=st.integers(0, 6),
    pages=st.lists(st.lists(st.integers(0, 5), max_size=5), min_size=1, max_size=5),
    with_links=st.booleans(),
)
@example(total=3, pages=[[0, 1], [1, 2]], with_links=True)
@example(total=3, pages=[[0, 1], [], [2]], with_links=False)
def test_no_split_into_pages_makes_a_listing_complete_that_lacks_an_item(
    server: Server, client: Client, total: int, pages: list[list[int]], with_links: bool
) -> None:
    """The account holds 0..total-1; pages repeat, lack and mix them at will. What is not there is not served."""
    pages = [[one for one in ids_of_page if one < total] for ids_of_page in pages]
    paged(server, [page(ids_of_page, total=total, more=with_links and number < len(pages))
                   for number, ids_of_page in enumerate(pages, 1)])  # fmt: skip
    listing = droplets(client)
    assert len(ids(listing)) == len(set(ids(listing)))
    assert listing.requests <= 2 * (len(pages) + 1)
    if listing.complete:
        assert set(ids(listing)) == set(range(total))
    elif with_links and sum(map(len, pages)) == total and all(pages):
        assert {one for ids_of_page in pages for one in ids_of_page} != set(range(total)), "complete and not taken as such"


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    start=st.integers(0, 9),
    size=st.integers(1, 4),
    deleting=st.booleans(),
    at=st.lists(st.one_of(st.none(), st.integers(0, 12)), max_size=12),
)
@example(start=4, size=2, deleting=True, at=[None, 0])
@example(start=4, size=2, deleting=False, at=[None, 0])
def test_an_account_that_changes_while_read_never_hides_an_item(
    server: Server, client: Client, start: int, size: int, deleting: bool, at: list[int | None]
) -> None:
    """Before each request an item may go, or one may come, anywhere; whatever was there all the time must be listed."""
    account = list(range(start))
    changes = iter(at)
    stayed: set[int] = set()

    def reply(request: Request) -> Reply:
        place = next(changes, None)
        if place is not None and deleting and account:
            del account[place % len(account)]
        elif place is not None and not deleting:
            account.insert(place % (len(account) + 1), 100 + len(account))
        if request.page == 1:
            stayed.clear()
            stayed.update(account)
        stayed.intersection_update(account)
        last = request.page * size
        return page(account[last - size : last], total=len(account), more=last < len(account))

    server.reply = reply
    listing = droplets(client)
    if listing.complete:
        assert stayed <= set(ids(listing))
    if not any(place is not None for place in at):
        assert listing.complete


# --- the request budget


def limits(limit: Any, remaining: Any, **more: Any) -> dict[str, str]:
    return {"ratelimit-limit": str(limit), "ratelimit-remaining": str(remaining), **more}


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(limit=st.integers(20, 400), latencies=st.lists(st.floats(0, 20), min_size=1, max_size=20))
def test_no_request_is_refused_for_the_limit_of_a_minute(server: Server, client: Client, limit: int, latencies: list[float]) -> None:
    """The server counts each request when it comes in, and time passes before and after that."""
    clock = Clock()
    per_minute = max(1, limit * 5 // 100)
    arrivals: list[float] = []

    def reply(_request: Request) -> Reply:
        clock.now += latencies[len(arrivals) % len(latencies)]
        arrivals.append(clock.now)
        recent = [at for at in arrivals if at > clock.now - 60]
        assert len(recent) <= per_minute
        clock.now += latencies[-len(arrivals) % len(latencies)]
        return Reply(headers=limits(limit, 10_000))

    server.reply = reply
    with pytest.MonkeyPatch.context() as patch, make_client(server.url, attempts=1) as client:
        patch.setattr(client_module, "_clock", lambda: clock.now)
        patch.setattr(client_module, "_sleep", clock.sleep)
        for _ in range(3 * per_minute):
            client.get("/v2/x", kind="droplet")


def test_the_limit_of_a_minute_is_used_in_full(server: Server, client: Client, clock: Clock, waits: list[tuple[float, str]]) -> None:
    server.replies(Reply(headers=limits(100, 99)))
    for _ in range(5):
        client.get("/v2/x", kind="droplet")
    assert not clock.waited
    for _ in range(5):
        client.get("/v2/x", kind="droplet")
    assert clock.waited == [60.0]
    assert waits == [(60.0, "for the provider's limit of 5 requests a minute")]


@pytest.mark.parametrize(
    "headers",
    [
        limits(500_000, 499_000),
        {},
        limits("garbage", "garbage", **{"ratelimit-reset": "garbage"}),
        limits("", ""),
        limits(0, -1),
        limits("nan", "nan"),
        limits("5000, 5000;w=3600", "1e-9"),
        limits("\u0661\u0660\u0660".encode().decode("latin-1"), "inf"),
    ],
)
def test_a_large_limit_or_one_that_is_none_means_no_pause(server: Server, client: Client, clock: Clock, headers: dict[str, str]) -> None:
    server.replies(Reply(headers=headers))
    for _ in range(300):
        client.get("/v2/x", kind="droplet")
    assert not clock.waited


def test_the_hour_used_up_waits_for_the_next_request_to_be_allowed(
    server: Server, client: Client, clock: Clock, waits: list[tuple[float, str]]
) -> None:
    now = 1_700_000_000  # by the provider's clock, which is not ours
    date = {"date": formatdate(now, usegmt=True)}
    server.replies(
        Reply(headers=limits(5000, 1, **date)),
        Reply(headers=limits(5000, 0, **date, **{"ratelimit-reset": str(now + 600)})),
        Reply(headers=limits(5000, 0, **date, **{"ratelimit-reset": str(now + 5)})),
        Reply(headers=limits(5000, 20, **date)),
    )
    for _ in range(5):
        client.get("/v2/x", kind="droplet")
    assert clock.waited == pytest.approx([601, 6])
    assert waits[0] == (pytest.approx(601), "for the next request of the hour, as the token's are used up")


def test_only_one_request_goes_when_the_hour_has_one_more(server: Server, client: Client, clock: Clock) -> None:
    now = 1_700_000_000
    spent = limits(3600, 0, date=formatdate(now, usegmt=True), **{"ratelimit-reset": str(now + 10)})

    def reply(_request: Request) -> Reply:
        if len(server.seen) == 1:
            return Reply(headers=spent)
        if len(server.seen) == 2:  # not answered yet when another thread asks
            with ThreadPoolExecutor(1) as pool:
                pool.submit(client.get, "/v2/x", kind="droplet").result()
        return Reply(headers=limits(3600, 50))

    server.seen.clear()
    server.reply = reply
    client.get("/v2/x", kind="droplet")
    client.get("/v2/x", kind="droplet")
    assert clock.waited == pytest.approx([11, 1])


@pytest.mark.parametrize("reset", ["", "garbage", "0", "99999999999", "-5"])
def test_the_hour_used_up_without_a_sensible_reset_spaces_requests(server: Server, client: Client, clock: Clock, reset: str) -> None:
    server.replies(Reply(headers=limits(3600, 0, **{"ratelimit-reset": reset})))
    for _ in range(4):
        client.get("/v2/x", kind="droplet")
    assert clock.waited == pytest.approx([1, 1, 1])


def test_retry_after_is_honoured(server: Server, client: Client, clock: Clock, waits: list[tuple[float, str]]) -> None:
    server.replies(Reply(status=429, headers={"retry-after": "37"}), Reply(body={"a": 1}))
    assert client.get("/v2/x", kind="droplet") == {"a": 1}
    assert clock.waited == pytest.approx([37])
    assert waits == [(pytest.approx(37), "as the provider asks to; droplet: HTTP 429")]


def test_an_absurd_retry_after_is_an_error(server: Server, client: Client, clock: Clock) -> None:
    server.replies(Reply(status=429, headers={"retry-after": "3601"}))
    with pytest.raises(ProviderError, match="asks to wait for 3601 s"):
        client.get("/v2/x", kind="droplet")
    assert not clock.waited
    assert client.requests == 1


@pytest.mark.parametrize("value", ["0", "-1", "soon", "", "nan", "inf", "Wed, 21 Oct 2026 07:28:00 GMT"])
def test_a_retry_after_that_says_nothing_is_backoff(
    server: Server, client: Client, clock: Clock, waits: list[tuple[float, str]], value: str
) -> None:
    server.replies(Reply(status=429, headers={"retry-after": value}), Reply(body={"a": 1}))
    assert client.get("/v2/x", kind="droplet") == {"a": 1}
    assert not clock.waited
    assert len(waits) == 1


def test_threads_share_a_client_its_budget_and_its_counts(server: Server, client: Client, clock: Clock) -> None:
    lock = threading.Lock()

    def reply(request: Request) -> Reply:
        answer = page([request.page], total=3, more=request.page < 3)
        return Reply(body=answer.body, headers=limits(1000, 900))

    def sleep(seconds: float) -> None:
        with lock:
            clock.sleep(seconds)

    server.reply = reply
    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(8) as pool:
        patch.setattr(client_module, "_sleep", sleep)
        client.get("/v2/x", kind="droplet", params={"page": 1})
        listings = list(pool.map(lambda _: droplets(client), range(40)))
    assert all(listing.complete and listing.requests == 3 for listing in listings)
    assert client.requests == len(server.seen) == 121
    assert clock.now - 1_000_000.0 >= 2 * 60  # 121 requests at 50 a minute


def test_a_retry_after_holds_every_thread(server: Server, client: Client, clock: Clock) -> None:
    server.replies(Reply(status=429, headers={"retry-after": "30"}), Reply())
    client.get("/v2/x", kind="droplet")
    assert clock.now == pytest.approx(1_000_030)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(client.get, "/v2/x", kind="droplet").result()
    assert clock.now == pytest.approx(1_000_030)
