"""Cursors: where a page ended, as text that only this server reads.

A cursor holds the sort key of the last row, so that rows which come or go between two pages shift nothing, and which question it
belongs to. It grants nothing: what a key may see is decided by the database, whatever the cursor says.
"""

import base64
import hashlib
import json
from collections.abc import Sequence
from typing import Any, Generic, TypeVar
from urllib.parse import urlencode

from fastapi import Request, Response
from pydantic import BaseModel, TypeAdapter
from sqlalchemy import RowMapping

from arcadia_dagster.api.models import Paged
from arcadia_dagster.api.problems import bad_request

Key = TypeVar("Key", bound=BaseModel)
_DOCUMENT = TypeAdapter(tuple[str, dict[str, Any]])


class Pages(Generic[Key]):
    """The page that is asked for, and the way to the next. `key` names the columns that rows are sorted by.

    `after` is the key of the row before the page, None at the beginning; `fetch` is how many rows to read: one more than the page
    has tells that there is another. Raises a problem where the cursor is none of ours, or of another question.
    """

    def __init__(self, request: Request, response: Response, query: Paged, key: type[Key]) -> None:
        self._response, self._query, self._key = response, query, key
        asked = json.dumps([request.url.path, sorted(query.filters().items())], default=str)
        self._question = hashlib.sha256(asked.encode()).hexdigest()[:12]
        self.fetch = query.limit + 1
        self.after: Key | None = None if query.cursor is None else self._read(query.cursor)

    def cut(self, rows: Sequence[RowMapping]) -> tuple[list[dict[str, Any]], str | None]:
        """The rows of the page, and the cursor of the next, which the response's header Link then names; None: there is none."""
        items = [dict(row) for row in rows[: self._query.limit]]
        if len(rows) <= self._query.limit:
            return items, None
        key = self._key.model_validate(items[-1])
        document = json.dumps([self._question, key.model_dump(mode="json")], separators=(",", ":"))
        cursor = base64.urlsafe_b64encode(document.encode()).decode().rstrip("=")
        again = {**self._query.filters(), "limit": self._query.limit, "cursor": cursor}
        # Relative, so that it is right behind any proxy.
        self._response.headers["Link"] = f'<?{urlencode(again)}>; rel="next"'
        return items, cursor

    def _read(self, cursor: str) -> Key:
        try:
            document = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
            question, columns = _DOCUMENT.validate_json(document)
            if question == self._question:
                return self._key.model_validate(columns)
        except ValueError:  # of each of these steps
            raise bad_request("cursor: this is none; take it from `next` of the page before, or leave it out to begin anew") from None
        raise bad_request("cursor: it belongs to another question; keep the filters as they were, or leave it out to begin anew")
