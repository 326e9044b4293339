"""The values that are given to Dagster's Helm chart: that they name Secrets and hold none, and say of runs what dagster.yaml says.

With HELM_CHART, the folder of the chart, they are also held against its schema and what it makes of them; `make helm-check` does that.
"""

import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from dagster._core.instance.config import dagster_instance_config

CHECKOUT = Path(__file__).parent.parent
FILE = CHECKOUT / "deploy" / "helm" / "values.yaml"
VALUES = yaml.safe_load(FILE.read_text())
INSTANCE = yaml.safe_load((CHECKOUT / "dagster.yaml").read_text())
SECRET = {"ARCADIA_DATABASE_URL", "DO_API_TOKEN"}

needs_chart = pytest.mark.skipif("HELM_CHART" not in os.environ, reason="run by make helm-check, with a chart")


def in_words_of_dagster_yaml(values):
    """What the chart calls tagConcurrencyLimits is tag_concurrency_limits in dagster.yaml; only under "value" are the names the same."""
    if isinstance(values, list):
        return [in_words_of_dagster_yaml(one) for one in values]
    if not isinstance(values, dict):
        return values
    snake = {key: re.sub("(?=[A-Z])", "_", key).lower() for key in values}
    return {snake[key]: one if key == "value" else in_words_of_dagster_yaml(one) for key, one in values.items()}


def test_runs_are_treated_as_dagster_yaml_says():
    limits = dict(VALUES["concurrency"])
    assert limits.pop("enabled")
    assert "runCoordinator" not in VALUES["dagsterDaemon"]  # without the chart's own queue there is none, whatever the limits are
    ours, plain = {"concurrency": in_words_of_dagster_yaml(limits)} | VALUES["additionalInstanceConfig"], dict(INSTANCE)
    # The chart has words of its own for the first two, and says of the queue what dagster.yaml does.
    assert plain.keys() - ours.keys() == {"storage", "telemetry", "run_queue"}
    for section, key in (("run_monitoring", "start_timeout_seconds"), ("run_retries", "max_retries")):
        assert ours[section].pop(key) > plain[section].pop(key)
    assert ours["concurrency"]["runs"].pop("max_concurrent_runs") > plain["concurrency"]["runs"].pop("max_concurrent_runs")
    assert {key: plain[key] for key in ours} == ours


def test_secrets_are_named_and_the_database_is_not_an_embedded_one():
    [deployment] = VALUES["dagster-user-deployments"]["deployments"]
    assert {one["name"] for one in deployment["env"]} == SECRET
    for one in deployment["env"]:
        assert one["valueFrom"]["secretKeyRef"].keys() == {"name", "key"}  # not "optional": a pod without its database does not start
    assert "postgresqlPassword" not in VALUES["postgresql"]
    assert not VALUES["postgresql"]["enabled"]


@pytest.fixture(scope="module")
def manifests():
    """What the chart makes of the values: (kind, name) -> manifest. `helm template` holds them against the chart's schema first."""
    made = subprocess.run(
        [os.environ.get("HELM", "helm"), "template", "arcadia", os.environ["HELM_CHART"], "-f", FILE],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return {(one["kind"], one["metadata"]["name"]): one for one in yaml.safe_load_all(made) if one}


@needs_chart
def test_the_chart_makes_an_instance_that_dagster_accepts(manifests, tmp_path):
    [text] = [one["data"]["dagster.yaml"] for one in manifests.values() if "dagster.yaml" in one.get("data", {})]
    (tmp_path / "dagster.yaml").write_text(text)
    instance, _ = dagster_instance_config(str(tmp_path))  # raises what is wrong with it
    assert instance["run_launcher"]["class"] == "K8sRunLauncher"
    assert instance["run_coordinator"]["class"] == "QueuedRunCoordinator"
    assert instance["run_coordinator"]["config"] == INSTANCE["run_queue"]
    assert instance["concurrency"] == in_words_of_dagster_yaml({key: VALUES["concurrency"][key] for key in ("pools", "runs")})
    assert instance["run_monitoring"]["max_runtime_seconds"] == INSTANCE["run_monitoring"]["max_runtime_seconds"]
    for storage in ("run_storage", "event_log_storage", "schedule_storage"):
        database = instance[storage]["config"]["postgres_db"]
        assert (database["scheme"], database["password"]) == ("postgresql+psycopg2", {"env": "DAGSTER_PG_PASSWORD"})


@needs_chart
def test_the_chart_runs_our_code_with_its_secrets(manifests):
    [code] = [
        container
        for (kind, _), one in manifests.items()
        if kind == "Deployment"
        for container in one["spec"]["template"]["spec"]["containers"]
        if container["image"].startswith(VALUES["dagster-user-deployments"]["deployments"][0]["image"]["repository"])
    ]
    assert code["args"][:3] == ["dagster", "code-server", "start"]
    assert code["args"][-2:] == ["-m", "arcadia_dagster.definitions"]
    environment = {one["name"]: one for one in code["env"]}
    assert all("valueFrom" in environment[name] for name in SECRET)
    assert all(name in environment["DAGSTER_CONTAINER_CONTEXT"]["value"] for name in SECRET)  # what the pods of runs get
    assert not any(kind in ("Secret", "StatefulSet") for kind, _ in manifests)
