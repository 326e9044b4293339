"""The figures of the report, read from the analysts' views at one moment: what it says, as Python values.

How they are drawn is decided in `charts.py`, how they are written down in `page.py`. Nothing is worked out here that a view says.
"""

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, Row, text

from arcadia_dagster.digitalocean.kinds import KINDS
from arcadia_dagster.ledger.accounts import AccountError, account_named

MONTHS = 24
SERIES = 7
MOST_ROWS = 15

CHARGES = {"account_level": "Account-level", "tax": "Tax", "credit": "Credits"}
CHANGES = {
    "new": "New",
    "gone": "Gone",
    "resized": "Resized",
    "price": "Price",
    "usage": "Usage",
    "account_level": "Account-level",
    "tax": "Tax",
    "credit": "Credits",
    "unexplained": "Not explained",
}
_ACRONYMS = {word.lower(): word for word in ("IPs", "IPv6s", "NFS", "NAT", "CDN", "VPC", "VPCs", "SSH", "GenAI", "BYOIP")}


@dataclass(frozen=True, kw_only=True)
class Account:
    """An account of the report. `newest` is the first day of its last month with invoices that have been read; None: it has none."""

    account_id: int
    name: str
    team_uuid: str | None
    newest: date | None
    listed_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class Stack:
    """USD of closed invoices by month and one thing else.

    `usd` has a row for each of `months`, with a column for each of `names`, the largest first; where `rest` is not 0, the last column is
    that many more of them together.
    """

    months: Sequence[date]
    names: Sequence[str]
    usd: Sequence[Sequence[Decimal]]
    rest: int

    @property
    def totals(self) -> list[Decimal]:
        """USD of each month."""
        return [sum(row, Decimal(0)) for row in self.usd]


@dataclass(frozen=True, kw_only=True)
class Share:
    """What one thing costs in the newest month; `kind`, `project` and `state` are None for what is no resource."""

    name: str
    account: str
    kind: str | None
    project: str | None
    state: str | None
    usd: Decimal


@dataclass(frozen=True, kw_only=True)
class Changes:
    """The newest month against the one before, of the accounts that have both or began in it.

    `before` is None where accounts differ in it. `by_class` is (key of CHANGES, how many, USD); `largest` are rows of cost_changes, and
    `others` is how many more there are, with their USD together.
    """

    before: date | None
    before_usd: Decimal
    usd: Decimal
    by_class: Sequence[tuple[str, int, Decimal]]
    largest: Sequence[Row[Any]]
    others: tuple[int, Decimal]


@dataclass(frozen=True, kw_only=True)
class Rate:
    """How much of a month is matched. The rates are cut off, not rounded: 1 means all. None: nothing asks for a resource."""

    month: date
    lines: int
    matched: int
    unexplained: int
    unexplained_usd: Decimal
    line_rate: Decimal | None
    usd_rate: Decimal | None


@dataclass(frozen=True, kw_only=True)
class SameDay:
    """The usage that the provider states for this month and, at the same day and hour, for the last: None where nobody asked it then."""

    account: str
    at: datetime
    usd: Decimal
    then_at: datetime | None
    then_usd: Decimal | None


@dataclass(frozen=True, kw_only=True)
class Figures:
    """All that the report says. Months are their first days, money is USD, and lists are in the order in which they are shown."""

    made_at: datetime
    accounts: Sequence[Account]
    newest: date | None
    months: Sequence[date]
    older: tuple[int, Decimal]
    without_invoice: Sequence[date]
    by_kind: Stack
    by_project: Stack
    by_tenant: Stack | None
    shares: Sequence[Share]
    invoices: Row[Any]
    changes: Changes | None
    rates: Sequence[Rate]
    unread: Sequence[Row[Any]]
    unexplained: Sequence[Row[Any]]
    previews: Sequence[Row[Any]]
    preview_kinds: Sequence[tuple[str, Decimal]]
    same_day: Sequence[SameDay]
    usage: Sequence[tuple[date, int, Decimal]]
    waste: Sequence[Row[Any]]

    @property
    def newest_usd(self) -> Decimal:
        """USD of the newest month."""
        return self.by_kind.totals[-1] if self.months else Decimal(0)


