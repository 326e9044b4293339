-- Months are compared as they are billed: a whole month of most things costs the same whatever its length, since 672 hours are charged at
-- most. Of what has no such limit, the shortest and the longest month are a tenth apart.
create view arcadia.project_cost_trend as
with months as (
    select account_id, period, row_number() over (partition by account_id order by period desc) as age
      from (select distinct i.account_id, i.period from arcadia.cloud_invoices i
             where i.status <> 'preview' and i.line_count > 0
               and not exists (select from arcadia.cloud_invoices p
                                where p.account_id = i.account_id and p.period = i.period and p.status = 'preview')) closed
), costs as materialized (
    select account_id, account, project, period, 'billed' as cost_basis, amount_usd
      from arcadia.cost_by_project join months using (account_id, period)
     where charge = 'usage' and age <= 13 and period >= (select min(period) from months where age <= 13)
    union all
    select account_id, account, project, period, 'forecast', forecast_usd
      from arcadia.cost_forecast where charge = 'usage' and forecast_usd is not null
), firsts as (
    select account_id, project, min(period) as first_period from costs where cost_basis = 'billed' group by 1, 2
)
select c.period, c.account_id, c.account, c.project, c.cost_basis, c.amount_usd, p.months, p.typical_usd, p.highest_usd,
       c.amount_usd - p.typical_usd as increase_usd,
       round(100 * (c.amount_usd - p.typical_usd) / nullif(p.typical_usd, 0), 1) as increase_percent
  from costs c
  left join firsts f on f.account_id = c.account_id and f.project is not distinct from c.project
 cross join lateral (
       select count(*) as months, round(percentile_cont(0.5) within group (order by usd)::numeric, 2) as typical_usd,
              max(usd) as highest_usd
         from (select coalesce(b.amount_usd, 0) as usd
                 from months m
                 left join costs b on b.account_id = m.account_id and b.period = m.period and b.project is not distinct from c.project
                                  and b.cost_basis = 'billed'
                where m.account_id = c.account_id and m.period < c.period and m.period >= f.first_period and m.age <= 13
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
