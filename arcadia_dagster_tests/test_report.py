"""The report: what it says is what the views say, for any ledger and any name; and it is a page that a browser can show and print alone."""

import base64
import re
from datetime import UTC, date, datetime
from decimal import Decimal
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from arcadia_dagster import settings as environment
from arcadia_dagster.digitalocean.kinds import Resource
from arcadia_dagster.ledger import billing
from arcadia_dagster.ledger.accounts import AccountError
from arcadia_dagster.ledger.export import ExportError
from arcadia_dagster.report import charts, figures, page
from arcadia_dagster_tests.books import APRIL, Books, as_json, droplet, item
from arcadia_dagster_tests.commands import arcadia
from arcadia_dagster_tests.test_dagster import Location, metadata, showcase_account
from arcadia_dagster_tests.test_marts import CREDIT, TAX, UNKNOWN
from arcadia_dagster_tests.ui import browser

MARCH, MAY = date(2026, 3, 1), date(2026, 5, 1)
HOSTILE = (
    "<script>document.title = 'owned'</script>",
    "\"'><img src=x onerror=\"document.title='owned'\">",
    "</svg></style><style>body{display:none}</style>",
    "{{ 7 * 7 }} {% raw %} &amp; &#60;",
    "\u202etxt.exe مرحبا بالعالم",
    "long" * 100,
    "![x](javascript:alert(1)) \x01 ]]>",
)


@pytest.fixture
def books(engine):
    return Books(engine)


def read(engine, account=None):
    with engine.connect() as conn:
        return figures.read(conn, account)


class Page(HTMLParser):
    """The text of a page, its tags, and the addresses that it names."""

    def __init__(self, html):
        super().__init__()
        self.texts, self.tags, self.addresses, self.inside = [], set(), [], []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.inside.append(tag)
        assert not [name for name, _ in attributes if name.startswith("on")]
        self.addresses += [value for name, value in attributes if name in {"src", "href", "xlink:href", "action", "data", "srcset"}]

    def handle_endtag(self, tag):
        while self.inside and self.inside.pop() != tag:
            pass

    def handle_data(self, data):
        if "style" not in self.inside:
            self.texts.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())


def told(engine, account=None):
    return Page(page.html(read(engine, account)))


