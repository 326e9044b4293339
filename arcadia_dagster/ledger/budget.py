"""The request budget of a token, shared by every client that uses this ledger's database: an implementation of `limits.SharedBudget`.

How requests are counted is in `views/06_request_budget.sql`; what the limits are, in `digitalocean/limits.py`. The token itself is never
stored.
"""

import hashlib
import logging
import threading
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from sqlalchemy import URL, Connection, Row, text
from sqlalchemy.exc import SQLAlchemyError

from arcadia_dagster.digitalocean.limits import Limit
from arcadia_dagster.ledger.schema import SchemaError, connect

_TRY_AGAIN_AFTER = 30.0  # seconds without the database

_LIMIT = text("select hourly_limit from arcadia.request_budgets where token_digest = :digest")
_TAKE = text(
    "select * from arcadia.take_request(:digest, cast(:prefixes as text[]), cast(:allowed as int[]), cast(:periods as float8[]),"
    " :heard_limit, :heard_others, cast(:heard_reset as float8))"
)
_HOLD = text(
    "update arcadia.request_budgets set not_before = greatest(not_before, clock_timestamp() + make_interval(secs => :seconds)),"
    " reason = :reason where token_digest = :digest"
)

_log = logging.getLogger(__name__)


class RequestBudget:
    """Counts requests in the ledger at `url` (postgresql+psycopg), by the clock of its database, on a connection of its own.

    Nothing is opened before the first request. Each costs one statement. While the database cannot be reached, every request passes.
    """

    def __init__(self, url: URL, token: str) -> None:
        self._url = url
        self._digest = hashlib.sha256(token.strip().encode()).digest()
        self._lock = threading.Lock()
        self._conn: Connection | None = None
        self._not_before = 0.0  # when the database is tried again, on the monotonic clock
        self._spent = 0  # of the hour, when a request was last counted
        self._heard: tuple[int, int, float | None] | None = None  # told with the next request, as a statement of its own would cost as much

    def hourly_limit(self) -> int | None:
        """As the protocol says."""
        row = self._ask(_LIMIT)
        return None if row is None else row.hourly_limit

    def take(self, limits: Sequence[Limit]) -> tuple[float, str] | None:
        """As the protocol says."""
        heard, self._heard = self._heard, None
        limit, others, reset = heard or (None, None, None)
        row = self._ask(
            _TAKE,
            prefixes=[one.prefix for one in limits],
            allowed=[one.requests for one in limits],
            periods=[one.seconds for one in limits],
            heard_limit=limit,
            heard_others=others,
            heard_reset=reset,
        )
        if row is None:
            return None
        if row.wait > 0:
            return row.wait, f"for {limits[row.reached - 1]}" if row.reached else row.reason
        self._spent = row.spent
        return None

    def heard(self, limit: int, remaining: int, reset: float | None) -> None:
        """As the protocol says."""
        self._heard = (limit, max(0, limit - remaining - self._spent), reset)

    def hold(self, seconds: float, reason: str) -> None:
        """As the protocol says."""
        self._ask(_HOLD, seconds=seconds, reason=reason)

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._drop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    def _ask(self, statement: Any, **values: Any) -> Row[Any] | None:
        """The row that a statement gives; None: it gives none, or the database is out of reach."""
        with self._lock:
            if time.monotonic() < self._not_before:
                return None
            try:
                if self._conn is None:
                    self._conn = connect(self._url).connect().execution_options(isolation_level="AUTOCOMMIT")
                    self._conn.execute(text("set statement_timeout = '5s'"))
                result = self._conn.execute(statement, {"digest": self._digest, **values})
                return result.one_or_none() if result.returns_rows else None
            except (SQLAlchemyError, SchemaError):
                _log.warning("the database that counts requests is out of reach: each run paces itself for the next %d s", _TRY_AGAIN_AFTER)
                self._drop()
                self._not_before = time.monotonic() + _TRY_AGAIN_AFTER
                return None

    def _drop(self) -> None:
        if self._conn is not None:
            self._conn.invalidate()
            self._conn.close()
            self._conn.engine.dispose()
            self._conn = None
