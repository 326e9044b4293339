"""The request budget that all clients of a token share: what `ledger/budget.py` counts, and many processes against a server with limits.

Nothing here depends on how fast the machine is. Where time must pass, it passes only by waiting, or what was counted is judged by when
it was asked for and when that was answered, between which it lies.
"""

import json
import re
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import httpx
import pytest
from sqlalchemy import make_url, text

from arcadia_dagster.demo import server as server_module
from arcadia_dagster.demo.account import SimulatedAccount
from arcadia_dagster.demo.server import SimulatedServer
from arcadia_dagster.digitalocean import client as client_module
from arcadia_dagster.digitalocean.client import Client
from arcadia_dagster.digitalocean.limits import Limit
from arcadia_dagster.ledger.budget import RequestBudget
from arcadia_dagster_tests.commands import Trap, environment, served, small_account

TOKEN = "dop_v1_budget"
HOUR = Limit(requests=10, seconds=3600.0)
MINUTE = Limit(requests=4, seconds=60.0)
KEYS = Limit(requests=2, seconds=60.0, prefix="/v2/account/keys")
LATE = 1.0  # seconds that a request may be longer on its way than another


@pytest.fixture
def budgets(database_url):
    """Makes budgets on one ledger, each like that of a process of its own."""
    made = []

    def make(token=TOKEN):
        made.append(RequestBudget(make_url(database_url), token))
        return made[-1]

    yield make
    for budget in made:
        budget.close()


def taken(budget, *limits, tries=20):
    """How many requests in a row may be made."""
    for number in range(tries):
        if budget.take(limits) is not None:
            return number
    return tries


def pass_time(engine, seconds):
    """As if all that was counted had been counted so much earlier."""
    there_and_back = (1e9, -1e9 - seconds)  # in two steps, as rows may not meet on their way
    with engine.begin() as conn:
        for step in there_and_back:
            conn.execute(
                text("update arcadia.request_counts set counted_until = counted_until + make_interval(secs => :step)"), {"step": step}
            )


def closest(granted, requests):
    """The shortest time in which one more than so many were counted, or longer; `granted`: (asked at, answered at) of each, in any order.

    Of all that was counted, the n-th was so after the n-th was asked for and before the n-th was answered.
    """
    asked, answered = sorted(asked for asked, _ in granted), sorted(answered for _, answered in granted)
    return min(after - before for before, after in zip(asked, answered[requests:], strict=False))


def test_processes_share_the_limits_of_their_token_and_no_other(budgets):
    first, second, other = budgets(), budgets(), budgets("another")
    assert taken(first, HOUR, MINUTE, tries=3) == 3
    assert taken(second, HOUR, MINUTE) == 1
    seconds, reason = first.take([HOUR, MINUTE])
    assert 50 < seconds <= 61 + LATE  # a minute, counted in sixtieths
    assert reason == "for the provider's limit of 4 requests a minute"
    assert taken(other, HOUR, MINUTE) == 4


def test_the_limit_that_is_longest_to_wait_for_is_named(budgets):
    budget = budgets()
    wide = Limit(requests=100, seconds=60.0)
    assert taken(budget, HOUR, wide) == 10
    seconds, reason = budget.take([HOUR, MINUTE])
    assert 3500 < seconds <= 3660 + LATE
    assert reason == "for the provider's limit of 10 requests an hour"


def test_a_special_limit_holds_up_its_own_paths_alone(budgets):
    budget = budgets()
    assert taken(budget, HOUR, MINUTE, KEYS) == 2
    assert budget.take([HOUR, MINUTE, KEYS])[1] == "for the provider's limit of 2 requests a minute of /v2/account/keys"
    assert taken(budgets(), HOUR, MINUTE) == 2  # what was refused has not been counted


def test_room_comes_back_as_time_passes(budgets):
    short = Limit(requests=3, seconds=0.3)
    budget = budgets()
    granted = 0
    for _ in range(12):
        while (wait := budget.take([HOUR, short])) is not None and "hour" not in wait[1]:
            assert 0 < wait[0] <= 0.31 + LATE
            client_module._sleep(wait[0])
        granted += wait is None
    assert granted == 10


def test_nothing_is_granted_twice_however_many_ask_at_once(budgets):
    many = [budgets() for _ in range(8)]
    limit = Limit(requests=50, seconds=3600.0)
    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(lambda budget: taken(budget, limit), many)) == 50


def test_whoever_waits_holds_nothing(budgets, engine):
    budget = budgets()
    assert taken(budget, HOUR, MINUTE) == 4
    with engine.connect() as conn:
        conn.execute(text("lock table arcadia.request_budgets, arcadia.request_counts in access exclusive mode nowait"))


