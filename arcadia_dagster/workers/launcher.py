"""Hands runs to Celery workers, and finds out which of them died with their worker, so that Dagster starts those again.

Belongs here: what dagster-celery's launcher does not do, or does wrongly. The side of the worker is in `app.py`.
"""

from typing import Any

import dagster as dg
from celery.states import READY_STATES, STARTED
from dagster._core.launcher import CheckRunHealthResult, WorkerStatus
from dagster_celery.launcher import CeleryRunLauncher
from dagster_celery.tags import DAGSTER_CELERY_TASK_ID_TAG

_ANSWER_SECONDS = 5.0  # a worker answers within milliseconds, even while all its processes are busy


class CeleryRuns(CeleryRunLauncher):
    """Dagster's launcher of runs on Celery, with two things put right: a run whose worker is no more, and one that is cancelled."""

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """FAILED as soon as no worker works on a run that has begun and not ended. Raises what Celery does while the broker is away.

        Dagster's own believes the last word of the worker, which after its death stays "started" for ever. A worker of the same name that
        was started again since does not know the task, and that is its answer.
        """
        task_id = run.tags[DAGSTER_CELERY_TASK_ID_TAG]
        known: dict[str, Any] = self.celery.backend.get_task_meta(task_id)
        if known["status"] in READY_STATES:  # Dagster looks at the run once more before it believes this
            return CheckRunHealthResult(WorkerStatus.FAILED, f"its Celery task ended ({known['status']}) without ending the run")
        worker = known["result"]["hostname"] if known["status"] == STARTED else None
        asked = self.celery.control.inspect(destination=worker and [worker], timeout=_ANSWER_SECONDS)
        answers: dict[str, dict[str, Any]] = asked.query_task(task_id) or {}
        if any(task_id in tasks for tasks in answers.values()):
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        if worker is None:
            return CheckRunHealthResult(WorkerStatus.FAILED, "no worker has it")
        return CheckRunHealthResult(WorkerStatus.FAILED, f"worker {worker} {'no longer knows it' if answers else 'does not answer'}")

    def terminate(self, run_id: str) -> bool:
        """Cancel a run that was handed to a worker, at once: its process is killed, which the ledger survives. False where there is none.

        Dagster's own interrupts it without a note that this was wanted: a step that may be tried again is, and the run, once it has ended,
        is started again as one that crashed.
        """
        run = self._instance.get_run_by_id(run_id)
        if run is None or run.is_finished or DAGSTER_CELERY_TASK_ID_TAG not in run.tags:
            return False
        self._instance.report_run_canceling(run)
        self.celery.control.revoke(run.tags[DAGSTER_CELERY_TASK_ID_TAG], terminate=True, signal="SIGKILL")
        self._instance.report_run_canceled(run)
        return True
