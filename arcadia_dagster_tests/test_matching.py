"""Matching: each line pays for one resource or says why not; each rule of it is missed where it is taken out."""

import inspect
import itertools
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from arcadia_dagster.digitalocean.kinds import Resource
from arcadia_dagster.ledger import billing, matching
from arcadia_dagster.ledger.matching import FACTS, NEIGHBOUR_FACTS, explain, rematch, statements
from arcadia_dagster.ledger.reconcile import begin, reconcile
from arcadia_dagster_tests.books import APRIL, Books, droplet, item, listed, rows_read


@pytest.fixture
def books(engine):
    return Books(engine)


def test_an_id_decides_whatever_the_name_says(books):
    books.inventory("droplet", droplet(1, "web"), droplet(2, "old-name"))
    books.invoice(item("web (s-1vcpu-1gb)", rid=2))
    line = books.line()
    assert (line.match_status, line.match_method, line.resource_name, line.resource_state) == ("matched", "id", "old-name", "active")


def test_one_number_in_two_kinds_is_two_things(books):
    books.inventory("droplet", droplet(7, "web"))
    books.inventory("snapshot", droplet(7, "web-1"))
    books.invoice(item("web-1 (fra1) 1.00GB Droplet Snapshot", "Droplet Snapshots", rid=7), item("web (s)", rid=7))
    assert [(line.resource_kind, line.resource_name) for line in books.lines()] == [("snapshot", "web-1"), ("droplet", "web")]


def test_an_id_nobody_has_seen_makes_one_billing_only_resource(books):
    books.invoice(item("ghost (s-1vcpu-1gb)", rid=9, start="2020-01-03", end="2020-01-20"))
    books.invoice(
        item("Ghost (s-1vcpu-1gb)", rid=9, start="2020-02-01", end="2020-02-11"),
        item("ghost (Weekly Backup Services)", "Droplet Backups", rid=9),
    )
    assert {(line.resource_provider_id, line.resource_state, line.match_status) for line in books.lines()} == {
        ("9", "billing_only", "matched")
    }
    (ghost,) = books.rows("select * from arcadia.cloud_resources where account_id = :a")
    assert (ghost.kind, ghost.name) == ("droplet", "ghost")
    assert ghost.provider_created_at == datetime(2020, 1, 3, tzinfo=UTC)
    assert ghost.deleted_at == datetime(2026, 5, 1, tzinfo=UTC)


def test_the_order_in_which_invoices_arrive_does_not_matter(engine):
    months = [
        item("early (s)", rid=9, start="2020-01-03", end="2020-02-01"),
        item("late (s)", rid=9, start="2020-02-01", end="2020-02-11"),
    ]
    found = []
    for team, order in (("forward", months), ("backward", months[::-1])):
        books = Books(engine, team)
        for one in order:
            books.invoice(one)
        found.append(books.rows("select name, provider_created_at, deleted_at from arcadia.cloud_resources where account_id = :a"))
    assert found[0] == found[1]
    assert found[0][0].name == "late"


def test_a_name_matches_whatever_its_case_and_white_space(books):
    books.inventory("droplet", droplet(1, "Mail.Example.org"))
    books.invoice(item("  mail.example.ORG (s-1vcpu-1gb)"))
    assert (books.line().match_method, books.line().resource_provider_id) == ("name", "1")


def test_a_name_borne_before_still_matches(books):
    books.inventory("droplet", droplet(1, "before"))
    books.inventory("droplet", droplet(1, "after"))
    books.invoice(item("before (s-1vcpu-1gb)"))
    assert books.line().resource_name == "after"


def test_a_tombstone_matches_what_it_was_billed_for(books):
    books.gone("droplet", droplet(1, "web"), at="2026-04-20")
    books.invoice(item("web (s-1vcpu-1gb)", end="2026-04-18"))
    assert (books.line().match_status, books.line().resource_state) == ("matched", "deleted")


def test_only_who_lived_in_the_time_of_the_line_is_a_candidate(books):
    books.gone("droplet", droplet(1, "web", created="2026-01-01"), at="2026-04-10")
    books.inventory("droplet", droplet(2, "web", created="2026-04-10"))
    books.invoice(item("web (s-1vcpu-1gb)", end="2026-04-09"), item("web (s-1vcpu-1gb)", start="2026-04-10"))
    assert [line.resource_provider_id for line in books.lines()] == ["1", "2"]


def test_a_name_that_nobody_bore_then_says_so(books):
    books.inventory("droplet", droplet(1, "web", created="2026-05-02"))
    books.invoice(item("web (s-1vcpu-1gb)"))
    assert (books.line().match_status, books.line().reason) == (
        "unmatched",
        "droplet 'web' is known, but did not exist in the time that the line bills",
    )


