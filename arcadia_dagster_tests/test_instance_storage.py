import contextlib
import shutil
import subprocess
import sys
import time
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.instance.ref import InstanceRef
from dagster._serdes import serialize_value
from sqlalchemy import create_engine, event, text
from sqlalchemy.pool import NullPool

from arcadia_dagster.ledger.schema import DatabaseDown

DAGSTER_YAML = Path(__file__).parent.parent / "dagster.yaml"


@pytest.fixture
def instance_folder(tmp_path, monkeypatch):
    shutil.copy(DAGSTER_YAML, tmp_path)
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    monkeypatch.setenv("DAGSTER_DISABLE_TELEMETRY", "1")
    return tmp_path


@pytest.fixture
def storage_url(instance_folder, empty_database_url, monkeypatch):
    monkeypatch.setenv("ARCADIA_DATABASE_URL", empty_database_url.replace("postgresql+psycopg", "postgresql"))
    return empty_database_url


@dg.asset(pool="inventory")
def something():
    return dg.MaterializeResult(metadata={"rows": 3})


def test_runs_and_events_are_kept_in_a_schema_of_their_own_in_the_ledger_s_database(storage_url):
    with dg.DagsterInstance.get() as instance:
        assert dg.materialize([something], instance=instance).success
    with dg.DagsterInstance.get() as again:
        assert again.get_latest_materialization_event(something.key).asset_materialization.metadata["rows"].value == 3
        assert [run.status for run in again.get_runs()] == [dg.DagsterRunStatus.SUCCESS]
    engine = create_engine(storage_url)
    with engine.connect() as connection:
        tables = dict(connection.execute(text("select schemaname, count(*) from pg_tables group by 1")).all())
    engine.dispose()
    assert tables["dagster"] > 10
    assert "public" not in tables


def backends(instance):
    """The server processes that serve this database, but for the one that asks."""
    with instance.event_log_storage.index_connection() as connection:
        return {row[0] for row in connection.execute(text("select pid from pg_stat_activity where datname = current_database()"))}


def test_a_connection_is_kept_is_replaced_when_it_is_lost_and_closed_at_the_end(storage_url):
    with dg.DagsterInstance.get() as instance:
        opened = []
        event.listen(instance.event_log_storage._engine, "connect", lambda *_: opened.append(1))
        assert dg.materialize([something], instance=instance).success
        assert len(opened) < 10  # one, and those for statements made while another is under way
        (before,) = backends(instance)
        engine = create_engine(storage_url, isolation_level="AUTOCOMMIT", poolclass=NullPool)
        with engine.connect() as connection:
            connection.execute(text("select pg_terminate_backend(:pid)"), {"pid": before})
        time.sleep(1.1)  # as one that was idle
        assert dg.materialize([something], instance=instance).success
        (after,) = backends(instance)
        assert after != before
    with engine.connect() as connection:
        left = "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
        assert connection.scalar(text(left)) == 0


def test_threads_that_ask_at_once_do_not_wait_for_each_other(storage_url):
    with dg.DagsterInstance.get() as instance, contextlib.ExitStack() as held:
        for storage in [instance.event_log_storage, instance.run_storage] * 4:
            held.enter_context(storage._connect() if hasattr(storage, "_connect") else storage.connect())
        assert len(backends(instance)) == 9
        assert instance.get_runs() == []


def test_the_instance_file_says_what_it_is_meant_to(storage_url):
    with dg.DagsterInstance.get() as instance:
        concurrency = instance.get_concurrency_config()
        assert (concurrency.pool_config.pool_granularity.value, concurrency.pool_config.default_pool_limit) == ("run", 1)
        assert concurrency.run_queue_config.max_concurrent_runs == 4
        assert instance.run_monitoring_enabled
        assert instance.run_retries_enabled
        assert not instance.telemetry_enabled
        assert not instance.nux_enabled
        assert instance.freshness_enabled
        assert instance.event_log_storage.supports_global_concurrency_limits


def test_no_address_travels_in_the_arguments_of_child_processes(instance_folder, monkeypatch):
    monkeypatch.setenv("DAGSTER_POSTGRES_URL", "postgresql://me:hunter2@db.example/dagster")
    assert "hunter2" not in serialize_value(InstanceRef.from_dir(str(instance_folder)))
    assert "db.example" not in serialize_value(InstanceRef.from_dir(str(instance_folder)))


def test_a_storage_of_its_own_is_used_as_it_is(instance_folder, empty_database_url, monkeypatch):
    monkeypatch.setenv("ARCADIA_DATABASE_URL", "postgresql://nowhere.invalid/ledger")
    monkeypatch.setenv("DAGSTER_POSTGRES_URL", empty_database_url)
    with dg.DagsterInstance.get() as instance:
        assert instance.get_runs() == []
    engine = create_engine(empty_database_url)
    with engine.connect() as connection:
        assert connection.scalar(text("select to_regclass('public.runs')")) is not None
        assert connection.scalar(text("select to_regnamespace('dagster')")) is None
    engine.dispose()


@pytest.mark.parametrize("name", ["ARCADIA_DATABASE_URL", "DAGSTER_POSTGRES_URL"])
def test_a_database_that_is_down_is_one_clear_sentence(instance_folder, monkeypatch, name):
    monkeypatch.setenv(name, "postgresql://me:hunter2@127.0.0.1:1/runs")
    with pytest.raises(DatabaseDown, match=r"cannot use the database of Dagster's runs at 127\.0\.0\.1:1/runs: .*refused") as raised:
        dg.DagsterInstance.get()
    assert "hunter2" not in str(raised.value)


def test_processes_that_start_together_from_cold(instance_folder, storage_url):
    command = [sys.executable, "-c", "import dagster as dg; print(dg.DagsterInstance.get().get_runs_count())"]
    pipe = subprocess.PIPE
    processes = [subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) for _ in range(2)]
    for process in processes:
        stdout, stderr = process.communicate()
        assert stdout.strip() == "0", stderr
        assert "Retrying" not in stderr
