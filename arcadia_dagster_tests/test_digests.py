"""An item whose bytes are those of the last time is not read again: that this hides no change, and what makes it be read all the same."""

import copy
import json
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from arcadia_dagster.demo import items
from arcadia_dagster.demo.showcase import showcase_account
from arcadia_dagster.digitalocean.client import Client, Listing
from arcadia_dagster.digitalocean.inventory import Reading
from arcadia_dagster.digitalocean.items import Items, NewItems, decode_item
from arcadia_dagster.digitalocean.kinds import KINDS, reader
from arcadia_dagster.digitalocean.replies import Paging
from arcadia_dagster.ledger import reconcile as ledger
from arcadia_dagster.ledger.accounts import account_of_team
from arcadia_dagster.ledger.reconcile import Changes, Recalled, _seen, begin, placeholder, recall, reconcile
from arcadia_dagster_tests.scripted_server import Reply, serving

DROPLET = items.droplet(1, "web-1", created_at="2026-01-01T00:00:00Z", tags=("web",))


class Listings:
    """Listings of one kind of an account of its own, from items as the provider sends them."""

    accounts = 0

    def __init__(self, engine, kind="droplet"):
        Listings.accounts += 1
        self.engine, self.kind = engine, KINDS[kind]
        self.account = account_of_team(engine, team_uuid=f"digests-{Listings.accounts}", name="digests")

    def __call__(self, *found, adding=None):
        listed = Items.of(found, self.kind.list_id)
        listing = Listing(items=listed.adding(adding) if adding else listed, requests=1, error=None, id_field=self.kind.list_id)
        self.reading = Watched(self.kind, listing)
        return self.record(self.begin(), self.reading)

    def begin(self):
        return begin(self.engine, account_id=self.account, kind=self.kind.name)

    def record(self, run, reading, **beside):
        return reconcile(self.engine, run, reading, strike_interval=timedelta(0), **beside)

    def read(self, recalled, *found, error=None):
        """A reading of these items, that were not put aside where they are what was recalled."""
        listed = NewItems(self.kind.list_id, known=recalled.digests)
        listed.add([msgspec.Raw(msgspec.json.encode(item, order="deterministic")) for item in found])
        self.reading = Watched(self.kind, Listing(items=listed, requests=1, error=error, id_field=self.kind.list_id))
        return self.reading

    @property
    def asked(self):
        return self.reading.asked

    def rows(self, query="select r.*, r.xmin::text as version from arcadia.resources r where account_id = :a order by provider_id"):
        with self.engine.connect() as conn:
            return conn.execute(text(query), {"a": self.account}).all()

    def events(self):
        return [row.event for row in self.rows("select event from arcadia.cloud_resource_events where account_id = :a order by event_id")]


class Watched(Reading):
    """A reading that tells what was asked for."""

    def __init__(self, kind, listing):
        super().__init__(kind, listing)
        self.asked = []

    def reader(self, ids):
        read = super().reader(ids)

        def watched(one):
            self.asked.append(one)
            return read(one)

        return watched


def test_what_came_as_it_was_is_not_read(engine):
    listing = Listings(engine)
    others = [{**DROPLET, "id": number} for number in range(2, 6)]
    assert listing(DROPLET, *others).discovered == 5
    assert sorted(listing.asked) == ["1", "2", "3", "4", "5"]
    before = listing.rows()
    assert listing(*others, DROPLET) == replace(listing(DROPLET, *others), seen=5)
    assert listing.asked == []
    assert listing.rows() == before
    listing({**DROPLET, "status": "off"}, *others)
    assert listing.asked == ["1"]


@pytest.mark.parametrize(
    "looks_other",
    [
        {**DROPLET, "next_backup_window": {"start": "2026-05-01T00:00:00Z", "end": "2026-05-01T23:00:00Z"}, "locked": True},
        {**DROPLET, "id": "1"},
    ],
    ids=["fields that are not kept", "its id as text"],
)
def test_what_reads_as_it_did_costs_no_more_than_a_digest(engine, looks_other):
    listing = Listings(engine)
    listing(DROPLET)
    before = listing.rows()
    for asked in (["1"], []):
        assert listing(looks_other).updated == 0
        assert (listing.asked, listing.rows(), listing.events()) == (asked, before, ["discovered"])