def year(books, months, first=date(2024, 1, 1)):
    """An invoice of one droplet for each of so many months."""
    for number in range(months):
        period = date(first.year + (first.month - 1 + number) // 12, (first.month - 1 + number) % 12 + 1, 1)
        books.invoice(item("web (s)", amount="6.00", rid=1), period=period)


# What it says


def test_the_figures_are_those_of_the_views(engine, monkeypatch):
    location = Location(engine, monkeypatch, showcase_account())
    try:
        assert all(result.success for result in location.everything())
    finally:
        location.server.stop()
    found = read(engine)
    invoiced = location.rows("select period, sum(amount) from arcadia.cloud_invoices where status = 'ingested' group by 1 order by 1")
    assert len(invoiced) == 4
    for stack in (found.by_kind, found.by_project):
        assert list(zip(stack.months, stack.totals, strict=True)) == invoiced
        assert len(stack.names) <= figures.SERIES + 1
    newest = invoiced[-1][1]
    assert found.newest_usd == found.invoices.stated == newest == sum(share.usd for share in found.shares)
    changes = found.changes
    assert (changes.before_usd, changes.usd) == (invoiced[-2][1], newest)
    difference = newest - invoiced[-2][1]
    assert sum(usd for _, _, usd in changes.by_class) == difference
    assert sum(row.difference_usd for row in changes.largest) + changes.others[1] == difference
    assert sum(count for _, count, _ in changes.by_class) == len(changes.largest) + changes.others[0]
    rates = location.rows(
        "select period, lines, matched_lines, line_rate, usd_rate from arcadia.match_rate where status <> 'preview' order by 1"
    )
    assert [(one.month, one.lines, one.matched, one.line_rate, one.usd_rate) for one in found.rates] == rates
    (preview,) = location.rows("select sum(amount_usd) from arcadia.month_to_date_lines")[0]
    assert sum(one.usd for one in found.previews) == sum(usd for _, usd in found.preview_kinds) == preview
    said = Page(page.html(found)).text
    for usd in (*(usd for _, usd in invoiced), preview):
        assert charts.money(usd) in said
    assert charts.money(difference, signed=True) in said
    assert "45.55.96.60 5.00 Reserved IP that is assigned to nothing" in said
    assert "qubits (q-1)" in said

    result = location.run("write_report")
    assert result.success
    shown = metadata(result, "cost_report")
    path = environment.home() / "reports" / "cost-report.html"
    assert shown["path"] == str(path)
    assert path.read_text().startswith("<!doctype html>")
    assert (shown["month"], shown["amount_usd"]) == ("2026-04", float(newest))
    for picture in ("cost_by_kind", "cost_by_project", "match_rate", "changes"):
        svg = base64.b64decode(re.fullmatch(r"!\[[^\]]+\]\(data:image/svg\+xml;base64,([^)]+)\)", shown[picture])[1])
        assert ElementTree.fromstring(svg).tag == "{http://www.w3.org/2000/svg}svg"


def test_an_empty_ledger_says_what_to_do(engine):
    assert "No closed invoice has been read yet." in told(engine).text
    Books(engine).inventory("droplet", droplet(1, "web", status="off", monthly_price=Decimal(6)))
    said = told(engine).text
    assert "web 6.00 Droplet that is switched off estimated" in said
    assert "6.00 USD a month at list price, an estimate." in said


def test_one_month_is_held_against_none(books):
    books.invoice(item("web (s)", amount="6.00", rid=1))
    assert read(books.engine).changes is None
    said = told(books.engine).text
    assert "April 2026 is the first month with invoices" in said
    assert "Nothing billed belongs to a tenant" in said
    assert "Credits" not in charts.by_month(read(books.engine).by_kind, charts.WIDE)


def test_the_same_again_is_no_change(books):
    year(books, 2)
    assert "Nothing: each resource was billed the same." in told(books.engine).text


def test_long_histories_are_cut_and_gaps_are_shown(books):
    year(books, 30, first=date(2020, 1, 1))
    books.invoice(item("web (s)", amount="6.00", rid=1), period=date(2022, 9, 1))
    found = read(books.engine)
    assert (found.months[0], found.months[-1], len(found.months)) == (date(2020, 10, 1), date(2022, 9, 1), figures.MONTHS)
    assert found.older == (9, Decimal("54.00"))
    assert found.without_invoice == [date(2022, 7, 1), date(2022, 8, 1)]
    assert found.changes.before == date(2022, 6, 1)
    said = told(books.engine).text
    assert "9 earlier ones with invoices, 54.00 USD together, are in the ledger and not shown" in said
    assert "Aug 2022 no invoice" in said


def test_credits_hang_below_the_line(books):
    books.invoice(item("web (s)", amount="6.00", rid=1), CREDIT, TAX, period=MARCH)
    books.invoice(CREDIT, CREDIT)
    found = read(books.engine)
    assert found.by_kind.totals == [Decimal("1.18"), Decimal("-10.00")]
    svg = charts.by_month(found.by_kind, charts.WIDE)
    assert {"Credits", "Droplets"} <= {text.strip("\u2068\u2069") for text in ElementTree.fromstring(svg).itertext()}
    assert "\u221210.00" in told(books.engine).text


def test_what_is_small_is_added_up(books):
    projects = [f"project-{number:02}" for number in range(12)]
    for period in (MARCH, APRIL):
        lines = [item(f"web-{n} (s)", amount=f"{n + 1}.00", rid=n + 1, project=name) for n, name in enumerate(projects)]
        books.invoice(*lines, TAX, period=period)
    stack = read(books.engine).by_project
    assert (stack.names[0], stack.names[-1], stack.rest) == ("project-11", "6 others", 6)
    assert stack.totals == [Decimal("78.18")] * 2


def test_tenants_have_a_picture_where_there_are_any(books):
    books.inventory("droplet", droplet(1, "web"))
    with books.engine.begin() as conn:
        conn.execute(text("update arcadia.resources set tenant_id = 'acme'"))
    books.invoice(item("web (s)", amount="6.00", rid=1), TAX)
    stack = read(books.engine).by_tenant
    assert (stack.names, stack.usd) == (["acme", "Tax"], [[Decimal("6.00"), Decimal("0.18")]])


def test_accounts_are_told_apart_and_one_can_be_chosen(engine):
    one, other, old = (Books(engine, f"team-{number}") for number in range(3))
    for books, dollars in ((one, "1.00"), (other, "2.00")):
        for period in (MARCH, APRIL):
            books.invoice(item("web (s)", amount=dollars, rid=1, project="same"), period=period)
    old.invoice(item("web (s)", amount="4.00", rid=1, project="own"), TAX, period=MARCH)
    found = read(engine)
    assert set(found.by_project.names) == {"same · team-0", "same · team-1", "own", "Tax"}
    assert found.by_kind.totals == [Decimal("7.18"), Decimal("3.00")]
    assert (found.changes.before_usd, found.changes.usd) == (Decimal("3.00"), Decimal("3.00"))
    assert "team-2 is not in the figures of April 2026: its newest invoice that has been read is of March 2026" in told(engine).text
    assert read(engine, "team-1").newest_usd == Decimal("2.00")
    with pytest.raises(AccountError, match="no account is named 'nobody'; the ledger has 'team-0', 'team-1', 'team-2'"):
        read(engine, "nobody")
    with engine.begin() as conn:
        conn.execute(text("update arcadia.cloud_accounts set name = 'twin'"))
    with pytest.raises(AccountError, match="3 accounts are named 'twin'"):
        read(engine, "twin")


def test_what_is_missing_is_said(books):
    year(books, 2, first=MARCH)
    books.record(billing.InvoiceHeader(invoice_uuid="new", invoice_id="3", period=MAY, amount=Decimal("12.34")))
    books.invoice(item("web (s)", amount="1.00", rid=1), UNKNOWN, amount="9.00")
    said = told(books.engine).text
    assert "1 invoice is missing from these figures" in said
    assert "2026-05 team-1 waiting to be read 12.34" in said
    assert "The invoices state +7.93 more than their lines add up to" in said


def test_two_months_that_are_previewed_are_not_added_up(books):
    for period, dollars in ((APRIL, "40.00"), (MAY, "3.00")):
        line = item("web (s)", amount=dollars, rid=1)
        preview = billing.Preview(period=period, amount=Decimal(dollars), covers_until=datetime(2026, 5, 2, tzinfo=UTC))
        billing.ingest_preview(books.engine, books.id, preview, as_json(line))
    found = read(books.engine)
    assert [one.usd for one in found.previews] == [Decimal("40.00"), Decimal("3.00")]
    assert found.preview_kinds == [("Droplets", Decimal("3.00"))]
    said = told(books.engine).text
    assert "May 2026 so far 3.00" in said
    assert "43.00" not in said


def reading(books, at, usd):
    with books.engine.begin() as conn:
        conn.execute(
            text(
                "insert into arcadia.cloud_balance_snapshots (account_id, month_to_date_usage, generated_at, taken_at)"
                " values (:a, :usd, cast(:at as timestamptz), now())"
            ),
            {"a": books.id, "usd": usd, "at": f"{at}:00Z"},
        )


@pytest.mark.parametrize(
    ("earlier", "now", "expected"),
    [
        (["2026-04-12T04:07", "2026-04-12T06:07"], "2026-05-12T05:07", "2026-04-12T04:07"),
        (["2026-04-11T04:07", "2026-04-12T06:07"], "2026-05-12T05:07", None),  # a day and an hour before; an hour after
        (["2026-03-31T23:07"], "2026-05-01T05:07", None),  # of the month before that
        (["2026-02-28T20:07"], "2026-03-31T21:07", "2026-02-28T20:07"),  # which has no 31st
    ],
)
def test_the_same_day_of_last_month_is_only_what_was_asked_then(books, earlier, now, expected):
    for number, at in enumerate(earlier):
        reading(books, at, 10 + number)
    reading(books, now, 15)
    (found,) = read(books.engine).same_day
    assert (found.usd, found.then_at) == (15, expected and datetime.fromisoformat(f"{expected}:00+00:00"))
    assert (found.then_usd is None) == (expected is None)
    assert ("no reading" in told(books.engine).text) == (expected is None)


def test_a_reading_of_a_closed_month_is_not_how_this_month_goes(books):
    reading(books, "2026-04-12T05:07", 15)
    books.invoice(item("web (s)", amount="6.00", rid=1))
    assert read(books.engine).same_day == []
    assert "The ledger has no reading of the balance of this month." in told(books.engine).text


def test_the_month_so_far_is_drawn_for_days_on_which_every_account_was_asked(engine):
    one, other = Books(engine, "team-1"), Books(engine, "team-2")
    for day in (1, 2, 3):
        reading(one, f"2026-04-{day:02}T05:07", day)
        reading(one, f"2026-04-{day:02}T23:07", day + 1)
        reading(other, f"2026-04-{day:02}T05:07", 10 * day)
    reading(one, "2026-05-01T05:07", 2)
    reading(one, "2026-05-02T05:07", 3)
    reading(other, "2026-05-02T05:07", 7)
    found = read(engine)
    assert found.usage == [(APRIL, 1, 12), (APRIL, 2, 23), (APRIL, 3, 34), (MAY, 2, 10)]
    drawn = {text.strip("\u2068\u2069") for text in ElementTree.fromstring(charts.usage(found.usage, charts.WIDE)).itertext()}
    assert {"Apr 2026", "May 2026"} <= drawn


# What it is


def hostile(engine):
    """A ledger in which everything that can have a name has every hostile one."""
    books = Books(engine, HOSTILE[0])
    projects = [Resource(provider_id=str(number), name=name) for number, name in enumerate(HOSTILE)]
    books.inventory("project", *projects)
    books.inventory("droplet", *(droplet(number, name) for number, name in enumerate(HOSTILE)))
    books.inventory("volume", Resource(provider_id="v", name=HOSTILE[1], attrs='{"droplet_ids":[]}'))
    with engine.begin() as conn:
        conn.execute(
            text(
                "update arcadia.resources r set tenant_id = r.name, cloud_project_id = (select resource_id from arcadia.resources p"
                " where p.kind = 'project' and p.provider_id = r.provider_id) where kind = 'droplet'"
            )
        )
    for period, dollars in ((MARCH, 10), (APRIL, 20)):
        lines = [item(f"{name} (s)", amount=f"{dollars + number}.50", rid=number) for number, name in enumerate(HOSTILE)]
        books.invoice(*lines, item(HOSTILE[0], HOSTILE[1], "0.07"), TAX, period=period)
    preview = billing.Preview(period=MAY, amount=Decimal(1), covers_until=datetime(2026, 5, 12, tzinfo=UTC))
    billing.ingest_preview(engine, books.id, preview, as_json(item(HOSTILE[2], rid=1)))
    for at in ("2026-04-11T05:07", "2026-04-12T05:07", "2026-05-12T05:07"):
        reading(books, at, 15)
    return books


def test_hostile_names_are_text(engine):
    hostile(engine)
    html = page.html(read(engine))
    found = Page(html)
    assert not found.tags & {"script", "img", "iframe", "object", "link", "form", "base", "foreignobject", "a:hover", "image"}
    assert set(found.addresses) <= {"#trust"}
    assert not re.search(r"url\(|@import", html)
    for name in HOSTILE:
        assert " ".join(name[:79].split()) in found.text
    # Repeated ids would make one picture use a part of another.
    assert re.findall(r'<(?:svg|g|path|clipPath|linearGradient)\b[^>]* id="', html) == []


def test_in_a_browser_it_needs_nothing_and_fits(engine, tmp_path):
    hostile(engine)
    path = tmp_path / "report.html"
    page.write(path, read(engine))
    with browser() as chrome:
        driver = chrome.chrome
        driver.execute_cdp_cmd("Network.enable", {})
        driver.execute_cdp_cmd(
            "Network.emulateNetworkConditions", {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0}
        )
        seen = {}
        for width in (360, 1280):
            for scheme in ("light", "dark"):
                screen = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
                driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
                driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]})
                chrome.open(path.as_uri())
                assert driver.title == "Cost report, April 2026"
                assert driver.execute_script("return performance.getEntriesByType('resource').length") == 0
                assert driver.execute_script("return document.documentElement.scrollWidth") <= width
                assert driver.execute_script("return [...document.querySelectorAll('bdi')].some(e => e.textContent.includes('<script>'))")
                shown = "return [...document.querySelectorAll('figure svg')].filter(e => e.getBoundingClientRect().height > 20).length"
                assert driver.execute_script(shown) == 7  # where, changes, three of the months, match rate, month to date
                seen[scheme] = driver.execute_script("const s = getComputedStyle(document.body); return [s.color, s.backgroundColor]")
                label = "return getComputedStyle(document.querySelector('.wide svg text')).fill"
                assert driver.execute_script(label) == seen[scheme][0]
        assert seen["light"] != seen["dark"]
        driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        pdf = base64.b64decode(driver.execute_cdp_cmd("Page.printToPDF", {"paperWidth": 8.27, "paperHeight": 11.69})["data"])
        assert pdf.startswith(b"%PDF")
        assert len(re.findall(rb"/Type\s*/Page\b", pdf)) > 1
        assert driver.get_log("browser") == []


