"""What Dagster takes of a scheduled `sync_inventory`: its parts beside those of a run of one empty step and the same work without Dagster.

Run by `make bench`, or `python benchmarks/dagster_share.py`. Uses ARCADIA_DATABASE_URL where set, else an embedded server in a temporary
folder. Runs are launched as the daemon launches them: by the code location's server, each in a process of its own.
"""

import json
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import yaml
from dagster._core.workspace.context import WorkspaceRequestContext
from dagster._core.workspace.load import load_workspace_process_context_from_yaml_paths
from rich.console import Console
from rich.table import Table

from arcadia_dagster import settings
from arcadia_dagster.demo.server import SimulatedServer
from arcadia_dagster.demo.sky_ai import sky_ai_account
from arcadia_dagster.ledger.schema import connect
from benchmarks.table import Row, home, judged, show
from benchmarks.timed_storage import path

ROUNDS = 5
ROOT = Path(__file__).parent.parent
COUNTS = ("statements there", "events")
IMPORTED = {
    "sync_inventory": "from arcadia_dagster.definitions import defs; defs()",
    "one_step": "from benchmarks.one_step import defs",
}
PLAIN = """
import sys
from arcadia_dagster import settings
from arcadia_dagster.digitalocean.client import Client
from arcadia_dagster.digitalocean.inventory import Reading, list_kind, walk_projects
from arcadia_dagster.digitalocean.kinds import KINDS
from arcadia_dagster.ledger.accounts import account_of_team
from arcadia_dagster.ledger.attribution import WALK, attribute, record_walk
from arcadia_dagster.ledger.reconcile import begin, recall, reconcile
from arcadia_dagster.ledger.schema import connect
import time
began = time.perf_counter()
engine = connect(settings.ledger_url())
with Client(settings.api_token("inventory"), base_url=settings.api_url()) as client:
    team = client.account()
    account_id = account_of_team(engine, team_uuid=team.team_uuid, name=team.name)
    for kind in KINDS.values():
        if kind.asset and kind.job == "sync_inventory":
            run = begin(engine, account_id=account_id, kind=kind.name)
            recalled = recall(engine, run)
            reading = Reading(kind, list_kind(client, kind, recalled.digests))
            reconcile(engine, run, reading, recalled=recalled, requests=reading.requests, error=reading.error)
            if kind.name == "project":
                projects = [*reading.digests]
    run = begin(engine, account_id=account_id, kind=WALK)
    walk = walk_projects(client, projects)
    record_walk(engine, run, walk.memberships, requests=walk.requests, error=walk.error)
    attribute(engine, account_id, internal_project=settings.internal_project(), sync_run_id=run.sync_run_id)
print(time.perf_counter() - began)
"""


def launched(instance: dg.DagsterInstance, workspace: WorkspaceRequestContext, location: str, job_name: str) -> dict[str, float]:
    """Seconds of the parts of one run, and how many events it left."""
    code = workspace.get_code_location(location)
    (repository,) = code.get_repositories().values()
    job = repository.get_full_job(job_name)
    began = time.time()
    plan = code.get_execution_plan(job, {}, step_keys_to_execute=None, known_state=None)
    run = instance.create_run(
        job_name=job.name,
        run_id=None,
        run_config={},
        status=dg.DagsterRunStatus.NOT_STARTED,
        tags={},
        root_run_id=None,
        parent_run_id=None,
        step_keys_to_execute=None,
        execution_plan_snapshot=plan.execution_plan_snapshot,
        job_snapshot=job.job_snapshot,
        parent_job_snapshot=job.parent_job_snapshot,
        asset_selection=None,
        asset_check_selection=None,
        resolved_op_selection=None,
        op_selection=None,
        remote_job_origin=job.get_remote_origin(),
        job_code_origin=job.get_python_origin(),
        asset_graph=repository.asset_graph,
    )
    created = time.time()
    instance.launch_run(run.run_id, workspace)
    while not (found := instance.get_run_by_id(run.run_id)) or not found.is_finished:
        time.sleep(0.02)
    if found.status != dg.DagsterRunStatus.SUCCESS:
        raise SystemExit(f"the run of {job_name} failed: see its events")
    events = instance.all_logs(run.run_id)
    at: dict[str, float] = {}
    for entry in events:
        if entry.dagster_event is not None:
            at.setdefault(entry.dagster_event.event_type_value, entry.timestamp)
    steps_done = max(e.timestamp for e in events if e.dagster_event and e.dagster_event.event_type_value == "STEP_SUCCESS")
    process, pid = next((e.timestamp, int(said[1])) for e in events if (said := re.search(r"Started process .*pid: (\d+)", e.message)))
    while not path(pid).exists():  # until the process has ended
        time.sleep(0.02)
    storage = json.loads(path(pid).read_text())
    return {
        "the run is created": created - began,
        "its process starts and imports Dagster": process - created,
        "it imports the code location and plans": at["STEP_START"] - process,
        "of it, the import": imported(IMPORTED[job_name]),
        "its steps": steps_done - at["STEP_START"],
        "it ends": at["PIPELINE_SUCCESS"] - steps_done,
        "all": at["PIPELINE_SUCCESS"] - began,
        "of it, its process in Dagster's storage": storage["seconds"],
        "statements there": storage["statements"],
        "events": len(events),
    }


