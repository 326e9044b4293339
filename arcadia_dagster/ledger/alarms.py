"""When money asks for a person: rules over the views of costs, with the limits that the operator sets. Each gives the rows that break it.

How rows become alerts is decided in `defs/`; what things cost, and are to cost, is said by the views.
"""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, Row, text

# A project that costs a few dollars doubles with every droplet: nobody is called for less than this, in USD a month.
LEAST_INCREASE = Decimal(10)

# Of project_cost_trend: three months at least tell what is usual, and the median is not moved by one that was not. A level that has been
# reached before is no news, so that each rise is told once; months of different length are up to a tenth apart.
RISEN = "months >= 3 and increase_usd >= :least and increase_usd > typical_usd * :percent / 100 and amount_usd > highest_usd * 1.1"


def unexplained_money(conn: Connection, limit: Decimal) -> Sequence[Row[Any]]:
    """Months with more than `limit` USD, signs aside, on unmatched or ambiguous lines: each account's last closed one, and previews.

    What is older has been told when it was new. Rows: account, period, lines, usd; dearest first.
    """
    query = """
        with newest as (select account_id, max(period) as period from arcadia.cloud_invoices where status <> 'preview' and line_count > 0
                         group by 1)
        select l.account, to_char(l.period, 'YYYY-MM') as period, count(*) as lines, sum(abs(l.amount_usd)) as usd
          from arcadia.all_cost_lines l join newest n on n.account_id = l.account_id and l.period >= n.period
         where l.match_status in ('unmatched', 'ambiguous')
         group by l.account_id, l.account, l.period having sum(abs(l.amount_usd)) > :limit
         order by usd desc, l.account, l.period"""
    return conn.execute(text(query), {"limit": limit}).all()


def risen_projects(conn: Connection, percent: Decimal) -> Sequence[Row[Any]]:
    """Projects that cost over `percent` percent more than in their typical month, in each account's last closed month or by forecast.

    See RISEN. Rows: account, project, period, cost_basis, usd, typical_usd, increase_percent; the largest increase first.
    """
    query = f"""
        select account, coalesce(project, '(none)') as project, to_char(period, 'YYYY-MM') as period, cost_basis, amount_usd as usd,
               typical_usd, increase_percent
          from (select *, max(period) filter (where cost_basis = 'billed') over (partition by account_id) as newest
                  from arcadia.project_cost_trend) t
         where {RISEN} and (cost_basis = 'forecast' or period = newest)
         order by increase_usd desc, account, project, period"""
    return conn.execute(text(query), {"percent": percent, "least": LEAST_INCREASE}).all()


def months_over_budget(conn: Connection, budget: Decimal) -> Sequence[Row[Any]]:
    """Months not yet over that cost more than `budget` USD, already or by forecast: all accounts together, taxes and credits included.

    Rows: period, so_far_usd, forecast_usd (None while there is none), covers_until.
    """
    query = """
        select to_char(period, 'YYYY-MM') as period, sum(so_far_usd) as so_far_usd, case when bool_and(forecast_usd is not null)
               then sum(forecast_usd) end as forecast_usd, min(covers_until) as covers_until
          from arcadia.cost_forecast group by period
        having greatest(sum(so_far_usd), case when bool_and(forecast_usd is not null) then sum(forecast_usd) end) > :budget
         order by period"""
    return conn.execute(text(query), {"budget": budget}).all()
