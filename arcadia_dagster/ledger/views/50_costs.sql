-- Costs of closed invoices by month and one thing else. Each adds up to the invoices' lines to the cent, except by tag.
-- `charge` keeps what no resource can be named for in rows of its own.
create view arcadia.cost_by_project as
select period, account_id, account, project, charge, count(*) as lines, sum(amount_usd) as amount_usd
  from arcadia.matched_cost_lines
 cross join lateral (select case when match_status in ('account_level', 'tax', 'credit') then match_status else 'usage' end as charge) c
 group by period, account_id, account, project, charge;

create view arcadia.cost_by_tenant as
select period, account_id, account, tenant_id, charge, count(*) as lines, sum(amount_usd) as amount_usd
  from arcadia.matched_cost_lines
 cross join lateral (select case when match_status in ('account_level', 'tax', 'credit') then match_status else 'usage' end as charge) c
 group by period, account_id, account, tenant_id, charge;

create view arcadia.cost_by_kind as
select period, account_id, account, coalesce(resource_kind, kind) as kind, charge, count(*) as lines, sum(amount_usd) as amount_usd
  from arcadia.matched_cost_lines
 cross join lateral (select case when match_status in ('account_level', 'tax', 'credit') then match_status else 'usage' end as charge) c
 group by period, account_id, account, coalesce(resource_kind, kind), charge;

create view arcadia.cost_by_resource as
select period, account_id, account, resource_id, coalesce(resource_kind, kind) as kind, resource_provider_id as provider_id,
       resource_name as name, resource_region as region, resource_state as state, project, tenant_id, charge, count(*) as lines,
       sum(amount_usd) as amount_usd
  from arcadia.matched_cost_lines
 cross join lateral (select case when match_status in ('account_level', 'tax', 'credit') then match_status else 'usage' end as charge) c
 group by period, account_id, account, resource_id, coalesce(resource_kind, kind), resource_provider_id, resource_name, resource_region,
          resource_state, project, tenant_id, charge;

create view arcadia.cost_by_tag as
select l.period, l.account_id, l.account, t.tag, charge, count(*) as lines, sum(l.amount_usd) as amount_usd
  from arcadia.matched_cost_lines l
 cross join lateral (select case when match_status in ('account_level', 'tax', 'credit') then match_status else 'usage' end as charge) c
  left join arcadia.cloud_resources r on r.resource_id = l.resource_id
  left join lateral unnest(r.tags) t (tag) on true
 group by l.period, l.account_id, l.account, t.tag, charge;

comment on view arcadia.cost_by_project is
    'What closed invoices billed, by month and project. Adds up to the lines of the invoices to the cent';
comment on column arcadia.cost_by_project.project is
    'Where the resource is now; for what is in no project, or is not known, the name on the invoice. NULL: neither says one';
comment on view arcadia.cost_by_tenant is
    'What closed invoices billed, by month and tenant. Adds up to the lines of the invoices to the cent';
comment on view arcadia.cost_by_kind is
    'What closed invoices billed, by month and kind of resource. Adds up to the lines of the invoices to the cent';
comment on column arcadia.cost_by_kind.kind is
    'Backups count as their droplet, the parts of a cluster or app as that. account, tax and credit are no resource; NULL: unknown product';
comment on view arcadia.cost_by_resource is
    'What closed invoices billed, by month and resource, gone ones included. Adds up to the lines of the invoices to the cent';
comment on column arcadia.cost_by_resource.resource_id is
    'NULL: lines of no resource (see charge) or of one that is not certain (see unexplained_lines), together by kind and project';
comment on column arcadia.cost_by_resource.project is
    'Where the resource is now; of one in no project, the name on the invoice: where a month''s lines print two, it has a row for each';
comment on view arcadia.cost_by_tag is
    'What closed invoices billed, by month and tag. A line of several tags counts under each of them, so do not add this up';
comment on column arcadia.cost_by_tag.tag is 'A tag that the resource has now. NULL: no tag, or no resource';
