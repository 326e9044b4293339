"""The first tables."""
# ruff: noqa: E501

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "cloud_accounts",
        sa.Column("account_id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("provider", sa.Text(), server_default=sa.text("'digitalocean'"), nullable=False),
        sa.Column(
            "team_uuid", sa.Text(), nullable=True, comment="The team that /v2/account reports; NULL: known from imported invoices only"
        ),
        sa.Column("name", sa.Text(), nullable=False, comment="The team's name, or the name given to an import"),
        sa.PrimaryKeyConstraint("account_id", name=op.f("cloud_accounts_pkey")),
        sa.UniqueConstraint("provider", "team_uuid", name=op.f("cloud_accounts_provider_team_uuid_key")),
        schema="arcadia",
        comment="One DigitalOcean team each. Every other row belongs to one",
    )
    op.create_index(
        "cloud_accounts_imported_name_key",
        "cloud_accounts",
        ["name"],
        unique=True,
        schema="arcadia",
        postgresql_where=sa.text("team_uuid IS NULL"),
    )
    op.create_table(
        "schema_views",
        sa.Column("digest", sa.Text(), nullable=False, comment="Of the view definitions that are in place"),
        sa.PrimaryKeyConstraint("digest", name=op.f("schema_views_pkey")),
        schema="arcadia",
        comment="Which edition of the views this schema has",
    )
    op.create_table(
        "cloud_balance_snapshots",
        sa.Column("balance_snapshot_id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("account_id", sa.BigInteger(), nullable=False),
        sa.Column("month_to_date_balance", sa.Numeric(), nullable=True, comment="USD: account_balance and month_to_date_usage together"),
        sa.Column("account_balance", sa.Numeric(), nullable=True, comment="USD, without this month's usage"),
        sa.Column("month_to_date_usage", sa.Numeric(), nullable=True, comment="USD"),
        sa.Column("generated_at", sa.DateTime(timezone=True), nullable=True, comment="When the provider worked the figures out"),
        sa.Column("taken_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"], ["arcadia.cloud_accounts.account_id"], name=op.f("cloud_balance_snapshots_account_id_fkey")
        ),
        sa.PrimaryKeyConstraint("balance_snapshot_id", name=op.f("cloud_balance_snapshots_pkey")),
        schema="arcadia",
        comment="The account's balance over time",
    )
    op.create_index(
        op.f("cloud_balance_snapshots_account_id_taken_at_idx"),
        "cloud_balance_snapshots",
        ["account_id", "taken_at"],
        unique=False,
        schema="arcadia",
    )
    op.create_table(
        "cloud_invoices",
        sa.Column("invoice_uuid", sa.Text(), nullable=False),
        sa.Column("account_id", sa.BigInteger(), nullable=False),
        sa.Column("invoice_id", sa.Text(), nullable=True, comment="The number on its face"),
        sa.Column("period", sa.Date(), nullable=False, comment="First day of the month it bills; a month can have several invoices"),
        sa.Column(
            "amount", sa.Numeric(), nullable=True, comment="USD as the provider states it; NULL for an imported file, which does not say"
        ),
        sa.Column("issued_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("status", sa.Text(), server_default=sa.text("'pending'"), nullable=False),
        sa.Column("tried_at", sa.DateTime(timezone=True), nullable=True, comment="When it was last read, with or without success"),
        sa.Column("ingested_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("line_count", sa.Integer(), nullable=True),
        sa.Column("line_total", sa.Numeric(), nullable=True, comment="USD: the lines added up"),
        sa.Column(
            "residual", sa.Numeric(), nullable=True, comment="USD: amount less line_total. Anything but 0 is money that no line explains"
        ),
        sa.Column("discrepancy", sa.Text(), nullable=True, comment="Where the JSON items and the CSV document disagree"),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("items_document", sa.LargeBinary(), nullable=True, comment="The JSON items as received, one array"),
        sa.Column("items_sha256", sa.Text(), nullable=True),
        sa.Column("csv_document", sa.LargeBinary(), nullable=True, comment="The CSV as received"),
        sa.Column("csv_sha256", sa.Text(), nullable=True),
        sa.Column("lines_sha256", sa.Text(), nullable=True, comment="Of the lines as parsed: the same again are not written again"),
        sa.CheckConstraint("status <> 'failed' or error is not null", name=op.f("cloud_invoices_failure_says_why_check")),
        sa.CheckConstraint("status in ('pending', 'ingested', 'failed')", name=op.f("cloud_invoices_status_check")),
        sa.ForeignKeyConstraint(["account_id"], ["arcadia.cloud_accounts.account_id"], name=op.f("cloud_invoices_account_id_fkey")),
        sa.PrimaryKeyConstraint("invoice_uuid", name=op.f("cloud_invoices_pkey")),
        schema="arcadia",
        comment="Every invoice, its documents, and how its lines add up",
    )
    op.create_index(
        op.f("cloud_invoices_account_id_csv_sha256_idx"), "cloud_invoices", ["account_id", "csv_sha256"], unique=False, schema="arcadia"
    )
    op.create_index(
        op.f("cloud_invoices_account_id_period_idx"), "cloud_invoices", ["account_id", "period"], unique=False, schema="arcadia"
    )
    op.create_table(
        "cloud_sync_runs",
        sa.Column("sync_run_id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("account_id", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("dagster_run_id", sa.Text(), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False, comment="Before the first request, by the database's clock"),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True, comment="NULL: still running, or killed"),
        sa.Column(
            "complete", sa.Boolean(), nullable=True, comment="Every page was read without error and held as many items as the provider said"
        ),
        sa.Column("seen", sa.Integer(), nullable=True),
        sa.Column("discovered", sa.Integer(), nullable=True),
        sa.Column("updated", sa.Integer(), nullable=True, comment="Changed in a field that means something"),
        sa.Column("restored", sa.Integer(), nullable=True),
        sa.Column("struck", sa.Integer(), nullable=True, comment="Missing from this listing, not yet given up"),
        sa.Column("deleted", sa.Integer(), nullable=True, comment="Missing for the third time in a row, tombstoned"),
        sa.Column("requests", sa.Integer(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["account_id"], ["arcadia.cloud_accounts.account_id"], name=op.f("cloud_sync_runs_account_id_fkey")),
        sa.PrimaryKeyConstraint("sync_run_id", name=op.f("cloud_sync_runs_pkey")),
        schema="arcadia",
        comment="The proof of a listing: one row for each attempt to read one kind of one account",
    )
    op.create_index(
        op.f("cloud_sync_runs_account_id_kind_started_at_idx"),
        "cloud_sync_runs",
        ["account_id", "kind", "started_at"],
        unique=False,
        schema="arcadia",
    )
    op.create_table(
        "listings",
        sa.Column("account_id", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["arcadia.cloud_accounts.account_id"], name=op.f("listings_account_id_fkey")),
        sa.PrimaryKeyConstraint("account_id", "kind", name=op.f("listings_pkey")),
        schema="arcadia",
        comment="The newest complete listing of each kind: what it did not report missing was seen at that time",
    )
    op.create_table(
        "project_memberships",
        sa.Column("account_id", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("provider_id", sa.Text(), nullable=False),
        sa.Column("project_id", sa.Text(), nullable=False, comment="The provider's id of the project"),
        sa.ForeignKeyConstraint(["account_id"], ["arcadia.cloud_accounts.account_id"], name=op.f("project_memberships_account_id_fkey")),
        sa.PrimaryKeyConstraint("account_id", "kind", "provider_id", name=op.f("project_memberships_pkey")),
        schema="arcadia",
        comment="What the newest complete walk of all projects found in them",
    )
    op.create_table(
        "resources",
        sa.Column("resource_id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("account_id", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("provider_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("region", sa.Text(), nullable=True),
        sa.Column("status", sa.Text(), nullable=True),
        sa.Column("tags", postgresql.ARRAY(sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column(
            "attrs",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'"),
            nullable=False,
            comment="Allow-listed fields of the provider's object",
        ),
        sa.Column("monthly_price", sa.Numeric(), nullable=True, comment="USD a month at list price, where the provider says one"),
        sa.Column("own_project_id", sa.Text(), nullable=True, comment="The project id that the object itself carries"),
        sa.Column("parent_kind", sa.Text(), nullable=True),
        sa.Column("parent_provider_id", sa.Text(), nullable=True, comment="What a snapshot or backup was taken of"),
        sa.Column("cloud_project_id", sa.BigInteger(), nullable=True),
        sa.Column(
            "tenant_id", sa.Text(), nullable=True, comment="On a project: set by the operator, never by a sync. Elsewhere: the project's"
        ),
        sa.Column("attribution_source", sa.Text(), nullable=True, comment="membership, own_project_id, inherited or fallback"),
        sa.Column("provider_created_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("first_seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column(
            "last_seen_at",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="When this row was last written as seen; the views know better",
        ),
        sa.Column("stale_strike_count", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("last_struck_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "deleted_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="Tombstone: given up after the third complete listing without it",
        ),
        sa.Column(
            "billing_only",
            sa.Boolean(),
            server_default=sa.text("false"),
            nullable=False,
            comment="Known from invoices alone: gone before the first listing",
        ),
        sa.Column("fingerprint", sa.LargeBinary(), nullable=True, comment="Digest of everything the provider said that means something"),
        sa.CheckConstraint(
            "attribution_source in ('membership', 'own_project_id', 'inherited', 'fallback')",
            name=op.f("resources_attribution_source_check"),
        ),
        sa.CheckConstraint("not billing_only or deleted_at is not null", name=op.f("resources_billing_only_is_gone_check")),
        sa.CheckConstraint("stale_strike_count between 0 and 3", name=op.f("resources_strikes_check")),
        sa.ForeignKeyConstraint(["account_id"], ["arcadia.cloud_accounts.account_id"], name=op.f("resources_account_id_fkey")),
        sa.ForeignKeyConstraint(["cloud_project_id"], ["arcadia.resources.resource_id"], name=op.f("resources_cloud_project_id_fkey")),
        sa.PrimaryKeyConstraint("resource_id", name=op.f("resources_pkey")),
        sa.UniqueConstraint("account_id", "kind", "provider_id", name=op.f("resources_account_id_kind_provider_id_key")),
        schema="arcadia",
        comment="Everything the account has or had, projects included; read it through cloud_resources and cloud_projects",
    )
    op.create_table(
        "cloud_cost_lines",
        sa.Column("line_id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("invoice_uuid", sa.Text(), nullable=False),
        sa.Column("ordinal", sa.Integer(), nullable=False, comment="Place on the invoice, from 1. Content is no key: lines can be alike"),
        sa.Column("account_id", sa.BigInteger(), nullable=False),
        sa.Column("product", sa.Text(), nullable=False),
        sa.Column("group_description", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("hours", sa.Numeric(), nullable=True, comment="As printed. On backup lines it is the number of backups"),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("amount_usd", sa.Numeric(), nullable=False),
        sa.Column("project_name", sa.Text(), nullable=False, comment="As invoiced; projects are renamed and resources moved"),
        sa.Column("category", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=True, comment="Of what the line pays for; account, tax or credit where that is no resource"),
        sa.Column("look_up", sa.Text(), nullable=True, comment="How parsed_name leads to the resource: name, parent, group or ip"),
        sa.Column("parsed_name", sa.Text(), nullable=True),
        sa.Column("name_key", sa.Text(), nullable=True, comment="parsed_name, case-folded, white space collapsed"),
        sa.Column("parsed_region", sa.Text(), nullable=True),
        sa.Column("parsed_size", sa.Text(), nullable=True),
        sa.Column("component", sa.Text(), nullable=True, comment="Part of a grouped product, such as a node pool"),
        sa.Column("provider_resource_id", sa.Text(), nullable=True),
        sa.Column("provider_resource_uuid", sa.Text(), nullable=True),
        sa.Column("resource_id", sa.BigInteger(), nullable=True),
        sa.Column("match_status", sa.Text(), nullable=False),
        sa.Column("match_method", sa.Text(), nullable=True, comment="id, name, parent, group or ip"),
        sa.Column(
            "match_detail", postgresql.JSONB(astext_type=sa.Text()), nullable=True, comment="reason; candidates of an ambiguous line"
        ),
        sa.CheckConstraint(
            "case when match_status = 'matched' then resource_id is not null and match_method is not null else resource_id is null and match_method is null and coalesce(match_detail ->> 'reason', '') <> '' end",
            name=op.f("cloud_cost_lines_explained_check"),
        ),
        sa.CheckConstraint(
            "match_status <> 'ambiguous' or match_detail ? 'candidates'", name=op.f("cloud_cost_lines_ambiguous_names_candidates_check")
        ),
        sa.CheckConstraint(
            "match_status in ('matched', 'account_level', 'tax', 'credit', 'ambiguous', 'unmatched')",
            name=op.f("cloud_cost_lines_match_status_check"),
        ),
        sa.ForeignKeyConstraint(["account_id"], ["arcadia.cloud_accounts.account_id"], name=op.f("cloud_cost_lines_account_id_fkey")),
        sa.ForeignKeyConstraint(
            ["invoice_uuid"], ["arcadia.cloud_invoices.invoice_uuid"], name=op.f("cloud_cost_lines_invoice_uuid_fkey"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["resource_id"], ["arcadia.resources.resource_id"], name=op.f("cloud_cost_lines_resource_id_fkey")),
        sa.PrimaryKeyConstraint("line_id", name=op.f("cloud_cost_lines_pkey")),
        sa.UniqueConstraint("invoice_uuid", "ordinal", name=op.f("cloud_cost_lines_invoice_uuid_ordinal_key")),
        schema="arcadia",
        comment="Every line of every invoice, and the resource it pays for",
    )
    op.create_index(
        "cloud_cost_lines_by_name_idx",
        "cloud_cost_lines",
        ["account_id"],
        unique=False,
        schema="arcadia",
        postgresql_where=sa.text(
            "look_up in ('name', 'parent', 'group') and provider_resource_id is null and provider_resource_uuid is null"
        ),
    )
    op.create_index("cloud_cost_lines_resource_id_idx", "cloud_cost_lines", ["resource_id"], unique=False, schema="arcadia")
    op.create_table(
        "cloud_resource_events",
        sa.Column("event_id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("resource_id", sa.BigInteger(), nullable=False),
        sa.Column("account_id", sa.BigInteger(), nullable=False),
        sa.Column("sync_run_id", sa.BigInteger(), nullable=True),
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column(
            "changes",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'"),
            nullable=False,
            comment="field -> {before, after}",
        ),
        sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=False, comment="When the listing that showed it was begun"),
        sa.CheckConstraint(
            "event in ('discovered', 'updated', 'tagged', 'drift_detected', 'deleted', 'restored')",
            name=op.f("cloud_resource_events_event_check"),
        ),
        sa.ForeignKeyConstraint(["account_id"], ["arcadia.cloud_accounts.account_id"], name=op.f("cloud_resource_events_account_id_fkey")),
        sa.ForeignKeyConstraint(["resource_id"], ["arcadia.resources.resource_id"], name=op.f("cloud_resource_events_resource_id_fkey")),
        sa.PrimaryKeyConstraint("event_id", name=op.f("cloud_resource_events_pkey")),
        schema="arcadia",
        comment="What happened to resources. Append-only",
    )
    op.create_index(
        op.f("cloud_resource_events_account_id_occurred_at_idx"),
        "cloud_resource_events",
        ["account_id", "occurred_at"],
        unique=False,
        schema="arcadia",
    )
    op.create_index(op.f("cloud_resource_events_resource_id_idx"), "cloud_resource_events", ["resource_id"], unique=False, schema="arcadia")
    op.create_table(
        "resource_names",
        sa.Column("resource_id", sa.BigInteger(), nullable=False),
        sa.Column("name_key", sa.Text(), nullable=False, comment="Case-folded, white space collapsed"),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column(
            "seen_from",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="When its old name was last seen; NULL: its first name, borne since its creation as far as is known",
        ),
        sa.Column(
            "seen_until",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="When another name was first seen; NULL: its name today, or the last it had",
        ),
        sa.ForeignKeyConstraint(["resource_id"], ["arcadia.resources.resource_id"], name=op.f("resource_names_resource_id_fkey")),
        sa.PrimaryKeyConstraint("resource_id", "name_key", name=op.f("resource_names_pkey")),
        schema="arcadia",
        comment="Every name a resource ever had",
    )
    op.create_index(op.f("resource_names_name_key_idx"), "resource_names", ["name_key"], unique=False, schema="arcadia")
