"""Where the tokens of an accounts' file lead to."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "configured_accounts",
        sa.Column("name", sa.Text(), nullable=False, comment="As the accounts' file names it"),
        sa.Column("purpose", sa.Text(), nullable=False, comment="Of the token: inventory or billing"),
        sa.Column("account_id", sa.BigInteger(), nullable=True, comment="The account that the token led to last; NULL: to none yet"),
        sa.Column("former_account_id", sa.BigInteger(), nullable=True, comment="The other one that the name led to before"),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=True, comment="Since when it leads to another"),
        sa.Column("tried_at", sa.DateTime(timezone=True), nullable=False, comment="When the token was last used"),
        sa.Column("error", sa.Text(), nullable=True, comment="Why it led nowhere then; NULL: it did lead to the account"),
        sa.CheckConstraint("purpose in ('inventory', 'billing')", name=op.f("configured_accounts_purpose_check")),
        sa.ForeignKeyConstraint(["account_id"], ["arcadia.cloud_accounts.account_id"], name=op.f("configured_accounts_account_id_fkey")),
        sa.ForeignKeyConstraint(
            ["former_account_id"], ["arcadia.cloud_accounts.account_id"], name=op.f("configured_accounts_former_account_id_fkey")
        ),
        sa.PrimaryKeyConstraint("name", "purpose", name=op.f("configured_accounts_pkey")),
        schema="arcadia",
        comment="Where the tokens of the accounts' file lead to. Empty where it does not name several",
    )
