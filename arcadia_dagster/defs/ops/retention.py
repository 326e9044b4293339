"""What is forgotten, once a day: Dagster's old runs with all that hangs on them, and what the ledger needs no more.

Dagster itself forgets ticks only: its schedules' runs and checks would add about 19 GB a year. What the ledger may forget is decided in
`ledger/retention.py`.
"""

from datetime import UTC, datetime, timedelta

import dagster as dg
from dagster._core.storage.event_log.schema import AssetCheckExecutionsTable
from dagster._core.storage.event_log.sql_event_log import SqlEventLogStorage
from sqlalchemy import func, select

from arcadia_dagster.defs.accounts import ACCOUNTS, PARTITION_TAG
from arcadia_dagster.defs.resources import Ledger
from arcadia_dagster.defs.scheduling import SCHEDULED, schedule
from arcadia_dagster.ledger.retention import forget

KEEP_DAYS = 14
KEEP_LEDGER_DAYS = 90
BATCH = 500
SENSED = ("ingest_invoices", "export_focus")  # which sensors start


@dg.op(
    description=f"Delete finished runs that are older than {KEEP_DAYS} days, but for the newest of each job and account, and those that"
    " materialised a partition last; and the results of checks that are as old, but for each check's newest."
)
def delete_old_runs(context: dg.OpExecutionContext) -> None:
    """Delete at most BATCH runs of each job and account, with their compute logs; the rest goes the next day."""
    before = datetime.now(UTC) - timedelta(days=KEEP_DAYS)
    instance = context.instance
    deleted = 0
    # What the newest runs say of each partition is all that tells that it was materialised.
    shown = {run_id for asset in instance.get_asset_keys() for run_id in _newest_of_partitions(instance, asset)}
    batch = BATCH * max(1, len(ACCOUNTS))
    for job_name in (*SCHEDULED, *SENSED):
        whose = [dg.RunsFilter(job_name=job_name), *(dg.RunsFilter(job_name=job_name, tags={PARTITION_TAG: name}) for name in ACCOUNTS)]
        kept = shown | {run.run_id for one in whose for run in instance.get_runs(one, limit=1)}
        old = dg.RunsFilter(job_name=job_name, created_before=before, statuses=[*_FINISHED])
        for run in instance.get_runs(old, limit=batch + len(kept), ascending=True):
            if run.run_id not in kept:
                instance.compute_log_manager.delete_logs(prefix=[run.run_id])
                # First, though delete_run does so as well, afterwards: events without their run would stay for ever.
                instance.event_log_storage.delete_events(run.run_id)
                instance.delete_run(run.run_id)
                deleted += 1
    results = _delete_check_results(instance, before)
    context.log.info(f"Deleted {deleted} runs that began before {before:%Y-%m-%d}, and {results} results of checks.")
    context.add_output_metadata({"runs": deleted, "check_results": results})


_FINISHED = (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)


def _newest_of_partitions(instance: dg.DagsterInstance, asset: dg.AssetKey) -> set[str]:
    """The runs that materialised one of the asset's partitions last."""
    materialized = dg.DagsterEventType.ASSET_MATERIALIZATION
    newest = instance.event_log_storage.get_latest_storage_id_by_partition(asset, materialized)
    if not newest:
        return set()
    events = instance.event_log_storage.get_event_records(
        dg.EventRecordsFilter(event_type=materialized, asset_key=asset, storage_ids=[*newest.values()])
    )
    return {record.run_id for record in events}


def _delete_check_results(instance: dg.DagsterInstance, before: datetime) -> int:
    """Dagster leaves them when it deletes their run. The alerts read the newest ones, and the newest complete ones."""
    storage = instance.event_log_storage
    if not isinstance(storage, SqlEventLogStorage):
        return 0
    results = AssetCheckExecutionsTable.c
    newest = select(func.max(results.id)).group_by(results.asset_key, results.check_name)
    complete = newest.where(results.execution_status.in_(("SUCCEEDED", "FAILED")))
    with storage.index_connection() as connection:
        return connection.execute(
            AssetCheckExecutionsTable.delete().where(
                results.create_timestamp < before.replace(tzinfo=None), results.id.not_in(newest), results.id.not_in(complete)
            )
        ).rowcount


@dg.op(
    description=f"Of what is older than {KEEP_LEDGER_DAYS} days, forget sync runs that prove nothing any more, and all but one of a day's"
    " balances."
)
def forget_what_proves_nothing(context: dg.OpExecutionContext, ledger: Ledger) -> None:
    """See ledger/retention.py."""
    before = datetime.now(UTC) - timedelta(days=KEEP_LEDGER_DAYS)
    forgotten = forget(ledger.engine, before=before)
    context.log.info(f"Forgot {forgotten.sync_runs} sync runs and {forgotten.balances} balances of before {before:%Y-%m-%d}.")
    context.add_output_metadata({"sync_runs": forgotten.sync_runs, "balances": forgotten.balances})


@dg.job(description="Retention: forget old runs of the schedules, and what the ledger needs no more.")
def prune_runs() -> None:
    """Both, neither of which waits for the other."""
    delete_old_runs()
    forget_what_proves_nothing()


prune_runs_schedule = schedule(prune_runs)