def read(conn: Connection, account: str | None = None) -> Figures:
    """The figures of one account, by name or team uuid, or of all; begins the connection's transaction, so that all are of one moment.

    Raises AccountError where no account, or more than one, goes by the name.
    """
    conn.execute(text("set transaction isolation level repeatable read, read only"))
    only = None
    if account is not None:
        only = account_named(conn, account)
        if only is None:
            names = ", ".join(repr(name) for name in conn.scalars(text("select name from arcadia.cloud_accounts order by account_id")))
            raise AccountError(f"no account is named {account!r}; the ledger has {names or 'none'}")
    accounts = _accounts(conn, only)
    ids = [one.account_id for one in accounts]
    newest = max((one.newest for one in accounts if one.newest), default=None)

    def rows(query: str, **values: Any) -> Sequence[Row[Any]]:
        return conn.execute(text(query), {"accounts": ids, "newest": newest, **values}).all()

    first = rows("select min(period) from arcadia.cloud_invoices where account_id = any(:accounts) and status <> 'preview'")[0][0]
    every = _months(first, newest) if newest else []
    months = every[-MONTHS:]
    start = months[0] if months else None

    def costs(view: str, column: str, label: Callable[[str | None], str]) -> Stack:
        found = rows(
            f"select period, charge, {column} as name, {'account_id' if column == 'project' else '0'} as account_id,"
            f" min(account) as account, sum(amount_usd) as usd from arcadia.{view} where account_id = any(:accounts) and period >= :start"
            " group by 1, 2, 3, 4",
            start=start,
        )
        named = [
            (row.period, (CHARGES[row.charge],), CHARGES[row.charge], "", row.usd)
            if row.charge in CHARGES
            else (row.period, (row.name, row.account_id), label(row.name), row.account, row.usd)
            for row in found
        ]
        return _stack(named, months)

    by_tenant = costs("cost_by_tenant", "tenant_id", lambda tenant: tenant or "No tenant")
    older = rows(
        "select count(distinct period) as months, coalesce(sum(line_total), 0) as usd from arcadia.cloud_invoices"
        " where account_id = any(:accounts) and period < :start and status <> 'preview'",
        start=start,
    )[0]
    read_months = {row.period for row in rows(f"select distinct period from arcadia.cloud_invoices where {_READ}")}
    return Figures(
        made_at=datetime.now(UTC),
        accounts=accounts,
        newest=newest,
        months=months,
        older=(older.months, older.usd),
        without_invoice=[month for month in months if month not in read_months],
        by_kind=costs("cost_by_kind", "kind", kind_label),
        by_project=costs("cost_by_project", "project", lambda project: project or "No project"),
        by_tenant=by_tenant if set(by_tenant.names) - {"No tenant", *CHARGES.values()} else None,
        shares=_shares(rows),
        invoices=rows(
            "select count(*) as count, count(*) filter (where invoice_usd is null) as unstated, sum(invoice_usd) as stated,"
            " coalesce(sum(residual_usd), 0) as residual, coalesce(sum(amount_usd), 0) as usd, coalesce(sum(lines), 0) as lines"
            " from arcadia.match_rate where account_id = any(:accounts) and period = :newest"
        )[0],
        changes=_changes(rows, accounts, newest),
        rates=_rates(rows, months),
        unread=rows(
            "select to_char(period, 'YYYY-MM') as month, account, status, invoice_usd from arcadia.match_rate"
            " where account_id = any(:accounts) and status in ('pending', 'failed') order by period desc, invoice_uuid"
        ),
        unexplained=rows(
            "select to_char(period, 'YYYY-MM') as month, line_id, product, description, amount_usd, match_status, reason"
            " from arcadia.unexplained_lines where account_id = any(:accounts) and period >= :start"
            f" order by abs(amount_usd) desc, line_id limit {MOST_ROWS}",
            start=start,
        ),
        previews=rows(
            "select period, account, covers_until, sum(amount_usd) as usd from arcadia.month_to_date_lines"
            " where account_id = any(:accounts) group by period, account_id, account, covers_until order by period, account_id"
        ),
        preview_kinds=_preview_kinds(rows),
        same_day=_same_day(rows, newest),
        usage=_usage(rows, newest),
        waste=rows(
            "select account, reason, kind, name, region, project, monthly_usd, cost_basis, billed_period from arcadia.waste"
            " where account_id = any(:accounts) order by monthly_usd desc nulls last, kind, name, resource_id"
        ),
    )


_READ = "account_id = any(:accounts) and status <> 'preview' and line_count is not null"
_Rows = Callable[..., Sequence[Row[Any]]]


def kind_label(kind: str | None) -> str:
    """A kind as people read it: `Droplets`, `Reserved IPs`. None is what an unknown product pays for."""
    if kind is None:
        return "Unknown product"
    known = KINDS.get(kind)
    words = (known.asset if known and known.asset else kind).split("_")
    words = [_ACRONYMS.get(word, word) for word in words]
    return " ".join([words[0] if words[0] in _ACRONYMS.values() else words[0].capitalize(), *words[1:]])


