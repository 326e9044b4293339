"""Reconcile: what listings do to the ledger, each rule by itself and all of them against a plain model, row by row."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from msgspec.structs import replace
from sqlalchemy import text

from arcadia_dagster.digitalocean.kinds import Resource, Sightings, spell_attrs
from arcadia_dagster.ledger import reconcile as ledger
from arcadia_dagster.ledger.accounts import account_of_team
from arcadia_dagster.ledger.reconcile import (
    Changes,
    MassDeletionWithheldError,
    admit_billed,
    begin,
    reconcile,
)
from arcadia_dagster_tests.commands import wait_for

START = datetime(2026, 5, 1, tzinfo=UTC)


def droplet(provider_id, *, attrs=None, **fields):
    return Resource(provider_id=str(provider_id), **{"name": f"host-{provider_id}", "attrs": spell_attrs(attrs or {}), **fields})


@pytest.fixture
def account(engine):
    return account_of_team(engine, team_uuid="team-1", name="Team")


@pytest.fixture
def listing(engine, account):
    """Reconcile one listing of droplets, by default ten minutes after the one before."""
    clock = [START]

    def run(items, *, after=timedelta(minutes=10), kind="droplet", account=account, **options):
        clock[0] += after
        sync_run = begin(engine, account_id=account, kind=kind, started_at=clock[0])
        return reconcile(engine, sync_run, items, **options)

    run.clock = clock
    return run


def rows(engine, query, **values):
    with engine.connect() as conn:
        return conn.execute(text(query), values).all()


def one(engine, provider_id="1"):
    (row,) = rows(engine, "select * from arcadia.cloud_resources where provider_id = :p", p=provider_id)
    return row


def events(engine, provider_id="1"):
    return [
        (row.event, row.changes)
        for row in rows(
            engine,
            "select e.event, e.changes from arcadia.cloud_resource_events e join arcadia.resources using (resource_id)"
            " where provider_id = :p order by event_id",
            p=provider_id,
        )
    ]


def test_a_new_resource_is_kept_with_all_that_the_listing_said(engine, listing):
    created = datetime(2020, 1, 2, tzinfo=UTC)
    item = droplet(
        1, region="fra1", status="active", tags=("web",), attrs={"memory": 1024, "disk": Decimal("2.5")},
        monthly_price=Decimal("5.40"), provider_created_at=created,
    )  # fmt: skip
    assert listing([item]) == Changes(seen=1, discovered=1)
    row = one(engine)
    assert (row.name, row.region, row.status, row.tags) == ("host-1", "fra1", "active", ["web"])
    assert (row.attrs, row.monthly_price, row.provider_created_at) == ({"memory": 1024, "disk": 2.5}, Decimal("5.40"), created)
    assert row.first_seen_at == row.last_seen_at == listing.clock[0]
    assert events(engine) == [("discovered", {})]


def test_the_same_listing_again_changes_nothing_but_when_it_was_last_seen(engine, listing):
    listing([droplet(1), droplet(2)])
    before = rows(engine, "select resource_id, xmin::text, fingerprint from arcadia.resources order by 1")
    assert listing([droplet(1), droplet(2)]) == Changes(seen=2)
    assert rows(engine, "select resource_id, xmin::text, fingerprint from arcadia.resources order by 1") == before  # no row written
    assert one(engine).last_seen_at == listing.clock[0]
    assert len(events(engine)) == 1


@pytest.mark.parametrize(
    ("before", "after", "event"),
    [
        ({"tags": ("a",)}, {"tags": ("a", "b")}, "tagged"),
        ({"name": "old"}, {"name": "new"}, "updated"),
        ({"status": "active"}, {"status": "off"}, "updated"),
        ({"monthly_price": Decimal(5)}, {"monthly_price": Decimal(6)}, "updated"),
        ({"attrs": {"memory": 1}}, {"attrs": {"memory": 2}}, "updated"),
        ({"attrs": {"size_slug": "small"}}, {"attrs": {"size_slug": "large"}}, "drift_detected"),
        ({"region": "fra1"}, {"region": "nyc1"}, "drift_detected"),
        ({"tags": (), "name": "old"}, {"tags": ("a",), "name": "new"}, "updated"),
        ({"tags": (), "region": "fra1"}, {"tags": ("a",), "region": "nyc1"}, "drift_detected"),
    ],
)
def test_an_event_says_what_kind_of_change_it_was(engine, listing, before, after, event):
    listing([droplet(1, **before)])
    assert listing([droplet(1, **after)]).updated == 1
    assert events(engine)[-1][0] == event


def test_an_event_holds_before_and_after_of_what_changed_and_nothing_else(engine, listing):
    listing([droplet(1, status="active", attrs={"memory": 1024, "vcpus": 1})])
    listing([droplet(1, status="active", attrs={"memory": 2048, "vcpus": 1})])
    assert events(engine)[-1] == ("updated", {"memory": {"before": 1024, "after": 2048}})


def test_firewall_rules_are_drift(engine, listing):
    listing([droplet(1, attrs={"inbound_rules": []})], kind="firewall")
    listing([droplet(1, attrs={"inbound_rules": [{"ports": "22"}]})], kind="firewall")
    assert events(engine)[-1][0] == "drift_detected"


def test_tag_order_and_decimal_spelling_are_no_change(engine, listing):
    listing([droplet(1, tags=("b", "a"), attrs={"gb": Decimal("2.34")})])
    assert listing([droplet(1, tags=("b", "a"), attrs={"gb": Decimal("2.34")})]) == Changes(seen=1)
    assert len(events(engine)) == 1


def test_the_third_complete_listing_without_it_tombstones_it(engine, listing):
    listing([droplet(1), droplet(2)])
    seen_last = listing.clock[0]
    assert listing([droplet(2)]) == Changes(seen=1, struck=1)
    assert listing([droplet(2)]) == Changes(seen=1, struck=1)
    assert one(engine).deleted_at is None
    assert listing([droplet(2)]) == Changes(seen=1, deleted=1)
    row = one(engine)
    assert (row.state, row.deleted_at, row.last_seen_at) == ("deleted", listing.clock[0], seen_last)
    assert [event for event, _ in events(engine)] == ["discovered", "deleted"]
    assert listing([droplet(2)]) == Changes(seen=1)  # once only


def test_being_seen_once_forgives_all_strikes(engine, listing):
    listing([droplet(1)])
    listing([])
    listing([])
    listing([droplet(1)])
    assert one(engine).stale_strike_count == 0
    listing([])
    listing([])
    assert one(engine).deleted_at is None


def test_a_tombstone_seen_again_is_restored_in_its_own_row(engine, listing):
    listing([droplet(1)])
    resource_id = one(engine).resource_id
    for _ in range(3):
        listing([])
    assert listing([droplet(1, status="off")]) == Changes(seen=1, restored=1)
    row = one(engine)
    assert (row.resource_id, row.state, row.stale_strike_count) == (resource_id, "active", 0)
    assert events(engine)[-1] == ("restored", {"status": {"before": None, "after": "off"}})


def test_an_incomplete_listing_strikes_nothing_and_records_what_it_saw(engine, listing):
    listing([droplet(1), droplet(2)])
    for _ in range(5):
        changes = listing([droplet(2, status="off"), droplet(3)], error="page 2: 500")
    assert one(engine).stale_strike_count == 0
    assert one(engine, "2").status == "off"
    assert one(engine, "3").state == "active"
    assert changes.struck == changes.deleted == 0
    last = rows(engine, "select * from arcadia.cloud_sync_runs order by sync_run_id desc limit 1")[0]
    assert (last.complete, last.error, last.seen) == (False, "page 2: 500", 2)


def test_an_incomplete_listing_does_not_make_the_missing_look_seen(engine, listing):
    listing([droplet(1)])
    seen = listing.clock[0]
    listing([], error="boom")
    assert one(engine).last_seen_at == seen


def test_strikes_count_once_per_interval(engine, listing):
    listing([droplet(1)])
    for _ in range(10):
        listing([], after=timedelta(minutes=1))
    assert one(engine).stale_strike_count == 1
    listing([], after=timedelta(minutes=1))
    assert one(engine).stale_strike_count == 2


def test_another_account_with_an_empty_listing_touches_nothing_of_the_first(engine, listing):
    other = account_of_team(engine, team_uuid="team-2", name="Team")
    listing([droplet(1)])
    for _ in range(4):
        listing([], account=other)
    assert (one(engine).stale_strike_count, one(engine).state) == (0, "active")


def test_another_kind_with_the_same_id_is_another_thing(engine, listing):
    listing([droplet(1)])
    listing([droplet(1)], kind="snapshot")
    for _ in range(3):
        listing([], kind="snapshot")
    assert sorted((row.kind, row.state) for row in rows(engine, "select kind, state from arcadia.cloud_resources")) == [
        ("droplet", "active"),
        ("snapshot", "deleted"),
    ]


def test_a_listing_that_began_earlier_is_out_of_date_and_changes_nothing(engine, account):
    early = begin(engine, account_id=account, kind="droplet")
    late = begin(engine, account_id=account, kind="droplet")
    reconcile(engine, late, [droplet(1, status="off"), droplet(2)])
    assert reconcile(engine, early, [droplet(1, status="active")]) == Changes(seen=1)
    assert (one(engine).status, one(engine, "2").stale_strike_count) == ("off", 0)
    run = rows(engine, "select * from arcadia.cloud_sync_runs where sync_run_id = :s", s=early.sync_run_id)[0]
    assert run.complete is False
    assert "began later" in run.error


def test_mass_deletion_is_withheld_until_allowed_and_the_rest_is_recorded(engine, listing):
    crowd = [droplet(i) for i in range(20)]
    listing(crowd)
    listing(crowd[:5])
    listing(crowd[:5])
    with pytest.raises(MassDeletionWithheldError, match="15 of 20 active droplet"):
        listing([*crowd[:5], droplet("new")])
    assert rows(engine, "select count(*) from arcadia.cloud_resources where state = 'deleted'") == [(0,)]
    assert one(engine, "new").state == "active"
    assert "15 of 20" in rows(engine, "select error from arcadia.cloud_sync_runs order by sync_run_id desc limit 1")[0].error
    with pytest.raises(MassDeletionWithheldError):
        listing(crowd[:5])
    assert listing([*crowd[:5], droplet("new")], allow_mass_deletion=True).deleted == 15


@pytest.mark.parametrize(("alive", "gone"), [(10, 10), (100, 30)])
def test_up_to_ten_or_up_to_thirty_percent_go_without_asking(engine, listing, alive, gone):
    crowd = [droplet(i) for i in range(alive)]
    listing(crowd)
    listing(crowd[gone:])
    listing(crowd[gone:])
    assert listing(crowd[gone:]).deleted == gone


def names(engine):
    """Name -> since when and until when it is known to have been borne."""
    borne = rows(engine, "select name, seen_from, seen_until from arcadia.resources_by_name")
    assert len({row.name for row in borne}) == len(borne)
    return {row.name: (row.seen_from, row.seen_until) for row in borne}


def test_every_name_ever_borne_is_kept(engine, listing):
    times = []

    def renamed(name):
        assert listing([droplet(1, name=name)]).seen == 1
        times.append(rows(engine, "select max(started_at) as at from arcadia.listings")[0].at)
        return names(engine)

    assert renamed("Alpha") == {"Alpha": (None, None)}
    assert renamed("beta") == {"Alpha": (None, times[1]), "beta": (times[0], None)}
    assert renamed("BETA") == {"Alpha": (None, times[1]), "BETA": (times[0], None)}  # the same name, spelled otherwise
    assert renamed("alpha") == {"alpha": (None, None), "BETA": (times[0], times[3])}  # one that it had before
    assert renamed("BETA") == {"alpha": (None, times[4]), "BETA": (times[0], None)}
    assert one(engine).name == "BETA"


def test_two_reconciles_at_once_act_one_after_the_other(engine, account):
    runs = [begin(engine, account_id=account, kind="droplet") for _ in range(8)]
    problems = []

    def work(run):
        try:
            reconcile(engine, run, [droplet(i) for i in range(50)])
        except Exception as problem:
            problems.append(problem)

    threads = [threading.Thread(target=work, args=(run,)) for run in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems
    assert rows(engine, "select count(*), count(distinct resource_id) from arcadia.cloud_resource_events") == [(50, 50)]


def test_a_reconcile_that_dies_leaves_nothing_behind(engine, account):
    run = begin(engine, account_id=account, kind="droplet")

    def items():
        yield droplet(1)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        reconcile(engine, run, items())
    assert rows(engine, "select count(*) from arcadia.resources") == [(0,)]
    assert rows(engine, "select finished_at from arcadia.cloud_sync_runs") == [(None,)]


def test_a_name_that_postgres_cannot_hold_rolls_the_whole_listing_back(engine, listing):
    listing([droplet(1)])
    with pytest.raises(Exception, match=r"NUL|0x00"):
        listing([droplet(1, status="off"), droplet(2, name="a\x00b")])
    assert one(engine).status is None
    assert listing([droplet(1, status="off")]).updated == 1


class Unreadable(Sightings):
    """Sightings of which one cannot be read for a reason that is not its own."""

    def __init__(self, things, unreadable):
        super().__init__(things)
        self.unreadable = unreadable

    def reader(self, ids):
        read = super().reader(ids)

        def thing(one):
            if one == self.unreadable:
                raise OSError("no space left")
            return read(one)

        return thing


@pytest.mark.parametrize("number", [1, 4, 6, 9])
@pytest.mark.parametrize("breaks", ["reading", "writing"])
def test_what_breaks_among_many_new_things_leaves_nothing_behind(engine, listing, monkeypatch, breaks, number):
    monkeypatch.setattr(ledger, "_BATCH", 3)
    monkeypatch.setattr(ledger, "_PIECE", 2)
    things = [droplet(each) for each in range(10)]
    if breaks == "reading":
        found, error = Unreadable(things, str(number)), pytest.raises(OSError, match="no space left")
    else:
        found = [replace(one, tags=("a\x00b",)) if one.provider_id == str(number) else one for one in things]
        error = pytest.raises(Exception, match="0x00")
    with error:
        listing(found)
    for table in ("resources", "cloud_resource_events", "rematch_queue"):
        assert rows(engine, f"select count(*) from arcadia.{table}") == [(0,)]
    assert listing(things).discovered == 10
    assert rows(
        engine,
        "select count(*), count(distinct resource_id) from arcadia.resources"
        " join arcadia.cloud_resource_events using (resource_id) where event = 'discovered'",
    ) == [(10, 10)]


BILLED = """
create temp table billed on commit drop as select 'droplet' as kind, '1' as provider_id, 'Ghost' as name, 'ghost' as name_key,
null::text as region, timestamptz '2020-01-01Z' as started_at, timestamptz '2020-02-01Z' as ended_at
"""


def test_a_billed_ghost_that_inventory_sees_after_all_is_restored(engine, account, listing):
    with engine.begin() as conn:
        conn.execute(text(BILLED))
        admit_billed(conn, account, "billed")
        admit_billed(conn, account, "billed")
    row = one(engine)
    assert (row.state, row.deleted_at) == ("billing_only", datetime(2020, 2, 1, tzinfo=UTC))
    assert [event for event, _ in events(engine)] == ["discovered"]
    assert listing([droplet(1)]).restored == 1
    assert (one(engine).state, one(engine).deleted_at) == ("active", None)


def billed(engine, account, *lines):
    """Invoice lines of a thing that nobody has seen: its name, and the month of 2020 that is billed."""
    with engine.begin() as conn:
        conn.execute(text(BILLED.replace("'Ghost' as name, 'ghost' as name_key", "'' as name, '' as name_key") + " limit 0"))
        for name, month in lines:
            line = {
                "name": name,
                "key": name.lower(),
                "from": datetime(2020, month, 1, tzinfo=UTC),
                "to": datetime(2020, month, 9, tzinfo=UTC),
            }
            conn.execute(text("insert into billed values ('droplet', '1', :name, :key, null, :from, :to)"), line)
        admit_billed(conn, account, "billed")


def test_a_ghost_has_the_name_of_its_last_line_and_all_others_beside(engine, account, listing):
    billed(engine, account, ("old", 3), ("New", 4))
    assert (one(engine).name, names(engine)) == ("New", dict.fromkeys(["old", "New"], (None, None)))
    billed(engine, account, ("older", 2))
    assert (one(engine).name, names(engine)) == ("New", dict.fromkeys(["older", "old", "New"], (None, None)))
    billed(engine, account, ("old", 5))
    assert (one(engine).name, names(engine)) == ("old", dict.fromkeys(["older", "old", "New"], (None, None)))
    billed(engine, account, ("new", 5))  # no news: neither before nor after what was billed
    assert names(engine).keys() == {"older", "old", "New"}
    # It is there after all, by one of these names: then it no longer bears the others.
    assert listing([droplet(1, name="new")]).restored == 1
    (now,) = {until for _, until in names(engine).values()} - {None}
    assert names(engine) == {"older": (None, now), "old": (None, now), "new": (None, None)}


def test_an_invoice_and_a_listing_that_tell_of_a_thing_at_once_take_turns(engine, account, listing):
    waiting = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
    with ThreadPoolExecutor(1) as pool:
        with engine.begin() as conn, engine.connect().execution_options(isolation_level="AUTOCOMMIT") as other:
            conn.execute(text(BILLED))
            admit_billed(conn, account, "billed")
            listed = pool.submit(listing, [droplet(1)])
            wait_for(lambda: other.scalar(text(waiting)) or listed.done())
        assert listed.result() == Changes(seen=1, restored=1)
    assert [event for event, _ in events(engine)] == ["discovered", "restored"]


@dataclass
class Row:
    """What the rules say about one resource, applied one resource at a time."""

    item: Resource
    first_seen: datetime
    last_seen: datetime
    strikes: int = 0
    struck_at: datetime | None = None
    deleted_at: datetime | None = None
    events: list[str] = field(default_factory=lambda: ["discovered"])


IDS = [str(i) for i in range(16)]
ITEM = st.builds(
    Resource,
    provider_id=st.sampled_from(IDS),
    name=st.sampled_from(["web", "db", 'Ünïcode ] "name", \\N']),
    status=st.sampled_from([None, "active", "off"]),
    tags=st.sampled_from([(), ("a",), ("a", "b")]),
    attrs=st.sampled_from(["{}", '{"size_slug":"s"}', '{"size_slug":"m"}', '{"memory":0.5}']),
)
INTERVAL = timedelta(minutes=10)


class Ledger(RuleBasedStateMachine):
    """Any run of listings, complete or not, early or late, against the rules applied row by row."""

    engine = None
    accounts = 0

    def __init__(self):
        super().__init__()
        Ledger.accounts += 1
        self.account = account_of_team(self.engine, team_uuid=f"model-{Ledger.accounts}", name="model")
        self.now = START
        self.newest = None
        self.model: dict[str, Row] = {}

    @rule(
        items=st.lists(ITEM, max_size=len(IDS), unique_by=lambda item: item.provider_id),
        keep=st.booleans(),
        minutes=st.integers(1, 12),
        error=st.sampled_from([None, None, None, "502 on page 2"]),
        allow=st.booleans(),
        late=st.booleans(),
    )
    def listing(self, items, keep, minutes, error, allow, late):
        if keep:  # most listings repeat what is there
            items = list(
                {**{k: row.item for k, row in self.model.items() if not row.deleted_at}, **{i.provider_id: i for i in items}}.values()
            )
        self.now += timedelta(minutes=minutes)
        started = self.newest - timedelta(seconds=1) if late and self.newest else self.now
        run = begin(self.engine, account_id=self.account, kind="droplet", started_at=started)
        expected, withheld = self.expect(items, started, error, allow)
        try:
            changes = reconcile(self.engine, run, items, error=error, strike_interval=INTERVAL, allow_mass_deletion=allow)
        except MassDeletionWithheldError:
            assert withheld
        else:
            assert not withheld
            assert changes == expected

    def expect(self, items, started, error, allow):
        counts = {"seen": len(items)}
        if self.newest is not None and self.newest > started:
            return Changes(**counts), False

        def count(what):
            counts[what] = counts.get(what, 0) + 1

        active_before = sum(not row.deleted_at for row in self.model.values())
        for item in items:
            row = self.model.get(item.provider_id)
            if row is None:
                self.model[item.provider_id] = Row(item, started, started)
                count("discovered")
                continue
            if row.deleted_at:
                row.events.append("restored")
                count("restored")
            elif row.item != item:
                row.events.append(self.event(row.item, item))
                count("updated")
            if row.deleted_at or row.item != item or row.strikes or error is None:
                row.last_seen = started
            row.item, row.strikes, row.struck_at, row.deleted_at = item, 0, None, None
        withheld = False
        if error is None:
            seen = {item.provider_id for item in items}
            due = [
                row
                for key, row in self.model.items()
                if key not in seen and not row.deleted_at and (row.struck_at is None or row.struck_at + INTERVAL <= started)
            ]
            last = [row for row in due if row.strikes == 2]
            withheld = len(last) > 10 and len(last) > 0.3 * active_before and not allow
            for row in due:
                if row.strikes == 2 and withheld:
                    continue
                row.strikes += 1
                row.struck_at = started
                if row.strikes == 3:
                    row.deleted_at = started
                    row.events.append("deleted")
                    count("deleted")
                else:
                    count("struck")
            self.newest = started
        return Changes(**counts), withheld

    @staticmethod
    def event(before, after):
        if replace(before, tags=after.tags) == after:
            return "tagged"
        return "drift_detected" if ("size_slug" in before.attrs + after.attrs and before.attrs != after.attrs) else "updated"

    @invariant()
    def the_ledger_is_the_model(self):
        found = {
            row.provider_id: (
                row.name,
                row.status,
                tuple(row.tags),
                row.first_seen_at,
                row.last_seen_at,
                row.stale_strike_count,
                row.deleted_at,
            )
            for row in rows(self.engine, "select * from arcadia.cloud_resources where account_id = :a", a=self.account)
        }
        assert found == {
            key: (row.item.name, row.item.status, row.item.tags, row.first_seen, row.last_seen, row.strikes, row.deleted_at)
            for key, row in self.model.items()
        }
        happened = {}
        for row in rows(
            self.engine,
            "select provider_id, event from arcadia.cloud_resource_events join arcadia.resources r using (resource_id)"
            " where r.account_id = :a order by event_id",
            a=self.account,
        ):
            happened.setdefault(row.provider_id, []).append(row.event)
        assert happened == {key: row.events for key, row in self.model.items()}


def test_any_run_of_listings_leaves_what_the_rules_say_row_by_row(engine):
    machine = type("Machine", (Ledger,), {"engine": engine})
    run_state_machine_as_test(
        machine,
        settings=settings(max_examples=40, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)),
    )
