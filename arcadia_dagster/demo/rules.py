"""The provider's rules of time and price, as far as the simulated accounts' invoices follow them.

Belongs here: what any simulated invoice needs. Does not belong here: what an account holds or which lines it gets.
"""

from datetime import datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal

from arcadia_dagster.demo.items import HOURS_CHARGED_PER_MONTH


def hours_between(start: datetime, end: datetime) -> int:
    """Whole hours between two times, the nearest."""
    return round((end - start).total_seconds() / 3600)


def prorated(monthly: Decimal, hours: int) -> str:
    """What `hours` of a monthly price cost: 28 days are the whole of it, a cent is the least."""
    cost = cents(min(hours, HOURS_CHARGED_PER_MONTH) * monthly / HOURS_CHARGED_PER_MONTH)
    return f"{max(cost, Decimal('0.01')):.2f}"


def cents(amount: Decimal) -> Decimal:
    """An amount of US dollars to the cent, as the provider rounds."""
    return amount.quantize(Decimal("0.01"), ROUND_HALF_UP)


def next_month(time: datetime) -> datetime:
    """The first moment of the month after."""
    first = time.replace(day=1, hour=0, minute=0, second=0)
    return (first + timedelta(days=32)).replace(day=1)


def iso(time: datetime) -> str:
    """A UTC time as the API prints it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")
