"""Who may read what in schema `arcadia`: the roles of the database, what each is granted, and row-level security on every table.

The roles are made by `ensure_roles`; `protect` is run whenever the schema is brought up to this code. Which tenant has what is decided in
`tenants.py` and `views/05_open_lines.sql`. Policies name roles, so that the planner sees for each reader only what holds for that reader.
"""

from collections.abc import Iterable

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

# Held by whoever changes the schema or who may read it; any number that no other program locks.
LOCK = 7_236_894_351_022

ADMIN, ANALYST, TENANT = "arcadia_admin", "arcadia_analyst", "arcadia_tenant"

# Nobody reads these but the owner of the schema.
OWNER_ONLY = ("api_keys", "request_budgets", "request_counts", "item_lookalikes")
# Which release made the schema: no secret to who is granted it, and every program of ours looks there first.
_EDITION = ("alembic_version", "schema_views")
# What analysts have no use for: the queues and notes of the programs that fill the ledger.
_INTERNAL = ("rematch_queue", "project_memberships", "configured_accounts")

_READERS = "readers"  # the policy that lets admins and analysts see all rows

# What tenants may read of a table: the columns (none named: all), and which rows. Views have the rights of who reads them, so these
# tables decide what a tenant sees there. Of an invoice that others share, no more than what is on its face; why a line has no resource is
# told by the views, which leave out the candidates of others.
_LINE_COLUMNS = (
    "line_id, invoice_uuid, ordinal, account_id, product, group_description, description, hours, started_at, ended_at, amount_usd,"
    " project_name, category, kind, look_up, parsed_name, name_key, parsed_region, parsed_size, component, provider_resource_id,"
    " provider_resource_uuid, resource_id, match_status, match_method"
)
_OF_OWN_RESOURCES = "resource_id in (select r.resource_id from arcadia.resources r)"
_FOR_TENANTS = {
    "cloud_tenants": ("", "pg_has_role(to_regrole(role_name)::oid, 'usage')"),
    "resources": ("", "tenant_id = any (array(select t.tenant_id from arcadia.cloud_tenants t))"),
    "other_names": ("", _OF_OWN_RESOURCES),
    # Where it was before, and whose, is not the tenant's to know.
    "cloud_resource_events": ("", f"not changes ?| array['project', 'tenant'] and {_OF_OWN_RESOURCES}"),
    "cloud_cost_lines": (
        _LINE_COLUMNS,
        f"case when resource_id is not null then {_OF_OWN_RESOURCES} else arcadia.tenant_of_open_line(line_id) is not null end",
    ),
    "cloud_invoices": (
        "invoice_uuid, account_id, invoice_id, period, issued_at, status, covers_until",
        "exists (select from arcadia.cloud_cost_lines l where l.invoice_uuid = cloud_invoices.invoice_uuid)",
    ),
    "cloud_accounts": (
        "",
        "account_id in (select r.account_id from arcadia.resources r)"
        " or exists (select from arcadia.cloud_invoices i where i.account_id = cloud_accounts.account_id)",
    ),
    "listings": ("", "(account_id, kind) in (select r.account_id, r.kind from arcadia.resources r)"),
    "cloud_match_events": ("", "false"),  # they name other resources; the timeline reads them
}


class AccessError(RuntimeError):
    """The roles cannot be made by this user of the database. Its text is one sentence, with the SQL that an administrator must run."""


def tenant_role(tenant_id: str) -> str:
    """The role whose members see what is the tenant's."""
    return f"{TENANT}_{tenant_id}"


def release(conn: Connection) -> None:
    """Drop the policies, which keep the columns they read from being changed. Until `protect`, nobody but the owner reads a row."""
    policies = conn.execute(text("select format('drop policy %I on arcadia.%I', policyname, tablename) from pg_policies"
                                 " where schemaname = 'arcadia'"))  # fmt: skip
    for statement in policies.scalars().all():
        conn.execute(text(statement))


