"""The Dagster UI and daemon as a user starts them, with `arcadia dev` and plain `dagster dev`.

Asked over GraphQL, and looked at in a browser where there is one.
"""

import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import create_engine, make_url, text

from arcadia_dagster import settings
from arcadia_dagster_tests.commands import (
    arcadia,
    environment,
    listening_of,
    processes_of,
    served,
    small_account,
    start,
    start_module,
    wait_for,
)
from arcadia_dagster_tests.ui import Ui, browser, free_port

CHECKOUT = Path(__file__).parent.parent
INVENTORY = {
    "projects", "droplets", "volumes", "snapshots", "droplet_backups", "reserved_ips", "firewalls", "load_balancers", "domains",
    "project_resources",
}  # fmt: skip
BILLING = {"balance_snapshots", "invoices", "invoice_preview", "cost_lines", "matched_cost_lines"}
SCHEDULES = {
    "sync_inventory_schedule": "*/15 * * * *",
    "sync_catalogue_schedule": "52 * * * *",
    "sync_snapshots_schedule": "33 * * * *",
    "sync_backups_schedule": "41 * * * *",
    "record_balance_schedule": "7 * * * *",
    "discover_invoices_schedule": "23 2 * * *",
    "check_ledger_schedule": "19 3 * * *",
    "write_report_schedule": "37 3 * * *",
    "prune_runs_schedule": "11 4 * * *",
}


@contextmanager
def running(process, ui, said):
    """The UI of a started process once it answers. Stopped by one Ctrl-C at the end, after which nothing of it may be left."""
    try:
        try:
            ui.wait_until_it_answers(process)
            yield
        finally:
            process.send_signal(signal.SIGINT)
            code = process.wait(120)
        assert code == 0
    except BaseException:
        print(said.read_text())
        raise


@pytest.fixture
def said(tmp_path):
    return tmp_path / "said"


def droplets(url):
    engine = create_engine(make_url(url))
    try:
        with engine.connect() as conn:
            return conn.execute(text("select count(*) from arcadia.cloud_resources where kind = 'droplet' and state = 'active'")).scalar()
    finally:
        engine.dispose()


def test_arcadia_dev_on_the_embedded_database(server_folder, said):
    port = free_port()
    ui = Ui(port)
    with served(small_account(), "") as (_, variables), said.open("w") as output:
        process = start("dev", "--port", port, output=output, **variables)
        with running(process, ui, said):
            groups = ui.groups()
            assert {asset for asset, group in groups.items() if group == "inventory"} >= INVENTORY
            assert {asset for asset, group in groups.items() if group == "billing"} == BILLING
            schedules, sensors = ui.instigators()
            assert schedules == {name: (cron, "UTC", "RUNNING") for name, cron in SCHEDULES.items()}
            assert sensors == {"uningested_invoices": "RUNNING", "changed_months": "RUNNING", "alerts": "RUNNING"}
            assert ui.end_of(ui.materialize("droplets")) == "SUCCESS"
            assert ui.materializations("droplets")
            assert droplets(settings.ledger_url()) == 5
            assert len(processes_of(server_folder)) > 4
            assert listening_of(server_folder) == {"127.0.0.1"}  # anyone who reaches it can run jobs
    output = said.read_text()
    assert output.startswith(f"Dagster UI: {ui.url} (Ctrl-C stops it)\n")
    assert small_account().token not in output
    embedded = {"postgres", "embedded_postgres.py"}  # this process still holds the database
    # Dagster's code server ends when it misses the heartbeat of its parent.
    wait_for(lambda: all(any(name in command for name in embedded) for command in processes_of(server_folder).values()))


def test_plain_dagster_dev_in_the_checkout(database_url, server_folder, said):
    port = free_port()
    ui = Ui(port)
    with served(small_account(), database_url) as (_, variables), said.open("w") as output:
        process = start_module("dagster", "dev", "-p", port, cwd=CHECKOUT, output=output, **variables)
        with running(process, ui, said):
            assert set(ui.groups()) >= INVENTORY | BILLING
            assert ui.end_of(ui.materialize("droplets")) == "SUCCESS"
            assert droplets(database_url) == 5
            assert listening_of(server_folder) == {"127.0.0.1"}
    wait_for(lambda: processes_of(server_folder) == {})


def test_an_address_of_another_machine_is_one_sentence():
    done = arcadia("dev", "--host", "192.0.2.1", "--port", free_port())
    assert done.code == 1
    assert "192.0.2.1" in done.sentence
    assert "cannot be served on (Cannot assign requested address)" in done.sentence


def test_a_port_in_use_is_one_sentence(server_folder):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = arcadia("dev", "--port", port)
    assert done.code == 1
    assert done.sentence == f"arcadia: 127.0.0.1:{port} cannot be served on (Address already in use); choose another with --port"
    assert not server_folder.exists()


def test_the_definitions_are_valid():
    command = [sys.executable, "-m", "dagster", "definitions", "validate", "-m", "arcadia_dagster.definitions"]
    done = subprocess.run(command, env=environment(), cwd=CHECKOUT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert "All code locations passed validation" in done.stdout + done.stderr


def test_what_a_person_sees_in_a_browser(database_url, server_folder, said):
    port = free_port()
    ui = Ui(port)
    with browser() as chrome, served(small_account(), database_url) as (_, variables), said.open("w") as output:
        process = start("dev", "--port", port, output=output, **variables)
        with running(process, ui, said):
            chrome.open(f"{ui.url}/asset-groups")
            chrome.see("inventory")
            chrome.see("billing")

            chrome.open(f"{ui.url}/automation")
            for name, words in (
                ("sync_inventory_schedule", "Scheduled Every 15 minutes"),
                ("discover_invoices_schedule", "Scheduled At 02:23 AM UTC"),
                ("uningested_invoices", "Standard sensor"),
            ):
                chrome.see(name)
                chrome.see(words)

            chrome.open(f"{ui.url}/assets/droplets?view=events")
            chrome.click("Materialize")
            run_id = wait_for(lambda: ui.materializations("droplets"))[0]
            assert ui.end_of(run_id) == "SUCCESS"
            assert droplets(database_url) == 5

            chrome.refresh()
            header, *lines = [line.split() for line in chrome.table_with("provider_id").splitlines()]
            assert header == ["name", "provider_id", "region", "status", "created"]
            assert {line[0] for line in lines} == {droplet["name"] for droplet in small_account().droplets}
    wait_for(lambda: processes_of(server_folder) == {})
