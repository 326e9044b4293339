"""How many requests the provider allows, as data, and what a client asks of a budget that it shares with other clients of its token.

When a client waits, and what it learns from replies, is in `client.py`; where the shared budget is kept is not known here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, kw_only=True)
class Limit:
    """At most so many requests of paths under `prefix` (all paths, if empty) in any period of so many seconds."""

    requests: int
    seconds: float
    prefix: str = ""

    def __str__(self) -> str:
        period = {60.0: "a minute", 3600.0: "an hour"}.get(self.seconds, f"in {self.seconds:g} s")
        return f"the provider's limit of {self.requests:,} requests {period}" + (f" of {self.prefix}" if self.prefix else "")

    def covers(self, path: str) -> bool:
        """Whether a request of `path` counts."""
        return path == self.prefix or path.startswith(f"{self.prefix}/")


# Requests of an hour, where no reply has said otherwise yet, and of them the part that may be made within a minute.
# https://docs.digitalocean.com/reference/api/digitalocean/#section/Introduction/Rate-Limit
REQUESTS_AN_HOUR = 5000
PERCENT_OF_A_MINUTE = 5
MINUTE, HOUR = 60.0, 3600.0

# Beside the general ones.
SPECIAL_LIMITS = (
    Limit(requests=10, seconds=60.0, prefix="/v2/account/keys"),
    Limit(requests=5, seconds=10.0, prefix="/v2/cdn/endpoints"),
)


class SharedBudget(Protocol):
    """The requests of all clients that use one token, in this process and others. Threads may share it.

    It never fails: while it cannot be reached, it lets every request pass, and each client paces itself.
    """

    def hourly_limit(self) -> int | None:
        """The provider's limit of requests an hour, as any client of the token heard last; None: none has."""

    def take(self, limits: Sequence[Limit]) -> tuple[float, str] | None:
        """Count one request against all these limits, that of the hour first.

        Where one of them is used up, nothing is counted: the seconds until it may have room, and why, as words that follow "waits 5 s".
        """

    def heard(self, limit: int, remaining: int, reset: float | None) -> None:
        """A reply says how many requests of the hour are left: where fewer than were counted here, other programs made the rest.

        `reset` is in how many seconds the oldest of them expires; None: not known.
        """

    def hold(self, seconds: float, reason: str) -> None:
        """The provider asks to send nothing for so long."""
