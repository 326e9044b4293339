"""What a day of the schedules leaves in Dagster's own storage, table by table, and what retention leaves of that.

Run by `make bench`, or `python benchmarks/dagster_storage.py [RUNS]` (3 of each job by default), against the simulated account on an
instance in Postgres: ARCADIA_DATABASE_URL, which must name a database without Dagster's tables, else an embedded server in a temporary
folder. Runs are executed in this process; the daemon adds half a dozen events to each. Ticks are not made by running, but counted from the
schedules, and written here with the texts that they have.
"""

import os
import shutil
import sys
import time
from collections import defaultdict
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.scheduler.instigation import TickData, TickStatus
from rich.console import Console
from rich.table import Table
from sqlalchemy import Connection, create_engine, text

from arcadia_dagster import settings
from arcadia_dagster.definitions import defs
from arcadia_dagster.defs.ops import retention
from arcadia_dagster.defs.scheduling import SCHEDULED
from arcadia_dagster.demo.server import SimulatedServer
from arcadia_dagster.demo.sky_ai import sky_ai_account
from arcadia_dagster.ledger.schema import connect
from benchmarks.table import home

TABLES = """
select c.relname as name, pg_total_relation_size(c.oid) as bytes from pg_class c
 where c.relnamespace = 'dagster'::regnamespace and c.relkind = 'r' order by 1"""


def runs_a_day(cron: str) -> int:
    """How often a job of that schedule runs in a day of UTC."""
    times = dg.TimeWindowPartitionsDefinition(start="2026-01-01-00:00", fmt="%Y-%m-%d-%H:%M", cron_schedule=cron)
    return round(len(times.get_partition_keys(current_time=datetime(2026, 1, 11))) / 10)  # noqa: DTZ001


def counts(conn: Connection) -> dict[str, int]:
    found = {row.name: conn.scalar(text(f"select count(*) from dagster.{row.name}")) or 0 for row in conn.execute(text(TABLES)).all()}
    conn.rollback()
    return found


def main() -> None:
    """Print the tables."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    account = sky_ai_account()
    with home() as folder, SimulatedServer([account]) as server:
        dagster_home = Path(folder) / "dagster"
        dagster_home.mkdir()
        shutil.copy(Path(__file__).parent.parent / "dagster.yaml", dagster_home)
        os.environ |= {"DAGSTER_HOME": str(dagster_home), "DO_API_TOKEN": account.token, "DIGITALOCEAN_API_URL": server.url}
        connect(settings.ledger_url()).dispose()
        with dg.DagsterInstance.get() as instance:
            engine = create_engine(settings.ledger_url())
            with engine.connect() as conn:
                measure(instance, conn, rounds)
            engine.dispose()


def measure(instance: dg.DagsterInstance, conn: Connection, rounds: int) -> None:
    definitions: Any = defs()

    def run(job_name: str) -> None:
        quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
        if not definitions.resolve_job_def(job_name).execute_in_process(instance=instance, run_config=quiet).success:
            raise SystemExit(f"{job_name} failed")

    a_day: dict[str, float] = defaultdict(float)
    jobs = Table("job", "runs a day", "rows a run", "of them event_logs", "asset_check_executions")
    for job_name, scheduled in SCHEDULED.items():
        run(job_name)  # the first one discovers
        before = counts(conn)
        for _ in range(rounds):
            run(job_name)
        each = {name: (rows - before[name]) / rounds for name, rows in counts(conn).items()}
        times = runs_a_day(scheduled.cron)
        jobs.add_row(
            job_name, f"{times}", f"{sum(each.values()):.1f}", f"{each['event_logs']:.1f}", f"{each['asset_check_executions']:.1f}"
        )
        for name, rows in each.items():
            a_day[name] += times * rows
    ticks = {schedule.name: runs_a_day(SCHEDULED[schedule.job_name].cron) for schedule in definitions.schedules}
    ticks |= {sensor.name: timedelta(days=1).total_seconds() / (sensor.minimum_interval_seconds or 30) for sensor in definitions.sensors}
    for number in range(1000):
        instance.create_tick(
            TickData(
                instigator_origin_id="0" * 40,
                instigator_name="uningested_invoices",
                instigator_type=InstigatorType.SENSOR,
                status=TickStatus.SKIPPED,
                timestamp=time.time() + number,
                skip_reason="No month has changed since it was last exported.",
                end_timestamp=time.time() + number,
            )
        )
    a_day["job_ticks"] = sum(ticks.values())
    present = counts(conn)
    bytes_of = {row.name: row.bytes for row in conn.execute(text(TABLES)).all()}
    conn.rollback()
    retention.KEEP_DAYS = -1
    run("prune_runs")
    left = counts(conn)
    tables = Table("table", "rows a day", "bytes a row", "MB a day", "rows before", "rows after retention")
    total = 0.0
    for name, count in sorted(present.items(), key=lambda one: -a_day[one[0]] * bytes_of[one[0]] / max(one[1], 1)):
        size = bytes_of[name] / max(count, 1)
        total += a_day[name] * size / 1e6
        tables.add_row(name, f"{a_day[name]:,.0f}", f"{size:,.0f}", f"{a_day[name] * size / 1e6:.2f}", f"{count:,}", f"{left[name]:,}")
    Console(width=120).print(jobs, tables, f"{total:.1f} MB a day")


if __name__ == "__main__":
    main()
