create view arcadia.resource_timeline as
select r.resource_id, r.provider_created_at as at, 'created' as what, null::text as detail, null::numeric as amount_usd
  from arcadia.cloud_resources r where r.provider_created_at is not null and r.state <> 'billing_only'
union all
select e.resource_id, e.occurred_at, e.event, c.detail, null
  from arcadia.cloud_resource_events e
 cross join lateral (
       select string_agg(format('%s: %s → %s', field, coalesce(b.text, 'none'), coalesce(a.text, 'none')), '; ' order by field) as detail
         from jsonb_each(e.changes) f (field, change)
        cross join lateral (select change #>> '{before}') b0 (text)
        cross join lateral (select change #>> '{after}') a0 (text)
        cross join lateral (select case when length(b0.text) > 100 then left(b0.text, 99) || '…' else b0.text end) b (text)
        cross join lateral (select case when length(a0.text) > 100 then left(a0.text, 99) || '…' else a0.text end) a (text)
        where field <> 'monthly_price') c
 where e.event <> 'updated' or c.detail is not null
union all
select resource_id, occurred_at, 'price_changed',
       format('list price a month: %s → %s', coalesce((changes #>> '{monthly_price,before}') || ' USD', 'not known'),
              coalesce((changes #>> '{monthly_price,after}') || ' USD', 'not known')), null
  from arcadia.cloud_resource_events where changes ? 'monthly_price'
union all
-- An imported file does not say when it was issued; invoices are made once their month is over.
select l.resource_id, coalesce(i.issued_at, (i.period + interval '1 month') at time zone 'UTC'), 'billed',
       format('invoice %s for %s: %s (%s)', coalesce(i.invoice_id, i.invoice_uuid), to_char(i.period, 'YYYY-MM'),
              string_agg(distinct l.product, ', '), case count(*) when 1 then '1 line' else count(*) || ' lines' end), sum(l.amount_usd)
  from arcadia.cloud_cost_lines l join arcadia.cloud_invoices i on i.invoice_uuid = l.invoice_uuid
 where l.resource_id is not null and i.status <> 'preview'
 group by l.resource_id, i.invoice_uuid
union all
select (e.changes #>> '{resource_id,before}')::bigint, e.occurred_at, 'line_lost',
       format('line %s of invoice %s%s is %s now', e.ordinal, coalesce(i.invoice_id, e.invoice_uuid),
              case when l.line_id is not null then format(' (%s, %s USD)', l.description, l.amount_usd) end,
              case when e.changes #>> '{resource_id,after}' is not null then 'matched to another resource'
                   else e.changes #>> '{match_status,after}' end), null
  from arcadia.cloud_match_events e
  left join arcadia.cloud_invoices i on i.invoice_uuid = e.invoice_uuid
  left join arcadia.cloud_cost_lines l on l.invoice_uuid = e.invoice_uuid and l.ordinal = e.ordinal
 where e.changes #>> '{resource_id,before}' is not null
union all
select (e.changes #>> '{resource_id,after}')::bigint, e.occurred_at, 'line_gained',
       format('line %s of invoice %s%s was %s before', e.ordinal, coalesce(i.invoice_id, e.invoice_uuid),
              case when l.line_id is not null then format(' (%s, %s USD)', l.description, l.amount_usd) end,
              case when e.changes #>> '{resource_id,before}' is not null then 'matched to another resource'
                   else e.changes #>> '{match_status,before}' end), null
  from arcadia.cloud_match_events e
  left join arcadia.cloud_invoices i on i.invoice_uuid = e.invoice_uuid
  left join arcadia.cloud_cost_lines l on l.invoice_uuid = e.invoice_uuid and l.ordinal = e.ordinal
 where e.changes #>> '{resource_id,after}' is not null
 order by resource_id, at, what;

comment on view arcadia.resource_timeline is
    'All that happened to a resource, oldest first. Quick where resource_id = a value or a sub-select is asked for, slow in a join';
comment on column arcadia.resource_timeline.at is 'When a listing first showed it, the provider issued it, or a line''s match was changed';
comment on column arcadia.resource_timeline.what is
    'created, discovered, updated, tagged, drift_detected, deleted, restored, price_changed, billed, line_gained, line_lost';
comment on column arcadia.resource_timeline.detail is 'What changed, from what to what; which invoice; which line. NULL: nothing to add';
comment on column arcadia.resource_timeline.amount_usd is 'USD of what = billed: all lines of that invoice for it. NULL for all else';
