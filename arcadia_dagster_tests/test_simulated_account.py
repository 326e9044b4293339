"""The simulated account speaks the provider's API: shapes, paging, errors, limits; and what the demo's account holds.

Belongs here: tests of arcadia_dagster.demo over real HTTP. Does not belong here: what our own client makes of it.
"""

import csv
import io
import json
import os
import re
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest
from azure.core.pipeline.policies import HeadersPolicy
from pydo import Client

from arcadia_dagster.demo import items
from arcadia_dagster.demo.account import SimulatedAccount, messy_account, total
from arcadia_dagster.demo.server import SimulatedServer
from arcadia_dagster.demo.showcase import showcase_account
from arcadia_dagster.demo.sky_ai import sky_ai_account
from arcadia_dagster.digitalocean.client import Client as Provider
from arcadia_dagster.digitalocean.inventory import Reading, list_kind
from arcadia_dagster.digitalocean.kinds import KINDS

SCHEMAS = json.loads((Path(__file__).parent / "data" / "response_schemas.json").read_text())
INVOICES = "/v2/customers/my/invoices"

FORMATS = jsonschema.FormatChecker(["uuid", "ipv4", "ipv6"])


@FORMATS.checks("date-time", raises=ValueError)
def _is_time(value: object) -> bool:
    return not isinstance(value, str) or datetime.fromisoformat(value).tzinfo is not None


def json_schema(node: Any) -> Any:
    """An OpenAPI 3.0 schema as JSON Schema: `nullable` becomes a choice."""
    if isinstance(node, list):
        return [json_schema(inner) for inner in node]
    if not isinstance(node, dict):
        return node
    out = {key: json_schema(inner) for key, inner in node.items() if key != "nullable" or not isinstance(inner, bool)}
    return {"anyOf": [out, {"type": "null"}]} if node.get("nullable") is True else out


COMPONENTS = json_schema(SCHEMAS["components"])


def problems(schema: dict[str, Any], body: Any) -> list[str]:
    validator = jsonschema.Draft202012Validator({**schema, "components": COMPONENTS}, format_checker=FORMATS)
    # The pattern of URNs in the OpenAPI lacks apps, which its own table of project resources has.
    errors = [error for error in validator.iter_errors(body) if not str(error.instance).startswith("do:app:")]
    return [f"{error.json_path}: {error.message[:200]}" for error in errors]


@pytest.fixture(scope="module")
def sky_ai() -> SimulatedAccount:
    return sky_ai_account()


@pytest.fixture(scope="module")
def messy() -> SimulatedAccount:
    return messy_account()


@pytest.fixture(scope="module")
def showcase() -> SimulatedAccount:
    return showcase_account()


@pytest.fixture(scope="module")
def server(sky_ai: SimulatedAccount, messy: SimulatedAccount, showcase: SimulatedAccount) -> Iterator[SimulatedServer]:
    with SimulatedServer([sky_ai, messy, showcase]) as running:
        yield running


def client(server: SimulatedServer, account: SimulatedAccount) -> httpx.Client:
    return httpx.Client(base_url=server.url, headers={"Authorization": f"Bearer {account.token}"}, trust_env=False)