def test_a_new_edition_of_the_code_reads_everything_anew(engine, monkeypatch):
    listing = Listings(engine)
    listing(DROPLET)
    listing.kind = replace(listing.kind, attrs=(*listing.kind.attrs, "locked"))
    assert (listing(DROPLET).updated, listing.asked) == (0, [])
    monkeypatch.setattr(ledger, "EDITION", b"another!")
    assert (listing(DROPLET).updated, listing.asked) == (1, ["1"])
    assert listing.rows()[0].attrs["locked"] is False
    assert (listing(DROPLET).updated, listing.asked) == (0, [])


def test_a_new_edition_that_reads_the_same_renews_the_digest(engine, monkeypatch):
    listing = Listings(engine)
    listing(DROPLET)
    monkeypatch.setattr(ledger, "EDITION", b"another!")
    for asked in (["1"], []):
        assert (listing(DROPLET).updated, listing.asked) == (0, asked)
    assert listing.rows()[0].item_digest.endswith(b"another!")
    assert listing.rows("select from arcadia.item_lookalikes join arcadia.resources using (resource_id) where account_id = :a") == []


def test_a_field_that_another_listing_adds_is_part_of_the_item(engine):
    listing = Listings(engine)
    listing(DROPLET)
    assert listing(DROPLET, adding=lambda _: {"autoscale_pool_id": "p1"}).updated == 1
    assert listing(DROPLET, adding=lambda _: {"autoscale_pool_id": "p1"}).updated == 0
    assert listing(DROPLET, adding=lambda _: {"autoscale_pool_id": "p2"}).updated == 1
    assert listing.rows()[0].attrs["autoscale_pool_id"] == "p2"


def test_what_was_written_without_its_item_is_read_again(engine):
    """As a bucket that for once only the projects show; or by a release that knows no digests."""
    listing = Listings(engine)
    listing(DROPLET)
    reconcile(engine, begin(engine, account_id=listing.account, kind="droplet"), [placeholder("1")])
    assert listing.rows()[0].name == "1"
    assert listing(DROPLET).updated == 1
    assert listing.rows()[0].name == "web-1"


def test_an_item_that_cannot_be_read_makes_the_listing_incomplete_each_time(engine):
    listing = Listings(engine)
    other, third = {**DROPLET, "id": 2}, {**DROPLET, "id": 3}
    listing(DROPLET, other, third)
    for _ in range(2):
        changes = listing({**DROPLET, "created_at": "yesterday"}, {**other, "status": "off"})
        assert (changes.seen, changes.updated, changes.struck) == (1, 1 if _ == 0 else 0, 0)
        assert listing.reading.error == "an item of the droplet listing cannot be read: droplet 1: 'yesterday' is not a time"
        last = listing.rows("select * from arcadia.cloud_sync_runs where account_id = :a order by sync_run_id desc limit 1")[0]
        assert (last.complete, last.error) == (False, listing.reading.error)
    assert [row.stale_strike_count for row in listing.rows()] == [0, 0, 0]
    assert listing(DROPLET, other, third).updated == 1


def test_of_what_is_as_it_was_recalled_nothing_is_kept(engine):
    listing = Listings(engine)
    others = [{**DROPLET, "id": number} for number in range(2, 6)]
    listing(DROPLET, *others)
    run = listing.begin()
    recalled = recall(engine, run)
    assert {*recalled.digests} == {"1", "2", "3", "4", "5"}
    reading = listing.read(recalled, {**DROPLET, "status": "off"}, *others[1:], {**DROPLET, "id": 6})
    for one in ("3", "4", "5"):
        with pytest.raises(ValueError, match="another sync has changed that since; run again"):
            reading.reader([one])(one)
    listing.asked.clear()
    assert listing.record(run, reading, recalled=recalled) == Changes(seen=5, discovered=1, updated=1, struck=1)
    assert listing.asked == ["1", "6"]
    assert recall(engine, run).digests["2"] is None  # it was struck: were it seen as it was, that would be news


