"""No secret of the account is kept or said: neither the token nor anything that listings carry beyond what `kinds.py` allows.

Every command and the UI are run against an account that is full of marked secrets and a provider that repeats them in its errors; then
everything that was written or said is searched for the marks.
"""

import re

import pytest
from sqlalchemy import create_engine
from starlette.responses import Response

from arcadia_dagster.defs.inventory.checks import NAMES_OF_SECRETS
from arcadia_dagster.demo import items
from arcadia_dagster.demo.showcase import showcase_account
from arcadia_dagster.digitalocean.kinds import KINDS
from arcadia_dagster.ledger.export import export, exportable
from arcadia_dagster_tests.canaries import TalkativeServer, element, in_database, in_folder, marks_in, properties, schema_of
from arcadia_dagster_tests.commands import arcadia, start
from arcadia_dagster_tests.test_dev import running
from arcadia_dagster_tests.ui import Ui, free_port

TOKEN = "dop_v1_5ec2e7000canary"


def repeats_it():
    """Errors as no provider should make them: with what was asked for in them."""
    return {
        "/v2/databases": lambda body: Response(body[:-3], media_type="application/json"),
        "/v2/apps": lambda body: Response(b"<html>" + body + TOKEN.encode(), media_type="text/html"),
        "/v2/functions/namespaces": lambda body: Response(body, 403, media_type="application/json"),
        "/v2/registries": lambda body: Response(b'{"message": "Bearer %s is wrong"}' % TOKEN.encode(), 422, media_type="application/json"),
        "/v2/vector-databases": lambda body: Response(
            body.replace(b'"vector_dbs":[', b'"vector_dbs":[null,'), media_type="application/json"
        ),
        "/v2/gen-ai/agents": lambda body: Response(body.replace(b'"uuid"', b'"uid"'), media_type="application/json"),
        "/v2/add-ons/saas": lambda body: Response(body, 409, media_type="application/json"),
        "/v2/spaces/keys": lambda body: Response(b"[" + body + b"]", media_type="application/json"),
        "/v2/customers/my/balance": lambda body: Response(b'{"said": "%s"}' % TOKEN.encode(), media_type="application/json"),
    }


def test_no_secret_is_kept_or_said(database_url, server_folder, tmp_path):
    account = showcase_account()
    account.token = TOKEN
    said = []
    output = tmp_path / "said"
    engine = create_engine(database_url)
    with TalkativeServer([account]) as server:
        variables = {"ARCADIA_DATABASE_URL": database_url, "DIGITALOCEAN_API_URL": server.url, "DO_API_TOKEN": TOKEN}

        def run(*arguments):
            done = arcadia(*arguments, **variables)
            said.append(done.out + done.err)
            return done.code

        assert run("sync") == 0
        seen = server.requests.copy()
        server.faults = repeats_it()
        assert run("sync") == 1
        with output.open("w") as file:
            port = free_port()
            ui = Ui(port)
            process = start("dev", "--port", port, output=file, **variables)
            with running(process, ui, output):
                assert ui.end_of(ui.materialize("droplets")) == "SUCCESS"
                assert ui.end_of(ui.materialize("databases")) == "FAILURE"
                said.append(str(ui.ask("{ runsOrError { ... on Runs { results { runId status tags { key value } runConfigYaml } } } }")))
    assert run("status") == 0
    assert run("report", "--out", tmp_path / "report.html") == 0
    with engine.connect() as conn:
        for relation in exportable(conn):
            with (tmp_path / relation).open("wb") as file:
                export(conn, relation, file, format="json")

    # What was read had secrets in it: of every kind that has a list, and of the account.
    assert len(server.planter.planted) > 1000
    assert {path for _, path, _ in seen} >= {kind.path for kind in KINDS.values() if kind.path and "{" not in kind.path}
    marks = (items.PLANTED, TOKEN, TOKEN[7:])
    found = in_database(engine, *marks) | in_folder(server_folder, *marks) | in_folder(tmp_path, *marks)
    found |= {("said", mark) for mark in marks_in(said, *marks)}
    assert {(place, server.planter.planted.get(mark, mark)) for place, mark in found} == set()

    # And the search does find what is there: in both schemas, packed snapshots included, in the logs and in the exports.
    name = account.droplets[0]["name"]
    assert {place.partition(".")[0] for place, _ in in_database(engine, name)} == {"arcadia", "dagster"}
    assert any(place.startswith("dagster.snapshots") for place, _ in in_database(engine, "sync_inventory"))
    assert in_folder(tmp_path, name)
    assert marks_in(said, "managed_db")
    engine.dispose()


def under(schema, path):
    """The schema at a dotted path, None where it has no such field."""
    for step in path.split("."):
        schema = properties(schema).get(step.removesuffix("[]")) if schema else None
        if schema and step.endswith("[]"):
            schema = element(schema)
    return schema


def names_in(schema, depth=0):
    """Every name of a field of a schema, however deep."""
    inner = element(schema) if schema else None
    fields = {} if schema is None else properties(inner or schema)
    below = [names_in(one, depth + 1) for one in fields.values()] if depth < 6 else []
    return set(fields).union(*below)


@pytest.mark.parametrize("kind", [kind for kind in KINDS.values() if kind.path and kind.attrs], ids=lambda kind: kind.name)
def test_nothing_that_a_kind_keeps_can_hold_a_field_with_the_name_of_a_secret(kind):
    path = (kind.path or "").replace("{id}", "x")
    _, schema = schema_of(path)
    item = element(properties(schema)[kind.key])
    for attr in kind.attrs:
        names = {attr.rpartition(".")[2]} | names_in(under(item, attr))
        assert not [name for name in names if re.fullmatch(NAMES_OF_SECRETS, name)], attr
