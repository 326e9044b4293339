"""The least that a Dagster run can be: one asset that does nothing, in a code location of its own. `dagster_share.py` launches it."""

import dagster as dg


@dg.asset
def nothing() -> None:
    """Do nothing."""


defs = dg.Definitions(assets=[nothing], jobs=[dg.define_asset_job("one_step", selection=[nothing])], executor=dg.in_process_executor)
