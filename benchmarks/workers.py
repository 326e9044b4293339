"""How many accounts are synced in a second by one worker and by two: Dagster's own processes, a broker, and a provider that takes its time.

Run by `make bench`, or `python benchmarks/workers.py [ACCOUNTS]`. Uses ARCADIA_DATABASE_URL where set, else an embedded server in a
temporary folder. Every account has been synced before; each worker has one process, as all share the processors of this machine.
"""

import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
from starlette.requests import Request
from starlette.responses import Response

from arcadia_dagster import settings
from arcadia_dagster.demo import server as simulated
from arcadia_dagster_tests.commands import wait_for
from arcadia_dagster_tests.machines import Dagster, Machines, accounts_file, small_accounts
from benchmarks.table import Row, home, judged, show

LATENCY = 0.08  # seconds of the provider for each request
JOB = "sync_inventory"
AN_HOUR = 3600
ROUNDS = 2


class SlowServer(simulated.SimulatedServer):
    """Answers after as long as the real one takes."""

    def _endpoint(self, answer: Callable[..., Any]) -> Callable[[Request], Any]:
        at_once = super()._endpoint(answer)

        async def endpoint(request: Request) -> Response:
            await asyncio.sleep(LATENCY)
            reply: Response = await at_once(request)
            return reply

        return endpoint


def seconds_of_a_round(machines: Any, dagster: Any, names: list[str]) -> float:
    """From when the first account's run was handed to a worker until the last one's ended."""
    before = {run.run_id for run in dagster.runs()}
    dagster.launch(JOB, names)
    machines.start_daemon()  # only now: what is measured is not how fast runs are asked for

    def done() -> list[dg.RunRecord]:
        ours = [one for one in dagster.instance.get_run_records() if one.dagster_run.run_id not in before]
        assert not any(one.dagster_run.status is dg.DagsterRunStatus.FAILURE for one in ours)
        return ours if all(one.dagster_run.is_finished for one in ours) else []

    records = wait_for(done, AN_HOUR)
    machines.kill("daemon")
    starting = dg.DagsterEventType.PIPELINE_STARTING
    handed_out = [entry.timestamp for one in records for entry in dagster.instance.all_logs(one.dagster_run.run_id, of_type=starting)]
    return float(max(one.end_time for one in records) - min(handed_out))


def main() -> None:
    """Print the table."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    by_one: list[float] = []
    by_two: list[float] = []
    with home() as folder:
        accounts = small_accounts(count)
        file, names = accounts_file(Path(folder), accounts)
        with SlowServer(accounts) as server:
            variables = {
                "ARCADIA_DATABASE_URL": settings.ledger_url().set(drivername="postgresql").render_as_string(hide_password=False),
                "ARCADIA_ACCOUNTS_FILE": str(file),
                "DIGITALOCEAN_API_URL": server.url,
            }
            with Machines(Path(folder), variables, processes=1) as machines:
                os.environ.update(machines.variables)
                with Dagster.of(machines) as dagster:
                    machines.start_worker("first")
                    wait_for(lambda: machines.ready("first"))
                    seconds_of_a_round(machines, dagster, names)  # the first sync of each
                    for _ in range(ROUNDS):
                        by_one.append(seconds_of_a_round(machines, dagster, names))
                        machines.start_worker("second")
                        wait_for(lambda: machines.ready("second"))
                        by_two.append(seconds_of_a_round(machines, dagster, names))
                        machines.kill("second")
    one, two = min(by_one), min(by_two)
    rows = [
        Row("one worker", f"{one:.1f} s, {count / one:.2f} a second", "", "", ""),
        Row(
            "two workers",
            f"{two:.1f} s, {count / two:.2f} a second",
            f"one worker {one:.1f} s",
            f"half of that {one / 2:.1f} s",
            f"peer/ours {judged(one / two)}",
        ),
    ]
    show(f"workers: {count} accounts, {LATENCY * 1000:.0f} ms a request, best of {ROUNDS} in turn", rows)


if __name__ == "__main__":
    main()
