"""Keys of the read API."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "api_keys",
        sa.Column("key_id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("name", sa.Text(), nullable=False, comment="Who uses it, as its maker says"),
        sa.Column("digest", sa.LargeBinary(), nullable=False, comment="SHA-256 of the key, which itself is kept nowhere"),
        sa.Column("role_name", sa.Text(), nullable=False, comment="The database's role under which its requests are answered"),
        sa.Column("tenant_id", sa.Text(), nullable=True, comment="NULL: an admin's"),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True, comment="NULL: it is valid"),
        sa.CheckConstraint(
            "role_name = case when tenant_id is null then 'arcadia_admin' else 'arcadia_tenant_' || tenant_id end",
            name=op.f("api_keys_role_name_check"),
        ),
        sa.PrimaryKeyConstraint("key_id", name=op.f("api_keys_pkey")),
        sa.UniqueConstraint("digest", name=op.f("api_keys_digest_key")),
        schema="arcadia",
        comment="Keys of the read API. For the owner of the schema alone",
    )
