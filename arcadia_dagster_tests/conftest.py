"""Fixtures that every test may use: an environment without the user's settings, and real PostgreSQL databases.

The server is TEST_POSTGRES_URL's, or an embedded one that all workers of a test session share and the last one removes.
"""

import os
import shutil
import tempfile
import time
import uuid
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url

# Before the assets are made: how long a step waits to be tried again is theirs, and so are the accounts.
os.environ |= {"ARCADIA_TEST_HURRY": "60", "ARCADIA_ACCOUNTS_FILE": ""}

from arcadia_dagster import embedded_postgres
from arcadia_dagster.ledger.schema import connect


@pytest.hookimpl(wrapper=True, optionalhook=True)
def pytest_xdist_auto_num_workers():
    """`-n auto` is no less than four: most of their time tests wait for processes."""
    return max(4, (yield))


@pytest.fixture
def server_folder():
    """A folder, not made yet, for an embedded server; removed once that has stopped.

    Not in tmp_path: every start of pytest closes that to other users, and for root the server runs as one.
    """
    folder = Path(tempfile.gettempdir()).resolve() / f"arcadia-{uuid.uuid4().hex[:12]}"
    yield folder
    if folder.exists():
        for pid_file in list(folder.rglob("postmaster.pid")):
            embedded_postgres.stop(pid_file.parent)  # ends our own hold
            for _ in range(200):  # for whoever else holds it, or has just ended
                if not pid_file.exists():
                    break
                time.sleep(0.05)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(autouse=True)
def clean_environment(server_folder, monkeypatch):
    """No test reads the user's tokens or touches the user's ledger."""
    for name in list(os.environ):
        if name.startswith(("DO_", "DIGITALOCEAN_", "ARCADIA_", "DAGSTER_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("ARCADIA_HOME", str(server_folder))
    monkeypatch.setenv("ARCADIA_ACCOUNTS_FILE", "")  # an arcadia.toml where the tests are run is the user's


@pytest.fixture(scope="session")
def postgres_server():
    """URL (postgresql+psycopg) of a database on a real server, from which others can be made."""
    if given := os.environ.get("TEST_POSTGRES_URL"):
        yield make_url(given).set(drivername="postgresql+psycopg")
        return
    session = os.environ.get("PYTEST_XDIST_TESTRUNUID") or str(os.getpid())
    folder = Path(tempfile.gettempdir()).resolve() / f"arcadia-tests-{session[:12]}"
    url = make_url(embedded_postgres.start(folder / "postgres")).set(drivername="postgresql+psycopg")
    _execute(url, "alter system set fsync = off", "select pg_reload_conf()")  # nothing here is worth a wait for the disk
    yield url
    if embedded_postgres.stop(folder / "postgres"):
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def template_database(postgres_server):
    """Name of a database with the ledger's schema and nothing in it."""
    with _database(postgres_server) as url:
        connect(url).dispose()
        yield url.database


@pytest.fixture
def database_url(postgres_server, template_database):
    """URL, as a string (postgresql+psycopg), of a fresh ledger."""
    with _database(postgres_server, template_database) as url:
        yield url.render_as_string(hide_password=False)


@pytest.fixture
def engine(database_url):
    """SQLAlchemy engine on a fresh ledger."""
    engine = connect(make_url(database_url))
    yield engine
    engine.dispose()


@pytest.fixture
def empty_database_url(postgres_server):
    """URL, as a string (postgresql+psycopg), of a fresh database without the ledger's schema."""
    with _database(postgres_server) as url:
        yield url.render_as_string(hide_password=False)


@contextmanager
def _database(server, template="template0"):
    """A new database, dropped at the end together with whoever is still connected."""
    url = server.set(database=f"arcadia_test_{uuid.uuid4().hex}")
    _execute(server, f"create database {url.database} template {template}")
    try:
        yield url
    finally:
        _execute(server, f"drop database {url.database} with (force)")


def _execute(url, *statements):
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for statement in statements:
            connection.execute(text(statement))
    engine.dispose()
