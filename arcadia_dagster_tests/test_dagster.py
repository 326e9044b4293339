"""The code location as Dagster runs it: assets against the simulated account, checks, schedules, the sensor and retention."""

import subprocess
import sys
from datetime import UTC, datetime
from decimal import Decimal

import dagster as dg
import psutil
import pytest
from dagster._core.storage.event_log.schema import AssetCheckExecutionsTable
from sqlalchemy import select, text

from arcadia_dagster.definitions import defs
from arcadia_dagster.defs.billing.jobs import neighbours, range_tags, uningested_invoices, waiting_invoices
from arcadia_dagster.defs.inventory import assets
from arcadia_dagster.defs.resources import Ledger
from arcadia_dagster.defs.scheduling import process_tags
from arcadia_dagster.demo import items
from arcadia_dagster.demo.account import SimulatedInvoice, messy_account
from arcadia_dagster.demo.server import SimulatedServer
from arcadia_dagster.demo.showcase import showcase_account
from arcadia_dagster.demo.sky_ai import sky_ai_account
from arcadia_dagster.digitalocean.kinds import KINDS
from arcadia_dagster.ledger.attribution import attribute
from arcadia_dagster.ledger.reconcile import begin, placeholder, reconcile

DEFINITIONS = defs()
INVENTORY_JOBS = ("sync_inventory", "sync_catalogue", "sync_snapshots", "sync_backups")


class Location:
    """The code location on a ledger of its own and a simulated account, with a Dagster instance in memory."""

    def __init__(self, engine, monkeypatch, account):
        self.engine, self.account = engine, account
        self.instance = dg.DagsterInstance.ephemeral()
        self.server = SimulatedServer([account]).start()
        monkeypatch.setenv("ARCADIA_DATABASE_URL", engine.url.render_as_string(hide_password=False))
        monkeypatch.setenv("DO_API_TOKEN", account.token)
        monkeypatch.setenv("DIGITALOCEAN_API_URL", self.server.url)
        monkeypatch.setenv("ARCADIA_STRIKE_INTERVAL_SECONDS", "0")

    def run(self, *jobs, config=None, tags=None, assets=None):
        """Run the jobs in turn, or of each these assets alone; the last one's result."""
        for name in jobs:
            job = DEFINITIONS.resolve_job_def(name)
            loggers = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
            result = job.execute_in_process(
                instance=self.instance,
                raise_on_error=False,
                tags=tags,
                run_config={**loggers, **(config or {})},
                asset_selection=assets and [dg.AssetKey(name) for name in assets],
            )
        return result

    def ingest(self):
        ranges = neighbours(waiting_invoices(self.engine, retry_failed=True), self.instance.get_dynamic_partitions("invoices"))
        return [self.run("ingest_invoices", tags=range_tags(*ends)) for ends in ranges]

    def everything(self):
        self.run(*INVENTORY_JOBS, "record_balance", "discover_invoices")
        return self.ingest()

    def rows(self, query, **values):
        with self.engine.connect() as conn:
            return conn.execute(text(query), values).all()

    def active(self):
        return dict(self.rows("select kind, count(*) from arcadia.cloud_resources where state = 'active' group by 1"))


@pytest.fixture
def locate(engine, monkeypatch):
    servers = []

    def make(account):
        location = Location(engine, monkeypatch, account)
        servers.append(location.server)
        return location

    yield make
    for server in servers:
        server.stop()


@pytest.fixture
def sky(locate):
    return locate(sky_ai_account())


@pytest.fixture
def messy(locate):
    return locate(messy_account())


@pytest.fixture
def showcase(locate):
    return locate(showcase_account())


def failures(result):
    return {
        event.step_key: event.step_failure_data.user_failure_data.description
        for event in result.all_events
        if event.is_step_failure and event.step_failure_data.user_failure_data
    }


def metadata(result, asset):
    return {name: value.value for event in result.asset_materializations_for_node(asset) for name, value in event.metadata.items()}


# The contract


def test_assets_jobs_schedules_and_sensor_have_their_agreed_names():
    graph = DEFINITIONS.resolve_asset_graph()
    groups = {key.to_user_string(): graph.get(key).group_name for key in graph.get_all_asset_keys()}
    assert {name for name, group in groups.items() if group == "inventory"} == {
        "projects", "droplets", "volumes", "snapshots", "droplet_backups", "reserved_ips", "firewalls", "load_balancers", "domains",
        "project_resources", "tenants",
        # Listed since: billed things, then what explains them.
        "spaces_buckets", "databases", "database_replicas", "kubernetes_clusters", "apps", "function_namespaces", "registries",
        "nat_gateways", "autoscale_pools", "reserved_ipv6s", "nfs_shares", "nfs_snapshots", "dedicated_inferences",
        "vector_databases", "genai_agents", "genai_knowledge_bases", "addons",
        "cdn_endpoints", "uptime_checks", "certificates", "vpcs", "vpc_peerings", "partner_attachments", "byoip_prefixes",
        "alert_policies", "ssh_keys", "tags",
    }  # fmt: skip
    assert {name for name, group in groups.items() if group == "billing"} == {
        "balance_snapshots", "invoices", "invoice_preview", "cost_lines", "matched_cost_lines",
    }  # fmt: skip
    assert {name for name, group in groups.items() if group == "costs"} == {"focus_export", "cost_report"}
    crons = {schedule.job_name: (schedule.cron_schedule, schedule.execution_timezone) for schedule in DEFINITIONS.schedules}
    assert crons == {
        "sync_inventory": ("*/15 * * * *", "UTC"),
        "sync_catalogue": ("52 * * * *", "UTC"),
        "sync_snapshots": ("33 * * * *", "UTC"),
        "sync_backups": ("41 * * * *", "UTC"),
        "record_balance": ("7 * * * *", "UTC"),
        "discover_invoices": ("23 2 * * *", "UTC"),
        "check_ledger": ("19 3 * * *", "UTC"),
        "write_report": ("37 3 * * *", "UTC"),
        "prune_runs": ("11 4 * * *", "UTC"),
    }
    assert {sensor.name: [job.job_name for job in sensor.targets] for sensor in DEFINITIONS.sensors} == {
        "uningested_invoices": ["ingest_invoices"], "changed_months": ["export_focus"], "alerts": [],
    }  # fmt: skip


