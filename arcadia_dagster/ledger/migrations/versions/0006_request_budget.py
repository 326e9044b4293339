"""The request budget of each token, shared by all programs of a ledger."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "request_budgets",
        sa.Column("token_digest", sa.LargeBinary(), nullable=False, comment="SHA-256 of the token"),
        sa.Column("hourly_limit", sa.Integer(), nullable=True, comment="Requests an hour, as the provider said last; NULL: it has not"),
        sa.Column(
            "others", sa.Integer(), server_default=sa.text("0"), nullable=False, comment="Requests of the hour that other programs made"
        ),
        sa.Column(
            "others_until", sa.DateTime(timezone=True), nullable=True, comment="When the provider forgets the oldest request of the hour"
        ),
        sa.Column(
            "not_before", sa.DateTime(timezone=True), nullable=True, comment="When the provider will be asked again, after it asked to wait"
        ),
        sa.Column("reason", sa.Text(), nullable=True, comment="Why it is not asked before"),
        sa.PrimaryKeyConstraint("token_digest", name=op.f("request_budgets_pkey")),
        schema="arcadia",
        comment="What the provider said of the requests that each token may make. Its row is locked while a request is counted",
    )
    op.create_table(
        "request_counts",
        sa.Column("token_digest", sa.LargeBinary(), nullable=False),
        sa.Column("prefix", sa.Text(), nullable=False, comment="Of the paths that the limit is for; empty: all"),
        sa.Column("seconds", sa.Float(), nullable=False, comment="The period of the limit"),
        sa.Column(
            "counted_until",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="A whole period after the end of the sixtieth that they were sent in",
        ),
        sa.Column("requests", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("token_digest", "prefix", "seconds", "counted_until", name=op.f("request_counts_pkey")),
        schema="arcadia",
        comment="The requests that count against the limits of a token now, made by all programs of this ledger",
    )
