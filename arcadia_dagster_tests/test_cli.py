"""The `arcadia` command as its user meets it: run as a process, judged by what it prints, its exit code and what is in the ledger."""

import re
import signal
import socket
from decimal import Decimal
from pathlib import Path

import httpx
import pytest
import typer
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url

from arcadia_dagster import settings
from arcadia_dagster.cli import app
from arcadia_dagster.demo.sky_ai import sky_ai_account
from arcadia_dagster_tests import conftest
from arcadia_dagster_tests.commands import (
    PASSWORD,
    WRONG_TOKEN,
    Trap,
    arcadia,
    end,
    processes_of,
    served,
    small_account,
    start,
    wait_for,
)
from arcadia_dagster_tests.scripted_server import Reply, serving

INVOICES = Path(__file__).parent / "data" / "invoices"
REAL = [INVOICES / "real_2019-01_8_columns.csv", INVOICES / "real_2020-07_9_columns.csv"]
COMMANDS = typer.main.get_command(app).commands


def rows(url, query, **values):
    engine = create_engine(make_url(url))
    try:
        with engine.begin() as conn:
            result = conn.execute(text(query), values)
            return result.all() if result.returns_rows else []
    finally:
        engine.dispose()


# What a ledger says, without the ids and times that differ from one run to the next.
CONTENTS = {
    "projects": "select provider_id, name, deleted_at is null as active from arcadia.cloud_projects",
    "resources": """
        select r.kind, r.provider_id, r.name, r.region, r.status, r.tags, r.attrs, r.monthly_price, p.provider_id as project,
               r.attribution_source, r.stale_strike_count, r.state, r.provider_created_at
          from arcadia.cloud_resources r left join arcadia.cloud_projects p using (cloud_project_id)""",
    "events": "select r.kind, r.provider_id, e.event from arcadia.cloud_resource_events e join arcadia.resources r using (resource_id)",
    "invoices": """
        select invoice_uuid, period, amount, status, line_count, line_total, residual, discrepancy, error, items_sha256, csv_sha256,
               lines_sha256 from arcadia.cloud_invoices""",
    "lines": """
        select invoice_uuid, ordinal, product, description, amount_usd, resource_kind, resource_provider_id, resource_name,
               resource_state, match_status, match_method, reason from arcadia.matched_cost_lines""",
}


def ledger(url):
    return {name: sorted(map(str, rows(url, query))) for name, query in CONTENTS.items()}


def versions(url):
    """Changes with every row written, even one written as it was, and with every event."""
    return rows(
        url,
        "select (select count(*) from arcadia.cloud_resource_events),"
        " (select string_agg(xmin::text || ' ' || line_id, ',' order by line_id) from arcadia.cloud_cost_lines),"
        " (select string_agg(xmin::text || ' ' || resource_id, ',' order by resource_id) from arcadia.resources)",
    )


def is_empty(url):
    """Nothing is written: no schema, or one without an account, to which every row belongs."""
    return rows(url, "select to_regclass('arcadia.cloud_accounts')") == [(None,)] or rows(url, "select * from arcadia.cloud_accounts") == []


def numbered_lines(out):
    """The table of invoice lines: how many rows of it begin with their number."""
    return len(re.findall(r"^ +\d+ {2,}\S", out, re.MULTILINE))


@pytest.fixture(scope="session")
def synced(postgres_server, template_database, tmp_path_factory):
    """A ledger after one clean sync of the small account: its URL, and what the command gave. Not to be changed."""
    with conftest._database(postgres_server, template_database) as database:
        url = database.render_as_string(hide_password=False)
        with served(small_account(), url) as (_, variables):
            done = arcadia("sync", ARCADIA_HOME=tmp_path_factory.mktemp("home"), **variables)
        yield url, done


# Help


