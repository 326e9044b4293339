"""Line -> resource: which resource every billed line pays for, decided in SQL over all lines at once, or the reason why none is.

By the provider's id first, then by what the text names. Two equally good candidates are no match: the line is `ambiguous` and lists them.
What the texts of lines mean is read in `digitalocean/products.py`; lines are stored by `billing.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, text

from arcadia_dagster.ledger.reconcile import lock
from arcadia_dagster.ledger.tables import BY_NAME, OF_SERVICE

OUTCOME = ("match_status", "resource_id", "match_method", "match_detail")

MANY_LINES = 1000
# Settings of a transaction that matches many lines: room for their sorts and joins. The planner takes what is common here (lines whose
# resource is known) for rare, and would look through all of them once for each. Of what is new, a rough idea will do until the server
# looks for itself.
FOR_MANY_LINES = (
    "set local work_mem = '64MB'; set local enable_nestloop = off; set local enable_mergejoin = off;"
    " set local default_statistics_target = 10"
)

# A resource is billed from its creation on and until it is destroyed, give or take this.
_SLACK = "interval '1 hour'"
# The lines of a resized resource follow each other this closely.
_ADJOINS = "interval '1 minute'"
# A line can show a name that was given after the month and before the invoice was made.
_INVOICED_WITHIN = "interval '2 days'"
# Groups that always have a node, and so a line.
_CLUSTERS = "'{k8s_cluster,managed_db}'"


@dataclass(frozen=True)
class Fact:
    """One thing that must be so if a resource is to be what a line pays for: an SQL condition, and how it is put either way."""

    sql: str
    speaks_for: str
    speaks_against: str


# Over a line `l`, and a resource `r` by a name that it has or had and that the line prints.
FACTS = {
    "bore_name": Fact(
        f"coalesce(r.seen_until > l.started_at, true) and coalesce(r.seen_from - {_INVOICED_WITHIN} < l.next_month, true)",
        "bore that name then",
        "bore another name then",
    ),
    "born": Fact(
        f"coalesce(r.provider_created_at - {_SLACK} <= l.started_at, true)",
        "had been created when the line begins",
        "was created after the line begins",
    ),
    "not_gone": Fact(
        # It went some time between the listing that last saw it and its tombstone; nothing new of it begins there.
        f"coalesce(l.ended_at <= r.deleted_at + {_SLACK}"
        f" and (l.look_up = 'parent' or l.started_at <= l.month + {_SLACK} or l.started_at <= r.alive_until), true)",
        "was there in the time of the line",
        "was gone before the line ends",
    ),
    "in_region": Fact(
        "(l.region = '' or coalesce(l.region = any(string_to_array(r.region, ',')), true))",
        "is in the line's region, or the line names none",
        "is in another region",
    ),
}


def _adjoins(moment: str, others: str) -> str:
    """Whether another line takes over at the moment, to the second or, where its size is another one, within a minute.

    Something destroyed and made again under its name seconds later is no resize.
    """
    return f"""(p.{moment} = any (p.{others}) or exists (
               select from unnest(p.{others}, p.sizes) o (other, size)
                where other between p.{moment} - {_ADJOINS} and p.{moment} + {_ADJOINS} and o.size <> p.size))"""


# A resource that is billed by name pays from its creation to its end without a gap. So a line that begins in mid-month long after its
# creation, or ends in mid-month while it lived on, pays for another one of that name, unless a line of the same name takes over where
# this one stops (a resize). So do the lines of a cluster, taken together: it always has a node. Over a pair `p`, with the starts, ends
# and sizes of all lines of the invoice that name its resource.
NEIGHBOUR_FACTS = {
    "begins_right": Fact(
        f"""case when p.by_name then p.begins_free or {_adjoins("started_at", "ends")}
                  when p.kind = any ({_CLUSTERS}) then
                      (select min(s) <= p.month + {_SLACK} or coalesce(p.created >= min(s) - {_SLACK}, true) from unnest(p.starts) s)
                  else true end""",
        "is billed from when the line begins",
        "was billed before, by no line that ends where this one begins",
    ),
    "ends_right": Fact(
        f"""case when p.by_name then p.ends_free or {_adjoins("ended_at", "starts")}
                  when p.kind = any ({_CLUSTERS}) then
                      (select max(e) >= p.month_ends - {_SLACK} or coalesce(p.alive_until <= max(e) + {_SLACK}, true)
                         from unnest(p.ends) e)
                  else true end""",
        "is billed until the line ends",
        "lived on, with no line that begins where this one ends",
    ),
}
# Two lines for the same part of a group at the same time: there were two of that name, and before the first listing nobody knows which
# one is meant.
_TWINS = f"""p.look_up = 'group' and p.known_from is not null and exists (
               select from unnest(p.starts, p.ends, p.sizes) with ordinality a (starts, ends, part, place)
                 join unnest(p.starts, p.ends, p.sizes) with ordinality b (starts, ends, part, place)
                   on a.part = b.part and a.place < b.place and a.starts + {_SLACK} < b.ends and b.starts + {_SLACK} < a.ends)"""


def _pairs(lines: str) -> str:
    """CTEs that end in `pair`: every (line, resource) pair of one kind and name, for lines of `lines` without an id, and FACTS.

    A resource's own name and its others are joined each by themselves: of both together the planner knows no figures, and would keep all
    lines in memory to look up the resources among them. offset 0: each fact is worked out once, not as often as it is used.
    `begins_free`, `ends_free`: the line needs no neighbour there. `known_from`: the month in which the name was first seen, where the line
    is older.
    """
    return f"""
