"""Match events, previews of invoices, and the queue of resources that lines want matching against again."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "rematch_queue",
        sa.Column("resource_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("account_id", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("resource_id", name=op.f("rematch_queue_pkey")),
        schema="arcadia",
        comment="Resources that matching has not yet seen as they are now. Filled by a trigger on resources, emptied by matching",
    )
    op.create_index(op.f("rematch_queue_account_id_idx"), "rematch_queue", ["account_id"], unique=False, schema="arcadia")
    op.create_table(
        "cloud_match_events",
        sa.Column("event_id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("account_id", sa.BigInteger(), nullable=False),
        sa.Column(
            "invoice_uuid", sa.Text(), nullable=False, comment="With ordinal: the line. No foreign key, as events outlive what they tell of"
        ),
        sa.Column("ordinal", sa.Integer(), nullable=False),
        sa.Column(
            "changes",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=False,
            comment="match_status, match_method, resource_id, match_detail -> {before, after}",
        ),
        sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["arcadia.cloud_accounts.account_id"], name=op.f("cloud_match_events_account_id_fkey")),
        sa.PrimaryKeyConstraint("event_id", name=op.f("cloud_match_events_pkey")),
        schema="arcadia",
        comment="Each change of what a line is matched to. Append-only; a line's first match is no change, and previews leave none",
    )
    op.create_index(
        op.f("cloud_match_events_invoice_uuid_ordinal_idx"),
        "cloud_match_events",
        ["invoice_uuid", "ordinal"],
        unique=False,
        schema="arcadia",
    )
    op.add_column(
        "cloud_invoices",
        sa.Column(
            "covers_until",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="Of a preview: the moment up to which it bills. NULL: the whole month",
        ),
        schema="arcadia",
    )
    op.add_column(
        "listings",
        sa.Column(
            "rematched_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="The started_at that the account's lines were last matched against",
        ),
        schema="arcadia",
    )
    op.create_index(
        "cloud_resource_events_resized_idx",
        "cloud_resource_events",
        ["account_id"],
        schema="arcadia",
        postgresql_where=sa.text("changes ? 'size_slug'"),
    )
    op.drop_constraint("cloud_cost_lines_resource_id_fkey", "cloud_cost_lines", schema="arcadia")
    op.drop_constraint("cloud_invoices_status_check", "cloud_invoices", schema="arcadia")
    op.create_check_constraint(
        op.f("cloud_invoices_status_check"), "cloud_invoices", "status in ('pending', 'ingested', 'failed', 'preview')", schema="arcadia"
    )
    op.create_table_comment(
        "cloud_invoices",
        "Every invoice, its documents, and how its lines add up; status preview: the month to date, until its invoice is made",
        existing_comment="Every invoice, its documents, and how its lines add up",
        schema="arcadia",
    )
    op.create_table_comment(
        "cloud_cost_lines",
        "Every line of every invoice, and the resource it pays for; previews included, which matched_cost_lines leaves out",
        existing_comment="Every line of every invoice, and the resource it pays for",
        schema="arcadia",
    )
    for statement in (_QUEUE, _INSERTED, _UPDATED):
        op.execute(statement)
    # What was matched by the rules of the release before is matched anew.
    op.execute("insert into arcadia.rematch_queue (resource_id, account_id) select resource_id, account_id from arcadia.resources")


# A trigger, so that no way of writing a resource can forget it: matching reads names, times, place and size.
# The row of a resource queued before is written again: a rematch that is taking it waits, and then sees the change.
_QUEUE = """
create function arcadia.queue_rematch() returns trigger language plpgsql as $$
begin
    if tg_op = 'INSERT' then
        insert into arcadia.rematch_queue (resource_id, account_id) select resource_id, account_id from new_rows
            on conflict (resource_id) do update set account_id = excluded.account_id;
    else
        insert into arcadia.rematch_queue (resource_id, account_id)
            select n.resource_id, n.account_id from new_rows n join old_rows o using (resource_id)
             where (n.name, n.region, n.attrs -> 'size_slug', n.provider_created_at, n.deleted_at, n.stale_strike_count = 0)
                   is distinct from
                   (o.name, o.region, o.attrs -> 'size_slug', o.provider_created_at, o.deleted_at, o.stale_strike_count = 0)
            on conflict (resource_id) do update set account_id = excluded.account_id;
    end if;
    return null;
end
$$
"""
_INSERTED = """
create trigger queue_rematch_inserted after insert on arcadia.resources
    referencing new table as new_rows for each statement execute function arcadia.queue_rematch()
"""
_UPDATED = """
create trigger queue_rematch_updated after update on arcadia.resources
    referencing old table as old_rows new table as new_rows for each statement execute function arcadia.queue_rematch()
"""
