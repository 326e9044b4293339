"""What is copied into a table is what was given, whatever is in the texts."""

from datetime import UTC, datetime
from decimal import Decimal

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from arcadia_dagster.ledger.copying import array, copy_rows, driver

any_text = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8) | st.sampled_from(
    ["", "\t", "\n", "\r\n", "\x01", "\x01\x01", "\\", "\\N", "\\.", '"', "NULL", "a\tb", "{}", ","]
)
any_row = st.tuples(
    st.none() | st.integers(-(2**63), 2**63 - 1),
    st.none() | any_text,
    st.none() | any_text,
    st.none() | st.lists(any_text, max_size=3),
    st.none() | st.binary(max_size=8),
    st.none() | st.datetimes(timezones=st.just(UTC)),
    st.none() | st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**12), max_value=10**12, places=6),
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(any_row, max_size=20))
@example(rows=[(1, "", None, [""], b"", datetime(2026, 1, 1, tzinfo=UTC), Decimal("1E+3"))])
def test_any_row_comes_back_as_it_was(engine, rows):
    with engine.connect() as conn:
        conn.execute(text("create temp table kept (place int, i bigint, a text, b text, l text[], d bytea, t timestamptz, n numeric)"))
        copy_rows(conn, "kept", ("place", "i", "a", "b", "l", "d", "t", "n"), ((place, *row) for place, row in enumerate(rows)))
        found = conn.execute(text("select i, a, b, l, d, t, n from kept order by place")).all()
        conn.rollback()
    assert [(*row[:4], row.d and bytes(row.d), *row[5:]) for row in found] == rows


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(any_text, max_size=5))
def test_any_array_is_read_as_its_texts(engine, texts):
    with engine.connect() as conn:
        assert driver(conn).execute("select %s::text[]", (array(texts),)).fetchone() == (texts,)