named as not materialized (
    select l.line, l.invoice_uuid, l.kind, l.look_up, l.name_key, coalesce(lower(l.parsed_region), '') as region,
           coalesce(case l.look_up when 'group' then l.component else l.parsed_size end, '') as size, l.started_at, l.ended_at,
           month, month + interval '1 month' as next_month
      from (select *, date_trunc('month', started_at, 'UTC') as month from {lines} l where {BY_NAME} offset 0) l offset 0
), resize as materialized (
    select e.resource_id, e.occurred_at, changes -> 'size_slug' ->> 'before' as old, changes -> 'size_slug' ->> 'after' as new,
           (select max(s.started_at) from arcadia.cloud_sync_runs s
             where s.account_id = e.account_id and s.kind = 'droplet' and s.complete and s.started_at < e.occurred_at) as last_listed
      from arcadia.cloud_resource_events e
     where changes ? 'size_slug'
       and e.resource_id in (select resource_id from arcadia.resources_by_name
                              where name_key in (select name_key from {lines} l where {BY_NAME}))
), span_of_size as materialized (
    -- A size was given some time after the old one was last seen, and the old one was had until the new one is seen.
    select resource_id, new as size, last_listed as since, lead(occurred_at) over by_time as until from resize
    window by_time as (partition by resource_id order by occurred_at)
    union all
    (select distinct on (resource_id) resource_id, old, null, occurred_at from resize order by resource_id, occurred_at)
), pair as (
{_paired("k.name_key, k.name_seen_from as seen_from, null::timestamptz as seen_until", "arcadia.resources k")}
     union all
{_paired("o.name_key, o.seen_from, o.seen_until", "arcadia.other_names o join arcadia.resources k using (resource_id)")}
)"""


def _paired(name: str, bearers: str) -> str:
    """See `_pairs`: with the resources `k` of `bearers`, by the `name` they have there."""
    facts = ", ".join(f"{fact.sql} as {name}" for name, fact in FACTS.items())
    return f"""    (
    select l.line, l.invoice_uuid, l.kind, l.look_up, l.look_up = 'name' as by_name, l.name_key, l.region, l.size, l.month, l.started_at,
           l.ended_at, r.resource_id, r.provider_created_at as created, r.alive_until, {facts},
           case when z.resource_id is null then coalesce(l.size = r.size, false) else exists (
                    select from span_of_size s
                     where s.resource_id = r.resource_id and s.size = l.size and coalesce(s.since <= l.started_at, true)
                       and coalesce(s.until >= l.ended_at, true)) end as same_size,
           m.month_ends,
           l.started_at <= l.month + {_SLACK} or coalesce(r.provider_created_at + {_SLACK} >= l.started_at, true) as begins_free,
           l.ended_at >= m.month_ends - {_SLACK} or coalesce(r.alive_until - {_SLACK} <= l.ended_at, true) as ends_free,
           case when r.seen_from is null and r.listed_from >= l.next_month then date_trunc('month', r.listed_from, 'UTC') end as known_from,
           r.provider_created_at is null as undated
      from named l
      left join arcadia.cloud_invoices i on i.invoice_uuid = l.invoice_uuid
      join (select k.resource_id, k.account_id, k.kind, {name}, k.region,
                   k.attrs ->> 'size_slug' as size, k.provider_created_at, k.deleted_at,
                   case when not k.billing_only then k.first_seen_at end as listed_from,
                   case when k.deleted_at is null and k.stale_strike_count = 0 then greatest(k.last_seen_at, s.started_at)
                        else least(k.last_seen_at, k.deleted_at) end as alive_until
              from {bearers}
              left join arcadia.listings s on s.account_id = k.account_id and s.kind = k.kind) r
        on r.name_key = l.name_key and r.account_id = :account_id and r.kind = l.kind
      left join (select distinct resource_id from resize) z on z.resource_id = r.resource_id
     cross join lateral (select coalesce(i.covers_until - interval '1 day', l.next_month) as month_ends) m
    offset 0)"""


def _judged(pairs: str) -> str:
    """The CTE `judged`: the pairs with NEIGHBOUR_FACTS, for which each line is held against all of its invoice that name its resource."""
    facts = ", ".join(f"{fact.sql} as {name}" for name, fact in NEIGHBOUR_FACTS.items())
    # offset 0: or the planner works each fact out as often as it is used.
    return f"""
