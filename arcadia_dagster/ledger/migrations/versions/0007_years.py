"""Indexes for a ledger of many years: what is asked for every quarter of an hour is found without reading all that ever was."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

BY_NAME = sa.text("look_up in ('name', 'parent', 'group') and provider_resource_id is null and provider_resource_uuid is null")


def upgrade() -> None:
    op.create_index(op.f("cloud_resource_events_sync_run_id_idx"), "cloud_resource_events", ["sync_run_id"], schema="arcadia")
    op.drop_index("cloud_resource_events_resized_idx", "cloud_resource_events", schema="arcadia")
    op.create_index(
        "cloud_resource_events_resized_idx",
        "cloud_resource_events",
        ["resource_id"],
        schema="arcadia",
        postgresql_where=sa.text("changes ? 'size_slug'"),
    )
    op.create_index(
        "resources_active_idx", "resources", ["account_id", "kind"], schema="arcadia", postgresql_where=sa.text("deleted_at is null")
    )
    op.create_index(
        "cloud_cost_lines_open_idx",
        "cloud_cost_lines",
        ["invoice_uuid"],
        schema="arcadia",
        postgresql_where=sa.text("match_status in ('ambiguous', 'unmatched')"),
    )
    op.drop_index("cloud_cost_lines_by_name_idx", "cloud_cost_lines", schema="arcadia")
    for what in ("name_key", "ended_at"):
        op.create_index(
            f"cloud_cost_lines_by_name_{what}_idx",
            "cloud_cost_lines",
            ["account_id", "kind", what],
            schema="arcadia",
            postgresql_where=BY_NAME,
        )
    op.create_index(
        "cloud_cost_lines_of_service_idx",
        "cloud_cost_lines",
        ["account_id", "component"],
        schema="arcadia",
        postgresql_where=sa.text("component like 'load balancer a%'"),
    )
