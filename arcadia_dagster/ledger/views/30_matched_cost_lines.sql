create view arcadia.all_cost_lines as
select l.line_id,
       i.period,
       i.invoice_uuid,
       i.invoice_id,
       i.issued_at,
       l.ordinal,
       l.account_id,
       a.name as account,
       l.product,
       l.group_description,
       l.description,
       l.component,
       l.hours,
       l.started_at,
       l.ended_at,
       l.amount_usd,
       l.category,
       l.kind,
       l.match_status,
       l.match_method,
       case when l.resource_id is null then arcadia.detail_of_open_line(l.line_id) ->> 'reason' end as reason,
       case when l.resource_id is null then arcadia.detail_of_open_line(l.line_id) end as match_detail,
       l.resource_id,
       r.kind as resource_kind,
       r.provider_id as resource_provider_id,
       r.name as resource_name,
       r.region as resource_region,
       r.state as resource_state,
       p.cloud_project_id,
       coalesce(p.name, nullif(l.project_name, '')) as project,
       nullif(l.project_name, '') as invoiced_project,
       case when l.resource_id is not null then coalesce(r.tenant_id, p.tenant_id) else arcadia.tenant_of_open_line(l.line_id) end as tenant_id
  from arcadia.cloud_cost_lines l
  join arcadia.cloud_invoices i on i.invoice_uuid = l.invoice_uuid
  join arcadia.cloud_accounts a on a.account_id = l.account_id
  left join arcadia.cloud_resources r on r.resource_id = l.resource_id
  left join arcadia.cloud_projects p on p.cloud_project_id = r.cloud_project_id;

create view arcadia.matched_cost_lines as
select l.* from arcadia.all_cost_lines l join arcadia.cloud_invoices i using (invoice_uuid) where i.status <> 'preview';

create view arcadia.month_to_date_lines as
select l.*, i.covers_until from arcadia.all_cost_lines l join arcadia.cloud_invoices i using (invoice_uuid) where i.status = 'preview';

comment on view arcadia.all_cost_lines is
    'The lines of matched_cost_lines and of month_to_date_lines: money in previews is billed again by the real invoice, so do not add it up';
comment on view arcadia.month_to_date_lines is
    'The lines of previews: the month that is not over, and the last one until its invoice is made. Columns as in matched_cost_lines';
comment on column arcadia.month_to_date_lines.amount_usd is 'USD so far; replaced at each reading, never to be added to invoices';
comment on column arcadia.month_to_date_lines.covers_until is 'The moment up to which the preview bills';

comment on view arcadia.matched_cost_lines is
    'Every line of every closed invoice with the resource it pays for, or the reason why there is none';
comment on column arcadia.matched_cost_lines.amount_usd is 'USD as billed; credits are negative';
comment on column arcadia.matched_cost_lines.period is 'First day of the month that the invoice bills';
comment on column arcadia.matched_cost_lines.kind is 'Of what the line pays for; account, tax or credit where that is no resource';
comment on column arcadia.matched_cost_lines.project is 'Where the resource is now; for what is in no project, the name on the invoice';
comment on column arcadia.matched_cost_lines.invoiced_project is 'The project''s name as the invoice printed it';
comment on column arcadia.matched_cost_lines.resource_state is
    'active, deleted, or billing_only: it was gone before the first listing and is known from invoices alone';
comment on column arcadia.matched_cost_lines.match_method is
    'id: the invoice names the provider''s id; name, parent, group, ip: what the text names, where that is one thing only';