@pytest.mark.parametrize("error", [None, "page 2 cannot be read"])
def test_what_another_sync_recorded_since_it_was_recalled_is_compared(engine, error):
    listing = Listings(engine)
    listing(DROPLET, {**DROPLET, "id": 2})
    run = listing.begin()
    recalled = recall(engine, run)
    reading = listing.read(recalled, DROPLET, {**DROPLET, "id": 3})
    other = replace(run, sync_run_id=listing.begin().sync_run_id)  # of the same moment, and quicker
    off = Reading(listing.kind, Listing(items=Items.of([{**DROPLET, "status": "off"}], "id"), requests=1, error=None))
    listing.record(other, off, error=error)
    changes = listing.record(run, reading, recalled=recalled)
    assert (changes.discovered, changes.updated, changes.struck) == (1, 0, 0)
    assert reading.error == (
        "an item of the droplet listing cannot be read: it was as the ledger had it when the listing began,"
        " and another sync has changed that since; run again"
    )
    assert [(row.provider_id, row.status) for row in listing.rows()] == [("1", "off"), ("2", "active"), ("3", "active")]
    assert listing(DROPLET, {**DROPLET, "id": 3}).updated == 1
    assert listing.rows()[0].status == "active"


states = st.dictionaries(st.integers(1, 4), st.sampled_from(["active", "off", "archive"]))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.tuples(states, st.none() | states, st.booleans()), min_size=1, max_size=6))
def test_recalling_what_is_compared_changes_no_outcome(engine, steps):
    """Of two accounts with the same listings, some of them overtaken by another; one recalls, the other compares as it records."""

    def found(statuses):
        return [{**DROPLET, "id": number, "status": status} for number, status in statuses.items()]

    ours, plain = Listings(engine), Listings(engine)
    state = (
        "select provider_id, status, stale_strike_count, deleted_at is null as active from arcadia.resources"
        " where account_id = :a order by provider_id"
    )
    for statuses, overtaking, complete in steps:
        runs = [listing.begin() for listing in (ours, plain)]
        recalled = recall(engine, runs[0])
        readings = [ours.read(recalled, *found(statuses)), plain.read(Recalled(digests={}, revision=None), *found(statuses))]
        before = ours.rows(state)
        if overtaking is not None:
            for listing, run in zip((ours, plain), runs, strict=True):
                other = replace(run, sync_run_id=listing.begin().sync_run_id)
                reading = Reading(listing.kind, Listing(items=Items.of(found(overtaking), "id"), requests=1, error=None))
                listing.record(other, reading, error=None if complete else "cut short")
            before = ours.rows(state)
        ours.record(runs[0], readings[0], recalled=recalled)
        plain.record(runs[1], readings[1])
        if readings[0].error is not None:  # then it said so, struck nothing, and the next one puts it right
            assert overtaking is not None
            assert {(row.provider_id, row.stale_strike_count) for row in ours.rows(state)} >= {
                (row.provider_id, row.stale_strike_count) for row in before if int(row.provider_id) not in statuses
            }
            ours(*found(statuses))
            assert ours.reading.error is None
            shown = {row.provider_id: (row.status, row.active) for row in ours.rows(state) if int(row.provider_id) in statuses}
            assert shown == {str(number): (status, True) for number, status in statuses.items()}
            return
        assert ours.rows(state) == plain.rows(state)
        assert ours.events() == plain.events()


KEPT = {
    "droplet": showcase_account().droplets[0],
    "volume": showcase_account().volumes[0],
    "managed_db": showcase_account().databases[0],
    "load_balancer": showcase_account().load_balancers[0],
    "app": showcase_account().apps[0],
}
VALUES = st.sampled_from([None, "", "x", "a b", "https://user@host/", 0, 1, -2.5, True, [], ["x"], [{"id": 1}], {}, {"slug": "x"}, "\0"])


