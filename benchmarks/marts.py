"""How long an analyst waits: one month of each mart, in a ledger of a million lines.

Run by `make bench`, or `python benchmarks/marts.py [LINES] [RESOURCES]` (a million and a tenth of that by default), spread over twelve
months. Uses ARCADIA_DATABASE_URL where set, else an embedded server in a temporary folder. Best of three rounds.
"""

import sys
import time

from rich.console import Console
from rich.table import Table
from sqlalchemy import Engine, text

from arcadia_dagster import settings
from arcadia_dagster.ledger.accounts import account_for_import
from arcadia_dagster.ledger.schema import connect
from benchmarks.table import home

ROUNDS = 3
GOAL = 1.0  # seconds

# Of twenty resources: twelve droplets, four volumes, two snapshots, most of them of droplets that are not there, and two reserved IPs or,
# now and then, a load balancer. They have up to three tags; one in twenty is gone.
LEDGER = (
    """
insert into arcadia.resources (account_id, kind, provider_id, name, name_key, tenant_id, first_seen_at, last_seen_at)
select :account_id, 'project', 'p' || n, 'project ' || n, 'project ' || n, 'tenant ' || n % 7, timestamptz '2025-01-01', now()
  from generate_series(0, 49) n
""",
    """
insert into arcadia.resources (account_id, kind, provider_id, name, name_key, region, status, tags, attrs, monthly_price, cloud_project_id,
                               tenant_id, parent_kind, parent_provider_id, provider_created_at, first_seen_at, last_seen_at, deleted_at)
select :account_id, k.kind, n::text, k.kind || '-' || n, k.kind || '-' || n, 'fra1',
       case when k.kind = 'droplet' then case n % 40 when 1 then 'off' else 'active' end end,
       array(select 'tag-' || (n + t) % 200 from generate_series(1, n % 4) t),
       case k.kind when 'droplet' then '{"size_slug": "s-1vcpu-1gb"}' when 'reserved_ip' then '{}'
                   else jsonb_build_object('size_gigabytes', n % 500, 'droplet_ids', case n % 3 when 0 then '[]' else '[1]' end::jsonb) end,
       case k.kind when 'droplet' then 6 end, p.resource_id, p.tenant_id, case k.kind when 'snapshot' then 'droplet' end,
       case k.kind when 'snapshot' then case n % 40 when 16 then (n - 16)::text else 'x' || n end end, timestamptz '2025-01-01',
       timestamptz '2025-01-01', now(), case when n % 20 = 5 then now() end
  from generate_series(1, :resources) n
 cross join lateral (select case when n % 20 < 12 then 'droplet' when n % 20 < 16 then 'volume' when n % 20 < 18 then 'snapshot'
                                 when n % 100 = 19 then 'load_balancer' else 'reserved_ip' end as kind) k
  join arcadia.resources p on p.kind = 'project' and p.provider_id = 'p' || n % 50
""",
    "insert into arcadia.listings (account_id, kind, started_at) values (:account_id, 'droplet', now())",
    """
insert into arcadia.cloud_invoices (invoice_uuid, account_id, invoice_id, period, amount, status, issued_at, line_count)
select 'bench-' || m, :account_id, m::text, date '2025-01-01' + make_interval(months => m), 0, 'ingested',
       timestamptz '2025-02-01' + make_interval(months => m), :lines / 12
  from generate_series(0, 11) m
""",
    """
insert into arcadia.cloud_cost_lines (invoice_uuid, ordinal, account_id, product, group_description, description, hours, started_at,
                                      ended_at, amount_usd, project_name, category, kind, resource_id, match_status, match_method,
                                      match_detail)
select 'bench-' || m, n, :account_id, initcap(k.kind) || 's', '', coalesce(r.name, 'web') || ' (s-1vcpu-1gb)', 720, i.period,
       i.period + interval '1 month', n % 700 / 100.0, '', 'iaas', k.kind, r.resource_id, s.status,
       case s.status when 'matched' then 'id' end,
       case s.status when 'ambiguous' then '{"reason": "two fit", "candidates": [{"name": "a", "provider_id": "1"}, {"name": "a"}]}'
                   when 'matched' then null else '{"reason": "no droplet of that name is known"}' end::jsonb
  from generate_series(0, 11) m cross join generate_series(1, :lines / 12) n
  join arcadia.cloud_invoices i on i.invoice_uuid = 'bench-' || m
 cross join lateral (select case when n < 4 then 'tax' when n % 100 = 1 then 'ambiguous' when n % 100 = 2 then 'unmatched'
                                 else 'matched' end as status) s
  left join arcadia.resources r on s.status = 'matched' and r.kind <> 'project' and r.provider_id = (1 + (n + 7 * m) % :resources)::text
 cross join lateral (select case s.status when 'tax' then 'tax' else coalesce(r.kind, 'droplet') end as kind) k
""",
    """
insert into arcadia.cloud_resource_events (resource_id, account_id, event, changes, occurred_at)
select resource_id, :account_id, e.event, e.changes::jsonb, timestamptz '2025-01-01' + make_interval(months => e.month)
  from arcadia.resources cross join (values ('discovered', '{}', 0), ('drift_detected', '{"size_slug": {"before": "a", "after": "b"},
       "monthly_price": {"before": 6, "after": 12}}', 5)) e (event, changes, month) where kind <> 'project'
""",
    # Every tenth line was ambiguous once.
    """
insert into arcadia.cloud_match_events (account_id, invoice_uuid, ordinal, changes, occurred_at)
select account_id, invoice_uuid, ordinal, jsonb_build_object('match_status', jsonb_build_object('before', 'ambiguous', 'after', 'matched'),
       'resource_id', jsonb_build_object('before', null, 'after', resource_id)), now()
  from arcadia.cloud_cost_lines where match_status = 'matched' and ordinal % 10 = 0
""",
)

