"""Holds the view focus_1_2 against the official FOCUS validator, on the lines of the simulated account `showcase`.

Run by `make focus-check`, which installs the validator in an environment of its own: it needs Python 3.12. Nothing is downloaded here, and
no release of the project depends on it. The ledger is an embedded server in a temporary folder.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from xml.etree import ElementTree as ET

from sqlalchemy import create_engine
from sqlalchemy.engine import make_url

from arcadia_dagster import embedded_postgres
from arcadia_dagster.demo.server import SimulatedServer
from arcadia_dagster.demo.showcase import showcase_account
from arcadia_dagster.ledger.export import export, whole_file

# What the provider has and its invoices show. Not PUBLIC_PRICE_LIST and UNIT_PRICING: there is a price list, but no line names its entry.
CRITERIA = (
    "ACCOUNT_NAMING",
    "BILLING_BASED_ON_PROVISIONED_RESOURCES",
    "MULTIPLE_BILLING_ACCOUNT_TYPES",
    "MULTIPLE_PRICING_CATEGORIES",
    "MULTIPLE_SUB_ACCOUNT_TYPES",
    "REGION",
    "RESOURCE_TYPE_ASSIGNMENT",
    "SUB_ACCOUNT",
    "TAGGING",
    "USAGE_MEASUREMENT",
)
# The rule is that InvoiceId is NULL for charges without an invoice; validator 2.2.1 demands NULL of every row.
FALSE_POSITIVES = {"InvoiceId-C-004-C"}


def main(validator: Path) -> None:
    """Exit with 1, and the rules that are broken, unless the false positives are all."""
    with tempfile.TemporaryDirectory(prefix="arcadia-focus-") as folder:
        data_dir = Path(folder) / "postgres"
        url = embedded_postgres.start(data_dir)
        try:
            _fill(url)
            rows = _export(url, Path(folder) / "focus_1_2.csv")
        finally:
            embedded_postgres.stop(data_dir)
        outcomes = _validate(validator, Path(folder))
    broken = outcomes["failure"] | outcomes["error"]
    print(f"focus_1_2: {rows} rows, {len(outcomes['passed'])} rules kept, {len(outcomes['skipped'])} not checked by this validator")
    for rule in sorted(broken):
        print(f"{rule} is broken{': known, a false positive' if rule in FALSE_POSITIVES else ''}")
    if broken - FALSE_POSITIVES or not outcomes["passed"]:
        raise SystemExit(1)


def _fill(url: str) -> None:
    account = showcase_account()
    with SimulatedServer([account]) as server:
        settings = {"ARCADIA_DATABASE_URL": url, "DO_API_TOKEN": account.token, "DIGITALOCEAN_API_URL": server.url}
        subprocess.run(
            [sys.executable, "-m", "arcadia_dagster.cli", "sync"], env=os.environ | settings, check=True, stdout=subprocess.DEVNULL
        )


def _export(url: str, path: Path) -> int:
    engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"))
    try:
        with engine.connect() as conn, whole_file(path) as file:
            return export(conn, "focus_1_2", file, format="csv")
    finally:
        engine.dispose()


def _validate(validator: Path, folder: Path) -> dict[str, set[str]]:
    """The rules by what became of them: passed, failure, error or skipped."""
    where = "import focus_validator, pathlib; print(pathlib.Path(focus_validator.__file__).parent)"
    package = subprocess.run([validator.with_name("python"), "-c", where], check=True, capture_output=True, text=True).stdout.strip()
    (folder / "focus_validator").symlink_to(package)  # it looks for its list of currencies in the folder it runs in
    subprocess.run(
        [
            validator,
            "--data-file=focus_1_2.csv",
            "--validate-version=1.2",
            "--block-download",
            f"--applicability-criteria={','.join(f'{name}_SUPPORTED' for name in CRITERIA)}",
            "--output-type=unittest",
            "--output-destination=report.xml",
        ],
        cwd=folder,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    outcomes: dict[str, set[str]] = {outcome: set() for outcome in ("passed", "failure", "error", "skipped")}
    for case in ET.parse(folder / "report.xml").iter("testcase"):
        rule = case.attrib["name"].split(" :: ")[0]
        outcomes[case[0].tag if len(case) else "passed"].add(rule)
    return outcomes


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute())
