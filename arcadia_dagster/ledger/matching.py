"""Line -> resource: which resource every billed line pays for, decided in SQL over all lines at once, or the reason why none is.

By the provider's id first, then by what the text names. Two equally good candidates are no match: the line is `ambiguous` and lists them.
What the texts of lines mean is read in `digitalocean/products.py`; lines are stored by `billing.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, text

from arcadia_dagster.ledger.reconcile import lock
from arcadia_dagster.ledger.tables import BY_NAME

OUTCOME = ("match_status", "resource_id", "match_method", "match_detail")

# A resource is billed from its creation on and until it is destroyed, give or take this.
_SLACK = "interval '1 hour'"
# A line can show a name that was given after the month and before the invoice was made.
_INVOICED_WITHIN = "interval '2 days'"


def _by_id(lines: str) -> str:
    """(line, resource, method) of the lines of the relation `lines` that name an id. An IP is the id of a reserved IP."""
    return f"""
    select l.invoice_uuid, l.ordinal, r.resource_id, case when r.provider_id = l.ip then 'ip' else 'id' end as method
      from (select invoice_uuid, ordinal, kind, provider_resource_id as id, provider_resource_uuid as uuid,
                   case when look_up = 'ip' then parsed_name end as ip from {lines}) l
     cross join lateral (select distinct i from (values (l.id), (l.uuid), (l.ip)) v (i) where i is not null) ids
      join arcadia.resources r on r.account_id = :account_id and r.kind = l.kind and r.provider_id = ids.i"""


def _considered(lines: str) -> str:
    """Every (line, resource) pair of one kind and name, and what the facts say to it, for the lines of `lines` without an id.

    A resource that is billed by name pays from its creation to its end without a gap. So a line that begins in mid-month long after its
    creation, or ends in mid-month while it lived on, pays for another one of that name, unless a line of the same name takes over
    where this one stops (a resize).
    """
    return f"""
    select l.invoice_uuid, l.ordinal, l.kind, l.look_up, l.name_key, l.region as line_region, l.started_at, l.ended_at, r.resource_id,
           coalesce(n.seen_until > l.started_at, true) and coalesce(n.seen_from < l.month + interval '1 month' + {_INVOICED_WITHIN}, true)
               as bore_name,
           coalesce(r.provider_created_at - {_SLACK} <= l.started_at, true) as born,
           coalesce(l.ended_at <= r.deleted_at + {_SLACK}, true) as not_gone,
           l.look_up <> 'name' or l.preceded or coalesce(r.provider_created_at >= l.started_at - {_SLACK}, true) as begins_right,
           l.look_up <> 'name' or l.continued or coalesce(r.alive_until <= l.ended_at + {_SLACK}, true) as ends_right,
           coalesce(lower(l.region) = any(string_to_array(r.region, ',')), true) as in_region,
           coalesce(l.size = r.size, false) as same_size
      from (select *,
                   started_at <= month + {_SLACK} or exists (
                       select from unnest(ends) e where e between started_at - interval '1 minute' and started_at + interval '1 minute'
                   ) as preceded,
                   ended_at >= month + interval '1 month' - {_SLACK} or exists (
                       select from unnest(starts) s where s between ended_at - interval '1 minute' and ended_at + interval '1 minute'
                   ) as continued
              from (select invoice_uuid, ordinal, kind, look_up, name_key, nullif(parsed_region, '') as region,
                           nullif(parsed_size, '') as size, started_at, ended_at,
                           date_trunc('month', started_at, 'UTC') as month,
                           array_agg(started_at) over same as starts, array_agg(ended_at) over same as ends
                      from {lines}
                     where {BY_NAME}
                    window same as (partition by invoice_uuid, kind, name_key, parsed_region)) named) l
      join arcadia.resource_names n on n.name_key = l.name_key
      join (select resource_id, account_id, kind, region, attrs ->> 'size_slug' as size, provider_created_at, deleted_at,
                   case when deleted_at is null and stale_strike_count = 0
                        then greatest(last_seen_at, (select started_at from arcadia.listings s
                                                      where s.account_id = k.account_id and s.kind = k.kind))
                        else least(last_seen_at, deleted_at) end as alive_until
              from arcadia.resources k) r
        on r.resource_id = n.resource_id and r.account_id = :account_id and r.kind = l.kind"""


_FITS = "bore_name and born and not_gone and begins_right and ends_right and in_region"


def decided(lines: str) -> str:
    """A query that gives each line of the relation `lines` its outcome: the line's `invoice_uuid` and `ordinal`, and OUTCOME.

    `lines` names a relation with the columns of cloud_cost_lines that `billing.py` fills from the document; it holds lines that pay for a
    resource only, and whole invoices of them. Binds :account_id. Every line comes out once.
    """
    return f"""
