"""Old runs are deleted, since Dagster itself forgets ticks only: 96 inventory runs a day would add about 9 GB a year.

Runs of partitions are never touched: deleting them would make their invoices look as if they had never been ingested.
"""

from datetime import UTC, datetime, timedelta

import dagster as dg

from arcadia_dagster.defs.scheduling import SCHEDULED, schedule

KEEP_DAYS = 14
BATCH = 500


@dg.op(description=f"Delete finished runs of unpartitioned jobs that are older than {KEEP_DAYS} days, but for the newest of each job.")
def delete_old_runs(context: dg.OpExecutionContext) -> None:
    """Delete at most BATCH runs of each job, with their compute logs; the rest goes the next day."""
    before = datetime.now(UTC) - timedelta(days=KEEP_DAYS)
    deleted = 0
    for job_name in SCHEDULED:
        newest = {run.run_id for run in context.instance.get_runs(dg.RunsFilter(job_name=job_name), limit=1)}
        old = context.instance.get_run_records(dg.RunsFilter(job_name=job_name, created_before=before), limit=BATCH, ascending=True)
        for record in old:
            run = record.dagster_run
            if run.is_finished and run.run_id not in newest and "dagster/partition" not in run.tags:
                context.instance.compute_log_manager.delete_logs(prefix=[run.run_id])
                context.instance.delete_run(run.run_id)
                deleted += 1
    context.log.info(f"Deleted {deleted} runs that began before {before:%Y-%m-%d}.")


@dg.job(description="Retention: forget old runs of the schedules.")
def prune_runs() -> None:
    """Delete old runs."""
    delete_old_runs()


prune_runs_schedule = schedule(prune_runs)
