"""What matching costs: lines stored and matched against lines stored unmatched, a rematch against a bare join, and importing such a file.

Run by `make bench`, or `python benchmarks/matching.py [LINES] [RESOURCES]` (a million and a tenth of that by default). Uses
ARCADIA_DATABASE_URL where set, else an embedded server in a temporary folder. Every droplet was resized again and again in the month, so
that each line must find the one before it and the one after it. All figures are of one run; a row shows, of five rounds, the one whose
ratio is the middle one, as no machine is equally fast all the time.
"""

import math
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
from sqlalchemy import Connection, Engine, text

from arcadia_dagster import settings
from arcadia_dagster.ledger.accounts import account_for_import
from arcadia_dagster.ledger.billing import COLUMNS, store_billed_lines
from arcadia_dagster.ledger.matching import OUTCOME, rematch
from arcadia_dagster.ledger.schema import connect
from benchmarks.table import Row, home, judged, middle, seconds, show

ROUNDS = 5
ACCOUNT, INVOICE = "bench", "00000000-0000-4000-8000-000000000001"  # as long as any

INVENTORY = """
insert into arcadia.resources (account_id, kind, provider_id, name, name_key, region, attrs, provider_created_at, first_seen_at,
                               last_seen_at)
select :account_id, 'droplet', n::text, name, name, 'fra1', '{"size_slug": "s-1vcpu-1gb"}', timestamptz '2025-01-01',
       timestamptz '2026-03-01', timestamptz '2026-05-02'
  from generate_series(1, :resources) n cross join lateral (select 'worker-' || n || '.example.org') w (name)
"""
# `each` lines for every droplet, of two sizes in turn, without a gap from the first of the month to the last.
LINES = """
select n, turn, 'worker-' || n || '.example.org' as name, case turn % 2 when 0 then 's-1vcpu-1gb' else 's-1vcpu-2gb' end as size,
       timestamptz '2026-04-01' + turn * (interval '720 hours' / :each) as started_at,
       timestamptz '2026-04-01' + (turn + 1) * (interval '720 hours' / :each) as ended_at
  from generate_series(1, :resources) n, generate_series(0, :each - 1) turn
"""
STAGE = f"""
create temp table billed_line on commit drop as
select row_number() over (order by n, turn)::integer as ordinal, 'Droplets' as product, '' as group_description,
       name || ' (' || size || ')' as description, 720.0 / :each as hours, started_at, ended_at, 1.23 as amount_usd,
       'work' as project_name, 'iaas' as category, 'droplet' as kind, 'name' as look_up, name as parsed_name, name as name_key,
       null::text as parsed_region, size as parsed_size, null::text as component, null::text as provider_resource_id,
       null::text as provider_resource_uuid, 'resource' as charge, null::text as reason, null::text as billed_id
  from ({LINES}) l
"""
UNMATCHED = f"""
insert into arcadia.cloud_cost_lines ({", ".join(COLUMNS)}, {", ".join(OUTCOME)})
select {", ".join(COLUMNS)}, 'unmatched', null, null, jsonb_build_object('reason', 'not looked at')
  from (select *, cast(:invoice_uuid as text) as invoice_uuid, cast(:account_id as bigint) as account_id from billed_line) l
"""
BARE_JOIN = """
select count(*) from arcadia.cloud_cost_lines l
  join arcadia.resources_by_name r on r.name_key = l.name_key and r.account_id = l.account_id and r.kind = l.kind
"""