judged as materialized (
    select *, {" and ".join((*FACTS, *NEIGHBOUR_FACTS))} as fits
      from (select {_PAIR}, {", ".join(FACTS)}, {facts}, {_TWINS} as twins
              from (select *, array_agg(started_at) over same as starts, array_agg(ended_at) over same as ends,
                           array_agg(size) over same as sizes
                      from ({pairs}) q window same as (partition by {_SAME})) p
            offset 0) w
)"""


# The lines of an invoice that name one resource.
_SAME = "resource_id, invoice_uuid, region, by_name"
_PAIR = (
    "line, invoice_uuid, kind, look_up, by_name, name_key, region, size, month, started_at, ended_at, resource_id, same_size, known_from,"
    " undated, begins_free, ends_free"
)
_COLUMNS = f"{_PAIR}, twins"


def _takes_over(one: str, other: str) -> str:
    """Whether line `other` begins where line `one` of the same resource ends; see _adjoins."""
    return f"""{other}.resource_id = {one}.resource_id and {other}.invoice_uuid = {one}.invoice_uuid and {other}.region = {one}.region
               and ({other}.started_at = {one}.ended_at
                    or {other}.size <> {one}.size
                   and {other}.started_at between {one}.ended_at - {_ADJOINS} and {one}.ended_at + {_ADJOINS})"""


# Nearly all lines are easy: of those that name their resource, none covers the time of another (none begins before the one before it
# ends), so each need only look at the one before it and the one after it, which takes over to the second; and nothing else bears the name.
# `quick` finds them, and holds no more of a pair than that, as there are as many as lines. The others are `odd`, and so is what shares a
# line with them: they are judged again, each line against all.
_QUICK = f"""
    select line, resource_id, fits, crosses or is_group or by_name and not fits as odd,
           fits and by_name and known_from is null as easy
      from (
    select line, resource_id, by_name, known_from, look_up = 'group' as is_group, {" and ".join(FACTS)}
              and (not by_name or begins_free or coalesce(lag(ended_at) over neighbours = started_at, false))
              and (not by_name or ends_free or coalesce(lead(started_at) over neighbours = ended_at, false)) as fits,
           by_name and coalesce(started_at < lag(ended_at) over neighbours, false) as crosses
      from pair window neighbours as (partition by {_SAME} order by started_at, line)) q"""
_ODD = """
with of_several as (
    select unnest(array_agg(resource_id)) as resource_id
      from (select distinct resource_id from quick) q join arcadia.resources_by_name r using (resource_id)
     group by r.kind, r.name_key having count(*) > 1
), shared as (
    select line from quick where fits and resource_id in (select resource_id from of_several) group by line having count(*) > 1
), not_easy as (
    select resource_id from quick where odd
    union
    select q.resource_id from quick q join shared using (line)
)
select resource_id from not_easy
 union
select o.resource_id from not_easy join quick q using (resource_id) join quick o on o.line = q.line"""
_EASY = """
    select quick.line, quick.resource_id from quick left join odd on odd.resource_id = quick.resource_id
     where quick.easy and odd.resource_id is null"""
# The lines for which that is not all that is to be said.
_AGAIN = "select line from quick left join odd using (resource_id) where not quick.easy or odd.resource_id is not null"


# A line that leans on its neighbour fits only if the neighbour does: what was destroyed after its resize did not live on. Looked into
# only where some line of that name fits, and some does not.
_UNSOUND = f"""
leaning as materialized (
    select j.line, j.invoice_uuid, j.resource_id, j.region, j.size, j.started_at, j.ended_at, j.begins_free, j.ends_free
      from judged j
      join (select distinct invoice_uuid, resource_id, region from judged where by_name and not fits) b
        on b.resource_id = j.resource_id and b.invoice_uuid = j.invoice_uuid and b.region = j.region
     where j.by_name and j.fits
), unsound as materialized (
    with recursive onward (line, invoice_uuid, resource_id, region, size, started_at) as (
        select line, invoice_uuid, resource_id, region, size, started_at from leaning where ends_free
        union
        select l.line, l.invoice_uuid, l.resource_id, l.region, l.size, l.started_at from leaning l join onward o on {_takes_over("l", "o")}
    ), backward (line, invoice_uuid, resource_id, region, size, ended_at) as (
        select line, invoice_uuid, resource_id, region, size, ended_at from leaning where begins_free
        union
        select l.line, l.invoice_uuid, l.resource_id, l.region, l.size, l.ended_at from leaning l join backward b on {_takes_over("b", "l")}
    )
    select line, resource_id from leaning
    except (select line, resource_id from onward intersect select line, resource_id from backward)
)"""


def _with_twice(pairs: str) -> str:
    """The fitting pairs with `twice`: a resource is not billed for the same time by two lines, unless only one of them prints its size.

    Backups and the parts of a group share their time by nature.
    """
    over = f"over (partition by {_SAME} order by started_at, line"
    return f"""
    select *, crowded and (not same_size or count(*) filter (where crowded and same_size) over (partition by {_SAME}) > 1) as twice
      from (select *, by_name and (coalesce(started_at + {_SLACK} < max(ended_at) {over} rows between unbounded preceding and 1 preceding),
                                            false)
                                   or coalesce(lead(started_at) {over}) + {_SLACK} < ended_at, false)) as crowded
              from ({pairs}) o) o"""


# A name counts for the time before its resource was first listed, as nobody knows better, unless the invoices between say otherwise: a
# month that ends without a line of that name, or one that begins with more of them than the month before ended with. Something was
# given the name then, and who bore it before is not known. Nor is it where the provider does not say when the resource was created, or
# where its size of today must decide between several, if something of its name came, went or was resized. `traced` holds, for each name
# in question, the months that ended with it (`ends`), those that began with more of it (`gains`), and those in which it came or went
# (`cuts`); `invoiced` holds all months that are known.
def _traced(history: str, pairs: str) -> str:
    return f"""
