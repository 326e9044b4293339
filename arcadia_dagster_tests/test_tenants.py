"""The tenants' file, and who owns what by it: rules, projects, the fallback, hand-set tenants, events, the command and the asset."""

import contextlib
import re
import uuid
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from arcadia_dagster.demo.showcase import showcase_account
from arcadia_dagster.digitalocean.kinds import Resource
from arcadia_dagster.ledger.access import tenant_role
from arcadia_dagster.ledger.attribution import attribute
from arcadia_dagster.ledger.reconcile import begin, reconcile
from arcadia_dagster.ledger.tenants import apply, assign
from arcadia_dagster.ledger.tenants_file import Declaration, Rule, Tenant, TenantsFileError, read_tenants
from arcadia_dagster_tests.books import Books, droplet, item
from arcadia_dagster_tests.commands import arcadia
from arcadia_dagster_tests.test_dagster import Location, failures, metadata

GOOD = """\
fallback: shared
tenants:
  - id: acme
    name: Acme Corporation
    rules:
      - project: web
      - tag: team:acme
      - name: "acme-*"
        kind: droplet
  - id: shared
    name: Shared platform
"""


# The file


def read(tmp_path, content):
    file = tmp_path / "tenants.yaml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_tenants(file)


def problems(tmp_path, content):
    with pytest.raises(TenantsFileError) as raised:
        read(tmp_path, content)
    assert all(one.startswith(f"{tmp_path}/tenants.yaml:") for one in raised.value.problems)
    return [one.removeprefix(f"{tmp_path}/tenants.yaml:") for one in raised.value.problems]


def test_a_good_file(tmp_path):
    rules = (Rule(project="web"), Rule(tag="team:acme"), Rule(name="acme-*", kind="droplet"))
    acme = Tenant(tenant_id="acme", name="Acme Corporation", rules=rules)
    expected = Declaration(tenants=(acme, Tenant(tenant_id="shared", name="Shared platform")), fallback="shared")
    assert read(tmp_path, GOOD) == expected
    assert read(tmp_path, b"\xef\xbb\xbf" + GOOD.encode()) == expected


def test_anchors_are_fine(tmp_path):
    content = "fallback: a\ntenants:\n- {id: a, name: &n A, rules: &r [{tag: x}]}\n- {id: b, name: *n, rules: *r}\n"
    assert [tenant.rules for tenant in read(tmp_path, content).tenants] == [(Rule(tag="x"),)] * 2


def test_every_problem_is_told_with_its_line(tmp_path):
    content = """\
fallback: nobody
colour: red
tenants:
  - id: Acme
    name: 7
    rules:
      - project: web
        tag: x
      - kind: droplet
      - tag: y
        kind: dropplet
      - project: web
        kind: droplet
      - label: z
      - just text
  - id: two
    id: three
    rules: all of it
  - id: two
    name: ""
"""
    assert problems(tmp_path, content) == [
        "1: fallback 'nobody' is none of the tenants",
        "2: the file has no key 'colour'; it has fallback, tenants",
        "4: id 'Acme' must be a letter and up to 39 letters, digits or underscores, all lower case",
        "5: name must be text; put it in quotes if it is",
        "7: a rule has one of project, tag and name, not project and tag",
        "9: a rule has one of project, tag and name, not none",
        "11: there is no kind 'dropplet' of resources",
        "13: kind goes with tag or name: a project rule gives all that is in the project",
        "14: a rule has no key 'label'; it has project, tag, name, kind",
        "14: a rule has one of project, tag and name, not none",
        "15: a rule must have the keys project, tag, name, kind",
        "16: a tenant needs the key name",
        "17: a tenant has the key id twice",
        "18: rules must be a list",
        "19: id 'two' is already the tenant of line 16",
        "20: name is empty",
    ]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", ["1: the file is empty; it must name tenants and a fallback"]),
        ("# nothing\n", ["1: the file is empty; it must name tenants and a fallback"]),
        ("just text", ["1: the file must have the keys fallback, tenants"]),
        ("fallback: a\ntenants: [\n", ["3: this is not YAML: expected the node content, but found '<stream end>'"]),
        ("fallback: a\n---\nfallback: b\n", ["2: this is not YAML: but found another document"]),
        (b"fallback: a\ntenants: \xff\n", ["2: this is no UTF-8 text"]),
        ("fallback: a\n\x01", ["2: this is not YAML: it holds a character that is not allowed"]),
        ("[" * 3000, ["1: this is not YAML that can be read: it is nested too deeply"]),
        ("fallback: a\ntenants: []\n", ["2: tenants must name one at least"]),
        ("fallback: a\n", ["1: the file needs the key tenants"]),
        ("fallback: a\ntenants: {a: b}\n", ["2: tenants must be a list"]),
        ('fallback: a\ntenants: [{id: a, name: "x\\0y"}]\n', ["2: name holds a character that cannot be printed"]),
        ("fallback: a\ntenants: [{id: a, name: A, <<: {name: B}}]\n", ["2: a tenant has no key '<<'; it has id, name, rules"]),
        ("fallback: a\ntenants: [{id: a, name: A, [x]: y}]\n", ["2: a tenant has a key that is no text"]),
        (f"fallback: a\ntenants: [{{id: a, name: A}}, {{id: {'b' * 41}, name: B}}]\n",
         [f"2: id '{'b' * 41}' must be a letter and up to 39 letters, digits or underscores, all lower case"]),
    ],
)  # fmt: skip
def test_what_is_no_declaration(tmp_path, content, told):
    assert problems(tmp_path, content) == told


