"""An index that holds the projects alone, which are few: whoever asks for a resource's project reads no list of all resources."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("resources_projects_idx", "resources", ["resource_id"], schema="arcadia", postgresql_where=sa.text("kind = 'project'"))