in_question as materialized (
    select distinct kind, name_key from {pairs} where known_from is not null
), invoiced as materialized (
    select array_agg(distinct date_trunc('month', h.started_at, 'UTC')) as months from {history} h
     where exists (select from in_question)
), flow as (
    select kind, name_key, region, size, month, least(begun, ended) < lines as cut,
           case when grouped then least(begun, 1) else begun end as begun,
           case when grouped then least(ended, 1) else ended end as ended
      from (select h.kind, h.name_key, coalesce(lower(h.parsed_region), '') as region,
                   case h.kind when 'droplet' then h.parsed_size end as size, h.look_up = 'group' as grouped,
                   date_trunc('month', h.started_at, 'UTC') as month,
                   count(*) filter (where h.started_at <= date_trunc('month', h.started_at, 'UTC') + {_SLACK}) as begun,
                   count(*) filter (where h.ended_at >= date_trunc('month', h.started_at, 'UTC') + interval '1 month' - {_SLACK}) as ended,
                   count(*) as lines
              from {history} h join in_question q on q.kind = h.kind and q.name_key = h.name_key
             where h.look_up in ('name', 'group') group by 1, 2, 3, 4, 5, 6) f
), traced as (
    select kind, name_key, region, array_agg(month) filter (where ended > 0) as ends, array_agg(month) filter (where gained) as gains,
           array_agg(month) filter (where cut) as cuts
      from (select f.*, f.begun > coalesce(b.ended, 0) and f.month - interval '1 month' = any(i.months) as gained
              from flow f cross join invoiced i
              left join flow b on b.kind = f.kind and b.name_key = f.name_key and b.region = f.region
                              and b.size is not distinct from f.size and b.month = f.month - interval '1 month') g
     group by kind, name_key, region
)"""


_UNSURE = """j.known_from is not null and (
        j.twins or exists (select from unnest(t.gains) g where g > j.month and g <= j.known_from)
        or exists (select from invoiced, unnest(months) k
                    where k > j.month and k < j.known_from and k <> all (coalesce(t.ends, '{}')))
        or (j.undated or j.by_size) and exists (select from unnest(t.cuts) c where c >= j.month and c <= j.known_from))"""
_SOUND = f"""
    select {", ".join(f"j.{column}" for column in _COLUMNS.split(", "))}, coalesce(c.any_same_size, false) as by_size
      from judged j left join contested c using (line) left join unsound u using (line, resource_id)
     where j.fits and u.line is null and (j.same_size or not coalesce(c.any_same_size, false))"""


def statements(lines: str, history: str, columns: str) -> list[str]:
    """SQL that decides what lines pay for: statements that make the temporary tables `quick` and `odd`, and last, two queries.

    `lines` is a relation with the columns of cloud_cost_lines that `billing.py` fills from the document, and `line`, a number of its own
    for each; it holds lines that pay for a resource only. Where it holds a line without an id, it holds all lines of that invoice that
    name the same, or name what bears the same name. `history` is one of all lines of the account but previews. Binds :account_id.

    The queries give every line once, the first of them the easy ones and the second the others: the `columns` of it, separated by commas,
    and OUTCOME.
    """
    return [
        f"create temp table quick on commit drop as with {_pairs(lines)} {_QUICK}",
        "analyze quick",
        f"create temp table odd on commit drop as {_ODD}",
        "analyze odd",  # so that the planner knows what is rare
        f"select {_of_line(columns)}, 'matched', e.resource_id, 'name', null::jsonb from {lines} l join ({_EASY}) e on e.line = l.line",
        _decision(lines, history, columns),
    ]


def _of_line(columns: str) -> str:
    return ", ".join(f"l.{column}" for column in columns.split(", "))


def _decision(lines: str, history: str, columns: str) -> str:
    return f"""
