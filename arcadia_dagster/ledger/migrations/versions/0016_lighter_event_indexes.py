"""Two indexes of the events that a first listing need not fill row by row.

Events are appended in the order of time, so a summary of each stretch of the table finds those of a day. By their sync run only those are
looked for that the sync run's own counts do not tell of.
"""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for index in ("account_id_occurred_at_idx", "sync_run_id_idx"):
        op.drop_index(op.f(f"cloud_resource_events_{index}"), "cloud_resource_events", schema="arcadia")
    op.create_index(
        op.f("cloud_resource_events_occurred_at_idx"),
        "cloud_resource_events",
        ["occurred_at"],
        schema="arcadia",
        postgresql_using="brin",
    )
    op.create_index(
        op.f("cloud_resource_events_sync_run_id_idx"),
        "cloud_resource_events",
        ["sync_run_id"],
        schema="arcadia",
        postgresql_where=sa.text("event <> 'discovered'"),
    )