def places(value, before=()):
    """The path of everything in a JSON value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path for key, one in inner for path in [(*before, key), *places(one, (*before, key))]]


def texts(value):
    """Every text in a value: keys too."""
    inner = [*value.keys(), *value.values()] if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return [value] if isinstance(value, str) else [text for one in inner for text in texts(one)]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kind=st.sampled_from(sorted(KEPT)), edits=st.lists(st.tuples(st.integers(0, 10_000), VALUES, st.booleans()), min_size=1, max_size=3))
def test_no_edit_of_an_item_is_hidden(engine, kind, edits):
    """After each listing the ledger holds what the item reads as now, and wrote nothing where that is what it was."""
    listing, item = Listings(engine, kind), KEPT[kind]
    listing(item)
    for place, value, away in edits:
        before, events = listing.rows(), listing.events()
        item = copy.deepcopy(item)
        paths = [path for path in places(item) if path[0] != listing.kind.list_id]
        *outer, last = paths[place % len(paths)]
        inside = item
        for step in outer:
            inside = inside[step]
        if away:
            del inside[last]
        else:
            inside[last] = value
        try:
            now = _seen(listing.kind.read(json.loads(json.dumps(item), parse_float=Decimal)), None).fingerprint
        except ValueError:
            now = None
        listing(item)
        (row,) = listing.rows()
        if now in (None, before[0].fingerprint):
            assert (listing.reading.error is None) == (now is not None)
            assert ([row], listing.events()) == (before, events)
        else:
            assert row.fingerprint == now


@pytest.mark.parametrize("kind", sorted(KEPT))
def test_a_character_that_no_text_may_hold_is_refused_wherever_it_stands(kind):
    for *outer, last in places(KEPT[kind]):
        for value in ("a\0b", ["a\0b"], {"a\0b": 1}, [{"slug": "a\0b"}]):
            item = copy.deepcopy(KEPT[kind])
            inside = item
            for step in outer:
                inside = inside[step]
            inside[last] = value
            try:
                read = KINDS[kind].read(item)
            except ValueError:
                continue
            kept = {**msgspec.structs.asdict(read), "attrs": json.loads(read.attrs)}
            assert not any("\0" in one for one in texts(kept)), (outer, last, value)


def sample(kind):
    """An item with something at each path that the kind reads, and two objects in each list on the way there."""
    item = {}
    for path in filter(None, (*kind.fields, kind.tags, *kind.attrs)):
        objects = [item]
        *outer, last = path.split(".")
        for step in outer:
            name = step.removesuffix("[]")
            inner = [one.setdefault(name, [{}, {}] if step.endswith("[]") else {}) for one in objects]
            objects = [one for each in inner for one in (each if isinstance(each, list) else [each])]
        for number, one in enumerate(objects):
            said = {
                kind.created: "2026-01-01T00:00:00Z",
                kind.monthly_price: 5,
                kind.tags: ["k8s:4b6b2c9e-8d3e-4c55-9a53-0f1c3f4a7d10", "a"],
            }
            one[last] = said.get(path, f"{path} {9 - number}")
    return item


SHOWN = {**{kind.name: sample(kind) for kind in KINDS.values() if kind.path}, **KEPT}


def outcome(read, item):
    try:
        return read(item)
    except ValueError as problem:
        return str(problem)


@settings(max_examples=400, deadline=None)
@given(kind=st.sampled_from(sorted(SHOWN)), edits=st.lists(st.tuples(st.integers(0, 10_000), VALUES, st.booleans()), max_size=3))
def test_the_json_of_an_item_reads_as_the_item(kind, edits):
    item = copy.deepcopy(SHOWN[kind])
    for place, value, away in edits:
        paths = places(item) or [("name",)]
        *outer, last = paths[place % len(paths)]
        inside = item
        for step in outer:
            inside = inside[step]
        if away and item:
            del inside[last]
        else:
            inside[last] = copy.deepcopy(value)
    content = json.dumps(item).encode()
    assert outcome(reader(KINDS[kind]), content) == outcome(KINDS[kind].read, decode_item(content))


def test_items_that_were_put_aside_are_those_that_came():
    sent = [json.dumps({**DROPLET, "id": number, "name": "ü" * number}, ensure_ascii=False) for number in range(450)]
    found = [json.loads(one, parse_float=Decimal) for one in sent]
    with serving() as server, Client("token", base_url=server.url) as client:
        server.reply = lambda request: Reply(
            body=f'{{"droplets": [{",".join(sent[(request.page - 1) * 200 : request.page * 200])}], "meta": {{"total": 450}}}}'.encode()
        )
        listing = client.list("/v2/droplets", "droplets", kind="droplet")
        assert listing.error is None
        assert listing.items == found
        assert [*listing.by_id.only({"7", "449"})] == [found[7], found[449]]


@pytest.mark.parametrize("text_of_number", ["1e999999999999999999999", "1e999999", "-1e400"])
def test_a_number_that_nobody_can_mean_is_named(engine, text_of_number):
    raw = json.dumps({**DROPLET, "disk": 7}).replace('"disk": 7', f'"disk": {text_of_number}').encode()
    with serving() as server, Client("token", base_url=server.url) as client:
        server.reply = lambda request: Reply(body=b'{"droplets": [' + raw + b'], "meta": {"total": 1}}')
        listing = client.list("/v2/droplets", "droplets", kind="droplet")
    reading = Reading(KINDS["droplet"], listing)
    run = begin(engine, account_id=account_of_team(engine, team_uuid="t", name="t"), kind="droplet")
    assert reconcile(engine, run, reading).seen == 0
    assert "an item of the droplet listing cannot be read: " in reading.error
    assert "is not a number" in reading.error


any_id = st.one_of(st.integers(), st.text(min_size=1), st.sampled_from(['"', "\\", "1,2", "a}", "\u00e9", "7"]))


@settings(max_examples=200, deadline=None)
@given(ids=st.lists(any_id, min_size=1, unique_by=str), first=st.booleans(), indent=st.sampled_from([None, 1]), ascii_only=st.booleans())
def test_an_item_is_found_by_its_id_however_it_is_written(ids, first, indent, ascii_only):
    def written(one):
        fields = {"id": one, "name": "web", "size": {"id": 0}} if first else {"size": {"id": 0}, "name": "web", "id": one}
        separators = None if indent else (",", ":")
        return json.dumps(fields, indent=indent, separators=separators, ensure_ascii=ascii_only).encode(errors="surrogatepass")

    put_aside = NewItems("id")
    put_aside.add([msgspec.Raw(written(one)) for one in ids[:1]])
    put_aside.add([msgspec.Raw(written(one)) for one in ids[1:]])
    assert [*put_aside.digests] == [str(one) for one in ids]
    for one in ids:
        assert put_aside.item(str(one))["id"] == one


@pytest.mark.parametrize("wrong", [b'{"id":1.5}', b'{"id":null}', b'{"id":""}', b'{"id":true}', b'{"id":[1]}', b'{"name":"web"}'])
def test_an_item_without_an_id_is_refused_after_those_before_it(wrong):
    put_aside = NewItems("id")
    with pytest.raises(ValueError, match="an item has no 'id'"):
        put_aside.add([msgspec.Raw(b'{"id":1}'), msgspec.Raw(wrong), msgspec.Raw(b'{"id":2}')])
    assert [*put_aside] == [{"id": 1}]


def compact(value):
    return json.dumps(value, separators=(",", ":")).encode()


def a_page(items, *, key="things"):
    return b'{"%b":[%b],"links":{},"meta":{"total":%d}}' % (key.encode(), b",".join(items), len(items))


def known_of(items):
    before = NewItems("id")
    before.add([msgspec.Raw(item) for item in items])
    return before.digests


def test_known_items_are_cut_out_of_a_page_that_is_not_decoded():
    items = [compact({"id": number, "name": "x" * number, "nodes": [{"id": 1}, {"id": 2}]}) for number in range(50)]
    now = [*items]
    now[0] = compact({"id": 0, "name": "renamed", "nodes": [{"id": 1}, {"id": 2}]})
    now[20] = compact({"id": 20, "nodes": []})
    now.insert(30, compact({"id": "new", "nodes": []}))
    del now[40]
    put_aside = NewItems("id", known=known_of(items))
    cut = put_aside.cut(a_page(now), "things")
    assert cut.rest == b'{"things":[0],"links":{},"meta":{"total":50}}'
    assert [(one, content) for one, content in zip(cut.ids, cut.contents, strict=True) if content] == [
        ("0", now[0]),
        ("20", now[20]),
        ("new", now[30]),
    ]
    put_aside.add([], cut)
    assert put_aside.digests == known_of(now)


@pytest.mark.parametrize(
    ("page", "known", "rest"),
    [
        (b'{"meta":{},"things":[{"id":1}]}', {}, None),
        (b'{"things": [{"id":1}]}', {}, None),
        (b'{"things":[{"name":"x","id":1}]}', {}, None),
        (b'{"things":[]}', {}, None),
        (b'{"things":[{"id":1},{"name":"x","id":2}]}', {"1": b'{"id":1}'}, b'{"things":[0,{"name":"x","id":2}]}'),
        (b'{"things":[{"id":1},]}', {"1": b'{"id":1}'}, b'{"things":[0,]}'),
        (b'{"things":[{"id":1}{"id":1}]}', {"1": b'{"id":1}'}, b'{"things":[0{"id":1}]}'),
        (b'{"things":[{"id":1}0{"id":2}]}', {"1": b'{"id":1}', "2": b'{"id":2}'}, b'{"things":[00{"id":2}]}'),
        (b'{"things":[{"id":1', {"1": b'{"id":1}'}, None),
        (b'{"things":[{"id":1,"of":' + b'[{"id":2},{"id":3}],' * 9 + b'"z":0},{"id":4}]}', {}, None),
    ],
)
def test_what_cannot_be_told_apart_is_left_to_be_decoded(page, known, rest):
    cut = NewItems("id", known={one: known_of([item])[one] for one, item in known.items()} or {"9": bytes(16)}).cut(page, "things")
    assert (None if cut is None else cut.rest) == rest


things = st.recursive(
    st.sampled_from([None, True, 0, -1.5, "", 'a"b', "},{", '},{"id":1', "ü", "x" * 50]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["id", "name", "of"]), inner, max_size=3),
    max_leaves=6,
)
listed = st.lists(st.tuples(st.integers(0, 9) | st.sampled_from(["a", "ü"]), things), max_size=6)
torn = st.sampled_from(
    [b"", b",", b"[", b"]", b"{", b"}", b'"', b" ", b"0", b"\\", b"\xff", b'},{"id":', b'{"id":1},', b'],"things":[', b"}}"]
)


@pytest.fixture(scope="module")
def provider():
    with serving() as server, Client("token", base_url=server.url, attempts=1) as client:
        yield server, client


@settings(max_examples=400, deadline=None)
@given(
    items=listed,
    changes=st.dictionaries(st.integers(0, 5), things, max_size=2),
    tears=st.lists(st.tuples(st.integers(0), torn), max_size=2),
)
def test_what_is_known_changes_nothing_of_what_a_listing_reads(provider, items, changes, tears):
    server, client = provider
    written = [compact({"id": one, "is": value}) for one, value in items]
    now = [compact({"id": one, "is": changes.get(number, value)}) for number, (one, value) in enumerate(items)]
    page = a_page(now)
    for place, piece in tears:
        before, after = page[: place % len(page)], page[place % len(page) :]
        page = before + piece + after[len(piece) % 2 :]
    server.reply = lambda _: Reply(body=page)
    plain = client.list("/v2/things", "things", kind="thing", paging=Paging.META)
    known = known_of(written)
    quick = client.list("/v2/things", "things", kind="thing", paging=Paging.META, known=known)
    assert str(quick.error) == str(plain.error)
    assert quick.by_id.digests == plain.by_id.digests
    unlike = plain.by_id.unlike(known)
    assert quick.by_id.unlike(known) == unlike
    for one in unlike:
        assert quick.by_id.item(one) == plain.by_id.item(one)
