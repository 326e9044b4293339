"""When the FOCUS files are written, once the lines of a month have changed, and when the report is. Months and times are UTC's."""

import json
from datetime import datetime

import dagster as dg
from sqlalchemy import Engine, text

from arcadia_dagster.defs.billing.jobs import neighbours, range_tags
from arcadia_dagster.defs.costs.assets import months
from arcadia_dagster.defs.resources import Ledger
from arcadia_dagster.defs.scheduling import reason_to_skip, schedule

export_focus = dg.define_asset_job(
    "export_focus",
    selection=dg.AssetSelection.assets("focus_export"),
    description="The FOCUS files of its partitions; any number of months in one run.",
)


def last_changes(engine: Engine) -> dict[str, datetime]:
    """When the lines of each month were last stored or matched anew, by partition key; months without lines are left out."""
    query = """
        select to_char(i.period, 'YYYY-MM') as month, greatest(max(i.ingested_at), max(e.at)) as changed
          from arcadia.cloud_invoices i
          left join (select invoice_uuid, max(occurred_at) as at from arcadia.cloud_match_events group by 1) e using (invoice_uuid)
         where i.status <> 'preview' and i.line_count > 0 and i.ingested_at is not null
         group by i.period"""
    with engine.connect() as conn:
        return {row.month: row.changed for row in conn.execute(text(query))}


@dg.sensor(
    job=export_focus,
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Runs export_focus for months whose lines have been stored or matched anew; a whole history is one run.",
)
def changed_months(context: dg.SensorEvaluationContext, ledger: Ledger) -> dg.SensorResult | dg.SkipReason:
    """Request runs for the months that have changed since they were last requested. Asks the ledger only."""
    for job_name in ("ingest_invoices", "export_focus"):  # a month is not exported while more of it may come
        if reason := reason_to_skip(context.instance, job_name, None):
            return dg.SkipReason(reason)
    keys = months.get_partition_keys()
    requested: dict[str, str] = json.loads(context.cursor or "{}")
    changes = last_changes(ledger.engine)
    current = {key: changes[key].isoformat() for key in keys if key in changes}
    wanted = [key for key, changed in current.items() if requested.get(key) != changed]
    if not wanted:
        return dg.SkipReason("No month has changed since it was last exported.")
    return dg.SensorResult(
        run_requests=[dg.RunRequest(tags=range_tags(*ends)) for ends in neighbours(wanted, keys)], cursor=json.dumps(current)
    )


write_report = dg.define_asset_job(
    "write_report",
    selection=dg.AssetSelection.assets("cost_report"),
    description="The costs as one HTML page, of what the ledger holds by then.",
)

write_report_schedule = schedule(write_report)