def test_help_says_what_there_is_to_do():
    done = arcadia("--help")
    assert done.code == 0
    assert {"demo", "sync", "import", "dev", "status", "simulate"} <= set(COMMANDS)
    for name in COMMANDS:
        assert re.search(rf"│ {name} +[A-Z]", done.out)
    assert "arcadia demo first" in done.out


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself_and_each_of_its_options(name):
    done = arcadia(name, "--help", COLUMNS=120)
    assert done.code == 0
    words = COMMANDS[name].help.split()
    assert " ".join(words[:6]) in " ".join(done.out.split())
    for parameter in COMMANDS[name].params:
        assert parameter.help
        assert (parameter.opts[0] if parameter.opts[0].startswith("-") else parameter.name) in done.out


@pytest.mark.parametrize("arguments", [["no-such-command"], ["sync", "--no-such-option"], ["import"], ["dev", "--port", "0"]])
def test_what_cannot_be_understood_is_exit_code_2(arguments):
    done = arcadia(*arguments)
    assert done.code == 2
    assert "--help" in done.err


# demo


def test_the_demo_on_the_embedded_database_and_again(tmp_path, server_folder):
    token_file = tmp_path / "token"
    token_file.write_text(WRONG_TOKEN)
    mine = {"DO_API_TOKEN": WRONG_TOKEN, "DO_API_TOKEN_INVENTORY_FILE": token_file, "DIGITALOCEAN_API_URL": "http://127.0.0.1:1"}
    done = arcadia("demo", **mine)
    assert done.code == 0, done.err
    assert done.err == ""
    assert "Invoice of April 2026" in done.out
    assert numbered_lines(done.out) == 33 + 43  # and those of the second account
    assert "33 lines, 86.92 USD of 86.92 invoiced, 0.00 left over: 20 pay for living resources, 11 " in done.out
    assert "Explained: 33 of 33 lines. By kind and name alone: 17 of 33." in done.out
    assert "137 invoices, 2,095 lines; 137 add up to the cent." in done.out
    assert "Explained: 42 of 43 lines." in done.out
    assert processes_of(server_folder) == {}

    url = settings.ledger_url()
    before = versions(url)
    again = arcadia("demo", **mine)
    assert again.code == 0, again.err
    assert numbered_lines(again.out) == 33 + 43
    assert "discovered" not in again.out
    assert "ingest_invoices" not in again.out
    assert versions(url) == before
    assert re.search(r"Unknown products(?s:.*)Quantum Computers +qubits \(q-1\) +2026-04 +1 +0\.07", arcadia("status").out)


# sync


def test_sync_says_what_it_did_and_exits_with_0(synced):
    url, done = synced
    assert done.code == 0, done.err
    assert done.err == ""
    inventory = ("sync_inventory", "sync_snapshots", "sync_backups", "check_ledger")
    for job in (*inventory, "record_balance", "discover_invoices", "ingest_invoices"):
        assert re.search(rf"✓ {job} +\d", done.out)
    assert re.search(r"droplet +5 +0 +\d+ +just now", done.out)
    assert re.search(r"matched +\d+", done.out)
    assert small_account().token not in done.out
    assert rows(url, "select status, count(*) from arcadia.cloud_invoices group by 1 order by 1") == [("ingested", 5), ("preview", 1)]
    assert rows(url, "select distinct status from dagster.runs") == [("SUCCESS",)]


def test_what_cannot_be_read_fails_alone(database_url):
    account = small_account()
    account.invoices[2].items[0] |= {"amount": "[/bold] a lot :x:"}
    with served(account, database_url) as (_, variables):
        assert arcadia("sync", **variables).code == 1
        account.denied.add("/v2/firewalls")
        done = arcadia("sync", **variables)
        assert done.code == 1
        firewalls, invoice = done.err.splitlines()
        assert firewalls.startswith("  firewalls: ")
        assert "firewall:read" in firewalls
        assert "1 of 1 invoices could not be ingested" in invoice
        assert "[/bold] a lot :x:" in invoice
        assert rows(database_url, "select kind, count(*) from arcadia.cloud_resources where state = 'active' group by 1 order by 1") == [
            ("dns_zone", 7), ("droplet", 5), ("droplet_backup", 4), ("firewall", 1), ("snapshot", 12), ("spaces_bucket", 6),
        ]  # fmt: skip
        assert rows(database_url, "select status, count(*) from arcadia.cloud_invoices group by 1 order by 1") == [
            ("failed", 1),
            ("ingested", 4),
            ("preview", 1),
        ]
    status = arcadia("status", **variables)
    assert status.code == 0
    assert "1 invoices failed: " in status.out
    assert "[/bold] a lot :x:" in status.out


