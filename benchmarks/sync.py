"""A whole `arcadia sync` of the simulated account, first and unchanged: seconds of each part, and requests by path.

Run by `make bench`, or `python benchmarks/sync.py [MILLISECONDS]`, which each request takes (80 by default). The same requests one after
the other, by a client that stores nothing, are what a script would need. The server is in this process, the command in its own; ledger
and Dagster storage are an embedded server in a temporary folder, unless ARCADIA_DATABASE_URL names another (then the first run may not be
the first).
"""

import asyncio
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import httpx
from rich.console import Console
from rich.table import Table

from arcadia_dagster.demo.server import SimulatedServer
from arcadia_dagster.demo.sky_ai import sky_ai_account
from benchmarks.table import Row, judged, show


class DistantServer(SimulatedServer):
    """The simulated provider, so far away that each request takes a while."""

    latency = 0.08  # seconds

    def _app(self) -> Any:
        near = super()._app()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await asyncio.sleep(self.latency)
            await near(scope, receive, send)

        return app


def one_by_one(server: SimulatedServer, token: str, requests: Sequence[tuple[str, str, dict[str, str]]]) -> float:
    """Seconds of the requests that read something, one after the other over one connection."""
    began = time.perf_counter()
    with httpx.Client(base_url=server.url, headers={"authorization": f"Bearer {token}"}) as client:
        for method, path, query in requests:
            if method == "GET":
                client.get(path, params=query).raise_for_status()
    return time.perf_counter() - began


def main() -> None:
    """Print both runs side by side, and the table."""
    DistantServer.latency = float(sys.argv[1] if len(sys.argv) > 1 else 80) / 1000
    account = sky_ai_account()
    account.ratelimit_limit = 1_000_000  # so that nobody waits for its budget
    parts: dict[str, list[str]] = {}
    requests: list[Counter[str]] = []
    with tempfile.TemporaryDirectory(prefix="arcadia-bench-") as folder, DistantServer([account]) as server:
        environment = {
            "ARCADIA_HOME": folder,
            **os.environ,
            "DO_API_TOKEN": account.token,
            "DIGITALOCEAN_API_URL": server.url,
        }
        for _ in range(2):
            already = len(server.requests)
            began = time.perf_counter()
            done = subprocess.run(
                [sys.executable, "-m", "arcadia_dagster.cli", "sync"], env=environment, check=True, capture_output=True, text=True
            )
            wall = time.perf_counter() - began
            for name, seconds in re.findall(r"✓ (.+?) +([\d.]+) s", done.stdout):
                parts.setdefault(name, []).append(seconds)
            parts.setdefault("the whole command", []).append(f"{wall:.1f}")
            paths = [re.sub(r"/[0-9a-f]{8}-[0-9a-f-]{27}", "/{uuid}", path) for _, path, _ in server.requests[already:]]
            requests.append(Counter(paths))
            asked = server.requests[already:]
            parts.setdefault("its requests one after the other", []).append(f"{one_by_one(server, account.token, asked):.1f}")
            invoices = [request for request in asked if "/customers/my/invoices/" in request[1] and "preview" not in request[1]]
            if invoices:
                parts.setdefault("those of its invoices", []).append(f"{one_by_one(server, account.token, invoices):.1f}")
    table = Table("part", "first, s", "unchanged, s")
    for name, seconds in parts.items():
        row = [*seconds, "-"][:2]  # nothing is ingested the second time
        table.add_row(name, *row)
    Console().print(table)
    table = Table("requests", "first", "unchanged")
    for path in sorted(requests[0] | requests[1]):
        table.add_row(path, str(requests[0][path]), str(requests[1][path]))
    table.add_row("all", str(requests[0].total()), str(requests[1].total()))
    Console().print(table)

    def beside_its_requests(case: str, part: str, peer: str, run: int) -> Row:
        own, other = float(parts[part][run]), float(parts[peer][run])
        return Row(case, f"{own:.1f} s", f"its requests one after the other {other:.1f} s", "", f"peer/ours {judged(other / own)}")

    rows = [
        *(
            beside_its_requests(f"{case}, {requests[run].total()} requests", "the whole command", "its requests one after the other", run)
            for run, case in enumerate(("first sync", "nothing changed"))
        ),
        beside_its_requests(f"of the first: {len(account.invoices)} invoices, in one run", "ingest_invoices", "those of its invoices", 0),
    ]
    show(f"sync: the demo's first account, {DistantServer.latency * 1000:.0f} ms a request", rows)


if __name__ == "__main__":
    main()