with considered as ({_considered(lines)}
), fitting as (
    select *, bool_or(same_size) over (partition by invoice_uuid, ordinal) as any_same_size from considered where {_FITS}
), textual as (
    select *, count(*) over (partition by invoice_uuid, ordinal) as candidates
      from (select *, crowded and (not same_size or sum(same_size::int) filter (where crowded)
                                                     over (partition by invoice_uuid, resource_id, line_region) > 1) as twice
              from (select *, look_up = 'name' and (
                              coalesce(started_at + {_SLACK} < max(ended_at) over (earlier rows between unbounded preceding
                                                                                  and 1 preceding), false)
                              or coalesce(lead(started_at) over earlier + {_SLACK} < ended_at, false)) as crowded
                      from fitting where same_size or not any_same_size
                    window earlier as (partition by invoice_uuid, resource_id, line_region order by started_at, ordinal)) o) t
), doubtful as (
    -- A backup pays for the droplet that the droplet's own line pays for: where that one is in doubt, so is the backup.
    select distinct t.invoice_uuid, t.ordinal, t.resource_id
      from textual t
      join {lines} on l.invoice_uuid = t.invoice_uuid and l.kind = t.kind and l.name_key = t.name_key and l.look_up = 'name'
       and l.provider_resource_id is null and l.provider_resource_uuid is null
       and l.started_at <= t.started_at and l.ended_at >= t.ended_at
      left join textual own
        on own.invoice_uuid = l.invoice_uuid and own.ordinal = l.ordinal and own.candidates = 1 and not own.twice
     where t.look_up = 'parent' and own.resource_id is distinct from t.resource_id
), candidate as (
    select invoice_uuid, ordinal, resource_id, method, false as twice from ({_by_id(lines)}) by_id
    union all
    select t.invoice_uuid, t.ordinal, t.resource_id, t.look_up as method, t.twice or d.ordinal is not null as twice
      from textual t left join doubtful d on d.invoice_uuid = t.invoice_uuid and d.ordinal = t.ordinal and d.resource_id = t.resource_id
), counted as (
    select c.invoice_uuid, c.ordinal, count(*) as candidates, min(c.resource_id) as resource_id, min(c.method) as method,
           bool_or(c.twice) as twice,
           jsonb_agg(jsonb_build_object('resource_id', r.resource_id, 'provider_id', r.provider_id, 'name', r.name, 'region', r.region,
                                        'created_at', r.provider_created_at, 'deleted_at', r.deleted_at)
                     order by r.resource_id) filter (where c.others > 1 or c.twice) as described
      from (select *, count(*) over (partition by invoice_uuid, ordinal) as others from candidate) c
      join arcadia.resources r on r.resource_id = c.resource_id
     group by c.invoice_uuid, c.ordinal
), refused as (
    select invoice_uuid, ordinal, bool_or(bore_name) as bore_name, bool_or(bore_name and born and not_gone) as lived,
           bool_or(bore_name and born and not_gone and in_region) as lived_there
      from considered group by invoice_uuid, ordinal
)
select l.invoice_uuid, l.ordinal,
       case when c.candidates > 1 or c.twice then 'ambiguous' when c.candidates = 1 then 'matched' else 'unmatched' end as match_status,
       case when c.candidates = 1 and not c.twice then c.resource_id end as resource_id,
       case when c.candidates = 1 and not c.twice then c.method end as match_method,
       case when c.candidates = 1 and not c.twice then null
            when c.candidates > 1 then jsonb_build_object(
                'reason', format('%s resources of kind %s fit %L equally well', c.candidates, l.kind, l.parsed_name),
                'candidates', c.described)
            when c.twice then jsonb_build_object(
                'reason', format('%s %L fits, but other lines of that name as well: one of them pays for another', l.kind, l.parsed_name),
                'candidates', c.described)
            else jsonb_build_object('reason', case
                when coalesce(l.name_key, '') = '' then format('the line names no %s', l.kind)
                when e.lived_there then
                     format('%s %L is known, but was billed for another time: the line pays for another one', l.kind, l.parsed_name)
                when e.lived then format('%s %L is known, but not in region %s', l.kind, l.parsed_name, l.parsed_region)
                when e.bore_name then
                     format('%s %L is known, but did not exist in the time that the line bills', l.kind, l.parsed_name)
                when e.invoice_uuid is not null then
                     format('%s %L is known, but bore another name in the time that the line bills', l.kind, l.parsed_name)
                else format('no %s named %L is known, and the document gives no id', l.kind, l.parsed_name) end)
       end as match_detail
  from {lines}
  left join counted c on c.invoice_uuid = l.invoice_uuid and c.ordinal = l.ordinal
  left join refused e on e.invoice_uuid = l.invoice_uuid and e.ordinal = l.ordinal