def test_a_kind_that_the_token_could_never_read_is_left_out_with_a_word(database_url):
    account = small_account()
    account.denied.add("/v2/firewalls")
    with served(account, database_url) as (_, variables):
        done = arcadia("sync", **variables)
    assert done.code == 0, done.err
    (word,) = [line for line in done.out.splitlines() if "left out" in line]
    assert "firewall:read" in word


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"DO_API_TOKEN": ""}, "no DigitalOcean token for inventory: set DO_API_TOKEN"),
        ({"DO_API_TOKEN": "", "DO_API_TOKEN_INVENTORY": "sky-ai-token"}, "no DigitalOcean token for billing: set DO_API_TOKEN"),
        ({"DO_API_TOKEN": WRONG_TOKEN}, "check DO_API_TOKEN"),
        ({"DO_API_TOKEN": f"{WRONG_TOKEN} and more"}, "the token in DO_API_TOKEN holds a space"),
        ({"DO_API_TOKEN": "", "DO_API_TOKEN_FILE": "/no/such/file"}, "DO_API_TOKEN_FILE names /no/such/file, which cannot be read"),
        ({"DIGITALOCEAN_API_URL": "http://127.0.0.1:1"}, "cannot reach http://127.0.0.1:1"),
        ({"DIGITALOCEAN_API_URL": "ftp://example.com"}, "DIGITALOCEAN_API_URL must be an address"),
        ({"DIGITALOCEAN_API_URL": f"https://me:{PASSWORD}@example.com"}, "DIGITALOCEAN_API_URL may not have a user name"),
        ({"DAGSTER_HOME": "/no/such/folder"}, "DAGSTER_HOME must be the absolute path of a folder that exists"),
        ({"DAGSTER_POSTGRES_URL": f"postgresql://me:{PASSWORD}@127.0.0.1:1/runs"}, "database of Dagster's runs at 127.0.0.1:1/runs"),
    ],
)
def test_a_sync_that_cannot_begin_is_one_sentence(empty_database_url, variables, words):
    with served(small_account(), empty_database_url) as (_, usable):
        done = arcadia("sync", **usable | variables)
    assert done.code == 1
    tried_again = [line for line in done.out.splitlines() if line.startswith("  waits ")]
    assert done.out == "".join(f"{line}\n" for line in tried_again)
    assert bool(tried_again) == words.startswith("cannot reach")
    assert done.sentence.startswith("arcadia: ")
    assert words in done.sentence
    if "DAGSTER_HOME" not in variables and "DAGSTER_POSTGRES_URL" not in variables:
        assert is_empty(empty_database_url)


@pytest.mark.parametrize("page", [b"<html><body>Sign in to the network</body></html>", b'{"account": ', b"[]"])
def test_an_address_that_answers_something_else_is_one_sentence(database_url, page):
    with serving() as server:
        server.replies(Reply(body=page, headers={"content-type": "text/html"}))
        done = arcadia("sync", ARCADIA_DATABASE_URL=database_url, DIGITALOCEAN_API_URL=server.url, DO_API_TOKEN="x")
    assert done.code == 1
    assert done.sentence.startswith("arcadia: account: /v2/account ")
    assert is_empty(database_url)


@pytest.mark.parametrize(
    "command", [["sync"], ["status"], ["import", "--account", "x", str(REAL[0])], ["dev", "--port", "39411"], ["demo"]]
)
def test_a_database_that_is_down_is_one_sentence(command):
    done = arcadia(*command, ARCADIA_DATABASE_URL=f"postgresql://me:{PASSWORD}@127.0.0.1:1/ledger", DO_API_TOKEN="x")
    assert done.code == 1
    assert done.sentence.startswith("arcadia: cannot connect to the ledger's database at 127.0.0.1:1/ledger: ")