@settings(max_examples=50, deadline=None)
@given(st.one_of(st.text(), st.binary(), st.text(alphabet="fallback: tenants\n-[]{}&*a'\"").map("fallback: a\ntenants:\n".__add__)))
def test_whatever_is_in_the_file_it_is_read_or_told(tmp_path_factory, content):
    file = content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass")
    with contextlib.suppress(TenantsFileError):
        declared = read(tmp_path_factory.getbasetemp(), file)
        assert declared.fallback in {tenant.tenant_id for tenant in declared.tenants}


# Who owns what


class Owners:
    """Tenants of these short names in one ledger; the real ids are this test's own, as their roles are the whole server's."""

    def __init__(self, engine):
        self.books = Books(engine)
        self.engine = engine
        self.tail = f"_{uuid.uuid4().hex[:8]}"
        self.used = set()

    def apply(self, *, fallback="f", **rules):
        """Each name with its rules, in this order; then the fallback."""
        self.used |= {fallback, *rules}
        tenants = [Tenant(tenant_id=name + self.tail, name=name, rules=tuple(some)) for name, some in rules.items()]
        if fallback not in rules:
            tenants.append(Tenant(tenant_id=fallback + self.tail, name=fallback))
        return apply(self.engine, Declaration(tenants=tuple(tenants), fallback=fallback + self.tail))

    def attribute(self, **options):
        return attribute(self.engine, self.books.id, internal_project=None, **options)

    def short(self, tenant):
        return tenant and tenant.removesuffix(self.tail)

    def of(self, view="cloud_resources"):
        return {row.name: self.short(row.tenant_id) for row in self.books.rows(f"select name, tenant_id from arcadia.{view}")}

    def moves(self):
        query = "select changes -> 'tenant' as c, event from arcadia.cloud_resource_events where changes ? 'tenant' order by event_id"
        return [(row.event, self.short(row.c["before"]), self.short(row.c["after"])) for row in self.books.rows(query)]

    def by_hand(self, project, tenant):
        with self.engine.begin() as conn:
            conn.execute(text("update arcadia.cloud_projects set tenant_id = :t where name = :n"), {"t": tenant, "n": project})

    def versions(self):
        return self.books.rows("select resource_id, xmin::text from arcadia.resources order by 1")

    def close(self):
        roles = ", ".join(tenant_role(name + self.tail) for name in self.used)
        with self.engine.begin() as conn:
            conn.execute(text(f"drop role if exists {roles}"))


@pytest.fixture
def owners(engine):
    owners = Owners(engine)
    owners.books.inventory("project", Resource(provider_id="p-web", name="web"), Resource(provider_id="p-db", name="db"))
    yield owners
    if owners.used:
        owners.close()