def test_two_equally_good_candidates_are_ambiguous_and_listed(books):
    books.inventory("droplet", droplet(1, "web"), droplet(2, "WEB"))
    books.invoice(item("web (s-1vcpu-1gb)"))
    line = books.line()
    assert (line.match_status, line.resource_id) == ("ambiguous", None)
    assert line.reason == "2 resources of kind droplet fit 'web' equally well"
    assert [candidate["provider_id"] for candidate in line.match_detail["candidates"]] == ["1", "2"]


def test_size_breaks_a_tie_but_is_never_required(books):
    books.inventory("droplet", droplet(1, "web", attrs={"size_slug": "c-2"}), droplet(2, "web", attrs={"size_slug": "s-1vcpu-1gb"}))
    books.inventory("droplet", droplet(1, "web", attrs={"size_slug": "c-2"}), droplet(2, "web", attrs={"size_slug": "s-1vcpu-1gb"}),
                    droplet(3, "resized", attrs={"size_slug": "c-4"}))  # fmt: skip
    books.invoice(item("web (s-1vcpu-1gb)"), item("resized (s-1vcpu-1gb)"))
    assert [line.resource_provider_id for line in books.lines()] == ["2", "3"]


def test_a_volume_of_that_name_in_another_region_is_not_it(books):
    books.inventory(
        "volume", droplet("v1", "data", region="nyc1"), droplet("v2", "data", region="fra1"), droplet("v3", "logs", region="nyc1")
    )
    books.invoice(item("data (fra1) 100GB", "Volumes"), item("logs (sgp1) 5GB", "Volumes"))
    first, second = books.lines()
    assert first.resource_provider_id == "v2"
    assert (second.match_status, second.reason) == ("unmatched", "volume 'logs' is known, but not in region sgp1")


def test_a_name_matches_who_bore_it_in_the_time_of_the_line(books):
    for at in ("2026-01-05", "2026-02-15"):
        listed(books, at, droplet(1, "web"), droplet(2, "spare"))
    listed(books, "2026-02-20", droplet(1, "web-old"), droplet(2, "web"))
    listed(books, "2026-05-01", droplet(1, "web-old"), droplet(2, "web"))
    books.invoice(
        item("web (s)", start="2026-01-01", end="2026-02-01"),
        item("web (s)", start="2026-03-01", end="2026-04-01"),
        item("web-old (s)", start="2026-03-01", end="2026-04-01"),
        item("web-old (s)", start="2026-01-01", end="2026-02-01"),
    )
    assert [line.resource_provider_id for line in books.lines()] == ["1", "2", "1", None]
    assert books.lines()[3].reason == "droplet 'web-old' is known, but bore another name in the time that the line bills"


@pytest.mark.parametrize("printed", ["before", "after"])
def test_in_the_month_of_a_rename_either_name_may_be_printed(books, printed):
    listed(books, "2026-01-05", droplet(1, "before"))
    listed(books, "2026-04-20", droplet(1, "after"))
    books.invoice(item(f"{printed} (s)"))
    assert books.line().match_status == "matched"


def test_a_resize_is_two_lines_of_one_resource(books):
    books.inventory("droplet", droplet(1, "web"))
    books.invoice(item("web (c-2)", end="2026-04-12"), item("web (c-4)", start="2026-04-12"))
    assert [line.resource_provider_id for line in books.lines()] == ["1", "1"]


def test_a_line_that_stops_while_the_resource_lives_on_pays_for_another_one(books):
    books.inventory("droplet", droplet(1, "web"))
    books.invoice(item("web (s)", end="2026-04-12"))
    assert books.line().match_status == "unmatched"
    assert "billed for another time" in books.line().reason


def test_a_line_that_begins_long_after_the_creation_pays_for_another_one(books):
    books.inventory("droplet", droplet(1, "web"))
    books.invoice(item("web (s)", start="2026-04-12"))
    assert books.line().match_status == "unmatched"


def test_a_resource_is_not_billed_twice_for_the_same_time(books):
    books.inventory("droplet", droplet(1, "web"))
    books.invoice(item("web (s)"), item("web (s)"))
    assert [line.match_status for line in books.lines()] == ["ambiguous", "ambiguous"]
    assert "one of them pays for another" in books.lines()[0].reason


def test_of_two_lines_for_the_same_time_the_size_decides(books):
    books.inventory("droplet", droplet(1, "web", attrs={"size_slug": "c-2"}))
    books.invoice(item("web (c-2)"), item("web (c-4)"))
    assert [line.match_status for line in books.lines()] == ["matched", "ambiguous"]


def test_a_backup_is_in_doubt_where_its_droplets_line_is(books):
    books.inventory("droplet", droplet(1, "web"))
    backup = item("web (Weekly Backup Services)", "Droplet Backups", start="2026-04-08", end="2026-04-08")
    books.invoice(item("web (s)"), item("web (s)"), backup)
    assert books.lines()[2].match_status == "ambiguous"