@pytest.mark.parametrize("url", [f"mysql://me:{PASSWORD}@127.0.0.1/ledger", f"the usual one, {PASSWORD}"])
def test_a_database_address_that_is_none_is_one_sentence(url):
    done = arcadia("status", ARCADIA_DATABASE_URL=url)
    assert done.code == 1
    assert done.sentence.startswith("arcadia: ARCADIA_DATABASE_URL must be a PostgreSQL address")


@pytest.mark.parametrize("command", [["sync"], ["import", "--account", "x", str(REAL[0])]])
def test_a_ledger_of_a_newer_release_is_left_alone(database_url, command):
    rows(database_url, "update arcadia.alembic_version set version_num = '9999'")
    done = arcadia(*command, ARCADIA_DATABASE_URL=database_url, DO_API_TOKEN="x")
    assert done.code == 1
    assert "was made by a newer arcadia-dagster (revision 9999); upgrade arcadia-dagster" in done.sentence
    assert is_empty(database_url)
    assert rows(database_url, "select version_num from arcadia.alembic_version") == [("9999",)]


def test_a_database_that_lets_nobody_write_is_one_sentence(database_url):
    rows(database_url, f"alter database {make_url(database_url).database} set default_transaction_read_only = on")
    with served(small_account(), database_url) as (_, variables):
        done = arcadia("sync", **variables)
    assert done.code == 1
    assert done.sentence.startswith("arcadia: the database refused or was lost: cannot execute INSERT in a read-only transaction")


def test_a_folder_that_cannot_be_used_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    done = arcadia("status", ARCADIA_HOME=tmp_path / "file")
    assert done.code == 1
    assert done.sentence.startswith("arcadia: the embedded PostgreSQL cannot run in ")


# Killed, stopped, twice at once


def kill_on_request(path):
    def arrange(server, process, url):
        server.requests = Trap(path, process.kill)

    return arrange


def kill_in_the_transaction_that_writes_lines(server, process, url):
    def spring():
        engine = create_engine(make_url(url))
        holder = engine.connect()
        holder.execute(text("lock table arcadia.cloud_cost_lines in share mode"))  # who reads may, who writes waits

        def until_it_waits():
            waiting = "select count(*) from pg_locks where not granted and relation = 'arcadia.cloud_cost_lines'::regclass"
            wait_for(lambda: rows(url, waiting) != [(0,)])
            process.kill()
            process.wait()
            holder.close()
            engine.dispose()

        server.afterwards = until_it_waits

    server.requests = Trap(r"/v2/customers/my/invoices/[^/]+/csv", spring)


@pytest.mark.parametrize(
    "arrange",
    [
        pytest.param(kill_on_request(r"/v2/projects/.+/resources"), id="while it reads the projects' resources"),
        pytest.param(kill_in_the_transaction_that_writes_lines, id="in a transaction"),
    ],
)
def test_a_killed_sync_and_a_clean_one_give_the_ledger_of_a_clean_one(database_url, synced, arrange):
    with served(small_account(), database_url) as (server, variables):
        process = start("sync", **variables)
        arrange(server, process, database_url)
        if arrange is kill_in_the_transaction_that_writes_lines:
            wait_for(lambda: getattr(server, "afterwards", None))()
        assert end(process).code == -signal.SIGKILL
        assert rows(database_url, "select status, count(*) from dagster.runs where status = 'STARTED' group by 1") == [("STARTED", 1)]
        assert ledger(database_url) != ledger(synced[0])
        done = arcadia("sync", **variables)
        assert done.code == 0, done.err
    assert ledger(database_url) == ledger(synced[0])
    assert rows(database_url, "select status, count(*) from dagster.runs where status <> 'SUCCESS' group by 1") == [("FAILURE", 1)]


