"""When money asks for a person: the forecast of a month, the usual cost of projects, and the checks that read them."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import dagster as dg
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from arcadia_dagster.defs.costs.alarms import month_is_within_budget, projects_cost_what_they_used_to, unexplained_money_is_little
from arcadia_dagster.defs.resources import Ledger
from arcadia_dagster.demo.rules import prorated
from arcadia_dagster.ledger import billing
from arcadia_dagster.ledger.alarms import months_over_budget, risen_projects, unexplained_money
from arcadia_dagster_tests.books import Books, as_json, item

HALF = Decimal(50)


@pytest.fixture
def books(engine):
    return Books(engine)


def preview(books, *items, until, period=date(2026, 5, 1)):
    """The month to date as the provider shows it at a moment: `until` is a day of May, or a time."""
    until = datetime.fromisoformat(until if "T" in until else f"{until}T00:00:00Z")
    total = sum((Decimal(one["amount"]) for one in items), Decimal(0))
    billing.ingest_preview(books.engine, books.id, billing.Preview(period=period, amount=total, covers_until=until), as_json(*items))


def so_far(description, amount, until, *, start="2026-05-01", product="Droplets", **fields):
    return item(description, product, amount, start=start, end=until, **fields)


def forecast(books):
    return dict(books.rows("select charge, sum(forecast_usd) from arcadia.cost_forecast group by 1"))


def ask(books, rule, limit):
    with books.engine.connect() as conn:
        return rule(conn, limit)


# The forecast


def test_what_runs_goes_on_and_what_has_ended_does_not(books):
    day = "2026-05-15"
    preview(
        books,
        so_far("web (s-1vcpu-1gb)", "3.00", day, rid=1),  # half of 672 hours
        so_far("gone (s-1vcpu-1gb)", "1.00", "2026-05-08", rid=2),
        so_far("late (s-1vcpu-1gb)", "0.50", day, start="2026-05-12", rid=3),  # 72 hours of 480
        so_far("crumb (nyc1) 0.01GB Droplet Snapshot", "0.01", day, product="Droplet Snapshots", rid=4),
        until="2026-05-15T05:00:00Z",
    )
    assert forecast(books) == {"usage": Decimal("6.00") + 1 + Decimal("3.33") + Decimal("0.01")}


def test_gpus_have_no_limit_of_hours(books):
    preview(books, so_far("train (gpu-h100x1-80gb)", "100.00", "2026-05-11"), until="2026-05-11")
    assert forecast(books) == {"usage": Decimal("310.00")}


def test_taxes_grow_in_proportion_and_the_account_s_own_charges_do_not(books):
    day = "2026-05-15"
    preview(
        books,
        so_far("web (s-1vcpu-1gb)", "15.00", day, rid=1),
        so_far("Spaces ($5/mo 250GB storage & 1TB bandwidth)", "5.00", day, product="Spaces Subscription"),
        so_far("GST (18.00%)", "3.60", day, product="Taxes"),
        until=day,
    )
    assert forecast(books) == {"usage": Decimal("30.00"), "account_level": Decimal("5.00"), "tax": Decimal("6.30")}


def test_backups_stop_at_what_a_month_costs(books):
    def backups(name, number, how):
        return so_far(f"{name} ({how} Backup Services)", "0.60", "2026-05-15", product="Droplet Backups") | {"duration": str(number)}

    preview(books, backups("a", 2, "Weekly"), backups("b", 4, "Weekly"), backups("c", 14, "Daily"), until="2026-05-15")
    assert forecast(books) == {"usage": Decimal("1.20") + Decimal("0.60") + Decimal("1.20")}


def test_in_the_first_three_days_there_is_no_forecast(books):
    preview(books, so_far("web (s-1vcpu-1gb)", "0.21", "2026-05-02", rid=1), until="2026-05-03T23:59:00Z")
    assert books.rows("select so_far_usd, forecast_usd from arcadia.cost_forecast") == [(Decimal("0.21"), None)]
    assert ask(books, months_over_budget, Decimal(5)) == []
    (row,) = ask(books, months_over_budget, Decimal("0.20"))
    assert (row.period, row.so_far_usd, row.forecast_usd) == ("2026-05", Decimal("0.21"), None)


def test_a_preview_of_a_whole_month_is_its_forecast(books):
    preview(books, so_far("web (s-1vcpu-1gb)", "6.00", "2026-06-01", rid=1), until="2026-06-01T04:00:00Z")
    assert forecast(books) == {"usage": Decimal("6.00")}


@hypothesis_settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(price=st.integers(4, 5000), begins=st.integers(0, 700), days=st.integers(3, 31))
def test_what_runs_on_is_foreseen_to_the_cents_of_its_rounding(books, price, begins, days):
    """One droplet of `price` USD a month from an hour of May on, seen after `days`: the forecast is what May will bill for it."""
    may = datetime(2026, 5, 1, tzinfo=UTC)
    first, until = may + timedelta(hours=begins), may + timedelta(days=days)
    hours = int((until - first).total_seconds() // 3600)
    if hours < 1:
        return
    line = so_far("web (s-1vcpu-1gb)", prorated(Decimal(price), hours), "2026-05-01", rid=1)
    line |= {"start_time": first.isoformat().replace("+00:00", "Z"), "end_time": until.isoformat().replace("+00:00", "Z")}
    preview(books, line, until=until.isoformat())
    whole = 744 - begins
    error = abs(forecast(books)["usage"] - Decimal(prorated(Decimal(price), whole)))
    assert error <= Decimal("0.01") * (min(672, whole) / Decimal(min(672, hours)) + 1)


# Projects


def months(books, *amounts, first=date(2025, 10, 1), project="shop", products=("Droplets",)):
    """Closed months in a row in which a project costs so much."""
    period = first
    for amount in amounts:
        start, period_end = period.isoformat(), (period + timedelta(days=32)).replace(day=1)
        lines = [
            item(f"{project} (s-1vcpu-1gb)", product, str(amount), rid=project.__hash__() % 1000, start=start, end=period_end.isoformat(),
                 project=project)
            for product in products if amount is not None
        ]  # fmt: skip
        books.invoice(*lines, item("GST (18.00%)", "Taxes", "1.00", start=start, end=period_end.isoformat()), period=period)
        period = period_end


@pytest.mark.parametrize(
    ("amounts", "told"),
    [
        ((100, 100, 100, 151), True),
        ((100, 100, 100, 150), False),  # not more than by half
        ((100, 100, 151), False),  # two months are no past
        ((100, 100, 100, 500, 100, 151), False),  # it cost as much before, and the median is not moved by it
        ((100, 500, 100, 100, 100, 160), False),
        ((100, 100, 100, 200, 205), False),  # a rise is told once
        ((100, 100, 100, 200, 300), True),  # and the next one again
        ((5, 5, 5, 14.99), False),  # a few dollars
        ((5, 5, 5, 15.01), True),
        ((50, 60, 70, 80, 90, 100), False),  # growth
        ((20, None, None, None, None, 40), True),  # it was gone
        ((100, None, None, None, None, 40), False),
        ((100, 100, 100, -500), False),
    ],
)
def test_a_rise_is_told_once_and_only_where_it_is_one(books, amounts, told):
    months(books, *amounts)
    assert bool(ask(books, risen_projects, HALF)) is told


def test_months_of_any_length_are_alike(books):
    months(books, 100, 100, 100, 100, 100, 100, first=date(2025, 11, 1))  # February to April
    assert ask(books, risen_projects, Decimal(1)) == []


def test_a_running_month_is_judged_by_its_forecast(books):
    months(books, 100, 100, 100, 100, first=date(2026, 1, 1))
    preview(books, so_far("shop (s-1vcpu-1gb)", "80.00", "2026-05-15", rid=1, project="shop"), until="2026-05-15")
    (row,) = ask(books, risen_projects, HALF)
    assert row == ("team-1", "shop", "2026-05", "forecast", Decimal("160.00"), Decimal("100.00"), Decimal("60.0"))


def test_a_month_that_is_billed_in_part_is_no_past(books):
    months(books, 100, 100, 100, 100, first=date(2026, 1, 1))
    books.invoice(item("shop (s-1vcpu-1gb)", amount="7.00", rid=1, start="2026-05-01", end="2026-05-02", project="shop"),
                  period=date(2026, 5, 1))  # fmt: skip
    preview(books, so_far("shop (s-1vcpu-1gb)", "50.00", "2026-05-15", rid=1, project="shop"), until="2026-05-15")
    rows = books.rows("select period::text, cost_basis, typical_usd from arcadia.project_cost_trend order by period desc limit 2")
    assert rows == [("2026-05-01", "forecast", 100), ("2026-04-01", "billed", 100)]


def test_accounts_and_projects_are_judged_apart(books):
    other = Books(books.engine, "team-2")
    months(books, 100, 100, 100, 100)
    months(other, 10, 10, 10, 100)
    months(books, 7, 7, 7, 7, project="blog")
    assert [(row.account, row.project) for row in ask(books, risen_projects, HALF)] == [("team-2", "shop")]


# What nobody can explain


def test_unexplained_money_counts_where_it_is_new(books):
    books.invoice(item("old (s-1vcpu-1gb)", amount="99.00", start="2026-03-01", end="2026-04-01"), period=date(2026, 3, 1))
    books.invoice(
        item("ghost (s-1vcpu-1gb)", amount="6.00"), item("ghost (s-1vcpu-1gb)", amount="-5.00"), item("web (s)", amount="50.00", rid=1)
    )
    preview(books, so_far("ghost (s-1vcpu-1gb)", "12.00", "2026-05-10"), until="2026-05-10")
    assert [(row.period, row.lines, row.usd) for row in ask(books, unexplained_money, Decimal(10))] == [
        ("2026-05", 1, 12),
        ("2026-04", 2, 11),
    ]
    assert ask(books, unexplained_money, Decimal(12)) == []


# The checks


@pytest.fixture
def check(books, monkeypatch):
    monkeypatch.setenv("ARCADIA_DATABASE_URL", books.engine.url.render_as_string(hide_password=False))

    def run(definition):
        with dg.DagsterInstance.ephemeral() as instance:
            result = dg.materialize(
                [definition],
                selection=dg.AssetSelection.checks(definition),
                instance=instance,
                resources={"ledger": Ledger()},
                raise_on_error=False,
            )
            return next(iter(result.get_asset_check_evaluations()), result)

    return run


def test_each_check_says_what_to_look_at(books, check, monkeypatch):
    checks = (unexplained_money_is_little, projects_cost_what_they_used_to, month_is_within_budget)
    assert all(check(one).passed for one in checks)
    months(books, 100, 100, 100, 100, first=date(2026, 1, 1))
    day = "2026-05-15"
    shop = so_far("shop (s-1vcpu-1gb)", "80.00", day, rid=1, project="shop")
    preview(books, shop, so_far("ghost (s-1vcpu-1gb)", "12.00", day), until=day)
    assert check(month_is_within_budget).passed  # there is none
    monkeypatch.setenv("ARCADIA_MONTHLY_BUDGET_USD", "183.99")
    found = [check(one) for one in checks]
    assert [(one.passed, one.severity.value, one.metadata["found"].value) for one in found] == [(False, "WARN", 1)] * 3
    assert [one.description for one in found] == [
        "Nobody knows what 12.00 USD of team-1 in 2026-05 pay for (lines: 1).",
        "Project shop of team-1 is to cost 160.00 USD in 2026-05, where 100.00 USD are usual.",
        "2026-05 is above the budget: 92.00 USD so far, on course for 184.00 USD.",
    ]
    assert "| team-1 | 2026-05 | 1 | 12.00 |" in found[0].metadata["which"].value
    monkeypatch.setenv("ARCADIA_MONTHLY_BUDGET_USD", "184")
    monkeypatch.setenv("ARCADIA_ALERT_UNEXPLAINED_USD", "12")
    monkeypatch.setenv("ARCADIA_ALERT_PROJECT_INCREASE_PERCENT", "60")
    assert all(check(one).passed for one in checks)


def test_a_limit_that_is_none_fails_in_one_sentence(check, monkeypatch):
    monkeypatch.setenv("ARCADIA_MONTHLY_BUDGET_USD", "lots")
    (failed,) = [event for event in check(month_is_within_budget).all_events if event.is_step_failure]
    assert failed.step_failure_data.user_failure_data.description == "ARCADIA_MONTHLY_BUDGET_USD must be a number, 0 or more, not 'lots'"


def test_many_rises_are_told_as_three_and_how_many_more(books, check):
    for number in range(5):
        months(books, 100, 100, 100, 200 + number, project=f"shop{number}", first=date(2026, 1, 1))
    said = check(projects_cost_what_they_used_to).description
    assert said.startswith("Project shop4 of team-1 cost 204.00 USD in 2026-04, where 100.00 USD are usual. ")
    assert said.endswith(" And 2 more.")
