"""What a listing compares is read from an index: the rows themselves are many times as large."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_index("resources_active_idx", "resources", schema="arcadia")
    op.create_index(
        "resources_active_idx",
        "resources",
        ["account_id", "kind"],
        schema="arcadia",
        postgresql_where=sa.text("deleted_at is null"),
        postgresql_include=["resource_id", "provider_id", "fingerprint", "stale_strike_count"],
    )
