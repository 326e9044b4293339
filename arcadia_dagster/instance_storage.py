"""Dagster's run, event and schedule storage, as dagster.yaml names it: Postgres at the address that the settings say.

The address is read from the environment in every process that opens the instance. In dagster.yaml it would travel, password included, in
the arguments of Dagster's child processes. Needs DAGSTER_POSTGRES_URL, ARCADIA_DATABASE_URL or neither, alike in all of them.
"""

import math
import os
import time
from typing import Any, Self

from dagster._serdes import ConfigurableClassData
from dagster_postgres import DagsterPostgresStorage, PostgresEventLogStorage
from sqlalchemy import Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError, DisconnectionError
from sqlalchemy.pool import ConnectionPoolEntry, NullPool, PoolProxiedConnection

from arcadia_dagster import settings
from arcadia_dagster.ledger.schema import DatabaseDown, place, reason

_LOCK = 7_236_894_351_023  # not the ledger's
_IDLE = 1.0  # seconds


class _EventLog(PostgresEventLogStorage):
    """Dagster's event log, which does not ask the database again which tables and columns it has.

    Dagster asks for each event that it stores; what has been migrated stays so for as long as a process lives.
    """

    def __init__(self, postgres_url: str) -> None:
        super().__init__(postgres_url, should_autocreate_tables=False)
        self._there: set[str] = set()

    def has_table(self, table_name: str) -> bool:
        if table_name not in self._there and super().has_table(table_name):
            self._there.add(table_name)
        return table_name in self._there

    def _has_asset_key_col_on_connection(self, conn: Connection, column_name: str) -> bool:
        column = f"asset_keys.{column_name}"
        if column not in self._there and super()._has_asset_key_col_on_connection(conn, column_name):
            self._there.add(column)
        return column in self._there

    def dispose(self) -> None:
        super().dispose()
        self._engine.dispose()


class LedgerStorage(DagsterPostgresStorage):
    """Dagster's Postgres storage without configuration of its own, over one connection that is kept.

    Dagster's own connects anew for each statement, some 550 times in a run of `sync_inventory`.
    """

    def __init__(self, postgres_url: str, inst_data: ConfigurableClassData | None = None) -> None:
        super().__init__(postgres_url, inst_data=inst_data)
        self._event_log_storage = _EventLog(postgres_url)
        # More are opened for threads that ask at the same time, and closed again.
        engine = create_engine(postgres_url, isolation_level="AUTOCOMMIT", pool_size=1, max_overflow=-1)
        _replace_what_has_ended(engine)
        os.register_at_fork(after_in_child=lambda: engine.dispose(close=False))
        for storage in (self._run_storage, self._event_log_storage, self._schedule_storage):
            storage._engine = engine

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


def _replace_what_has_ended(engine: Engine) -> None:
    """Have a connection that was idle tried before it is used. The pool's own ping would be one more statement for each of hundreds."""

    @event.listens_for(engine, "checkin")
    def used(_: DBAPIConnection | None, record: ConnectionPoolEntry) -> None:
        record.info["used_at"] = time.monotonic()

    @event.listens_for(engine, "checkout")
    def tried(connection: DBAPIConnection, record: ConnectionPoolEntry, _: PoolProxiedConnection) -> None:
        if time.monotonic() - record.info.get("used_at", math.inf) < _IDLE:
            return
        try:
            engine.dialect.do_ping(connection)
        except engine.dialect.loaded_dbapi.Error as error:
            raise DisconnectionError from error  # the pool connects anew


def _make_schema(connection: Connection) -> None:
    schema = settings.DAGSTER_SCHEMA
    if connection.scalar(text("select to_regnamespace(:schema)"), {"schema": schema}) is None:  # to ask needs no right to create
        connection.execute(text(f"create schema {schema}"))
