"""A resource's row holds the digest of its item, and an index all that a listing compares: where nothing changed, no row is read.

The digests of the release before are of an older edition of the code, so every item is read once. Its processes, where one still runs, fail
at the table that has another name: they would not keep the digest of what they write. What is written with its resource needs no foreign
key: to look each up again took a third of the time.
"""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "resources",
        sa.Column(
            "item_digest",
            sa.LargeBinary(),
            comment="Of the item's bytes as they came, and of the code that read them: one that looks the same need not be read again",
        ),
        schema="arcadia",
    )
    op.drop_index("resources_active_idx", "resources", schema="arcadia")
    op.create_index(
        "resources_active_idx",
        "resources",
        ["account_id", "kind"],
        schema="arcadia",
        postgresql_where=sa.text("deleted_at is null"),
        postgresql_include=["provider_id", "item_digest", "stale_strike_count"],
    )
    op.drop_table("item_digests", schema="arcadia")
    op.create_table(
        "item_lookalikes",
        sa.Column("resource_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("item_digest", sa.LargeBinary(), nullable=False, comment="Like the one in resources"),
        sa.Column(
            "fingerprint",
            sa.LargeBinary(),
            nullable=False,
            comment="What it reads as; where the resource has another, the digest is void",
        ),
        sa.PrimaryKeyConstraint("resource_id", name=op.f("item_lookalikes_pkey")),
        schema="arcadia",
        comment="The last item of a resource that looked otherwise than what its row was written from, and read the same",
    )
    op.drop_constraint("resource_names_resource_id_fkey", "resource_names", schema="arcadia")
    op.drop_constraint("cloud_resource_events_resource_id_fkey", "cloud_resource_events", schema="arcadia")
    op.drop_constraint("cloud_resource_events_account_id_fkey", "cloud_resource_events", schema="arcadia")
