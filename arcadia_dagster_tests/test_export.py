"""Exports: a file says what a SELECT says, to the last digit; a spreadsheet takes no text for a formula; a file is whole or not there."""

import csv
import hashlib
import io
import json
import re
import resource
import signal
import subprocess
import sys
import unicodedata
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import dagster as dg
import msgspec
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from arcadia_dagster import settings as configuration
from arcadia_dagster.defs.billing.jobs import range_tags
from arcadia_dagster.defs.costs.jobs import changed_months
from arcadia_dagster.defs.resources import Ledger
from arcadia_dagster.demo.showcase import showcase_account
from arcadia_dagster.ledger import export as module
from arcadia_dagster.ledger.export import ExportError, export, exportable, spreadsheet_safe, whole_file
from arcadia_dagster.ledger.schema import connect
from arcadia_dagster_tests import conftest
from arcadia_dagster_tests.books import Books, droplet, item
from arcadia_dagster_tests.commands import arcadia, end, environment, small_account, start, wait_for
from arcadia_dagster_tests.test_dagster import Location, failures

APRIL, MARCH = date(2026, 4, 1), date(2026, 3, 1)

FORMULAS = [
    "=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "\tx", "\rx", "\nx", " =1", "\u00a0\u2003=1", "\ufeff=1", "\x01=1",
    '"=1', "'=1", "\u201c=1", "\uff1d1", "\uff0b1", "\uff0d1", "\uff20x", "\ufe661", "\u22121", "(=1", "=cmd|' /C calc'!A0",
    "---", "'", "''x",
]  # fmt: skip
HARMLESS = ["", "web-1", "web (s-1vcpu-1gb)", "(s) = x", "1 - 2", "büro", "データ", "a\nb", 'say "hi"', "x, y", " x ", "_=x", "{}", "#1"]


@pytest.fixture
def books(engine):
    return Books(engine)


@pytest.fixture(scope="module")
def showcase(postgres_server, template_database):
    """The engine of a ledger after a sync of the showcase. Not to be changed."""
    with conftest._database(postgres_server, template_database) as url:
        engine = connect(url)
        with pytest.MonkeyPatch.context() as patch:
            location = Location(engine, patch, showcase_account())
            location.everything()
            location.server.stop()
        yield engine
        engine.dispose()


def written(engine, name, form, **options):
    out = io.BytesIO()
    with engine.connect() as conn:
        count = export(conn, name, out, format=form, **options)
    out.seek(0)
    return count, out


def selected(engine, name):
    with engine.connect() as conn:
        return [dict(row) for row in conn.execute(text(f"select * from arcadia.{name}")).mappings()]


def texts_back(rows):
    """What stands in cells, by the rule that spreadsheet_safe states."""
    return [{name: cell[1:] if cell.startswith("'") else cell for name, cell in row.items()} for row in rows]


def csv_rows(out):
    return texts_back(csv.DictReader(io.StringIO(out.read().decode(), newline=""), strict=True))


