"""Dagster's run, event and schedule storage, as dagster.yaml names it: Postgres at the address that the settings say.

The address is read from the environment in every process that opens the instance. In dagster.yaml it would travel, password included, in
the arguments of Dagster's child processes. Needs DAGSTER_POSTGRES_URL, ARCADIA_DATABASE_URL or neither, alike in all of them.
"""

from typing import Any, Self

from dagster._serdes import ConfigurableClassData
from dagster_postgres import DagsterPostgresStorage
from sqlalchemy import Connection, create_engine, make_url, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from arcadia_dagster import settings
from arcadia_dagster.ledger.schema import DatabaseDown, place, reason

_LOCK = 7_236_894_351_023  # not the ledger's


class LedgerStorage(DagsterPostgresStorage):
    """Dagster's Postgres storage without configuration of its own."""

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        """No fields: see the module."""
        return {}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Any) -> Self:  # noqa: ARG003
        """The storage, its schema and tables made where they are missing. Raises DatabaseDown at once, where Dagster tries for long."""
        address = settings.dagster_storage_url()
        url = make_url(address)
        engine = create_engine(url.update_query_dict({"connect_timeout": "10"}), poolclass=NullPool)
        try:
            with engine.connect() as connection:
                # Dagster makes its tables one by one without a lock; of processes that start together one shall make them.
                connection.execute(text("select pg_advisory_lock(:lock)"), {"lock": _LOCK})  # until the connection is closed
                if not settings.storage_has_own_database():
                    _make_schema(connection)
                connection.commit()
                return cls(address, inst_data=inst_data)
        except DBAPIError as error:
            raise DatabaseDown(f"cannot use the database of Dagster's runs at {place(url)}: {reason(error)}") from error


def _make_schema(connection: Connection) -> None:
    schema = settings.DAGSTER_SCHEMA
    if connection.scalar(text("select to_regnamespace(:schema)"), {"schema": schema}) is None:  # to ask needs no right to create
        connection.execute(text(f"create schema {schema}"))
