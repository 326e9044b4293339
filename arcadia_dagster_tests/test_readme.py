"""What the README promises exists, and what exists is in the README."""

import re
from pathlib import Path

import pytest

from arcadia_dagster import settings
from arcadia_dagster.cli import app
from arcadia_dagster.definitions import defs
from arcadia_dagster.digitalocean.kinds import KINDS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
DEFINITIONS = defs()
GRAPH = DEFINITIONS.resolve_asset_graph()


@pytest.mark.parametrize("key", sorted(key.to_user_string() for key in GRAPH.get_all_asset_keys()))
def test_every_asset_is_in_the_readme(key):
    assert f"`{key}`" in README


@pytest.mark.parametrize("name", sorted({key.name for key in GRAPH.asset_check_keys}))
def test_every_check_is_in_the_readme(name):
    assert f"`{name}`" in README


@pytest.mark.parametrize("name", sorted(job.name for job in DEFINITIONS.jobs))
def test_every_job_is_in_the_readme(name):
    assert f"`{name}`" in README


def test_every_variable_that_is_read_is_in_the_readme_and_no_other():
    source = Path(settings.__file__).read_text()
    read = set(re.findall(r'"((?:DO|DIGITALOCEAN|ARCADIA|DAGSTER)_[A-Z_]+)"', source)) - {"DAGSTER_HOME"}
    told = set(re.findall(r"`((?:DO|DIGITALOCEAN|ARCADIA|DAGSTER)_[A-Z_]+)`", README)) - {"DAGSTER_HOME"}
    assert told == read


@pytest.mark.parametrize("command", sorted(command.name or command.callback.__name__ for command in app.registered_commands))
def test_every_command_is_in_the_readme(command):
    assert f"`arcadia {command}" in README


@pytest.mark.parametrize(
    "command", sorted(f"{group.name} {one.name}" for group in app.registered_groups for one in group.typer_instance.registered_commands)
)
def test_every_command_of_a_group_is_in_the_readme(command):
    assert f"`arcadia {command}" in README


def test_files_and_pictures_that_the_readme_names_exist():
    for path in re.findall(r"\]\((docs/[^)]+)\)|`((?:arcadia_dagster|benchmarks)/[\w/]+\.py)`", README):
        assert (ROOT / (path[0] or path[1])).exists()


def test_the_lock_names_versions_only():
    for line in (ROOT / "requirements.lock").read_text().splitlines():
        assert re.fullmatch(r"[A-Za-z0-9_.\-\[\]]+==[A-Za-z0-9_.+!]+", line), line


def test_the_scopes_are_those_that_the_kinds_need():
    steps = README[README.index("## From a token") : README.index("## Commands")]
    told = set(re.findall(r"`(\w+:(?:read|list))`", steps))
    assert told == {kind.scope for kind in KINDS.values() if kind.scope} | {"account:read", "billing:read", "regions:read"}
