"""What attacks on whole runs have found, one test each: what a fault, a kill or a wrong clock once cost, it no longer does."""

import pytest
from sqlalchemy import text

from arcadia_dagster.demo import items
from arcadia_dagster.demo.account import SimulatedInvoice, messy_account
from arcadia_dagster.demo.server import SimulatedServer
from arcadia_dagster.demo.showcase import showcase_account
from arcadia_dagster.digitalocean.kinds import KINDS, Resource
from arcadia_dagster.ledger.reconcile import begin, reconcile
from arcadia_dagster_tests.chaos import world


@pytest.fixture
def attacked(engine, monkeypatch):
    """Runs on a fresh ledger, and the account they read."""
    opened = []

    def make(account):
        served = SimulatedServer([account]).start()
        runs = world.Runs(engine.url, served, account.token, monkeypatch)
        monkeypatch.setenv("ARCADIA_STRIKE_INTERVAL_SECONDS", "0")
        opened.append((served, runs))
        runs.server = served
        return runs, account

    yield make
    for served, runs in opened:
        runs.close()
        served.stop()


def active(runs, kind):
    return {name for (name,) in runs.rows("select provider_id from arcadia.resources where kind = :k and deleted_at is null", k=kind)}


def struck(runs):
    return runs.rows("select kind, provider_id, stale_strike_count from arcadia.resources where stale_strike_count > 0")


def left_open(runs):
    return runs.rows("select kind from arcadia.cloud_sync_runs where finished_at is null")


def one_invoice(account):
    line = showcase_account().invoices[0].items[0]
    account.invoices = [SimulatedInvoice("uuid-1", "1", "2026-04", line["amount"], [line])]
    return account.invoices[0]


def test_a_csv_that_could_not_be_had_is_fetched_by_the_next_sync(attacked):
    runs, account = attacked(messy_account())
    one_invoice(account)
    account.denied.add("/v2/customers/my/invoices/uuid-1/csv")
    assert runs.everything(["invoices"]) == {}
    query = "select status, csv_sha256 is not null, discrepancy is null from arcadia.cloud_invoices"
    assert runs.rows(query) == [("ingested", False, False)]
    account.denied.clear()
    assert runs.everything(["invoices"]) == {}
    assert runs.rows(query) == [("ingested", True, True)]
    asked = len(runs.server.requests)
    runs.everything(["invoices"])
    assert not any(path.endswith("/csv") for _, path, _ in runs.server.requests[asked:])


def test_items_that_come_empty_take_no_line_away_and_are_fetched_again(attacked):
    runs, account = attacked(messy_account())
    invoice = one_invoice(account)
    runs.everything(["invoices"])
    kept, invoice.items = invoice.items, []
    tags = world.range_tags(*[f"2026-04_{invoice.uuid}"] * 2)
    failed = world.failures(runs.job("ingest_invoices", tags=tags))
    assert "add up" in failed["cost_lines"]
    assert runs.rows("select count(*) from arcadia.cloud_cost_lines") == [(1,)]
    invoice.items = kept
    assert runs.everything(["invoices"]) == {}
    assert runs.rows("select status, residual, error from arcadia.cloud_invoices") == [("ingested", 0, None)]


def test_items_that_first_come_short_are_read_again_by_the_next_sync(attacked):
    runs, account = attacked(messy_account())
    invoice = one_invoice(account)
    kept, invoice.items = invoice.items, []
    runs.everything(["invoices"])
    invoice.items = kept
    runs.everything(["invoices"])
    assert runs.rows("select status, line_count, residual from arcadia.cloud_invoices") == [("ingested", 1, 0)]


def test_a_refused_image_list_strikes_no_backup_of_a_destroyed_droplet(attacked):
    runs, account = attacked(messy_account())
    account.backups[1] = [items.backup(99, "of the past", created_at="2026-01-01T00:00:00Z", size_gigabytes=1)]
    assert runs.everything(["droplet_backups"]) == {}
    account.denied.add("/v2/images")
    for _ in range(3):
        failed = runs.everything(["droplet_backups"])
    assert "image:read" in failed["droplet_backups"]
    assert struck(runs) == []
    account.denied.clear()
    assert runs.everything(["droplet_backups"]) == {}


