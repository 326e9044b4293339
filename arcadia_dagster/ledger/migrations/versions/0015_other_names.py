"""The name that a resource has is in its own row alone, with the key it is found by; a table beside has the others.

Nearly every resource has one name for ever, and kept twice it cost a first listing another row and three entries in indexes. Processes of
the release before, where one still runs, fail at the table that has another name.
"""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "resources",
        sa.Column("name_key", sa.Text(), comment="The name as names are compared: case-folded, white space collapsed"),
        schema="arcadia",
    )
    op.add_column(
        "resources",
        sa.Column(
            "name_seen_from",
            sa.DateTime(timezone=True),
            comment="When its old name was last seen; NULL: its first name, borne since its creation as far as is known",
        ),
        schema="arcadia",
    )
    op.execute(
        "update arcadia.resources r set name_key = n.name_key, name_seen_from = n.seen_from"
        " from arcadia.resource_names n where n.resource_id = r.resource_id and n.name = r.name"
    )
    _spelled_otherwise()
    op.alter_column("resources", "name_key", nullable=False, schema="arcadia")
    op.execute(
        "delete from arcadia.resource_names n using arcadia.resources r where n.resource_id = r.resource_id and n.name_key = r.name_key"
    )
    op.rename_table("resource_names", "other_names", schema="arcadia")
    for index in ("pkey", "name_key_idx", "name_idx"):
        op.execute(f"alter index arcadia.resource_names_{index} rename to other_names_{index}")
    op.create_table_comment(
        "other_names",
        "Every name a resource ever had, beside the one in resources; read all through resources_by_name",
        schema="arcadia",
    )
    for column, comment in (
        ("name_key", "Like the one in resources"),
        ("seen_from", "Like name_seen_from in resources"),
        ("seen_until", "When another name was first seen; NULL: one of several that invoices give it"),
    ):
        op.alter_column("other_names", column, comment=comment, schema="arcadia")
    op.create_index(op.f("resources_name_key_idx"), "resources", ["name_key"], schema="arcadia")
    op.create_index("resources_project_name_idx", "resources", ["name"], schema="arcadia", postgresql_where=sa.text("kind = 'project'"))


def _spelled_otherwise() -> None:
    """Of several spellings of a name that invoices give, one was kept, which need not be that of the resource."""
    connection = op.get_bind()
    rows = connection.execute(sa.text("select resource_id, name from arcadia.resources where name_key is null")).all()
    connection.execute(
        sa.text(
            "update arcadia.resources r set name_key = g.name_key, name_seen_from = (select seen_from from arcadia.resource_names n"
            " where n.resource_id = g.resource_id and n.name_key = g.name_key)"
            " from unnest(cast(:ids as bigint[]), cast(:keys as text[])) g (resource_id, name_key) where r.resource_id = g.resource_id"
        ),
        {"ids": [row.resource_id for row in rows], "keys": [" ".join(row.name.casefold().split()) for row in rows]},
    )
