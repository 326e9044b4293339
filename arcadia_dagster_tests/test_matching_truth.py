"""The generated accounts of `benchmarks/`: that they are what they claim to be, and that a small one goes through every mode unharmed.

How matching decides single cases is tested elsewhere; here nothing is known but that it must never be wrong.
"""

from datetime import datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arcadia_dagster.demo.rules import next_month
from benchmarks.account_generator import END, HORIZON, MONTHS, STILL_THERE, GeneratedAccount
from benchmarks.matching_truth import MODES, run, table_of

ACCOUNTS = {seed: GeneratedAccount(seed, 60) for seed in range(1, 7)}


@pytest.fixture(params=ACCOUNTS, ids="seed {}".format)
def account(request):
    return ACCOUNTS[request.param]


def times(line):
    return datetime.fromisoformat(line.item["start_time"]), datetime.fromisoformat(line.item["end_time"])


def test_bills_are_of_twelve_months_and_add_up_with_their_taxes(account):
    invoices = account.invoices()
    assert [invoice.month for invoice in invoices] == MONTHS
    assert next_month(MONTHS[-1]) == END
    for invoice in invoices:
        amounts = [(Decimal(line.item["amount"]), line.status) for line in invoice.lines]
        taxes = sum(amount for amount, status in amounts if status == "tax")
        assert invoice.amount == sum(amount for amount, _ in amounts)
        assert abs(taxes - (invoice.amount - taxes) * Decimal("0.0735")) <= Decimal("0.01")
        assert all(amount == amount.quantize(Decimal("0.01")) for amount, _ in amounts)
    assert account.invoices() == invoices


def test_every_truth_is_a_thing_that_lived_for_as_long_as_its_line(account):
    for invoice in account.invoices():
        for line in invoice.lines:
            first, last = times(line)
            assert invoice.month <= first <= last <= next_month(invoice.month)
            if line.truth is not None:
                assert line.truth in account.things
                assert any(born <= first and last <= died for born, died in line.truth.lives), (line, str(line.truth))
                assert line.truth.kind in ("reserved_ip", "reserved_ipv6") or line.truth.name_at(first) or line.truth.name_at(last)
            else:
                assert line.status != "matched"


def test_everything_is_billed_without_gap_or_overlap_but_nodes_and_assigned_addresses(account):
    billed = {}
    for invoice in account.invoices():
        for line in invoice.lines:
            if line.truth is not None and line.item["product"] != "Droplet Backups":
                billed.setdefault(line.truth, set()).add(times(line))
    for thing in account.things:
        spans = sorted(billed.get(thing, ()))
        if thing.kind == "droplet" and thing.cluster:
            assert spans == []
        elif thing.kind not in ("reserved_ip", "reserved_ipv6"):
            until = max(thing.born, MONTHS[0])
            for first, last in spans:
                assert first - until in (timedelta(0), timedelta(seconds=1))  # volumes end a second before the month does
                until = last
            assert until >= min(thing.died, END) - timedelta(seconds=1)


def test_the_accounts_have_what_makes_matching_hard():
    things = [thing for account in ACCOUNTS.values() for thing in account.things]
    assert {thing.kind for thing in things} >= {"droplet", "reserved_ipv6", "k8s_cluster", "managed_db", "app", "nfs_share", "addon"}
    assert any(len(thing.names) > 1 for thing in things)
    assert any(len(thing.states) > 1 for thing in things if thing.kind == "droplet")
    assert any(len(thing.lives) > 1 for thing in things if thing.kind == "reserved_ip")
    assert any(thing.cluster for thing in things if thing.kind == "volume")
    births = {(thing.kind, thing.names[0][1], thing.born) for thing in things}
    soon = timedelta(seconds=5)
    assert any((thing.kind, thing.names[-1][1], thing.died + soon) in births for thing in things if thing.died != STILL_THERE)


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_listings_left_out_would_have_told_nothing_new(data):
    account = ACCOUNTS[data.draw(st.sampled_from(sorted(ACCOUNTS)))]
    moments = account.listings(MONTHS[0])
    steps = (HORIZON - MONTHS[0]) // account.listed_every
    moment = MONTHS[0] + data.draw(st.integers(0, steps)) * account.listed_every
    kind = data.draw(st.sampled_from(sorted({thing.kind for thing in account.things})))
    before = max(listed for listed, kinds in moments.items() if kind in kinds and listed <= moment)
    assert account.listing(kind, moment) == account.listing(kind, before)


@pytest.mark.parametrize("seed", [2, 3, 5])
def test_a_small_account_has_no_line_wrong_in_any_mode(engine, seed):
    account = GeneratedAccount(seed, 20)
    verdicts = [verdict for mode in MODES for verdict in run(engine, account, mode)]
    assert [str(verdict) for verdict in verdicts if verdict.wrong or verdict.missed] == []
    assert {verdict.method for verdict in verdicts} >= {"id", "name", "group", "parent", "ip"}
    assert table_of(verdicts).row_count > len(MODES)
