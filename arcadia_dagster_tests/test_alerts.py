"""Who is told of what: the sensor over real runs and checks of the simulated account, against a webhook on loopback."""

import asyncio
import json
import logging
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest
from dagster._core.definitions.freshness_evaluator import FRESHNESS_EVALUATORS_BY_POLICY_TYPE
from dagster._core.loader import LoadingContextForTest
from dagster._core.test_utils import freeze_time
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text

from arcadia_dagster.defs.ops.alerts import Trouble, _compare, alerts
from arcadia_dagster.defs.ops.webhook import WebhookError, post
from arcadia_dagster.defs.scheduling import SCHEDULED, patience
from arcadia_dagster.demo.account import messy_account
from arcadia_dagster_tests.books import Books, item
from arcadia_dagster_tests.scripted_server import Reply, serving
from arcadia_dagster_tests.test_dagster import DEFINITIONS, Location

REPOSITORY = DEFINITIONS.get_repository_def()
GRAPH = DEFINITIONS.resolve_asset_graph()
SECRET = "T0/B0/hunter2"


class Watch:
    """A location, a webhook, and the sensor that looks from one to the other, with its cursor."""

    def __init__(self, location, hook, monkeypatch):
        self.location, self.hook = location, hook
        self.cursor = None
        hook.reply = lambda request: Reply(body=b"ok")
        monkeypatch.setenv("ARCADIA_ALERT_WEBHOOK", f"{hook.url}/services/{SECRET}")

    def look(self):
        """One tick, by a process that knows nothing but the cursor; the texts that the webhook took in it."""
        self.hook.seen.clear()
        with dg.build_sensor_context(instance=self.location.instance, cursor=self.cursor, repository_def=REPOSITORY) as context:
            self.result = alerts(context)
        if isinstance(self.result, dg.SensorResult):
            self.cursor = self.result.cursor
        return [json.loads(request.body)["text"] for request in self.hook.seen]

    def down(self, status=503):
        self.hook.reply = lambda request: Reply(status=status)

    def up(self):
        self.hook.reply = lambda request: Reply(body=b"ok")

    def age(self, **age):
        """The runs so far ended so long ago."""
        with self.location.instance.run_storage.connect() as conn:
            conn.execute(text("update runs set end_time = end_time - :seconds"), {"seconds": timedelta(**age).total_seconds()})


@pytest.fixture
def watch(engine, monkeypatch):
    location = Location(engine, monkeypatch, messy_account())
    with serving() as hook:
        yield Watch(location, hook, monkeypatch)
    location.server.stop()


def fail(watch):
    """A run that fails for a reason that can be mended."""
    watch.location.account.denied.add("/v2/customers/my/balance")
    assert not watch.location.run("record_balance").success


def succeed(watch):
    watch.location.account.denied.clear()
    assert watch.location.run("record_balance").success


# Incidents


def test_an_incident_is_told_when_it_begins_and_when_it_is_over(watch, monkeypatch):
    monkeypatch.setenv("ARCADIA_UI_URL", "https://dagster.example.com/")
    succeed(watch)
    assert watch.look() == []
    fail(watch)
    (told,) = watch.look()
    assert told.startswith("record_balance failed. balance_snapshots: ")
    assert "billing:read" in told
    run = watch.location.instance.get_runs(limit=1)[0]
    assert told.endswith(f" https://dagster.example.com/runs/{run.run_id}")
    about = json.loads(watch.hook.seen[0].body)["arcadia"]
    assert (about["incident"], about["state"], about["ended"]) == ("failed:record_balance", "open", None)
    assert watch.look() == []
    fail(watch)
    assert watch.look() == []
    succeed(watch)
    (told,) = watch.look()
    assert told.startswith("record_balance succeeds again. It was an incident since ")
    assert json.loads(watch.hook.seen[0].body)["arcadia"]["state"] == "closed"
    assert watch.look() == []
    fail(watch)
    assert len(watch.look()) == 1


