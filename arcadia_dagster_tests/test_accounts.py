"""Several accounts from one file: what the file may say, and that each account is read, fails and is told of by itself.

The code location is loaded anew with a file of three accounts, as a new process would load it. One account is in the other tests.
"""

import importlib
import json
import sys
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest
import yaml
from dagster._utils.tags import TagConcurrencyLimitsCounter
from sqlalchemy import make_url, text

from arcadia_dagster import settings
from arcadia_dagster.accounts_file import AccountsFileError, read_accounts
from arcadia_dagster.demo.account import messy_account
from arcadia_dagster.demo.server import SimulatedServer
from arcadia_dagster.demo.showcase import showcase_account
from arcadia_dagster.digitalocean.kinds import KINDS
from arcadia_dagster.ledger.accounts import account_of_team, accounts_of, doubts, note_account, note_no_account
from arcadia_dagster_tests.commands import arcadia, small_account
from arcadia_dagster_tests.scripted_server import Reply, serving

TOKEN = "dop_v1_" + "0123456789abcdef" * 4

# The file


@pytest.fixture
def write(tmp_path, monkeypatch):
    def write(content):
        file = tmp_path / "accounts.toml"
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        monkeypatch.setenv("ARCADIA_ACCOUNTS_FILE", str(file))
        return file

    return write


GOOD = '[accounts.a]\ntoken_env = "T_A"\n'


@pytest.mark.parametrize(
    ("content", "problems"),
    [
        ("", ["it must name one account at least"]),
        ("accounts = 3", ["it must name one account at least"]),
        ("[accounts]", ["it must name one account at least"]),
        ("[accounts.a", ["this is not TOML, at end of document"]),
        (f"[accounts.a]\ntoken_env = {TOKEN}", ["this is not TOML, at line 2"]),
        (GOOD + GOOD, ["this is not TOML, at line 3"]),
        (b"[accounts.\xff]", ["this is no UTF-8 text"]),
        (GOOD + "[account.b]", ["there is no key 'account'"]),
        (f'[accounts."My Team"]\ntoken = "{TOKEN}"', ["the name 'My Team' of an account", "an account.token must be a reference"]),
        (f"[accounts.{TOKEN}]", ["the name (it looks like a token)", "an account has no token for inventory and billing"]),
        (f'[accounts.a]\n{TOKEN} = "x"', ["accounts.a has no key (it looks like a token)", "accounts.a has no token"]),
        (f'[accounts.a]\ntoken_env = "{TOKEN}"', ["accounts.a.token_env seems to hold a token itself"]),
        (f'[accounts.a]\ntoken_file = "{TOKEN}"', ["accounts.a.token_file seems to hold a token itself"]),
        ('[accounts.a]\ntoken_env = "A B"', ["accounts.a.token_env must be the name of an environment variable"]),
        ('[accounts.a]\ntoken = "vault:x"', ["accounts.a.token must be a reference"]),
        ("[accounts.a]\ntoken_env = 3", ["accounts.a.token_env must be a text"]),
        ('[accounts.a]\ntoken_env = " "', ["accounts.a.token_env must be a text"]),
        ('[accounts.a]\ntoken_env = "X"\ntoken_file = "x"', ["accounts.a has token_env and token_file; a token is in one place"]),
        ('[accounts.a]\ninventory_token_env = "X"', ["accounts.a has no token for billing"]),
        ("[accounts.a]\n[accounts.b]\nx = 1", ["accounts.a has no token", "accounts.b has no key 'x'", "accounts.b has no token"]),
    ],
)
def test_all_that_is_wrong_with_a_file_is_told_at_once_and_no_token(write, content, problems):
    file = write(content)
    with pytest.raises(AccountsFileError) as raised:
        read_accounts(file)
    found = raised.value.problems
    assert len(found) == len(problems), found
    for sentence, wanted in zip(found, problems, strict=True):
        assert sentence.startswith(f"{file}: ")
        assert wanted in sentence
    assert "0123456789abcdef" not in str(found)
    with pytest.raises(settings.SettingsError):
        settings.account_names()