def test_an_image_whose_type_cannot_be_read_may_be_a_backup(attacked):
    runs, account = attacked(messy_account())
    account.backups[1] = [items.backup(99, "of the past", created_at="2026-01-01T00:00:00Z", size_gigabytes=1)]
    assert runs.everything(["droplet_backups"]) == {}
    account.backups[1][0]["type"] = [None]
    failed = runs.everything(["droplet_backups"])
    assert "whether it is a backup" in failed["droplet_backups"]
    assert struck(runs) == []


def test_no_region_is_no_list_of_regions(attacked, monkeypatch):
    runs, _ = attacked(showcase_account())
    runs.everything(["nfs_shares", "nfs_snapshots"])
    monkeypatch.setattr(items, "REGIONS", {})
    for _ in range(3):
        failed = runs.everything(["nfs_shares", "nfs_snapshots"])
    assert failed.keys() == {"nfs_shares", "nfs_snapshots"}
    assert struck(runs) == []


def test_no_project_is_no_list_of_projects(attacked):
    runs, account = attacked(messy_account())
    account.may_create_projects = False
    scope = ["projects", "project_resources", "droplets"]
    runs.everything(scope)
    account.projects.clear()
    for _ in range(3):
        failed = runs.everything(scope)
    assert "default project" in failed["projects"]
    assert struck(runs) == []


@pytest.mark.parametrize(
    ("asset", "where", "field", "value"),
    [
        ("spaces_buckets", "spaces_keys", "grants", [None, 5]),
        ("spaces_buckets", "spaces_keys", "grants", 5),
        ("droplets", "droplets", "tags", 5),
        ("droplets", "droplets", "size", {"price_monthly": "a lot"}),
        ("droplets", "droplets", "size", {"price_monthly": True}),
        ("droplets", "droplets", "name", "with a \0 in it"),
        ("droplets", "droplets", "image", {"name": "with a \0 in it"}),
        ("droplets", "droplets", "created_at", "0001-01-01T00:00:00+05:00"),
        ("database_replicas", "databases", "engine", [None]),
        ("droplet_backups", "droplets", "backup_ids", 5),
        ("droplet_backups", "droplets", "backup_ids", [None]),
        ("droplet_backups", "droplets", "features", 5),
    ],
)
def test_a_field_of_an_unexpected_type_is_a_sentence_or_harmless_and_leaves_no_listing_open(attacked, asset, where, field, value):
    runs, account = attacked(showcase_account())
    if asset == "spaces_buckets":
        assert runs.everything(["projects", "project_resources", asset]) == {}
    assert runs.everything([asset]).keys() <= {"spaces_buckets"}
    before = active(runs, world.KIND_OF[asset])
    kept = getattr(account, where)
    kept[0] = {**kept[0], field: value}
    failed = runs.everything([asset])
    assert "UNNAMED" not in str(failed)
    assert left_open(runs) == []
    assert active(runs, world.KIND_OF[asset]) == before
    assert asset == "droplet_backups" or struck(runs) == []


def test_a_urn_that_is_no_text_is_a_sentence(attacked):
    runs, account = attacked(messy_account())
    scope = ["projects", "project_resources"]
    runs.everything(scope)
    next(iter(account.project_resources.values()))[0]["urn"] = 5
    failed = runs.everything(scope)
    assert "is not a DigitalOcean URN" in failed["project_resources"]
    assert left_open(runs) == []


@pytest.mark.parametrize(
    "change",
    [
        lambda account: account.billing_history[0].update(invoice_uuid=["x"]),
        lambda account: setattr(account.invoices[0], "invoice_id", ["x"]),
        lambda account: setattr(account.invoices[0], "amount", "1e999999"),
    ],
)
def test_an_invoice_list_with_a_field_of_an_unexpected_type_is_a_sentence(attacked, change):
    runs, account = attacked(showcase_account())
    change(account)
    failed = runs.everything(["invoices"])
    assert not failed["invoices"].startswith("UNNAMED"), failed
    assert left_open(runs) == []


def test_ids_of_invoices_may_be_numbers(attacked):
    runs, account = attacked(messy_account())
    invoice = one_invoice(account)
    runs.everything(["invoices"])
    invoice.invoice_id = 1
    assert runs.everything(["invoices"]) == {}
    assert runs.rows("select invoice_id, status from arcadia.cloud_invoices") == [("1", "ingested")]


