"""How the read API reads the ledger: in a read-only transaction, under the role of whoever asks, a page at a time.

Which rows a role may see is decided by the database. No HTTP here, and nothing that writes.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Engine, RowMapping, text

STATEMENT_SECONDS = 15


@contextmanager
def transaction(engine: Engine, role: str | None = None) -> Iterator[Connection]:
    """A read-only transaction that sees one state of the ledger, as `role`; without one, as the server itself.

    Statements that take longer than STATEMENT_SECONDS are cancelled.
    """
    with engine.connect() as conn:
        conn.execute(text("set transaction isolation level repeatable read, read only"))
        conn.execute(text("select set_config('statement_timeout', :time, true)"), {"time": f"{STATEMENT_SECONDS}s"})
        if role is not None:
            conn.execute(text("select set_config('role', :role, true)"), {"role": role})
        yield conn


def _query(query: str, conditions: Mapping[str, str], wanted: Mapping[str, Any]) -> str:
    """The query with the conditions of those filters that are given."""
    return query.format(conditions="".join(f" and {conditions[name]}" for name in wanted if name in conditions))


_THIS_ACCOUNT = "account_id in (select account_id from arcadia.cloud_accounts where name = :account or account_id::text = :account)"

_RESOURCE = """
    select r.resource_id, r.account_id, a.name as account, r.kind, r.provider_id, r.name, r.region, r.status, r.state, r.tags, r.attrs,
           r.monthly_price, p.name as project, r.tenant_id, r.parent_kind, r.parent_provider_id, r.provider_created_at, r.first_seen_at,
           r.last_seen_at, r.deleted_at
      from arcadia.cloud_resources r
      join arcadia.cloud_accounts a on a.account_id = r.account_id
      left join arcadia.cloud_projects p on p.cloud_project_id = r.cloud_project_id"""

_INVENTORY = _RESOURCE + " where r.resource_id > :resource_id{conditions} order by r.resource_id limit :limit"
_INVENTORY_FILTERS = {
    "account": f"r.{_THIS_ACCOUNT}",
    "kind": "r.kind = :kind",
    "project": "p.name = :project",
    "tag": "r.tags @> array[:tag]",
    "state": "r.state = :state",
    "name": "r.name ilike :name",
}


def inventory(conn: Connection, filters: Mapping[str, Any], *, after: int, limit: int) -> Sequence[RowMapping]:
    """Resources in the order of their ids, from the one after `after` on."""
    values = dict(filters)
    if "name" in values:
        values["name"] = _pattern(values["name"])
    query = _query(_INVENTORY, _INVENTORY_FILTERS, filters)
    return conn.execute(text(query), {**values, "resource_id": after, "limit": limit}).mappings().all()


def _pattern(name: str) -> str:
    """For `like`: where only `*` stands for anything."""
    for special in "\\%_":
        name = name.replace(special, "\\" + special)
    return name.replace("*", "%")


def resource(conn: Connection, resource_id: int) -> RowMapping | None:
    """One resource; None where there is none that this role may see."""
    return conn.execute(text(_RESOURCE + " where r.resource_id = :id"), {"id": resource_id}).mappings().one_or_none()


# Two entries can be alike in everything: they are counted, so that a page can end between them.
_TIMELINE = """
    select at, what, detail, amount_usd, digest, copy_number
      from (select t.*, d.digest, row_number() over (partition by t.at, t.what, d.digest) as copy_number
              from arcadia.resource_timeline t
             cross join lateral (select md5(concat_ws('|', t.amount_usd, t.detail)) as digest) d
             where resource_id = :resource_id) as entry
     where (at, what, digest, copy_number) > (:at, :what, :digest, :copy_number)
     order by at, what, digest, copy_number limit :limit"""


def timeline(conn: Connection, resource_id: int, *, after: Mapping[str, Any], limit: int) -> Sequence[RowMapping]:
    """What happened to a resource, oldest first, from the entry after `after` on."""
    return conn.execute(text(_TIMELINE), {"resource_id": resource_id, **after, "limit": limit}).mappings().all()


_BALANCES = """
    select a.account_id, a.name as account, b.month_to_date_balance, b.account_balance, b.month_to_date_usage, b.generated_at, b.taken_at
      from arcadia.cloud_accounts a
     cross join lateral (select * from arcadia.cloud_balance_snapshots s where s.account_id = a.account_id
                          order by s.taken_at desc, s.balance_snapshot_id desc limit 1) b
     where true{conditions} order by a.account_id"""


def balances(conn: Connection, filters: Mapping[str, Any]) -> Sequence[RowMapping]:
    """The newest balance of each account."""
    return conn.execute(text(_query(_BALANCES, {"account": f"a.{_THIS_ACCOUNT}"}, filters)), dict(filters)).mappings().all()


# Invoice by invoice, each by its index, until the page is full: a page costs no more where a month has a million lines.
_LINES = """
    select l.line_id, i.period, i.invoice_uuid, l.invoice_id, l.ordinal, l.account_id, l.account, l.product, l.group_description,
           l.description, l.hours, l.started_at, l.ended_at, l.amount_usd, coalesce(l.resource_kind, l.kind) as kind, l.project,
           l.tenant_id, l.match_status, l.match_method, l.reason, l.resource_id, l.resource_provider_id, l.resource_name, l.resource_region,
           l.resource_state
      from (select period, invoice_uuid from arcadia.cloud_invoices
             where status <> 'preview' and (period, invoice_uuid) >= (:period, :invoice_uuid){invoices}
             order by period, invoice_uuid) i
     cross join lateral (select * from arcadia.matched_cost_lines m
                          where m.invoice_uuid = i.invoice_uuid{conditions}
                            and m.ordinal > case when i.invoice_uuid = :invoice_uuid then :ordinal else 0 end
                          order by m.ordinal limit :limit) l
     order by i.period, i.invoice_uuid, l.ordinal limit :limit"""
_LINES_INVOICES = {"account": _THIS_ACCOUNT, "period": "period = :only_period"}
_LINES_FILTERS = {
    "kind": "coalesce(m.resource_kind, m.kind) = :kind",
    "project": "m.project = :project",
    "status": "m.match_status = :status",
}


def cost_lines(conn: Connection, filters: Mapping[str, Any], *, after: Mapping[str, Any], limit: int) -> Sequence[RowMapping]:
    """Lines of closed invoices by month, invoice and ordinal, from the line after `after` on."""
    invoices = "".join(f" and {_LINES_INVOICES[name]}" for name in filters if name in _LINES_INVOICES)
    query = _query(_LINES.replace("{invoices}", invoices), _LINES_FILTERS, filters)
    values = {**filters, "only_period": filters.get("period"), **after, "limit": limit}
    return conn.execute(text(query), values).mappings().all()
