"""Kills at random moments, several syncs at once, a database that dies or goes away: after the next clean sync the ledger is the one that
nothing happened to, row for row. Of `arcadia sync` as a process of its own, and of the process that executes a Dagster run.

`make test` tries a few, chosen by CHAOS_SEED; with CHAOS=all it is a hundred.
"""

import contextlib
import random
import shutil
import signal
import subprocess
import threading
import time

import psutil
import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url

from arcadia_dagster import embedded_postgres
from arcadia_dagster.demo.server import SimulatedServer
from arcadia_dagster_tests.chaos import world
from arcadia_dagster_tests.chaos.test_provider import ALL, SEED, note
from arcadia_dagster_tests.commands import arcadia, end, start, start_module

HURRY = {"ARCADIA_TEST_HURRY": 60}
SYNCS, RUNS, SERVERS, OUTAGES = (60, 20, 20, 10) if ALL else (1, 1, 1, 1)


def said(url):
    engine = create_engine(make_url(url))
    try:
        return world.contents(engine)
    finally:
        engine.dispose()


@pytest.fixture
def served():
    now = world.account_now()
    with SimulatedServer([now]) as server:
        yield server, {"DIGITALOCEAN_API_URL": server.url, "DO_API_TOKEN": now.token, **HURRY}


def address(url):
    return {"ARCADIA_DATABASE_URL": url.set(drivername="postgresql").render_as_string(hide_password=False)}


def a_moment(seed, requests=130):
    """So many requests into a sync, and so many seconds after: between requests, and in the transactions that follow them."""
    chance = random.Random(f"{SEED} {seed}")
    return chance.randint(1, requests), chance.choice([0.0, 0.002, 0.01, 0.03, 0.1, 0.3])


def at_the_moment(server, seed, strike):
    """Strike then. Gives what to call before the next sync: a moment that has not come does not come in it, and a strike is over."""
    count, after = a_moment(seed)

    def spring():
        time.sleep(after)
        strike()

    striking = threading.Thread(target=spring, daemon=True)
    server.requests = world.Requests(count, striking.start)

    def over():
        server.requests = []
        if striking.ident is not None:  # it was started
            striking.join()

    return over


def kill(process):
    with contextlib.suppress(ProcessLookupError):
        process.kill()


@pytest.mark.parametrize("seed", range(SYNCS))
def test_a_sync_killed_at_any_moment_costs_nothing(seed, served, copy_of_before, undisturbed):
    server, variables = served
    process = start("sync", **variables, **address(copy_of_before))
    over = at_the_moment(server, f"sync {seed}", lambda: kill(process))
    code = end(process).code
    over()
    assert code in (-signal.SIGKILL, 0)
    done = arcadia("sync", **variables, **address(copy_of_before))
    wrong = world.difference(undisturbed, said(copy_of_before))
    note(crash="kill -9 of `arcadia sync`", killed=code != 0, wrong=wrong)
    assert wrong == []
    assert done.code == 0, done.out + done.err


@pytest.mark.parametrize("seed", range(RUNS))
def test_a_dagster_run_whose_process_is_killed_costs_nothing(seed, served, copy_of_before, undisturbed, tmp_path):
    server, variables = served
    home = tmp_path / "dagster"
    home.mkdir()
    shutil.copyfile("dagster.yaml", home / "dagster.yaml")
    job = random.Random(f"{SEED} run {seed}").choice(["sync_inventory", "sync_catalogue", "discover_invoices"])
    process = start_module(
        "dagster",
        "job",
        "execute",
        "-m",
        "arcadia_dagster.definitions",
        "-j",
        job,
        DAGSTER_HOME=home,
        **variables,
        **address(copy_of_before),
    )
    count = random.Random(f"{SEED} run {seed} moment").randint(1, {"sync_inventory": 40, "sync_catalogue": 30, "discover_invoices": 5}[job])
    server.requests = world.Requests(count, lambda: kill(process))
    process.communicate(timeout=300)
    code = process.returncode
    done = arcadia("sync", **variables, **address(copy_of_before))
    wrong = world.difference(undisturbed, said(copy_of_before))
    note(crash="kill -9 of a Dagster run", killed=code != 0, wrong=wrong)
    assert wrong == []
    assert done.code == 0, done.out + done.err


