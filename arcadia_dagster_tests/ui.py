"""Dagster's web server as tests speak to it: GraphQL, and a headless Chromium where one is installed.

Knows pages and queries. What they ought to show is in test_dev.py.
"""

import shutil
import socket
from contextlib import contextmanager

import httpx
import pytest

from arcadia_dagster_tests.commands import wait_for

REPOSITORY = {"repositoryLocationName": "arcadia_dagster.definitions", "repositoryName": "__repository__"}


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


class Ui:
    """The web server on a port of this machine, which need not answer yet."""

    def __init__(self, port):
        self.url = f"http://127.0.0.1:{port}"

    def wait_until_it_answers(self, process):
        """Until the web server is there and its code is loaded; fails at once when the process ends."""

        def answers():
            assert process.poll() is None, f"ended with {process.returncode}"
            try:
                return httpx.get(f"{self.url}/server_info").is_success
            except httpx.TransportError:
                return False

        wait_for(answers)

    def ask(self, query, **variables):
        reply = httpx.post(f"{self.url}/graphql", json={"query": query, "variables": variables}, timeout=60).json()
        assert "errors" not in reply, reply
        return reply["data"]

    def groups(self):
        """Asset -> group."""
        nodes = self.ask("{ assetNodes { assetKey { path } groupName } }")["assetNodes"]
        return {"/".join(node["assetKey"]["path"]): node["groupName"] for node in nodes}

    def instigators(self):
        """Schedules as name -> (cron, time zone, status), sensors as name -> status."""
        repository = self.ask(
            "query ($selector: RepositorySelector!) { repositoryOrError(repositorySelector: $selector) { ... on Repository {"
            " schedules { name cronSchedule executionTimezone scheduleState { status } } sensors { name sensorState { status } } } } }",
            selector=REPOSITORY,
        )["repositoryOrError"]
        schedules = {
            one["name"]: (one["cronSchedule"], one["executionTimezone"], one["scheduleState"]["status"]) for one in repository["schedules"]
        }
        return schedules, {one["name"]: one["sensorState"]["status"] for one in repository["sensors"]}

    def materialize(self, asset):
        """Launch a run of one asset, as its button does; the run's id."""
        launched = self.ask(
            "mutation ($execution: ExecutionParams!) { launchRun(executionParams: $execution) { __typename"
            " ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }",
            execution={"selector": {**REPOSITORY, "jobName": "__ASSET_JOB", "assetSelection": [{"path": [asset]}]}, "runConfigData": {}},
        )["launchRun"]
        assert launched["__typename"] == "LaunchRunSuccess", launched
        return launched["run"]["runId"]

    def end_of(self, run_id):
        """The status of a run once it has ended."""

        def ended():
            run = self.ask("query ($id: ID!) { runOrError(runId: $id) { ... on Run { status } } }", id=run_id)["runOrError"]
            return run["status"] if run["status"] in ("SUCCESS", "FAILURE", "CANCELED") else None

        return wait_for(ended)

    def materializations(self, asset):
        """The ids of the runs that materialised an asset, newest first."""
        node = self.ask(
            "query ($key: AssetKeyInput!) { assetOrError(assetKey: $key) { ... on Asset { assetMaterializations { runId } } } }",
            key={"path": [asset]},
        )["assetOrError"]
        return [one["runId"] for one in node.get("assetMaterializations", [])]


class Browser:
    """A page that builds itself while it is looked at: everything is waited for, and looked up again when it was made anew."""

    def __init__(self, chrome, wait):
        self.chrome, self.wait = chrome, wait

    def open(self, url):
        self.chrome.get(url)

    def refresh(self):
        self.chrome.refresh()

    def see(self, words):
        """Wait until an element that says just these words is on the page and to be seen."""
        self._until(words, "*", lambda element: element.is_displayed())

    def click(self, button):
        self._until(button, "button", lambda element: element.click() or True)

    def table_with(self, heading):
        """The text of the table that has this heading."""
        return self._until(heading, "th", lambda element: element.find_element("xpath", "ancestor::table[1]").text)

    def _until(self, words, tag, true_of):
        path = f"//{tag}[normalize-space()='{words}']"
        return self.wait(lambda chrome: true_of(chrome.find_element("xpath", path)), f"{words!r} is not to be seen")


@contextmanager
def browser(width=1400, height=900):
    """A headless Chromium, driven by selenium; skips the test, with the reason, where there is none."""
    chromium, driver = (shutil.which(name) for name in ("chromium", "chromedriver"))
    if chromium is None or driver is None:
        pytest.skip("needs chromium and chromedriver (Debian: apt-get install chromium chromium-driver)")
    webdriver = pytest.importorskip("selenium.webdriver")
    from selenium.common.exceptions import WebDriverException
    from selenium.webdriver.support.ui import WebDriverWait

    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    # No sandbox: Chromium has none for root. Memory: containers have little shared.
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", f"--window-size={width},{height}"):
        options.add_argument(argument)
    chrome = webdriver.Chrome(options=options, service=webdriver.ChromeService(executable_path=driver))
    try:
        yield Browser(chrome, WebDriverWait(chrome, 60, ignored_exceptions=[WebDriverException]).until)
    finally:
        chrome.quit()