def test_the_first_rule_that_fits_then_the_project_then_the_fallback(owners):
    things = [
        droplet(1, "acme-01", own_project_id="p-db", tags=("team:beta",)),
        droplet(2, "ACME-02"),
        droplet(3, "other", tags=("x", "team:beta"), own_project_id="p-web"),
        droplet(4, "in-web", own_project_id="p-web"),
        droplet(5, "in-db", own_project_id="p-db"),
        droplet(6, "nowhere"),
        droplet(7, "acme_02"),
    ]
    owners.books.inventory("droplet", *things)
    owners.books.inventory("volume", Resource(provider_id="v", name="acme-vol"))
    owners.attribute()
    assert owners.apply(
        acme=[Rule(name="acme-*", kind="droplet")], beta=[Rule(tag="team:beta"), Rule(project="p-db")], web=[Rule(project="web")]
    ).moved == len(things) + 3  # fmt: skip
    assert owners.of() == {
        "acme-01": "acme", "ACME-02": "acme", "other": "beta", "in-web": "web", "in-db": "beta", "nowhere": "f", "acme_02": "f",
        "acme-vol": "f",
    }  # fmt: skip
    assert owners.of("cloud_projects") == {"web": "web", "db": "beta"}
    assert owners.moves() == []  # to have a tenant for the first time is no change


def test_the_order_of_the_file_decides(owners):
    owners.books.inventory("droplet", droplet(1, "one", tags=("x",), own_project_id="p-web"))
    owners.attribute()
    owners.apply(a=[Rule(tag="x"), Rule(project="web")], b=[Rule(name="one"), Rule(project="p-web")])
    assert (owners.of(), owners.of("cloud_projects")["web"]) == ({"one": "a"}, "a")
    assert owners.apply(b=[Rule(name="one"), Rule(project="p-web")], a=[Rule(tag="x"), Rule(project="web")]).moved == 2
    assert (owners.of(), owners.of("cloud_projects")["web"]) == ({"one": "b"}, "b")
    assert owners.moves() == [("updated", "a", "b")] * 2


@pytest.mark.parametrize(
    ("glob", "fits", "not_"),
    [
        ("a?c", ["abc", "A-C"], ["ac", "abbc"]),
        ("*%", ["100%"], ["100"]),
        ("a_b", ["a_b"], ["axb"]),
        ("a\\b", ["a\\b"], ["ab"]),
        ("*", ["", "x"], []),
        ("[ab]", ["[ab]"], ["a"]),
        ("a", ["a"], ["ab", "ba"]),
    ],
)
def test_globs(owners, glob, fits, not_):
    owners.books.inventory("droplet", *(droplet(number, name) for number, name in enumerate([*fits, *not_])))
    owners.apply(a=[Rule(name=glob)])
    assert owners.of() == dict.fromkeys(fits, "a") | dict.fromkeys(not_, "f")


def test_a_tenant_set_by_hand_stays_where_no_rule_names_the_project(owners):
    owners.books.inventory("droplet", droplet(1, "one", own_project_id="p-web"), droplet(2, "two", own_project_id="p-db"))
    owners.by_hand("web", "mine")
    owners.attribute()
    assert owners.of() == {"one": "mine", "two": None}  # as without any file
    owners.apply(acme=[Rule(project="db")])
    assert owners.of() == {"one": "mine", "two": "acme"}
    owners.by_hand("db", "mine too")  # but a rule names it
    owners.attribute()
    owners.attribute()
    assert owners.of() == {"one": "mine", "two": "acme"}
    owners.apply(acme=[])  # what a rule gave is taken back
    assert owners.of() == {"one": "mine", "two": "f"}
    owners.by_hand("db", "mine too")
    owners.books.inventory("project", Resource(provider_id="p-web", name="renamed"), Resource(provider_id="p-db", name="db"))
    owners.attribute()
    assert owners.of() == {"one": "mine", "two": "mine too"}
    owners.apply(fallback="g")
    assert owners.of() == {"one": "mine", "two": "mine too"}


def test_the_fallback_follows_its_declaration(owners):
    owners.books.inventory("droplet", droplet(1, "one", own_project_id="p-web"), droplet(2, "two"))
    owners.attribute()
    owners.apply()
    applied = owners.apply(fallback="g")
    assert (applied.declared, applied.withdrawn, applied.moved) == (["g" + owners.tail], ["f" + owners.tail], 4)
    assert owners.of() == {"one": "g", "two": "g"}
    assert owners.of("cloud_projects") == {"web": "g", "db": "g"}