# The lists that are served, by their path in the schemas: the key of the items and the component that describes one.
LISTED = {
    "/v2/projects": ("projects", "project"),
    "/v2/projects/{project_id}/resources": ("resources", "resource"),
    "/v2/droplets": ("droplets", "droplet"),
    "/v2/droplets/{droplet_id}/backups": ("backups", None),
    "/v2/images": ("images", "image"),
    "/v2/snapshots": ("snapshots", "snapshots"),
    "/v2/volumes": ("volumes", "volume_full"),
    "/v2/reserved_ips": ("reserved_ips", "reserved_ip"),
    "/v2/floating_ips": ("floating_ips", "floating_ip"),
    "/v2/firewalls": ("firewalls", "firewall"),
    "/v2/load_balancers": ("load_balancers", "load_balancer"),
    "/v2/domains": ("domains", "domain"),
    "/v2/databases": ("databases", "database_cluster_read"),
    "/v2/kubernetes/clusters": ("kubernetes_clusters", "cluster_read"),
    "/v2/apps": ("apps", "app"),
    "/v2/customers/my/billing_history": ("billing_history", "billing_history"),
    "/v2/customers/my/invoices": ("invoices", "invoice_preview"),
    "/v2/customers/my/invoices/{invoice_uuid}": ("invoice_items", None),  # `category` is sent and not in the OpenAPI
}
# The kinds of which only the showcase has any: a component where the schemas name one.
LISTED_SINCE = {
    "/v2/functions/namespaces": ("namespaces", None),
    "/v2/registries": ("registries", None),
    "/v2/spaces/keys": ("keys", None),
    "/v2/cdn/endpoints": ("endpoints", "cdn_endpoint"),
    "/v2/certificates": ("certificates", "certificate"),
    "/v2/vpcs": ("vpcs", "vpc"),
    "/v2/vpc_peerings": ("vpc_peerings", "vpc_peering"),
    "/v2/vpc_nat_gateways": ("vpc_nat_gateways", None),
    "/v2/droplets/autoscale": ("autoscale_pools", "autoscale_pool"),
    "/v2/droplets/autoscale/{autoscale_pool_id}/members": ("droplets", "member"),
    "/v2/databases/{database_cluster_uuid}/replicas": ("replicas", "database_replica_read"),
    "/v2/reserved_ipv6": ("reserved_ipv6s", "reserved_ipv6"),
    "/v2/uptime/checks": ("checks", "check"),
    "/v2/monitoring/alerts": ("policies", "alert_policy"),
    "/v2/nfs": ("shares", None),
    "/v2/nfs/snapshots": ("snapshots", None),
    "/v2/dedicated-inferences": ("dedicated_inferences", None),
    "/v2/vector-databases": ("vector_dbs", None),
    "/v2/gen-ai/agents": ("agents", "apiAgentPublic"),
    "/v2/gen-ai/knowledge_bases": ("knowledge_bases", "apiKnowledgeBase"),
    "/v2/add-ons/saas": ("resources", None),
    "/v2/account/keys": ("ssh_keys", "sshKeys"),
    "/v2/tags": ("tags", "tags"),
    "/v2/partner_network_connect/attachments": ("partner_attachments", "partner_attachment"),
    "/v2/byoip_prefixes": ("byoip_prefixes", "byoip_prefix"),
}
SINGLE = ("/v2/account", "/v2/customers/my/balance", "/v2/customers/my/invoices/{invoice_uuid}/summary")
EMPTY = {
    "sky_ai": {
        "/v2/volumes", "/v2/reserved_ips", "/v2/floating_ips", "/v2/load_balancers", "/v2/databases", "/v2/apps",
        "/v2/kubernetes/clusters",
    },
    "messy": {"/v2/customers/my/billing_history", "/v2/customers/my/invoices"},
    "showcase": set(),
}  # fmt: skip


@pytest.mark.parametrize(
    ("which", "path"),
    [(which, path) for which in EMPTY for path in [*LISTED, *SINGLE] if which != "messy" or "{invoice_uuid}" not in path],
)
def test_replies_have_the_providers_shape(which: str, path: str, server: SimulatedServer, request: pytest.FixtureRequest) -> None:
    account: SimulatedAccount = request.getfixturevalue(which)
    filled = (
        path.replace("{project_id}", account.projects[0]["id"])
        .replace("{droplet_id}", str(next(iter(account.backups))))
        .replace("{invoice_uuid}", account.invoices[0].uuid if account.invoices else "")
    )
    queries: list[dict[str, str]] = [{}, {"page": "1", "per_page": "200"}]
    if path == "/v2/droplets":
        queries.append({"type": "gpus"})
    if path == "/v2/images":
        queries.append({"private": "true"})
    with client(server, account) as http:
        for query in queries:
            reply = http.get(filled, params=query)
            assert reply.status_code == 200, reply.text
            body = reply.json()
            assert problems(json_schema(SCHEMAS["paths"][path]["response"]), body) == []
            if path not in LISTED:
                continue
            key, component = LISTED[path]
            is_empty = path in EMPTY[which] or (query.get("type") == "gpus" and which == "sky_ai")
            assert bool(body[key]) != is_empty
            if component:  # and no field that the provider does not have
                strict = {"$ref": f"#/components/schemas/{component}", "unevaluatedProperties": False}
                assert [found for item in body[key] for found in problems(strict, item)] == []