def test_nothing_is_lost_while_the_webhook_is_down(watch):
    succeed(watch)
    watch.look()
    watch.down()
    fail(watch)
    watch.look()
    assert "1 waiting" in watch.result.skip_reason.skip_message
    assert "HTTP 503" in watch.result.skip_reason.skip_message
    watch.look()
    assert len(watch.hook.seen) == 1  # tried again
    watch.up()
    (told,) = watch.look()
    assert told.startswith("record_balance failed. ")
    watch.down(404)
    succeed(watch)
    watch.look()
    watch.up()
    assert [one.split(".")[0] for one in watch.look()] == ["record_balance succeeds again"]
    assert watch.look() == []


def test_what_came_and_went_while_the_webhook_was_down_is_one_message(watch):
    succeed(watch)
    watch.down()
    fail(watch)
    watch.look()
    succeed(watch)
    watch.look()
    watch.up()
    (told,) = watch.look()
    assert told.startswith("record_balance failed. balance_snapshots: ")
    assert "By now that is over." in told
    assert watch.look() == []


def test_without_a_webhook_nothing_is_kept(watch, monkeypatch):
    monkeypatch.delenv("ARCADIA_ALERT_WEBHOOK")
    fail(watch)
    assert watch.look() == []
    assert "ARCADIA_ALERT_WEBHOOK" in watch.result.skip_message
    assert watch.cursor is None


def test_a_run_that_will_be_retried_is_no_incident_yet(watch):
    succeed(watch)
    fail(watch)
    run = watch.location.instance.get_runs(limit=1)[0]
    watch.location.instance.add_run_tags(run.run_id, {"dagster/will_retry": "true"})
    assert watch.look() == []


def test_a_run_that_was_killed_says_so(watch):
    run = watch.location.instance.create_run_for_job(DEFINITIONS.resolve_job_def("sync_backups"))
    watch.location.instance.report_run_failed(run, "The command that executed this run, process 7, is gone: it was killed.")
    assert watch.look() == ["sync_backups failed. The command that executed this run, process 7, is gone: it was killed."]


def test_of_an_error_that_nobody_foresaw_the_kind_alone_is_told(watch, monkeypatch, tmp_path):
    file = tmp_path / "tenants.yaml"
    file.write_text("fallback: hunter2\ntenants:\n- {id: hunter2, name: A, rules: []}\n")
    monkeypatch.setenv("ARCADIA_TENANTS_FILE", str(file))
    with watch.location.engine.begin() as conn:
        conn.execute(text("alter table arcadia.cloud_tenants add check (tenant_id <> 'hunter2')"))
    watch.location.run("sync_inventory", assets=["tenants"])
    assert watch.look() == ["sync_inventory failed. tenants: IntegrityError, see the log of its run."]


def test_a_rejected_token_is_one_message_for_each_job(watch, monkeypatch):
    monkeypatch.setenv("DO_API_TOKEN", "wrong")
    watch.location.run("sync_backups", "sync_catalogue")
    told = watch.look()[1]
    assert told.count(": ") > 3
    assert " And " in told
    assert "wrong" not in told


def test_no_address_is_in_any_message_tick_or_log(watch, caplog):
    caplog.set_level(logging.DEBUG)
    fail(watch)
    watch.down()
    watch.look()
    watch.up()
    watch.look()
    assert SECRET not in caplog.text + str(watch.result) + watch.cursor + "".join(str(request.body) for request in watch.hook.seen)


# What is late


def test_a_job_is_late_once_its_last_success_is_too_old_and_a_run_ends_that(watch):
    succeed(watch)
    watch.age(minutes=175)
    assert watch.look() == []
    watch.age(minutes=10)
    (told,) = watch.look()
    assert told.startswith("record_balance is late: it last succeeded at ")
    assert watch.look() == []
    fail(watch)
    assert {one.split(".")[0] for one in watch.look()} == {"record_balance has run again", "record_balance failed"}
    watch.age(days=9)
    assert watch.look() == []  # it is known to fail


