"""When the report is written. All times are UTC."""

import dagster as dg

write_report = dg.define_asset_job(
    "write_report",
    selection=["cost_report"],
    description="The costs as one HTML page, of what the ledger holds by then.",
)

# After the day's invoices have been discovered and ingested. It asks the provider nothing, so it needs no token.
write_report_schedule = dg.ScheduleDefinition(
    job=write_report,
    cron_schedule="37 3 * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
