-- Months are compared as they are billed: a whole month of most things costs the same whatever its length, since 672 hours are charged at
-- most. Of what has no such limit, the shortest and the longest month are a tenth apart.
create view arcadia.project_cost_trend as
with months as (
    select account_id, period, row_number() over (partition by account_id order by period desc) as age
      from (select distinct i.account_id, i.period from arcadia.cloud_invoices i
             where i.status <> 'preview' and exists (select from arcadia.cloud_cost_lines l where l.invoice_uuid = i.invoice_uuid)
               and not exists (select from arcadia.cloud_invoices p
                                where p.account_id = i.account_id and p.period = i.period and p.status = 'preview')) closed
), costs as (
    select account_id, account, project, period, 'billed' as cost_basis, amount_usd
      from arcadia.cost_by_project join months using (account_id, period)
     where charge = 'usage' and age <= 13 and period >= (select min(period) from months where age <= 13)
    union all
    select account_id, account, project, period, 'forecast', forecast_usd
      from arcadia.cost_forecast where charge = 'usage' and forecast_usd is not null
), histories as (
    select c.*, min(period) filter (where cost_basis = 'billed') over project as first_period,
           jsonb_object_agg(period::text, amount_usd) filter (where cost_basis = 'billed') over project as billed
      from costs c window project as (partition by account_id, project)
)
select h.period, h.account_id, h.account, h.project, h.cost_basis, h.amount_usd, p.months, p.typical_usd, p.highest_usd,
       h.amount_usd - p.typical_usd as increase_usd,
       round(100 * (h.amount_usd - p.typical_usd) / nullif(p.typical_usd, 0), 1) as increase_percent
  from histories h
 cross join lateral (
       select count(*) as months, round(percentile_cont(0.5) within group (order by usd)::numeric, 2) as typical_usd,
              max(usd) as highest_usd
         from (select coalesce((h.billed ->> m.period::text)::numeric, 0) as usd from months m
                where m.account_id = h.account_id and m.period < h.period and m.period >= h.first_period and m.age <= 13
                order by m.period desc limit 6) past) p;

comment on view arcadia.project_cost_trend is
    'What each project cost in the last thirteen billed months, and is to cost in this one, beside its typical month before. No taxes,'
    ' credits or charges of the account';
comment on column arcadia.project_cost_trend.period is 'First day of the month';
comment on column arcadia.project_cost_trend.cost_basis is 'billed: by closed invoices; forecast: see cost_forecast';
comment on column arcadia.project_cost_trend.amount_usd is 'USD of the month, billed or forecast: see cost_basis';
comment on column arcadia.project_cost_trend.months is
    'How many months before are compared: up to six, since the project first cost anything';
comment on column arcadia.project_cost_trend.typical_usd is 'USD: the median of those months, one without lines counting 0';
comment on column arcadia.project_cost_trend.highest_usd is 'USD: the dearest of those months';
comment on column arcadia.project_cost_trend.increase_usd is 'USD: amount_usd less typical_usd';
comment on column arcadia.project_cost_trend.increase_percent is 'increase_usd of typical_usd, in percent. NULL where that is 0';
