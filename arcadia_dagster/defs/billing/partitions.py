"""One partition for each invoice: its month, for people and for order, and its uuid, because a month can have several."""

from datetime import date

import dagster as dg

invoice_partitions = dg.DynamicPartitionsDefinition(name="invoices")


def partition_key(period: date, invoice_uuid: str) -> str:
    """`2026-04_<uuid>`."""
    return f"{period:%Y-%m}_{invoice_uuid}"


def invoice_uuid_of(key: str) -> str:
    """The uuid in a partition key."""
    return key.split("_", 1)[1]