def test_a_token_is_where_the_file_says(write, tmp_path, monkeypatch):
    write(
        '[accounts.b]\ntoken_env = "T_B"\n[accounts.a]\ninventory_token_file = "secrets/a"\nbilling_token = "vault:secret/data/do#token"\n'
    )
    assert settings.account_names() == ("b", "a")
    monkeypatch.setenv("T_B", "of-b")
    monkeypatch.setenv("DO_API_TOKEN", "of-nobody")
    assert settings.api_token("billing", "b") == "of-b"
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "a").write_text("of-a\n")
    assert settings.api_token("inventory", "a") == "of-a"
    assert settings.token_is_configured("inventory")
    assert settings.all_tokens() == ["of-b", "of-b", "of-a"]
    for account, purpose, sentence in [
        ("a", "billing", "accounts.a.billing_token in .* names a secret in Vault, and VAULT_ADDR does not say where"),
        ("c", "billing", "there is no account c in "),
        (None, "billing", "names 2 accounts, and it is not said which"),
    ]:
        with pytest.raises(settings.SettingsError, match=sentence):
            settings.api_token(purpose, account)
    monkeypatch.delenv("T_B")
    with pytest.raises(settings.SettingsError, match=r"accounts.b.token_env in .* names the variable T_B, which is not set"):
        settings.api_token("billing", "b")
    (tmp_path / "secrets" / "a").write_text("of a")
    with pytest.raises(
        settings.SettingsError, match=r"the token in .*/secrets/a, which accounts.a.inventory_token_file in .*holds a space"
    ):
        settings.api_token("inventory", "a")


