"""When the inventory is read. All times are UTC; minutes are spread so that the account's request budget is not asked for at once."""

import dagster as dg

from arcadia_dagster.defs.scheduling import schedule
from arcadia_dagster.digitalocean.kinds import KINDS


def _assets(job: str) -> list[str]:
    return [kind.asset for kind in KINDS.values() if kind.asset and kind.job == job]


sync_inventory = dg.define_asset_job(
    "sync_inventory",
    selection=["tenants", *_assets("sync_inventory"), "project_resources"],
    description="Everything that the account has and pays for by the hour, which project it is in, and whose it is.",
)
sync_catalogue = dg.define_asset_job(
    "sync_catalogue",
    selection=_assets("sync_catalogue"),
    description="What is free or changes slowly, and what takes a request for each region.",
)
sync_snapshots = dg.define_asset_job(
    "sync_snapshots", selection=_assets("sync_snapshots"), description="Snapshots of droplets and volumes."
)
sync_backups = dg.define_asset_job("sync_backups", selection=_assets("sync_backups"), description="Backups of droplets.")

schedules = [
    schedule(sync_inventory, "*/15 * * * *", purpose="inventory"),
    schedule(sync_catalogue, "52 * * * *", purpose="inventory"),
    schedule(sync_snapshots, "33 * * * *", purpose="inventory"),
    schedule(sync_backups, "41 * * * *", purpose="inventory"),
]
