"""Strikes in time, by whole runs: many of them within the interval are one strike, from one process or from several, and a mass deletion
that is allowed is allowed for that run.
"""

import random
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import dagster as dg
import pytest
from sqlalchemy import text

from arcadia_dagster.demo import items
from arcadia_dagster.demo.account import messy_account
from arcadia_dagster.demo.server import SimulatedServer
from arcadia_dagster_tests.chaos import world
from arcadia_dagster_tests.chaos.test_provider import ALL, SEED


@pytest.fixture
def messy(engine, monkeypatch):
    account = messy_account()
    with SimulatedServer([account]) as served:
        runs = world.Runs(engine.url, served, account.token, monkeypatch)
        runs.account = account
        yield runs
        runs.close()


def strikes(runs, kind):
    query = "select max(stale_strike_count), count(deleted_at) from arcadia.resources where kind = :kind"
    return runs.rows(query, kind=kind)[0]


def pass_time(runs, time):
    """So much time passes, by the database's clock: all that it has noted so far was that much earlier."""
    with runs.engine.begin() as conn:
        for table, columns in (("listings", ["started_at"]), ("resources", ["last_struck_at", "first_seen_at", "last_seen_at"])):
            for column in columns:
                conn.execute(text(f"update arcadia.{table} set {column} = {column} - :time"), {"time": time})


def test_a_hundred_impatient_clicks_are_one_strike_and_three_intervals_a_tombstone(messy):
    messy.everything(["domains"])
    messy.account.domains.clear()
    for _ in range(10):
        assert messy.everything(["domains"]) == {}
    assert strikes(messy, "dns_zone") == (1, 0)
    pass_time(messy, timedelta(seconds=500))
    messy.everything(["domains"])
    assert strikes(messy, "dns_zone") == (1, 0)
    for count, gone in ((2, 0), (3, 1), (3, 1)):
        pass_time(messy, timedelta(seconds=601))
        for _ in range(2):
            messy.everything(["domains"])
        assert strikes(messy, "dns_zone") == (count, gone)


def test_runs_at_once_are_one_strike(messy):
    messy.everything(["domains"])
    messy.account.domains.clear()

    def run(_):
        with dg.DagsterInstance.ephemeral() as instance:
            return messy.job(world.JOB_OF["domains"], assets=["domains"], instance=instance).success

    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(run, range(4)))
    assert strikes(messy, "dns_zone") == (1, 0)


@pytest.mark.parametrize("ahead", [timedelta(days=-400), timedelta(days=400)])
def test_our_own_clock_has_no_part_in_it(messy, monkeypatch, ahead):
    """Strikes go by the database's clock. (That of the process is read for waits alone.)"""
    import time

    clock = time.time
    messy.everything(["domains"])
    messy.account.domains.clear()
    monkeypatch.setattr("arcadia_dagster.digitalocean.client.time.time", lambda: clock() + ahead.total_seconds())
    for _ in range(3):
        messy.everything(["domains"])
    assert strikes(messy, "dns_zone") == (1, 0)


def test_a_database_clock_that_goes_back_and_forth_never_strikes_early(messy):
    messy.everything(["domains"])
    messy.account.domains.clear()
    messy.everything(["domains"])
    for jump in (timedelta(days=-1), timedelta(seconds=-30), timedelta(days=-300), timedelta(seconds=-1)):
        pass_time(messy, jump)
        messy.everything(["domains"])
        assert strikes(messy, "dns_zone") == (1, 0)
    for _ in range(2):
        pass_time(messy, timedelta(seconds=601))
        messy.everything(["domains"])
    assert strikes(messy, "dns_zone") == (3, 1)


