"""Invoices of many lines: what a process needs in memory does not depend on how many there are, whichever way they come and go."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url

from arcadia_dagster_tests.commands import environment
from arcadia_dagster_tests.scripted_server import Reply, serving

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux says what a process needed at most")

# A row in memory takes a kilobyte, so that keeping a tenth of the lines would already show.
SLACK = 16 * 1024  # KB

# Not getrusage: its maximum is inherited from the process that started this one.
PEAK = """
import re, pathlib
print("PEAK", re.search(r"VmHWM:\\s*(\\d+) kB", pathlib.Path("/proc/self/status").read_text())[1])
"""

IMPORT = """
import sys
from arcadia_dagster.cli import app
try:
    app(["import", "--account", "long", sys.argv[1]])
except SystemExit as end:
    assert not end.code, end.code
"""

INGEST = """
import sys
from datetime import date
from decimal import Decimal
from types import SimpleNamespace
from arcadia_dagster import settings
from arcadia_dagster.defs.billing.assets import _fetch
from arcadia_dagster.digitalocean.client import Client
from arcadia_dagster.ledger import billing
from arcadia_dagster.ledger.accounts import account_of_team
from arcadia_dagster.ledger.reconcile import begin
from arcadia_dagster.ledger.schema import connect

engine = connect(settings.ledger_url())
account_id = account_of_team(engine, team_uuid="long", name="long")
header = billing.InvoiceHeader(invoice_uuid="u", invoice_id="1", period=date(2026, 4, 1), amount=Decimal(sys.argv[2]))
billing.record_invoices(engine, begin(engine, account_id=account_id, kind="invoice"), [header])
with Client("dop_v1_0", base_url=sys.argv[1]) as client:
    documents = _fetch(client, SimpleNamespace(engine=engine), account_id, "2026-04_u")
    done = billing.ingest(engine, account_id, "u", items=documents.items, csv=documents.csv, warning=documents.warning)
assert done.residual == 0, done
assert done.discrepancy is None, done
"""

EXPORT = """
import sys
from arcadia_dagster.cli import app
try:
    app(["export", "long", "--format", sys.argv[1], "--out", sys.argv[2]])
except SystemExit as end:
    assert not end.code, end.code
"""


def peak(script, *arguments, url):
    """What a process that runs this script against the ledger at `url` needs in memory at most, in KB."""
    url = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    done = subprocess.run(
        [sys.executable, "-c", script + PEAK, *map(str, arguments)],
        env=environment(ARCADIA_DATABASE_URL=url, PYTHONPATH=os.pathsep.join(sys.path)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout.rsplit("PEAK ", 1)[1])


def lines_in(url):
    engine = create_engine(url)
    with engine.begin() as conn:
        count = conn.execute(text("select count(*) from arcadia.cloud_cost_lines")).scalar_one()
        conn.execute(text("truncate arcadia.cloud_invoices cascade"))
    engine.dispose()
    return count


# Products that need no matching, which would take most of the time and happens in the database.
def row(number):
    return f"Spaces Subscription,,Spaces (${number}/mo),{number},2026-04-01 00:00:00 +0000,2026-05-01 00:00:00 +0000,$1.00,,iaas\n"


def item(number):
    return {
        "product": "Spaces Subscription",
        "description": f"Spaces (${number}/mo)",
        "amount": "1.00",
        "duration": str(number),
        "duration_unit": "Hours",
        "start_time": "2026-04-01T00:00:00Z",
        "end_time": "2026-05-01T00:00:00Z",
        "category": "iaas",
    }


HEADER = "product,group_description,description,hours,start,end,USD,project_name,category\n"


def test_an_import_needs_no_more_memory_for_ten_times_the_lines(database_url, tmp_path):
    file = tmp_path / "long.csv"
    peaks = []
    for count in (20_000, 200_000):
        with file.open("w") as document:
            document.write(HEADER)
            document.writelines(row(number) for number in range(count))
        peaks.append(peak(IMPORT, file, url=database_url))
        assert lines_in(database_url) == count
    assert peaks[1] - peaks[0] < SLACK, peaks


def test_ingesting_needs_no_more_memory_for_ten_times_the_lines(database_url):
    peaks = []
    with serving() as server:
        for count in (5_000, 50_000):

            def reply(request, count=count):
                if request.path.endswith("/csv"):  # its columns are not all those of the items, and its lines stand the other way round
                    rows = [row(number).replace(",iaas", ",") for number in reversed(range(count))]
                    return Reply(body="".join([HEADER, *rows]).encode(), headers={"content-type": "text/csv"})
                first = (request.page - 1) * 200
                more = {"pages": {"next": "next"}} if first + 200 < count else {}
                items = [item(number) for number in range(first, min(first + 200, count))]
                return Reply(body={"invoice_items": items, "links": more, "meta": {"total": count}})

            server.reply = reply
            peaks.append(peak(INGEST, server.url, count, url=database_url))
            assert lines_in(database_url) == count
    assert peaks[1] - peaks[0] < SLACK, peaks


@pytest.mark.parametrize("form", ["csv", "json", "parquet"])
def test_an_export_needs_no_more_memory_for_ten_times_the_rows(database_url, tmp_path, form):
    engine = create_engine(database_url)
    peaks = []
    for count in (20_000, 200_000):
        with engine.begin() as conn:
            conn.execute(
                text(
                    "create or replace view arcadia.long as select n, n / 100.0 as amount_usd, now() as at, repeat(n::text, 20) as text,"
                    f" array[n::text] as texts, jsonb_build_object('n', n) as object from generate_series(1, {count}) n"
                )
            )
        peaks.append(peak(EXPORT, form, tmp_path / "long", url=database_url))
    engine.dispose()
    assert peaks[1] - peaks[0] < SLACK, peaks