def test_an_explanation_says_what_spoke_for_and_against_each_candidate(books):
    books.inventory("droplet", droplet(1, "web"), droplet(2, "web", created="2026-04-20"))
    books.invoice(item("web (s)"))
    with books.engine.connect() as conn:
        explanation = explain(conn, books.line().line_id)
        assert explain(conn, -1) is None
    one, two = explanation.considered
    assert (one["provider_id"], one["speaks_against"]) == ("1", [])
    assert (two["provider_id"], two["speaks_against"]) == ("2", ["was created after the line begins"])


def test_a_backup_line_pays_for_its_parent_droplet(books):
    books.inventory("droplet", droplet(1, "git.example.org"))
    books.invoice(item("git.example.org (Weekly Backup Services)", "Droplet Backups", start="2026-04-05", end="2026-04-05"))
    assert (books.line().resource_kind, books.line().match_method) == ("droplet", "parent")


def test_grouped_lines_match_by_their_group(books):
    books.inventory("k8s_cluster", droplet("k-1", "prod"))
    books.invoice(item("3 nodes - 4 GB / 2 vCPU / 80 GB SSD", "Kubernetes Clusters", group="prod"))
    assert (books.line().resource_kind, books.line().match_method, books.line().resource_name) == ("k8s_cluster", "group", "prod")


def test_the_ip_in_the_text_is_the_id_of_a_reserved_ip(books):
    books.inventory("reserved_ip", droplet("192.0.2.10", "192.0.2.10"))
    books.invoice(item("Unused Floating IP - 192.0.2.10", "Floating IPs"), item("Unused Floating IP - 192.0.2.99", "Floating IPs"))
    assert [(line.match_method, line.resource_provider_id, line.resource_state) for line in books.lines()] == [
        ("ip", "192.0.2.10", "active"),
        ("ip", "192.0.2.99", "billing_only"),
    ]


def test_account_tax_credit_and_unknown_lines_say_what_they_are(books):
    books.invoice(
        item("Spaces ($5/mo 250GiB storage & 1TiB bandwidth)", "Spaces Subscription", "5.00"),
        item("GST (18.00%)", "Taxes", "0.90"),
        item("Inference Cloud Trial", "Credits", "-5.00"),
        item("2 qubits", "Quantum Computers", "3.00"),
    )
    assert [line.match_status for line in books.lines()] == ["account_level", "tax", "credit", "unmatched"]
    assert all(line.reason for line in books.lines())
    assert "Quantum Computers" in books.lines()[3].reason


def test_another_accounts_resource_never_matches(engine, books):
    Books(engine, "team-2").inventory("droplet", droplet(1, "web"))
    books.invoice(item("web (s-1vcpu-1gb)"))
    assert books.line().match_status == "unmatched"


def test_two_identical_lines_are_two_lines(books):
    books.invoice(item("web (s)", rid=1), item("web (s)", rid=1))
    assert [line.ordinal for line in books.lines()] == [1, 2]


def test_lines_without_a_match_are_tried_again_when_inventory_learns_more(books):
    books.invoice(item("web (s-1vcpu-1gb)"), item("other (s-1vcpu-1gb)", rid=5))
    assert rematch(books.engine, books.id) == 0
    books.inventory("droplet", droplet(1, "web"), droplet(2, "other"))
    assert rematch(books.engine, books.id) == 1
    assert [line.resource_provider_id for line in books.lines()] == ["1", "5"]  # what the id decided stays
    assert rematch(books.engine, books.id) == 0


def test_what_the_ledger_says_does_not_depend_on_which_twin_was_known_first(engine):
    outcomes = []
    for team, parts in (("together", [["1", "2"]]), ("apart", [["1"], ["1", "2"]])):
        books = Books(engine, team)
        books.inventory("droplet", *[droplet(number, "web") for number in parts[0]])
        books.invoice(item("web (s-1vcpu-1gb)"))
        for numbers in parts[1:]:
            books.inventory("droplet", *[droplet(number, "web") for number in numbers])
            rematch(engine, books.id)
        outcomes.append(books.line().match_status)
    assert outcomes == ["ambiguous", "ambiguous"]


def test_a_name_matches_a_resource_of_the_lines_kind_only(books):
    books.inventory("volume", droplet("v1", "web"))
    books.invoice(item("web (s)"))
    assert books.line().match_status == "unmatched"


def test_one_number_in_two_accounts_is_two_things(engine, books):
    Books(engine, "team-2").inventory("droplet", droplet(7, "theirs"))
    books.inventory("droplet", droplet(7, "web"))
    books.invoice(item("web (s)", rid=7))
    assert books.line().resource_name == "web"


