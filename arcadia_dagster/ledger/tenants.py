"""Tenants and what belongs to whom: puts a declaration in place of the last one, and gives every resource and project its tenant.

The first rule of the file that fits a resource by tag or name decides, then its project, then the fallback. Whose a line without a resource
is follows when it is read (`views/05_open_lines.sql`); what a tenant may read is `access.py`'s.
"""

import json
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Connection, Engine, text

from arcadia_dagster.ledger.access import ensure_roles, tenant_role
from arcadia_dagster.ledger.reconcile import lock
from arcadia_dagster.ledger.tenants_file import Declaration

# Each tenant, declared or set by hand on a project, with what it has now and what its lines of the last closed month cost.
SUMMARY = """
with last as (
    select max(period) as period from arcadia.cloud_invoices where status <> 'preview' and line_count > 0
), billed as (
    select tenant_id, sum(amount_usd) as usd from arcadia.matched_cost_lines where period = (select period from last) group by 1
), has as (
    select tenant_id, count(*) filter (where state = 'active') as active, count(*) as resources from arcadia.cloud_resources group by 1
)
select t.tenant_id, coalesce(c.name, '(not declared)') as name, case when c.is_fallback then 'yes' else '' end as fallback,
       coalesce(has.active, 0) as active, coalesce(has.resources, 0) as resources, to_char(last.period, 'YYYY-MM') as month,
       coalesce(billed.usd, 0) as usd
  from (select tenant_id from arcadia.cloud_tenants
        union select tenant_id from has where tenant_id is not null
        union select tenant_id from billed where tenant_id is not null) t
 cross join last
  left join arcadia.cloud_tenants c using (tenant_id)
  left join has using (tenant_id)
  left join billed using (tenant_id)
 order by c.tenant_id is null, t.tenant_id"""


@dataclass(frozen=True, kw_only=True)
class Applied:
    """What a declaration changed: tenant ids, how many resources and projects have another tenant now, and the roles that were made."""

    declared: list[str]
    changed: list[str]
    withdrawn: list[str]
    moved: int
    roles: list[str]

    @property
    def any(self) -> bool:
        """Whether anything changed at all."""
        return bool(self.declared or self.changed or self.withdrawn or self.moved or self.roles)


def apply(engine: Engine, declaration: Declaration) -> Applied:
    """Make these the tenants of the ledger, in one transaction: tenants, rules, roles, and the tenant of everything in every account.

    The same declaration again changes nothing. The role of a tenant that is withdrawn is left, as other databases of the server may use
    it: it sees nothing here. Raises AccessError, with nothing changed, where the roles cannot be made.
    """
    wanted = {
        tenant.tenant_id: {
            "name": tenant.name,
            "is_fallback": tenant.tenant_id == declaration.fallback,
            "rules": [{key: value for key, value in asdict(rule).items() if value is not None} for rule in tenant.rules],
        }
        for tenant in declaration.tenants
    }
    with engine.begin() as conn:
        lock(conn, "tenants")
        roles = ensure_roles(conn, wanted)
        present = _present(conn)
        differ = {
            tenant_id: _difference(present.get(tenant_id, {}), wanted.get(tenant_id, {})) for tenant_id in sorted({*present, *wanted})
        }
        events = {
            tenant_id: "declared" if tenant_id not in present else "changed" if tenant_id in wanted else "withdrawn"
            for tenant_id, changes in differ.items()
            if changes
        }
        _write(conn, wanted)
        if events:
            conn.execute(
                text(
                    "insert into arcadia.cloud_tenant_events (tenant_id, event, changes, occurred_at)"
                    " values (:tenant_id, :event, cast(:changes as jsonb), now())"
                ),
                [{"tenant_id": tenant_id, "event": event, "changes": json.dumps(differ[tenant_id])} for tenant_id, event in events.items()],
            )
        accounts = conn.execute(text("select account_id from arcadia.cloud_accounts order by 1")).scalars().all()
        moved = sum(assign(conn, account_id) for account_id in accounts)
    by_event = {event: [tenant_id for tenant_id, one in events.items() if one == event] for event in ("declared", "changed", "withdrawn")}
    return Applied(**by_event, moved=moved, roles=roles)


def _present(conn: Connection) -> dict[str, dict[str, Any]]:
    """What is declared now, as `apply` compares it: tenant id -> name, is_fallback, rules."""
    tenants = {
        row.tenant_id: {"name": row.name, "is_fallback": row.is_fallback, "rules": []}
        for row in conn.execute(text("select tenant_id, name, is_fallback from arcadia.cloud_tenants"))
    }
    for row in conn.execute(text("select tenant_id, project, tag, name, kind from arcadia.tenant_rules order by place")).mappings():
        rule = {key: value for key, value in row.items() if value is not None}
        tenants[rule.pop("tenant_id")]["rules"].append(rule)
    return tenants