def test_what_never_ran_is_late_only_where_it_could(watch, monkeypatch):
    watch.look()
    state = json.loads(watch.cursor)
    watch.cursor = json.dumps(state | {"watching_since": (datetime.now(UTC) - timedelta(hours=4)).isoformat()})
    told = watch.look()
    assert sorted(one.split(" ")[0] for one in told) == [
        "record_balance",
        "sync_backups",
        "sync_catalogue",
        "sync_inventory",
        "sync_snapshots",
    ]
    assert all("it never succeeded" in one for one in told)
    watch.cursor = json.dumps(state | {"watching_since": (datetime.now(UTC) - timedelta(hours=4)).isoformat()})
    monkeypatch.delenv("DO_API_TOKEN")
    assert watch.look() == []


# Checks


def test_a_check_that_fails_is_told_and_a_warning_only_if_it_says_why(watch):
    location = watch.location
    books = Books(location.engine)
    books.invoice(item("ghost (s-1vcpu-1gb)", amount="25.00"), amount="30.00")
    run_checks(location, "invoices_add_up", "every_line_is_explained", "documents_agree", "unexplained_money_is_little")
    told = watch.look()
    assert told == [
        "The check invoices_add_up of cost_lines failed. It found 1.",
        "The check unexplained_money_is_little of matched_cost_lines failed."
        " Nobody knows what 25.00 USD of team-1 in 2026-04 pay for (lines: 1).",
    ]
    with location.engine.begin() as conn:
        conn.execute(text("delete from arcadia.cloud_invoices where residual <> 0"))
    run_checks(location, "invoices_add_up", "unexplained_money_is_little")
    assert [one.split(".")[0] for one in watch.look()] == [
        "The check invoices_add_up of cost_lines passes again", "The check unexplained_money_is_little of matched_cost_lines passes again",
    ]  # fmt: skip


def run_checks(location, *names):
    keys = [key for key in GRAPH.asset_check_keys if key.name in names]
    job = dg.Definitions.merge(
        DEFINITIONS, dg.Definitions(jobs=[dg.define_asset_job("some_checks", selection=dg.AssetSelection.checks(*keys))])
    ).resolve_job_def("some_checks")
    return job.execute_in_process(instance=location.instance).get_asset_check_evaluations()


def test_a_kind_that_could_never_be_read_is_no_incident(watch):
    watch.location.account.denied.add("/v2/firewalls")
    assert watch.location.run("sync_inventory", assets=["firewalls"]).success
    assert watch.look() == []


# For every order of events


@given(st.lists(st.tuples(st.sets(st.sampled_from("abc")), st.booleans()), max_size=12))
def test_whoever_reads_the_messages_knows_what_is_wrong(looks):
    """Looks, each with what is wrong and whether the webhook is up: every opening is followed by one closing, in the end all is told."""
    now = datetime(2026, 5, 1, tzinfo=UTC)
    incidents, known, opened, closed = {}, set(), 0, 0
    for wrong, up in [*looks, (set(), True)]:
        _compare(incidents, {key: Trouble(problem="p", over="o", path="/") for key in wrong}, now)
        if not up:
            continue
        for key, incident in list(incidents.items()):
            if not incident.told:
                opened += 1
                assert key not in known
                known.add(key)
                incident.told = True
            if incident.ended is not None:
                closed += 1
                known.remove(key)
                del incidents[key]
        assert known == wrong
    assert opened == closed
    assert incidents == {}


# The webhook


