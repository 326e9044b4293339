"""The project's storage of Dagster's runs, which notes how long a run used it. For `dagster_share.py`."""

import atexit
import json
import multiprocessing
import os
import time
from pathlib import Path
from typing import Any

from sqlalchemy import event

from arcadia_dagster.instance_storage import LedgerStorage


class TimedStorage(LedgerStorage):
    """Leaves, at the end of a run, a file with the seconds that its connections were in use, and how many statements it made."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        engine = self._event_log_storage._engine  # of all three
        used = {"seconds": 0.0, "statements": 0}

        @event.listens_for(engine, "checkout")
        def taken(_: Any, record: Any, __: Any) -> None:
            record.info["taken_at"] = time.perf_counter()

        @event.listens_for(engine, "checkin")
        def returned(_: Any, record: Any) -> None:
            used["seconds"] += time.perf_counter() - record.info["taken_at"]

        @event.listens_for(engine, "before_cursor_execute")
        def executed(*_: Any) -> None:
            used["statements"] += 1

        if multiprocessing.parent_process():  # servers, which are not started by multiprocessing, end when the folder is being removed
            atexit.register(lambda: path(os.getpid()).write_text(json.dumps(used)))


def path(pid: int) -> Path:
    """Where the process of a run leaves its file."""
    return Path(os.environ["DAGSTER_HOME"]) / f"storage-used-by-{pid}"
