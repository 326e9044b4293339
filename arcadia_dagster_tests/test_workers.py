"""What becomes of a run that was handed to a worker: it is executed, cancelled, or known to be lost with its worker. And that the files of
deploy/celery say what they ought to. A real broker and a real worker; daemon and many accounts are in chaos/test_workers.py.
"""

import importlib
import shutil
import subprocess
import sys
import threading
from contextlib import contextmanager

import dagster as dg
import pytest
import yaml
from dagster._core.definitions.reconstruct import ReconstructableRepository
from dagster._core.launcher import LaunchRunContext, WorkerStatus

from arcadia_dagster.demo.server import SimulatedServer
from arcadia_dagster.workers.launcher import CeleryRuns
from arcadia_dagster_tests.commands import Trap, environment, wait_for
from arcadia_dagster_tests.machines import CHECKOUT, DEPLOY, Machines, needs_redis, small_accounts, unit_of

INSTANCE = DEPLOY / "celery" / "dagster.yaml"
AMOUNTS = dict.fromkeys(("month_to_date_balance", "account_balance", "month_to_date_usage"), "1.00")


@pytest.fixture
def cluster(tmp_path, database_url, monkeypatch):
    """A broker and a worker, and the server of an account."""
    [account] = small_accounts(1)
    account.balance = {**AMOUNTS, "generated_at": "2026-05-01T00:00:00Z"}
    with SimulatedServer([account]) as server:
        variables = {"ARCADIA_DATABASE_URL": database_url, "DIGITALOCEAN_API_URL": server.url, "DO_API_TOKEN": account.token}
        with Machines(tmp_path, variables) as machines:
            for name, value in machines.variables.items():
                monkeypatch.setenv(name, value)
            machines.start_worker("one")
            yield machines, server


@contextmanager
def unanswered(server):
    """The balance is asked for, and no answer comes as long as the block lasts; what to wait for until it is asked for."""
    asked, go_on = threading.Event(), threading.Event()

    def hold():
        asked.set()
        go_on.wait(120)

    server.requests = Trap("/v2/customers/my/balance", hold)
    try:
        yield asked
    finally:
        go_on.set()


@needs_redis
def test_a_run_is_executed_cancelled_or_known_to_be_lost_with_its_worker(cluster):
    machines, server = cluster
    job = ReconstructableRepository.for_module("arcadia_dagster.definitions", "defs").get_reconstructable_job("record_balance")
    with dg.DagsterInstance.get() as instance:

        def launch():
            run = instance.create_run_for_job(job.get_definition(), job_code_origin=job.get_python_origin())
            instance.run_launcher.launch_run(LaunchRunContext(run, None))
            return run.run_id

        def health(run_id):
            return instance.run_launcher.check_run_worker_health(instance.get_run_by_id(run_id))

        def end_of(run_id):
            return wait_for(lambda: (run := instance.get_run_by_id(run_id)).is_finished and run.status)

        with unanswered(server) as asked:
            cancelled = launch()
            assert asked.wait(120)
            assert health(cancelled).status is WorkerStatus.RUNNING
            assert instance.run_launcher.terminate(cancelled)
            assert end_of(cancelled) is dg.DagsterRunStatus.CANCELED
            assert not instance.run_launcher.terminate(cancelled)
        assert end_of(launch()) is dg.DagsterRunStatus.SUCCESS
        with unanswered(server) as asked:
            lost = launch()
            assert asked.wait(120)
            machines.kill("one")
            found = health(lost)
            assert found.status is WorkerStatus.FAILED
            assert found.msg.endswith("does not answer")
            machines.start_worker("one")
            wait_for(lambda: machines.ready("one"))
            found = health(lost)
            assert found.status is WorkerStatus.FAILED
            assert found.msg.endswith("no longer knows it")


def test_the_instance_of_workers_is_the_one_of_the_readme_but_for_what_it_says_of_workers():
    plain, ours = (yaml.safe_load(path.read_text()) for path in (CHECKOUT / "dagster.yaml", INSTANCE))
    differ = {key for key in plain.keys() | ours.keys() if plain.get(key) != ours.get(key)}
    assert differ == {"run_launcher", "run_queue", "compute_logs", "concurrency", "run_monitoring", "run_retries"}
    for section, key in (("concurrency", "runs"), ("run_monitoring", "start_timeout_seconds"), ("run_retries", "max_retries")):
        plain[section].pop(key), ours[section].pop(key)
        assert plain[section] == ours[section]


def test_no_secret_of_the_broker_travels_with_a_run(tmp_path, database_url, monkeypatch):
    """The instance is packed into every message, and into the arguments of processes."""
    shutil.copy(INSTANCE, tmp_path)
    for name, value in {"DAGSTER_HOME": tmp_path, "ARCADIA_DATABASE_URL": database_url}.items():
        monkeypatch.setenv(name, str(value))
    for name in ("ARCADIA_BROKER_URL", "ARCADIA_BROKER_RESULTS_URL"):
        monkeypatch.setenv(name, "redis://:hunter2@127.0.0.1:1/0")
    with dg.DagsterInstance.get() as instance:
        assert isinstance(instance.run_launcher, CeleryRuns)
        assert instance.run_coordinator.dequeue_interval_seconds == 1
        assert instance.get_concurrency_config().run_queue_config.max_concurrent_runs == 8
        assert instance.run_launcher.celery.conf.broker_url.startswith("redis://:hunter2")
        assert "hunter2" not in str(instance.get_ref())


def test_a_worker_refuses_what_would_make_it_one_of_its_own(tmp_path, database_url, monkeypatch):
    with pytest.raises(SystemExit, match="set ARCADIA_DATABASE_URL"):
        importlib.import_module("arcadia_dagster.workers.app")
    shutil.copy(CHECKOUT / "dagster.yaml", tmp_path)
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    monkeypatch.setenv("ARCADIA_DATABASE_URL", database_url)
    with pytest.raises(SystemExit, match=r"put deploy/celery/dagster\.yaml in its place"):
        importlib.import_module("arcadia_dagster.workers.app")


def test_who_has_no_workers_does_not_pay_for_them():
    program = "import sys, arcadia_dagster.cli; from arcadia_dagster.definitions import defs; defs(); print('celery' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", program], env=environment(), check=True, capture_output=True, text=True).stdout == "False\n"
    )


def test_a_worker_stops_after_its_runs():
    settings = unit_of(DEPLOY / "celery" / "arcadia-worker.service")["Service"]
    assert (settings["KillSignal"], settings["KillMode"], settings["Restart"]) == ("SIGTERM", "mixed", "always")
    assert settings["EnvironmentFile"] == "/etc/arcadia/arcadia.env"