@pytest.mark.parametrize("path", LISTED_SINCE)
def test_replies_of_the_kinds_that_only_the_showcase_has(path: str, server: SimulatedServer, showcase: SimulatedAccount) -> None:
    key, component = LISTED_SINCE[path]
    query = {"region": "blr1"} if "/nfs" in path else {"page": "1", "per_page": "200"}
    filled = path.format(autoscale_pool_id=showcase.autoscale_pools[0]["id"], database_cluster_uuid=showcase.databases[0]["id"])
    with client(server, showcase) as http:
        body = http.get(filled, params=query).json()
    assert body[key]
    assert problems(json_schema(SCHEMAS["paths"][path]["response"]), body) == []
    if component in SCHEMAS["components"]["schemas"]:
        strict = {"$ref": f"#/components/schemas/{component}", "unevaluatedProperties": False}
        assert [found for item in body[key] for found in problems(strict, item)] == []


def test_every_kind_with_a_listing_has_something_in_the_showcase(server: SimulatedServer, showcase: SimulatedAccount) -> None:
    with Provider(showcase.token, base_url=server.url) as provider:
        listings = {kind.name: list_kind(provider, kind) for kind in KINDS.values() if kind.path}
        again = {kind.name: list_kind(provider, kind).requests for kind in KINDS.values() if kind.listed_along or kind.per_region}
    assert {name: str(listing.error) for name, listing in listings.items() if listing.error} == {}
    assert [name for name, listing in listings.items() if not listing.items] == []
    for name, listing in listings.items():
        reading = Reading(KINDS[name], listing)
        read = reading.reader(reading.digests)
        assert len({read(one)[0].provider_id for one in reading.digests}) == len(reading) == len(listing.items)
        assert reading.error is None
    # One PostgreSQL cluster is asked for replicas, the Valkey one is not; the clusters and the regions are known by then.
    assert again == {"db_replica": 1, "nfs_share": len(items.REGIONS), "nfs_snapshot": len(items.REGIONS)}
    assert [item["bucket"] for item in listings["spaces_bucket"].items] == ["showcase-assets", "showcase-artifacts"]


def test_the_showcase_adds_up_and_its_nodes_have_no_lines(showcase: SimulatedAccount) -> None:
    assert [invoice.period for invoice in showcase.invoices] == ["2026-04", "2026-03", "2026-02", "2026-01"]
    nodes = {str(droplet["id"]) for droplet in showcase.droplets if "k8s:worker" in droplet["tags"]}
    assert nodes
    assert showcase.preview is not None
    for invoice in [*showcase.invoices, showcase.preview]:
        assert total(invoice.items) == invoice.amount
        assert not nodes & {line["resource_id"] for line in invoice.items}
    assert showcase_account() == showcase


def test_the_showcase_shows_what_is_hard_to_match(showcase: SimulatedAccount) -> None:
    """Each case by its lines: description -> the ids on them, in the order of their start."""
    billed: dict[str, list[dict[str, Any]]] = {}
    for invoice in reversed(showcase.invoices):
        for line in sorted(invoice.items, key=lambda line: str(line["start_time"])):
            billed.setdefault(line["description"].partition(" (")[0], []).append({**line, "period": invoice.period})
    april = {name: [line for line in lines if line["period"] == "2026-04"] for name, lines in billed.items()}
    alive = Counter(droplet["name"] for droplet in showcase.droplets)
    ids = {str(droplet["id"]): droplet for droplet in showcase.droplets}

    destroyed, again = april["api-01"]
    assert destroyed["end_time"] < again["start_time"]
    assert destroyed["resource_id"] not in ids
    assert (ids[again["resource_id"]]["name"], alive["api-01"]) == ("api-01", 1)
    assert {line["resource_id"] for line in billed["crunch-01"]} == {line["resource_id"] for line in billed["batch-01"]}
    assert (alive["crunch-01"], alive["batch-01"]) == (0, 1)
    before, after = april["search-01"]
    assert (before["resource_id"], before["end_time"]) == (after["resource_id"], after["start_time"])
    assert before["description"] != after["description"]
    assert (len({line["resource_id"] for line in april["sandbox"]}), alive["sandbox"]) == (2, 2)
    ((pool, members),) = showcase.autoscale_members.items()
    assert showcase.autoscale_pools[0]["active_resources_count"] == len(members) == 2
    assert {str(member["droplet_id"]) for member in members} == {
        line["resource_id"] for name, lines in april.items() if name.startswith("workers-") for line in lines
    }
    assert pool not in {line["resource_uuid"] for invoice in showcase.invoices for line in invoice.items}
    ((replica,),) = showcase.database_replicas.values()
    assert [line["group_description"] for line in april[replica["name"]]] == ["orders-pg"]
    assert april["mailer"][0]["end_time"] == april["notifier"][0]["start_time"]
    assert april["mailer"][0]["resource_uuid"] == april["notifier"][0]["resource_uuid"] == showcase.apps[0]["id"]
    again = billed["Unused Floating IP - 45.55.96.62"]
    assert [line["period"] for line in again] == ["2026-01", "2026-02", "2026-04"]  # released, and taken again
    assert [line["amount"] for line in april["qubits"]] == ["0.07"]