# The clock as the ledger's statements read it: functions that stand before PostgreSQL's own in the search path.
_CLOCK = """
    create schema clock;
    create table clock.jump (ahead interval not null);
    insert into clock.jump values ('0');
    create function clock.clock_timestamp() returns timestamptz language sql as
        'select pg_catalog.clock_timestamp() + ahead from clock.jump';
    create function clock.now() returns timestamptz language sql stable as 'select pg_catalog.now() + ahead from clock.jump';
    alter function arcadia.take_request set search_path = clock, pg_catalog;
"""
_JUMPS = (-400, -2, 2, 400)  # days


@pytest.mark.parametrize("days", _JUMPS if ALL else random.Random(SEED).sample(_JUMPS, 1))
def test_a_database_clock_that_jumps_in_the_middle_of_a_sync_costs_no_more_than_a_strike_later(
    days, copy_of_before, undisturbed, monkeypatch
):
    account = world.account_now()
    with SimulatedServer([account]) as served:
        runs = world.Runs(copy_of_before, served, account.token, monkeypatch)
        with runs.engine.begin() as conn:
            conn.execute(text(_CLOCK))
            conn.execute(text(f"alter database {copy_of_before.database} set search_path = clock, pg_catalog, public"))
        runs.engine.dispose()

        def jump(time):
            with runs.engine.begin() as conn:
                conn.execute(text("update clock.jump set ahead = ahead + :time"), {"time": time})

        served.requests = world.Requests(random.Random(f"{SEED} {days}").randint(30, 100), lambda: jump(timedelta(days=days)))
        for wait in (None, timedelta(seconds=601)):
            if wait:
                jump(wait)
            assert runs.everything() == {}
            said = world.contents(runs.engine)
            truth, now = ({row[:2]: (int(row[2]), row[3] == "True") for row in ledger["strikes"]} for ledger in (undisturbed, said))
            for thing, (strikes, gone) in now.items():
                assert gone <= truth[thing][1], thing
                assert bool(strikes) <= bool(truth[thing][0]), thing
        assert len(served.requests) > served.requests.count
        assert {thing for thing, (_, gone) in now.items() if gone} == {thing for thing, (_, gone) in truth.items() if gone}
        assert world.difference(undisturbed, said, without=("strikes",)) == []
        (jumps,) = runs.rows("select extract(epoch from ahead) / 86400 from clock.jump")[0]
        assert round(jumps) == days
        runs.close()


def test_a_mass_deletion_is_withheld_until_allowed_and_allowed_for_one_run_only(messy):
    def zones(first, last):
        return [items.domain(f"zone-{number}.example") for number in range(first, last)]

    def sync(**config):
        pass_time(messy, timedelta(seconds=601))
        ops = {"ops": {"domains": {"config": config}}} if config else None
        return world.failures(messy.job("sync_inventory", assets=["domains"], config=ops))

    messy.account.domains = zones(0, 40)
    sync()
    messy.account.domains = zones(0, 20)
    for _ in range(4):
        failed = sync()
    assert "allow_mass_deletion" in failed["domains"]
    assert strikes(messy, "dns_zone")[1] == 0
    assert sync(allow_mass_deletion=True) == {}
    assert strikes(messy, "dns_zone")[1] == 20
    messy.account.domains = []
    for _ in range(4):
        failed = sync()
    assert "20 of 20" in failed["domains"]  # what was allowed before is not allowed now
    assert strikes(messy, "dns_zone")[1] == 20


def test_three_empty_lists_tombstone_a_kind_of_ten_and_not_one_of_eleven(messy):
    """By contract: that few may all go at once without anybody being asked."""
    for count, gone in ((10, 10), (11, 0)):
        kind, asset = ("dns_zone", "domains") if count == 10 else ("ssh_key", "ssh_keys")
        made = (
            [items.domain(f"zone-{n}.example") for n in range(count)] if count == 10 else [items.ssh_key(n, f"k{n}") for n in range(count)]
        )
        setattr(messy.account, asset, made)
        messy.everything([asset])
        setattr(messy.account, asset, [])
        for _ in range(3):
            pass_time(messy, timedelta(seconds=601))
            messy.everything([asset])
        assert strikes(messy, kind)[1] == gone