def _difference(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    pairs = {field: (before.get(field), after.get(field)) for field in ("name", "is_fallback", "rules")}
    return {field: {"before": old, "after": new} for field, (old, new) in pairs.items() if old != new}


def _write(conn: Connection, wanted: dict[str, dict[str, Any]]) -> None:
    """Rules are few: they are written anew."""
    conn.execute(text("delete from arcadia.tenant_rules"))
    conn.execute(text("update arcadia.cloud_tenants set is_fallback = false where is_fallback"))
    conn.execute(text("delete from arcadia.cloud_tenants where tenant_id <> all (:kept)"), {"kept": list(wanted)})
    conn.execute(
        text(
            "insert into arcadia.cloud_tenants (tenant_id, name, is_fallback, role_name)"
            " values (:tenant_id, :name, :is_fallback, :role_name)"
            " on conflict (tenant_id) do update set name = excluded.name, is_fallback = excluded.is_fallback"
        ),
        [
            {"tenant_id": tenant_id, "name": one["name"], "is_fallback": one["is_fallback"], "role_name": tenant_role(tenant_id)}
            for tenant_id, one in wanted.items()
        ],
    )
    rules = [(tenant_id, rule) for tenant_id, one in wanted.items() for rule in one["rules"]]
    if rules:
        conn.execute(
            text(
                "insert into arcadia.tenant_rules (place, tenant_id, project, tag, name, kind)"
                " values (:place, :tenant_id, :project, :tag, :name, :kind)"
            ),
            [
                {"place": place, "tenant_id": tenant_id, "project": None, "tag": None, "name": None, "kind": None, **rule}
                for place, (tenant_id, rule) in enumerate(rules, 1)
            ],
        )


def assign(conn: Connection, account_id: int, *, sync_run_id: int | None = None, gone_too: bool = True) -> int:
    """Give everything in the account the tenant that it should have now; how many resources and projects have another one.

    While no tenants are declared, what is active takes over its project's. A change is an event; the first tenant of a thing is none.
    Without `gone_too` the tombstones, which may be many times what is active, are left as they are.
    """
    lock(conn, "attribute", account_id)
    gone = "or fallback is not null" if gone_too else ""
    return int(conn.execute(text(_ASSIGN.format(gone=gone)), {"account_id": account_id, "sync_run_id": sync_run_id}).scalar_one())


# `given` is what the file says of a project; `by_hand`, what the operator set.
_ASSIGN = r"""
with declared as (
    select max(tenant_id) as fallback from arcadia.cloud_tenants where is_fallback
), rule as materialized (
    select place, tenant_id, tag, kind,
           replace(replace(replace(replace(replace(lower(name), '\', '\\'), '%', '\%'), '_', '\_'), '*', '%'), '?', '_') as pattern
      from arcadia.tenant_rules where project is null
), project as (
    select p.resource_id, p.tenant_id as old, p.tenant_given as old_given, given, coalesce(given, by_hand) as tenant
      from arcadia.resources p
     cross join declared
     cross join lateral (select case when p.tenant_id is distinct from p.tenant_given then p.tenant_id end as by_hand) h
      left join lateral (
           select tenant_id as by_rule from arcadia.tenant_rules where project in (p.name, p.provider_id) order by place limit 1) r on true
     cross join lateral (select coalesce(by_rule, case when by_hand is null then fallback end) as given) g
     where p.account_id = :account_id and p.kind = 'project'
), due as (
    select resource_id, old, tenant, given from project where (old, old_given) is distinct from (tenant, given)
    union all
    select resource_id, old, tenant, null
      from (select r.resource_id, r.tenant_id as old,
                   coalesce((select rule.tenant_id from rule
                              where (rule.tag = any (r.tags) or lower(r.name) like rule.pattern) and coalesce(rule.kind = r.kind, true)
                              order by place limit 1),
                            project.tenant, fallback) as tenant
              from arcadia.resources r
             cross join declared
              left join project on project.resource_id = r.cloud_project_id
             where r.account_id = :account_id and r.kind <> 'project' and (r.deleted_at is null {gone})) o
     where old is distinct from tenant
), changed as (
    update arcadia.resources r set tenant_id = d.tenant, tenant_given = d.given
      from due d where r.resource_id = d.resource_id
    returning r.resource_id, d.old, d.tenant
), told as (
    insert into arcadia.cloud_resource_events (resource_id, account_id, sync_run_id, event, changes, occurred_at)
    select resource_id, :account_id, :sync_run_id, 'updated',
           jsonb_build_object('tenant', jsonb_build_object('before', old, 'after', tenant)), now()
      from changed where old is not null and old is distinct from tenant
)
select count(*) from changed where old is distinct from tenant
"""