DEAREST = "select * from arcadia.{} where period = '2025-12-01' order by abs(amount_usd) desc limit 100"
QUERIES = {
    **{
        view: DEAREST.format(view)
        for view in (
            "matched_cost_lines",
            "cost_by_project",
            "cost_by_tenant",
            "cost_by_kind",
            "cost_by_resource",
            "cost_by_tag",
            "unexplained_lines",
            "match_rate",
            "cost_changes",
        )
    },
    "resource_timeline": "select * from arcadia.resource_timeline where resource_id ="
    " (select resource_id from arcadia.cloud_resources where kind = 'droplet' and name = 'droplet-1001') order by at",
    "running_cost": "select * from arcadia.running_cost order by estimated_monthly_usd desc nulls last limit 100",
    "waste": "select * from arcadia.waste order by monthly_usd desc nulls last limit 100",
}


def seconds_of(engine: Engine, query: str) -> float:
    """The best of three."""
    best = float("inf")
    with engine.connect() as conn:
        for _ in range(ROUNDS):
            began = time.perf_counter()
            rows = conn.execute(text(query)).all()
            best = min(best, time.perf_counter() - began)
    if not rows:
        raise SystemExit(f"nothing to be seen by: {query}")
    return best


def fill(engine: Engine, lines: int, resources: int) -> None:
    """Write the ledger."""
    values = {"account_id": account_for_import(engine, "bench"), "lines": lines, "resources": resources}
    with engine.begin() as conn:
        for statement in LEDGER:
            conn.execute(text(statement), values)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as conn:
        conn.execute(text("vacuum analyze"))


def main() -> None:
    """Fill a ledger and print the table."""
    lines = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    resources = int(sys.argv[2]) if len(sys.argv) > 2 else lines // 10
    with home():
        engine = connect(settings.ledger_url())
        fill(engine, lines, resources)
        table = Table(f"one month of {lines:,} lines, {resources:,} resources", "seconds", f"within {GOAL:g} s")
        for view, query in QUERIES.items():
            seconds = seconds_of(engine, query)
            table.add_row(view, f"{seconds:.3f}", "yes" if seconds < GOAL else "NO")
        Console(width=120).print(table)
        engine.dispose()


if __name__ == "__main__":
    main()
