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


@dg.asset(check_specs=[dg.AssetCheckSpec("is_there", asset="checked")])
def checked():
    yield dg.AssetCheckResult(passed=True)
    yield dg.MaterializeResult()


STEPS = ["STEP_START", "STEP_OUTPUT", "ASSET_CHECK_EVALUATION", "STEP_OUTPUT", "ASSET_MATERIALIZATION", "STEP_SUCCESS"]


def of_steps(instance, run_id):
    said = [(entry.step_key, entry.dagster_event.event_type_value) for entry in instance.all_logs(run_id) if entry.dagster_event]
    return [(step, kind) for step, kind in said if kind in STEPS]


def test_what_a_step_has_made_is_stored_with_its_end(storage_url):
    with dg.DagsterInstance.get() as instance:
        result = dg.materialize([checked], instance=instance)
    with dg.DagsterInstance.get() as again:
        assert of_steps(again, result.run_id) == [("checked", kind) for kind in STEPS]
        entries = again.all_logs(result.run_id)
        assert entries == sorted(entries, key=lambda entry: entry.timestamp)
        (record,) = again.get_asset_records([checked.key])
        assert record.asset_entry.last_materialization_record.run_id == result.run_id
        assert again.event_log_storage.get_event_tags_for_asset(checked.key)
        (check_key,) = checked.check_keys
        (execution,) = again.event_log_storage.get_asset_check_execution_history(check_key, limit=2)
        assert (execution.status.value, execution.run_id) == ("SUCCEEDED", result.run_id)


def test_the_latest_materialization_is_the_latest_also_when_the_one_before_was_wiped(storage_url):
    with dg.DagsterInstance.get() as instance:

        def latest():
            record = instance.get_asset_records([something.key])[0].asset_entry.last_materialization_record
            return record and record.run_id

        first = dg.materialize([something], instance=instance)
        assert latest() == first.run_id
        instance.wipe_assets([something.key])
        assert instance.get_asset_records([something.key]) == []
        for _ in range(2):
            again = dg.materialize([something], instance=instance)
            assert latest() == again.run_id


def test_a_step_takes_few_statements(storage_url):
    def nothing() -> None:
        pass

    assets = [dg.asset(name=f"number_{number}")(nothing) for number in range(10)]
    with dg.DagsterInstance.get() as instance:
        dg.materialize(assets, instance=instance)
        statements = []
        event.listen(instance.event_log_storage._engine, "before_cursor_execute", lambda *told: statements.append(told[2]))
        dg.materialize(assets, instance=instance)
    assert len([one for one in statements if one.startswith("INSERT INTO event_logs")]) < 2 * len(assets) + 10
    assert not [one for one in statements if one.startswith("NOTIFY")]


def test_who_asks_finds_what_is_held_and_who_reads_the_log_does_not_wait_for_long(storage_url):
    found = {}

    @dg.multi_asset(specs=[dg.AssetSpec("first"), dg.AssetSpec("second"), dg.AssetSpec("third")])
    def slow(context):
        def seen_by(who, key):
            return who.get_latest_materialization_event(dg.AssetKey(key)) is not None

        yield dg.MaterializeResult("first")
        with dg.DagsterInstance.get() as other:
            found["not yet"] = seen_by(other, "first")
            found["asked for"] = seen_by(context.instance, "first")
            found["asked for, seen by others"] = seen_by(other, "first")
            yield dg.MaterializeResult("second")
            context.log.info("A message is stored at once, and what came before it.")
            found["before a message"] = seen_by(other, "second")
            time.sleep(1.1)
            yield dg.MaterializeResult("third")
            found["soon after"] = seen_by(other, "third")

    with dg.DagsterInstance.get() as instance:
        assert dg.materialize([slow], instance=instance).success
    assert not found.pop("not yet")
    assert set(found) == {"asked for", "asked for, seen by others", "before a message", "soon after"}
    assert found.pop("soon after") is False  # it is held for a moment, counted from the first that is
    assert all(found.values())


KILLED = """
import os, signal, sys
import dagster as dg

@dg.asset
def done():
    return dg.MaterializeResult()

@dg.asset(deps=[done])
def killed(context):
    yield dg.MaterializeResult()
    os.kill(os.getpid(), signal.SIGKILL)

with dg.DagsterInstance.get() as instance:
    dg.materialize([done, killed], instance=instance)
"""


def test_of_a_process_that_is_killed_all_steps_that_ended_are_there(storage_url):
    assert subprocess.run([sys.executable, "-c", KILLED], check=False, capture_output=True).returncode == -9
    with dg.DagsterInstance.get() as instance:
        (run,) = instance.get_runs()
        assert of_steps(instance, run.run_id) == [
            ("done", "STEP_START"),
            ("done", "STEP_OUTPUT"),
            ("done", "ASSET_MATERIALIZATION"),
            ("done", "STEP_SUCCESS"),
            ("killed", "STEP_START"),
        ]


def test_a_connection_that_is_lost_within_a_step_loses_no_event(storage_url):
    @dg.asset(check_specs=[dg.AssetCheckSpec("is_there", asset="unlucky")])
    def unlucky(context):
        yield dg.AssetCheckResult(passed=True)
        (pid,) = backends(context.instance)
        engine = create_engine(storage_url, isolation_level="AUTOCOMMIT", poolclass=NullPool)
        with engine.connect() as connection:
            connection.execute(text("select pg_terminate_backend(:pid, 5000)"), {"pid": pid})
        yield dg.MaterializeResult()

    with dg.DagsterInstance.get() as instance:
        result = dg.materialize([unlucky], instance=instance)
        assert result.success
        assert of_steps(instance, result.run_id) == [("unlucky", kind) for kind in STEPS]


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