@pytest.fixture(scope="session")
def own_server_before(ledger_before, postgres_server, tmp_path_factory):
    """A dump of the ledger of an account with a past, made with the wheel's own tools."""
    dump = tmp_path_factory.mktemp("dump") / "before.sql"
    url = postgres_server.set(database=ledger_before, drivername="postgresql").render_as_string(hide_password=False)
    with dump.open("wb") as file:
        subprocess.run([_tool("pg_dump"), "--no-owner", url], stdout=file, check=True)
    return dump


def _tool(name):
    return embedded_postgres._binary(name, None)


@pytest.mark.parametrize("seed", range(SERVERS))
def test_a_database_server_killed_at_any_moment_recovers_and_costs_nothing(seed, served, own_server_before, undisturbed, server_folder):
    server, variables = served
    data = server_folder / "postgres"
    url = embedded_postgres.start(data)
    subprocess.run([_tool("psql"), "-q", "-o", "/dev/null", "-f", own_server_before, url], check=True, stdout=subprocess.DEVNULL)
    process = start("sync", **variables, ARCADIA_HOME=server_folder)

    def strike():
        with contextlib.suppress(OSError, psutil.NoSuchProcess):
            postmaster = psutil.Process(int((data / "postmaster.pid").read_text().split()[0]))
            for one in (postmaster, *postmaster.children()):
                with contextlib.suppress(psutil.NoSuchProcess):
                    one.kill()

    over = at_the_moment(server, f"server {seed}", strike)
    first = end(process)  # which must not show a traceback
    over()
    done = arcadia("sync", **variables, ARCADIA_HOME=server_folder)
    wrong = world.difference(undisturbed, said(make_url(embedded_postgres.start(data)).set(drivername="postgresql+psycopg")))
    note(crash="kill -9 of PostgreSQL", killed=first.code != 0, wrong=wrong)
    assert wrong == []
    assert done.code == 0, done.out + done.err


@pytest.mark.parametrize(("count", "seed"), [(2, 0)] if not ALL else [(count, seed) for seed in range(5) for count in (2, 4)])
def test_several_syncs_at_once_are_as_one(count, seed, served, copy_of_before, undisturbed, tmp_path):
    """The first at once, the others within seconds of it."""
    _, variables = served
    chance, together = random.Random(f"{SEED} {count} at once {seed}"), []
    for _ in range(count):
        together.append(start("sync", **variables, **address(copy_of_before), ARCADIA_HOME=tmp_path))
        time.sleep(chance.choice([0.0, 0.2, 1.0, 2.0]))
    done = [end(process) for process in together]
    wrong = world.difference(undisturbed, said(copy_of_before), without=("events",))
    events = world.difference(undisturbed, said(copy_of_before), tables=["events"])
    note(crash=f"{count} syncs at once", killed=True, wrong=wrong + events)
    assert wrong + events == []
    assert [one.code for one in done] == [0] * count, [one.out + one.err for one in done]


@pytest.mark.parametrize("seed", range(OUTAGES))
def test_a_database_that_goes_away_and_comes_back_costs_nothing(seed, served, copy_of_before, undisturbed, postgres_server):
    """Every connection is cut and none is let in for a while."""
    server, variables = served
    process = start("sync", **variables, **address(copy_of_before))
    name = copy_of_before.database

    def strike():
        engine = create_engine(postgres_server, isolation_level="AUTOCOMMIT")
        with engine.connect() as conn:
            conn.execute(text(f"alter database {name} allow_connections false"))
            conn.execute(text("select pg_terminate_backend(pid) from pg_stat_activity where datname = :name"), {"name": name})
            time.sleep(0.5)
            conn.execute(text(f"alter database {name} allow_connections true"))
        engine.dispose()

    over = at_the_moment(server, f"outage {seed}", strike)
    first = end(process)
    over()
    done = arcadia("sync", **variables, **address(copy_of_before))
    wrong = world.difference(undisturbed, said(copy_of_before))
    note(crash="the database goes away and comes back", killed=first.code != 0, wrong=wrong)
    assert wrong == []
    assert done.code == 0, done.out + done.err


def test_the_killed_runs_are_not_left_behind(served, copy_of_before):
    server, variables = served
    process = start("sync", **variables, **address(copy_of_before))
    server.requests = world.Requests(40, process.kill)
    end(process)
    arcadia("sync", **variables, **address(copy_of_before))
    engine = create_engine(copy_of_before)
    with engine.connect() as conn:
        left = conn.execute(text("select count(*) from dagster.runs where status in ('STARTED', 'STARTING', 'QUEUED')")).scalar_one()
    engine.dispose()
    assert left == 0