def test_the_file_is_the_one_named_or_the_one_in_the_working_folder(write, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ARCADIA_ACCOUNTS_FILE")
    assert settings.accounts_file() is None
    (tmp_path / "arcadia.toml").write_text(GOOD)
    assert settings.account_names() == ("a",)
    monkeypatch.setenv("T_A", "of-a")
    assert settings.api_token("billing") == "of-a"  # one account needs no name
    named = write('[accounts.other]\ntoken_env = "T"')
    assert settings.accounts_file() == named
    monkeypatch.setenv("ARCADIA_ACCOUNTS_FILE", "")
    assert settings.account_names() == ()
    monkeypatch.setenv("ARCADIA_ACCOUNTS_FILE", "no-such-file")
    with pytest.raises(settings.SettingsError, match="no-such-file: it cannot be read: No such file"):
        settings.account_names()


def test_commands_tell_of_a_file_that_is_wrong(write, database_url):
    file = write("[accounts.a]\n[accounts.b]\n")
    for command in ("sync", "status", "dev"):
        done = arcadia(command, ARCADIA_ACCOUNTS_FILE=file, ARCADIA_DATABASE_URL=database_url)
        assert done.code == 1
        assert [line.split(": ")[-2].rpartition("accounts.")[2][:1] for line in done.err.splitlines()] == ["a", "b"]


# The code location


@contextmanager
def loaded_anew():
    """The modules of the code location as a new process would load them; those that others hold are left as they were."""
    before = {
        name: sys.modules.pop(name)
        for name in list(sys.modules)
        if name.startswith(("arcadia_dagster.defs", "arcadia_dagster.definitions"))
    }
    parent = sys.modules["arcadia_dagster"]
    try:
        yield
    finally:
        for name in [name for name in sys.modules if name.startswith(("arcadia_dagster.defs", "arcadia_dagster.definitions"))]:
            del sys.modules[name]
        sys.modules.update(before)
        for name in ("defs", "definitions"):
            if f"arcadia_dagster.{name}" in before:
                setattr(parent, name, before[f"arcadia_dagster.{name}"])


@pytest.fixture(scope="module")
def code(tmp_path_factory):
    """The code location of a file with three accounts: its definitions, and its modules by name."""
    file = tmp_path_factory.mktemp("accounts") / "accounts.toml"
    file.write_text("".join(f'[accounts.{name}]\ntoken_env = "T_{name.upper()}"\n' for name in ("one", "two", "three")))
    with pytest.MonkeyPatch.context() as patch, loaded_anew():
        patch.setenv("ARCADIA_ACCOUNTS_FILE", str(file))
        definitions = importlib.import_module("arcadia_dagster.definitions").defs()
        modules = {name: module for name, module in sys.modules.items() if name.startswith("arcadia_dagster.defs")}
    return file, definitions, modules


class Location:
    """That code location on a ledger of its own and three simulated accounts, with a Dagster instance in memory."""

    def __init__(self, code, engine, monkeypatch, server):
        self.file, self.definitions, self.modules = code
        self.engine, self.server = engine, server
        self.accounts = dict(zip(("one", "two", "three"), server.accounts, strict=True))
        self.instance = dg.DagsterInstance.ephemeral()
        monkeypatch.setenv("ARCADIA_ACCOUNTS_FILE", str(self.file))
        monkeypatch.setenv("ARCADIA_DATABASE_URL", engine.url.render_as_string(hide_password=False))
        monkeypatch.setenv("DIGITALOCEAN_API_URL", server.url)
        for name, account in self.accounts.items():
            monkeypatch.setenv(f"T_{name.upper()}", account.token)

    def of(self, module, name):
        return getattr(self.modules[f"arcadia_dagster.defs.{module}"], name)

    def run(self, job, account=None, *, assets=None, tags=None):
        return self.definitions.resolve_job_def(job).execute_in_process(
            instance=self.instance,
            partition_key=account,
            raise_on_error=False,
            tags=tags,
            run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
            asset_selection=assets and [dg.AssetKey(name) for name in assets],
        )

    def tick(self, job):
        with dg.build_schedule_context(instance=self.instance, scheduled_execution_time=datetime(2026, 5, 12, tzinfo=UTC)) as context:
            return self.definitions.resolve_schedule_def(f"{job}_schedule").evaluate_tick(context)

    def sense(self):
        with dg.build_sensor_context(instance=self.instance, resources={"ledger": self.of("resources", "Ledger")()}) as context:
            return self.of("billing.jobs", "uningested_invoices")(context)

    def rows(self, query, **values):
        with self.engine.connect() as conn:
            return conn.execute(text(query), values).all()

    def kinds(self):
        """How many active resources of each kind each team has."""
        rows = self.rows(
            "select a.name, kind, count(*) from arcadia.cloud_resources r join arcadia.cloud_accounts a using (account_id)"
            " where state = 'active' group by 1, 2"
        )
        return {(row[0], row[1]): row[2] for row in rows}


@pytest.fixture
def three(code, engine, monkeypatch):
    with SimulatedServer([small_account(), messy_account(), showcase_account()]) as server:
        yield Location(code, engine, monkeypatch, server)


def failure(result):
    return [event.step_failure_data.user_failure_data.description for event in result.all_events if event.is_step_failure]


LISTED = ("droplets", "firewalls")


def test_what_asks_the_provider_is_partitioned_by_account_and_nothing_else_has_changed(code):
    _, definitions, _ = code
    graph = definitions.resolve_asset_graph()
    partitioned = {
        key.to_user_string()
        for key in graph.get_all_asset_keys()
        if isinstance(definition := graph.get(key).partitions_def, dg.StaticPartitionsDefinition)
        and definition.get_partition_keys() == ["one", "two", "three"]
    }
    listed = {kind.asset for kind in KINDS.values() if kind.asset}
    assert partitioned == listed | {"project_resources", "balance_snapshots", "invoices", "invoice_preview"}
    assert graph.get(dg.AssetKey("cost_lines")).partitions_def == dg.DynamicPartitionsDefinition(name="invoices")
    assert not any(graph.get(key).pools for key in graph.get_all_asset_keys())
    jobs = {schedule.job_name for schedule in definitions.schedules}
    assert jobs == {
        "sync_inventory", "sync_catalogue", "sync_snapshots", "sync_backups", "record_balance", "discover_invoices", "write_report",
        "prune_runs", "check_ledger", "check_inventory",
    }  # fmt: skip


def test_one_account_in_the_file_is_as_one_in_the_environment(write):
    write(GOOD)
    with loaded_anew():
        accounts = importlib.import_module("arcadia_dagster.defs.accounts")
        assert (accounts.ACCOUNTS, accounts.account_partitions) == ((), None)


def test_one_accounts_failure_is_its_own(three, monkeypatch):
    monkeypatch.setenv("T_TWO", "not-the-token")
    results = {name: three.run("sync_inventory", name, assets=LISTED) for name in three.accounts}
    assert {name: result.success for name, result in results.items()} == {"one": True, "two": False, "three": True}
    assert "check accounts.two.token_env in " in failure(results["two"])[0]
    assert "not-the-token" not in str(failure(results["two"]))
    assert three.kinds() == {("sky-ai", "droplet"): 5, ("sky-ai", "firewall"): 1, ("showcase", "droplet"): 11, ("showcase", "firewall"): 1}
    assert three.instance.get_materialized_partitions(dg.AssetKey("droplets")) == {"one", "three"}
    monkeypatch.setenv("T_TWO", three.accounts["two"].token)
    assert three.run("sync_inventory", "two", assets=LISTED).success
    three.accounts["three"].denied.add("/v2/firewalls")
    results = {name: three.run("sync_inventory", name, assets=LISTED) for name in three.accounts}
    assert {name: result.success for name, result in results.items()} == {"one": True, "two": True, "three": False}
    assert "firewall:read" in failure(results["three"])[0]
    checks = {(check.asset_key.to_user_string(), check.partition, check.passed) for check in results["three"].get_asset_check_evaluations()}
    assert checks == {("droplets", "three", True), ("firewalls", "three", False)}
    assert three.rows("select max(stale_strike_count) from arcadia.resources") == [(0,)]
    assert three.rows("select name, error is null from arcadia.configured_accounts order by 1") == [
        ("one", True), ("three", True), ("two", True),
    ]  # fmt: skip


def test_a_token_that_cannot_be_read_fails_its_account_with_one_sentence(three, monkeypatch):
    monkeypatch.delenv("T_ONE")
    result = three.run("record_balance", "one")
    assert failure(result) == [f"accounts.one.token_env in {three.file} names the variable T_ONE, which is not set where this runs"]
    assert three.rows("select name, purpose, account_id, error from arcadia.configured_accounts") == [
        ("one", "billing", None, failure(result)[0])
    ]
    assert three.run("record_balance", "three").success


def test_a_tick_requests_a_run_of_each_account_but_those_whose_last_is_not_done(three, tmp_path):
    three.instance = dg.DagsterInstance.local_temp(str(tmp_path))
    requests = three.tick("sync_inventory").run_requests
    assert [(one.partition_key, one.tags["dagster/partition"], one.tags["arcadia/account"]) for one in requests] == [
        (name, name, name) for name in three.accounts
    ]
    started = {"dagster/partition": "two"}
    three.instance.add_run(dg.DagsterRun(job_name="sync_inventory", status=dg.DagsterRunStatus.STARTED, tags=started))
    assert [one.partition_key for one in three.tick("sync_inventory").run_requests] == ["one", "three"]
    assert len(three.tick("sync_backups").run_requests) == 3
    for name in ("one", "three"):
        three.instance.add_run(
            dg.DagsterRun(job_name="sync_inventory", status=dg.DagsterRunStatus.NOT_STARTED, tags={"dagster/partition": name})
        )
    skipped = three.tick("sync_inventory")
    assert skipped.run_requests == []
    assert all(name in skipped.skip_message for name in three.accounts)
    assert len(three.tick("check_inventory").run_requests) == 1  # of the ledger, once


def test_runs_of_one_account_wait_for_each_other_and_not_for_others():
    limits = yaml.safe_load((Path(__file__).parent.parent / "dagster.yaml").read_text())["concurrency"]["runs"]["tag_concurrency_limits"]

    def run(**tags):
        return dg.DagsterRun(job_name="any", tags={name.replace("_", "/"): value for name, value in tags.items()})

    from_schedule = {"dagster_partition": "one", "arcadia_account": "one"}
    counter = TagConcurrencyLimitsCounter(limits, [run(**from_schedule)])
    assert counter.is_blocked(run(**from_schedule))
    assert counter.is_blocked(run(dagster_partition="one"))  # from the UI
    assert counter.is_blocked(run(arcadia_account="one"))  # its invoices
    assert not counter.is_blocked(run(dagster_partition="two", arcadia_account="two"))
    assert not counter.is_blocked(run())


def test_invoices_are_ingested_with_the_token_of_their_account(three, monkeypatch):
    for name in ("one", "three"):
        assert three.run("discover_invoices", name, assets=["invoices"]).success
    requests = three.sense().run_requests
    assert [(one.tags["arcadia/account"], one.tags["dagster/asset_partition_range_start"][:7]) for one in requests] == [
        ("one", "2025-12"), ("three", "2026-01"),
    ]  # fmt: skip
    assert three.run("ingest_invoices", tags=requests[0].tags, assets=["cost_lines"]).success
    assert [one.tags["arcadia/account"] for one in three.sense().run_requests] == ["three"]
    # By hand, all in one run, while a token is wrong.
    monkeypatch.setenv("T_ONE", "not-the-token")
    keys = three.instance.get_dynamic_partitions("invoices")
    result = three.run("ingest_invoices", tags=three.of("billing.jobs", "range_tags")(keys[0], keys[-1]), assets=["cost_lines"])
    assert failure(result)[0].startswith("5 of 9 invoices could not be ingested; the others were. The first: one: account: /v2/account")
    assert three.rows("select name, i.status, count(*) from arcadia.cloud_invoices i join arcadia.cloud_accounts using (account_id)"
        " where i.status <> 'preview' group by 1, 2 order by 1") == [("showcase", "ingested", 4), ("sky-ai", "ingested", 5)]  # fmt: skip
    alone = three.run("ingest_invoices", tags=three.of("billing.jobs", "range_tags")(keys[-1], keys[-1]), assets=["cost_lines"])
    assert three.instance.get_run_by_id(alone.run_id).tags["arcadia/account"] == "three"


# Who is told


def test_alerts_tell_of_each_account_and_of_many_in_one_message(three, monkeypatch):
    repository = three.definitions.get_repository_def()
    texts, cursor = [], None

    def look():
        nonlocal cursor
        hook.seen.clear()
        with dg.build_sensor_context(instance=three.instance, cursor=cursor, repository_def=repository) as context:
            cursor = three.of("ops.alerts", "alerts")(context).cursor
        return [json.loads(request.body) for request in hook.seen]

    with serving() as hook:
        hook.reply = lambda request: Reply(body=b"ok")
        monkeypatch.setenv("ARCADIA_ALERT_WEBHOOK", hook.url)
        for name in three.accounts:
            three.run("record_balance", name)
        assert look() == []
        three.accounts["two"].denied.add("/v2/customers/my/balance")
        for name in ("two", "one", "three"):  # the others succeed later
            three.run("record_balance", name)
        (told,) = look()
        assert told["text"].startswith("record_balance of two failed. balance_snapshots: ")
        assert told["arcadia"]["incident"] == "failed:record_balance:two"
        assert look() == []
        for account in three.accounts.values():
            account.denied.add("/v2/customers/my/balance")
        for name in three.accounts:
            three.run("record_balance", name)
        (told,) = look()
        texts = told["text"].splitlines()
        assert [line.split(" failed")[0] for line in texts] == ["record_balance of one", "record_balance of three"]
        assert [one["incident"] for one in told["arcadia"]["also"]] == ["failed:record_balance:three"]
        for account in three.accounts.values():
            account.denied.clear()
        three.run("record_balance", "three")
        (told,) = look()
        assert told["text"].startswith("record_balance of three succeeds again.")


def test_names_that_lead_where_nobody_expects_are_told_and_harm_nothing(engine):
    teams = [account_of_team(engine, team_uuid=f"uuid-{name}", name=name) for name in ("red", "blue")]
    for name, purpose, team in (("a", "inventory", 0), ("a", "billing", 0), ("b", "inventory", 1), ("b", "billing", 1)):
        note_account(engine, name, purpose, teams[team])

    def said():
        with engine.connect() as conn:
            return [sentence.partition(":")[0].partition(" since")[0] for _, sentence in doubts(conn, ["a", "b", "c"])]

    assert said() == []
    note_account(engine, "c", "billing", teams[0])
    assert said() == ["a and c lead to one and the same team, red"] * 2
    note_account(engine, "b", "billing", teams[0])
    assert said() == [
        "a and b and c lead to one and the same team, red",
        "a and b and c lead to one and the same team, red",
        "the billing token of b leads to the team red",
        "the tokens of b are of two teams",
        "a and b and c lead to one and the same team, red",
    ]
    note_no_account(engine, "b", "billing", "401")
    with engine.connect() as conn:
        assert accounts_of(conn, ["c", "b", "x"], "billing") == {"c": teams[0], "b": teams[0]}


def test_the_check_and_the_command_tell_of_them(three, monkeypatch):
    monkeypatch.setenv("T_TWO", three.accounts["one"].token)
    for name in three.accounts:
        three.run("sync_inventory", name, assets=["droplets"])
    evaluations = {one.check_name: one for one in three.run("check_inventory").get_asset_check_evaluations()}
    assert evaluations.keys() == {"accounts_are_told_apart", "names_are_unique", "no_listing_left_open"}
    told = evaluations["accounts_are_told_apart"]
    assert (told.passed, told.severity.value) == (False, "WARN")
    assert told.description == "one and two lead to one and the same team, sky-ai: it is read once for each of them."
    with three.engine.begin() as conn:
        conn.execute(text("update arcadia.configured_accounts set error = 'the token is gone' where name = 'three'"))
    url = make_url(three.engine.url).render_as_string(hide_password=False)
    done = arcadia("status", ARCADIA_ACCOUNTS_FILE=three.file, ARCADIA_DATABASE_URL=url)
    lines = {line.split()[0]: line for line in done.out.splitlines() if line.split()[:1] and line.split()[0] in three.accounts}
    assert "sky-ai" in lines["one"]
    assert "lead to one and the same team" in done.out
    assert "the token is gone" in lines["three"]


# What is kept


def test_retention_keeps_what_shows_the_state_of_each_accounts_partition(three, monkeypatch):
    for name in ("one", "three"):
        three.run("sync_inventory", name, assets=LISTED)  # the last time that firewalls could be read
    three.accounts["one"].denied.add("/v2/firewalls")
    for _ in range(2):
        for name in ("one", "three"):
            three.run("sync_inventory", name, assets=LISTED)
    monkeypatch.setattr(three.modules["arcadia_dagster.defs.ops.retention"], "KEEP_DAYS", -1)
    assert three.run("prune_runs").success
    left = [run.tags["dagster/partition"] for run in three.instance.get_runs(dg.RunsFilter(job_name="sync_inventory"))]
    assert sorted(left) == ["one", "one", "three"]
    for asset in LISTED:
        assert three.instance.get_materialized_partitions(dg.AssetKey(asset)) == {"one", "three"}