def test_inventory_and_billing_have_pools_of_their_own_and_everything_is_described():
    graph = DEFINITIONS.resolve_asset_graph()
    for key in graph.get_all_asset_keys():
        node = graph.get(key)
        assert node.description
        assert node.owners
        assert node.kinds
        if key.to_user_string() not in {"matched_cost_lines", "focus_export", "cost_report", "tenants"}:  # which ask the ledger alone
            assert node.pools == {f"digitalocean_{node.group_name}"}


def test_steps_run_in_the_process_of_their_run():
    assert DEFINITIONS.executor.name == "in_process"


# The whole path


def test_the_first_real_accounts_twin_is_mirrored(sky):
    for name in INVENTORY_JOBS:
        assert sky.run(name).success
    assert sky.active() == {
        "droplet": 5, "dns_zone": 7, "snapshot": 12, "firewall": 1, "spaces_bucket": 6, "droplet_backup": 4,
    }  # fmt: skip
    assert sky.rows("select count(*) from arcadia.cloud_projects where name = 'skyai-internal'") == [(1,)]
    assert sky.rows("select name from arcadia.cloud_resources where cloud_project_id is null") == []
    parents = sky.rows("select distinct parent_provider_id from arcadia.cloud_resources where kind = 'droplet_backup'")
    assert parents == sky.rows("select provider_id from arcadia.cloud_resources where name = 'git.sky-ai.com'")


def test_the_history_is_ingested_in_one_run_and_april_is_explained_line_by_line(sky):
    sky.run(*INVENTORY_JOBS, "discover_invoices")
    (result,) = sky.ingest()
    assert result.success
    assert sky.rows("select status, count(*), count(*) filter (where residual = 0) from arcadia.cloud_invoices group by 1 order by 1") == [
        ("ingested", 137, 137),
        ("preview", 1, 1),
    ]
    assert len(sky.instance.get_materialized_partitions(dg.AssetKey("cost_lines"))) == 137
    april = sky.rows("select * from arcadia.matched_cost_lines where period = '2026-04-01' order by ordinal")
    assert len(april) == 33
    assert sum(line.amount_usd for line in april) == Decimal("86.92")
    outcomes = {}
    for line in april:
        outcome = line.resource_state or line.match_status
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
    assert outcomes == {"active": 20, "billing_only": 11, "account_level": 1, "tax": 1}
    assert all(line.resource_id or line.reason for line in april)
    assert sky.rows("select count(*) from arcadia.matched_cost_lines where match_status in ('unmatched', 'ambiguous')") == [(0,)]


def test_everything_again_gives_no_new_event_and_no_changed_line(sky):
    sky.everything()
    snapshot = (
        "select (select count(*) from arcadia.cloud_resource_events), (select count(*) from arcadia.resources),"
        " (select string_agg(xmin::text || line_id, ',' order by line_id) from arcadia.cloud_cost_lines),"
        " (select string_agg(xmin::text, ',' order by resource_id) from arcadia.resources)"
    )
    before = sky.rows(snapshot)
    assert sky.everything() == []  # nothing waits to be ingested
    sky.run("ingest_invoices", tags=range_tags(*[sky.instance.get_dynamic_partitions("invoices")[i] for i in (0, -1)]))
    assert sky.rows(snapshot) == before


def test_invoices_first_and_inventory_later_gives_the_same_matches(sky):
    query = "select invoice_uuid, ordinal, resource_provider_id, match_status, match_method from arcadia.matched_cost_lines order by 1, 2"
    sky.run("discover_invoices")
    sky.ingest()
    sky.run(*INVENTORY_JOBS)
    late = sky.rows(query)
    with sky.engine.begin() as conn:
        conn.execute(text("truncate arcadia.cloud_accounts cascade"))
    sky.run(*INVENTORY_JOBS, "discover_invoices")
    sky.ingest()
    assert sky.rows(query) == late


