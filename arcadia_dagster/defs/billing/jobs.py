"""What is read of billing together, and how invoices that are not yet ingested get ingested. When: see `scheduling.py`."""

from collections.abc import Iterable, Sequence

import dagster as dg
from sqlalchemy import Engine, text

from arcadia_dagster.defs.accounts import ACCOUNTS, account_tags
from arcadia_dagster.defs.billing.partitions import invoice_partitions, partition_key
from arcadia_dagster.defs.resources import Ledger
from arcadia_dagster.defs.scheduling import INGESTS, busy_accounts, reason_to_skip, schedule, still_busy
from arcadia_dagster.ledger.accounts import accounts_of

record_balance = dg.define_asset_job(
    "record_balance", selection=dg.AssetSelection.assets("balance_snapshots"), description="One reading of the account's balance."
)
discover_invoices = dg.define_asset_job(
    "discover_invoices",
    selection=dg.AssetSelection.assets("invoices", "invoice_preview")
    # What the month to date shows, or a line that has been matched since, is to be noticed within a day.
    | dg.AssetSelection.checks(
        *(
            dg.AssetCheckKey(dg.AssetKey("matched_cost_lines"), name)
            for name in ("no_unknown_product", "unexplained_money_is_little", "projects_cost_what_they_used_to")
        )
    ),
    description="Which invoices exist, and the month to date; new invoices are ingested by the sensor.",
)
ingest_invoices = dg.define_asset_job(
    INGESTS,
    selection=dg.AssetSelection.assets("cost_lines", "matched_cost_lines"),
    description="Documents, lines and matches of the invoices that its partitions name; any number of them in one run.",
)

schedules = [
    schedule(record_balance),
    schedule(discover_invoices),
]


def waiting_invoices(engine: Engine, account_id: int | None = None, *, retry_failed: bool = False) -> list[str]:
    """Partition keys of an account's invoices that want ingesting: pending ones, and those that went wrong and were last tried over a day
    ago (or all of those): failed ones, and for a week those that do not add up or whose documents disagree, as when one of them could not
    be had.

    Where no account is named: of the one whose invoices were listed last, which is the one that the configured token can read.
    """
    with engine.connect() as conn:
        rows = conn.execute(
            text(
                "select period, invoice_uuid from arcadia.cloud_invoices where (status = 'pending' or ((status = 'failed'"
                " or (status = 'ingested' and amount is not null and (discrepancy is not null or residual <> 0)"
                " and ingested_at > now() - interval '7 days'))"
                " and (:retry_failed or tried_at < now() - interval '24 hours'))) and account_id = coalesce(:account_id,"
                " (select account_id from arcadia.listings where kind = 'invoice' order by started_at desc limit 1))"
                " order by period, invoice_uuid"
            ),
            {"account_id": account_id, "retry_failed": retry_failed},
        ).all()
    return [partition_key(row.period, row.invoice_uuid) for row in rows]


def neighbours(wanted: Iterable[str], all_keys: Sequence[str]) -> list[tuple[str, str]]:
    """The wanted partitions as (first, last) ranges of partitions that stand side by side, since a run takes one range.

    A key that is no partition (yet) is left out.
    """
    remaining = set(wanted)
    ranges: list[tuple[str, str]] = []
    previous = None
    for key in all_keys:
        if key in remaining:
            ranges = [*ranges[:-1], (ranges[-1][0], key)] if ranges and previous == ranges[-1][1] else [*ranges, (key, key)]
        previous = key
    return ranges


def range_tags(first: str, last: str) -> dict[str, str]:
    """The run tags that make one run materialise all partitions from the first to the last."""
    return {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}


@dg.sensor(
    job=ingest_invoices,
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Runs ingest_invoices for invoices that are known but not ingested; a whole history is one run.",
)
def uningested_invoices(context: dg.SensorEvaluationContext, ledger: Ledger) -> dg.SensorResult | dg.SkipReason:
    """Request runs for what is waiting, each of one account. Asks the ledger only: no request is made to the provider."""
    waiting: dict[str | None, list[str]]
    if ACCOUNTS:
        busy = busy_accounts(context.instance, INGESTS)
        with ledger.engine.connect() as conn:
            accounts = accounts_of(conn, ACCOUNTS, "billing")
        first_names = {account_id: name for name, account_id in reversed(accounts.items())}  # one account can have several
        free = {name: account_id for name, account_id in accounts.items() if first_names[account_id] == name and name not in busy}
        waiting = {name: waiting_invoices(ledger.engine, account_id) for name, account_id in free.items()}
        nothing = still_busy(INGESTS, list(busy)) if busy else "Every known invoice is ingested."
    else:
        if reason := reason_to_skip(context.instance, INGESTS, "billing"):
            return dg.SkipReason(reason)
        waiting, nothing = {None: waiting_invoices(ledger.engine)}, "Every known invoice is ingested."
    wanted = [key for keys in waiting.values() for key in keys]
    if not wanted:
        return dg.SkipReason(nothing)
    assert invoice_partitions.name is not None  # noqa: S101  # it is named where it is defined
    known = context.instance.get_dynamic_partitions(invoice_partitions.name)
    # A fresh database of Dagster's own may not know partitions that the ledger does.
    missing = sorted(set(wanted) - set(known))
    requests = [
        dg.RunRequest(tags={**range_tags(first, last), **(account_tags(name) if name else {})})
        for name, keys in waiting.items()
        for first, last in neighbours(keys, [*known, *missing])[:25]
    ]
    return dg.SensorResult(
        run_requests=requests,
        dynamic_partitions_requests=[invoice_partitions.build_add_request(missing)] if missing else [],
    )