with again as materialized (
    select * from {lines} l where line in ({_AGAIN})
), {_pairs("again")}, {_judged("select pair.* from pair join odd using (resource_id)")}, {_UNSOUND}, contested as materialized (
    select line, bool_or(same_size) as any_same_size from judged left join unsound u using (line, resource_id)
     where fits and u.line is null group by line having count(*) > 1
), easy as not materialized ({_EASY}
), uneasy as materialized (
    select pair.*, quick.fits, odd.resource_id is null as settled
      from pair join quick using (line, resource_id) left join odd using (resource_id)
     where not quick.easy or odd.resource_id is not null
), fit as materialized (
    select {_PAIR}, false as twins, false as by_size, false as twice from uneasy where fits and settled
    union all
    select {_COLUMNS}, by_size or crowded as by_size, twice from ({_with_twice(_SOUND)}) u
), {_traced(history, "fit")}, textual as materialized (
    select j.line, j.invoice_uuid, j.kind, j.look_up, j.name_key, j.started_at, j.ended_at, j.resource_id,
           case when j.twice then 'twice' when {_UNSURE} then 'unsure' end as doubt
      from fit j
      left join traced t on j.known_from is not null and t.kind = j.kind and t.name_key = j.name_key and t.region = j.region
), by_text as materialized (
    select line, count(*) as candidates, min(resource_id) as resource_id, min(look_up) as method, max(doubt) as doubt
      from textual group by line
), doubtful as (
    -- A backup pays for the droplet that the droplet's own line pays for: where that one is in doubt, so is the backup.
    select distinct b.line
      from textual b
      join {lines} l on l.invoice_uuid = b.invoice_uuid and l.kind = b.kind and l.name_key = b.name_key and l.look_up = 'name'
                    and l.provider_resource_id is null and l.provider_resource_uuid is null
                    and l.started_at <= b.started_at and l.ended_at >= b.ended_at
      left join (select line, resource_id from by_text where candidates = 1 and doubt is null
                 union all select line, resource_id from easy) own on own.line = l.line
     where b.look_up = 'parent' and own.resource_id is distinct from b.resource_id
), special as materialized (
    select line, kind, look_up, parsed_name, component, provider_resource_id, provider_resource_uuid from {lines} l
     where look_up = 'ip' or provider_resource_id is not null or provider_resource_uuid is not null or {OF_SERVICE}
), by_id as materialized (
    -- An IP is the id of a reserved IP. Of two ids on one line, either may be the resource's.
    select l.line, case when coalesce(a.resource_id, b.resource_id) is null then 'ip' else 'id' end as method,
           array_remove(array[a.resource_id, nullif(b.resource_id, a.resource_id),
                              nullif(nullif(c.resource_id, a.resource_id), b.resource_id)], null) as ids
      from special l
      left join arcadia.resources a on a.account_id = :account_id and a.kind = l.kind and a.provider_id = l.provider_resource_id
      left join arcadia.resources b on b.account_id = :account_id and b.kind = l.kind and b.provider_id = l.provider_resource_uuid
      left join arcadia.resources c
        on c.account_id = :account_id and c.kind = l.kind and c.provider_id = l.parsed_name and l.look_up = 'ip'
     where l.look_up = 'ip' or l.provider_resource_id is not null or l.provider_resource_uuid is not null
), of_service as materialized (
    select l.line, min(r.resource_id) as resource_id
      from special l
      join arcadia.resources r on r.account_id = :account_id and r.kind = 'load_balancer' and 'load balancer ' || r.name = l.component
     where l.{OF_SERVICE} group by l.line having count(*) = 1
), exceptional as (
    select b.line, b.candidates, b.resource_id, b.method, case when d.line is null then b.doubt else 'twice' end as doubt
      from by_text b left join of_service s using (line) left join doubtful d using (line) where s.line is null
    union all
    select b.line, cardinality(ids), ids[1], b.method, null
      from by_id b left join of_service s using (line) where s.line is null and cardinality(ids) > 0
    union all
    select line, 1, resource_id, 'name', null from of_service
), described as (
    select c.line, jsonb_agg(jsonb_build_object('resource_id', r.resource_id, 'provider_id', r.provider_id, 'name', r.name,
                                                'region', r.region, 'created_at', r.provider_created_at, 'deleted_at', r.deleted_at)
                             order by r.resource_id) as candidates
      from (select t.line, t.resource_id from exceptional x join textual t using (line) where x.candidates > 1 or x.doubt is not null
            union all select line, unnest(ids) from by_id where cardinality(ids) > 1) c
      join arcadia.resources r using (resource_id) group by c.line
), refused as (
    select line, bool_or(bore_name) as bore_name, bool_or(bore_name and born and not_gone) as lived,
           bool_or(bore_name and born and not_gone and in_region) as lived_there
      from uneasy where not (fits and settled) group by line
)
select {_of_line(columns)},
       case when c.candidates = 1 and c.doubt is null then 'matched' when c.candidates > 0 then 'ambiguous' else 'unmatched' end
           as match_status,
       case when c.candidates = 1 and c.doubt is null then c.resource_id end as resource_id,
       case when c.candidates = 1 and c.doubt is null then c.method end as match_method,
       case when c.candidates = 1 and c.doubt is null then null
            when c.candidates > 0 then jsonb_build_object('reason', case
                when c.candidates > 1 then format('%s resources of kind %s fit %L equally well', c.candidates, l.kind, l.parsed_name)
                when c.doubt = 'twice' then
                     format('%s %L fits, but other lines of that name as well: one of them pays for another', l.kind, l.parsed_name)
                else format('%s %L fits, but something was given that name after the line and before the first listing: who bore it then'
                            ' is not known', l.kind, l.parsed_name) end,
                'candidates', d.candidates)
            else jsonb_build_object('reason', case
                when coalesce(l.name_key, '') = '' then format('the line names no %s', l.kind)
                when e.lived_there then
                     format('%s %L is known, but was billed for another time: the line pays for another one', l.kind, l.parsed_name)
                when e.lived then format('%s %L is known, but not in region %s', l.kind, l.parsed_name, l.parsed_region)
                when e.bore_name then
                     format('%s %L is known, but did not exist in the time that the line bills', l.kind, l.parsed_name)
                when e.line is not null then
                     format('%s %L is known, but bore another name in the time that the line bills', l.kind, l.parsed_name)
                else format('no %s named %L is known, and the document gives no id', l.kind, l.parsed_name) end)
       end as match_detail
  from {lines} l
  left join easy on easy.line = l.line
  -- Each line is in there once. Grouped, so that the planner knows it, and hashes this rather than the lines.
  left join (select line, min(candidates) as candidates, min(resource_id) as resource_id, min(method) as method, min(doubt) as doubt
               from exceptional group by line) x on x.line = l.line
  left join described d on d.line = l.line
  left join refused e on e.line = l.line
 cross join lateral (select coalesce(x.candidates, 0) as candidates, x.resource_id, x.method, x.doubt) c
 where easy.line is null