def test_a_sync_of_the_small_account_costs_few_requests(sky):
    sky.run("sync_inventory")
    before = len(sky.server.requests)
    sky.run("sync_inventory")
    # The account; projects; droplets twice; volumes, reserved IPs, firewalls, load balancers, domains; four projects walked; one
    # for each other kind but the replicas, since there is no database.
    assert len(sky.server.requests) - before == 1 + 1 + 2 + 5 + 4 + 14
    before = len(sky.server.requests)
    sky.run("sync_catalogue")
    # The account; ten kinds; the regions, and for shares and their snapshots each of the regions.
    assert len(sky.server.requests) - before == 1 + 10 + 1 + 2 * len(items.REGIONS)
    before = len(sky.server.requests)
    sky.run("sync_backups")
    # The account, droplets twice, images: no droplet is asked.
    assert [path for _, path, _ in sky.server.requests[before:]] == ["/v2/account", "/v2/droplets", "/v2/droplets", "/v2/images"]


def test_backups_that_images_do_not_show_are_asked_of_their_droplets_alone(sky):
    sky.account.denied.add("/v2/images")
    assert sky.run("sync_backups").success
    asked = [path for _, path, _ in sky.server.requests if path.endswith("/backups")]
    assert len(asked) == 1
    assert sky.active() == {"droplet_backup": 4}


def test_gpu_droplets_volumes_and_every_urn_kind_are_seen(messy):
    messy.run(*INVENTORY_JOBS)
    active = messy.active()
    assert active["droplet"] == 3
    assert {"volume", "load_balancer", "reserved_ip", "managed_db", "k8s_cluster", "spaces_bucket"} <= set(active)
    assert active["reserved_ip"] == 2


def test_a_destroyed_droplet_is_tombstoned_after_three_syncs_and_its_lines_still_match(sky):
    sky.everything()
    gone = sky.account.droplets.pop(0)
    for _ in range(3):
        sky.run("sync_inventory")
    assert sky.rows("select state from arcadia.cloud_resources where provider_id = :p and kind = 'droplet'", p=str(gone["id"])) == [
        ("deleted",)
    ]
    assert sky.rows(
        "select count(*) > 0 from arcadia.matched_cost_lines where resource_provider_id = :p and resource_state = 'deleted'",
        p=str(gone["id"]),
    ) == [(True,)]


def test_metadata_is_worth_looking_at(sky):
    result = sky.run("sync_inventory")
    droplets = metadata(result, "droplets")
    assert (droplets["dagster/row_count"], droplets["discovered"], droplets["requests"]) == (5, 5, 2)
    assert "| git.sky-ai.com" in droplets["newest"]
    assert "skyai-internal" in metadata(result, "project_resources")["resources_by_project"]
    assert "$" in metadata(sky.run("discover_invoices"), "invoices")["invoiced_by_year"]


def test_two_accounts_share_one_ledger_without_touching(locate, monkeypatch):
    sky = locate(sky_ai_account())
    sky.run("sync_inventory")
    before = sky.active()
    messy = locate(messy_account())
    for _ in range(4):
        messy.run("sync_inventory")
    account = "where state = 'active' and account_id = (select account_id from arcadia.cloud_accounts where name = 'sky-ai') group by 1"
    assert dict(sky.rows(f"select kind, count(*) from arcadia.cloud_resources {account}")) == before


# What goes wrong


def test_a_kind_that_the_token_may_not_read_fails_alone_and_says_which_scope_it_needs(sky):
    sky.run("sync_inventory")
    sky.account.denied.add("/v2/firewalls")
    for _ in range(4):
        result = sky.run("sync_inventory")
    assert not result.success
    assert failures(result).keys() == {"firewalls"}
    assert "firewall:read" in failures(result)["firewalls"]
    assert sky.rows("select max(stale_strike_count), max(deleted_at) from arcadia.resources where kind = 'firewall'") == [(0, None)]
    succeeded = {event.asset_key.to_user_string() for event in result.all_events if event.is_step_materialization}
    assert succeeded == {
        key.to_user_string() for key in DEFINITIONS.resolve_job_def("sync_inventory").asset_layer.executable_asset_keys
    } - {"firewalls"}
    checks = {
        check.asset_key.to_user_string(): check.passed
        for check in result.get_asset_check_evaluations()
        if check.check_name == "listing_complete"
    }
    assert checks["firewalls"] is False
    assert checks["droplets"] is True


def completeness(result):
    return {
        check.asset_key.to_user_string(): (check.passed, check.severity.value)
        for check in result.get_asset_check_evaluations()
        if check.check_name == "listing_complete"
    }


def test_what_the_token_could_never_read_is_a_warning_that_names_the_scope(showcase):
    showcase.account.denied |= {"/v2/firewalls", "/v2/gen-ai/agents", "/v2/databases"}
    for _ in range(2):  # a refusal is no listing: the second one is no failure either
        result = showcase.run("sync_inventory")
        assert result.success
    checks = completeness(result)
    refused = {"firewalls", "genai_agents", "databases", "database_replicas"}
    assert {name for name, outcome in checks.items() if outcome == (False, "WARN")} == refused
    assert {outcome for name, outcome in checks.items() if name not in refused} == {(True, "ERROR")}
    assert "firewall:read" in metadata(result, "firewalls")["not_readable"]
    assert "dagster/row_count" not in metadata(result, "firewalls")
    assert "managed_db" not in showcase.active()
    assert showcase.rows("select distinct complete, error like '%firewall:read%' from arcadia.cloud_sync_runs where kind = 'firewall'") == [
        (False, True)
    ]
    showcase.account.denied.clear()
    assert showcase.run("sync_inventory").success
    assert showcase.active()["managed_db"] == 2
    showcase.account.denied.add("/v2/databases")
    result = showcase.run("sync_inventory")
    assert failures(result).keys() == {"databases", "database_replicas"}
    assert completeness(result)["databases"] == (False, "ERROR")


