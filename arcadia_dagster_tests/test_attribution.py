"""Attribution: which project a resource belongs to, and what a walk of the projects does to the ledger."""

from datetime import timedelta

import pytest
from sqlalchemy import text

from arcadia_dagster.digitalocean.kinds import KINDS, Resource, spell_attrs
from arcadia_dagster.digitalocean.urns import parse_urn
from arcadia_dagster.ledger import attribution
from arcadia_dagster.ledger.accounts import account_of_team
from arcadia_dagster.ledger.attribution import WALK, attribute, record_walk
from arcadia_dagster.ledger.reconcile import begin, reconcile
from arcadia_dagster_tests.books import rows_read

INTERNAL = "skyai-internal"


class Account:
    """Drives listings and walks of one account, and reads back what came of them."""

    def __init__(self, engine, team="team-1"):
        self.engine = engine
        self.id = account_of_team(engine, team_uuid=team, name=team)

    def listing(self, kind, *items):
        run = begin(self.engine, account_id=self.id, kind=kind)
        return reconcile(self.engine, run, items, strike_interval=timedelta(0))

    def walk(self, memberships, error=None):
        run = begin(self.engine, account_id=self.id, kind=WALK)
        found = {parse_urn(urn): project for urn, project in memberships.items()}
        return record_walk(self.engine, run, found, requests=1, error=error, strike_interval=timedelta(0))

    def attribute(self, internal=INTERNAL):
        return attribute(self.engine, self.id, internal_project=internal)

    def rows(self, query):
        with self.engine.connect() as conn:
            return conn.execute(text(query), {"account_id": self.id}).all()

    def projects(self):
        """kind:provider_id -> (project name, attribution source) of what is active."""
        return {
            f"{row.kind}:{row.provider_id}": (row.project, row.attribution_source)
            for row in self.rows(
                "select r.kind, r.provider_id, p.name as project, attribution_source from arcadia.cloud_resources r"
                " left join arcadia.cloud_projects p using (cloud_project_id) where r.account_id = :account_id and r.deleted_at is null"
            )
        }

    def moves(self):
        return [
            row.changes["project"]
            for row in self.rows(
                "select changes from arcadia.cloud_resource_events where account_id = :account_id and changes ? 'project' order by event_id"
            )
        ]


@pytest.fixture
def account(engine):
    account = Account(engine)
    account.listing("project", project("p-web", "web"), project("p-db", "db"), project("p-int", INTERNAL))
    return account


def project(provider_id, name):
    return Resource(provider_id=provider_id, name=name, attrs=spell_attrs({"is_default": name == "web"}))


def thing(provider_id, **fields):
    return Resource(provider_id=provider_id, name=f"thing-{provider_id}", **fields)


def test_membership_own_project_and_fallback(account):
    account.listing("droplet", thing("1"), thing("2"))
    account.listing("load_balancer", thing("lb", own_project_id="p-db"))
    account.walk({"do:droplet:1": "p-web", "do:loadbalancer:lb": "p-web"})
    account.attribute()
    assert account.projects() == {
        "droplet:1": ("web", "membership"),
        "droplet:2": (INTERNAL, "fallback"),
        "load_balancer:lb": ("db", "own_project_id"),  # the object's own word wins
    }


def test_nothing_falls_back_before_a_walk_has_shown_that_it_is_in_no_project(account):
    account.listing("droplet", thing("1"))
    account.attribute()
    assert account.projects() == {"droplet:1": (None, None)}
    account.walk({"do:droplet:1": "p-web"})
    account.attribute()
    assert account.projects() == {"droplet:1": ("web", "membership")}
    assert account.moves() == []


def test_what_a_walk_no_longer_shows_keeps_its_project_until_it_is_seen_again(account):
    account.listing("droplet", thing("1"), thing("2"))
    account.walk({"do:droplet:1": "p-web", "do:droplet:2": "p-db", "do:newthing:3": "p-web"})
    account.attribute()
    before = account.projects()
    account.walk({"do:newthing:3": "p-web"})
    account.attribute()
    assert account.projects() == before
    account.listing("droplet", thing("2"))  # the other was destroyed
    account.attribute()
    account.walk({})
    account.attribute()
    assert account.projects() == before | {"droplet:2": (INTERNAL, "fallback")}
    assert account.moves() == [{"before": "db", "after": INTERNAL}]