def imported(statement: str) -> float:
    """Seconds that the import of a code location takes in a process that has Dagster."""
    program = f"import time, dagster._cli.api, arcadia_dagster.instance_storage; t = time.time(); {statement}; print(time.time() - t)"
    return float(subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout)


def plain(environment: dict[str, str]) -> tuple[float, float]:
    """Seconds of a process that does the work without Dagster, and of the work in it."""
    began = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", PLAIN], env=environment, check=True, capture_output=True, text=True)
    return time.perf_counter() - began, float(done.stdout)


def medians(rounds: list[dict[str, float]]) -> dict[str, float]:
    """The median of each part."""
    return {name: statistics.median(one[name] for one in rounds) for name in rounds[0]}


def measure(instance: dg.DagsterInstance, workspace: WorkspaceRequestContext) -> Iterator[tuple[dict[str, float], ...]]:
    """Rounds in turn: sync_inventory, one empty step, the work without Dagster. The first fills caches and is left out."""
    for number in range(ROUNDS + 1):
        ours = launched(instance, workspace, "arcadia_dagster.definitions", "sync_inventory")
        least = launched(instance, workspace, "one_step", "one_step")
        whole, work = plain(dict(os.environ))
        if number:
            yield ours, least, {"all": whole, "its steps": work}


def main() -> None:
    """Print the parts, and the table."""
    account = sky_ai_account()
    with home() as folder, SimulatedServer([account]) as server:
        os.environ |= {"DAGSTER_HOME": folder, "DO_API_TOKEN": account.token, "DIGITALOCEAN_API_URL": server.url}
        instance_file = (ROOT / "dagster.yaml").read_text().replace("arcadia_dagster.instance_storage", "benchmarks.timed_storage")
        (Path(folder) / "dagster.yaml").write_text(instance_file.replace("LedgerStorage", "TimedStorage"))
        workspace_file = Path(folder) / "workspace.yaml"
        locations = [
            {"python_module": {"module_name": "arcadia_dagster.definitions"}},
            {"python_module": {"module_name": "benchmarks.one_step", "location_name": "one_step", "working_directory": str(ROOT)}},
        ]
        workspace_file.write_text(yaml.safe_dump({"load_from": locations}))
        connect(settings.ledger_url()).dispose()
        os.dup2(os.open(Path(folder) / "log", os.O_CREAT | os.O_WRONLY), 2)  # what the runs say
        with (
            dg.DagsterInstance.get() as instance,
            load_workspace_process_context_from_yaml_paths(instance, [str(workspace_file)]) as workspace,
        ):
            rounds = list(measure(instance, workspace.create_request_context()))
    ours, least, without = (medians([one[side] for one in rounds]) for side in range(3))
    table = Table(f"seconds, median of {ROUNDS}", "sync_inventory", "one empty step", "without Dagster")
    for name in ours:
        cells = [side.get(name) for side in (ours, least, without)]
        table.add_row(
            name,
            *("" if cell is None else f"{cell:.0f}" if name in COUNTS else f"{cell:.2f}" for cell in cells),
            end_section=name == "it ends",
        )
    Console(width=120).print(table)
    rows = []
    for case, name in (("the whole run", "all"), ("its steps", "its steps")):
        own, peer, limit = (side[name] for side in (ours, without, least))
        rows.append(
            Row(
                case,
                f"{own:.2f} s",
                f"without Dagster {peer:.2f} s",
                f"one empty step {limit:.2f} s",
                f"peer/ours {judged(peer / own)}; ours/limit {judged(own / limit)}",
            )
        )
    show(f"Dagster's share: sync_inventory of the demo's first account, medians of {ROUNDS}", rows)


if __name__ == "__main__":
    main()
