"""When jobs run, and how long after that what they make is late; how every schedule and sensor behaves: it skips, with the reason, while it
has no token that it needs, or the previous run is not done. Of several accounts, each has a run of its own, and each is skipped alone.

A run that a command made in its own process has no daemon to notice when that process is killed, so that is seen to here as well.
"""

import socket
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Literal, NamedTuple

import dagster as dg
import psutil
from dagster import DagsterRunStatus

from arcadia_dagster import settings
from arcadia_dagster.defs.accounts import ACCOUNT_TAG, ACCOUNTS, PARTITION_TAG, account_of_run, account_tags

Purpose = Literal["inventory", "billing"] | None  # of the token that is needed; None: none is


class Scheduled(NamedTuple):
    """When a job runs (cron, UTC) and which token it needs. What needs one runs once for each of several accounts."""

    cron: str
    purpose: Purpose


# Minutes are spread so that the account's request budget is not asked for at once.
SCHEDULED = {
    "sync_inventory": Scheduled("*/15 * * * *", "inventory"),
    "sync_catalogue": Scheduled("52 * * * *", "inventory"),
    "sync_snapshots": Scheduled("33 * * * *", "inventory"),
    "sync_backups": Scheduled("41 * * * *", "inventory"),
    "record_balance": Scheduled("7 * * * *", "billing"),
    "discover_invoices": Scheduled("23 2 * * *", "billing"),
    # After the day's invoices have been discovered and ingested.
    "check_ledger": Scheduled("19 3 * * *", None),
    "write_report": Scheduled("37 3 * * *", None),
    "prune_runs": Scheduled("11 4 * * *", None),
}
INGESTS = "ingest_invoices"  # which a sensor starts
if ACCOUNTS:
    # What looks at the ledger as a whole, and is too much to be done again for each account.
    SCHEDULED["check_inventory"] = Scheduled("9-59/15 * * * *", None)

NOT_DONE = [
    DagsterRunStatus.QUEUED,
    DagsterRunStatus.NOT_STARTED,
    DagsterRunStatus.STARTING,
    DagsterRunStatus.STARTED,
    DagsterRunStatus.CANCELING,
]

_HOST, _PROCESS = "arcadia/host", "arcadia/process"


def process_tags() -> dict[str, str]:
    """Run tags that say in which process a run is executed, so that others can tell whether it still is."""
    me = psutil.Process()
    return {_HOST: socket.gethostname(), _PROCESS: f"{me.pid} {me.create_time()}"}


def end_abandoned_runs(instance: dg.DagsterInstance) -> None:
    """Mark runs as failed whose process on this machine is gone; they would hold up the schedules and their pool for hours."""
    for run in instance.get_runs(dg.RunsFilter(statuses=NOT_DONE, tags={_HOST: socket.gethostname()})):
        pid, began = run.tags[_PROCESS].split(" ")
        try:
            alive = psutil.Process(int(pid)).create_time() == float(began)
        except psutil.NoSuchProcess:
            alive = False
        if not alive:
            instance.report_run_failed(run, f"The command that executed this run, process {pid}, is gone: it was killed.")


def reason_to_skip(instance: dg.DagsterInstance, job_name: str, purpose: Purpose) -> str | None:
    """Why a job should not be launched now, as a sentence; None: it should. `purpose` is its token's."""
    try:
        if purpose is not None and not settings.token_is_configured(purpose):
            return "No DigitalOcean token is configured: set DO_API_TOKEN (or DO_API_TOKEN_FILE) where the daemon runs."
    except settings.SettingsError as problem:
        return str(problem)
    end_abandoned_runs(instance)
    if running := instance.get_runs(dg.RunsFilter(job_name=job_name, statuses=NOT_DONE), limit=1):
        run = running[0]
        return f"The previous run of {job_name}, {run.run_id}, is still {run.status.value.lower()}."
    return None


def busy_accounts(instance: dg.DagsterInstance, job_name: str) -> dict[str, str]:
    """The accounts whose previous run of a job is not done, each with that run's id."""
    end_abandoned_runs(instance)
    running = instance.get_runs(dg.RunsFilter(job_name=job_name, statuses=NOT_DONE))
    return {name: run.run_id for run in running if (name := account_of_run(run)) is not None}