@pytest.mark.parametrize("generated_at", ["yesterday", 5, ["x"]])
def test_a_balance_of_no_known_time_is_a_sentence(attacked, generated_at):
    runs, account = attacked(messy_account())
    account.balance["generated_at"] = generated_at
    sentence = runs.everything(["balance_snapshots"])["balance_snapshots"]
    assert "balance" in sentence
    assert not sentence.startswith("UNNAMED"), sentence


def test_an_invoice_that_only_the_history_shows_for_now_keeps_its_month(attacked):
    runs, account = attacked(messy_account())
    invoice = one_invoice(account)  # made within its month, which the history alone does not say
    account.billing_history = [
        {"type": "Invoice", "invoice_uuid": invoice.uuid, "amount": invoice.amount, "date": "2026-04-20T00:00:00Z", "invoice_id": "1"}
    ]
    runs.everything(["invoices"])
    account.invoices = []
    runs.everything(["invoices"])
    assert runs.rows("select period::text, status from arcadia.cloud_invoices") == [("2026-04-01", "ingested")]
    assert runs.instance.get_dynamic_partitions("invoices") == [f"2026-04_{invoice.uuid}"]


def test_a_team_that_is_no_object_is_no_other_account(attacked, monkeypatch):
    runs, account = attacked(messy_account())
    runs.everything(["droplets"])
    user = account.user()
    monkeypatch.setattr(account, "user", lambda: {**user, "team": []}, raising=False)
    assert "no account uuid" in runs.everything(["droplets"])["droplets"]
    assert runs.rows("select count(*) from arcadia.cloud_accounts") == [(1,)]


def test_lines_are_matched_by_the_next_sync_where_a_kill_came_before_it(attacked):
    runs, account = attacked(messy_account())
    line = {**showcase_account().invoices[0].items[0], "description": "web-01 (s-1vcpu-1gb)", "resource_id": "", "resource_uuid": ""}
    account.invoices = [SimulatedInvoice("uuid-1", "1", "2026-04", line["amount"], [line])]
    runs.everything(["invoices"])
    query = "select match_status from arcadia.cloud_cost_lines"
    assert runs.rows(query) == [("unmatched",)]
    (account_id,) = runs.rows("select account_id from arcadia.cloud_accounts")[0]
    droplet = KINDS["droplet"].read(account.droplets[0])
    assert isinstance(droplet, Resource)
    reconcile(runs.engine, begin(runs.engine, account_id=account_id, kind="droplet"), [droplet])  # and then it was killed
    account.droplets[1:] = []
    runs.everything(["droplets"])
    assert runs.rows(query) == [("matched",)]


def test_a_database_whose_clock_went_back_goes_on_recording(attacked):
    """The same as if what is in the ledger had been written by a clock that was a day ahead."""
    runs, account = attacked(messy_account())
    scope = ["projects", "droplets", "project_resources"]
    gone = account.droplets.pop()
    account.droplets.append(gone)
    runs.everything(scope)
    account.droplets.remove(gone)
    runs.everything(scope)
    assert [strikes for _, _, strikes in struck(runs)] == [1]
    with runs.engine.begin() as conn:
        conn.execute(text("update arcadia.listings set started_at = started_at + interval '1 day'"))
        conn.execute(
            text(
                "update arcadia.resources set last_struck_at = last_struck_at + interval '1 day',"
                " first_seen_at = first_seen_at + interval '1 day'"
            )
        )
    fallen_back = "select provider_id from arcadia.resources where attribution_source = 'fallback' order by 1"
    internal = runs.rows(fallen_back)
    assert internal
    account.droplets[0]["tags"] = ["found"]
    runs.everything(scope)
    assert runs.rows(fallen_back) == internal
    assert runs.rows("select count(*) from arcadia.resources where tags = '{found}'") == [(1,)]
    assert [strikes for _, _, strikes in struck(runs)] == [1]  # when it was struck is not known, so this listing only says since when
    runs.everything(scope)
    runs.everything(scope)
    assert str(gone["id"]) not in active(runs, "droplet")