def test_what_is_gone_or_only_billed_has_a_tenant_too(owners):
    owners.books.gone("droplet", droplet(1, "gone-by-name"), droplet(2, "gone", own_project_id="p-web"))
    owners.attribute()
    owners.books.invoice(item("ghost (s)", rid=99), item("acme-ghost (s)", rid=98))
    owners.apply(acme=[Rule(name="gone-by-*"), Rule(name="acme-*")])
    assert owners.of() == {"gone-by-name": "acme", "gone": "f", "ghost": "f", "acme-ghost": "acme"}
    owners.books.invoice(item("acme-late (s)", rid=97))
    assert owners.of()["acme-late"] is None  # until attribution: nobody but admins and analysts sees it
    assert owners.attribute(gone_too=False) == 0
    assert owners.attribute() == 1
    assert owners.of()["acme-late"] == "acme"


def test_the_same_again_changes_nothing_and_writes_no_resource(owners):
    owners.books.inventory("droplet", droplet(1, "one", own_project_id="p-web"), droplet(2, "two", tags=("x",)))
    owners.attribute()
    rules = {"a": [Rule(tag="x"), Rule(project="web")], "b": [Rule(name="*", kind="volume")]}
    assert owners.apply(**rules).any
    before = owners.versions()
    assert not owners.apply(**rules).any
    assert owners.attribute() == 0
    assert owners.versions() == before


def test_changes_of_tenants_are_events(owners):
    owners.apply(a=[Rule(tag="x")])
    owners.apply(a=[Rule(tag="y", kind="droplet")])
    owners.apply()
    query = "select tenant_id, event, changes from arcadia.cloud_tenant_events where tenant_id like 'a%' order by event_id"
    declared, changed, withdrawn = owners.books.rows(query)
    assert [declared.event, changed.event, withdrawn.event] == ["declared", "changed", "withdrawn"]
    assert changed.changes == {"rules": {"before": [{"tag": "x"}], "after": [{"tag": "y", "kind": "droplet"}]}}
    assert withdrawn.changes["name"] == {"before": "a", "after": None}


def test_a_resource_that_is_tagged_moves_with_the_listing(owners):
    owners.books.inventory("droplet", droplet(1, "one"))
    owners.apply(a=[Rule(tag="x")])
    run = begin(owners.engine, account_id=owners.books.id, kind="droplet")
    reconcile(owners.engine, run, [droplet(1, "one", tags=("x",))], strike_interval=timedelta(0))
    assert attribute(owners.engine, owners.books.id, internal_project=None, sync_run_id=run.sync_run_id) == 1
    assert owners.moves() == [("updated", "f", "a")]
    assert owners.books.rows("select sync_run_id from arcadia.cloud_resource_events where changes ? 'tenant'") == [(run.sync_run_id,)]


def test_rules_reach_every_account(owners):
    other = Books(owners.engine, "team-2")
    other.inventory("droplet", droplet(1, "theirs", tags=("x",)))
    owners.apply(a=[Rule(tag="x")])
    assert [owners.short(row.tenant_id) for row in other.rows("select tenant_id from arcadia.cloud_resources where account_id = :a")] == [
        "a"
    ]


def test_a_project_that_was_renamed_still_owns_what_was_printed(owners):
    owners.books.invoice(item("zip (s)", project="web"), item("zap (s)", project="shop"), item("zup (s)", project="db"))
    owners.books.inventory("project", Resource(provider_id="p-web", name="shop"), Resource(provider_id="p-db", name="db"))
    owners.books.inventory("project", Resource(provider_id="p-web", name="shop"), Resource(provider_id="p-new", name="db"),
                           Resource(provider_id="p-db", name="data"))  # fmt: skip
    assert [row.tenant_id for row in owners.books.lines()] == [None] * 3  # no tenants, no tenant
    owners.apply(a=[Rule(project="p-web")], b=[Rule(project="p-db")], c=[Rule(project="p-new")])
    assert [owners.short(row.tenant_id) for row in owners.books.lines()] == ["a", "a", "f"]  # `db` may be b's or c's


# The command and the asset


@pytest.fixture
def declared(engine, tmp_path):
    """A tenants' file for the showcase with ids of its own, and those ids."""
    ids = {name: f"{name}_{uuid.uuid4().hex[:8]}" for name in ("data", "shared")}
    file = tmp_path / "tenants.yaml"
    file.write_text(
        f"fallback: {ids['shared']}\ntenants:\n- id: {ids['data']}\n  name: Data\n  rules:\n  - project: data\n"
        f"- id: {ids['shared']}\n  name: Shared platform\n"
    )
    yield file, ids
    with engine.begin() as conn:
        conn.execute(text(f"drop role if exists {', '.join(map(tenant_role, ids.values()))}"))


