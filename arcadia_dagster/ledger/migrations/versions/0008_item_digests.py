"""The digests of items as they came, and lz4 for what is long, where the server has it."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "item_digests",
        sa.Column("resource_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False, comment="Of the item's bytes as they came, and of the code that reads them"),
        sa.Column(
            "fingerprint",
            sa.LargeBinary(),
            nullable=False,
            comment="What they read as; where the resource has another, the digest is void",
        ),
        sa.PrimaryKeyConstraint("resource_id", name=op.f("item_digests_pkey")),
        schema="arcadia",
        comment="How each resource's item looked when it was last read: one that looks the same need not be read again",
    )
    has_lz4 = "select exists (select from pg_settings where name = 'default_toast_compression' and 'lz4' = any(enumvals))"
    if op.get_bind().scalar(sa.text(has_lz4)):  # a server may have been built without it
        for table, columns in _LONG.items():
            for column in columns:
                op.execute(f"alter table arcadia.{table} alter column {column} set compression lz4")


_LONG = {"resources": ["attrs"], "cloud_resource_events": ["changes"], "cloud_invoices": ["items_document", "csv_document"]}
