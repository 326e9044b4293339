"""What the README says of production: the services of deploy/ as they are written there, and that a backup restores.

Containers are not started: that compose.yaml runs the same commands is what can be seen without Docker.
"""

import configparser
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
import yaml
from sqlalchemy import create_engine, make_url, text

from arcadia_dagster import embedded_postgres
from arcadia_dagster.ledger.schema import connect
from arcadia_dagster_tests.commands import arcadia, environment, processes_of, served, small_account, wait_for
from arcadia_dagster_tests.ui import Ui, free_port

CHECKOUT = Path(__file__).parent.parent
DEPLOY = CHECKOUT / "deploy"
SERVICES = ("code", "webserver", "daemon", "api")


def unit(service):
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str
    parser.read(DEPLOY / "systemd" / f"arcadia-{service}.service")
    return parser


def command(service):
    return shlex.split(unit(service)["Service"]["ExecStart"])


@pytest.fixture
def started(tmp_path, database_url):
    """The services, each by the command of its unit, on ports of their own; the UI, the API's port and the database's address."""
    code, web, api = free_port(), free_port(), free_port()
    home = tmp_path / "dagster"
    home.mkdir()
    shutil.copy(CHECKOUT / "dagster.yaml", home)
    workspace = tmp_path / "workspace.yaml"
    workspace.write_text((DEPLOY / "workspace.yaml").read_text().replace("4000", str(code)))
    places = {"4000": str(code), "3000": str(web), "8080": str(api), "/opt/arcadia/deploy/workspace.yaml": str(workspace)}
    with served(small_account(), database_url) as (_, variables):
        processes = {}
        try:
            for service in SERVICES:
                program, *arguments = command(service)
                processes[service] = subprocess.Popen(
                    [Path(sys.executable).parent / Path(program).name, *(places.get(argument, argument) for argument in arguments)],
                    env=environment(DAGSTER_HOME=home, **variables),
                    cwd=tmp_path,
                    stdout=(tmp_path / service).open("w"),
                    stderr=subprocess.STDOUT,
                )
            yield Ui(web), api, processes, database_url
        finally:
            for process in processes.values():
                process.send_signal(signal.SIGINT)
            for service, process in processes.items():
                try:
                    process.wait(60)
                except subprocess.TimeoutExpired:
                    process.kill()
                    print(service, (tmp_path / service).read_text())
                    raise


def test_the_services_run_a_job_together(started, server_folder):
    ui, api, processes, database_url = started
    ui.wait_until_it_answers(processes["webserver"])
    wait_for(lambda: "droplets" in ui.groups())
    run_id = ui.materialize("droplets")
    assert ui.end_of(run_id) == "SUCCESS"
    engine = create_engine(make_url(database_url))
    with engine.connect() as conn:
        assert conn.execute(text("select count(*) from arcadia.cloud_resources where kind = 'droplet'")).scalar() == 5
    engine.dispose()
    assert httpx.get(f"http://127.0.0.1:{api}/api/v1/health").status_code == 200
    for process in processes.values():
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
    wait_for(lambda: processes_of(server_folder) == {})


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_stops_as_dagster_wants_to_be_stopped_and_starts_again(service):
    settings = unit(service)["Service"]
    assert (settings["KillSignal"], settings["Restart"], settings["User"]) == ("SIGINT", "always", "arcadia")
    assert settings["EnvironmentFile"] == "/etc/arcadia/arcadia.env"


def test_compose_runs_the_commands_of_the_units():
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    for service in SERVICES:
        program, *arguments = command(service)
        wanted = [Path(program).name, *(argument.removeprefix("/opt/arcadia/") for argument in arguments)]
        said = shlex.split(services[service]["command"])
        if service in ("webserver", "api"):  # the container's loopback is not the machine's; what is published is on the machine's
            said[said.index("0.0.0.0")] = "127.0.0.1"
        assert said == wanted
    assert services["code"]["ports"] == ["127.0.0.1:3000:3000", "127.0.0.1:8080:8080"]


def test_a_backup_restores_with_every_row(server_folder, tmp_path):
    """By the README's commands, with the programs that come with the embedded server, as it is newer than most."""
    with served(small_account(), "") as (_, variables):
        variables.pop("ARCADIA_DATABASE_URL")
        assert arcadia("sync", **variables).code == 0
    source = make_url(embedded_postgres.start(server_folder / "postgres")).set(drivername="postgresql+psycopg")

    def run(program, *arguments):
        subprocess.run([embedded_postgres._binary(program, None), *map(str, arguments)], check=True, timeout=120)

    def address(url):
        return url.set(drivername="postgresql").render_as_string(hide_password=False)

    dump = tmp_path / "arcadia.dump"
    target = source.set(database="restored")
    run("pg_dump", "--format=custom", "--no-owner", "--no-privileges", f"--file={dump}", address(source))
    run("createdb", f"--maintenance-db={address(source)}", "restored")
    run("pg_restore", "--no-owner", "--no-privileges", "--exit-on-error", f"--dbname={address(target)}", dump)

    def contents(url):
        engine = connect(url)
        with engine.connect() as conn:
            relations = conn.execute(
                text("select format('%I.%I', schemaname, tablename) from pg_tables where schemaname in ('arcadia', 'dagster') order by 1")
            ).scalars()
            rows = {
                name: conn.execute(text(f"select count(*), md5(string_agg(t::text, '' order by t::text)) from {name} t")).one()
                for name in [*relations, "arcadia.matched_cost_lines"]
            }
        engine.dispose()
        return rows

    before = contents(source)
    assert before["arcadia.cloud_cost_lines"][0] > 0
    assert contents(target) == before
