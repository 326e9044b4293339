"""When the inventory is read. All times are UTC; minutes are spread so that the account's request budget is not asked for at once."""

import dagster as dg

from arcadia_dagster.defs.scheduling import schedule
from arcadia_dagster.digitalocean.kinds import KINDS

_OWN_SCHEDULE = {"snapshots", "droplet_backups"}

sync_inventory = dg.define_asset_job(
    "sync_inventory",
    selection=[kind.asset for kind in KINDS.values() if kind.asset and kind.asset not in _OWN_SCHEDULE] + ["project_resources"],
    description="Everything that the account has, but for snapshots and backups, and which project it is in.",
)
sync_snapshots = dg.define_asset_job("sync_snapshots", selection=["snapshots"], description="Snapshots of droplets and volumes.")
sync_backups = dg.define_asset_job("sync_backups", selection=["droplet_backups"], description="Backups of droplets.")

schedules = [
    schedule(sync_inventory, "*/15 * * * *", purpose="inventory"),
    schedule(sync_snapshots, "33 * * * *", purpose="inventory"),
    schedule(sync_backups, "41 * * * *", purpose="inventory"),
]