def test_projects_that_the_token_could_never_read_are_a_warning_and_nothing_is_struck(showcase):
    showcase.account.denied.add("/v2/projects")
    result = showcase.run("sync_inventory")
    assert result.success
    assert completeness(result)["projects"] == completeness(result)["project_resources"] == (False, "WARN")
    assert showcase.rows("select count(*) from arcadia.listings where kind = 'project_resource'") == [(0,)]


# Every kind


def test_everything_that_the_showcase_has_is_listed_with_its_name_and_again_changes_nothing(showcase):
    showcase.run(*INVENTORY_JOBS)
    assert set(showcase.active()) == set(KINDS) - {"project"}
    rows = showcase.rows("select name from arcadia.cloud_resources where name ~ '^[0-9a-f]{8}-[0-9a-f-]{27}$'")
    assert rows == []
    state = "select kind, provider_id, name, attrs, stale_strike_count, deleted_at from arcadia.resources order by 1, 2"
    before, events = showcase.rows(state), showcase.rows("select count(*) from arcadia.cloud_resource_events")
    for _ in range(2):
        showcase.run(*INVENTORY_JOBS)
    assert showcase.rows(state) == before
    assert showcase.rows("select count(*) from arcadia.cloud_resource_events") == events
    assert run_check(showcase, "no_secret_is_kept").passed


def test_nodes_and_volumes_of_a_cluster_name_it_and_the_replica_its_database(showcase):
    showcase.run("sync_inventory")
    (cluster,) = showcase.account.kubernetes_clusters
    of_it = showcase.rows(
        "select kind, count(*) from arcadia.cloud_resources where attrs ->> 'k8s_cluster_id' = :c group by 1", c=cluster["id"]
    )
    assert dict(of_it) == {"droplet": 2, "volume": 1, "load_balancer": 1}
    ((pools,),) = showcase.rows("select attrs -> 'node_pools' from arcadia.cloud_resources where kind = 'k8s_cluster'")
    assert {node["droplet_id"] for node in pools[0]["nodes"]} == {
        str(droplet["id"]) for droplet in showcase.account.droplets if "k8s:worker" in droplet["tags"]
    }
    replicas = showcase.rows("select parent_kind, parent_provider_id, project from (select r.*, p.name as project"
        " from arcadia.cloud_resources r join arcadia.cloud_projects p using (cloud_project_id)) r where kind = 'db_replica'")  # fmt: skip
    assert replicas == [("managed_db", showcase.account.databases[0]["id"], "data")]


def test_droplets_name_the_pool_that_made_them_for_one_request_a_pool(showcase):
    def made():
        return dict(showcase.rows("select name, attrs ->> 'autoscale_pool_id' from arcadia.cloud_resources where kind = 'droplet'"
            " and attrs ? 'autoscale_pool_id'"))  # fmt: skip

    def sync():
        return showcase.run("sync_inventory", assets=["droplets", "autoscale_pools"])

    def members_asked():
        return sum(path.endswith("/members") for _, path, _ in showcase.server.requests)

    ((pool, members),) = showcase.account.autoscale_members.items()
    sync()
    assert made() == {"workers-x7k2": pool, "workers-9qp4": pool}
    assert members_asked() == 1
    events = showcase.rows("select count(*) from arcadia.cloud_resource_events")
    showcase.account.denied.add(f"/v2/droplets/autoscale/{pool}")  # its members cannot be read
    assert sync().success
    showcase.account.denied.clear()
    members.pop()  # let go by its pool, it lives on
    sync()
    assert showcase.rows("select count(*) from arcadia.cloud_resource_events") == events
    showcase.account.autoscale_pools.clear()
    for _ in range(3):
        sync()
    asked = members_asked()
    sync()
    assert members_asked() == asked
    assert made() == {"workers-x7k2": pool, "workers-9qp4": pool}


def test_a_pool_that_becomes_known_is_told_of_droplets_that_were_known_before(showcase):
    ((pool, _),) = showcase.account.autoscale_members.items()
    for listed in (["droplets"], ["droplets"], ["autoscale_pools", "droplets"]):
        assert showcase.run("sync_inventory", assets=listed).success
    made = "select name from arcadia.cloud_resources where kind = 'droplet' and attrs ->> 'autoscale_pool_id' = :pool order by name"
    assert showcase.rows(made, pool=pool) == [("workers-9qp4",), ("workers-x7k2",)]