def as_cell(value):
    """A value as it ought to stand in a CSV."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, datetime):
        said = value.astimezone(UTC).isoformat().removesuffix("+00:00")
        return (said.rstrip("0") if "." in said else said) + "Z"
    if isinstance(value, dict | list):
        return value
    return "" if value is None else f"{value:f}" if isinstance(value, Decimal) else str(value)


def in_one_order(rows):
    return sorted(rows, key=repr)


# The same as a SELECT


def test_every_relation_in_every_format_is_what_a_select_says(showcase):
    with showcase.connect() as conn:
        relations = exportable(conn)
    empty = set()
    for name in relations:
        expected = [{key: value for key, value in row.items() if not isinstance(value, bytes)} for row in selected(showcase, name)]
        if not expected:
            empty.add(name)
        documents = {"items_document", "csv_document"}
        for form, read in (("csv", read_csv), ("json", read_json), ("parquet", read_parquet)):
            count, out = written(showcase, name, form)
            assert count == len(expected), (name, form)
            rows, spell = read(out)
            wanted = [{key: spell(value) for key, value in row.items() if key not in documents} for row in expected]
            assert in_one_order(rows) == in_one_order(wanted), (name, form)
    assert empty == {"cloud_match_events", "cloud_tenants", "cloud_tenant_events"}


def read_csv(out):
    # Arrays and objects are JSON, of which the blanks do not matter.
    def back(cell):
        return json.loads(cell, parse_float=Decimal) if cell[:1] in ("[", "{") else cell

    return [{name: back(cell) for name, cell in row.items()} for row in csv_rows(out)], lambda value: as_cell(decimals(value))


def read_json(out):
    rows = [msgspec.json.decode(line) for line in out]
    return rows, lambda value: as_cell(value) if isinstance(value, Decimal | datetime | date) else decimals(value, float)


def read_parquet(out):
    rows = pq.read_table(out).to_pylist()
    for row in rows:
        for name, value in row.items():
            if isinstance(value, str) and value[:1] == "{":
                row[name] = json.loads(value)
            elif isinstance(value, Decimal):
                row[name] = value.normalize()
    return rows, lambda value: value.normalize() if isinstance(value, Decimal) else value


def decimals(value, number=Decimal):
    """JSON out of the database with its numbers as `number`."""
    return json.loads(json.dumps(value), parse_float=number) if isinstance(value, dict | list) else value


def test_money_adds_up_to_the_select_however_a_reader_takes_it(showcase):
    with showcase.connect() as conn:
        query = "select sum(amount_usd) from arcadia.cost_by_resource where period = '2026-04-01'"
        expected = conn.execute(text(query)).scalar_one()
    _, out = written(showcase, "cost_by_resource", "csv", period=APRIL)
    assert sum(Decimal(row["amount_usd"]) for row in csv_rows(out)) == expected
    out.seek(0)
    assert pd.read_csv(out, dtype={"amount_usd": str})["amount_usd"].map(Decimal).sum() == expected
    _, out = written(showcase, "cost_by_resource", "json", period=APRIL)
    assert sum(Decimal(msgspec.json.decode(line)["amount_usd"]) for line in out) == expected
    _, out = written(showcase, "cost_by_resource", "parquet", period=APRIL)
    assert pd.read_parquet(out)["amount_usd"].sum() == expected


def test_the_same_rows_are_the_same_bytes_whatever_the_session_is_set_to(showcase):
    sessions = ("time zone 'UTC'", "time zone 'Pacific/Auckland'", "enable_hashjoin = off", "datestyle = 'German'")
    for form, tried in (("csv", sessions), ("json", sessions), ("parquet", sessions[:-1])):  # whose dates the driver cannot read at all
        found = set()
        for setting in tried:
            out = io.BytesIO()
            with showcase.connect() as conn:
                conn.execute(text(f"set local {setting}"))
                export(conn, "matched_cost_lines", out, format=form)
            found.add(out.getvalue())
        assert len(found) == 1, form


# Values


def put(engine, query, **values):
    """A view `arcadia.odd` of this query, in the way that an export meets others."""
    with engine.begin() as conn:
        conn.execute(text("drop view if exists arcadia.odd; drop table if exists arcadia.odd_values"))
        conn.execute(text(f"create table arcadia.odd_values as {query}"), values)
        conn.execute(text("create view arcadia.odd as select * from arcadia.odd_values"))


NUMBERS = ["0.0000000001", "12345678901234567890.123456789012345678901", "-5.00", "1000", "1e30", "-0.1", "NaN"]


def test_no_digit_is_lost_in_text_and_none_is_rounded_in_parquet(engine):
    put(engine, "select * from unnest(cast(:n as numeric[])) amount", n=NUMBERS)
    wanted = sorted([*NUMBERS[:4], "1" + "0" * 30, "-0.1", "NaN"])
    assert sorted(row["amount"] for row in csv_rows(written(engine, "odd", "csv")[1])) == wanted
    assert sorted(msgspec.json.decode(line)["amount"] for line in written(engine, "odd", "json")[1]) == wanted
    for number in ("0.0000000001", "1e30", "NaN"):
        put(engine, "select 1 as n, cast(:n as numeric) as amount", n=number)
        with pytest.raises(ExportError, match=r"amount holds a value that decimal128\(38, 9\) cannot without rounding"):
            written(engine, "odd", "parquet")
    put(engine, "select cast(:n as numeric) as amount", n="99999999999999999999999999999.999999999")
    assert pq.read_table(written(engine, "odd", "parquet")[1]).to_pylist() == [{"amount": Decimal("9" * 29 + "." + "9" * 9)}]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.decimals(-(10**27), 10**27, places=9), min_size=1))
def test_any_amount_of_nine_places_is_exact_in_every_format(engine, numbers):
    put(engine, "select * from unnest(cast(:n as numeric[])) amount", n=numbers)
    numbers = sorted(numbers)
    assert sorted(Decimal(row["amount"]) for row in csv_rows(written(engine, "odd", "csv")[1])) == numbers
    assert sorted(Decimal(msgspec.json.decode(line)["amount"]) for line in written(engine, "odd", "json")[1]) == numbers
    assert sorted(row["amount"] for row in pq.read_table(written(engine, "odd", "parquet")[1]).to_pylist()) == numbers


def test_types_in_parquet_and_comments(showcase):
    schema = pq.read_schema(written(showcase, "matched_cost_lines", "parquet")[1])
    types = {field.name: field.type for field in schema}
    assert types["amount_usd"] == pa.decimal128(38, 9)
    assert types["started_at"] == pa.timestamp("us", "UTC")
    assert types["period"] == pa.date32()
    assert types["line_id"] == pa.int64()
    assert types["match_detail"] == pa.string()
    assert schema.field("amount_usd").metadata[b"comment"] == b"USD as billed; credits are negative"
    assert b"Every line of every closed invoice" in schema.metadata[b"comment"]
    assert pq.read_schema(written(showcase, "unexplained_lines", "parquet")[1]).field("candidates").type == pa.list_(pa.string())


def test_null_and_an_empty_text_can_be_told_apart(engine):
    put(engine, "select 1 as n, cast(null as text) as a, '' as b, array['', null] as c, cast('{}' as text[]) as d")
    assert written(engine, "odd", "csv")[1].getvalue() == b'n,a,b,c,d\n1,,"","["""",null]",[]\n'
    assert written(engine, "odd", "json")[1].getvalue() == b'{"n":1,"a":null,"b":"","c":["",null],"d":[]}\n'
    (row,) = pq.read_table(written(engine, "odd", "parquet")[1]).to_pylist()
    assert row == {"n": 1, "a": None, "b": "", "c": ["", None], "d": []}