def test_ctrl_c_stops_a_sync_at_once_and_says_no_more(database_url):
    with served(small_account(), database_url) as (server, variables):
        process = start("sync", **variables)
        server.requests = Trap("/v2/firewalls", lambda: process.send_signal(signal.SIGINT))
        done = end(process)
        assert done.code == 130
        assert "record_balance" not in done.out
        assert not any(path.startswith("/v2/customers") for _, path, _ in server.requests)


def test_two_syncs_at_once_both_succeed_and_give_the_ledger_of_one(database_url, synced):
    with served(small_account(), database_url) as (_, variables):
        both = [start("sync", **variables) for _ in range(2)]
        for done in map(end, both):
            assert done.code == 0, done.out + done.err
    assert ledger(database_url) == ledger(synced[0])


# import


def imported(url, *files, account="Sky"):
    url = make_url(url).render_as_string(hide_password=False)
    return arcadia("import", "--account", account, *files, ARCADIA_DATABASE_URL=url)


def test_the_real_invoices_are_imported_once(empty_database_url):
    done = imported(empty_database_url, *REAL)
    assert done.code == 0
    assert done.err == ""
    assert numbered_lines(done.out) == 9
    lines = rows(empty_database_url, "select kind, amount_usd, match_status, match_method, reason from arcadia.matched_cost_lines")
    assert len(lines) == 9
    assert sum(line.amount_usd for line in lines) == Decimal("125.38")
    assert all(line.kind and (line.match_method if line.match_status == "matched" else line.reason) for line in lines)
    before = versions(empty_database_url)
    again = imported(empty_database_url, *REAL)
    assert again.code == 0
    assert numbered_lines(again.out) == 9
    assert again.out.count("already imported") == 2
    assert versions(empty_database_url) == before
    status = arcadia("status", ARCADIA_DATABASE_URL=empty_database_url)
    assert status.code == 0
    assert "imported invoices only" in status.out
    assert re.search(r"unmatched +7", status.out)


def test_of_a_long_import_the_first_lines_are_shown(database_url, tmp_path):
    file = tmp_path / "long.csv"
    row = "Spaces Subscription,Spaces ($5/mo),$5.00,2026-04-01 00:00:00 +0000\n"
    file.write_text("product,description,USD,start\n" + row * 203)
    done = imported(database_url, file)
    assert done.code == 0
    assert numbered_lines(done.out) == 200
    assert done.out.endswith("and 3 more in arcadia.matched_cost_lines\n")


def test_bad_files_leave_the_good_ones_alone(database_url, tmp_path):
    bad = tmp_path / "bad [b] :x:.csv"
    bad.write_text(REAL[0].read_text().replace("$", "a lot of $", 1))
    done = imported(database_url, REAL[0], bad, tmp_path / "missing.csv", tmp_path, REAL[1])
    assert done.code == 1
    spoilt, missing, folder = done.err.splitlines()
    assert spoilt.startswith(f"arcadia: {bad}: ")
    assert "line 2" in spoilt
    assert "a lot of $" in spoilt
    assert missing == f"arcadia: {tmp_path / 'missing.csv'}: No such file or directory"
    assert folder == f"arcadia: {tmp_path}: Is a directory"
    assert rows(database_url, "select count(*), sum(line_count) from arcadia.cloud_invoices") == [(2, 9)]


def test_only_bad_files_print_no_table(database_url, tmp_path):
    done = imported(database_url, tmp_path / "missing.csv")
    assert (done.code, done.out) == (1, "")
    assert rows(database_url, "select count(*) from arcadia.cloud_invoices") == [(0,)]


def test_a_file_whose_name_looks_like_markup(database_url, tmp_path):
    copy = tmp_path / "[bold]april[%s].csv"
    copy.write_bytes(REAL[1].read_bytes())
    done = imported(database_url, copy, account="[/red] :x:")
    assert done.code == 0
    assert "[bold]april[%s].csv" in done.out
    assert "[/red] :x:" in arcadia("status", ARCADIA_DATABASE_URL=database_url).out