def test_every_line_of_the_showcase_is_explained_but_the_product_that_nobody_knows(showcase):
    showcase.run(*INVENTORY_JOBS, "discover_invoices")
    assert not run_check(showcase, "no_unknown_product").passed  # the month to date shows it first
    showcase.ingest()
    assert showcase.rows("select distinct product from arcadia.matched_cost_lines where match_status in ('unmatched', 'ambiguous')") == [
        ("Quantum Computers",)
    ]
    check = run_check(showcase, "no_unknown_product")
    assert (check.passed, check.severity.value, check.metadata["found"].value) == (False, "WARN", 1)
    assert "| Quantum Computers | qubits (q-1) | 2026-04 " in " ".join(check.metadata["which"].value.split())
    # The next listing of invoices says so too, after whatever else it does: a preview may have been stored.
    evaluations = showcase.run("discover_invoices").get_asset_check_evaluations()
    # Its GPU droplet of April makes the project dearer than it used to be.
    assert {one.check_name for one in evaluations if not one.passed} == {"no_unknown_product", "projects_cost_what_they_used_to"}
    assert showcase.rows(
        "select distinct l.resource_name, l.resource_state from arcadia.matched_cost_lines l where description in"
        " ('crunch-01 (s-1vcpu-1gb)', 'batch-01 (s-1vcpu-1gb)', 'Unused Floating IP - 45.55.96.62') order by 1"
    ) == [("45.55.96.62", "active"), ("batch-01", "active")]


def test_what_only_a_urn_showed_becomes_the_listed_row(showcase):
    cluster = showcase.account.kubernetes_clusters[0]["id"]
    showcase.run("sync_inventory")
    with showcase.engine.begin() as conn:
        conn.execute(text("truncate arcadia.resources, arcadia.cloud_sync_runs, arcadia.listings cascade"))
        account = conn.execute(text("select account_id from arcadia.cloud_accounts")).scalar_one()
    run = begin(showcase.engine, account_id=account, kind="k8s_cluster")  # as a release that knew URNs alone did
    reconcile(showcase.engine, run, [placeholder(cluster)])
    showcase.run("sync_inventory")
    assert showcase.rows("select provider_id, name, region from arcadia.cloud_resources where kind = 'k8s_cluster'") == [
        (cluster, "showcase-k8s", "blr1")
    ]
    events = showcase.rows("select event from arcadia.cloud_resource_events join arcadia.resources using (resource_id)"
        " where kind = 'k8s_cluster' order by event_id")  # fmt: skip
    assert events == [("discovered",), ("updated",)]


def test_buckets_of_projects_and_of_key_grants_are_struck_only_when_neither_shows_them(showcase):
    def buckets():
        return {
            name for (name,) in showcase.rows("select name from arcadia.cloud_resources where kind = 'spaces_bucket' and state = 'active'")
        }

    showcase.run("sync_inventory")
    everywhere = {"showcase-assets", "showcase-artifacts", "showcase-data"}
    assert buckets() == everywhere
    for members in showcase.account.project_resources.values():
        members[:] = [item for item in members if not item["urn"].startswith("do:space:")]
    showcase.account.denied.add("/v2/spaces/keys")
    for _ in range(4):
        assert failures(showcase.run("sync_inventory")).keys() == {"spaces_buckets"}
    assert buckets() == everywhere
    showcase.account.denied.clear()
    for _ in range(3):
        showcase.run("sync_inventory")
    assert buckets() == {"showcase-assets", "showcase-artifacts"}


def test_buckets_of_projects_live_and_go_without_the_right_to_read_keys(showcase):
    showcase.account.denied.add("/v2/spaces/keys")
    for _ in range(4):
        assert showcase.run("sync_inventory").success
    assert showcase.active()["spaces_bucket"] == 2
    for members in showcase.account.project_resources.values():
        members[:] = [item for item in members if item["urn"] != "do:space:showcase-data"]
    for _ in range(3):
        assert showcase.run("sync_inventory").success
    assert showcase.active()["spaces_bucket"] == 1


@pytest.mark.parametrize("job", [*INVENTORY_JOBS, "record_balance", "discover_invoices"])
def test_a_wrong_token_is_one_sentence_that_does_not_hold_the_token(sky, monkeypatch, job):
    monkeypatch.setenv("DO_API_TOKEN", "dop_v1_wrong_token")
    result = sky.run(job)
    assert not result.success
    assert "check DO_API_TOKEN" in next(iter(failures(result).values()))
    assert "dop_v1" not in str(failures(result))


def test_no_token_is_one_sentence(sky, monkeypatch):
    monkeypatch.delenv("DO_API_TOKEN")
    result = sky.run("sync_snapshots")
    assert failures(result)["snapshots"].startswith("no DigitalOcean token for inventory: set DO_API_TOKEN")


def test_a_database_that_is_down_is_one_sentence(sky, monkeypatch):
    monkeypatch.setenv("ARCADIA_DATABASE_URL", "postgresql://someone:hunter2@127.0.0.1:1/ledger")
    sentence = failures(sky.run("sync_snapshots"))["snapshots"]
    assert "127.0.0.1:1/ledger" in sentence
    assert "hunter2" not in sentence


