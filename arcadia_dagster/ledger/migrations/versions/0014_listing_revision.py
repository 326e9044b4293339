"""Whether something has been recorded of a kind since it was looked at: what a listing is compared with is read before it begins."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "listings",
        sa.Column(
            "revision",
            sa.BigInteger(),
            server_default=sa.text("0"),
            nullable=False,
            comment="Counts what has been recorded of the kind since",
        ),
        schema="arcadia",
    )
