"""A hundred accounts on two workers, of which one is killed in the middle: Dagster notices, the other one does what was lost, and the
ledger of every account is the one that nothing happened to. Only in `make chaos`; what the death does to a run is in ../test_workers.py.
"""

import random
import uuid
from collections import Counter

import pytest
from sqlalchemy import create_engine, make_url, text

from arcadia_dagster.demo.server import SimulatedServer
from arcadia_dagster_tests.chaos import world
from arcadia_dagster_tests.chaos.test_provider import ALL, SEED, note
from arcadia_dagster_tests.commands import wait_for
from arcadia_dagster_tests.machines import Dagster, Machines, accounts_file, needs_redis, small_accounts

ACCOUNTS = 100
HALF_AN_HOUR = 1800


@pytest.fixture
def undisturbed(postgres_server, template_database):
    """What the ledger says of one such account, table by table."""
    [account] = small_accounts(1)
    with (
        world.database(postgres_server, f"arcadia_one_{uuid.uuid4().hex[:12]}", template_database) as url,
        pytest.MonkeyPatch.context() as patch,
        SimulatedServer([account]) as served,
    ):
        patch.setenv("ARCADIA_INTERNAL_PROJECT", "")
        runs = world.Runs(url, served, account.token, patch)
        failed = world.failures(runs.job("sync_inventory"))
        assert not failed, failed
        said = world.contents(runs.engine)
        runs.close()
    return said


@pytest.mark.skipif(not ALL, reason="takes minutes")
@needs_redis
def test_a_worker_killed_among_a_hundred_accounts_costs_nothing(undisturbed, database_url, monkeypatch, tmp_path):
    accounts = small_accounts(ACCOUNTS)
    file, names = accounts_file(tmp_path, accounts)
    moment = random.Random(f"{SEED} worker").randint(ACCOUNTS // 4, ACCOUNTS // 2)
    with SimulatedServer(accounts) as served:
        variables = {
            "ARCADIA_DATABASE_URL": make_url(database_url).set(drivername="postgresql").render_as_string(hide_password=False),
            "ARCADIA_ACCOUNTS_FILE": str(file),
            "ARCADIA_INTERNAL_PROJECT": "",
            "DIGITALOCEAN_API_URL": served.url,
        }
        with Machines(tmp_path, variables) as machines:
            for name, value in machines.variables.items():
                monkeypatch.setenv(name, value)
            for worker in ("first", "second"):
                machines.start_worker(worker)
            with Dagster.of(machines) as dagster:
                machines.start_daemon()
                wait_for(lambda: machines.ready("first") and machines.ready("second"))
                dagster.launch("sync_inventory", names)
                wait_for(lambda: len(dagster.succeeded()) >= moment, HALF_AN_HOUR)
                wait_for(lambda: machines.is_busy("first"), HALF_AN_HOUR)
                machines.kill("first")
                wait_for(lambda: dagster.succeeded() == set(names) and not dagster.not_done(), HALF_AN_HOUR)
                retried = [run for run in dagster.runs() if "dagster/retry_number" in run.tags]
                statuses = Counter(run.status.value for run in dagster.runs())
    engine = create_engine(make_url(database_url))
    said = world.contents(engine)
    with engine.connect() as conn:
        of_each = conn.execute(text("select count(*) from arcadia.resources group by account_id")).scalars().all()
    engine.dispose()
    wanted = {table: Counter({row: count * ACCOUNTS for row, count in rows.items()}) for table, rows in undisturbed.items()}
    wrong = world.difference(wanted, said, without=("accounts",))
    note(crash="kill -9 of a worker with all its runs, among 100 accounts", killed=bool(retried), wrong=wrong)
    assert wrong == []
    assert len(of_each) == ACCOUNTS
    assert len(set(of_each)) == 1
    assert retried
    assert statuses["SUCCESS"] == ACCOUNTS
    assert set(statuses) == {"SUCCESS", "FAILURE"}  # what was lost, and was tried again