def test_between_a_walk_and_what_it_means_for_its_kinds_nothing_moves(account, monkeypatch):
    """Another process may attribute there, or this one end."""
    account.walk({"do:newthing:3": "p-web"})
    account.attribute()
    before = account.projects()
    monkeypatch.setattr(attribution, "reconcile", lambda *_, **__: account.attribute())
    account.walk({})
    account.attribute()
    assert (account.projects(), account.moves()) == (before, [])


def test_snapshots_and_backups_inherit_even_from_what_is_gone(account):
    account.listing("droplet", thing("1"), thing("2"))
    account.walk({"do:droplet:1": "p-web", "do:droplet:2": "p-db"})
    account.attribute()
    for _ in range(3):
        account.listing("droplet", thing("1"))
    of = {"parent_kind": "droplet"}
    account.listing("snapshot", thing("s1", parent_provider_id="1", **of), thing("s2", parent_provider_id="2", **of))
    account.listing("droplet_backup", thing("b1", parent_provider_id="1", **of), thing("b9", parent_provider_id="9", **of))
    account.attribute()
    assert account.projects() == {
        "droplet:1": ("web", "membership"),
        "snapshot:s1": ("web", "inherited"),
        "snapshot:s2": ("db", "inherited"),
        "droplet_backup:b1": ("web", "inherited"),
        "droplet_backup:b9": (INTERNAL, "fallback"),  # nobody knows what it was taken of
    }


def test_a_child_of_what_fell_back_inherits_in_the_same_pass(account):
    account.listing("droplet", thing("1"))
    account.listing("snapshot", thing("s1", parent_kind="droplet", parent_provider_id="1"))
    account.walk({})
    account.attribute()
    assert account.projects() == {"droplet:1": (INTERNAL, "fallback"), "snapshot:s1": (INTERNAL, "inherited")}
    assert account.attribute() == 0


def test_without_an_internal_project_orphans_stay_without_one(account):
    account.listing("droplet", thing("1"))
    account.walk({})
    account.attribute(internal=None)
    assert account.projects() == {"droplet:1": (None, None)}


def test_a_move_between_projects_is_drift_with_both_names(account):
    account.listing("droplet", thing("1"))
    account.walk({"do:droplet:1": "p-web"})
    account.attribute()
    account.walk({"do:droplet:1": "p-db"})
    account.attribute()
    account.attribute()
    assert account.moves() == [{"before": "web", "after": "db"}]


@pytest.mark.parametrize(
    ("urn", "kind", "provider_id"),
    [
        ("do:floatingip:45.55.96.47", "reserved_ip", "45.55.96.47"),
        ("do:reservedip:45.55.96.47", "reserved_ip", "45.55.96.47"),
        ("do:reservedipv6:fd53:616d:6d60::dc9:c001", "reserved_ipv6", "fd53:616d:6d60::dc9:c001"),
        ("do:floatingipv6:fd53::1", "reserved_ipv6", "fd53::1"),
        ("do:loadbalancer:lb", "load_balancer", "lb"),
        ("do:dbaas:x", "managed_db", "x"),
        ("do:space:assets", "spaces_bucket", "assets"),
        ("do:domain:example.com", "dns_zone", "example.com"),
        ("do:volumesnapshot:v", "snapshot", "v"),
        ("do:image:7", "snapshot", "7"),
        ("do:kubernetes:k", "k8s_cluster", "k"),
        ("do:app:a", "app", "a"),
        ("do:teleporter:t", "teleporter", "t"),
    ],
)
def test_every_urn_name_leads_to_its_kind(urn, kind, provider_id):
    assert parse_urn(urn) == (kind, provider_id)


@pytest.mark.parametrize("text", ["", "droplet:1", "do:droplet", "do:droplet:", "do::1", "aws:droplet:1"])
def test_what_is_no_urn_is_an_error(text):
    with pytest.raises(ValueError, match="not a DigitalOcean URN"):
        parse_urn(text)