def tidy(engine: Engine) -> None:
    """What a server does in its own time is done now, so that no round pays for the one before it."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as conn:
        conn.execute(text("vacuum analyze"))
        conn.execute(text("checkpoint"))


def in_sql(engine: Engine, account_id: int, counts: dict[str, int]) -> dict[str, list[float]]:
    """Seconds of each case, by rounds. The lines are read before the clock starts: the same rows go into the same table."""
    rounds: dict[str, list[float]] = {}

    def note(case: str, took: float) -> None:
        rounds.setdefault(case, []).append(took)

    def store(case: str, do: Callable[[Connection], object]) -> None:
        with engine.begin() as conn:
            conn.execute(text("truncate arcadia.cloud_cost_lines"))
        tidy(engine)
        with engine.begin() as conn:
            conn.execute(text(STAGE), counts)
            conn.execute(text("analyze billed_line"))
            note(case, seconds(lambda: do(conn)))

    for _ in range(ROUNDS):
        store("stored unmatched", lambda conn: conn.execute(text(UNMATCHED), {"account_id": account_id, "invoice_uuid": INVOICE}))
        store("stored and matched", lambda conn: store_billed_lines(conn, account_id, INVOICE))
        with engine.connect() as conn:
            statuses = conn.execute(text("select match_status, count(*) from arcadia.cloud_cost_lines group by 1")).all()
            if [tuple(row) for row in statuses] != [("matched", counts["each"] * counts["resources"])]:
                raise SystemExit(f"the lines are not all matched: {statuses}")
        rematch(engine, account_id)
        tidy(engine)
        with engine.connect() as conn:
            note("bare join", seconds(lambda: conn.execute(text(BARE_JOIN)).scalar()))
        note("rematch, nothing has changed", seconds(lambda: rematch(engine, account_id)))
        one = "update arcadia.resources set region = region || '1' where provider_id = '1'"
        with engine.begin() as conn:
            conn.execute(text(one))
        note("rematch, one droplet has changed", seconds(lambda: rematch(engine, account_id)))
        with engine.begin() as conn:
            conn.execute(text("insert into arcadia.rematch_queue select resource_id, account_id from arcadia.resources"))
        note("rematch of every line", seconds(lambda: rematch(engine, account_id)))
    return rounds


# What a user writes who wants the file in the same table, typed, and no matches.
COPIED = """
create temp table printed (ordinal serial, product text, group_description text, description text, hours text, started_at text,
                           ended_at text, usd text, project_name text, category text) on commit drop
"""
TYPED = f"""
insert into arcadia.cloud_cost_lines (invoice_uuid, ordinal, account_id, product, group_description, description, hours, started_at,
                                      ended_at, amount_usd, project_name, category, match_status, match_detail)
select '{INVOICE}', ordinal, :account_id, product, group_description, description, hours::numeric, started_at::timestamptz,
       ended_at::timestamptz, replace(usd, '$', '')::numeric, project_name, category, 'unmatched', '{{"reason": "not looked at"}}'
  from printed