def test_what_was_gone_before_the_line_ends_is_no_candidate(books):
    books.gone("droplet", droplet(1, "web"), at="2026-04-10")
    books.invoice(item("web (s)"))
    assert (books.line().match_status, books.line().reason) == (
        "unmatched",
        "droplet 'web' is known, but did not exist in the time that the line bills",
    )


def test_a_line_of_the_month_to_date_goes_on(books):
    books.inventory("droplet", droplet(1, "web"))
    books.record(billing.InvoiceHeader(invoice_uuid="p", invoice_id=None, period=APRIL, amount=Decimal(1)))
    with books.engine.begin() as conn:
        conn.execute(text("update arcadia.cloud_invoices set covers_until = '2026-04-12T05:00:00Z' where invoice_uuid = 'p'"))
    books.ingest("p", [item("web (s)", end="2026-04-12")])
    assert books.line().match_status == "matched"


def months(*numbers):
    """Starts and ends of months of 2026."""
    return [{"start": f"2026-{number:02}-01", "end": f"2026-{number + 1:02}-01"} for number in numbers]


# Sizes over time


def sized(provider_id, size, **fields):
    return droplet(provider_id, "web", attrs={"size_slug": size}, **fields)


def test_the_size_that_decides_is_that_of_the_time_of_the_line(books):
    """Two droplets of one name swap sizes between March and April."""
    for at, first, second in (
        ("2026-02-20", "c-2", "c-4"),
        ("2026-03-31", "c-2", "c-4"),
        ("2026-04-01", "c-4", "c-2"),
        ("2026-05-10", "c-4", "c-2"),
    ):
        listed(books, at, sized(1, first), sized(2, second))
    march, april = months(3, 4)
    books.invoice(item("web (c-2)", **march), item("web (c-4)", **march), item("web (c-2)", **april), item("web (c-4)", **april))
    assert [line.resource_provider_id for line in books.lines()] == ["1", "2", "2", "1"]


def test_a_size_decides_nothing_for_the_time_before_the_first_listing_where_something_was_resized(books):
    listed(books, "2026-05-10", sized(1, "c-2"), sized(2, "c-4"))
    january, march = months(1, 3)
    books.invoice(item("web (c-2)", **january), item("web (c-4)", **january))
    books.invoice(
        item("web (c-2)", start="2026-02-01", end="2026-02-12"), item("web (c-4)", start="2026-02-12", end="2026-03-01"),
        item("web (c-4)", start="2026-02-01", end="2026-02-14"), item("web (c-2)", start="2026-02-14", end="2026-03-01"),
    )  # fmt: skip
    books.invoice(item("web (c-2)", **march), item("web (c-4)", **march))
    rematch(books.engine, books.id)
    assert {line.match_status for line in books.lines()[:2]} == {"ambiguous"}
    assert [line.resource_provider_id for line in books.lines()[-2:]] == ["1", "2"]


def test_a_resize_without_sizes_on_the_lines_is_contiguous_to_the_second(books):
    books.inventory("load_balancer", droplet("lb-1", "front"))
    first = item("front", "Load Balancers", end="2026-04-12")
    books.invoice(first, item("front", "Load Balancers", start="2026-04-12"))
    later = item("front", "Load Balancers") | {"start_time": "2026-04-12T00:00:09Z"}
    books.invoice(first, later)
    assert [line.match_status for line in books.lines()] == ["matched", "matched", "unmatched", "unmatched"]


@pytest.mark.parametrize("seconds", [20, 59])
def test_a_resize_to_another_size_takes_up_to_a_minute(books, seconds):
    books.inventory("droplet", droplet(1, "web"))
    books.invoice(item("web (c-2)", end="2026-04-12"), item("web (c-4)") | {"start_time": f"2026-04-12T00:00:{seconds}Z"})
    assert [line.match_status for line in books.lines()] == ["matched", "matched"]


def test_made_again_seconds_later_is_no_resize(books):
    """Droplet 1 was destroyed on the 12th and is missed at the next listing; what took its name for two hours was never listed."""
    listed(books, "2026-04-01", sized(1, "c-2"))
    listed(books, "2026-04-12", sized(1, "c-2"))
    for at in ("2026-04-13", "2026-04-14", "2026-04-15"):
        listed(books, at)
    books.invoice(
        item("web (c-2)", end="2026-04-12"),
        item("web (c-2)", start="2026-04-12") | {"start_time": "2026-04-12T00:00:05Z", "end_time": "2026-04-12T02:00:00Z"},
    )
    assert [line.match_status for line in books.lines()] == ["matched", "unmatched"]


def test_what_was_destroyed_after_its_resize_is_not_a_namesake_that_lives_on(books):
    """Another `web` was resized on the 12th and destroyed on the 14th; droplet 1 was there all the time and has a line of its own."""
    books.inventory("droplet", sized(1, "c-2"))
    books.invoice(
        item("web (c-2)", end="2026-04-12"), item("web (c-4)", start="2026-04-12", end="2026-04-14"), item("web (c-8)")
    )  # fmt: skip
    assert [line.match_status for line in books.lines()] == ["unmatched", "unmatched", "matched"]
    assert "billed for another time" in books.lines()[0].reason