@pytest.mark.parametrize(("path", "limit"), [("/v2/account/keys", 10), ("/v2/cdn/endpoints", 5)])
def test_lists_with_a_limit_of_their_own_refuse_more(path: str, limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("arcadia_dagster.demo.server.time.time", lambda: 1_780_000_000.0)
    account = SimulatedAccount("t", "team", "team")
    with SimulatedServer([account]) as server, client(server, account) as http:
        replies = [http.get(path) for _ in range(limit + 1)]
        assert [reply.status_code for reply in replies] == [200] * limit + [429]
        assert int(replies[-1].headers["retry-after"]) in {10, 60}
        assert http.get("/v2/account").status_code == 200


def test_the_schema_check_sees_a_missing_field_a_wrong_type_and_an_unknown_field() -> None:
    droplet = items.droplet(1, "a", created_at="2026-01-01T00:00:00Z")
    strict = {"$ref": "#/components/schemas/droplet", "unevaluatedProperties": False}
    assert problems(strict, droplet) == []
    assert problems(strict, droplet | {"surprise": 1})
    assert problems(strict, droplet | {"id": "1"})
    assert problems(strict, droplet | {"created_at": "yesterday"})
    assert problems(strict, {key: value for key, value in droplet.items() if key != "size"})


def test_snapshots_of_one_droplet_and_one_image(server: SimulatedServer, messy: SimulatedAccount) -> None:
    with client(server, messy) as http:
        body = http.get("/v2/droplets/410000101/snapshots").json()
        assert [item["id"] for item in body["snapshots"]] == [157_000_100]
        schema = {"$ref": "#/components/schemas/droplet_snapshot", "unevaluatedProperties": False}
        assert problems(schema, body["snapshots"][0]) == []
        image = http.get("/v2/images/157000001").json()["image"]
        assert (image["name"], image["type"]) == ("web-01 2026-05-03", "backup")
        kinds = Counter(item["type"] for item in http.get("/v2/images", params={"private": "true"}).json()["images"])
        assert kinds == {"snapshot": 1, "backup": 1}
        for kind in ("droplet", "volume"):
            found = http.get("/v2/snapshots", params={"resource_type": kind}).json()["snapshots"]
            assert [item["resource_type"] for item in found] == [kind]


def test_gpu_droplets_need_their_own_pass(server: SimulatedServer, messy: SimulatedAccount) -> None:
    with client(server, messy) as http:
        usual, gpus = (http.get("/v2/droplets", params=query).json()["droplets"] for query in ({}, {"type": "gpus"}))
        assert [item["name"] for item in usual] == ["web-01", "default-pool-410000102"]
        assert [item["name"] for item in gpus] == ["train-gpu"]


@pytest.mark.parametrize(("count", "per_page"), [(0, 20), (20, 20), (21, 20), (401, 200), (400, 200), (7, 3)])
def test_pages(count: int, per_page: int) -> None:
    account = SimulatedAccount("t", "team", "team", domains=[items.domain(f"d{n}.example") for n in range(count)])
    with SimulatedServer([account]) as server, client(server, account) as http:
        query = {} if per_page == 20 else {"per_page": str(per_page)}
        seen: list[str] = []
        page = 1
        while True:
            body = http.get("/v2/domains", params={**query, "page": str(page)}).json()
            seen += [item["name"] for item in body["domains"]]
            assert body["meta"] == {"total": count}
            pages = body["links"].get("pages", {})
            for address in pages.values():
                assert address.startswith("https://api.digitalocean.com/v2/domains?")
            assert set(pages) >= ({"first", "prev"} if page > 1 else set())
            if "next" not in pages:
                break
            page += 1
            assert f"page={page}" in pages["next"].replace("per_page", "")
            assert "last" in pages
        assert seen == [item["name"] for item in account.domains]
        assert page == max(-(-count // per_page), 1)
        if count <= per_page:
            assert body["links"] == {}
        assert http.get("/v2/domains", params={"page": "999"}).json()["domains"] == []


@pytest.mark.parametrize("query", [{"per_page": "201"}, {"per_page": "0"}, {"page": "0"}, {"page": "x"}])
def test_page_numbers_out_of_range_are_refused(query: dict[str, str], server: SimulatedServer, sky_ai: SimulatedAccount) -> None:
    with client(server, sky_ai) as http:
        reply = http.get("/v2/droplets", params=query)
        assert (reply.status_code, reply.json()["id"]) == (400, "bad_request")


def test_errors_have_the_providers_bodies(sky_ai: SimulatedAccount) -> None:
    account = SimulatedAccount("t", "team", "team", denied={"/v2/volumes", "/v2/customers/my"})
    with SimulatedServer([account]) as server, client(server, account) as http:
        wrong = http.get("/v2/droplets", headers={"Authorization": "Bearer nobody"})
        none = httpx.get(f"{server.url}/v2/droplets", trust_env=False)
        assert (wrong.status_code, none.status_code) == (401, 401)
        assert wrong.json()["message"] == "Unable to authenticate you."
        for path, status, error in (
            ("/v2/volumes", 403, "forbidden"),
            ("/v2/customers/my/balance", 403, "forbidden"),
            ("/v2/volumes_of_something_else", 404, "not_found"),
            ("/v2/nothing/here", 404, "not_found"),
            ("/", 404, "not_found"),
            ("/v2/droplets/1/backups", 404, "not_found"),
            ("/v2/projects/none/resources", 404, "not_found"),
        ):
            reply = http.get(path)
            assert (reply.status_code, reply.json()["id"]) == (status, error), path
            assert reply.json()["request_id"] == reply.headers["x-request-id"]
            assert set(reply.json()) == {"id", "message", "request_id"}
        assert http.delete("/v2/droplets").status_code == 404
        account.denied.clear()
        assert http.get("/v2/volumes").status_code == 200
        assert server.requests[:1] == [("GET", "/v2/droplets", {})]
        assert server.requests[-1] == ("GET", "/v2/volumes", {})


def test_the_hour_and_the_minute_are_limited_per_token(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1_780_000_000.0]
    monkeypatch.setattr("arcadia_dagster.demo.server.time.time", lambda: now[0])
    account, other = (SimulatedAccount(token, "team", "team", ratelimit_limit=40) for token in ("a", "b"))
    with SimulatedServer([account, other]) as server, client(server, account) as http:
        first, second = http.get("/v2/account"), http.get("/v2/account")
        assert [reply.headers["ratelimit-remaining"] for reply in (first, second)] == ["39", "38"]
        assert first.headers["ratelimit-limit"] == "40"
        assert int(first.headers["ratelimit-reset"]) == int(now[0]) + 3600
        now[0] += 12.5
        burst = http.get("/v2/account")  # 5 % of 40 is 2 a minute
        assert (burst.status_code, burst.headers["retry-after"]) == (429, "48")
        assert burst.json()["message"] == "API rate limit exceeded."
        with client(server, other) as others:
            assert others.get("/v2/account").status_code == 200
        now[0] += 48
        for _ in range(38):
            assert http.get("/v2/account").status_code == 200
            now[0] += 31
        spent = http.get("/v2/account")
        assert spent.status_code == 429
        assert "retry-after" not in spent.headers  # only a burst's refusal says how long
        assert spent.headers["ratelimit-remaining"] == "0"
        now[0] = float(spent.headers["ratelimit-reset"])  # two requests were made in the same second
        assert [http.get("/v2/account").status_code for _ in range(3)] == [200, 200, 429]


def test_a_created_project_is_listed_from_then_on() -> None:
    account = SimulatedAccount("t", "team", "team")
    with SimulatedServer([account]) as server, client(server, account) as http:
        wanted = {"name": "skyai-internal", "purpose": "Operational / Developer tooling", "environment": "Production"}
        made = http.post("/v2/projects", json=wanted)
        assert made.status_code == 201
        schema = {"$ref": "#/components/schemas/project", "unevaluatedProperties": False}
        assert problems(schema, made.json()["project"]) == []
        assert http.get("/v2/projects").json()["projects"] == [made.json()["project"]]
        assert http.get(f"/v2/projects/{made.json()['project']['id']}/resources").json()["resources"] == []
        assert http.post("/v2/projects", json=wanted).status_code == 409
        for body in (b"", b"[]", b'{"name": "x"}', b"not json"):
            assert http.post("/v2/projects", content=body).status_code == 400
        account.may_create_projects = False
        assert http.post("/v2/projects", json=wanted | {"name": "other"}).status_code == 403
        assert len(account.projects) == 1


def test_a_change_of_the_account_shows_in_the_next_reply() -> None:
    account = messy_account()
    with SimulatedServer([account]) as server, client(server, account) as http:
        account.droplets[0]["name"] = "renamed"
        account.volumes.clear()
        assert http.get("/v2/droplets").json()["droplets"][0]["name"] == "renamed"
        assert http.get("/v2/volumes").json()["volumes"] == []


def test_a_port_in_use_is_an_error_and_stop_leaves_nothing_behind() -> None:
    before = set(threading.enumerate())  # the module's own server among them
    account = SimulatedAccount("t", "team", "team")
    server = SimulatedServer([account]).start()
    port = int(server.url.rpartition(":")[2])
    with pytest.raises(OSError, match=rf"127\.0\.0\.1:{port}: the port is in use"):
        SimulatedServer([account], port=port).start()
    with client(server, account) as http:  # a connection that is kept open does not keep the server from ending
        assert http.get("/v2/account").status_code == 200
        server.stop()
    server.stop()
    assert set(threading.enumerate()) == before
    with SimulatedServer([account], port=port) as again, socket.create_connection(("127.0.0.1", port)):
        assert again.url == f"http://127.0.0.1:{port}"


def test_sky_ai_holds_what_the_real_account_held(sky_ai: SimulatedAccount) -> None:
    assert sky_ai.team_name == "sky-ai"
    assert (len(sky_ai.droplets), len(sky_ai.domains), len(sky_ai.snapshots), len(sky_ai.firewalls)) == (5, 7, 12, 1)
    for kind in ("volumes", "load_balancers", "reserved_ips", "databases", "kubernetes_clusters", "apps"):
        assert getattr(sky_ai, kind) == []
    droplets = {item["id"]: item for item in sky_ai.droplets}
    assert len({item["name"] for item in sky_ai.droplets}) == 5
    (backed_up,) = sky_ai.backups
    assert droplets[backed_up]["name"] == "git.sky-ai.com"
    assert droplets[backed_up]["backup_ids"] == [item["id"] for item in sky_ai.backups[backed_up]]
    assert len(sky_ai.backups[backed_up]) == 4
    for droplet_id, droplet in droplets.items():
        of_it = [int(item["id"]) for item in sky_ai.snapshots if item["resource_id"] == str(droplet_id)]
        assert droplet["snapshot_ids"] == of_it
        assert ("backups" in droplet["features"]) == (droplet_id in sky_ai.backups)
    living_parents = {item["resource_id"] for item in sky_ai.snapshots} & {str(droplet_id) for droplet_id in droplets}
    assert len(living_parents) == 4
    assert {item["resource_id"] for item in sky_ai.snapshots} - living_parents

    assert [item["is_default"] for item in sky_ai.projects] == [True, False, False]
    assert "skyai-internal" not in {item["name"] for item in sky_ai.projects}
    urns = [item["urn"] for members in sky_ai.project_resources.values() for item in members]
    assert len(urns) == len(set(urns))
    assert sum(urn.startswith("do:space:") for urn in urns) == 6
    assert len({f"do:droplet:{droplet_id}" for droplet_id in droplets} - set(urns)) == 1
    assert len({f"do:domain:{item['name']}" for item in sky_ai.domains} - set(urns)) == 2


def test_april_2026_has_33_lines_and_86_92(sky_ai: SimulatedAccount) -> None:
    april = sky_ai.invoices[0]
    assert (april.period, april.amount, len(april.items)) == ("2026-04", "86.92", 33)
    by_product = {
        product: [line for line in april.items if line["product"] == product]
        for product in ("Droplets", "Droplet Backups", "Droplet Snapshots", "Spaces Subscription", "Taxes")
    }
    assert [len(lines) for lines in by_product.values()] == [16, 2, 13, 1, 1]

    living = {str(item["id"]): item["name"] for item in sky_ai.droplets}
    for_living = [line for line in by_product["Droplets"] if line["resource_id"] in living]
    assert len(for_living) == 6
    assert {line["resource_id"] for line in for_living} == set(living)
    (resized,) = [key for key, count in Counter(line["resource_id"] for line in for_living).items() if count == 2]
    parts = [line for line in for_living if line["resource_id"] == resized]
    before, after = sorted(parts, key=lambda line: line["start_time"])
    assert before["end_time"] == after["start_time"]
    assert before["description"] != after["description"]

    destroyed = [line for line in by_product["Droplets"] if line["resource_id"] not in living]
    assert len({line["resource_id"] for line in destroyed}) == 10
    gone_names = {line["description"].rpartition(" (")[0] for line in destroyed}
    assert len(gone_names) == 10
    every_name = {item["name"] for item in [*sky_ai.droplets, *sky_ai.snapshots, *sky_ai.domains, *sky_ai.projects]}
    assert not gone_names & every_name
    assert not {line["resource_id"] for line in destroyed} & {item["id"] for item in sky_ai.snapshots}

    snapshots = {item["id"]: item["name"] for item in sky_ai.snapshots}
    assert {line["resource_id"] for line in by_product["Droplet Snapshots"]} == set(snapshots)
    billed = [
        (re.fullmatch(r"(.+) \(\w+\) [\d.]+GB Droplet Snapshot", line["description"])[1], line["resource_id"])
        for line in by_product["Droplet Snapshots"]
    ]
    renamed = [name for name, key in billed if name != snapshots[key]]
    assert (len(billed), len(renamed)) == (13, 3)
    for name in renamed:  # no name of now is the same but for case and white space
        assert "".join(name.casefold().split()) not in {"".join(n.casefold().split()) for n in snapshots.values()}

    git, repo = by_product["Droplet Backups"]
    assert (git["description"], repo["description"]) == (
        "git.sky-ai.com (Weekly Backup Services)",
        "repo.sky-ai.com (Weekly Backup Services)",
    )
    assert living[git["resource_id"]] == "git.sky-ai.com"
    assert repo["resource_id"] not in living
    assert repo["resource_id"] not in {line["resource_id"] for line in destroyed}
    assert by_product["Spaces Subscription"][0]["amount"] == "5.00"
    assert (by_product["Taxes"][0]["description"], by_product["Taxes"][0]["amount"]) == ("GST (18.00%)", "13.26")
    for line in (*by_product["Spaces Subscription"], *by_product["Taxes"]):
        assert (line["resource_id"], line["resource_uuid"]) == ("", "")


def test_all_137_invoices_add_up(sky_ai: SimulatedAccount) -> None:
    periods = [invoice.period for invoice in sky_ai.invoices]
    assert len(periods) == len(set(periods)) == 137
    assert (periods[-1], periods[0]) == ("2014-12", "2026-04")
    assert periods == sorted(periods, reverse=True)
    numbers = [int(invoice.invoice_id) for invoice in sky_ai.invoices]
    assert numbers == sorted(set(numbers), reverse=True)
    assert len({invoice.uuid for invoice in sky_ai.invoices}) == 137
    for invoice in [*sky_ai.invoices, sky_ai.preview]:
        assert invoice.items
        assert total(invoice.items) == invoice.amount
        summary = invoice.summary()
        parts = ("product_charges", "overages", "taxes", "credits_and_adjustments")
        assert f"{sum(Decimal(summary[part]['amount']) for part in parts):.2f}" == invoice.amount
    assert sky_ai.preview.period == "2026-05"
    assert max(len(invoice.items) for invoice in sky_ai.invoices) in range(34, 40)

    entries = [item for item in sky_ai.billing_history if item["type"] == "Invoice"]
    assert [(item["invoice_uuid"], item["amount"]) for item in entries] == [(i.uuid, i.amount) for i in sky_ai.invoices]
    payments = [item for item in sky_ai.billing_history if item["type"] == "Payment"]
    assert sum(Decimal(item["amount"]) for item in payments + entries) == 0
    assert all(item["amount"].startswith("-") and "invoice_uuid" not in item for item in payments)


def test_the_years_hold_the_odd_things_that_real_invoices_have(sky_ai: SimulatedAccount) -> None:
    lines = [(invoice.period, line) for invoice in sky_ai.invoices for line in invoice.items]
    credits_ = [(period, line["description"]) for period, line in lines if line["amount"].startswith("-")]
    assert credits_ == [("2025-09", "Inference Cloud Trial"), ("2015-01", "DigitalOcean Credit Applies")]
    (overage,) = [line for _, line in lines if "Overage (" in line["description"]]
    assert overage["duration"] == ""
    droplets = [line for _, line in lines if line["product"] == "Droplets"]
    assert [line for line in droplets if line["duration"] == "0" and line["amount"] != "0.00"]
    alike = Counter((line["description"], line["start_time"], line["end_time"]) for line in droplets)
    assert max(alike.values()) == 3  # three droplets of one name and time: only the id tells their lines apart
    www = {line["resource_id"] for line in droplets if line["description"].startswith("www.sky-ai.com (")}
    assert len(www) == 2  # destroyed, and made again under its name
    both = {line["resource_id"] for line in droplets} & {item["id"] for item in sky_ai.snapshots}
    assert len(both) == 1  # a snapshot's number is a droplet's as well
    assert min(period for period, line in lines if line["product"] == "Spaces Subscription") == "2018-02"
    assert min(period for period, line in lines if line["product"] == "Taxes") == "2018-01"


def test_the_csv_shows_the_items_in_their_order(server: SimulatedServer, sky_ai: SimulatedAccount) -> None:
    header = "product,group_description,description,hours,start,end,USD,project_name,category"
    with client(server, sky_ai) as http:
        for invoice in [*sky_ai.invoices, sky_ai.preview]:
            key = "preview" if invoice is sky_ai.preview else invoice.uuid
            reply = http.get(f"{INVOICES}/{key}/csv", headers={"Accept": "text/csv"})
            assert reply.headers["content-type"].startswith("text/csv")
            assert reply.headers["content-disposition"].startswith("attachment; filename=")
            assert reply.text.partition("\n")[0] == header
            rows = list(csv.DictReader(io.StringIO(reply.text)))
            listed = http.get(f"{INVOICES}/{key}", params={"per_page": "200"}).json()["invoice_items"]
            for row, line in zip(rows, listed, strict=True):
                same = ("product", "group_description", "description", "project_name", "category")
                assert [row[name] for name in same] == [line[name] for name in same]
                assert row["hours"] == line["duration"]
                assert row["USD"] in {f"${line['amount']}", f"-${line['amount'][1:]}"}
                assert Decimal(row["USD"].replace("$", "")) == Decimal(line["amount"])
                for one, other in (("start", "start_time"), ("end", "end_time")):
                    assert datetime.strptime(row[one], "%Y-%m-%d %H:%M:%S %z") == datetime.fromisoformat(line[other])
        assert http.get(f"{INVOICES}/no-such-invoice").status_code == 404
        assert http.get(INVOICES).json()["invoice_preview"]["updated_at"]


def test_the_account_is_the_same_every_time_and_in_every_process(sky_ai: SimulatedAccount) -> None:
    assert sky_ai_account() == sky_ai
    program = "from arcadia_dagster.demo.sky_ai import sky_ai_account; print(sky_ai_account())"
    for seed in ("1", "2"):
        run = [sys.executable, "-c", program]
        other = subprocess.run(run, check=True, capture_output=True, text=True, env=os.environ | {"PYTHONHASHSEED": seed})
        assert other.stdout == f"{sky_ai}\n"


def test_the_providers_own_client_reads_the_same_objects(server: SimulatedServer, sky_ai: SimulatedAccount) -> None:
    # pydo sends its token over https only, so the header is set by a policy of its own.
    policy = HeadersPolicy({"Authorization": f"Bearer {sky_ai.token}"})
    pydo = Client("unused", endpoint=server.url, authentication_policy=policy, retry_total=0)
    assert pydo.droplets.list(per_page=200)["droplets"] == sky_ai.droplets
    assert pydo.projects.list(per_page=200)["projects"] == sky_ai.projects
    for project in sky_ai.projects:
        listed = pydo.projects.list_resources(project["id"], per_page=200)
        assert listed["resources"] == sky_ai.project_resources[project["id"]]
    assert pydo.snapshots.list(per_page=200)["snapshots"] == sky_ai.snapshots
    invoices = pydo.invoices.list(per_page=200)
    assert invoices["invoices"] == [invoice.listing() for invoice in sky_ai.invoices]
    assert invoices["invoice_preview"]["invoice_period"] == "2026-05"
    for invoice in sky_ai.invoices[:3]:
        assert pydo.invoices.get_by_uuid(invoice.uuid, per_page=200)["invoice_items"] == invoice.items
    assert pydo.billing_history.list()["meta"]["total"] == len(sky_ai.billing_history)
    assert pydo.balance.get() == sky_ai.balance