def test_a_listing_attributes_where_something_changed_or_a_killed_run_left_it_to_do_so(sky, monkeypatch):
    calls = []

    def spied(*given, gone_too=True, **named):
        calls.append("walk" if gone_too else "listing")
        return attribute(*given, gone_too=gone_too, **named)

    monkeypatch.setattr(assets, "attribute", spied)
    sky.run("sync_inventory")
    assert len(calls) > 2
    calls.clear()
    sky.run("sync_inventory")
    assert calls == ["listing", "walk"]  # before the walk is recorded, and after

    sky.account.domains = [*sky.account.domains, items.domain("late.example")]
    with monkeypatch.context() as killed:
        killed.setattr(assets, "_follow_up", lambda *_: sys.exit("killed"))
        assert not sky.run("sync_inventory", assets=["domains"]).success
    calls.clear()
    assert sky.run("sync_inventory", assets=["domains"]).success
    assert calls == ["listing"]
    sky.run("sync_inventory", assets=["domains"])
    assert calls == ["listing"]


def test_a_project_that_is_deleted_does_not_fail_the_walks_until_it_is_tombstoned(messy):
    messy.account.projects.append(items.project("aa0e11f5-0b1c-4ea3-8ad0-2ab4a4a9d9c5", "short-lived", created_at="2026-05-01T00:00:00Z"))
    messy.run("sync_inventory")
    messy.account.projects.pop(-2)  # the last one is the internal project
    for _ in range(4):
        result = messy.run("sync_inventory")
        assert result.success, failures(result)
    assert messy.rows("select deleted_at is null from arcadia.cloud_projects where name = 'short-lived'") == [(False,)]


def test_a_token_that_may_not_create_the_internal_project_is_a_warning(sky):
    sky.account.may_create_projects = False
    assert sky.run("sync_inventory").success
    assert sky.rows("select count(*) from arcadia.cloud_resources where cloud_project_id is null")[0][0] > 0


@pytest.mark.parametrize("shown", [True, False])
def test_an_internal_project_that_another_sync_made_meanwhile_is_not_missed(sky, shown, caplog):
    made = items.project("7b1e8f5a-0b1c-4ea3-8ad0-2ab4a4a9d9c5", "skyai-internal", created_at="2026-05-12T06:00:00Z")

    class MeanwhileMade(list):
        def append(self, request):
            super().append(request)
            if request[0] == "POST":
                sky.account.projects.append(made)
            elif ("POST", "/v2/projects", {}) in self and not shown:
                sky.account.projects[:] = [project for project in sky.account.projects if project is not made]

    sky.server.requests = MeanwhileMade()
    result = sky.run("sync_inventory", assets=["projects"])
    assert result.success
    posts_and_after = [request[:2] for request in sky.server.requests if request[1] == "/v2/projects"][1:]
    assert posts_and_after == [("POST", "/v2/projects"), ("GET", "/v2/projects")]
    assert sky.rows("select name from arcadia.cloud_projects where name = 'skyai-internal'") == [("skyai-internal",)] * shown
    assert metadata(result, "projects")["requests"] == 3
    assert ("could not be created" in caplog.text) is not shown


def test_an_empty_internal_project_turns_it_off(sky, monkeypatch):
    monkeypatch.setenv("ARCADIA_INTERNAL_PROJECT", "")
    assert sky.run("sync_inventory").success
    assert "POST" not in {method for method, _, _ in sky.server.requests}


def test_mass_deletion_is_withheld_until_the_operator_allows_it_for_a_run(messy):
    messy.account.domains = [items.domain(f"zone-{number}.example") for number in range(40)]
    messy.run("sync_inventory")
    messy.account.domains = messy.account.domains[:20]
    for _ in range(3):
        result = messy.run("sync_inventory")
    assert "allow_mass_deletion" in failures(result)["domains"]
    assert messy.active()["dns_zone"] == 40
    allowed = messy.run("sync_inventory", config={"ops": {"domains": {"config": {"allow_mass_deletion": True}}}})
    assert allowed.success
    assert messy.active()["dns_zone"] == 20


def test_an_invoice_that_cannot_be_read_leaves_the_others_alone(sky):
    bad = sky.account.invoices[0]
    bad.items[3] = bad.items[3] | {"amount": "a lot"}
    sky.run("discover_invoices")
    (result,) = sky.ingest()
    assert not result.success
    assert "1 of 137 invoices" in failures(result)["cost_lines"]
    assert "a lot" in failures(result)["cost_lines"]
    assert dict(sky.rows("select status, count(*) from arcadia.cloud_invoices group by 1")) == {"ingested": 136, "failed": 1, "preview": 1}
    assert len(sky.instance.get_materialized_partitions(dg.AssetKey("cost_lines"))) == 136
    bad.items[3] = bad.items[3] | {"amount": "1.00"}
    (again,) = sky.ingest()
    assert again.success
    assert again.dagster_run.tags["dagster/asset_partition_range_start"].startswith("2026-04_")


def test_another_accounts_invoice_is_neither_asked_for_nor_ingested(locate):
    sky = locate(sky_ai_account())
    sky.run("discover_invoices")
    messy = locate(messy_account())
    key = sky.instance.get_dynamic_partitions("invoices")[0]
    messy.run("discover_invoices")
    assert sense(messy).skip_message == "Every known invoice is ingested."
    messy.instance = sky.instance
    result = messy.run("ingest_invoices", tags=range_tags(key, key))
    assert "belongs to another account" in failures(result)["cost_lines"]