@settings(max_examples=50, deadline=None)
@given(st.text(st.characters(codec="utf-8", exclude_characters="\x00")), st.integers(5, 40))
def test_a_label_is_one_short_line(name, most):
    label = charts.label(name, most)
    assert (label[0], label[-1]) == ("\u2068", "\u2069")
    assert 0 < len(label[1:-1]) <= most
    assert label[1:-1].isprintable() or not name.isprintable()
    assert not set(label[1:-1]) & set("\u2066\u2067\u2068\u2069\u202a\u202b\u202c\u202d\u202e\n\t")


@settings(max_examples=10, deadline=None)
@given(st.lists(st.tuples(st.text(), st.decimals(-(10**6), 10**9, places=2)), min_size=1, max_size=10))
def test_a_picture_is_well_formed_whatever_it_shows(rows):
    shares = [figures.Share(name=name, account="a", kind=None, project=None, state=None, usd=usd) for name, usd in rows]
    stack = figures.Stack(months=[MARCH, APRIL], names=[name for name, _ in rows[:8]], usd=[[usd for _, usd in rows[:8]]] * 2, rest=0)
    for svg in (charts.shares(shares, charts.ALONE, several=True), charts.by_month(stack, charts.NARROW)):
        ElementTree.fromstring(svg)


@given(st.lists(st.floats(0, 200), max_size=8))
def test_names_beside_a_bar_keep_their_order_and_do_not_overlap(ys):
    places = charts._spread(ys, gap=15, most=200)
    order = sorted(range(len(ys)), key=lambda place: places[place])
    assert [ys[place] for place in order] == sorted(ys)
    assert all(below - above >= 15 - 1e-6 for above, below in zip(sorted(places), sorted(places)[1:], strict=False))
    assert all(0 <= place <= 200 + 1e-6 for place in places)


