-- What each resource is billed, against the account's billed month before. The lines of two months are read, whatever the ledger holds.
create view arcadia.cost_changes as
with months as (
    -- A month whose invoices have not been read says nothing about what is gone.
    select account_id, period, lag(period) over (partition by account_id order by period) as previous_period
      from (select distinct account_id, period from arcadia.cloud_invoices i
             where status = 'ingested' or status <> 'preview'
                   and exists (select from arcadia.cloud_cost_lines l where l.invoice_uuid = i.invoice_uuid)) i
)
select m.period, m.previous_period, m.account_id, a.name as account, b.resource_id, coalesce(r.kind, b.kind) as kind, r.provider_id,
       coalesce(r.name, b.product) as name, r.region, r.state, coalesce(p.name, b.project, b.invoiced_project) as project,
       coalesce(r.tenant_id, p.tenant_id, b.tenant_id) as tenant_id, w.change, w.detail, b.previous_usd, b.amount_usd,
       b.amount_usd - b.previous_usd as difference_usd
  from months m
  join arcadia.cloud_accounts a on a.account_id = m.account_id
 cross join lateral (
       select l.resource_id, null as charge, null as kind, null as product, null as project, null as tenant_id,
              coalesce(max(nullif(l.project_name, '')) filter (where now), max(nullif(l.project_name, ''))) as invoiced_project,
              coalesce(sum(l.amount_usd) filter (where now), 0) as amount_usd,
              coalesce(sum(l.amount_usd) filter (where not now), 0) as previous_usd,
              count(*) filter (where now) as lines, count(*) filter (where not now) as previous_lines,
              sum(l.hours) filter (where now and not backup) as hours, sum(l.hours) filter (where not now and not backup) as previous_hours,
              sum(l.hours) filter (where now and backup) as backups, sum(l.hours) filter (where not now and backup) as previous_backups,
              -- What is billed by size has no parts, and the other way round.
              bool_or(l.component is not null) as in_parts,
              array_agg(distinct size) filter (where now and not backup and size is not null) as sizes,
              array_agg(distinct size) filter (where not now and not backup and size is not null) as previous_sizes,
              -- Equal where the lines are: what is billed, and for how long. No more than 672 hours of a month are charged, so that months
              -- of any length are alike: https://www.digitalocean.com/pricing/droplets
              sum(hashtextextended(concat_ws('|', l.product, l.component, least(l.hours, 672)), 0)) filter (where now) as billed,
              sum(hashtextextended(concat_ws('|', l.product, l.component, least(l.hours, 672)), 0)) filter (where not now)
                  as previous_billed,
              max(l.ended_at) as ended_at, max(l.ended_at) filter (where now and not backup) as until,
              min(l.started_at) filter (where not now and not backup) as since
         from arcadia.cloud_invoices i
         join arcadia.cloud_cost_lines l on l.invoice_uuid = i.invoice_uuid
        cross join lateral (select i.period = m.period, coalesce(l.look_up = 'parent', false), coalesce(l.component, l.parsed_size)
                           ) f (now, backup, size)
        where i.account_id = m.account_id and i.status <> 'preview' and i.period in (m.period, m.previous_period)
          and l.resource_id is not null
        group by l.resource_id
       union all
       select null, n.charge, l.kind, l.product, l.project, l.tenant_id, null, coalesce(sum(l.amount_usd) filter (where now), 0),
              coalesce(sum(l.amount_usd) filter (where not now), 0), null, null, null, null, null, null, null, null, null, null, null, null,
              null, null
         from arcadia.matched_cost_lines l
        cross join lateral (select case when l.match_status in ('ambiguous', 'unmatched') then 'unexplained' else l.match_status end,
                                   l.period = m.period) n (charge, now)
        where l.account_id = m.account_id and l.period in (m.period, m.previous_period) and l.resource_id is null
        group by n.charge, l.kind, l.product, l.project, l.tenant_id) b
  left join arcadia.cloud_resources r on r.resource_id = b.resource_id
  left join arcadia.cloud_projects p on p.cloud_project_id = r.cloud_project_id
 cross join lateral (
       select case when b.charge is not null then b.charge
                   when b.previous_lines = 0 then 'new'
                   when b.lines = 0 then 'gone'
                   when b.sizes <> b.previous_sizes then 'resized'
                   -- What has no such limit (GPUs) is billed more in a longer month, at the same price.
                   when b.billed = b.previous_billed
                        and (b.hours = b.previous_hours or abs(b.amount_usd * b.previous_hours - b.previous_usd * b.hours)
                             > 0.01 * greatest(b.hours, b.previous_hours)) is not false then 'price'
                   else 'usage' end) k (change)
 cross join lateral (
       select (select string_agg(size, ', ' order by size) from unnest(b.sizes) size where not in_parts or size <> all (b.previous_sizes)),
              (select string_agg(size, ', ' order by size) from unnest(b.previous_sizes) size where not in_parts or size <> all (b.sizes))
       ) s (after, before)
 cross join lateral (
       select k.change,
              case k.change
              when 'new' then
                   concat_ws(', ', coalesce('not billed in ' || to_char(m.previous_period, 'YYYY-MM'), 'first month with invoices'),
                             case when r.state <> 'billing_only' then 'created ' || to_char(r.provider_created_at, 'YYYY-MM-DD') end)
              when 'gone' then
                   concat_ws(', ', 'billed until ' || to_char(b.ended_at - interval '1 second', 'YYYY-MM-DD'),
                             case r.state when 'active' then 'still exists, at no charge'
                                          when 'deleted' then 'found deleted ' || to_char(r.deleted_at, 'YYYY-MM-DD')
                                          else 'gone before the first listing' end)
              when 'resized' then
                   case when b.in_parts then concat_ws(', ', 'with ' || s.after, 'without ' || s.before)
                        else s.before || ' → ' || s.after end
              when 'price' then 'same size, same time'
              when 'usage' then
                   coalesce(nullif(concat_ws(', ',
                       case when b.hours is distinct from b.previous_hours
                            then format('%s h → %s h', trim_scale(coalesce(b.previous_hours, 0)), trim_scale(coalesce(b.hours, 0))) end,
                       case when b.backups is distinct from b.previous_backups
                            then format('%s → %s backups', trim_scale(coalesce(b.previous_backups, 0)),
                                        trim_scale(coalesce(b.backups, 0))) end,
                       case when b.since > m.previous_period + interval '1 day' and b.since < m.period then 'from ' || to_char(b.since, 'YYYY-MM-DD') end,
                       case when b.until < m.period + interval '1 month - 1 day' then 'until ' || to_char(b.until, 'YYYY-MM-DD') end), ''),
                       'its lines differ')
              end) w (change, detail)
 where b.amount_usd <> b.previous_usd;

comment on view arcadia.cost_changes is
    'What is billed more or less than in the account''s billed month before, and why, by resource. Adds up to the difference to the cent';
comment on column arcadia.cost_changes.period is 'First day of the month that changed; of every month whose invoices have been read';
comment on column arcadia.cost_changes.previous_period is
    'First day of the account''s month before that has invoices, mostly the one before. NULL: its first, in which all is new';
comment on column arcadia.cost_changes.resource_id is 'NULL: lines of no resource, together by product and project';
comment on column arcadia.cost_changes.name is 'The name that it has now, or had last; of what is no resource, the product as invoiced';
comment on column arcadia.cost_changes.change is
    'new, gone: not billed in the other month; resized: size or parts differ; price: billed for the same time and size'
    '; usage: for another time or number; account_level, tax, credit; unexplained: lines of no certain resource';
comment on column arcadia.cost_changes.detail is 'What differs, from what to what; since when. NULL: nothing to add';
comment on column arcadia.cost_changes.previous_usd is 'USD billed for previous_period; 0 where it was not billed';
comment on column arcadia.cost_changes.amount_usd is 'USD billed for period; 0 where it is not billed any more';
comment on column arcadia.cost_changes.difference_usd is 'USD more, or below zero less, than in previous_period';