def test_a_resize_twice_is_three_lines_of_one_resource_beside_a_namesake(books):
    books.inventory("droplet", droplet(1, "web"))
    books.invoice(
        item("web (c-2)", end="2026-04-12"),
        item("web (c-4)", start="2026-04-12", end="2026-04-14"),
        item("web (c-2)", start="2026-04-14"),
        item("web (c-1)", start="2026-04-20", end="2026-04-21"),
    )
    assert [line.match_status for line in books.lines()] == ["matched", "matched", "matched", "unmatched"]


def test_nothing_of_what_is_gone_begins_after_it_was_last_seen(books):
    listed(books, "2026-04-10", sized(1, "c-2", created="2026-04-02"))
    for at in ("2026-04-20", "2026-04-21", "2026-04-22"):
        listed(books, at)
    books.invoice(
        item("web (c-2)", start="2026-04-02", end="2026-04-12"), item("web (c-4)", start="2026-04-12", end="2026-04-19"),
    )  # fmt: skip
    assert [line.match_status for line in books.lines()] == ["matched", "unmatched"]


@pytest.mark.parametrize(("start", "end"), [("2026-04-10", "2026-05-01"), ("2026-04-01", "2026-04-10")])
def test_the_lines_of_a_cluster_that_was_there_all_month_cover_the_month(books, start, end):
    books.inventory("managed_db", droplet("db-1", "orders"))
    books.invoice(item("node", "Database Clusters", group="orders", start=start, end=end))
    assert books.line().match_status == "unmatched"
    books.invoice(
        item("node", "Database Clusters", group="orders", start="2026-04-01", end="2026-04-10"),
        item("bigger node", "Database Clusters", group="orders", start="2026-04-10"),
    )
    assert [line.match_status for line in books.lines()] == ["unmatched", "matched", "matched"]


# Names before the first listing


def test_a_name_counts_for_the_time_before_the_first_listing(books):
    listed(books, "2026-05-10", droplet(1, "web"))
    for month in months(1, 2, 3):
        books.invoice(item("web (s)", **month))
    assert {line.match_status for line in books.lines()} == {"matched"}


@pytest.mark.parametrize("newest_first", [False, True])
def test_a_name_given_anew_before_the_first_listing_is_in_doubt_for_the_time_before(books, newest_first):
    """Droplet 1 was `old` until March, when the one that had been `web` was destroyed; ids would tell, a CSV does not."""
    listed(books, "2026-05-10", droplet(1, "web"))
    january, february, march, april = months(1, 2, 3, 4)
    invoices = [
        [item("web (s)", **january), item("old (s)", **january)],
        [item("web (s)", **february), item("old (s)", **february)],
        [item("web (s)", start="2026-03-01", end="2026-03-20"), item("web (s)", **march)],
        [item("web (s)", **april)],
    ]
    for lines in reversed(invoices) if newest_first else invoices:
        books.invoice(*lines)
    rematch(books.engine, books.id)
    by_month = {line.started_at.month: line.match_status for line in books.lines() if line.description == "web (s)" and line.hours}
    assert (by_month[1], by_month[2], by_month[4]) == ("ambiguous", "ambiguous", "matched")
    doubted = next(line for line in books.lines() if line.started_at.month == 1 and line.description == "web (s)")
    assert "given that name after the line" in doubted.reason
    assert [candidate["provider_id"] for candidate in doubted.match_detail["candidates"]] == ["1"]


def test_a_name_that_a_month_ends_without_is_in_doubt_before_it(books):
    """In March no line says `web`, though droplet 1 was there and paid for: it had another name then."""
    listed(books, "2026-05-10", droplet(1, "web"))
    for name, month in zip(["web", "other"], months(2, 3), strict=True):
        books.invoice(item(f"{name} (s)", **month))
    rematch(books.engine, books.id)
    assert [line.match_status for line in books.lines()] == ["ambiguous", "unmatched"]


def test_a_month_whose_invoice_is_not_known_says_nothing_of_names(books):
    listed(books, "2026-05-10", droplet(1, "web"))
    for month in months(1, 3):
        books.invoice(item("web (s)", **month))
    rematch(books.engine, books.id)
    assert {line.match_status for line in books.lines()} == {"matched"}


def test_a_line_with_an_id_tells_of_names_as_well(books):
    """February's line of `web` carries an id: it is no gap."""
    listed(books, "2026-05-10", droplet(1, "web"))
    january, february, march = months(1, 2, 3)
    books.invoice(item("web (s)", **january))
    books.invoice(item("web (s)", rid=1, **february))
    books.invoice(item("web (s)", **march))
    rematch(books.engine, books.id)
    assert {line.match_status for line in books.lines()} == {"matched"}


