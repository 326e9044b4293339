"""Keys of the read API: who may read, and under which role of the database. What that role sees is decided by the database.

A key is random enough (256 bits) that its plain SHA-256 digest tells nothing of it, and the digest is all that is kept.
"""

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, Row, text

from arcadia_dagster.ledger import access

_COLUMNS = "key_id, name, role_name, tenant_id, created_at, revoked_at"


class ApiKeyError(ValueError):
    """A key cannot be made or revoked as asked. Its text is one sentence for the user."""


@dataclass(frozen=True)
class ApiKey:
    """A key without its secret. `tenant_id` None: an admin's; `revoked_at` None: it is valid."""

    key_id: int
    name: str
    role_name: str
    tenant_id: str | None
    created_at: datetime
    revoked_at: datetime | None


def add_key(engine: Engine, name: str, *, tenant_id: str | None) -> tuple[ApiKey, str]:
    """Make a key for a tenant, or for admins where that is None; returns it and its secret, which nobody can say again.

    Raises ApiKeyError where the name is empty or there is no such tenant, AccessError where roles are missing and cannot be made.
    """
    if not name.strip():
        raise ApiKeyError("a key needs a name that says who uses it")
    secret = f"arcadia_{secrets.token_urlsafe(32)}"
    with engine.begin() as conn:
        if tenant_id is not None:
            tenants = list(conn.scalars(text("select tenant_id from arcadia.cloud_tenants order by 1")))
            if tenant_id not in tenants:
                declared = ", ".join(tenants) or "none"
                raise ApiKeyError(f"there is no tenant {tenant_id!r}; the tenants' file declares: {declared}")
        role = access.ADMIN if tenant_id is None else access.tenant_role(tenant_id)
        access.ensure_roles(conn, [] if tenant_id is None else [tenant_id])
        made = conn.execute(
            text(
                "insert into arcadia.api_keys (name, digest, role_name, tenant_id, created_at)"
                f" values (:name, :digest, :role, :tenant, now()) returning {_COLUMNS}"
            ),
            {"name": name.strip(), "digest": _digest(secret), "role": role, "tenant": tenant_id},
        ).one()
    return _key(made), secret


def find_key(conn: Connection, secret: str) -> ApiKey | None:
    """The valid key that this is; None where there is none. Needs the rights of the ledger's owner."""
    query = f"select {_COLUMNS} from arcadia.api_keys where digest = :digest and revoked_at is null"
    found = conn.execute(text(query), {"digest": _digest(secret)}).one_or_none()
    return None if found is None else _key(found)


def check_owner(engine: Engine) -> None:
    """Raise ApiKeyError where the database's user does not own the keys, and so could answer no request."""
    query = "select current_user, pg_has_role(relowner, 'usage') from pg_class where oid = 'arcadia.api_keys'::regclass"
    with engine.connect() as conn:
        user, owns = conn.execute(text(query)).one()
    if not owns:
        raise ApiKeyError(f"the database's user {user} does not own the schema arcadia; let ARCADIA_DATABASE_URL name the user who does")


def all_keys(engine: Engine) -> list[ApiKey]:
    """Every key there ever was, oldest first."""
    with engine.connect() as conn:
        return [_key(row) for row in conn.execute(text(f"select {_COLUMNS} from arcadia.api_keys order by key_id"))]


def revoke_key(engine: Engine, key_id: int) -> ApiKey:
    """Make a key invalid, from the next request on; one that is so already stays as it is. Raises ApiKeyError where there is none."""
    query = f"update arcadia.api_keys set revoked_at = coalesce(revoked_at, now()) where key_id = :key_id returning {_COLUMNS}"
    with engine.begin() as conn:
        revoked = conn.execute(text(query), {"key_id": key_id}).one_or_none()
    if revoked is None:
        raise ApiKeyError(f"there is no key {key_id}; `arcadia keys list` shows them")
    return _key(revoked)


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


def _key(row: Row[Any]) -> ApiKey:
    return ApiKey(**row._mapping)