def test_a_relation_without_rows_has_its_columns(engine):
    count, out = written(engine, "cost_by_kind", "csv")
    assert (count, out.getvalue()) == (0, b"period,account_id,account,kind,charge,lines,amount_usd\n")
    assert written(engine, "cost_by_kind", "json")[1].getvalue() == b""
    table = pq.read_table(written(engine, "cost_by_kind", "parquet")[1])
    assert (table.num_rows, table.column_names[-1]) == (0, "amount_usd")


def test_documents_as_received_are_left_out(showcase):
    header = written(showcase, "cloud_invoices", "csv")[1].readline().decode()
    assert "items_sha256" in header
    assert "document" not in header


# Spreadsheets


def first_signs():
    return {
        character
        for character in map(chr, range(sys.maxunicode + 1))
        if unicodedata.category(character) != "Cs" and set(unicodedata.normalize("NFKC", character)) & set("=+-@\N{MINUS SIGN}")
    }


def test_every_form_of_the_four_signs_is_known_and_none_is_a_letter():
    assert set(module._SIGNS.replace("\\", "")) == first_signs()
    assert not re.search(r"\w", module._SIGNS)


TEXTS = st.text(
    st.one_of(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), st.sampled_from("=+-@\t\r\n '\",;\uff1d\u2212"))
)