def test_what_has_no_creation_date_is_in_doubt_before_its_first_listing_where_its_name_came_or_went(books):
    """An add-on does not say since when it is there; in February one of its name was given up and another made."""
    books.inventory("addon", Resource(provider_id="2", name="logs"))
    january, march = months(1, 3)
    books.invoice(item("logs (pro)", "Add-Ons", **january))
    books.invoice(
        item("logs (pro)", "Add-Ons", start="2026-02-01", end="2026-02-12"),
        item("logs (pro)", "Add-Ons", start="2026-02-12", end="2026-03-01"),
    )
    books.invoice(item("logs (pro)", "Add-Ons", **march))
    rematch(books.engine, books.id)
    assert [line.match_status for line in books.lines()] == ["ambiguous", "ambiguous", "ambiguous", "matched"]


def test_two_clusters_of_one_name_are_in_doubt_before_the_first_listing(books):
    """The same part is billed twice for the same time, so there were two; only one of them was still there to be listed."""
    run = begin(books.engine, account_id=books.id, kind="managed_db", started_at=datetime(2026, 5, 10, tzinfo=UTC))
    reconcile(books.engine, run, [droplet("db-1", "orders")])
    node, storage = (item(part, "Database Clusters", group="orders") for part in ("node", "storage"))
    books.invoice(node, storage)
    assert {line.match_status for line in books.lines()} == {"matched"}
    books.invoice(node, node | {"end_time": "2026-04-20T00:00:00Z"}, storage, uuid="twins")
    assert {line.match_status for line in books.lines() if line.invoice_uuid == "twins"} == {"ambiguous"}


# Kubernetes


SERVICE = "a" + "0123456789abcdef" * 2
SERVICE = SERVICE[:32]


@pytest.mark.parametrize("uuid", ["", "k-1"])
def test_the_load_balancer_of_a_service_is_paid_by_the_line_that_names_it(books, uuid):
    books.inventory("k8s_cluster", droplet("k-1", "prod"))
    line = item(SERVICE, "Kubernetes Clusters", group="prod", uuid=uuid)
    books.invoice(line)
    assert books.line().resource_kind == "k8s_cluster"  # as long as nobody has seen it
    books.inventory("load_balancer", droplet("lb-1", SERVICE))
    assert rematch(books.engine, books.id) == 1
    assert (books.line().resource_kind, books.line().resource_provider_id) == ("load_balancer", "lb-1")
    assert rematch(books.engine, books.id) == 0


# What changes


def test_a_changed_match_leaves_an_event_that_says_what_it_was(books):
    books.invoice(item("web (s)"), item("db (s)", rid=9))
    books.inventory("droplet", droplet(1, "web"))
    rematch(books.engine, books.id)
    books.inventory("droplet", droplet(1, "web"), droplet(2, "web"))
    rematch(books.engine, books.id)
    first, second = books.rows("select * from arcadia.cloud_match_events where account_id = :a order by event_id")
    one = str(books.rows("select resource_id from arcadia.resources where account_id = :a and provider_id = '1'")[0][0])
    assert (first.ordinal, first.changes["match_status"]) == (1, {"before": "unmatched", "after": "matched"})
    assert first.changes["reason"]["before"].startswith("no droplet named 'web'")
    assert str(first.changes["resource_id"]["after"]) == one
    assert second.changes["match_status"] == {"before": "matched", "after": "ambiguous"}
    assert str(second.changes["resource_id"]["before"]) == one
    assert second.changes["match_method"] == {"before": "name", "after": None}


def test_a_new_edition_of_an_invoice_tells_of_changed_matches_too(books):
    books.inventory("droplet", droplet(1, "web"), droplet(2, "web"))
    books.invoice(item("web (s)"), item("new (s)", rid=7), uuid="u")
    assert books.rows("select 1 from arcadia.cloud_match_events where account_id = :a") == []  # a first match is no change
    books.invoice(item("web (s)", rid=2), item("newer (s)", rid=7), uuid="u")
    (event,) = books.rows("select * from arcadia.cloud_match_events where account_id = :a")
    assert (event.ordinal, event.changes["match_status"]) == (1, {"before": "ambiguous", "after": "matched"})


def test_a_match_by_id_stays_whatever_inventory_learns(books):
    books.invoice(item("web (s)", rid=1))
    books.inventory("droplet", droplet(1, "other"), droplet(2, "web"))
    assert rematch(books.engine, books.id) == 0
    assert (books.line().match_method, books.line().resource_provider_id) == ("id", "1")


