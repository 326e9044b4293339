"""Dagster's run, event and schedule storage, as dagster.yaml names it: Postgres at the address that the settings say.

The address is read from the environment in every process that opens the instance. In dagster.yaml it would travel, password included, in
the arguments of Dagster's child processes. Needs DAGSTER_POSTGRES_URL, ARCADIA_DATABASE_URL or neither, alike in all of them.
"""

import logging
import math
import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Self

from dagster import AssetKey, DagsterEventType, EventLogEntry, EventLogRecord
from dagster._core.events import ASSET_CHECK_EVENTS, ASSET_EVENTS
from dagster._core.storage.event_log import SqlEventLogStorageTable
from dagster._serdes import ConfigurableClassData, deserialize_value
from dagster_postgres import DagsterPostgresStorage, PostgresEventLogStorage
from sqlalchemy import Connection, Engine, create_engine, event, func, make_url, text
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError, DisconnectionError
from sqlalchemy.pool import ConnectionPoolEntry, NullPool, PoolProxiedConnection

from arcadia_dagster import settings
from arcadia_dagster.ledger.schema import DatabaseDown, place, reason

_LOCK = 7_236_894_351_023  # not the ledger's
_MOMENT = 1.0  # seconds
# What a step says of what it has made. It says that it has ended at once after that.
_OF_ONE_STEP = {
    DagsterEventType.STEP_INPUT,
    DagsterEventType.LOADED_INPUT,
    DagsterEventType.STEP_OUTPUT,
    DagsterEventType.HANDLED_OUTPUT,
    DagsterEventType.ASSET_OBSERVATION,
    DagsterEventType.ASSET_MATERIALIZATION,
    DagsterEventType.ASSET_CHECK_EVALUATION,
}


class _OfThread(threading.local):
    """What a thread, which executes one run at most, has not stored yet, and what it is storing by."""

    def __init__(self) -> None:
        self.held: list[EventLogEntry] = []
        self.storing: Connection | None = None


class _EventLog(PostgresEventLogStorage):
    """Dagster's event log, which stores what a step has made together with its end, in one transaction.

    Dagster stores each event by itself, in two statements or six. A process that is killed leaves of a step that had not ended no more
    than that it had begun, and what it said more than a moment before.

    Nor does it ask the database what it knows: for each event, which tables and columns there are, which stay as long as a process lives.
    """

    def __init__(self, postgres_url: str) -> None:
        super().__init__(postgres_url, should_autocreate_tables=False)
        self._there: set[str] = set()
        self._mine = _OfThread()

    def store_event(self, event: EventLogEntry) -> None:
        held = self._mine.held
        held.append(event)
        said = event.dagster_event
        of_step = said is not None and said.step_key is not None and said.event_type in _OF_ONE_STEP
        if not of_step or event.timestamp - held[0].timestamp > _MOMENT:
            self._store_held()

    def store_event_batch(self, events: Sequence[EventLogEntry]) -> None:
        self._mine.held += events
        self._store_held()

    def _store_held(self) -> None:
        events, self._mine.held = self._mine.held, []
        if not events:
            return
        try:
            with ExitStack() as stack:
                connection = stack.enter_context(super()._connect())
                if len(events) > 1:  # all or none
                    stack.enter_context(connection.execution_options(isolation_level="READ COMMITTED").begin())
                self._mine.storing = connection
                stack.callback(setattr, self._mine, "storing", None)
                self._store(connection, events)
        except Exception:  # such as a connection that was lost
            for entry in events:
                super().store_event(entry)

    def _store(self, connection: Connection, events: Sequence[EventLogEntry]) -> None:
        """Store events as Dagster's `store_event` does, but for the NOTIFY that nobody listens to."""
        table = SqlEventLogStorageTable
        insert = table.insert().returning(table.c.id, sort_by_parameter_order=True)
        if all(event.dagster_event and event.dagster_event.step_key for event in events):
            # The disk is not waited for: it is when the run's own end is stored, and has all that was stored before it by then.
            insert = insert.returning(func.set_config("synchronous_commit", "off", True))
        ids = connection.execute(insert, [self._event_to_row(event) for event in events]).scalars().all()
        for entry, event_id in zip(events, ids, strict=True):
            if entry.dagster_event is None:
                continue
            if entry.dagster_event_type in ASSET_EVENTS and entry.dagster_event.asset_key:
                self._store_asset_event_tags(connection, [entry], [event_id])
                self._store_asset_event(connection, entry, event_id)
            if entry.dagster_event_type in ASSET_CHECK_EVENTS:
                self.store_asset_check_event(entry, event_id)

    @contextmanager
    def _connect(self) -> Iterator[Connection]:
        """The connection for each of Dagster's statements. Those that ask find what was held, an event's own go where it is stored."""
        self._store_held()
        if self._mine.storing is not None:
            yield self._mine.storing
            return
        with super()._connect() as connection:
            yield connection

    def _get_latest_materialization_records(self, raw_asset_rows: Any) -> Any:
        # Where each row tells its own, which one that was ever wiped need not, Dagster asks once more, for none.
        if all(row["last_materialization"] and not row["asset_details"] for row in raw_asset_rows):
            told = {AssetKey.from_db_string(row["asset_key"]): deserialize_value(row["last_materialization"]) for row in raw_asset_rows}
            if all(isinstance(record, EventLogRecord) for record in told.values()):
                return told
        return super()._get_latest_materialization_records(raw_asset_rows)

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
        self._store_held()
        super().dispose()
        self._engine.dispose()


class LedgerStorage(DagsterPostgresStorage):
    """Dagster's Postgres storage without configuration of its own, over one connection that is kept.

    Dagster's own connects anew for each statement, some 550 times in a run of `sync_inventory`.
    """

    def __init__(self, postgres_url: str, inst_data: ConfigurableClassData | None = None) -> None:
        super().__init__(postgres_url, inst_data=inst_data)
        self._event_log_storage = _EventLog(postgres_url)
        os.environ.setdefault("DAGSTER_EVENT_BATCH_SIZE", "1000")  # what a run intends comes as one batch, where Dagster is told a size
        # More are opened for threads that ask at the same time, and closed again.
        engine = create_engine(postgres_url, isolation_level="AUTOCOMMIT", pool_size=1, max_overflow=-1)
        _replace_what_has_ended(engine)
        # Of a connection that was lost the pool shows at length why it cannot be reset, and connects anew.
        logging.getLogger("sqlalchemy.pool").setLevel(logging.CRITICAL)
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
        if time.monotonic() - record.info.get("used_at", math.inf) < _MOMENT:
            return
        try:
            engine.dialect.do_ping(connection)
        except engine.dialect.loaded_dbapi.Error as error:
            raise DisconnectionError from error  # the pool connects anew


def _make_schema(connection: Connection) -> None:
    schema = settings.DAGSTER_SCHEMA
    if connection.scalar(text("select to_regnamespace(:schema)"), {"schema": schema}) is None:  # to ask needs no right to create
        connection.execute(text(f"create schema {schema}"))