@pytest.mark.parametrize("reply", [
    Reply(status=302, headers={"location": "/login"}), Reply(status=500), Reply(reset=True), Reply(raw=(b"nonsense\r\n\r\n",)),
])  # fmt: skip
def test_what_is_no_success_is_an_error_without_the_address(reply):
    with serving() as hook:
        hook.reply = lambda request: reply
        with pytest.raises(WebhookError) as raised:
            post(f"{hook.url}/{SECRET}", "text", {})
        assert SECRET not in str(raised.value)
        assert raised.value.__suppress_context__
        assert len(hook.seen) == 1


def test_a_webhook_that_is_not_there():
    with pytest.raises(WebhookError, match="cannot be reached"):
        post(f"http://127.0.0.1:1/{SECRET}", "text", {})


@given(st.text(max_size=5000))
def test_names_call_nobody_and_texts_fit(name):
    from arcadia_dagster.defs.ops import webhook

    plain = webhook.plain(name)
    assert len(plain) <= 3000
    assert not set("<>") & set(plain)
    assert "@channel" not in webhook.plain("@channel")


# Freshness


def test_every_asset_says_how_fresh_it_must_be_and_no_fresher_than_its_schedule_allows():
    jobs = {
        key: schedule.job_name
        for schedule in DEFINITIONS.schedules
        for key in DEFINITIONS.resolve_job_def(schedule.job_name).asset_layer.executable_asset_keys
    }
    for node in GRAPH.asset_nodes:
        policy = node.freshness_policy
        assert policy is not None, node.key
        if node.key in jobs:
            assert policy.fail_window.to_timedelta() == patience(jobs[node.key]), node.key
        else:
            assert policy.deadline_cron == "0 0 5 * *", node.key
    assert patience("sync_inventory") == timedelta(minutes=90)
    assert patience("discover_invoices") == timedelta(hours=49)


@pytest.mark.parametrize(
    ("asset", "age", "state"),
    [
        ("droplets", timedelta(minutes=44), "PASS"),
        ("droplets", timedelta(minutes=46), "WARN"),
        ("droplets", timedelta(minutes=91), "FAIL"),
        ("invoices", timedelta(hours=24), "PASS"),
        ("invoices", timedelta(hours=50), "FAIL"),
        ("volumes", timedelta(days=9), "UNKNOWN"),
    ],
)
def test_dagster_finds_assets_fresh_for_as_long_as_it_should(asset, age, state):
    with dg.DagsterInstance.ephemeral() as instance:
        for name in ("droplets", "invoices"):
            instance.report_runless_asset_event(dg.AssetMaterialization(name))
        assert freshness(instance, asset, datetime.now(UTC) + age) == state


@pytest.mark.parametrize(
    ("made", "now", "state"),
    [
        ("2026-05-02", "2026-05-20", "PASS"),
        ("2026-05-02", "2026-06-04", "PASS"),
        ("2026-05-02", "2026-06-06", "FAIL"),
        ("2026-06-06", "2026-06-07", "PASS"),  # late, but there
    ],
)
def test_invoices_are_to_come_in_the_first_days_of_a_month(made, now, state):
    with dg.DagsterInstance.ephemeral() as instance:
        with freeze_time(datetime.fromisoformat(f"{made}T12:00:00Z")):
            instance.report_runless_asset_event(dg.AssetMaterialization("cost_lines", partition="2026-04_u"))
        assert freshness(instance, "cost_lines", datetime.fromisoformat(f"{now}T12:00:00Z")) == state


def freshness(instance, asset, now):
    node = GRAPH.get(dg.AssetKey(asset))
    evaluator = FRESHNESS_EVALUATORS_BY_POLICY_TYPE[type(node.freshness_policy)]()
    with freeze_time(now):
        return asyncio.run(evaluator.evaluate_freshness(context=LoadingContextForTest(instance), node=node)).value


def test_every_schedule_is_in_the_table_of_schedules():
    assert {schedule.job_name: schedule.cron_schedule for schedule in DEFINITIONS.schedules} == {
        name: scheduled.cron for name, scheduled in SCHEDULED.items()
    }
