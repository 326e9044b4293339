"""The ledger that attacks begin with, and the one that they must end with; both made once."""

import uuid

import pytest

from arcadia_dagster_tests.chaos import world
from arcadia_dagster_tests.chaos.faults import FaultyServer


@pytest.fixture(scope="session")
def ledger_before(postgres_server, template_database):
    """Name of a database with the ledger of an account with a past. Not to be changed."""
    name, before = f"arcadia_before_{uuid.uuid4().hex[:12]}", world.account_before()
    with world.database(postgres_server, name, template_database) as url:
        with pytest.MonkeyPatch.context() as patch, FaultyServer([before]) as served:
            runs = world.Runs(url, served, before.token, patch)
            failed = runs.everything()
            assert not failed, failed
            world.give_it_a_past(runs.engine)
            runs.close()
        yield name


@pytest.fixture(scope="session")
def undisturbed(postgres_server, ledger_before):
    """What the ledger says after one more sync that nothing disturbs."""
    now = world.account_now()
    with (
        world.database(postgres_server, f"arcadia_after_{uuid.uuid4().hex[:12]}", ledger_before) as url,
        pytest.MonkeyPatch.context() as patch,
        FaultyServer([now]) as served,
    ):
        runs = world.Runs(url, served, now.token, patch)
        failed = runs.everything()
        assert not failed, failed
        said = world.contents(runs.engine)
        runs.close()
    return said


@pytest.fixture
def copy_of_before(postgres_server, ledger_before):
    """URL of a ledger of an account with a past."""
    with world.database(postgres_server, f"arcadia_chaos_{uuid.uuid4().hex[:12]}", ledger_before) as url:
        yield url