def test_no_two_kinds_claim_one_urn_name():
    names = [name for kind in KINDS.values() for name in kind.urn_names]
    assert len(names) == len(set(names))


def test_two_spellings_of_one_thing_are_one_row(account):
    account.listing("reserved_ip", thing("45.55.96.47"))
    account.walk({"do:floatingip:45.55.96.47": "p-web"})
    account.attribute()
    account.walk({"do:reservedip:45.55.96.47": "p-web"})
    account.attribute()
    assert account.projects() == {"reserved_ip:45.55.96.47": ("web", "membership")}


def test_kinds_without_a_listing_get_a_placeholder_that_strikes_out(account):
    found = {"do:gate:a": "p-web", "do:gate:b": "p-web", "do:teleporter:t": "p-db", "do:droplet:404": "p-web", "do:app:x": "p-web"}
    account.walk(found)
    account.attribute()
    assert account.projects() == {
        "gate:a": ("web", "membership"),
        "gate:b": ("web", "membership"),
        "teleporter:t": ("db", "membership"),
    }  # no row for the droplet and the app: they have a listing of their own
    del found["do:gate:b"]
    del found["do:teleporter:t"]  # the last one of its kind
    for _ in range(3):
        account.walk(found)
    assert account.projects().keys() == {"gate:a"}


def test_an_incomplete_walk_takes_nothing_away_and_adds_what_it_saw(account):
    account.listing("droplet", thing("1"), thing("2"))
    account.walk({"do:droplet:1": "p-web", "do:gate:a": "p-web"})
    for _ in range(4):
        account.walk({"do:droplet:2": "p-db"}, error="project p-web: 502")
    account.attribute()
    assert account.projects() == {
        "droplet:1": ("web", "membership"),
        "droplet:2": ("db", "membership"),
        "gate:a": ("web", "membership"),
    }
    assert account.rows("select max(stale_strike_count) from arcadia.resources where account_id = :account_id") == [(0,)]


def test_a_tenant_set_by_the_operator_survives_every_sync_and_reaches_the_resources(account):
    account.listing("droplet", thing("1"))
    account.walk({"do:droplet:1": "p-web"})
    with account.engine.begin() as conn:
        conn.execute(text("update arcadia.cloud_projects set tenant_id = 'acme' where name = 'web'"))
    account.listing("project", project("p-web", "web (renamed)"), project("p-db", "db"), project("p-int", INTERNAL))
    account.attribute()
    assert account.rows("select tenant_id from arcadia.cloud_resources where account_id = :account_id") == [("acme",)]
    assert account.rows("select tenant_id from arcadia.cloud_projects where provider_id = 'p-web' and account_id = :account_id") == [
        ("acme",)
    ]


def test_accounts_never_share_projects(engine, account):
    other = Account(engine, "team-2")
    other.listing("droplet", thing("1"))
    other.walk({"do:droplet:1": "p-web"})  # a project id of the first account
    other.attribute()
    assert other.projects() == {"droplet:1": (None, None)}


def test_many_kinds_of_some_hundreds_each_are_attributed_as_one_of_many_thousands(engine, account):
    """A first sync is attributed before the server looks at its tables of itself; then each would be held against each."""
    with engine.begin() as conn:
        conn.execute(text("alter table arcadia.resources set (autovacuum_enabled = off)"))  # or it is analyzed now and then
    account.listing("project", Resource(provider_id="p", name="p"))
    account.listing("droplet", *(Resource(provider_id=str(number), name=f"web-{number}") for number in range(500)))
    parents = (Resource(provider_id=str(n), name="s", parent_kind="droplet", parent_provider_id=str(n)) for n in range(500))
    account.listing("snapshot", *parents)
    account.walk({"do:project:p": "p", **{f"do:droplet:{number}": "p" for number in range(500)}})
    before = rows_read(engine)
    assert account.attribute() == 1000
    assert rows_read(engine) - before < 20_000
    before = rows_read(engine)
    assert account.attribute() == 0
    assert rows_read(engine) - before < 3000  # once for the project of each, once for its tenant