def test_a_line_that_ends_after_the_newest_listing_is_looked_at_again_at_the_next(books):
    """Whether a resource outlived its line is known only once it has been listed again."""
    listed(books, "2026-04-11", droplet(1, "web"))
    books.invoice(item("web (s)", end="2026-04-12"))
    assert books.line().match_status == "matched"
    assert rematch(books.engine, books.id) == 0
    listed(books, "2026-04-14", droplet(1, "web"))
    assert rematch(books.engine, books.id) == 1
    assert books.line().match_status == "unmatched"


def test_what_nobody_has_looked_at_yet_is_matched_name_by_name(engine, books):
    """Of a table that has just been filled the planner knows nothing: it must not look through all of a kind for each name."""
    with engine.begin() as conn:
        conn.execute(text("alter table arcadia.resources set (autovacuum_enabled = off)"))  # or it is analyzed now and then
        conn.execute(
            text(
                "insert into arcadia.resources (account_id, kind, provider_id, name, name_key, first_seen_at, last_seen_at)"
                " select :account, 'droplet', n, 'web-' || n, 'web-' || n, now(), now() from generate_series(1, 1000) n"
            ),
            {"account": books.id},
        )
    books.invoice(item("web-7 (s-1vcpu-1gb)"))
    before = rows_read(engine)
    rematch(engine, books.id)
    assert books.line().resource_name == "web-7"
    assert rows_read(engine) - before < 10_000


def forget_what_was_matched(books):
    """Have everything looked at again."""
    with books.engine.begin() as conn:
        conn.execute(text("insert into arcadia.rematch_queue select resource_id, account_id from arcadia.resources on conflict do nothing"))
        conn.execute(text("update arcadia.listings set rematched_at = null"))


NAMES = st.sampled_from(["a", "b", "c"])
DAYS = st.integers(1, 150)
LISTINGS = st.tuples(st.just("list"), DAYS, st.dictionaries(st.integers(1, 4), NAMES, max_size=4))
INVOICES = st.tuples(
    st.just("invoice"), st.integers(1, 5), st.lists(st.tuples(NAMES, st.integers(1, 27), st.integers(1, 28), st.booleans()), max_size=4)
)
STEPS = st.lists(LISTINGS | INVOICES | st.just(("rematch", 0, None)), min_size=3, max_size=10)
NEW_TEAM = itertools.count()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(STEPS)
def test_matching_what_has_changed_is_as_good_as_matching_everything(engine, steps):
    books = Books(engine, f"team-{next(NEW_TEAM)}")
    clock = datetime(2026, 1, 1, tzinfo=UTC)
    for step, number, what in steps:
        if step == "list":
            clock += timedelta(hours=number)
            run = begin(engine, account_id=books.id, kind="droplet", started_at=clock)
            there = [droplet(provider_id, name, created="2025-12-20") for provider_id, name in what.items()]
            reconcile(engine, run, there, strike_interval=timedelta(0), allow_mass_deletion=True)
        elif step == "invoice":
            lines = []
            for name, first, last, whole in what:
                start, end = f"2026-{number:02}-{first:02}", f"2026-{number:02}-{max(first, last):02}"
                whole_month = {"start": f"2026-{number:02}-01", "end": f"2026-{number + 1:02}-01"}
                lines.append(item(f"{name} (s)", **(whole_month if whole else {"start": start, "end": end})))
            books.invoice(*lines, uuid=f"{books.id}-{number}")
        else:
            rematch(engine, books.id)
    rematch(engine, books.id)
    forget_what_was_matched(books)
    assert rematch(engine, books.id) == 0


# Without its rule, each promise breaks: the rule is taken out of the SQL, and its test must fail.