"""


def copied(engine: Engine, account_id: int, file: Path) -> float:
    """Seconds of COPY of the file and a typed insert of its rows, by plain SQL."""
    with engine.begin() as conn:
        conn.execute(text("truncate arcadia.cloud_cost_lines"))
    tidy(engine)
    began = time.perf_counter()
    with engine.begin() as conn:
        conn.execute(text(COPIED))
        columns = "product, group_description, description, hours, started_at, ended_at, usd, project_name, category"
        driver = conn.connection.driver_connection
        assert isinstance(driver, psycopg.Connection)
        with (
            driver.cursor() as cursor,
            cursor.copy(f"copy printed ({columns}) from stdin (format csv, header, null 'n/a')") as copy,  # what is empty is a text
            file.open("rb") as f,
        ):
            while part := f.read(1024 * 1024):
                copy.write(part)
        conn.execute(text(TYPED), {"account_id": account_id})
    return time.perf_counter() - began


def write_csv(engine: Engine, file: Path, counts: dict[str, int]) -> None:
    """Such an invoice, as a person downloads it."""
    with engine.connect() as conn, file.open("w", encoding="utf-8") as out:
        out.write("product,group_description,description,hours,start,end,USD,project_name,category\n")
        rows = conn.execution_options(yield_per=10_000).execute(text(f"{LINES} order by n, turn"), counts)
        for row in rows:
            start, end = (f"{moment:%Y-%m-%d %H:%M:%S} +0000" for moment in (row.started_at, row.ended_at))
            out.write(f"Droplets,,{row.name} ({row.size}),{720 // counts['each']},{start},{end},$1.23,work,iaas\n")


def imported(folder: Path, engine: Engine, account_id: int, counts: dict[str, int]) -> tuple[list[float], int, list[float]]:
    """Seconds by rounds, and peak memory (MB) of the process that imports such a file, `arcadia import` as it is; of plain SQL for it."""
    file = folder / f"{counts['each'] * counts['resources']}.csv"
    write_csv(engine, file, counts)
    code = (
        "import resource, runpy, sys\n"
        "try: runpy.run_module('arcadia_dagster.cli', run_name='__main__')\n"
        "finally: print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)"
    )
    took, memory, plain = list[float](), 0, list[float]()
    for _ in range(ROUNDS):
        plain.append(copied(engine, account_id, file))
        with engine.begin() as conn:  # or an import finds that it knows the file
            conn.execute(text("delete from arcadia.cloud_invoices where invoice_uuid <> :kept"), {"kept": INVOICE})
            conn.execute(text("truncate arcadia.cloud_cost_lines"))
        tidy(engine)
        began = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", code, "import", "--account", ACCOUNT, str(file)],
            env={**os.environ, "ARCADIA_DATABASE_URL": engine.url.set(drivername="postgresql").render_as_string(hide_password=False)},
            check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        took.append(time.perf_counter() - began)
        memory = max(memory, int(done.stderr.split()[-1]) // 1024)
        with engine.connect() as conn:
            matched = conn.execute(text("select count(resource_id) from arcadia.cloud_cost_lines")).scalar_one()
        if matched != counts["each"] * counts["resources"]:
            raise SystemExit(f"of the imported lines {matched} are matched")
    return took, memory, plain


def main() -> None:
    """Print the table."""
    lines = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    resources = int(sys.argv[2]) if len(sys.argv) > 2 else lines // 10
    counts = {"resources": resources, "each": lines // resources}
    with home() as folder:
        engine = connect(settings.ledger_url())
        account_id = account_for_import(engine, ACCOUNT)
        with engine.begin() as conn:
            conn.execute(text(INVENTORY), {"resources": resources, "account_id": account_id})
            conn.execute(
                text(
                    "insert into arcadia.cloud_invoices (invoice_uuid, account_id, period)"
                    " values (:invoice_uuid, :account_id, '2026-04-01')"
                ),
                {"invoice_uuid": INVOICE, "account_id": account_id},
            )
        rounds = in_sql(engine, account_id, counts)
        goals = {"stored and matched": ("stored unmatched", 1.6), "rematch, nothing has changed": ("bare join", 2)}
        rows = []
        for case, own in rounds.items():
            if case not in ("stored unmatched", "bare join"):
                limit, goal = goals.get(case, ("bare join", math.inf))
                took, least = middle(zip(own, rounds[limit], strict=True), lambda one: one[0] / one[1])
                rows.append(Row(case, f"{took:.2f} s", "", f"{limit} {least:.2f} s", f"ours/limit {judged(took / least, most=goal)}"))
        for share in (10, 1):
            own, memory, plain = imported(Path(folder), engine, account_id, {"resources": resources // share, "each": counts["each"]})
            took, least = middle(zip(own, plain, strict=True), lambda one: one[0] / one[1])
            ratio = judged(took / least, most=1.8 if share == 1 else math.inf)
            case = f"arcadia import, {lines // share:,} lines"
            rows.append(Row(case, f"{took:.1f} s, {memory} MB", "", f"COPY and typed insert {least:.1f} s", f"ours/limit {ratio}"))
        show(f"matching: {lines:,} lines against {resources:,} resources; the middle of {ROUNDS} rounds by their ratio", rows)
        engine.dispose()


if __name__ == "__main__":
    main()
