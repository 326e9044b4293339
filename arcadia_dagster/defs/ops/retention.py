"""Old runs are deleted, since Dagster itself forgets ticks only: 96 inventory runs a day would add about 9 GB a year.

Deleting a run makes what it materialised look as if that had never been. So runs of invoices are never touched; and of the partition of an
account, the run that its state is known from stays.
"""

from datetime import UTC, datetime, timedelta

import dagster as dg

from arcadia_dagster.defs.accounts import ACCOUNTS, PARTITION_TAG
from arcadia_dagster.defs.scheduling import SCHEDULED, schedule

KEEP_DAYS = 14
BATCH = 500


@dg.op(
    description=f"Delete finished runs of the schedules that are older than {KEEP_DAYS} days, but for the newest of each job and account."
)
def delete_old_runs(context: dg.OpExecutionContext) -> None:
    """Delete at most BATCH runs of each job and account, with their compute logs; the rest goes the next day."""
    before = datetime.now(UTC) - timedelta(days=KEEP_DAYS)
    deleted = 0
    shown = _shown(context.instance)
    for job_name in SCHEDULED:
        whose = [dg.RunsFilter(job_name=job_name), *(dg.RunsFilter(job_name=job_name, tags={PARTITION_TAG: name}) for name in ACCOUNTS)]
        kept = shown | {run.run_id for filters in whose for run in context.instance.get_runs(filters, limit=1)}
        batch = BATCH * max(1, len(ACCOUNTS))
        old = context.instance.get_run_records(dg.RunsFilter(job_name=job_name, created_before=before), limit=batch, ascending=True)
        for record in old:
            run = record.dagster_run
            if run.is_finished and run.run_id not in kept:
                context.instance.compute_log_manager.delete_logs(prefix=[run.run_id])
                context.instance.delete_run(run.run_id)
                deleted += 1
    context.log.info(f"Deleted {deleted} runs that began before {before:%Y-%m-%d}.")


def _shown(instance: dg.DagsterInstance) -> set[str]:
    """The runs that last materialised the partition of an account, of each asset."""
    runs: set[str] = set()
    made = dg.DagsterEventType.ASSET_MATERIALIZATION
    for key in instance.get_asset_keys() if ACCOUNTS else ():
        newest = instance.event_log_storage.get_latest_storage_id_by_partition(key, made, partitions={*ACCOUNTS})
        if newest:
            ids = dg.AssetRecordsFilter(asset_key=key, storage_ids=list(newest.values()))
            runs |= {record.run_id for record in instance.fetch_materializations(ids, limit=len(newest)).records}
    return runs


@dg.job(description="Retention: forget old runs of the schedules.")
def prune_runs() -> None:
    """Delete old runs."""
    delete_old_runs()


prune_runs_schedule = schedule(prune_runs)
