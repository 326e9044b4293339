"""What the shared request budget costs and saves: a request counted against an empty statement, and many processes that use one token.

Run by `make bench`, or `python benchmarks/budget.py`. Uses ARCADIA_DATABASE_URL where set, else an embedded server in a temporary folder.
The provider's minute is 10 seconds here, in which 50 requests are allowed; five processes want 40 each at once. The second that each
request counts for longer is a tenth of that, and a sixtieth of a real minute.
"""

import math
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

from sqlalchemy import create_engine, text

from arcadia_dagster import settings
from arcadia_dagster.demo import server as simulated
from arcadia_dagster.demo.account import SimulatedAccount
from arcadia_dagster.digitalocean.limits import HOUR, MINUTE, Limit
from arcadia_dagster.ledger.budget import RequestBudget
from arcadia_dagster.ledger.schema import connect
from benchmarks.table import Row, home, judged, show

TOKEN = "benchmark"
TIMES, PROCESSES, EACH, SECONDS, ALLOWED = 2000, 5, 40, 10.0, 50
PROCESS = """
import sys
from sqlalchemy import make_url
from arcadia_dagster.digitalocean import client
from arcadia_dagster.ledger.budget import RequestBudget
api, database, token, requests, seconds, shared = sys.argv[1:]
client.MINUTE = float(seconds)
budget = RequestBudget(make_url(database), token) if shared == "yes" else None
print("ready", flush=True)
input()
with client.Client(token, base_url=api, budget=budget) as one:
    for _ in range(int(requests)):
        one.get("/v2/account", kind="account")
"""


def median_ms(do: Callable[[], object]) -> float:
    """Median milliseconds of one of many."""
    seconds = []
    for _ in range(TIMES):
        began = time.perf_counter()
        do()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds) * 1000


def together(database: str, *, shared: bool) -> tuple[int, float]:
    """How many requests of the processes were refused, and how many seconds passed from the first answer to the last."""
    account = SimulatedAccount(TOKEN, "team", "team", ratelimit_limit=20 * ALLOWED)
    with simulated.SimulatedServer([account]) as server:
        command = [sys.executable, "-c", PROCESS, server.url, database, TOKEN, str(EACH), str(SECONDS), "yes" if shared else "no"]
        running = [
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            for _ in range(PROCESSES)
        ]
        for process in running:
            assert process.stdout is not None
            process.stdout.readline()
        for process in running:  # all at once: none waits for another to end
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        for process in running:
            process.wait()
        answers = server.answers
    times = [at for at, status in answers if status == 200]
    return sum(status == 429 for _, status in answers), max(times) - min(times)


def main() -> None:
    """Print the table."""
    with home():
        url = settings.ledger_url()
        connect(url).dispose()
        limits = [Limit(requests=10**9, seconds=HOUR), Limit(requests=10**9, seconds=MINUTE)]
        engine = create_engine(url, isolation_level="AUTOCOMMIT")
        with RequestBudget(url, "counted") as budget, engine.connect() as conn:
            empty = text("select 1")
            least = median_ms(lambda: conn.execute(empty).scalar())
            counted = median_ms(lambda: budget.take(limits))
        engine.dispose()
        simulated._MINUTE = SECONDS
        database = url.render_as_string(hide_password=False)
        (refused, took), (refused_alone, took_alone) = (together(database, shared=shared) for shared in (True, False))
        waited_for = math.ceil(PROCESSES * EACH / ALLOWED) - 1
        show(
            f"request budget: {PROCESSES} processes make {PROCESSES * EACH} requests, {ALLOWED} in {SECONDS:g} s are allowed",
            [
                Row("a request counted", f"{counted:.2f} ms", "", f"select 1: {least:.2f} ms", f"ours/limit {judged(counted / least)}"),
                Row("refused", f"{refused}", f"each paces itself {refused_alone}", "0", ""),
                Row(
                    "all of them",
                    f"{took:.1f} s",
                    f"each paces itself {took_alone:.1f} s",
                    f"{waited_for * SECONDS:.1f} s",
                    f"peer/ours {judged(took_alone / took)}; ours/limit {judged(took / waited_for / SECONDS)}",
                ),
            ],
        )


if __name__ == "__main__":
    main()