@given(TEXTS)
def test_a_spreadsheet_takes_no_text_for_a_formula_and_it_can_be_had_back(value):
    cell = spreadsheet_safe(value)
    assert (cell[1:] if cell.startswith("'") else cell) == value
    if not cell.startswith("'"):
        seen = unicodedata.normalize("NFKC", cell)
        assert not seen.startswith(("\t", "\r", "\n"))
        assert not re.sub(r"^[\s\"'`\u2018-\u201f\x00-\x1f\u200b\ufeff]+", "", seen).startswith(("=", "+", "-", "@", "\N{MINUS SIGN}"))


@pytest.mark.parametrize("value", FORMULAS)
def test_what_looks_like_a_formula_has_an_apostrophe_in_front(value):
    assert spreadsheet_safe(value) == "'" + value


@pytest.mark.parametrize("value", HARMLESS)
def test_what_is_harmless_stays_as_it_is(value):
    assert spreadsheet_safe(value) == value


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(TEXTS, min_size=1))
@example(FORMULAS + HARMLESS)
def test_any_text_comes_back_from_every_format(engine, values):
    put(engine, "select n, t, array[t] as list from unnest(cast(:t as text[])) with ordinality v (t, n)", t=values)
    rows = csv_rows(written(engine, "odd", "csv")[1])
    assert [row["t"] for row in rows] == values
    assert [json.loads(row["list"]) for row in rows] == [[value] for value in values]
    frame = pd.read_csv(
        written(engine, "odd", "csv")[1], keep_default_na=False, dtype=str, lineterminator="\n" if "\r" in "".join(values) else None
    )
    assert [cell[1:] if cell.startswith("'") else cell for cell in frame["t"]] == values
    assert [msgspec.json.decode(line)["t"] for line in written(engine, "odd", "json")[1]] == values
    table = pq.read_table(written(engine, "odd", "parquet")[1]).to_pylist()
    assert [(row["t"], row["list"]) for row in table] == [(value, [value]) for value in values]


def test_a_credit_stays_a_number_beside_a_name_that_is_made_text(books):
    books.inventory("droplet", droplet(1, "=HYPERLINK(1)"))
    books.invoice(item("=HYPERLINK(1) (s)", rid=1), item("Trial", "Credits", "-5.00"))
    rows = list(csv.DictReader(io.TextIOWrapper(written(books.engine, "matched_cost_lines", "csv")[1])))
    assert [(row["description"], row["resource_name"], row["amount_usd"]) for row in rows] == [
        ("'=HYPERLINK(1) (s)", "'=HYPERLINK(1)", "1.00"),
        ("Trial", "", "-5.00"),
    ]


# Which rows


def test_a_month_alone(books):
    books.invoice(item("web (s)"), period=MARCH)
    books.invoice(item("web (s)", amount="2.00"))
    for name, column in (("matched_cost_lines", "amount_usd"), ("focus_1_2", "BilledCost"), ("focus_invoice_detail", "BilledCost")):
        count, out = written(books.engine, name, "csv", period=APRIL)
        assert (count, [row[column] for row in csv_rows(out)]) == (1, ["2.00"])
    assert written(books.engine, "focus_billing_period", "csv", period=MARCH)[0] == 1
    with pytest.raises(ExportError, match="running_cost is not kept by month; export it without a period"):
        written(books.engine, "running_cost", "csv", period=APRIL)


def test_an_account_alone(books):
    other = Books(books.engine, "team-2")
    books.invoice(item("web (s)"))
    other.invoice(item("web (s)", amount="2.00"))
    for name, column in (("matched_cost_lines", "amount_usd"), ("focus_1_2", "BilledCost")):
        assert [row[column] for row in csv_rows(written(books.engine, name, "csv", account_id=other.id)[1])] == ["2.00"]
    with pytest.raises(ExportError, match="resource_timeline does not say which account a row is of"):
        written(books.engine, "resource_timeline", "csv", account_id=other.id)


