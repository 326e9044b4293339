create view arcadia.unknown_products as
select l.account_id,
       l.product,
       (array_agg(l.description order by abs(l.amount_usd) desc, i.period, l.ordinal))[1] as description,
       min(i.period) as first_period,
       count(*) filter (where i.status <> 'preview') as lines,
       coalesce(sum(l.amount_usd) filter (where i.status <> 'preview'), 0) as amount_usd,
       coalesce(sum(l.amount_usd) filter (where i.status = 'preview'), 0) as month_to_date_usd
  from arcadia.cloud_cost_lines l
  join arcadia.cloud_invoices i on i.invoice_uuid = l.invoice_uuid
 where l.kind is null and l.match_status = 'unmatched'  -- what all of them are, and an index is of
 group by l.account_id, l.product;

comment on view arcadia.unknown_products is
    'Products that were billed, or stand on a preview, and that nobody has told matching about: their lines are unmatched';
comment on column arcadia.unknown_products.description is 'Of the dearest of the lines';
comment on column arcadia.unknown_products.first_period is 'First day of the first month that bills it';
comment on column arcadia.unknown_products.lines is 'On closed invoices; 0 for what only the month to date shows';
comment on column arcadia.unknown_products.amount_usd is 'USD of those lines together';
comment on column arcadia.unknown_products.month_to_date_usd is 'USD on the preview of the invoice to come';
