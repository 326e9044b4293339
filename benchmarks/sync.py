"""A whole `arcadia sync` of the simulated account, first and unchanged: seconds of each part, and requests by path.

Run by `make bench`, or `python benchmarks/sync.py`. The server is in this process, the command in its own; ledger and Dagster storage are
an embedded server in a temporary folder, unless ARCADIA_DATABASE_URL names another (then the first run may not be the first).
"""

import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter

from rich.console import Console
from rich.table import Table

from arcadia_dagster.demo.server import SimulatedServer
from arcadia_dagster.demo.sky_ai import sky_ai_account


def main() -> None:
    """Print both runs side by side."""
    account = sky_ai_account()
    parts: dict[str, list[str]] = {}
    requests: list[Counter[str]] = []
    with tempfile.TemporaryDirectory(prefix="arcadia-bench-") as folder, SimulatedServer([account]) as server:
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


if __name__ == "__main__":
    main()
