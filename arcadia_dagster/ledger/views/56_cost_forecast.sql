-- What runs goes on to the end of the month at its rate; nothing that is still to come is guessed. The provider charges no more than 672
-- hours of a month (https://www.digitalocean.com/pricing/droplets), GPUs and inference excepted. In the first three days hours are too few
-- to tell a rate by: most lines are then cents, rounded.
create view arcadia.cost_forecast as
with lines as (
    select m.*, r.charge, e.month_end,
           case when r.charge <> 'usage' or coalesce(m.covers_until >= e.month_end, true) or m.resource_state = 'deleted'
                     or abs(m.amount_usd) <= 0.01 or m.started_at is null or m.ended_at is null then m.amount_usd
                -- Its hours are the number of backups, and no month costs more than so many of them.
                when c.look_up = 'parent' then m.amount_usd * greatest(1, r.most_backups / nullif(m.hours, 0))
                when m.ended_at <= m.started_at or m.ended_at < n.until - interval '1 hour' or m.ended_at > m.covers_until then m.amount_usd
                when coalesce(c.parsed_size, '') like 'gpu-%' or m.kind = 'dedicated_inference' then m.amount_usd * h.whole / h.billed
                else m.amount_usd * least(h.whole, 672) / least(h.billed, 672)
           end as grown
      from arcadia.month_to_date_lines m
      join arcadia.cloud_cost_lines c on c.line_id = m.line_id
     cross join lateral (select case when m.match_status in ('account_level', 'tax', 'credit') then m.match_status else 'usage' end,
                                case when m.description ~* 'daily' then 28 else 4 end) r (charge, most_backups)
     cross join lateral (select (m.period + interval '1 month') at time zone 'UTC') e (month_end)
     cross join lateral (select extract(epoch from e.month_end - m.started_at) / 3600,
                                nullif(extract(epoch from m.ended_at - m.started_at) / 3600, 0)) h (whole, billed)
      left join (select p.invoice_uuid, max(l.ended_at) as until
              from arcadia.cloud_invoices p join arcadia.cloud_cost_lines l using (invoice_uuid)
             where p.status = 'preview' and l.ended_at <= coalesce(p.covers_until, 'infinity')
             group by 1) n on n.invoice_uuid = m.invoice_uuid
), taxed as (
    select invoice_uuid, case when sum(amount_usd) > 0 then sum(grown) / sum(amount_usd) else 1 end as factor
      from lines where charge <> 'tax' group by 1
)
select l.period, l.account_id, l.account, l.project, l.charge, max(l.covers_until) as covers_until, count(*) as lines,
       sum(l.amount_usd) as so_far_usd,
       case when coalesce(min(l.covers_until) >= l.period at time zone 'UTC' + interval '3 days', true)
            then round(sum(l.grown * case when l.charge = 'tax' then coalesce(t.factor, 1) else 1 end), 2) end as forecast_usd
  from lines l left join taxed t on t.invoice_uuid = l.invoice_uuid
 group by l.period, l.account_id, l.account, l.project, l.charge;

comment on view arcadia.cost_forecast is
    'What the month that is not over will cost if what runs goes on running, from the provider''s preview. A forecast, no billed money';
comment on column arcadia.cost_forecast.covers_until is 'The moment up to which the preview bills';
comment on column arcadia.cost_forecast.lines is 'How many lines of the preview that is';
comment on column arcadia.cost_forecast.so_far_usd is 'USD on the preview';
comment on column arcadia.cost_forecast.forecast_usd is
    'USD of the whole month: what runs at its rate so far, taxes in proportion, account-level and credits as they are. NULL in the first'
    ' three days';
