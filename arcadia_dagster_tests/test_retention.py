"""What the ledger forgets, and that nothing which proves something is among it."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from arcadia_dagster.ledger.accounts import account_of_team
from arcadia_dagster.ledger.matching import rematch
from arcadia_dagster.ledger.reconcile import ever_listed
from arcadia_dagster.ledger.retention import Forgotten, forget
from arcadia_dagster_tests.books import Books, droplet, item, listed

BEFORE = datetime(2026, 4, 1, tzinfo=UTC)
COUNTS = ("discovered", "updated", "restored", "struck", "deleted")

INSERT = text(
    f"insert into arcadia.cloud_sync_runs (account_id, kind, started_at, finished_at, complete, {', '.join(COUNTS)}, requests)"
    " values (:account_id, :kind, :at, case when :outcome <> 'killed' then cast(:at as timestamptz) end,"
    " case :outcome when 'killed' then null else :outcome in ('nothing', 'changed') end,"
    f" {', '.join(f':{name}' for name in COUNTS)}, :requests) returning sync_run_id"
)


def write_run(conn, account_id, kind, at, outcome, *, changed=None, requests=1):
    """outcome: nothing or changed (complete, both), failed, or killed; `changed` names the count that is not 0."""
    counts = {name: None if outcome == "killed" else int(name == changed) for name in COUNTS}
    return conn.execute(
        INSERT, {"account_id": account_id, "kind": kind, "at": at, "outcome": outcome, "requests": int(requests), **counts}
    ).scalar_one()


def runs_left(engine):
    with engine.connect() as conn:
        return set(conn.execute(text("select sync_run_id from arcadia.cloud_sync_runs")).scalars())


@pytest.fixture
def accounts(engine):
    return [account_of_team(engine, team_uuid=name, name=name) for name in ("one", "other")]


# Hours, outcome, the count that is not 0, whether it stays and why. All asked the provider but those marked.
HISTORY = [
    (0, "nothing", None, False),
    (1, "nothing", None, False),
    (2, "nothing", None, True),  # the last complete one before what follows
    (3, "failed", None, False),
    (4, "failed", "discovered", True),
    (5, "changed", "updated", True),
    (6, "nothing", None, True),  # the last complete one before what follows
    (7, "changed", "struck", True),
    (8, "nothing", None, False),
    (9, "nothing", None, False),
    (9.5, "nothing", None, True),  # an event names it
    (10, "killed", None, False),
    (11, "failed", None, True),  # the last one of its day
    (30, "nothing", None, True),  # the newest that asked the provider
    (31, "killed", None, True),  # the only one of its day
    (32, "nothing", None, False),
    (500, "nothing", None, True),  # too young
]


def test_what_stays_of_sync_runs(engine, accounts):
    began = BEFORE - timedelta(days=10)
    with engine.begin() as conn:
        ids = {
            hours: write_run(conn, accounts[0], "droplet", began + timedelta(hours=hours), outcome, changed=changed, requests=hours < 32)
            for hours, outcome, changed, _ in HISTORY
        }
        # The newest of its kind, and of its account.
        others = {write_run(conn, accounts[0], "volume", began, "nothing"), write_run(conn, accounts[1], "droplet", began, "nothing")}
        conn.execute(
            text(
                "with r as (insert into arcadia.resources (account_id, kind, provider_id, name, name_key, first_seen_at, last_seen_at)"
                " values (:account, 'droplet', '1', 'a', 'a', now(), now()) returning resource_id)"
                " insert into arcadia.cloud_resource_events (resource_id, account_id, sync_run_id, event, occurred_at)"
                " select resource_id, :account, :run, 'drift_detected', now() from r"
            ),
            {"account": accounts[0], "run": ids[9.5]},
        )
    assert forget(engine, before=BEFORE) == Forgotten(sync_runs=7, balances=0)
    assert runs_left(engine) == {ids[hours] for hours, _, _, stays in HISTORY if stays} | others
    assert forget(engine, before=BEFORE) == Forgotten(sync_runs=0, balances=0)


OUTCOMES = st.sampled_from(["nothing", "nothing", "changed", "failed", "failed and changed", "killed"])
HISTORIES = st.lists(st.tuples(st.integers(0, 1), st.sampled_from(["droplet", "volume"]), OUTCOMES, st.booleans()), max_size=40)
# What others ask of the sync runs: `ever_listed`, the check of open listings, `arcadia status`, and matching of what was resized.
ASKED = """
select account_id, kind, max(started_at) filter (where complete) as newest, coalesce(bool_or(complete and requests > 0), false) as ever,
       max(started_at) filter (where complete and requests > 0) as asked,
       (array_agg(coalesce(complete, false) order by started_at desc))[1] as last,
       array_agg(started_at order by started_at) filter (where greatest(discovered, updated, restored, struck, deleted) > 0) as changes
  from arcadia.cloud_sync_runs group by 1, 2 order by 1, 2"""
LAST_LISTED = """
select sync_run_id, (select max(b.started_at) from arcadia.cloud_sync_runs b where b.account_id = s.account_id and b.kind = s.kind
                        and b.complete and b.started_at < s.started_at)
  from arcadia.cloud_sync_runs s where updated > 0 order by 1"""


@settings(max_examples=25, deadline=None)
@given(history=HISTORIES, cut=st.integers(0, 40))
def test_whatever_happened_what_is_asked_of_the_sync_runs_has_the_same_answer(ledger, history, cut):
    with ledger.begin() as conn:
        conn.execute(text("truncate arcadia.cloud_sync_runs"))
        accounts = conn.execute(text("select account_id from arcadia.cloud_accounts order by 1")).scalars().all()
        for hour, (account, kind, outcome, asked) in enumerate(history):
            changed = "updated" if "changed" in outcome else None
            write_run(
                conn, accounts[account], kind, BEFORE + timedelta(hours=7 * (hour - cut)), outcome.split()[0], changed=changed,
                requests=asked,
            )  # fmt: skip
    asked, last_listed = answers(ledger)
    first = forget(ledger, before=BEFORE)
    assert answers(ledger) == (asked, last_listed)
    assert forget(ledger, before=BEFORE).sync_runs == 0 <= first.sync_runs
    with ledger.connect() as conn:
        quiet = "select count(*) from arcadia.cloud_sync_runs where started_at < :b and coalesce(updated, 0) = 0 and complete"
        changed = "select count(*) from arcadia.cloud_sync_runs where updated > 0"
        # No more than one before each change, and two of each kind and account.
        assert conn.scalar(text(quiet), {"b": BEFORE}) <= conn.scalar(text(changed)) + 2 * 4


def answers(engine):
    with engine.connect() as conn:
        return conn.execute(text(ASKED)).all(), conn.execute(text(LAST_LISTED)).all()


@pytest.fixture(scope="module")
def ledger(postgres_server, template_database):
    from arcadia_dagster.ledger.schema import connect
    from arcadia_dagster_tests.conftest import _database

    with _database(postgres_server, template_database) as url:
        engine = connect(url)
        for name in ("one", "other"):
            account_of_team(engine, team_uuid=name, name=name)
        yield engine
        engine.dispose()


def test_of_balances_the_last_of_each_day_stays(engine, accounts):
    midnight = datetime(2026, 3, 10, tzinfo=UTC)
    rows = [  # account, hours after midnight when it was taken, hours that its figures are old, usage; whether it stays
        (0, 1, 2, 10, True),  # of the ninth
        (0, 3, 1, 11, False),
        (0, 22, 1, 12, False),
        (0, 23, 2, 12, False),  # the same figures again
        (0, 23.5, 0, None, False),  # none at all
        (0, 25, 2, 13, True),  # taken on the eleventh, of the tenth
        (1, 12, 0, 99, True),
        (0, 24 * 40, 0, 14, True),  # too young
        (0, 24 * 40 + 1, 0, 15, True),
    ]
    with engine.begin() as conn:
        ids = [
            conn.execute(
                text(
                    "insert into arcadia.cloud_balance_snapshots (account_id, account_balance, month_to_date_usage, generated_at, taken_at)"
                    " values (:account, 1, :usage, :generated, :taken) returning balance_snapshot_id"
                ),
                {
                    "account": accounts[account], "usage": usage, "taken": midnight + timedelta(hours=taken),
                    "generated": midnight + timedelta(hours=taken - old),
                },
            ).scalar_one()
            for account, taken, old, usage, _ in rows
        ]  # fmt: skip
    assert forget(engine, before=BEFORE).balances == 4
    with engine.connect() as conn:
        left = conn.execute(text("select balance_snapshot_id from arcadia.cloud_balance_snapshots")).scalars().all()
    assert sorted(left) == [row_id for row_id, row in zip(ids, rows, strict=True) if row[4]]


def test_who_is_stopped_in_the_middle_leaves_a_whole_ledger(engine, accounts):
    def fill(conn):
        for kind in ("app", "droplet", "volume"):
            for hour in range(6):
                write_run(conn, accounts[0], kind, BEFORE - timedelta(days=5, hours=hour), "nothing")

    with engine.begin() as conn:
        fill(conn)
        conn.execute(
            text(
                "create function pg_temp_stop() returns trigger language plpgsql as"
                " $$ begin if old.kind = 'droplet' then raise exception 'stopped'; end if; return old; end $$"
            )
        )
        conn.execute(text("create trigger stop before delete on arcadia.cloud_sync_runs for each row execute function pg_temp_stop()"))
    before = answers(engine)
    with pytest.raises(Exception, match="stopped"):
        forget(engine, before=BEFORE)
    assert len(runs_left(engine)) == 13
    assert answers(engine) == before
    assert ever_listed(engine, accounts[0], "app")
    with engine.begin() as conn:
        conn.execute(text("drop trigger stop on arcadia.cloud_sync_runs"))
    assert forget(engine, before=BEFORE).sync_runs == 10
    assert answers(engine) == before


def test_matching_still_knows_when_a_droplet_was_last_seen_in_its_old_size(engine):
    books = Books(engine)
    sizes = {10: "s-1vcpu-1gb", 20: "s-1vcpu-2gb"}
    for day in range(5, 29):
        size = sizes[10 if day < 18 else 20]
        listed(
            books, f"2026-03-{day:02}", droplet(1, "twin", attrs={"size_slug": size}), droplet(2, "twin", attrs={"size_slug": sizes[10]})
        )
    books.invoice(
        item("twin (s-1vcpu-1gb)", start="2026-03-01", end="2026-03-17"), item("twin (s-1vcpu-2gb)", start="2026-03-17", end="2026-04-01"),
        item("twin (s-1vcpu-1gb)", start="2026-03-01", end="2026-04-01"),
    )  # fmt: skip
    decided = [(line.match_status, line.resource_provider_id) for line in books.lines()]
    assert forget(engine, before=BEFORE).sync_runs == 24 - 4  # the first, the resize, the one before it, and the newest
    with engine.begin() as conn:
        conn.execute(text("insert into arcadia.rematch_queue select resource_id, account_id from arcadia.resources on conflict do nothing"))
    rematch(engine, books.id)
    assert [(line.match_status, line.resource_provider_id) for line in books.lines()] == decided
