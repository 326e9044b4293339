"""A small HTTP server on loopback that replies what a test's function says, byte for byte if need be.

For tests of the client alone. It knows no shapes of the provider: the simulated account is in `arcadia_dagster.demo`.
"""

import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit


@dataclass(frozen=True, kw_only=True)
class Request:
    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes

    @property
    def page(self) -> int:
        return int(self.query["page"])


@dataclass(frozen=True, kw_only=True)
class Reply:
    """`body` is sent as it is if bytes, else as JSON. `raw` replaces the whole reply, head and all, after which the
    connection is closed; between its pieces `pause` seconds pass. `reset` closes the connection with a TCP reset.
    """

    status: int = 200
    body: Any = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    raw: tuple[bytes, ...] | None = None
    pause: float = 0.0
    reset: bool = False


@dataclass(kw_only=True)
class Server:
    """`reply` is called for each request, from the thread of its connection; `seen` holds the requests in order."""

    url: str
    reply: Callable[[Request], Reply] = lambda _request: Reply(status=404)
    seen: list[Request] = field(default_factory=list)

    def replies(self, *replies: Reply) -> None:
        """Give these one after the other, the last one for ever."""
        rest = list(replies)
        self.seen.clear()
        self.reply = lambda _request: rest.pop(0) if len(rest) > 1 else rest[0]


@contextmanager
def serving() -> Iterator[Server]:
    """A server on a free loopback port, until the end of the block."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            address = urlsplit(self.path)
            request = Request(
                method=self.command,
                path=address.path,
                query=dict(parse_qsl(address.query)),
                headers={name.lower(): value for name, value in self.headers.items()},
                body=self.rfile.read(int(self.headers.get("content-length", 0))),
            )
            server.seen.append(request)
            reply = server.reply(request)
            try:
                self._send(reply)
            except OSError:  # the client has hung up
                self.close_connection = True

        do_POST = do_GET  # noqa: N815

        def _send(self, reply: Reply) -> None:
            if reply.raw is not None:
                for number, piece in enumerate(reply.raw):
                    if number:
                        time.sleep(reply.pause)
                    self.wfile.write(piece)
            if reply.reset:
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            if reply.raw is not None or reply.reset:
                self.close_connection = True
                return
            body = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
            self.send_response_only(reply.status)
            for name, value in {"content-type": "application/json", **reply.headers}.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    class Loopback(ThreadingHTTPServer):
        daemon_threads = True

        def shutdown_request(self, request: Any) -> None:
            self.close_request(request)  # without the orderly shutdown that would come before a reset

    with Loopback(("127.0.0.1", 0), Handler) as http:
        server = Server(url=f"http://127.0.0.1:{http.server_port}")
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            http.shutdown()
            thread.join()
