"""How the provider answers: the ways in which it cuts lists into pages, and the errors that a request ends in.

Who only has to know these need not load what makes requests (`client.py`), which takes longer than all the rest of a command.
"""

from enum import Enum
from typing import Any


class ProviderError(Exception):
    """A request that did not give what was asked for; `str()` is one sentence with everything known and what to do.

    `status` is the HTTP status, None where no whole reply arrived; `message` says what is wrong, in the provider's own
    words if there are any; `request_id` is what the provider's support asks for.
    """

    def __init__(
        self,
        *,
        kind: str,
        path: str,
        message: str,
        status: int | None = None,
        request_id: str | None = None,
        advice: str = "try again later",
    ) -> None:
        self.kind = kind
        self.path = path
        self.status = status
        self.message = message
        self.request_id = request_id
        self.again: bool | float = False  # whether it is worth another try: no, yes with backoff, or after so many seconds
        outcome = "failed" if status is None else f"answered HTTP {status}"
        identity = "" if request_id is None else f" (request id {request_id})"
        super().__init__(f"{kind}: {path} {outcome}: {message.rstrip('. ')}{identity}; {advice}")


class TokenRejected(ProviderError):  # noqa: N818
    """The provider does not know the token (401)."""


class Forbidden(ProviderError):  # noqa: N818
    """The token may not do this (403). `scope` is the scope it needs, where known, for example `firewall:read`."""

    def __init__(self, *, scope: str | None = None, advice: str | None = None, **what: Any) -> None:
        self.scope = scope
        missing = "a scope that this needs" if scope is None else f"the scope {scope}"
        super().__init__(advice=advice or f"the token lacks {missing}: give it that scope or use another token", **what)


class NotFound(ProviderError):  # noqa: N818
    """The provider has no such thing (404)."""


class Paging(Enum):
    """How a list is cut into pages, and what it says about its length."""

    PAGES = "meta.total always, links.pages.next on every page but the last"
    LINKS = "as PAGES, but meta.total may be missing"
    META = "meta.page, meta.pages, meta.total and links, each of which may be missing"
    TOTAL = "total beside the items, neither links nor meta"
    SINGLE = "no pages: one reply holds everything"