def test_the_commands(database_url, engine, declared):
    file, ids = declared
    books = Books(engine)
    books.inventory("project", Resource(provider_id="p", name="data"))
    books.inventory("droplet", droplet(1, "one", own_project_id="p"), droplet(2, "two"))
    attribute(engine, books.id, internal_project=None)
    books.invoice(item("one (s)", rid=1, amount="3.50"))
    where = {"ARCADIA_DATABASE_URL": database_url}
    assert arcadia("tenants", "show", **where).out.startswith("No tenants are declared.")
    assert arcadia("tenants", "apply", **where).sentence == "arcadia: no tenants' file: name one, or set ARCADIA_TENANTS_FILE"
    first = arcadia("tenants", "apply", file, **where)
    assert first.out.splitlines() == [
        f"Tenants declared: {ids['data']}, {ids['shared']}",
        f"Roles made: arcadia_tenant_{ids['data']}, arcadia_tenant_{ids['shared']}",
        "Resources and projects with another tenant than before: 3",
    ]
    assert arcadia("tenants", "apply", **where, ARCADIA_TENANTS_FILE=file).out == "Nothing changed.\n"
    shown = [" ".join(line.split()) for line in arcadia("tenants", "show", **where).out.splitlines()]
    assert f"{ids['data']} Data 1 1 3.50" in shown
    assert f"{ids['shared']} Shared platform yes 1 1 0.00" in shown
    file.write_text(f"fallback: {ids['shared']}\ntenants:\n- id: {ids['shared']}\n  name: Shared\n")
    last = arcadia("tenants", "apply", file, **where).out
    assert f"Tenants changed: {ids['shared']}\nTenants withdrawn: {ids['data']}\n" in last
    assert f"Role arcadia_tenant_{ids['data']} is left, as other databases of the server may use it" in last
    file.write_text("fallback: a\ntenants:\n- id: A\n  name: 7\n")
    wrong = arcadia("tenants", "apply", file, **where)
    assert wrong.code == 1
    assert re.findall(r"tenants\.yaml:(\d+): ", wrong.err) == ["1", "3", "4"]
    assert arcadia("tenants", "apply", file.with_name("none.yaml"), **where).sentence.startswith("arcadia: [Errno 2] No such file")


@pytest.fixture
def showcase(engine, monkeypatch):
    location = Location(engine, monkeypatch, showcase_account())
    yield location
    location.server.stop()


def test_the_asset_applies_the_file_and_an_edit_takes_effect_by_itself(showcase, declared, monkeypatch):
    file, ids = declared
    skipped = showcase.run("sync_inventory", assets=["tenants"])
    assert metadata(skipped, "tenants")["note"].startswith("ARCADIA_TENANTS_FILE names no file")
    monkeypatch.setenv("ARCADIA_TENANTS_FILE", str(file))
    showcase.run("sync_inventory", assets=["tenants", "projects", "databases", "droplets", "project_resources"])
    whose = dict(showcase.rows("select name, tenant_id from arcadia.cloud_resources"))
    assert (whose["orders-pg"], whose["web-01"]) == (ids["data"], ids["shared"])
    file.write_text(file.read_text().replace("project: data", "project: Showcase"))
    edited = showcase.run("sync_inventory", assets=["tenants"])
    assert metadata(edited, "tenants")["changed"] == 1
    whose = dict(showcase.rows("select name, tenant_id from arcadia.cloud_resources"))
    assert (whose["orders-pg"], whose["web-01"]) == (ids["shared"], ids["data"])
    file.write_text("fallback: nobody\ntenants:\n")
    broken = showcase.run("sync_inventory", assets=["tenants", "projects"])
    assert failures(broken) == {"tenants": f"{file}:2: tenants must be a list"}
    assert broken.asset_materializations_for_node("projects")  # what is wrong with the file stops nothing else


def test_what_an_invoice_alone_tells_of_has_its_tenant_with_the_invoice(showcase, declared, monkeypatch):
    monkeypatch.setenv("ARCADIA_TENANTS_FILE", str(declared[0]))
    showcase.everything()
    assert showcase.rows("select name from arcadia.cloud_resources where tenant_id is null") == []
    assert showcase.rows("select line_id from arcadia.matched_cost_lines where tenant_id is null") == []
    assert assign_all(showcase.engine) == 0


def assign_all(engine):
    with engine.begin() as conn:
        return sum(assign(conn, account_id) for (account_id,) in conn.execute(text("select account_id from arcadia.cloud_accounts")).all())
