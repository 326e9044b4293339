"""Line -> resource: which resource every billed line pays for, decided in SQL over all lines at once, or the reason why none is.

By the provider's id first, then by what the text names. Two equally good candidates are no match: the line is `ambiguous` and lists them.
What the texts of lines mean is read in `digitalocean/invoices.py`; lines are stored by `billing.py`.
"""

from sqlalchemy import Connection, Engine, text

from arcadia_dagster.ledger.reconcile import lock
from arcadia_dagster.ledger.tables import BY_NAME

OUTCOME = ("match_status", "resource_id", "match_method", "match_detail")


def decided(lines: str) -> str:
    """A query that gives each line of the relation `lines` its outcome: the line's `ordinal` and `invoice_uuid`, and OUTCOME.

    `lines` names a relation with the columns of cloud_cost_lines that `billing.py` fills from the document; it holds lines that pay for a
    resource only. Binds :account_id. Every line comes out once.
    """
    return f"""
with line as (
    select invoice_uuid, ordinal, kind, look_up, name_key, parsed_name, nullif(parsed_region, '') as region,
           nullif(parsed_size, '') as size, provider_resource_id as id, provider_resource_uuid as uuid, started_at, ended_at
      from {lines}
), by_id as (
    select l.invoice_uuid, l.ordinal, r.resource_id,
           case when r.provider_id = l.parsed_name and l.look_up = 'ip' then 'ip' else 'id' end as method
      from line l
      cross join lateral (select distinct i from (values (l.id), (l.uuid), (case when l.look_up = 'ip' then l.parsed_name end)) v (i)
                           where i is not null) ids
      join arcadia.resources r on r.account_id = :account_id and r.kind = l.kind and r.provider_id = ids.i
), named as (
    -- Names ever borne count. A line of no length (backups taken once) needs its moment inside the lifetime, others an overlap.
    select l.invoice_uuid, l.ordinal, r.resource_id, l.look_up as method, l.size, r.attrs ->> 'size_slug' as resource_size,
           coalesce(l.started_at < r.deleted_at, true)
           and coalesce(r.provider_created_at < l.ended_at or r.provider_created_at <= l.started_at, true) as alive,
           coalesce(lower(l.region) = any(string_to_array(r.region, ',')), true) as in_region
      from line l
      join arcadia.resource_names n on n.name_key = l.name_key
      join arcadia.resources r on r.resource_id = n.resource_id and r.account_id = :account_id and r.kind = l.kind
     where l.look_up in ('name', 'parent', 'group') and l.id is null and l.uuid is null
), living as (
    select invoice_uuid, ordinal, resource_id, method, coalesce(size = resource_size, false) as same_size,
           bool_or(coalesce(size = resource_size, false)) over (partition by invoice_uuid, ordinal) as any_same_size
      from named where alive and in_region
), candidate as (
    select invoice_uuid, ordinal, resource_id, method from by_id
    union all
    select invoice_uuid, ordinal, resource_id, method from living where same_size or not any_same_size
), counted as (
    select c.invoice_uuid, c.ordinal, count(*) as candidates, min(c.resource_id) as resource_id, min(c.method) as method,
           jsonb_agg(jsonb_build_object('resource_id', r.resource_id, 'provider_id', r.provider_id, 'name', r.name, 'region', r.region,
                                        'created_at', r.provider_created_at, 'deleted_at', r.deleted_at)
                     order by r.resource_id) filter (where c.others > 1) as described
      from (select *, count(*) over (partition by invoice_uuid, ordinal) as others from candidate) c
      join arcadia.resources r on r.resource_id = c.resource_id
     group by c.invoice_uuid, c.ordinal
), elsewhere as (
    select invoice_uuid, ordinal, bool_or(alive) as alive from named group by invoice_uuid, ordinal
)
select l.invoice_uuid, l.ordinal,
       case when c.candidates = 1 then 'matched' when c.candidates > 1 then 'ambiguous' else 'unmatched' end as match_status,
       case when c.candidates = 1 then c.resource_id end as resource_id,
       case when c.candidates = 1 then c.method end as match_method,
       case when c.candidates = 1 then null
            when c.candidates > 1 then jsonb_build_object(
                'reason', format('%s resources of kind %s fit %L equally well', c.candidates, l.kind, l.parsed_name),
                'candidates', c.described)
            else jsonb_build_object('reason', case
                when l.name_key is null or l.name_key = '' then format('the line names no %s', l.kind)
                when e.alive then format('%s %L is known, but not in region %s', l.kind, l.parsed_name, l.region)
                when e.invoice_uuid is not null then
                     format('%s %L is known, but did not exist in the time that the line bills', l.kind, l.parsed_name)
                else format('no %s named %L is known, and the document gives no id', l.kind, l.parsed_name) end)
       end as match_detail
  from line l
  left join counted c using (invoice_uuid, ordinal)
  left join elsewhere e using (invoice_uuid, ordinal)
"""


def rematch(engine: Engine, account_id: int) -> int:
    """Match the account's lines that carry no id again; returns how many have another outcome now.

    Matches by name are decided anew with the rest: one that was the only candidate can have a twin now, and what the ledger says must not
    depend on which was known first. What an id decided is never undone by a weaker rule.
    """
    with engine.begin() as conn:
        lock(conn, "billing", account_id)
        return _rematch(conn, account_id)


def _rematch(conn: Connection, account_id: int) -> int:
    by_name = f"(select * from arcadia.cloud_cost_lines where account_id = :account_id and {BY_NAME}) as by_name"
    return conn.execute(
        text(
            "update arcadia.cloud_cost_lines l set match_status = d.match_status, resource_id = d.resource_id,"
            f" match_method = d.match_method, match_detail = d.match_detail from ({decided(by_name)}) d"
            " where l.invoice_uuid = d.invoice_uuid and l.ordinal = d.ordinal and (l.match_status, l.resource_id, l.match_method,"
            " l.match_detail) is distinct from (d.match_status, d.resource_id, d.match_method, d.match_detail)"
        ),
        {"account_id": account_id},
    ).rowcount