def protect(conn: Connection) -> None:
    """Enable row-level security on every table, and give the roles, where they exist, what they may read and no more.

    Without roles the owner of the schema is the only reader. To be run by the owner, in the transaction that changes tables or views.
    """
    unprotected = conn.execute(
        text(
            "select format('alter table arcadia.%I enable row level security', relname) from pg_class"
            " where relnamespace = 'arcadia'::regnamespace and relkind in ('r', 'p') and not relrowsecurity"
        )
    )
    for statement in unprotected.scalars().all():
        conn.execute(text(statement))
    conn.execute(text("revoke execute on all functions in schema arcadia from public"))
    release(conn)
    for table in _EDITION:
        conn.execute(text(f"create policy edition on arcadia.{table} for select using (true)"))
    if conn.scalar(text("select count(*) from pg_roles where rolname = any(:roles)"), {"roles": [ADMIN, ANALYST, TENANT]}) < 3:
        return
    kinds = conn.execute(
        text("select relname, relkind from pg_class where relnamespace = 'arcadia'::regnamespace and relkind in ('r', 'p', 'v')")
    ).all()
    tables = {name for name, kind in kinds if kind != "v"} - {*OWNER_ONLY}
    views = {name for name, kind in kinds if kind == "v"}
    # Policies first, as they lock each table: or the server, about to note what it found in one, waits for the grants, and these for it.
    statements = [
        *(f"create policy {_READERS} on arcadia.{table} for select to {ADMIN}, {ANALYST} using (true)" for table in sorted(tables)),
        *(f"create policy tenants on arcadia.{table} for select to {TENANT} using ({rows})" for table, (_, rows) in _FOR_TENANTS.items()),
        f"revoke all on all tables in schema arcadia from {ADMIN}, {ANALYST}, {TENANT}",
        f"grant usage on schema arcadia to {ADMIN}, {ANALYST}, {TENANT}",
        f"grant execute on function arcadia.tenant_of_open_line, arcadia.detail_of_open_line to {ADMIN}, {ANALYST}, {TENANT}",
        f"grant select on {_listed(tables | views)} to {ADMIN}",
        f"grant select on {_listed((tables | views) - {*_INTERNAL})} to {ANALYST}",
        f"grant select on {_listed(views)} to {TENANT}",
        *(
            f"grant select {f'({columns})' if columns else ''} on arcadia.{table} to {TENANT}"
            for table, (columns, _) in _FOR_TENANTS.items()
        ),
    ]
    for statement in statements:
        conn.exec_driver_sql(statement)


def _listed(relations: Iterable[str]) -> str:
    return ", ".join(f"arcadia.{name}" for name in sorted(relations))


def ensure_roles(conn: Connection, tenant_ids: Iterable[str] = ()) -> list[str]:
    """Make the roles that are missing, in this transaction: the three of every ledger and one for each tenant; the names of those made.

    This user can `set role` to each of them. Roles are the server's, so another database may be making them at this moment: then they are
    found on another look. Raises AccessError where this user may not make roles, with nothing made.
    """
    roles = [ADMIN, ANALYST, TENANT, *map(tenant_role, sorted(tenant_ids))]
    made: list[str] = []
    conn.execute(text("select pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
    for _ in range(20):
        missing = _missing(conn, roles)
        if not missing:
            break
        try:
            with conn.begin_nested():
                for statement in missing:
                    conn.exec_driver_sql(statement)
        except DBAPIError as error:
            state = getattr(error.orig, "sqlstate", None)
            if state == "42501":  # insufficient_privilege
                raise AccessError(
                    "this user of the database may not make the roles of tenants; let an administrator run: " + "; ".join(missing)
                ) from error
            # duplicate_object, unique_violation, and "tuple concurrently updated", which has no code of its own
            if state not in ("42710", "23505", "XX000"):
                raise
        else:
            made = [role for role in roles if f"create role {role} nologin" in missing]
            break
    protected = text("select exists (select from pg_policies where schemaname = 'arcadia' and policyname = :name)")
    if not conn.scalar(protected, {"name": _READERS}):
        protect(conn)
    return made


def _missing(conn: Connection, roles: list[str]) -> list[str]:
    """The statements that make what there is not yet: roles, membership of tenants' roles, and this user's right to take them on."""
    modern = (conn.dialect.server_version_info or (0,)) >= (16,)
    taking = "set" if modern else "member"
    present = {
        row.name: row
        for row in conn.execute(
            text(
                "select rolname as name, pg_has_role(oid, :taking) as ours, exists (select from pg_auth_members m"
                " where m.member = r.oid and m.roleid = to_regrole(:group)::oid) as grouped from pg_roles r where rolname = any(:roles)"
            ),
            {"roles": roles, "group": TENANT, "taking": taking},
        )
    }
    user, is_superuser = conn.execute(text("select quote_ident(current_user), rolsuper from pg_roles where rolname = current_user")).one()
    statements = [f"create role {role} nologin" for role in roles if role not in present]
    of_tenants = [role for role in roles if role.startswith(f"{TENANT}_") and not (role in present and present[role].grouped)]
    statements += [f"grant {TENANT} to {role}" for role in of_tenants]
    not_ours = [role for role in roles if not is_superuser and not (role in present and present[role].ours)]
    options = " with inherit false, set true" if modern else ""
    return statements + [f"grant {role} to {user}{options}" for role in not_ours]
