"""The Celery app that a worker is started with: `celery -A arcadia_dagster.workers.app worker`.

It has no settings of its own: broker, queue and all else are those that the dagster.yaml in DAGSTER_HOME gives the launcher.
"""

import dagster as dg
from dagster_celery.tasks import create_execute_job_task, create_resume_job_task

from arcadia_dagster import settings
from arcadia_dagster.definitions import defs
from arcadia_dagster.workers.launcher import CeleryRuns

if settings.database_is_embedded():
    raise SystemExit("a worker needs the database that the other machines use: set ARCADIA_DATABASE_URL, as it is set there")
with dg.DagsterInstance.get() as _instance:
    _launcher = _instance.run_launcher
if not isinstance(_launcher, CeleryRuns):
    raise SystemExit("the dagster.yaml in DAGSTER_HOME hands no runs to workers: put deploy/celery/dagster.yaml in its place")

app = _launcher.celery
create_execute_job_task(app)
create_resume_job_task(app)

defs()  # loaded here once, and not by every process that is forked for a run