def newest_runs(instance: dg.DagsterInstance, job_name: str) -> dict[str | None, dg.RunRecord | None]:
    """The newest finished run of a job, None if there is none: under None, or under each of several accounts where they have their own."""
    finished = dg.RunsFilter(job_name=job_name, statuses=[DagsterRunStatus.SUCCESS, DagsterRunStatus.FAILURE])
    scheduled = SCHEDULED.get(job_name)
    if not ACCOUNTS or not (job_name == INGESTS or (scheduled and scheduled.purpose)):
        return {None: next(iter(instance.get_run_records(finished, limit=1)), None)}
    # Two ticks' worth of runs have one of each, but for accounts that are in trouble.
    records = instance.get_run_records(finished, limit=2 * len(ACCOUNTS))
    recent = {account_of_run(record.dagster_run): record for record in reversed(records)}
    tag = ACCOUNT_TAG if job_name == INGESTS else PARTITION_TAG

    def newest(name: str) -> dg.RunRecord | None:
        of_account = dg.RunsFilter(job_name=job_name, statuses=finished.statuses, tags={tag: name})
        return recent.get(name) or next(iter(instance.get_run_records(of_account, limit=1)), None)

    return {name: newest(name) for name in ACCOUNTS}


def still_busy(job_name: str, busy: Sequence[str]) -> str:
    """That accounts are skipped, as a sentence."""
    return f"The previous run of {job_name} is not done for {', '.join(busy)}."


def patience(job_name: str) -> timedelta:
    """How old the last success of a scheduled job may be before it is late: two intervals, and an hour for runs that wait or take long."""
    times = dg.TimeWindowPartitionsDefinition(start="2026-01-01", fmt="%Y-%m-%d", cron_schedule=SCHEDULED[job_name].cron)
    window = times.get_first_partition_window()
    assert window is not None  # noqa: S101  # 2026 has begun
    return 2 * (window.end - window.start) + timedelta(hours=1)


def fresh(job_name: str) -> dg.FreshnessPolicy:
    """The freshness policy of what a scheduled job makes: a warning after half of its patience, stale after all of it."""
    fail = patience(job_name)
    return dg.FreshnessPolicy.time_window(fail_window=fail, warn_window=fail / 2)


# Of what each closed month brings: invoices are made on the first of the next one, and ingested once they are discovered. Freshness is of
# the asset, whatever its partitions, so this says that something came in time, not that nothing is missing.
FRESH_MONTHLY = dg.FreshnessPolicy.cron(deadline_cron="0 0 5 * *", lower_bound_delta=timedelta(days=4))


def schedule(job: Any) -> dg.ScheduleDefinition:
    """A job's schedule, which runs unless there is a reason to skip. What define_asset_job gives has no public type."""
    job_name: str = job.name
    cron, purpose = SCHEDULED[job_name]

    @dg.schedule(
        name=f"{job_name}_schedule",
        job=job,
        cron_schedule=cron,
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
    )
    def tick(context: dg.ScheduleEvaluationContext) -> list[dg.RunRequest] | dg.RunRequest | dg.SkipReason:
        if ACCOUNTS and purpose is not None:
            return _tick_of_accounts(context, job_name)
        reason = reason_to_skip(context.instance, job_name, purpose)
        return dg.RunRequest() if reason is None else dg.SkipReason(reason)

    return tick


def _tick_of_accounts(context: dg.ScheduleEvaluationContext, job_name: str) -> list[dg.RunRequest] | dg.SkipReason:
    """A run for each account but those whose previous one is not done. That a token cannot be had is for its run to say."""
    busy = busy_accounts(context.instance, job_name)
    free = [name for name in ACCOUNTS if name not in busy]
    if not free:
        return dg.SkipReason(still_busy(job_name, list(busy)))
    if busy:  # a tick that requests runs cannot say more
        context.log.info(still_busy(job_name, list(busy)))
    return [dg.RunRequest(run_key=name, partition_key=name, tags={PARTITION_TAG: name, **account_tags(name)}) for name in free]
