"""What is copied into a table is what was given, whatever is in the texts."""

from datetime import UTC, datetime
from decimal import Decimal

import psycopg
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from arcadia_dagster.ledger.copying import array, busy, copy_lines, driver, line

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
@given(rows=st.lists(any_row, max_size=20), cut=st.integers(0, 6))
@example(rows=[(1, "", None, [""], b"", datetime(2026, 1, 1, tzinfo=UTC), Decimal("1E+3"))], cut=3)
def test_any_row_comes_back_as_it_was_from_one_line_or_two(engine, rows, cut):
    with engine.connect() as conn:
        conn.execute(text("create temp table kept (place int, i bigint, a text, b text, l text[], d bytea, t timestamptz, n numeric)"))
        columns = ("place", "i", "a", "b", "l", "d", "t", "n")
        copy_lines(conn, "kept", columns, (f"{line((place, *row[:cut]))}\t{line(row[cut:])}" for place, row in enumerate(rows)))
        found = conn.execute(text("select i, a, b, l, d, t, n from kept order by place")).all()
        conn.rollback()
    assert [(*row[:4], row.d and bytes(row.d), *row[5:]) for row in found] == rows


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(any_text, max_size=5))
def test_any_array_is_read_as_its_texts(engine, texts):
    with engine.connect() as conn:
        assert driver(conn).execute("select %s::text[]", (array(texts),)).fetchone() == (texts,)


@pytest.fixture
def slow(engine):
    """A connection whose table `slow` takes a moment to check what was copied into it."""
    with engine.connect() as conn:
        conn.execute(text("create temp table slow (place int primary key, long text)"))
        conn.execute(
            text(
                "create function pg_temp.check_slowly() returns trigger language plpgsql as $$ begin perform pg_sleep(0.3);"
                " if exists (select from pg_temp.slow where place < 0) then raise 'a place is negative'; end if; return null; end $$"
            )
        )
        conn.execute(text("create trigger slowly after insert on slow execute function pg_temp.check_slowly()"))
        conn.commit()
        yield conn


class Work:
    """Pieces of work, so many of them; the last one fails where there is a problem."""

    def __init__(self, pieces, problem=None):
        self.left, self.problem = pieces, problem

    def __call__(self):
        self.left -= 1
        if self.left == 0 and self.problem:
            raise self.problem
        return self.left > 0


@pytest.mark.parametrize("rows", [3, 3000], ids=["few", "more than the socket takes at once"])
def test_other_work_is_done_while_the_server_is_busy(slow, rows):
    work = Work(5)
    with slow.begin(), busy(slow, work):
        copy_lines(slow, "slow", ("place", "long"), [line((place, "x" * 1000)) for place in range(rows)])
    assert work.left <= 0
    assert slow.scalar(text("select count(*) from slow")) == rows


@pytest.mark.parametrize("problem", [OSError("no space left"), KeyboardInterrupt()], ids=repr)
@pytest.mark.parametrize("rows", [3, 3000])
def test_other_work_that_fails_undoes_the_copy_and_leaves_the_connection_usable(slow, rows, problem):
    with pytest.raises(type(problem)), slow.begin(), busy(slow, Work(3, problem)):
        copy_lines(slow, "slow", ("place", "long"), [line((place, "x" * 1000)) for place in range(rows)])
    assert slow.scalar(text("select count(*) from slow")) == 0


def test_what_the_server_refuses_while_other_work_is_done_is_said(slow):
    with pytest.raises(psycopg.errors.RaiseException, match="a place is negative"), slow.begin(), busy(slow, Work(3)):
        copy_lines(slow, "slow", ("place", "long"), [line((-1, ""))])
    assert slow.scalar(text("select count(*) from slow")) == 0


def test_other_work_is_done_during_any_statement_and_none_after(slow):
    work = Work(5)
    with busy(slow, work):
        assert slow.scalar(text("select 1 from pg_sleep(0.3)")) == 1
        assert work.left <= 0
        done = work.left
    slow.execute(text("select pg_sleep(0.1)"))
    assert work.left == done


def test_no_statement_begins_after_other_work_has_failed(slow):
    def statements():
        with busy(slow, Work(1, OSError("no space left"))):
            slow.execute(text("select pg_sleep(0.1)"))
            slow.execute(text("insert into slow values (1, 'x')"))
            pytest.fail("it has been executed")

    with pytest.raises(OSError, match="no space left"):
        statements()
    slow.rollback()
    assert slow.scalar(text("select count(*) from slow")) == 0