MUTANTS = [
    *((f"{fact.sql} as {name}", f"true as {name}", test) for name, fact, test in (
        ("bore_name", FACTS["bore_name"], test_a_name_matches_who_bore_it_in_the_time_of_the_line),
        ("born", FACTS["born"], test_a_name_that_nobody_bore_then_says_so),
        ("not_gone", FACTS["not_gone"], test_what_was_gone_before_the_line_ends_is_no_candidate),
        ("in_region", FACTS["in_region"], test_a_volume_of_that_name_in_another_region_is_not_it),
        ("begins_right", NEIGHBOUR_FACTS["begins_right"], test_a_line_that_begins_long_after_the_creation_pays_for_another_one),
        ("ends_right", NEIGHBOUR_FACTS["ends_right"], test_a_line_that_stops_while_the_resource_lives_on_pays_for_another_one),
    )),
    ("p.started_at = any (p.ends)|lag(ended_at) over neighbours = started_at", "false",
     test_a_resize_without_sizes_on_the_lines_is_contiguous_to_the_second),
    ("p.ended_at = any (p.starts)|lead(started_at) over neighbours = ended_at", "false",
     test_a_resize_without_sizes_on_the_lines_is_contiguous_to_the_second),
    ("interval '1 minute'", "interval '0'", test_a_resize_to_another_size_takes_up_to_a_minute),
    ("o.size <> p.size", "true", test_a_resize_without_sizes_on_the_lines_is_contiguous_to_the_second),
    ("l.started_at <= r.alive_until", "true", test_nothing_of_what_is_gone_begins_after_it_was_last_seen),
    ("when p.kind = any ('{k8s_cluster,managed_db}')", "when false", test_the_lines_of_a_cluster_that_was_there_all_month_cover_the_month),
    ("select line, resource_id from leaning", "select line, resource_id from leaning where false",
     test_what_was_destroyed_after_its_resize_is_not_a_namesake_that_lives_on),
    ("j.twins or", "", test_two_clusters_of_one_name_are_in_doubt_before_the_first_listing),
    ("z.resource_id is null", "true", test_the_size_that_decides_is_that_of_the_time_of_the_line),
    ("or j.by_size", "", test_a_size_decides_nothing_for_the_time_before_the_first_listing_where_something_was_resized),
    ("r.account_id = :account_id and r.kind = l.kind", "r.kind = l.kind", test_another_accounts_resource_never_matches),
    ("r.account_id = :account_id and r.kind = l.kind", "r.account_id = :account_id", test_a_name_matches_a_resource_of_the_lines_kind_only),
    ("a.kind = l.kind and a.provider_id", "a.provider_id", test_one_number_in_two_kinds_is_two_things),
    ("a.account_id = :account_id and", "", test_one_number_in_two_accounts_is_two_things),
    ("r.name_key = l.name_key", "r.name_key = l.name_key and r.seen_until is null", test_a_name_borne_before_still_matches),
    ("from arcadia.resources k", "from (select * from arcadia.resources where deleted_at is null) k",
     test_a_tombstone_matches_what_it_was_billed_for),
    ("from arcadia.other_names o", "from (select * from arcadia.other_names where false) o", test_a_name_borne_before_still_matches),
    ("(j.same_size or not coalesce(c.any_same_size, false))", "true", test_size_breaks_a_tie_but_is_never_required),
    ("(j.same_size or not coalesce(c.any_same_size, false))", "j.same_size", test_two_equally_good_candidates_are_ambiguous_and_listed),
    ("crowded and (not same_size", "false and (not same_size", test_a_resource_is_not_billed_twice_for_the_same_time),
    ("crowded and (not same_size or", "crowded and (true or", test_of_two_lines_for_the_same_time_the_size_decides),
    ("where b.look_up = 'parent' and own", "where false and own", test_a_backup_is_in_doubt_where_its_droplets_line_is),
    ("c.candidates = 1 and c.doubt is null", "c.candidates >= 1 and c.doubt is null",
     test_two_equally_good_candidates_are_ambiguous_and_listed),
    ("f.begun > coalesce(b.ended, 0)", "false", test_a_name_given_anew_before_the_first_listing_is_in_doubt_for_the_time_before),
    ("f.month - interval '1 month' = any(i.months)", "true", test_a_month_whose_invoice_is_not_known_says_nothing_of_names),
    ("k <> all (coalesce(t.ends, '{}'))", "false", test_a_name_that_a_month_ends_without_is_in_doubt_before_it),
    ("j.undated or", "", test_what_has_no_creation_date_is_in_doubt_before_its_first_listing_where_its_name_came_or_went),
    ("where l.component like 'load balancer a%'", "where false", test_the_load_balancer_of_a_service_is_paid_by_the_line_that_names_it),
    ("l.look_up = 'ip'\n", "false\n", test_the_ip_in_the_text_is_the_id_of_a_reserved_ip),
    ("provider_resource_id is null and provider_resource_uuid is null", "true", test_an_id_decides_whatever_the_name_says),
    ("coalesce(i.covers_until - interval '1 day', l.next_month)", "l.next_month",
     test_a_line_of_the_month_to_date_goes_on),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "without", "test"), MUTANTS, ids=[f"{test.__name__[5:]}-{rule[:30]}" for rule, _, test in MUTANTS])
def test_without_its_rule_a_promise_breaks(engine, monkeypatch, rule, without, test):
    sql = "".join(statements("(lines)", "(history)", "line"))
    assert all(part in sql for part in rule.split("|"))

    def mutants(*relations):
        mutated = statements(*relations)
        for part in rule.split("|"):  # a rule that is asked in two places
            mutated = [statement.replace(part, without) for statement in mutated]
        return mutated

    monkeypatch.setattr(matching, "statements", mutants)
    arguments = {
        "engine": engine,
        "books": Books(engine),
        "newest_first": False,
        "uuid": "",
        "seconds": 20,
        "start": "2026-04-10",
        "end": "2026-05-01",
    }
    wanted = {name: arguments[name] for name in inspect.signature(test).parameters}
    with pytest.raises((AssertionError, DBAPIError)):
        test(**wanted)