"""


def decide(conn: Connection, lines: str, history: str, values: Mapping[str, Any], *, count: int, columns: str, into: str) -> None:
    """Run `statements`, the queries behind `into`: `insert into ...`. There are `count` lines; `values` are what all of that binds."""
    *preparation, easy, others = statements(lines, history, columns)
    for statement in preparation:
        conn.execute(text(statement), values if ":" in statement else {})
    if conn.execute(text(f"{into} {easy}"), values).rowcount < count:
        conn.execute(text(f"{into} {others}"), values)
    conn.execute(text("drop table quick, odd"))


def stored_lines(where: str) -> str:
    """A relation for `decide` of stored lines of the account `:account_id`, or some of them."""
    return f"(select line_id as line, * from arcadia.cloud_cost_lines where account_id = :account_id and {where})"


# What is known of names in the past: a month to date is no past yet.
HISTORY = stored_lines(
    "started_at is not null"
    " and invoice_uuid not in (select invoice_uuid from arcadia.cloud_invoices where account_id = :account_id and status = 'preview')"
)

_CHANGES = """
    select jsonb_object_agg(field, jsonb_build_object('before', before, 'after', after))
      from (values ('match_status', to_jsonb(l.match_status), to_jsonb(d.match_status)),
                   ('resource_id', to_jsonb(l.resource_id), to_jsonb(d.resource_id)),
                   ('match_method', to_jsonb(l.match_method), to_jsonb(d.match_method)),
                   ('reason', l.match_detail -> 'reason', d.match_detail -> 'reason')) v (field, before, after)
     where before is distinct from after"""


def match_events(before: str, after: str) -> str:
    """A query for the events of lines whose match is another one in relation `after` than in `before`; both have an `invoice_uuid`."""
    return f"""
    select :account_id, l.invoice_uuid, l.ordinal, ({_CHANGES}), clock_timestamp()
      from {before} l join {after} d using (invoice_uuid, ordinal) join arcadia.cloud_invoices i using (invoice_uuid)
     where i.status <> 'preview'
       and (l.match_status, l.resource_id, l.match_method) is distinct from (d.match_status, d.resource_id, d.match_method)"""


MATCH_EVENT = "arcadia.cloud_match_events (account_id, invoice_uuid, ordinal, changes, occurred_at)"


def is_waiting(engine: Engine, account_id: int) -> bool:
    """Whether inventory has changed what matching has not yet seen."""
    with engine.connect() as conn:
        query = "select exists (select from arcadia.rematch_queue where account_id = :account_id)"
        return bool(conn.execute(text(query), {"account_id": account_id}).scalar_one())


def rematch(engine: Engine, account_id: int) -> int:
    """Match the account's lines again for which inventory has changed; returns how many have another outcome now.

    Only lines that name what has changed since they were matched are looked at, or that name what shares a name with it. Matches by name
    are decided anew with the rest: one that was the only candidate can have a twin now, and what the ledger says must not depend on which
    was known first. What an id decided is never undone by a weaker rule. Each change leaves an event that says what the match was.
    """
    values = {"account_id": account_id}
    with engine.begin() as conn:
        lock(conn, "billing", account_id)
        if not _take_stale_names(conn, values):
            return 0
        found = conn.execute(text(_STALE_LINES), values).rowcount
        conn.execute(text("analyze stale_line"))
        if found >= MANY_LINES:
            conn.execute(text(FOR_MANY_LINES))
        outcome = ", ".join(OUTCOME)
        conn.execute(
            text(
                f"create temp table decision on commit drop as select line_id as line, {outcome} from arcadia.cloud_cost_lines with no data"
            )
        )
        decide(conn, "stale_line", HISTORY, values, count=found, columns="line", into=f"insert into decision (line, {outcome})")
        changed = conn.execute(
            text(
                "with changed as materialized (select d.*, l.invoice_uuid, l.ordinal from decision d"
                " join arcadia.cloud_cost_lines l on l.line_id = d.line"
                " where (l.match_status, l.resource_id, l.match_method, l.match_detail)"
                " is distinct from (d.match_status, d.resource_id, d.match_method, d.match_detail)),"
                f" told as (insert into {MATCH_EVENT} {match_events('arcadia.cloud_cost_lines', 'changed')}),"
                " written as (update arcadia.cloud_cost_lines l set match_status = d.match_status, resource_id = d.resource_id,"
                " match_method = d.match_method, match_detail = d.match_detail from changed d where l.line_id = d.line)"
                " select count(*) from changed"
            ),
            values,
        ).scalar_one()
        conn.execute(text("drop table decision, stale_line, stale_name, unsettled"))
    return int(changed)


_STALE_FOR_EVER = f"{BY_NAME} and (kind, name_key) in (select kind, name_key from stale_name where ever)"
_STALE_OF_LATE = f"""{BY_NAME} and invoice_uuid in (select invoice_uuid from unsettled)
   and (kind, name_key) in (select kind, name_key from stale_name where not ever)"""
# Each part by an index of its own: there are ten years of lines. While nested loops are allowed, for few names.
_STALE_LINES = f"""
create temp table stale_line on commit drop as
select line_id as line, * from arcadia.cloud_cost_lines where account_id = :account_id and {_STALE_FOR_EVER}
union all
select line_id as line, * from arcadia.cloud_cost_lines where account_id = :account_id and {_STALE_OF_LATE}
union all
select line_id as line, * from arcadia.cloud_cost_lines
 where account_id = :account_id and {OF_SERVICE}
   and component in (select 'load balancer ' || name_key from stale_name where kind = 'load_balancer')
   and ({_STALE_FOR_EVER} or {_STALE_OF_LATE}) is not true
