"""A busy account over years: what it held at every listing, and the ledger that years of listings of it leave.

Belongs here: the course of the account, its listings and invoices, and `load`, which writes by set-based SQL what begin, reconcile and
attribute would have written listing by listing (a test holds the two against each other over some weeks; the real thing would take
days). Invoices are not written here: they go through billing.ingest. Does not belong here: anything that is measured.
"""

import csv
import io
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec
from msgspec.structs import replace
from sqlalchemy import Connection, text

from arcadia_dagster.defs.scheduling import SCHEDULED
from arcadia_dagster.demo import items
from arcadia_dagster.digitalocean.kinds import KINDS, Resource, spell_attrs
from arcadia_dagster.ledger.attribution import WALK
from arcadia_dagster.ledger.copying import copy_lines, line
from arcadia_dagster.ledger.reconcile import _READ, _STATE, _event, _seen

# Of twenty slots: eight droplets, four volumes, five snapshots, two reserved IPs, a load balancer. A slot always holds something; what is
# in it lives for ever, or for so many days and gives way to the next. Droplets that come and go bear one name, as those of a pool do.
_KIND_OF_SLOT = "case when s % 20 < 8 then 'droplet' when s % 20 < 12 then 'volume' when s % 20 < 17 then 'snapshot'"
_KIND_OF_SLOT += " when s % 20 < 19 then 'reserved_ip' else 'load_balancer' end"
_DAYS_OF_LIFE = "case when s % 20 between 12 and 16 then 15 when s % 20 = 0 then 10 end"
_PROJECTS = 20
_CHANGES_EVERY = 5  # days, of everything but snapshots and projects
# What changes the k-th time that something in a slot does.
_WHAT_CHANGES = {
    "droplet": ["status"] * 4 + ["tags"] * 3 + ["name", "name", "size"],
    "volume": ["tags"] * 7 + ["name", "name", "size"],
    "load_balancer": ["tags"] * 7 + ["name", "name", "size"],
    "reserved_ip": ["droplet"] * 10,
}
_HOURLY = 4  # ticks: what is listed every hour, where a tick is a quarter of one

_TEMPLATES = {
    "droplet": KINDS["droplet"].read(items.droplet(1, "x", created_at="2026-01-01T00:00:00Z")),
    "volume": KINDS["volume"].read(items.volume("x", "x", created_at="2026-01-01T00:00:00Z", size_gigabytes=100)),
    "snapshot": KINDS["snapshot"].read(items.snapshot(1, "x", resource_id=1, created_at="2026-01-01T00:00:00Z", size_gigabytes=3)),
    "reserved_ip": KINDS["reserved_ip"].read(items.reserved_ip("10.0.0.1", project_id="x")),
    "load_balancer": KINDS["load_balancer"].read(items.load_balancer("x", "x", created_at="2026-01-01T00:00:00Z", project_id="x")),
    "project": KINDS["project"].read(items.project("x", "x", created_at="2026-01-01T00:00:00Z")),
}
_SIZES = (("s-1vcpu-1gb", Decimal(6)), ("s-2vcpu-4gb", Decimal(24)))

