"""Runs on other machines: Dagster's daemon hands each run to a queue, and Celery workers take it from there. Needs the extra `celery`.

Nothing here is imported unless dagster.yaml names the launcher, as deploy/celery/dagster.yaml does. What a run does is in `defs/`.
"""
