"""What is read of the inventory together; when is said in `scheduling.py`."""

import dagster as dg

from arcadia_dagster.defs.accounts import ACCOUNTS
from arcadia_dagster.defs.inventory.assets import LISTING_COMPLETE
from arcadia_dagster.defs.scheduling import schedule
from arcadia_dagster.digitalocean.kinds import KINDS


def _assets(job: str) -> dg.AssetSelection:
    """What is listed in a job, with the proof that it was in full: of several accounts, each has a run of it."""
    names = [kind.asset for kind in KINDS.values() if kind.asset and kind.job == job]
    if job == "sync_inventory":
        names.append("project_resources")
    complete = (dg.AssetCheckKey(dg.AssetKey(name), LISTING_COMPLETE) for name in names)
    return dg.AssetSelection.assets(*names).without_checks() | dg.AssetSelection.checks(*complete)


# These read all that the ledger ever held, so they have a job of their own.
_of_all_time = dg.AssetSelection.checks(
    *(dg.AssetCheckKey(dg.AssetKey("project_resources"), name) for name in ("tombstones_are_proven", "no_secret_is_kept"))
)
# The rest of what is of the ledger as a whole.
_of_all_accounts = dg.AssetSelection.assets("tenants") | dg.AssetSelection.checks_for_assets("project_resources") - _of_all_time

sync_inventory = dg.define_asset_job(
    "sync_inventory",
    selection=_assets("sync_inventory") if ACCOUNTS else _assets("sync_inventory") | _of_all_accounts,
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
check_ledger = dg.define_asset_job(
    "check_ledger", selection=_of_all_time, description="That nothing left the ledger without proof, and that it keeps no secret."
)
sync_backups = dg.define_asset_job("sync_backups", selection=_assets("sync_backups"), description="Backups of droplets.")

schedules = [
    schedule(sync_inventory),
    schedule(sync_catalogue),
    schedule(sync_snapshots),
    schedule(sync_backups),
    schedule(check_ledger),
]

if ACCOUNTS:
    check_inventory = dg.define_asset_job(
        "check_inventory",
        selection=_of_all_accounts - dg.AssetSelection.checks(dg.AssetCheckKey(dg.AssetKey("project_resources"), LISTING_COMPLETE)),
        description="The tenants' file, and what is looked at every time in the inventory of all accounts.",
    )
    schedules.append(schedule(check_inventory))