def test_several_invoices_of_one_month_are_kept_apart(messy):
    for number in (1, 2):
        line = sky_ai_account().invoices[0].items[0]
        messy.account.invoices.append(SimulatedInvoice(f"uuid-{number}", str(number), "2026-04", line["amount"], [line]))
    messy.run("discover_invoices")
    messy.ingest()
    assert messy.rows("select period::text, count(*) from arcadia.cloud_invoices where status = 'ingested' group by 1") == [
        ("2026-04-01", 2)
    ]


def test_planted_secrets_are_nowhere_in_the_ledger(messy):
    messy.everything()
    with messy.engine.connect() as conn:
        tables = conn.execute(text("select table_name from information_schema.tables where table_schema = 'arcadia'")).scalars().all()
        for table in tables:
            for row in conn.execute(text(f"select t::text from arcadia.{table} t")).scalars():
                assert items.PLANTED not in row
                assert messy.account.token not in row


# Checks


def run_check(location, name):
    job = dg.Definitions.merge(
        DEFINITIONS, dg.Definitions(jobs=[dg.define_asset_job("one_check", selection=dg.AssetSelection.checks(*[
            key for key in DEFINITIONS.resolve_asset_graph().asset_check_keys if key.name == name
        ]))])
    ).resolve_job_def("one_check")  # fmt: skip
    (evaluation,) = job.execute_in_process(instance=location.instance).get_asset_check_evaluations()
    return evaluation


@pytest.mark.parametrize(
    ("check", "damage"),
    [
        ("tombstones_are_proven", "update arcadia.resources set deleted_at = now(), stale_strike_count = 3 where kind = 'firewall'"),
        ("names_are_unique", "update arcadia.resources set name = 'twin' where kind = 'droplet'"),
        (
            "no_listing_left_open",
            "insert into arcadia.cloud_sync_runs (account_id, kind, started_at) select account_id, 'volume', now() + interval '-3 hours'"
            " from arcadia.cloud_accounts; delete from arcadia.cloud_sync_runs where kind = 'volume' and complete",
        ),
        ("no_secret_is_kept", "update arcadia.resources set attrs = '{\"password\": \"x\"}' where kind = 'firewall'"),
        ("no_secret_is_kept", "update arcadia.resources set attrs = '{\"host\": \"postgres://u:p@h/d\"}' where kind = 'firewall'"),
        ("no_secret_is_kept", "update arcadia.resources set attrs = '{\"note\": \"sky-ai-token\"}' where kind = 'firewall'"),
        ("invoices_add_up", "update arcadia.cloud_invoices set residual = 0.01 where period = '2026-04-01'"),
        ("documents_agree", "update arcadia.cloud_invoices set discrepancy = 'x' where period = '2026-04-01'"),
        ("invoices_are_ingested", "update arcadia.cloud_invoices set status = 'failed', error = 'x' where period = '2026-04-01'"),
        (
            "every_line_is_explained",
            "update arcadia.cloud_cost_lines set match_status = 'unmatched', resource_id = null, match_method = null,"
            ' match_detail = \'{"reason": "x"}\' where line_id = (select max(line_id) from arcadia.cloud_cost_lines)',
        ),
        (
            "no_unknown_product",
            "update arcadia.cloud_cost_lines set kind = null, match_status = 'unmatched', resource_id = null, match_method = null,"
            ' match_detail = \'{"reason": "x"}\' where line_id = (select max(line_id) from arcadia.cloud_cost_lines)',
        ),
        ("no_match_contradicts_its_line", "update arcadia.resources set kind = 'volume' where kind = 'snapshot'"),
        ("no_match_contradicts_its_line", "update arcadia.cloud_cost_lines set resource_id = -1 where resource_id is not null"),
    ],
)
def test_a_check_passes_on_a_sound_ledger_and_fails_on_a_damaged_one(sky, check, damage):
    sky.account.invoices = sky.account.invoices[:2]
    sky.account.billing_history = []
    sky.everything()
    assert run_check(sky, check).passed
    with sky.engine.begin() as conn:
        for statement in damage.split("; "):
            conn.exec_driver_sql(statement)
    assert not run_check(sky, check).passed


# Schedules and the sensor


def tick(name, instance):
    schedule = DEFINITIONS.resolve_schedule_def(name)
    with dg.build_schedule_context(instance=instance, scheduled_execution_time=datetime(2026, 5, 12, tzinfo=UTC)) as context:
        return schedule.evaluate_tick(context)


@pytest.mark.parametrize("job", [*INVENTORY_JOBS, "record_balance", "discover_invoices"])
def test_a_schedule_skips_with_the_reason_while_no_token_is_configured(monkeypatch, tmp_path, job):
    instance = dg.DagsterInstance.local_temp(str(tmp_path))
    skipped = tick(f"{job}_schedule", instance)
    assert skipped.run_requests == []
    assert "DO_API_TOKEN" in skipped.skip_message
    monkeypatch.setenv("DO_API_TOKEN", "x")
    assert len(tick(f"{job}_schedule", instance).run_requests) == 1


