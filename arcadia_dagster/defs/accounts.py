"""The accounts of an accounts' file as partitions: each run reads one of them, so that one account's failure is its own.

Their names are read when the code is loaded: an edit of the file counts once the code location is reloaded. Without a file, or with one
account in it, nothing is partitioned. Which tokens they have is read at run time, by `settings.py`.
"""

from typing import TypeVar

import dagster as dg

from arcadia_dagster import settings

# On every run of one account that we ask for. A run that a person starts in the UI has its partition's tag alone.
ACCOUNT_TAG = "arcadia/account"
PARTITION_TAG = "dagster/partition"

_names = settings.account_names()
ACCOUNTS = _names if len(_names) > 1 else ()

account_partitions = dg.StaticPartitionsDefinition(list(ACCOUNTS)) if ACCOUNTS else None

Value = TypeVar("Value")


def account_of_run(run: dg.DagsterRun) -> str | None:
    """The account whose partition a run materialises, or that it says it is of; None where there are not several, or it is of none."""
    for tag in (PARTITION_TAG, ACCOUNT_TAG):
        if (name := run.tags.get(tag)) in ACCOUNTS:
            return name
    return None


def account_tags(name: str) -> dict[str, str]:
    """The tags of a run that a schedule or sensor asks for: whose it is, and that what a person asks for goes first."""
    return {ACCOUNT_TAG: name, "dagster/priority": "-1"}
