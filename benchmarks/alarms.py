"""How often the alarms on money are right, on accounts made up from seeds: rises of a project's cost, and forecasts of a month.

Run by `make bench`, or `python benchmarks/alarms.py SEED... [--resources N]`. The accounts are `account_generator.py`'s, made steady: all
lives through the year, and things are replaced by others like them. What ought not to be told happens all the same: months of 28 to 31
days, machines that live for days or weeks, adjustments. Into one project of some accounts a rise is planted, within the first ten days of a
month: by 30 % of what the project costs, which is below the limit, or by more than the limit. An alarm is right in the month in which such
a rise begins, or in the next. The accounts as generated, which grow all the year and have GPUs, are only counted: nobody knows which of
their rises are worth telling.
"""

import argparse
import io
import random
import sys
import uuid
from collections import Counter
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from statistics import median

from rich.console import Console
from rich.table import Table
from sqlalchemy import Engine, text

from arcadia_dagster.demo import items
from arcadia_dagster.demo.rules import next_month
from arcadia_dagster.digitalocean.documents import write_items
from arcadia_dagster.ledger import billing
from arcadia_dagster.ledger.accounts import account_of_team
from arcadia_dagster.ledger.alarms import LEAST_INCREASE, RISEN
from benchmarks.account_generator import END, MONTHS, STILL_THERE, GeneratedAccount
from benchmarks.matching_truth import ingest_invoice, own_ledger

LIMIT = Decimal(50)  # percent
RISES = (Decimal(0), Decimal("0.3"), Decimal("0.75"), Decimal(1), Decimal(3))  # of what the project costs
DAYS = (3, 7, 14, 21)
_ABOVE = "months >= 3 and increase_usd >= :least and increase_usd > typical_usd * :percent / 100"
# The rule, and what it could have been.
RULES = {
    "the rule": RISEN,
    "told while above": _ABOVE,
    "above the highest": f"{_ABOVE} and amount_usd > highest_usd",
    "per day": f"{RISEN} and amount_usd / days > typical_a_day * (1 + :percent / 100)",
    "no least money": RISEN.replace("increase_usd >= :least and ", ""),
    "month before": "previous_usd > 0 and amount_usd > previous_usd * (1 + :percent / 100)",
}
_TREND = """
    with days as (select t.*, extract(day from t.period + interval '1 month' - interval '1 day') as days
                    from arcadia.project_cost_trend t where t.account_id = :account_id and t.cost_basis = 'billed')
    select t.*, lag(amount_usd) over (partition by project order by period) as previous_usd,
           (select percentile_cont(0.5) within group (order by o.amount_usd / o.days)::numeric from days o
             where o.project is not distinct from t.project and o.period < t.period and o.period >= t.period - interval '6 months'
           ) as typical_a_day
      from days t"""


class SteadyAccount(GeneratedAccount):
    """An account in which nothing comes or goes for good, but for the rise that is planted in it."""

    def __init__(self, seed: int, count: int, rise: Decimal) -> None:
        super().__init__(seed, count)
        self.random = random.Random(seed)  # what follows is the same whatever the rise
        self.things = [thing for thing in self.things if not thing.cluster and not thing.states[0][1].startswith("gpu-")]
        for thing in list(self.things):
            born = MONTHS[0] - timedelta(days=30)
            for values in (thing.names, thing.states, thing.projects):
                values[:] = [(born, values[0][1])]
            gone = self._moment(MONTHS[0], END) if thing.kind in ("droplet", "volume") and self.random.random() < 0.3 else STILL_THERE
            thing.lives = [(born, gone)]
            if gone != STILL_THERE:
                self._start(thing.kind, thing.states[0][1], gone, STILL_THERE, thing.projects[0][1])
        # A project of two small machines, and two more for some weeks now and then.
        for _ in range(2):
            self._start("droplet", "s-1vcpu-1gb", MONTHS[0] - timedelta(days=30), STILL_THERE, "lab")
        for month in self.random.sample(MONTHS, 4):
            for _ in range(2):
                self._start("droplet", "s-1vcpu-1gb", month + timedelta(days=2), month + timedelta(days=20), "lab")
        self.projects = sorted({thing.projects[0][1] for thing in self.things})
        for month in MONTHS:
            for _ in range(self.random.randrange(4)):
                born = self._moment(month, month + timedelta(days=25))
                self._start(
                    "droplet", self.random.choice(("c-4", "s-2vcpu-4gb")), born, born + timedelta(days=2), self.random.choice(self.projects)
                )
        self.project, month = self.random.choice([name for name in self.projects if name != "lab"]), self.random.choice(MONTHS[5:11])
        self.risen_in = month
        if rise:
            before = self.invoices()[MONTHS.index(month) - 1]
            cost = sum(Decimal(line.item["amount"]) for line in before.lines if line.item["project_name"] == self.project and line.truth)
            size = "c-2" if cost * rise > 400 else "s-1vcpu-1gb"
            for _ in range(round(cost * rise / items.monthly_price(size, month))):
                self._start("droplet", size, self._moment(month, month + timedelta(days=10)), STILL_THERE, self.project)

    def _start(self, kind: str, state: str, born: datetime, died: datetime, project: str) -> None:
        thing = self._thing(kind, born, died, self._name())
        thing.states, thing.projects, thing.backups = [(born, state)], [(born, project)], None
        self.things.append(thing)