def test_an_account_that_is_two_is_asked_about(database_url):
    rows(database_url, "insert into arcadia.cloud_accounts (name, team_uuid) values ('Sky', 'uuid-1'), ('Sky', 'uuid-2')")
    done = imported(database_url, REAL[0])
    assert done.code == 1
    assert done.sentence.startswith("arcadia: 2 accounts are named 'Sky'; give one of their team uuids instead: uuid-1, uuid-2")
    assert imported(database_url, REAL[0], account="uuid-2").code == 0
    assert rows(database_url, "select team_uuid from arcadia.cloud_invoices join arcadia.cloud_accounts using (account_id)") == [
        ("uuid-2",)
    ]


def test_an_account_without_a_name_is_refused(database_url):
    done = imported(database_url, REAL[0], account=" ")
    assert done.code == 2
    assert is_empty(database_url)


def test_an_import_matches_by_name_what_a_sync_knows(postgres_server, synced, tmp_path):
    account = sky_ai_account()
    newest_not_synced = account.invoices[5]
    file = tmp_path / "november.csv"
    file.write_bytes(newest_not_synced.csv())
    with conftest._database(postgres_server, make_url(synced[0]).database) as copy:
        assert imported(copy, file, account=account.team_name).code == 0
        (outcome,) = rows(
            copy,
            "select count(*) as lines, sum(amount_usd) as usd, count(*) filter (where match_method = 'name') as by_name,"
            " count(distinct account_id) as accounts from arcadia.matched_cost_lines where period = :period",
            period=f"{newest_not_synced.period}-01",
        )
    assert outcome.lines == len(newest_not_synced.items)
    assert outcome.usd == Decimal(newest_not_synced.amount)
    assert outcome.by_name > 10
    assert outcome.accounts == 1


# status


def test_the_status_of_an_empty_ledger_says_how_to_fill_it(empty_database_url):
    done = arcadia("status", ARCADIA_DATABASE_URL=empty_database_url)
    assert done.code == 0
    assert done.out == "The ledger is empty. Run arcadia demo, arcadia sync or arcadia import.\n"


def test_the_status_of_a_filled_ledger(synced):
    done = arcadia("status", ARCADIA_DATABASE_URL=synced[0])
    assert done.code == 0
    assert done.err == ""
    account = small_account()
    assert done.out.startswith(f"{account.team_name}  {account.team_uuid}")
    assert re.search(r"droplet +5 +0 +\d+ +(just now|\d+ (s|min) ago)", done.out)
    assert "usage this month 34.30 USD" in done.out
    assert "Month to date (May 2026, up to 2026-05-12 05:30 UTC): 34.30 USD in 21 lines, 21 explained" in done.out
    assert re.search(r"matched +\d+ +[\d.]+", done.out)


# simulate


def simulated(*arguments, **variables):
    """A started `arcadia simulate`, and its first two lines as variables."""
    process = start("simulate", *arguments, **variables)
    return process, dict(process.stdout.readline().strip().split("=") for _ in range(2))


@pytest.mark.parametrize("request_to_stop", [signal.SIGINT, signal.SIGTERM])
def test_simulate_serves_the_account_until_it_is_stopped_and_leaves_nothing(request_to_stop, server_folder):
    process, said = simulated("--port", 0)
    headers = {"authorization": f"Bearer {said['DO_API_TOKEN']}"}
    droplets = httpx.get(f"{said['DIGITALOCEAN_API_URL']}/v2/droplets", headers=headers).json()["droplets"]
    assert droplets == sky_ai_account().droplets
    process.send_signal(request_to_stop)
    assert end(process).code == 0
    assert not server_folder.exists()
    assert processes_of(server_folder) == {}


def test_simulate_on_a_port_in_use_is_one_sentence():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = arcadia("simulate", "--port", port)
    assert done.code == 1
    assert done.sentence.startswith("arcadia: ")
    assert f"127.0.0.1:{port}: the port is in use" in done.sentence