"""


def _take_stale_names(conn: Connection, values: Mapping[str, Any]) -> bool:
    """Empty the account's queue into the temporary table `stale_name` (kind, name_key, ever); False, and no table, where nothing is stale.

    The queue is emptied by a statement of its own, so that the next ones see every change that it told of. A resource that lives counts
    as billed on from listing to listing: lines that end after the listing they were matched against are stale at the next, and with them
    what their invoice says of the same names. Those invoices are in the temporary table `unsettled` (NULL: all, of a kind that is listed
    for the first time); only names that are stale for `ever` are looked up in the others. Names that those invoices do not bill lead from
    no line of theirs to another.
    """
    conn.execute(
        text(
            "create temp table stale_name on commit drop as"
            " with taken as (delete from arcadia.rematch_queue where account_id = :account_id returning resource_id)"
            " select resource_id, null::text as kind, null::text as name_key, true as ever from taken"
        ),
        values,
    )
    conn.execute(
        text(
            f"""
create temp table unsettled on commit drop as
with moved as materialized (
    select kind, rematched_at - {_SLACK} as since from arcadia.listings
     where account_id = :account_id and started_at is distinct from rematched_at
)
select distinct l.kind, l.name_key, case when m.since is not null then l.invoice_uuid end as invoice_uuid
  from arcadia.cloud_invoices i
 cross join lateral (select kind, name_key, invoice_uuid, ended_at from arcadia.cloud_cost_lines l
                      where l.invoice_uuid = i.invoice_uuid and {BY_NAME} offset 0) l  -- or the planner reads all that ever were
  join moved m on m.kind = l.kind and coalesce(l.ended_at >= m.since, m.since is null)
 where i.account_id = :account_id and exists (select from moved where coalesce(i.lines_end_at >= since, since is null))
"""
        ),
        values,
    )
    conn.execute(text("analyze stale_name, unsettled"))  # so that for few names nothing else of the ledger is read
    conn.execute(
        text(
            f"""
