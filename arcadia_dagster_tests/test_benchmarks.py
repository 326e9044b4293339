"""The one table that `make bench` ends with: what each benchmark handed to it, and what failed."""

import re
import subprocess
import sys

from arcadia_dagster_tests.commands import environment
from benchmarks.table import Row, judged, show

FIRST = Row("first load", "1 s", "upserts 2 s", "", "peer/ours 2.00")


def the_one_table(results, database_url):
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.table", results],
        env=environment(ARCADIA_DATABASE_URL=database_url),
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_rows_of_all_benchmarks_are_one_table_with_the_machine_and_the_date(tmp_path, monkeypatch, capsys, database_url):
    results = tmp_path / "results"
    monkeypatch.setenv("BENCH_RESULTS", str(results))
    show("reconcile", [FIRST, FIRST._replace(case="unchanged")])
    show("fetch", [FIRST._replace(case="fetch", peer="pydo 3 s")])
    alone = capsys.readouterr().out
    done = the_one_table(results, database_url)
    assert done.returncode == 0, done.stderr
    table = [line for line in done.stdout.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table]
    assert [row[0] for row in cells if "--" not in row[0]] == ["case", "**reconcile**", "first load", "unchanged", "**fetch**", "fetch"]
    assert {len(row) for row in cells} == {len(Row._fields)}
    assert all(case in alone for case in ("first load", "unchanged", "pydo 3 s"))
    machine, date = done.stdout.splitlines()[-2:]
    assert re.search(r", \d+ cores, [\d.]+ GB; Python 3\.[\d.]+, PostgreSQL \d", machine)
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", date)


def test_what_failed_is_in_the_table_and_the_end_is_a_failure(tmp_path, monkeypatch, database_url):
    results = tmp_path / "results"
    monkeypatch.setenv("BENCH_RESULTS", str(results))
    show("reconcile", [FIRST])
    with results.open("a") as file:
        file.write('{"failed": "benchmarks/growth.py 10000 100000"}\n')
    done = the_one_table(results, database_url)
    assert done.returncode == 1
    assert re.search(r"\*\*failed\*\* .*\n\| benchmarks/growth.py 10000 100000 +\|", done.stdout)


def test_who_runs_one_benchmark_leaves_no_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BENCH_RESULTS", raising=False)
    show("reconcile", [FIRST])
    assert not list(tmp_path.iterdir())


def test_a_goal_that_is_missed_is_told():
    assert judged(31.0, 29.0, least=30) == "31.0, 29.0 (goal >= 30, missed)"
    assert judged(1.5, most=1.5) == "1.50 (goal <= 1.5)"
    assert judged(0.9) == "0.900"