@pytest.mark.parametrize("name", ["resources", "alembic_version", "no_such", 'x"; drop table arcadia.resources; --', "pg_class"])
def test_only_what_is_for_others_is_exported(engine, name):
    with pytest.raises(ExportError, match=r"there is no .* to export; there are all_cost_lines, cloud_accounts, .*, waste$"):
        written(engine, name, "csv")


def test_a_role_is_given_what_it_may_read_and_told_of_nothing_else(engine):
    with engine.connect() as conn:
        conn.execute(text("create role arcadia_export_test"))  # never committed
        granted = "grant usage on schema arcadia to arcadia_export_test; grant select on arcadia.cloud_accounts to arcadia_export_test"
        conn.execute(text(granted))
        conn.execute(text("set local role arcadia_export_test"))
        assert list(exportable(conn)) == ["cloud_accounts"]
        assert export(conn, "cloud_accounts", io.BytesIO(), format="csv") == 0
        with pytest.raises(ExportError, match=r"there are cloud_accounts$"):
            export(conn, "matched_cost_lines", io.BytesIO(), format="csv")


# Whole or not there


def left(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("problem", [RuntimeError, KeyboardInterrupt, ExportError])
def test_what_fails_half_way_leaves_the_old_file_and_nothing_else(tmp_path, problem):
    target = tmp_path / "out"
    target.write_text("old")
    with pytest.raises(problem), whole_file(target) as file:  # noqa: PT012
        file.write(b"half")
        raise problem
    assert (left(tmp_path), target.read_text()) == (["out"], "old")


def test_a_whole_file_takes_the_old_ones_place_with_the_usual_rights(tmp_path):
    target, link = tmp_path / "out", tmp_path / "link"
    target.write_text("old")
    link.symlink_to(target)
    with whole_file(link) as file:
        file.write(b"new")
        assert target.read_text() == "old"
    assert (left(tmp_path), target.read_text(), link.is_symlink()) == (["link", "out"], "new", True)
    (tmp_path / "other").touch()
    assert target.stat().st_mode == (tmp_path / "other").stat().st_mode


def long_view(engine):
    with engine.begin() as conn:
        conn.execute(text("create view arcadia.long as select n, repeat(n::text, 50) as text from generate_series(1, 1000000) n"))


@pytest.mark.parametrize(("request_to_stop", "code"), [(signal.SIGKILL, -9), (signal.SIGINT, 130), (signal.SIGTERM, 130)])
def test_a_stopped_export_leaves_the_old_file_and_no_half_one_in_its_place(engine, tmp_path, request_to_stop, code):
    long_view(engine)
    target = tmp_path / "long.csv"
    target.write_text("old")
    url = engine.url.render_as_string(hide_password=False)
    process = start("export", "long", "--format", "csv", "--out", target, ARCADIA_DATABASE_URL=url)
    wait_for(lambda: any(path.stat().st_size for path in tmp_path.glob(".arcadia-export-*")))
    process.send_signal(request_to_stop)
    done = end(process)
    assert (done.code, done.out) == (code, "")
    assert target.read_text() == "old"
    assert len(left(tmp_path)) == (2 if request_to_stop == signal.SIGKILL else 1)


def test_a_full_disk_is_one_sentence_and_leaves_nothing(engine, tmp_path):
    long_view(engine)
    done = subprocess.run(
        [sys.executable, "-m", "arcadia_dagster.cli", "export", "long", "--format", "parquet", "--out", str(tmp_path / "long")],
        env=environment(ARCADIA_DATABASE_URL=engine.url.render_as_string(hide_password=False)),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == f"arcadia: {tmp_path / 'long'} cannot be written: File too large\n"
    assert left(tmp_path) == []


# The command


def exported(books, *arguments):
    return arcadia("export", *arguments, ARCADIA_DATABASE_URL=books.engine.url.render_as_string(hide_password=False))


def test_the_command_writes_a_month_of_an_account(books, tmp_path):
    books.invoice(item("web (s)"), period=MARCH)
    books.invoice(item("web (s)", amount="2.00"))
    Books(books.engine, "team-2").invoice(item("web (s)", amount="4.00"))
    out = tmp_path / "[bold]april.csv"
    which = ("--period", "2026-04", "--account", "team-1")
    done = exported(books, "arcadia.matched_cost_lines", "--format", "csv", "--out", out, *which)
    assert (done.code, done.err, done.out) == (0, "", f"{out}: 1 rows\n")
    with out.open("rb") as file:
        assert [row["amount_usd"] for row in csv_rows(file)] == ["2.00"]
    done = exported(books, "focus_1_2", "--format", "json", "--out", "-", *which)
    assert (done.code, done.err, json.loads(done.out)["BilledCost"]) == (0, "", "2.00")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nope", "--format", "csv", "--out", "-"), "there is no 'nope' to export; there are all_cost_lines, "),
        (("waste", "--format", "csv", "--out", "-", "--period", "2026-04"), "waste is not kept by month; export it without a period"),
        (("waste", "--format", "csv", "--out", "-", "--account", "nobody"), "there is no account 'nobody'; arcadia status names them"),
        (("waste", "--format", "parquet", "--out", "-"), "Parquet is written to a file, not to standard output; name one with --out"),
        (("waste", "--format", "csv", "--out", "/no/such/folder/x"), "/no/such/folder/x cannot be written: No such file or directory"),
        (("waste", "--format", "csv", "--out", "/"), "/ cannot be written: it is a folder"),
        (("waste", "--format", "csv", "--out", "/dev/null"), "/dev/null cannot be written: it is no file"),
    ],
)
def test_what_cannot_be_exported_is_one_sentence(books, arguments, words):
    done = exported(books, *arguments)
    assert (done.code, done.out) == (1, "")
    assert done.sentence.startswith(f"arcadia: {words}")