_COURSE = f"""
create temp table life as
with slot as (
    select s, {_KIND_OF_SLOT} as kind, {_DAYS_OF_LIFE} as days from generate_series(0, :slots - 1) s
    union all select :slots + p, 'project', null from generate_series(0, {_PROJECTS} - 1) p
), step as (
    select *, case kind when 'snapshot' then {_HOURLY} else 1 end as step from slot
), lived as (
    select s, kind, step, g, case g when 0 then 0 else (g * days - s * 7 % days) * :ticks + s * 13 % (:ticks / step) * step end as born,
           ((g + 1) * days - s * 7 % days) * :ticks + s * 13 % (:ticks / step) * step as gone
      from step cross join lateral generate_series(0, coalesce(:days / days, 0)) g
)
select s, kind, step, g, born, case when gone < :quiet then gone end as gone,
       case kind when 'droplet' then (500000000 + s * 1000 + g)::text when 'snapshot' then (900000000 + s * 1000 + g)::text
                 when 'reserved_ip' then format('45.55.%s.%s', s / 250, s % 250)
                 else md5(format('%s-%s', s, g))::uuid::text end as provider_id,
       case when kind = 'reserved_ip' then format('45.55.%s.%s', s / 250, s % 250)
            when kind = 'droplet' and s % 20 = 0 then format('worker-%s.example.org', s)
            else format('%s-%s-%s.example.org', kind, s, g) end as name
  from lived where born < :quiet;
create temp table change as
select l.s, l.g, l.kind, c.tick, w.what, row_number() over (partition by l.s, l.g, w.what order by c.tick)::integer as n
  from life l
 cross join lateral (select k, ({_CHANGES_EVERY} * k + l.s % {_CHANGES_EVERY}) * :ticks + (l.s * 31 + k * 17) % :ticks as tick
                       from generate_series(0, :days / {_CHANGES_EVERY}) k) c
  join (values {", ".join(f"('{kind}', array{whats})" for kind, whats in _WHAT_CHANGES.items())}) of_kind (kind, whats) using (kind)
 cross join lateral (select whats[(c.k + l.s) % 10 + 1]) w (what)
 where c.tick > l.born and (l.gone is null or c.tick < l.gone) and c.tick < :quiet;
create index on change (s, g, what, tick);
create index on life (kind, born);
analyze life; analyze change
"""
# What something is after n changes of each sort, as JSON of the fields that a change names.
_AFTER = """
case what when 'status' then jsonb_build_object('status', (array['active', 'off'])[n % 2 + 1])
          when 'tags' then jsonb_build_object('tags', array['app', 'release-' || n])
          when 'name' then jsonb_build_object('name', name || case n when 0 then '' else '-' || n end)
          when 'droplet' then jsonb_build_object('droplet', jsonb_build_object('id', 1000 + n))
          else case kind when 'volume' then jsonb_build_object('size_gigabytes', 100 * (n + 1))
                         when 'load_balancer' then jsonb_build_object('size_unit', n + 1)
                         else jsonb_build_object('size_slug', (array['s-1vcpu-1gb', 's-2vcpu-4gb'])[n % 2 + 1],
                                                 'monthly_price', (array[6, 24])[n % 2 + 1]) end end"""


