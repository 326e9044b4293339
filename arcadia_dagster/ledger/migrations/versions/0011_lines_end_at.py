"""Storing a line costs less: one index by name instead of two; which lines end late is known by invoice."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

BY_NAME = sa.text("look_up in ('name', 'parent', 'group') and provider_resource_id is null and provider_resource_uuid is null")


def upgrade() -> None:
    op.add_column(
        "cloud_invoices",
        sa.Column("lines_end_at", sa.DateTime(timezone=True), nullable=True, comment="When the last of its lines ends"),
        schema="arcadia",
    )
    op.execute(
        "update arcadia.cloud_invoices i set lines_end_at = l.ended_at from (select invoice_uuid, max(ended_at) as ended_at"
        " from arcadia.cloud_cost_lines group by invoice_uuid) l where l.invoice_uuid = i.invoice_uuid"
    )
    for what in ("name_key", "ended_at"):
        op.drop_index(f"cloud_cost_lines_by_name_{what}_idx", "cloud_cost_lines", schema="arcadia")
    op.create_index(
        "cloud_cost_lines_by_name_idx", "cloud_cost_lines", ["name_key", "account_id"], schema="arcadia", postgresql_where=BY_NAME
    )