@pytest.mark.parametrize("month", ["2026-04-01", "april", "2026-13"])
def test_a_month_that_is_none_is_exit_code_2(month):
    assert arcadia("export", "waste", "--format", "csv", "--out", "-", "--period", month).code == 2


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a device that is always full")
def test_standard_output_that_takes_no_more_is_one_sentence(books):
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "arcadia_dagster.cli", "export", "waste", "--format", "csv", "--out", "-"],
            env=environment(ARCADIA_DATABASE_URL=books.engine.url.render_as_string(hide_password=False)),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (done.returncode, done.stderr) == (1, "arcadia: standard output cannot be written: No space left on device\n")


# The asset


@pytest.fixture
def location(engine, monkeypatch, tmp_path):
    location = Location(engine, monkeypatch, small_account())
    monkeypatch.setenv("ARCADIA_EXPORT_DIR", str(tmp_path / "files"))
    location.run("discover_invoices")
    location.ingest()
    yield location
    location.server.stop()


def sense(location, cursor=None):
    with dg.build_sensor_context(instance=location.instance, resources={"ledger": Ledger()}, cursor=cursor) as context:
        return changed_months(context)


def materializations(location):
    records = location.instance.fetch_materializations(dg.AssetKey("focus_export"), limit=100).records
    return {record.partition_key: {n: v.value for n, v in record.asset_materialization.metadata.items()} for record in reversed(records)}


