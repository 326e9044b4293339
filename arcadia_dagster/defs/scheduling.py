"""How every schedule and sensor behaves: it skips, with the reason, while it has no token that it needs, or the previous run is not done.

A run that a command made in its own process has no daemon to notice when that process is killed, so that is seen to here as well.
"""

import socket
from typing import Any, Literal

import dagster as dg
import psutil
from dagster import DagsterRunStatus

from arcadia_dagster import settings

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


def reason_to_skip(instance: dg.DagsterInstance, job_name: str, purpose: Literal["inventory", "billing"] | None) -> str | None:
    """Why a job should not be launched now, as a sentence; None: it should. `purpose` is its token's; None: it needs no token."""
    if purpose is not None and not settings.token_is_configured(purpose):
        return "No DigitalOcean token is configured: set DO_API_TOKEN (or DO_API_TOKEN_FILE) where the daemon runs."
    end_abandoned_runs(instance)
    if running := instance.get_runs(dg.RunsFilter(job_name=job_name, statuses=NOT_DONE), limit=1):
        run = running[0]
        return f"The previous run of {job_name}, {run.run_id}, is still {run.status.value.lower()}."
    return None


def schedule(job: Any, cron: str, *, purpose: Literal["inventory", "billing"]) -> dg.ScheduleDefinition:
    """A schedule of a job in UTC that runs unless there is a reason to skip. What define_asset_job gives has no public type."""
    job_name: str = job.name

    @dg.schedule(
        name=f"{job_name}_schedule",
        job=job,
        cron_schedule=cron,
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
    )
    def tick(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        reason = reason_to_skip(context.instance, job_name, purpose)
        return dg.RunRequest() if reason is None else dg.SkipReason(reason)

    return tick