"""


def rematch(engine: Engine, account_id: int) -> int:
    """Match the account's lines that carry no id again; returns how many have another outcome now.

    Matches by name are decided anew with the rest: one that was the only candidate can have a twin now, and what the ledger says must not
    depend on which was known first. What an id decided is never undone by a weaker rule.
    """
    lines = f"(select * from arcadia.cloud_cost_lines where account_id = :account_id and {BY_NAME}) l"
    with engine.begin() as conn:
        lock(conn, "billing", account_id)
        return conn.execute(
            text(
                "update arcadia.cloud_cost_lines l set match_status = d.match_status, resource_id = d.resource_id,"
                f" match_method = d.match_method, match_detail = d.match_detail from ({decided(lines)}) d"
                " where l.invoice_uuid = d.invoice_uuid and l.ordinal = d.ordinal and (l.match_status, l.resource_id, l.match_method,"
                " l.match_detail) is distinct from (d.match_status, d.resource_id, d.match_method, d.match_detail)"
            ),
            {"account_id": account_id},
        ).rowcount


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """Why a line has its outcome: the line as analysts see it, and each resource considered with what the facts say to it."""

    line: Mapping[str, Any]
    considered: list[Mapping[str, Any]]


_SAYS = {
    "bore_name": ("bore that name then", "bore another name then"),
    "born": ("had been created when the line begins", "was created after the line begins"),
    "not_gone": ("was there when the line ends", "was gone when the line ends"),
    "begins_right": ("is billed from when the line begins", "was billed before, by no line that ends where this one begins"),
    "ends_right": ("is billed until the line ends", "lived on, with no line that begins where this one ends"),
    "in_region": ("is in the line's region, or the line names none", "is in another region"),
}


def explain(conn: Connection, line_id: int) -> Explanation | None:
    """Look at one line as matching does; None for a line that does not exist.

    `considered` holds, for each resource of the line's kind and name: resource_id, provider_id, name, region, state, `speaks_for` and
    `speaks_against` as lists of sentences, `same_size`. Lines decided by an id have been compared with no other.
    """
    line = conn.execute(text("select * from arcadia.all_cost_lines where line_id = :line_id"), {"line_id": line_id}).mappings().first()
    if line is None:
        return None
    invoice = "(select * from arcadia.cloud_cost_lines where invoice_uuid = :invoice_uuid) l"
    pairs = conn.execute(
        text(
            f"select r.resource_id, r.provider_id, r.name, r.region, r.state, r.provider_created_at, r.deleted_at, {', '.join(_SAYS)},"
            f" same_size from ({_considered(invoice)}) c join arcadia.cloud_resources r using (resource_id)"
            " where c.ordinal = :ordinal order by r.resource_id"
        ),
        {"account_id": line["account_id"], "invoice_uuid": line["invoice_uuid"], "ordinal": line["ordinal"]},
    ).mappings()
    considered: list[Mapping[str, Any]] = [
        {
            **{name: value for name, value in pair.items() if name not in _SAYS},
            "speaks_for": [says[0] for fact, says in _SAYS.items() if pair[fact]],
            "speaks_against": [says[1] for fact, says in _SAYS.items() if not pair[fact]],
        }
        for pair in pairs
    ]
    return Explanation(line=dict(line), considered=considered)