def test_a_schedule_skips_while_the_previous_run_is_queued_or_running(monkeypatch, tmp_path):
    monkeypatch.setenv("DO_API_TOKEN", "x")
    instance = dg.DagsterInstance.local_temp(str(tmp_path))
    for status, runs in ((dg.DagsterRunStatus.NOT_STARTED, 0), (dg.DagsterRunStatus.STARTED, 0), (dg.DagsterRunStatus.SUCCESS, 1)):
        instance.wipe()
        instance.add_run(dg.DagsterRun(job_name="sync_inventory", status=status))
        assert len(tick("sync_inventory_schedule", instance).run_requests) == runs
        assert len(tick("sync_snapshots_schedule", instance).run_requests) == 1


def test_a_killed_commands_run_does_not_hold_up_the_schedule(monkeypatch, tmp_path):
    monkeypatch.setenv("DO_API_TOKEN", "x")
    instance = dg.DagsterInstance.local_temp(str(tmp_path))
    child = subprocess.Popen(["sleep", "60"])
    began = psutil.Process(child.pid).create_time()
    tags = {**process_tags(), "arcadia/process": f"{child.pid} {began}"}
    run = instance.add_run(dg.DagsterRun(job_name="sync_inventory", status=dg.DagsterRunStatus.STARTED, tags=tags))
    assert "still started" in tick("sync_inventory_schedule", instance).skip_message
    child.kill()
    child.wait()
    assert len(tick("sync_inventory_schedule", instance).run_requests) == 1
    assert instance.get_run_by_id(run.run_id).status == dg.DagsterRunStatus.FAILURE


def sense(location):
    with dg.build_sensor_context(instance=location.instance, resources={"ledger": Ledger()}) as context:
        return uningested_invoices(context)


def test_the_sensor_asks_for_the_whole_history_in_one_run_then_for_nothing(sky):
    sky.run("discover_invoices")
    (request,) = sense(sky).run_requests
    keys = sky.instance.get_dynamic_partitions("invoices")
    assert request.tags == range_tags(keys[0], keys[-1])
    assert sky.run("ingest_invoices", tags=request.tags).success
    assert "Every known invoice is ingested" in sense(sky).skip_message


def test_the_sensor_skips_without_a_token_and_while_a_run_is_in_progress(sky, monkeypatch):
    sky.run("discover_invoices")
    sky.instance.add_run(dg.DagsterRun(job_name="ingest_invoices", status=dg.DagsterRunStatus.STARTED))
    assert "still started" in sense(sky).skip_message
    monkeypatch.delenv("DO_API_TOKEN")
    assert "No DigitalOcean token" in sense(sky).skip_message


def test_the_sensor_adds_partitions_that_dagsters_storage_does_not_know(sky):
    sky.run("discover_invoices")
    sky.instance = dg.DagsterInstance.ephemeral()
    result = sense(sky)
    assert len(result.run_requests) == 1
    assert len(result.dynamic_partitions_requests[0].partition_keys) == 137


def test_a_failed_invoice_is_not_tried_at_every_tick(sky):
    sky.account.invoices[0].items[0]["amount"] = ""
    sky.run("discover_invoices")
    sky.ingest()
    assert waiting_invoices(sky.engine) == []
    with sky.engine.begin() as conn:
        conn.execute(text("update arcadia.cloud_invoices set tried_at = now() - interval '25 hours' where status = 'failed'"))
    assert len(waiting_invoices(sky.engine)) == 1


@pytest.mark.parametrize(
    ("wanted", "ranges"),
    [("abcd", [("a", "d")]), ("acd", [("a", "a"), ("c", "d")]), ("", []), ("xb", [("b", "b")]), ("ad", [("a", "a"), ("d", "d")])],
)
def test_wanted_partitions_become_ranges_of_neighbours(wanted, ranges):
    assert neighbours(wanted, list("abcd")) == ranges


def test_retention_deletes_old_runs_and_keeps_partition_history(sky):
    sky.run("sync_snapshots", "sync_snapshots", "discover_invoices")
    sky.ingest()
    again = sky.instance.get_dynamic_partitions("invoices")[0]
    for _ in range(2):
        sky.run("ingest_invoices", tags=range_tags(again, again))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("arcadia_dagster.defs.ops.retention.KEEP_DAYS", -1)
        patch.setattr("arcadia_dagster.defs.ops.retention.KEEP_LEDGER_DAYS", -1)
        assert sky.run("prune_runs").success
    left = [run.job_name for run in sky.instance.get_runs()]
    # Of the invoices the run of all, and of the two after it the second.
    assert sorted(left) == ["discover_invoices", "ingest_invoices", "ingest_invoices", "prune_runs", "sync_snapshots"]
    assert len(sky.instance.get_materialized_partitions(dg.AssetKey("cost_lines"))) == 137
    # Two syncs of snapshots have been, of which the first one discovered them.
    assert sky.rows("select count(*), count(distinct started_at) from arcadia.cloud_sync_runs where kind = 'snapshot'") == [(2, 2)]
    storage = sky.instance.event_log_storage
    with storage.index_connection() as connection:
        results = connection.execute(select(AssetCheckExecutionsTable.c.asset_key, AssetCheckExecutionsTable.c.check_name)).all()
    assert len(results) == len(set(results)) > 5
