"""What the ledger forgets: sync runs that prove nothing any more, and all but one of a day's balances.

Nothing else is ever forgotten: resources, names, events, invoices, lines and their matches stay for good. When this is done is decided in
`defs/`.
"""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Engine, text


@dataclass(frozen=True, kw_only=True)
class Forgotten:
    """How many rows went."""

    sync_runs: int
    balances: int


def forget(engine: Engine, *, before: datetime) -> Forgotten:
    """Forget what is older than `before` and proves nothing.

    A sync run stays that is named by an event or changed something; that is the complete one before such a run, as what changed did so
    between the two; that is the newest complete one of its kind, or the newest that asked the provider; or that is the last failed one of
    its kind and day. Of balances the last of each day in UTC stays, by the time of its figures.

    Each kind of each account is done in a transaction of its own, so that whoever is stopped in the middle leaves a whole ledger and less
    to do.
    """
    with engine.connect() as conn:
        kinds = conn.execute(
            text("select distinct account_id, kind from arcadia.cloud_sync_runs where started_at < :before order by 1, 2"),
            {"before": before},
        ).all()
    sync_runs = 0
    for account_id, kind in kinds:
        with engine.begin() as conn:
            values = {"account_id": account_id, "kind": kind, "before": before}
            sync_runs += conn.execute(text(_SYNC_RUNS), values).rowcount
    with engine.begin() as conn:
        balances = conn.execute(text(_BALANCES), {"before": before}).rowcount
    return Forgotten(sync_runs=sync_runs, balances=balances)


# `place`: how many complete runs there were before. The runs of place n + 1 are those after complete run n up to the next complete one.
_SYNC_RUNS = """
with run as materialized (
    select sync_run_id, started_at, coalesce(complete, false) as complete, coalesce(requests, 0) > 0 as asked,
           greatest(discovered, updated, restored, struck, deleted) > 0 as changed,
           count(*) filter (where complete) over (order by started_at, sync_run_id
                                                  rows between unbounded preceding and 1 preceding) as place
      from arcadia.cloud_sync_runs where account_id = :account_id and kind = :kind
), forgotten as (
    select sync_run_id from run
     where started_at < :before and changed is not true
       and not (complete and place + 1 in (select place from run where changed))
    except
    (select sync_run_id from run where complete order by started_at desc, sync_run_id desc limit 1)
    except
    (select sync_run_id from run where complete and asked order by started_at desc, sync_run_id desc limit 1)
    except
    (select distinct on (date_trunc('day', started_at, 'UTC')) sync_run_id from run where not complete
      order by date_trunc('day', started_at, 'UTC'), started_at desc, sync_run_id desc)
)
delete from arcadia.cloud_sync_runs s using forgotten f
 where s.sync_run_id = f.sync_run_id
   and not exists (select from arcadia.cloud_resource_events e
                    where e.sync_run_id = s.sync_run_id and e.event <> 'discovered')"""  # which it would itself say

# As the report reads them: by the time of the figures, and where they are given.
_BALANCES = """
delete from arcadia.cloud_balance_snapshots s
 using (select balance_snapshot_id,
               row_number() over (partition by account_id, date_trunc('day', coalesce(generated_at, taken_at), 'UTC')
                                  order by month_to_date_usage is null, coalesce(generated_at, taken_at) desc, taken_at desc,
                                           balance_snapshot_id desc) as place
          from arcadia.cloud_balance_snapshots) b
 where b.balance_snapshot_id = s.balance_snapshot_id and b.place > 1 and s.taken_at < :before"""