def test_the_history_is_written_in_one_run_and_says_what_the_ledger_says(location):
    months = [
        row.period for row in location.rows("select distinct period from arcadia.cloud_invoices where status = 'ingested' order by 1")
    ]
    keys = [f"{month:%Y-%m}" for month in months]
    (request,) = sense(location).run_requests
    assert request.tags == range_tags(keys[0], keys[-1])
    assert location.run("export_focus", tags=request.tags).success
    assert location.instance.get_materialized_partitions(dg.AssetKey("focus_export")) == set(keys)
    assert left(configuration.export_dir()) == [f"focus_1_2_{key}.parquet" for key in keys]
    told = materializations(location)
    for month, key in zip(months, keys, strict=True):
        file = configuration.export_dir() / f"focus_1_2_{key}.parquet"
        ((lines, usd),) = location.rows(
            "select count(*), sum(amount_usd) from arcadia.matched_cost_lines where period = :period", period=month
        )
        table = pq.read_table(file)
        assert (table.num_rows, sum(table["BilledCost"].to_pylist())) == (lines, usd)
        assert told[key] == {
            "path": str(file),
            "dagster/row_count": lines,
            "billed_usd": str(usd),
            "billing_period": "Closed",
            "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        }


def test_a_re_run_replaces_the_file_as_a_whole_by_one_that_is_alike(location):
    tags = range_tags("2026-04", "2026-04")
    location.run("export_focus", tags=tags)
    file = configuration.export_dir() / "focus_1_2_2026-04.parquet"
    before = file.read_bytes()
    file.write_bytes(b"damaged")
    assert location.run("export_focus", tags=tags).success
    assert file.read_bytes() == before
    assert left(file.parent) == [file.name]


def test_a_month_without_lines_has_no_file_and_is_not_shown_as_done(location):
    result = location.run("export_focus", tags=range_tags("2013-01", "2013-01"))
    assert failures(result) == {"focus_export": "No closed invoice bills what was asked for, so that no file is written."}
    assert not configuration.export_dir().exists()
    assert location.run("export_focus", tags=range_tags("2026-03", "2026-04")).success
    with location.engine.begin() as conn:
        conn.execute(text("delete from arcadia.cloud_invoices where period = '2026-03-01'"))
    location.instance = dg.DagsterInstance.ephemeral()
    assert location.run("export_focus", tags=range_tags("2026-03", "2026-04")).success
    assert location.instance.get_materialized_partitions(dg.AssetKey("focus_export")) == {"2026-04"}


def test_a_folder_that_cannot_be_used_is_one_sentence(location, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("ARCADIA_EXPORT_DIR", str(tmp_path / "file" / "folder"))
    (sentence,) = failures(location.run("export_focus", tags=range_tags("2026-04", "2026-04"))).values()
    assert sentence == f"ARCADIA_EXPORT_DIR names {tmp_path / 'file' / 'folder'}, which cannot be made: Not a directory"


def test_the_sensor_asks_for_a_month_again_only_when_its_lines_have_changed(location):
    first = sense(location)
    assert sense(location, first.cursor).skip_message == "No month has changed since it was last exported."
    with location.engine.begin() as conn:
        conn.execute(text("update arcadia.cloud_invoices set ingested_at = now() where period = '2026-03-01'"))
    second = sense(location, first.cursor)
    assert [request.tags for request in second.run_requests] == [range_tags("2026-03", "2026-03")]
    with location.engine.begin() as conn:
        conn.execute(
            text(
                "insert into arcadia.cloud_match_events (account_id, invoice_uuid, ordinal, changes, occurred_at)"
                " select account_id, invoice_uuid, 1, '{}', now() from arcadia.cloud_invoices"
                " where period = '2026-04-01' and status <> 'preview'"
            )
        )
    assert [request.tags for request in sense(location, second.cursor).run_requests] == [range_tags("2026-04", "2026-04")]


def test_the_sensor_waits_for_invoices_that_are_being_ingested_and_needs_no_token(location, monkeypatch):
    monkeypatch.delenv("DO_API_TOKEN")
    assert len(sense(location).run_requests) == 1
    run = location.instance.add_run(dg.DagsterRun(job_name="ingest_invoices", status=dg.DagsterRunStatus.STARTED))
    assert sense(location).skip_message == f"The previous run of ingest_invoices, {run.run_id}, is still started."


def test_a_month_that_is_not_over_is_asked_for_once_it_is(location):
    with location.engine.begin() as conn:
        conn.execute(text("update arcadia.cloud_invoices set period = date_trunc('month', now()) where period = '2026-04-01'"))
    result = sense(location)
    assert f"{datetime.now(UTC):%Y-%m}" not in json.loads(result.cursor)