def test_requests_of_other_programs_are_seen_in_what_the_provider_says_is_left(budgets):
    first, second = budgets(), budgets()
    assert taken(first, HOUR, tries=2) == 2
    first.heard(10, 3, 1800.0)  # 7 were made, and 2 of them here
    assert first.take([HOUR]) is None
    assert taken(second, HOUR) == 2
    assert 1700 < second.take([HOUR])[0] <= 1800
    assert second.hourly_limit() == 10
    second.heard(10, 5, 1800.0)  # theirs expire before ours
    assert taken(second, HOUR) == 5


def test_a_request_of_others_that_expires_makes_room_for_one_and_no_more(budgets, engine):
    budget = budgets()
    assert budget.take([HOUR]) is None
    budget.heard(10, 0, 200.0)
    assert 100 < budget.take([HOUR])[0] <= 200
    with engine.begin() as conn:
        conn.execute(text("update arcadia.request_budgets set others_until = now() - interval '1 second'"))
    assert taken(budget, HOUR) == 1
    assert 300 < budget.take([HOUR])[0] <= 360


def test_a_wait_that_the_provider_asks_for_is_kept_by_all(budgets):
    first, second = budgets(), budgets()
    assert first.take([HOUR]) is None
    first.hold(300, "as the provider asks to; droplet: HTTP 429")
    first.hold(3, "as the provider asks to; droplet: HTTP 429")
    seconds, reason = second.take([HOUR])
    assert (200 < seconds <= 300, reason) == (True, "as the provider asks to; droplet: HTTP 429")
    assert taken(budgets("another"), HOUR, tries=1) == 1


def test_the_token_is_not_stored_and_counts_do_not_pile_up(budgets, engine):
    budget = budgets()
    for _ in range(100):
        assert budget.take([Limit(requests=1000, seconds=3600.0)]) is None
        pass_time(engine, 60)
    with engine.connect() as conn:
        kept = str(conn.execute(text("select * from arcadia.request_budgets, arcadia.request_counts")).all())
        rows = conn.execute(text("select count(*) from arcadia.request_counts")).scalar_one()
    assert TOKEN not in kept
    assert TOKEN.encode().hex() not in kept
    assert rows <= 62


def test_a_clock_that_is_set_back_holds_nobody_up(budgets, engine):
    budget = budgets()
    assert taken(budget, HOUR, MINUTE) == 4
    budget.hold(30, "x")
    with engine.begin() as conn:
        conn.execute(text("update arcadia.request_counts set counted_until = counted_until + interval '1 day'"))
        conn.execute(text("update arcadia.request_budgets set not_before = not_before + interval '1 day'"))
    assert taken(budget, HOUR, MINUTE) == 4


def test_without_its_database_every_request_passes(budgets, engine, caplog):
    nowhere = RequestBudget(make_url("postgresql+psycopg://me:hunter2@127.0.0.1:1/ledger"), TOKEN)
    assert nowhere.hourly_limit() is None
    assert taken(nowhere, HOUR, tries=15) == 15
    nowhere.hold(5, "x")
    nowhere.close()
    assert [record.getMessage() for record in caplog.records] == [
        "the database that counts requests is out of reach: each run paces itself for the next 30 s"
    ]

    budget = budgets()
    assert taken(budget, HOUR, MINUTE) == 4
    with engine.connect() as conn:
        conn.execute(
            text("select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid() and datname = current_database()")
        )
    assert taken(budget, HOUR, MINUTE) == 20
    budget._not_before = 0.0  # half a minute later
    assert taken(budget, HOUR, MINUTE) == 0


def test_a_client_waits_for_the_requests_of_others_and_says_why(budgets, engine, monkeypatch):
    passed, granted, said = [0.0], [], []

    class Watched(RequestBudget):
        def take(self, limits):
            asked = time.time() + passed[0]
            wait = super().take(limits)
            if wait is None:
                granted.append((asked, time.time() + passed[0]))
            return wait

    def sleep(seconds):
        pass_time(engine, seconds)
        passed[0] += seconds

    monkeypatch.setattr(client_module, "_sleep", sleep)
    monkeypatch.setattr(server_module, "_MINUTE", 0.0)  # it says what the limit is, and does not count
    with SimulatedServer([SimulatedAccount(TOKEN, "team", "team", ratelimit_limit=60)]) as server:
        for _ in range(3):  # each like a process that was just started
            with (
                Watched(engine.url, TOKEN) as budget,
                Client(TOKEN, base_url=server.url, budget=budget, on_wait=lambda *wait: said.append(wait)) as client,
            ):
                for _ in range(3):
                    client.get("/v2/account", kind="account")
    assert len(granted) == 9
    assert closest(granted, 3) >= 60 + LATE
    assert said
    assert all(0 < seconds <= 61 + LATE and reason == "for the provider's limit of 3 requests a minute" for seconds, reason in said)