insert into stale_name (kind, name_key, ever)
with recursive billed as (
    select distinct l.kind, l.name_key
      from (select distinct invoice_uuid from unsettled where invoice_uuid is not null) i
     cross join lateral (select kind, name_key from arcadia.cloud_cost_lines l
                          where l.invoice_uuid = i.invoice_uuid and {BY_NAME} offset 0) l
), reached (kind, name_key, ever) as (
    select r.kind, r.name_key, true from stale_name join arcadia.resources_by_name r using (resource_id)
    union
    select kind, name_key, invoice_uuid is null from unsettled
    union
    select other.kind, other.name_key, reached.ever
      from reached
     -- offset 0: looked up name by name and by nothing else. The planner would read all resources for one, or, as long as it knows nothing
     -- of the table, all of the kind.
     cross join lateral (select resource_id, account_id, kind from arcadia.resources_by_name
                          where name_key = reached.name_key offset 0) r
     cross join lateral (select kind, name_key from arcadia.resources_by_name where resource_id = r.resource_id offset 0) other
     -- The nodes of a pool bear one name after the other: it leads to all that ever were, of which one invoice bills few.
     where r.account_id = :account_id and r.kind = reached.kind
       and (reached.ever or (other.kind, other.name_key) in (select kind, name_key from billed))
)
select kind, name_key, bool_or(ever) from reached group by kind, name_key
"""
        ),
        values,
    )
    conn.execute(text("delete from stale_name where name_key is null"))
    conn.execute(
        text(
            "update arcadia.listings set rematched_at = started_at"
            " where account_id = :account_id and started_at is distinct from rematched_at"
        ),
        values,
    )
    found = conn.execute(text("select exists (select from stale_name)")).scalar_one()
    conn.execute(text("analyze stale_name, unsettled" if found else "drop table stale_name, unsettled"))
    return bool(found)


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """Why a line has its outcome: the line as analysts see it (`is_preview`: of the month to date), and each resource considered with
    what the facts say to it."""

    line: Mapping[str, Any]
    considered: list[Mapping[str, Any]]


_PAIR_FACTS = {
    "only_once": Fact("not j.twice", "no other line of the invoice fits it for the same time", "another line fits it for the same time"),
    "surely_named": Fact(
        f"not ({_UNSURE})",
        "no invoice between the line and the first listing shows the name given to something else",
        "the name was given to something after the line and before the first listing",
    ),
}


def explain(conn: Connection, line_id: int) -> Explanation | None:
    """Look at one line as matching does; None for a line that does not exist.

    `considered` holds, for each resource of the line's kind and name: resource_id, provider_id, name, region, state, `speaks_for` and
    `speaks_against` as lists of sentences, `same_size`. Lines decided by an id have been compared with no other.
    """
    query = """
        select l.*, i.status = 'preview' as is_preview
          from arcadia.all_cost_lines l join arcadia.cloud_invoices i using (invoice_uuid) where l.line_id = :line_id"""
    line = conn.execute(text(query), {"line_id": line_id}).mappings().first()
    if line is None:
        return None
    facts = {**FACTS, **NEIGHBOUR_FACTS, **_PAIR_FACTS}
    namesakes = stored_lines(
        "invoice_uuid = :invoice_uuid and kind = :kind and (name_key = :name_key or name_key in (select o.name_key"
        " from arcadia.resources_by_name n join arcadia.resources_by_name o using (resource_id) where n.name_key = :name_key))"
    )
    name_key = conn.execute(
        text("select name_key from arcadia.cloud_cost_lines where line_id = :line_id"), {"line_id": line_id}
    ).scalar_one()
    pairs = conn.execute(
        text(
            f"with {_pairs(namesakes)}, {_judged('select * from pair')}, {_traced(HISTORY, 'judged')}"
            " select r.resource_id, r.provider_id, r.name, r.region, r.state, r.provider_created_at, r.deleted_at, j.same_size,"
            f" {', '.join((*FACTS, *NEIGHBOUR_FACTS))}, {', '.join(f'{fact.sql} as {name}' for name, fact in _PAIR_FACTS.items())}"
            " from (select j.*, false as by_size, coalesce(w.twice, false) as twice from judged j"
            f" left join ({_with_twice('select * from judged where fits')}) w using (line, resource_id)) j"
            " left join traced t on t.kind = j.kind and t.name_key = j.name_key and t.region = j.region"
            " join arcadia.cloud_resources r on r.resource_id = j.resource_id where j.line = :line_id order by r.resource_id"
        ),
        {
            "account_id": line["account_id"],
            "invoice_uuid": line["invoice_uuid"],
            "kind": line["kind"],
            "name_key": name_key,
            "line_id": line_id,
        },
    ).mappings()
    considered: list[Mapping[str, Any]] = [
        {
            **{name: value for name, value in pair.items() if name not in facts},
            "speaks_for": [fact.speaks_for for name, fact in facts.items() if pair[name]],
            "speaks_against": [fact.speaks_against for name, fact in facts.items() if not pair[name]],
        }
        for pair in pairs
    ]
    return Explanation(line=dict(line), considered=considered)
