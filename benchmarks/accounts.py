"""Many accounts as production runs them: one tick of a schedule, a run for each account, Dagster's queue, a process for each run.

Run by `make bench`, of ten accounts, or `python benchmarks/accounts.py [ACCOUNTS]`; a hundred unless told otherwise, which takes half an
hour on two cores. Ledger and Dagster storage are an embedded server in a temporary folder, unless ARCADIA_DATABASE_URL names another, which
must be empty.
"""

import os
import shutil
import statistics
import sys
import tempfile
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.definitions.timestamp import TimestampWithTimezone
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import ModuleTarget
from dagster._daemon.run_coordinator import QueuedRunCoordinatorDaemon
from dagster._scheduler.scheduler import _create_scheduler_run
from rich.console import Console
from rich.table import Table
from sqlalchemy import create_engine, make_url, text

from arcadia_dagster import embedded_postgres, settings
from arcadia_dagster.demo.account import SimulatedAccount, messy_account
from arcadia_dagster.demo.server import SimulatedServer
from benchmarks.table import Row, judged, show

JOB = "sync_inventory"
TICKS = 2  # the second finds nothing new
RUNNING = [dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED]
# Its token is not accepted; the others must not notice.
BROKEN = "account-000"


def account(name: str) -> SimulatedAccount:
    """A small account with something of every kind, which keeps to the provider's limits."""
    one = messy_account()
    one.token, one.team_name, one.team_uuid, one.ratelimit_limit = f"token-{name}", name, f"uuid-{name}", 5000
    return one


def main(count: int) -> None:
    """Print what a tick, a run and the whole queue take."""
    names = [f"account-{number:03}" for number in range(count)]
    with tempfile.TemporaryDirectory(prefix="arcadia-bench-") as folder, SimulatedServer([account(name) for name in names]) as server:
        home = Path(folder)
        for name in names:
            (home / name).write_text("not-accepted" if name == BROKEN else f"token-{name}")
        (home / "arcadia.toml").write_text("".join(f'[accounts.{name}]\ntoken_file = "{name}"\n' for name in names))
        shutil.copy(Path(__file__).parent.parent / "dagster.yaml", home)
        os.environ |= {
            "ARCADIA_HOME": folder,
            "ARCADIA_ACCOUNTS_FILE": str(home / "arcadia.toml"),
            "DIGITALOCEAN_API_URL": server.url,
            "DAGSTER_HOME": folder,
        }
        try:
            measure(server, names)
        finally:
            embedded_postgres.stop(settings.embedded_data_dir())


def measure(server: SimulatedServer, names: list[str]) -> None:
    """Run the ticks, and print what each took and the table."""
    ticks: list[dict[str, str]] = []
    log = os.open(Path(os.environ["DAGSTER_HOME"]) / "log", os.O_CREAT | os.O_WRONLY)
    os.dup2(log, 2)  # what the runs say
    with dg.DagsterInstance.get() as instance:
        queue = instance.get_concurrency_config().run_queue_config
        assert queue is not None
        target = ModuleTarget(
            "arcadia_dagster.definitions", attribute=None, working_directory=None, location_name="arcadia_dagster.definitions"
        )
        with WorkspaceProcessContext(instance, target) as workspace:
            for _ in range(TICKS):
                before = len(server.requests)
                tick, whole, steps = one_tick(instance, workspace, names)
                ticks.append(tick | {"requests for each account": f"{(len(server.requests) - before) / len(names):.1f}"})
    table = Table("of a tick", *(f"tick {number + 1}" for number in range(TICKS)))
    for what in ticks[0]:
        table.add_row(what, *(tick[what] for tick in ticks))
    Console().print(table)
    refused = sum(status == 429 for _, status in server.answers)
    engine = create_engine(make_url(settings.ledger_url()))
    with engine.connect() as conn:
        resources = conn.execute(
            text(
                "select count(distinct a.account_id) as accounts, count(distinct n) as sizes from arcadia.cloud_accounts a"
                " join (select account_id, count(*) as n from arcadia.cloud_resources group by 1) r using (account_id)"
            )
        ).one()
        size = conn.execute(text("select sum(pg_total_relation_size(c.oid)) from pg_class c where relnamespace = 'dagster'::regnamespace"
                                 " and relkind = 'r'")).scalar_one()  # fmt: skip
    engine.dispose()
    print(
        f"{resources.accounts} accounts in the ledger, {'all alike' if resources.sizes == 1 else 'NOT ALIKE'}; {refused} requests refused"
    )
    print(f"{int(size) / TICKS / len(names) / 1024:.0f} KB of Dagster's storage for each run")
    least = steps / queue.max_concurrent_runs
    row = Row(
        "a tick that finds nothing new",
        f"{whole:.0f} s, {whole / len(names):.1f} s an account",
        "",
        f"steps alone, {queue.max_concurrent_runs} runs at once {least:.0f} s",
        f"ours/limit {judged(whole / least)}",
    )
    show(f"many accounts: {len(names)}, one of which has a token that is not accepted", [row])
    if [tick["failed"] for tick in ticks] != [BROKEN] * TICKS or (resources.accounts, resources.sizes) != (len(names) - 1, 1):
        raise SystemExit("an account has felt that another one's token is not accepted")


def one_tick(instance: dg.DagsterInstance, process: WorkspaceProcessContext, names: list[str]) -> tuple[dict[str, str], float, float]:
    """What the daemon does at a tick, by its own parts, until every run is done; its seconds, and those of the steps of all runs."""
    workspace = process.create_request_context()
    location = workspace.code_locations[0]
    repository = next(iter(location.get_repositories().values()))
    schedule = repository.get_schedule(f"{JOB}_schedule")
    job = repository.get_full_job(JOB)
    now = datetime.now(UTC)
    began = time.perf_counter()
    data = location.get_schedule_execution_data(
        instance=instance,
        repository_handle=repository.handle,
        schedule_name=schedule.name,
        scheduled_execution_time=TimestampWithTimezone(now.timestamp(), "UTC"),
        log_key=None,
    )
    evaluated = time.perf_counter() - began
    runs = [_create_scheduler_run(instance, now, location, schedule, job, request) for request in data.run_requests or ()]
    for run in runs:
        instance.submit_run(run.run_id, workspace)
    submitted = time.perf_counter() - began
    daemon = QueuedRunCoordinatorDaemon(interval_seconds=5)
    with daemon:
        while instance.get_runs_count(dg.RunsFilter(job_name=JOB, statuses=RUNNING)):
            for _ in daemon.run_iteration(process):
                pass
            time.sleep(5)
    whole = time.perf_counter() - began
    records: list[Any] = list(instance.get_run_records(dg.RunsFilter(run_ids=[run.run_id for run in runs])))
    statuses = Counter(record.dagster_run.status.value.lower() for record in records)
    failed = sorted(record.dagster_run.tags["dagster/partition"] for record in records if record.dagster_run.is_failure)
    seconds = [record.end_time - record.start_time for record in records if record.end_time and record.start_time]
    tick = {
        "runs": ", ".join(f"{number} {status}" for status, number in sorted(statuses.items())),
        "failed": ", ".join(failed[:5]) or "none",
        "schedule evaluated, s": f"{evaluated:.2f}",
        "runs queued, s": f"{submitted - evaluated:.1f}",
        "all done after, s": f"{whole:.0f}",
        "that is, s for each account": f"{whole / len(names):.1f}",
        "a run from its first step on, median s": f"{statistics.median(seconds):.1f}",
    }
    return tick, whole, sum(seconds)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100)
