"""Tenants, the rules that give them what is theirs, and what happened to them."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "cloud_tenant_events",
        sa.Column("event_id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column(
            "changes", postgresql.JSONB(astext_type=sa.Text()), nullable=False, comment="name, is_fallback, rules -> {before, after}"
        ),
        sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("event in ('declared', 'changed', 'withdrawn')", name=op.f("cloud_tenant_events_event_check")),
        sa.PrimaryKeyConstraint("event_id", name=op.f("cloud_tenant_events_pkey")),
        schema="arcadia",
        comment="What happened to tenants. Append-only; no foreign key, as events outlive what they tell of",
    )
    op.create_table(
        "cloud_tenants",
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("is_fallback", sa.Boolean(), nullable=False, comment="Has what no rule gives to another"),
        sa.Column(
            "role_name",
            sa.Text(),
            nullable=False,
            comment="Members of this role of the database see what is the tenant's, and nothing else",
        ),
        sa.PrimaryKeyConstraint("tenant_id", name=op.f("cloud_tenants_pkey")),
        schema="arcadia",
        comment="The tenants that the tenants' file declares",
    )
    op.create_index(
        "cloud_tenants_fallback_key", "cloud_tenants", ["is_fallback"], unique=True, schema="arcadia", postgresql_where="is_fallback"
    )
    op.create_table(
        "tenant_rules",
        sa.Column(
            "place", sa.Integer(), autoincrement=False, nullable=False, comment="In the tenants' file: the first rule that fits counts"
        ),
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("project", sa.Text(), nullable=True, comment="Name or provider's id of a project"),
        sa.Column("tag", sa.Text(), nullable=True, comment="A tag of the resource"),
        sa.Column("name", sa.Text(), nullable=True, comment="A glob (* and ?) that the resource's name fits, case ignored"),
        sa.Column("kind", sa.Text(), nullable=True, comment="With tag or name: the resource's kind. NULL: any"),
        sa.CheckConstraint(
            "num_nonnulls(project, tag, name) = 1 and (kind is null or project is null)", name=op.f("tenant_rules_selector_check")
        ),
        sa.ForeignKeyConstraint(["tenant_id"], ["arcadia.cloud_tenants.tenant_id"], name=op.f("tenant_rules_tenant_id_fkey")),
        sa.PrimaryKeyConstraint("place", name=op.f("tenant_rules_pkey")),
        schema="arcadia",
        comment="What belongs to whom, as the tenants' file says",
    )
    op.create_index(op.f("resource_names_name_idx"), "resource_names", ["name"], unique=False, schema="arcadia")
    op.add_column(
        "resources",
        sa.Column(
            "tenant_given",
            sa.Text(),
            nullable=True,
            comment="On a project: what the tenants' file gave. Where tenant_id is another, the operator set it",
        ),
        schema="arcadia",
    )
    op.alter_column(
        "resources",
        "tenant_id",
        existing_type=sa.TEXT(),
        comment="Whose it is: by a rule of the tenants' file, else the project's. On a project: the operator's to set",
        existing_comment="On a project: set by the operator, never by a sync. Elsewhere: the project's",
        existing_nullable=True,
        schema="arcadia",
    )
    # A session keeps the plan of the trigger's join: one made while nothing changed would compare each of many rows with each.
    op.execute("alter function arcadia.queue_rematch() set enable_nestloop = off")