def _accounts(conn: Connection, only: int | None) -> list[Account]:
    query = """
        select account_id, name, team_uuid,
               (select max(period) from arcadia.cloud_invoices i
                 where i.account_id = a.account_id and status <> 'preview' and line_count is not null) as newest,
               (select max(started_at) from arcadia.listings l where l.account_id = a.account_id and kind <> 'invoice') as listed_at
          from arcadia.cloud_accounts a where account_id = coalesce(:only, account_id) order by account_id"""
    return [Account(**row) for row in conn.execute(text(query), {"only": only}).mappings()]


def _months(first: date, last: date) -> list[date]:
    return [date(number // 12, number % 12 + 1, 1) for number in range(first.year * 12 + first.month - 1, last.year * 12 + last.month)]


def _stack(rows: Iterable[tuple[date, Hashable, str, str, Decimal]], months: Sequence[date]) -> Stack:
    """Of (month, key, name, account, USD): two keys of one name are told apart by their accounts."""
    usd: dict[Hashable, dict[date, Decimal]] = {}
    names: dict[Hashable, str] = {}
    accounts: dict[str, dict[Hashable, str]] = {}
    for month, key, name, account, amount in rows:
        names[key] = name
        accounts.setdefault(name, {})[key] = account
        by_month = usd.setdefault(key, {})
        by_month[month] = by_month.get(month, Decimal(0)) + amount
    for name, owners in accounts.items():
        if len(owners) > 1:
            names |= {key: f"{name} · {account}" if account else name for key, account in owners.items()}
    keys = sorted(usd, key=lambda key: (-sum(abs(amount) for amount in usd[key].values()), names[key]))
    # One more than SERIES is shown by its name rather than as "1 other".
    shown, others = (keys, []) if len(keys) <= SERIES + 1 else (keys[:SERIES], keys[SERIES:])
    table = []
    for month in months:
        row = [usd[key].get(month, Decimal(0)) for key in shown]
        table.append([*row, sum((usd[key].get(month, Decimal(0)) for key in others), Decimal(0))] if others else row)
    labels = [names[key] for key in shown] + ([f"{len(others)} others"] if others else [])
    return Stack(months=months, names=labels, usd=table, rest=len(others))


def _shares(rows: _Rows) -> list[Share]:
    found = rows(
        "select charge, resource_id, kind, coalesce(name, provider_id) as name, state, max(project) as project, account,"
        " sum(amount_usd) as usd from arcadia.cost_by_resource where account_id = any(:accounts) and period = :newest"
        " group by charge, resource_id, kind, 4, state, account_id, account order by abs(sum(amount_usd)) desc, 4, resource_id"
    )
    return [
        Share(
            name=CHARGES.get(row.charge) or (row.name if row.resource_id is not None else "No certain resource"),
            account=row.account,
            kind=None if row.charge in CHARGES else kind_label(row.kind),
            project=None if row.charge in CHARGES else row.project,
            state=row.state,
            usd=row.usd,
        )
        for row in found
    ]


def _changes(rows: _Rows, accounts: Sequence[Account], newest: date | None) -> Changes | None:
    query = "select * from arcadia.cost_changes where account_id = any(:accounts) and period = :newest"
    found = sorted(rows(query), key=lambda row: (-abs(row.difference_usd), row.name or ""))
    present = [one.account_id for one in accounts if newest is not None and one.newest == newest]
    befores = rows(
        f"select account_id, max(period) as period from arcadia.cloud_invoices where {_READ} and account_id = any(:present)"
        " and period < :newest group by 1",
        present=present,
    )
    if not befores:
        return None
    usd = rows(
        "select coalesce(sum(amount_usd), 0) as usd from arcadia.match_rate where account_id = any(:present) and period = :newest",
        present=present,
    )[0].usd
    by_class = [
        (change, [row.difference_usd for row in found if row.change == change])
        for change in CHANGES
        if any(row.change == change for row in found)
    ]
    months = {row.period for row in befores}
    rest = found[MOST_ROWS:]
    return Changes(
        before=months.pop() if len(months) == 1 else None,
        before_usd=usd - sum((row.difference_usd for row in found), Decimal(0)),
        usd=usd,
        by_class=[(change, len(amounts), sum(amounts, Decimal(0))) for change, amounts in by_class],
        largest=found[:MOST_ROWS],
        others=(len(rest), sum((row.difference_usd for row in rest), Decimal(0))),
    )


def _rates(rows: _Rows, months: Sequence[date]) -> list[Rate]:
    # By line, as the rates of a month's invoices do not add up.
    query = """
        select period as month, sum(lines) as lines, coalesce(sum(lines) filter (where matched), 0) as matched,
               coalesce(sum(lines) filter (where unexplained), 0) as unexplained,
               coalesce(sum(usd) filter (where unexplained), 0) as unexplained_usd,
               trunc(coalesce(sum(lines) filter (where matched), 0) / nullif(sum(lines) filter (where matched or unexplained), 0), 4)
                   as line_rate,
               trunc(coalesce(sum(size) filter (where matched), 0) / nullif(sum(size) filter (where matched or unexplained), 0), 4)
                   as usd_rate
          from (select period, match_status = 'matched' as matched, match_status in ('ambiguous', 'unmatched') as unexplained,
                       count(*) as lines, sum(amount_usd) as usd, sum(abs(amount_usd)) as size
                  from arcadia.matched_cost_lines where account_id = any(:accounts) and period >= :start group by 1, 2, 3) m
         group by 1 order by 1"""
    return [
        Rate(**{**row._mapping, **{name: int(row._mapping[name]) for name in ("lines", "matched", "unexplained")}})
        for row in rows(query, start=months[0] if months else None)
    ]


def _preview_kinds(rows: _Rows) -> list[tuple[str, Decimal]]:
    """Of the newest month that is previewed: the one before has a preview too until its invoice is made."""
    found = rows(
        "select coalesce(resource_kind, kind) as kind, match_status, sum(amount_usd) as usd from arcadia.month_to_date_lines"
        " where account_id = any(:accounts)"
        " and period = (select max(period) from arcadia.month_to_date_lines where account_id = any(:accounts)) group by 1, 2"
    )
    usd: dict[str, Decimal] = {}
    for row in found:
        name = CHARGES.get(row.match_status) or kind_label(row.kind)
        usd[name] = usd.get(name, Decimal(0)) + row.usd
    return sorted(usd.items(), key=lambda item: (-abs(item[1]), item[0]))


def _same_day(rows: _Rows, newest: date | None) -> list[SameDay]:
    """The newest reading of each account, and the last one of the month before that is at most a day older than the same day and hour.

    The provider's own time of the figures counts. A reading of a month that is closed by now is left out.
    """
    query = """
        with readings as (
            select s.account_id, a.name as account, coalesce(generated_at, taken_at) as at, month_to_date_usage as usd
              from arcadia.cloud_balance_snapshots s join arcadia.cloud_accounts a using (account_id)
             where account_id = any(:accounts) and month_to_date_usage is not null
        ), now as (
            select distinct on (account_id) * from readings order by account_id, at desc
        )
        select n.account, n.at, n.usd, t.at as then_at, t.usd as then_usd
          from now n
          left join lateral (select r.at, r.usd from readings r
                              where r.account_id = n.account_id and r.at <= n.at - interval '1 month'
                                and r.at > n.at - interval '1 month' - interval '1 day'
                                and date_trunc('month', r.at) = date_trunc('month', n.at - interval '1 month')
                              order by r.at desc limit 1) t on true
         where n.at >= coalesce(cast(:newest as date) + interval '1 month', n.at) order by n.account_id"""
    return [SameDay(**row._mapping) for row in rows(query, newest=newest)]


def _usage(rows: _Rows, newest: date | None) -> list[tuple[date, int, Decimal]]:
    """(month, day, USD) of this month and the last: the usage stated last on each day, of all accounts that have such readings.

    A day on which one of them was not asked is left out, and so is everything where the last month has less than two days.
    """
    query = """
        with readings as (
            select account_id, coalesce(generated_at, taken_at) as at, month_to_date_usage as usd from arcadia.cloud_balance_snapshots
             where account_id = any(:accounts) and month_to_date_usage is not null
        ), days as (
            select distinct on (account_id, at::date) account_id, at::date as day, usd from readings order by account_id, at::date, at desc
        )
        select date_trunc('month', day)::date as month, extract(day from day)::int as day, sum(usd) as usd from days
         where day >= date_trunc('month', (select max(day) from days)) - interval '1 month'
           and (select max(day) from days) >= coalesce(cast(:newest as date) + interval '1 month', (select max(day) from days))
         group by 1, 2 having count(*) = (select count(distinct account_id) from readings) order by 1, 2"""
    found = [(row.month, row.day, row.usd) for row in rows(query, newest=newest)]
    months = sorted({month for month, _, _ in found})
    enough = len(months) == 2 and sum(month == months[0] for month, _, _ in found) > 1
    return found if enough else []
