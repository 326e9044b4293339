"""Alembic's entry point: runs migrations of schema `arcadia` on the connection that `schema.py` hands over, in its transaction.

What a migration does is in `versions/`; when it is run, in `schema.py`.
"""

from typing import Any

from alembic import context

from arcadia_dagster.ledger.tables import SCHEMA, metadata


def include(name: str | None, kind: str, _parents: Any) -> bool:
    """Whether something in the database is ours to compare: only what is in our schema, Alembic's own table not."""
    return name == SCHEMA if kind == "schema" else name != "alembic_version"


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table_schema=SCHEMA,
    include_schemas=True,
    include_name=include,
    compare_server_default=True,
)
with context.begin_transaction():
    context.run_migrations()