@dataclass(frozen=True)
class Alarm:
    """One rule's alarm, by the month and project it names."""

    rule: str
    project: str | None
    period: date


def alarms_of(engine: Engine, account: GeneratedAccount) -> tuple[int, list[Alarm]]:
    """Ingest a year of invoices: how many months of projects can be judged, and each rule's alarms."""
    account_id = account_of_team(engine, team_uuid=str(uuid.uuid4()), name="bench")
    for invoice in account.invoices():
        ingest_invoice(engine, account_id, invoice, with_items=True)
    asked = ", ".join(f"coalesce({condition}, false)" for condition in RULES.values())
    values = {"account_id": account_id, "percent": LIMIT, "least": LEAST_INCREASE}
    with engine.begin() as conn:
        conn.execute(text("analyze arcadia.resources, arcadia.cloud_cost_lines, arcadia.cloud_invoices"))
        rows = conn.execute(text(f"select project, period, {asked} from ({_TREND}) t where months >= 3"), values).all()
    return len(rows), [Alarm(rule, row[0], row[1]) for row in rows for rule, told in zip(RULES, row[2:], strict=True) if told]


def forecast_errors(engine: Engine, account: GeneratedAccount) -> dict[int, float]:
    """By how much the forecast of the last month, on each of DAYS, is off, in percent of what the month came to."""
    account_id = account_of_team(engine, team_uuid=str(uuid.uuid4()), name="forecast")
    truth = account.invoices()[-1].amount
    errors = {}
    for day in DAYS:
        until = MONTHS[-1] + timedelta(days=day)
        shown = account.preview(until)
        document = io.BytesIO()
        write_items(document, shown.items)
        stated = billing.Preview(period=MONTHS[-1].date(), amount=shown.amount, covers_until=until)
        billing.ingest_preview(engine, account_id, stated, document)
        with engine.connect() as conn:
            forecast = conn.execute(
                text("select sum(forecast_usd) from arcadia.cost_forecast where account_id = :account_id"), {"account_id": account_id}
            ).scalar_one()
        errors[day] = float(100 * (forecast - truth) / truth)
    return errors


def main() -> int:
    """Print both tables; 1 if the rule missed a planted rise above its limit, or told of one that nobody planted."""
    parser = argparse.ArgumentParser(description="How often the alarms on money are right, on accounts made up from seeds.")
    parser.add_argument("seeds", nargs="*", type=int, default=[1])
    parser.add_argument("--resources", type=int, default=120)
    arguments = parser.parse_args()
    judged = 0
    planted: Counter[Decimal] = Counter()
    found: Counter[tuple[str, Decimal]] = Counter()
    false: Counter[str] = Counter()
    counted: Counter[str] = Counter()
    errors: dict[tuple[str, int], list[float]] = {}
    for seed in arguments.seeds:
        with own_ledger() as engine:
            for rise in RISES:
                account = SteadyAccount(seed, arguments.resources, rise)
                months, alarms = alarms_of(engine, account)
                judged += months
                planted[rise] += 1
                right = {account.risen_in.date(), next_month(account.risen_in).date()}
                for rule in RULES:
                    hits = [alarm for alarm in alarms if alarm.rule == rule and alarm.project == account.project and alarm.period in right]
                    hits = hits if rise * 100 > LIMIT else []
                    found[rule, rise] += bool(hits)
                    false[rule] += sum(alarm.rule == rule for alarm in alarms) - len(hits)
            grown = GeneratedAccount(seed, arguments.resources)
            months, alarms = alarms_of(engine, grown)
            counted["months"] += months
            counted["alarms"] += sum(alarm.rule == "the rule" for alarm in alarms)
            for kind, account_ in (("steady", SteadyAccount(seed, arguments.resources, Decimal(0))), ("as generated", grown)):
                for day, error in forecast_errors(engine, account_).items():
                    errors.setdefault((kind, day), []).append(error)
    above = [rise for rise in RISES if rise * 100 > LIMIT]
    table = Table("rule", "months seen", *(f"found of {planted[rise]} rises by {rise:.0%}" for rise in above), "false alarms")
    for rule in RULES:
        table.add_row(rule, f"{judged:,}", *(str(found[rule, rise]) for rise in above), str(false[rule]))
    console = Console(width=160)
    console.print(table)
    console.print(f"Accounts as generated: {counted['alarms']} alarms in {counted['months']} months of projects.")
    table = Table("forecast of the month", *(f"day {day}" for day in DAYS))
    for kind in ("steady", "as generated"):
        cells = (f"{median(map(abs, errors[kind, day])):.1f} %, worst {max(errors[kind, day], key=abs):+.1f} %" for day in DAYS)
        table.add_row(f"{kind}: off by", *cells)
    console.print(table)
    return 1 if false["the rule"] or any(found["the rule", rise] < planted[rise] for rise in above) else 0


if __name__ == "__main__":
    sys.exit(main())