class BusyAccount:
    """`slots` resources alive at any moment, over `days` days before `end`, listed `ticks` times a day (a multiple of four).

    Of 5,000 slots about 110 things come and as many go in a day, and 750 are changed. At the very end nothing happens, so that nothing is
    left half struck. `conn` keeps the course in temporary tables, and is the caller's.
    """

    def __init__(self, conn: Connection, account_id: int, *, slots: int, days: int, ticks: int, end: datetime) -> None:
        self.conn = conn
        self.account_id = account_id
        self.ticks = ticks
        self.last = days * ticks - 1
        self.tick_length = timedelta(days=1) / ticks
        self.began = end - timedelta(days=days)
        self.slots = slots
        values = {"slots": slots, "days": days, "ticks": ticks, "quiet": self.last - 2 * _HOURLY}
        for statement in ("drop table if exists life, change", *_COURSE.split(";")):
            conn.execute(text(statement), values)
        conn.commit()

    def at(self, tick: int) -> datetime:
        return self.began + tick * self.tick_length

    # As the provider shows it

    def listed_at(self, tick: int) -> list[str]:
        """The kinds whose things are listed then, projects first."""
        return ["project", *(kind for kind in _TEMPLATES if kind != "project" and tick % _step(kind) == 0)]

    def listing(self, kind: str, tick: int) -> list[Resource]:
        """Everything of the kind at that moment."""
        found = [*self._things("l.kind = :kind and l.born <= :tick and (l.gone is null or l.gone > :tick)", kind=kind, tick=tick)]
        self.conn.rollback()
        return found

    def _things(self, which: str, **values: Any) -> Iterator[Resource]:
        query = f"""
            select l.*, p.provider_id as project, parent.provider_id as parent,
                   (select jsonb_object_agg(what, n) from (select what, count(*) as n from change c
                     where c.s = l.s and c.g = l.g and c.tick <= :tick group by what) c) as changes
              from life l
              left join life p on p.kind = 'project' and l.kind <> 'project' and p.s = :slots + l.s % {_PROJECTS}
              left join life parent on l.kind = 'snapshot' and parent.s = l.s - l.s % 20 + 1 and parent.g = 0
             where {which} order by l.born, l.kind, l.s"""
        for row in self.conn.execute(text(query), {"slots": self.slots, **values}):
            yield self._thing(row)

    def _thing(self, row: Any) -> Resource:
        times = row.changes or {}
        attrs = msgspec.json.decode(_TEMPLATES[row.kind].attrs)
        tags: tuple[str, ...] = () if row.kind in ("reserved_ip", "project", "snapshot") else ("app", f"release-{times.get('tags', 0)}")
        size, price, status = times.get("size", 0), _TEMPLATES[row.kind].monthly_price, _TEMPLATES[row.kind].status
        if row.kind == "droplet":
            attrs["size_slug"], price = _SIZES[size % 2]
            status = ("active", "off")[times.get("status", 0) % 2]
        elif row.kind == "volume":
            attrs["size_gigabytes"] = 100 * (size + 1)
        elif row.kind == "load_balancer":
            attrs["size_unit"] = size + 1
        elif row.kind == "reserved_ip":
            attrs["droplet"] = {"id": 1000 + times.get("droplet", 0)}
        renamed = times.get("name", 0)
        return replace(
            _TEMPLATES[row.kind],
            provider_id=row.provider_id,
            name=f"{row.name}-{renamed}" if renamed else row.name,
            status=status,
            tags=tags,
            attrs=spell_attrs(attrs),
            monthly_price=price,
            own_project_id=row.project,
            parent_kind="droplet" if row.parent else None,
            parent_provider_id=row.parent,
            provider_created_at=self.at(row.born) - timedelta(days=0 if row.g else 365),
        )

    # As the ledger has it

    def load(self) -> None:
        """Write what all listings leave: sync runs of every kind, resources, names, events and listings; then the hourly balances."""
        if self.conn.scalar(text("select current_setting('is_superuser') = 'on'")):
            self.conn.execute(text("set local session_replication_role = replica"))  # no look at the account for each of a million rows
        self.conn.execute(text("create temp table kind (kind text, number integer, step integer) on commit drop"))
        copy_lines(self.conn, "kind", ("kind", "number", "step"), map(line, self._kinds()))
        values = {
            "account_id": self.account_id,
            "began": self.began,
            "seconds": self.tick_length.total_seconds(),
            "last": self.last,
            "slots": self.slots,
            "ticks": self.ticks,
        }
        for statement in _RUNS.split(";"):
            self.conn.execute(text(statement), values)
        self._load_resources(values)
        for statement in _HISTORY.split(";"):
            self.conn.execute(text(statement), {**values, "drifts": self._events()})
        self.conn.commit()

    def _kinds(self) -> Iterator[tuple[str, int, int]]:
        jobs: dict[str, str] = {kind.name: kind.job for kind in KINDS.values() if kind.asset}
        jobs |= {WALK: "sync_inventory", "invoice": "discover_invoices"}
        for number, (kind, job) in enumerate(jobs.items()):
            cron = SCHEDULED[job].cron.split()
            yield kind, number, 1 if cron[0].startswith("*/15") else _HOURLY if cron[1] == "*" else self.ticks

    def _load_resources(self, values: dict[str, Any]) -> None:
        self.conn.execute(text(f"create temp table staged on commit drop as select {', '.join(_READ)} from arcadia.resources with no data"))
        lines = [_seen(thing, None).cells for thing in self._things("true", tick=self.last)]  # the same connection cannot do both at once
        copy_lines(self.conn, "staged", _READ, lines)
        self.conn.execute(text("analyze staged"))
        for statement in _RESOURCES.split(";"):
            self.conn.execute(text(statement), values)

    def _events(self) -> list[str]:
        """What changes are drift, as `kind what`."""
        fields = {"status": "status", "tags": "tags", "name": "name", "droplet": "droplet"}
        sizes = {"droplet": "size_slug", "volume": "size_gigabytes", "load_balancer": "size_unit"}
        return [
            f"{kind} {what}"
            for kind, whats in _WHAT_CHANGES.items()
            for what in set(whats)
            if _event(KINDS[kind], {fields.get(what) or sizes[kind]: {}}) == "drift_detected"
        ]

    # As it is billed

    def lines(self, month: datetime, until: datetime) -> list[dict[str, Any]]:
        """The items of a month's invoice: what is alive all month in four parts, and backups of most droplets; 20,000 of 5,000 slots.

        Volumes and load balancers carry no id and are to be found by their names, addresses by themselves.
        """
        first, last = ((moment - self.began) / self.tick_length for moment in (month, until))
        query = """
            select l.s, l.g, l.kind, l.provider_id, greatest(l.born, :first) as starts, least(l.gone, :last) as ends,
                   (select max(n) from change c
                     where c.s = l.s and c.g = l.g and c.what = 'name' and c.tick < least(l.gone, :last)) as renamed,
                   (select max(n) from change c
                     where c.s = l.s and c.g = l.g and c.what = 'size' and c.tick < least(l.gone, :last)) as size,
                   l.name
              from life l where kind <> 'project' and born < :last and coalesce(gone > :first, true) order by l.s, l.g"""
        found = []
        for row in self.conn.execute(text(query), {"first": int(first), "last": int(last)}):
            name = f"{row.name}-{row.renamed}" if row.renamed else row.name
            product, description, price = _wording(row.kind, name, row.size or 0)
            by_id = row.kind in ("droplet", "snapshot")
            parts = 4 if row.ends - row.starts == int(last) - int(first) else 1
            for part in range(parts):
                edges = [self.at(row.starts + (row.ends - row.starts) * edge // parts) for edge in (part, part + 1)]
                found.append(_item(product, description, price, *edges, provider_id=row.provider_id if by_id else ""))
            if row.kind == "droplet" and parts > 1 and row.s % 10 != 3:
                found.append(
                    _item("Droplet Backups", f"{name} (Weekly Backup Services)", "1.20", month, until, provider_id=row.provider_id)
                )
        self.conn.rollback()  # an open transaction would keep vacuum from its work
        last_second = until - timedelta(seconds=1)
        found.append(_item("Spaces Subscription", "Spaces ($5/mo 250GiB storage & 1TiB bandwidth)", "5.00", month, last_second))
        found.append(_item("Taxes", "STATE SALES TAX (6.25%)", "812.50", month, last_second))
        return found


def as_csv(lines: list[dict[str, Any]]) -> bytes:
    """The printed document of an invoice."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(["product", "group_description", "description", "hours", "start", "end", "USD", "project_name", "category"])
    for item in lines:
        times = [item[name].replace("T", " ").replace("Z", " +0000") for name in ("start_time", "end_time")]
        writer.writerow([item["product"], "", item["description"], item["duration"], *times, f"${item['amount']}", "", item["category"]])
    return out.getvalue().encode()


def months(first: datetime, end: datetime) -> list[datetime]:
    """The first moments of the months from `first` to `end`, both of them such moments; `end` last."""
    found = [first]
    while found[-1] < end:
        found.append((found[-1] + timedelta(days=31)).replace(day=1))
    return found


def _step(kind: str) -> int:
    return _HOURLY if kind == "snapshot" else 1


def _wording(kind: str, name: str, size: int) -> tuple[str, str, str]:
    """Product, description and USD of a line."""
    if kind == "droplet":
        return "Droplets", f"{name} ({_SIZES[size % 2][0]})", "1.50"
    if kind == "volume":
        return "Volumes", f"{name} (blr1) {100 * (size + 1)}GB", "2.50"
    if kind == "snapshot":
        return "Droplet Snapshots", f"{name} (blr1) 3.00GB Droplet Snapshot", "0.18"
    if kind == "reserved_ip":
        return "Floating IPs", f"Unused Floating IP - {name}", "1.25"
    return "Load Balancers", name, "3.00"


def _item(product: str, description: str, amount: str, first: datetime, last: datetime, *, provider_id: str = "") -> dict[str, Any]:
    return {
        "product": product,
        "resource_id": provider_id,
        "resource_uuid": "",
        "group_description": "",
        "description": description,
        "amount": amount,
        "duration": str(round((last - first) / timedelta(hours=1))),
        "duration_unit": "Hours",
        "start_time": f"{first:%Y-%m-%dT%H:%M:%SZ}",
        "end_time": f"{last:%Y-%m-%dT%H:%M:%SZ}",
        "project_name": "",
        "category": "iaas",
    }


_TIME = "cast(:began as timestamptz) + ({}) * make_interval(secs => :seconds)"
_RUN_ID = "1 + ({tick})::bigint * 64 + {number}"

# A kind that the account has nothing of is listed all the same.
_RUNS = f"""
insert into arcadia.cloud_sync_runs (sync_run_id, account_id, kind, dagster_run_id, started_at, finished_at, complete, seen, discovered,
                                     updated, restored, struck, deleted, requests)
overriding system value
select {_RUN_ID.format(tick="t", number="number")}, :account_id, kind, md5(format('%s-%s', t, step))::uuid::text, {_TIME.format("t")},
       {_TIME.format("t")} + interval '2 seconds', true,
       coalesce(sum(born - gone) over (partition by kind order by t), 0), coalesce(born, 0), coalesce(changed, 0), 0, coalesce(struck, 0),
       coalesce(deleted, 0), 1
  from (select n.*, t from kind n cross join lateral generate_series(0, :last, n.step) t) runs (kind, number, step, t)
  left join (select kind, tick as t, sum(born) as born, sum(gone) as gone, sum(changed) as changed, sum(struck) as struck,
                    sum(deleted) as deleted
               from (select kind, born as tick, 1 as born, 0 as gone, 0 as changed, 0 as struck, 0 as deleted from life
                     union all select kind, gone, 0, 1, 0, 1, 0 from life where gone is not null
                     union all select kind, gone + step, 0, 0, 0, 1, 0 from life where gone is not null
                     union all select kind, gone + 2 * step, 0, 0, 0, 0, 1 from life where gone is not null
                     union all select kind, tick, 0, 0, 1, 0, 0 from change) e group by kind, tick) e using (kind, t)
 order by t, number;
select setval(pg_get_serial_sequence('arcadia.cloud_sync_runs', 'sync_run_id'), (select max(sync_run_id) from arcadia.cloud_sync_runs));
insert into arcadia.listings (account_id, kind, started_at, rematched_at)
select :account_id, kind, {_TIME.format("t")}, {_TIME.format("t")} from (select kind, :last / step * step as t from kind) k
"""

_RESOURCES = f"""
insert into arcadia.resources (account_id, kind, provider_id, {", ".join(_STATE)}, name_seen_from, first_seen_at, last_seen_at,
                               stale_strike_count, last_struck_at, deleted_at)
select :account_id, l.kind, l.provider_id, {", ".join(f"s.{column}" for column in _STATE)},
       (select {_TIME.format("max(tick) - l.step")} from change c where c.s = l.s and c.g = l.g and c.what = 'name'),
       {_TIME.format("l.born")},
       {_TIME.format("coalesce(l.gone - l.step, (select max(tick) from change c where c.s = l.s and c.g = l.g), l.born)")},
       case when l.gone is null then 0 else 3 end, {_TIME.format("l.gone + 2 * l.step")}, {_TIME.format("l.gone + 2 * l.step")}
  from life l join staged s using (provider_id) order by l.born, l.kind, l.s;
analyze arcadia.resources;
update arcadia.resources r set cloud_project_id = p.resource_id, attribution_source = 'own_project_id'
  from arcadia.resources p
 where r.account_id = :account_id and r.kind <> 'project' and p.account_id = r.account_id and p.kind = 'project'
   and p.provider_id = r.own_project_id;
create temp table entered on commit drop as
select l.*, r.resource_id
  from life l join arcadia.resources r on r.account_id = :account_id and r.kind = l.kind and r.provider_id = l.provider_id;
alter table entered add primary key (s, g);
analyze entered;
delete from arcadia.rematch_queue where account_id = :account_id
"""

_HISTORY = f"""
insert into arcadia.other_names (resource_id, name_key, name, seen_from, seen_until)
select resource_id, lower(name), name, case when born > 0 then {_TIME.format("born - step")} end, {_TIME.format("until")}
  from (select e.resource_id, e.step, e.name || case c.n when 0 then '' else '-' || c.n end as name,
               case when c.n > 0 then c.tick else 0 end as born,
               lead(c.tick) over (partition by e.resource_id order by c.n) as until
          from entered e
         cross join lateral (select 0 as n, e.born as tick
                             union all select n, tick from change c where c.s = e.s and c.g = e.g and c.what = 'name') c) names
 where until is not null;
insert into arcadia.cloud_resource_events (resource_id, account_id, sync_run_id, event, changes, occurred_at)
select resource_id, :account_id, {_RUN_ID.format(tick="tick", number="number")}, event, changes, {_TIME.format("tick")}
  from (select resource_id, kind, born as tick, 'discovered' as event, jsonb_build_object() as changes from entered
        union all
        select resource_id, kind, gone + 2 * step, 'deleted',
               jsonb_build_object('deleted_at', jsonb_build_object('before', null, 'after', {_TIME.format("gone + 2 * step")}))
          from entered where gone is not null
        union all
        select resource_id, kind, tick, case when what = 'tags' then 'tagged' when kind || ' ' || what = any(:drifts) then 'drift_detected'
                                             else 'updated' end,
               (select jsonb_object_agg(key, jsonb_build_object('before', before -> key, 'after', value)) from jsonb_each(after))
          from (select e.resource_id, e.kind, c.tick, c.what, s.after, b.before
                  from change c join entered e using (s, g)
                 cross join lateral (select {_AFTER} from (select e.kind, e.name, c.what, c.n) x (kind, name, what, n)) s (after)
                 cross join lateral (select {_AFTER} from (select e.kind, e.name, c.what, c.n - 1) x (kind, name, what, n)) b (before)) c
       ) events join kind using (kind)
 order by tick, number, resource_id;
insert into arcadia.cloud_balance_snapshots (account_id, month_to_date_balance, account_balance, month_to_date_usage, generated_at,
                                             taken_at)
select :account_id, usage, 0, usage, {_TIME.format("t")}, {_TIME.format("t")} + interval '7 minutes'
  from generate_series(0, :last, {_HOURLY}) t
 cross join lateral (select {_TIME.format("t")}) m (moment)
 cross join lateral (select round((extract(epoch from moment - date_trunc('month', moment, 'UTC')) / 100)::numeric, 2)) u (usage)
"""


def end_of_last_month() -> datetime:
    """The first moment of this month, UTC."""
    return datetime.now(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