def test_it_is_written_whole_or_not_at_all(engine, tmp_path, monkeypatch):
    found = read(engine)
    path = tmp_path / "made" / "report.html"
    page.write(path, found)
    assert path.read_text().endswith("</html>\n")
    before = path.read_text()
    monkeypatch.setattr("arcadia_dagster.ledger.export.os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(ExportError, match="No space left"):
        page.write(path, read(engine))
    assert path.read_text() == before
    assert [one.name for one in path.parent.iterdir()] == ["report.html"]


def test_the_command_writes_it_and_says_in_one_sentence_what_is_wrong(books, database_url, tmp_path):
    books.invoice(item("web (s)", amount="6.00", rid=1))
    out = tmp_path / "r.html"
    done = arcadia("report", "--out", out, "--account", "team-1", ARCADIA_DATABASE_URL=database_url)
    assert (done.code, done.out) == (0, f"{out} (April 2026: 6.00 USD)\n")
    assert "web" in Page(out.read_text()).text
    done = arcadia("report", "--out", out, "--account", "nobody", ARCADIA_DATABASE_URL=database_url)
    assert (done.code, done.sentence) == (1, "arcadia: no account is named 'nobody'; the ledger has 'team-1'")
    done = arcadia("report", "--out", tmp_path, ARCADIA_DATABASE_URL=database_url)
    assert done.code == 1
    assert done.sentence == f"arcadia: {tmp_path} cannot be written: it is a folder"