_MANY = """
import json, sys, time
from sqlalchemy import make_url
from arcadia_dagster.digitalocean import client
from arcadia_dagster.ledger.budget import RequestBudget
client.MINUTE = {minute}
api, database, requests = sys.argv[1:]
class Watched(RequestBudget):
    def take(self, limits):
        asked = time.time()
        wait = super().take(limits)
        takes.append((asked, time.time(), wait is None))
        return wait
takes, answered = [], []
budget = Watched(make_url(database), {token!r})
print("ready", flush=True)
input()
with budget, client.Client({token!r}, base_url=api, budget=budget) as one:
    for _ in range(int(requests)):
        one.get("/v2/account", kind="account")
        answered.append(time.time())
print(json.dumps([takes, answered]))
"""


def test_many_processes_at_once_use_the_limit_in_full_and_are_not_refused(database_url, monkeypatch):
    processes, each, minute, allowed = 5, 40, 2.0, 50
    account = SimulatedAccount(TOKEN, "team", "team", ratelimit_limit=20 * allowed)
    monkeypatch.setattr(server_module, "_MINUTE", minute)
    with SimulatedServer([account]) as server:
        command = [sys.executable, "-c", _MANY.format(minute=minute, token=TOKEN), server.url, database_url, str(each)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        running = [subprocess.Popen(command, env=environment(), text=True, **pipes) for _ in range(processes)]
        assert [process.stdout.readline() for process in running] == ["ready\n"] * processes
        for process in running:
            process.stdin.write("\n")
            process.stdin.flush()
        told, said = zip(*(process.communicate(timeout=300) for process in running), strict=True)
        statuses = Counter(status for _, status in server.answers)
    assert said == ("",) * processes
    assert statuses[200] == processes * each
    takes, slowest = [], 0.0
    for takes_of_one, answered in map(json.loads, told):
        takes += takes_of_one
        sent = [asked for asked, _, granted in takes_of_one if granted]
        slowest = max(slowest, *(at - max(one for one in sent if one < at) for at in answered))
    granted = [(asked, answered) for asked, answered, was_granted in takes if was_granted]
    assert closest(granted, allowed) >= minute + LATE
    assert set(statuses) == {200} or slowest > LATE, (statuses, slowest)
    # Nobody waits while there is room: whoever had to wait found as many counted as are allowed.
    for asked, answered, was_granted in takes:
        if not was_granted and set(statuses) == {200}:
            assert sum(before <= answered and after >= asked - minute * 61 / 60 - LATE for before, after in granted) >= allowed


def test_a_program_without_the_budget_is_made_room_for(budgets, monkeypatch):
    """In turns, so that what each reply says is left is known to all before the next request; 25 of 40 are made by the other program."""
    monkeypatch.setattr(client_module, "HOUR", 6.0)
    monkeypatch.setattr(server_module, "_HOUR", 6.0)
    monkeypatch.setattr(client_module, "PERCENT_OF_A_MINUTE", 100)
    monkeypatch.setattr(server_module, "_MINUTE", 0.0)
    account = SimulatedAccount(TOKEN, "team", "team", ratelimit_limit=40)
    with SimulatedServer([account]) as server, ExitStack() as stack:
        with httpx.Client(base_url=server.url, headers={"authorization": f"Bearer {TOKEN}"}) as another:
            for _ in range(25):
                another.get("/v2/account")
        clients = [stack.enter_context(Client(TOKEN, base_url=server.url, budget=budgets())) for _ in range(4)]
        for _ in range(8):
            for client in clients:
                client.get("/v2/account", kind="account")
        statuses = Counter(status for _, status in server.answers)
    assert statuses == {200: 25 + 32}


def test_a_sync_that_must_wait_says_so(database_url, budgets):
    account = small_account()
    account.invoices = []
    another_run = budgets(account.token)

    def use_it_up():
        another_run.take([Limit(requests=500_000, seconds=3600.0), Limit(requests=25_000, seconds=60.0)])
        with another_run._conn.engine.begin() as conn:
            conn.execute(text("update arcadia.request_counts set requests = 25000 where seconds = 60"))

    code = f"""
import sys
from sqlalchemy import create_engine, text
from arcadia_dagster.digitalocean import client
def sleep(_):
    with create_engine({database_url!r}).begin() as conn:
        conn.execute(text("delete from arcadia.request_counts"))
client._sleep = sleep
sys.argv = ["arcadia", "sync"]
from arcadia_dagster.cli import main
main()
"""
    with served(account, database_url) as (server, variables):
        server.requests = Trap("/v2/droplets", use_it_up)
        done = subprocess.run([sys.executable, "-c", code], env=environment(**variables), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^  \w+: waits [1-6]\d s for the provider's limit of 25,000 requests a minute$", done.stdout, re.MULTILINE), (
        done.stdout
    )
