-- Of what running_cost shows, which is what exists now.
create view arcadia.waste as
with newest as (
    select account_id, max(period) as period from arcadia.cloud_invoices i
     where status <> 'preview' and exists (select from arcadia.cloud_cost_lines l where l.invoice_uuid = i.invoice_uuid)
     group by account_id
), billed as materialized (  -- by invoice: the lines of a resource are of all months that it ever had
    select l.resource_id, sum(l.amount_usd) as amount_usd
      from newest n
      join arcadia.cloud_invoices i on i.account_id = n.account_id and i.period = n.period and i.status <> 'preview'
      join arcadia.cloud_cost_lines l on l.invoice_uuid = i.invoice_uuid
     where l.resource_id is not null group by l.resource_id
)
select r.account_id, c.account, r.resource_id, w.reason, r.kind, r.provider_id, r.name, r.region, c.project, r.tenant_id,
       coalesce(b.amount_usd, c.estimated_monthly_usd) as monthly_usd,
       case when b.amount_usd is not null then 'billed' when c.estimated_monthly_usd is not null then 'estimated' end as cost_basis,
       case when b.amount_usd is not null then n.period end as billed_period
  from arcadia.cloud_resources r
 -- offset 0: or the planner works it out as often as it is used.
 cross join lateral (select case
       when r.kind = 'volume' and r.attrs -> 'droplet_ids' = '[]' then 'unattached_volume'
       -- IPv6 ones are free: https://docs.digitalocean.com/products/networking/reserved-ips/how-to/modify/
       when r.kind = 'reserved_ip' and not r.attrs ? 'droplet' then 'unassigned_reserved_ip'
       when r.kind = 'droplet' and r.status = 'off' and not r.attrs ? 'k8s_cluster_id' then 'powered_off_droplet'
       -- A global one has other load balancers as targets, which are not kept; a tag brings in droplets to come.
       when r.kind = 'load_balancer' and r.attrs -> 'droplet_ids' = '[]' and coalesce(r.attrs ->> 'type', '') <> 'GLOBAL'
            and not (r.tags <> '{}' and exists (
                select from arcadia.cloud_resources d where d.account_id = r.account_id and d.kind = 'droplet' and d.deleted_at is null
                                                        and d.tags && r.tags))
            then 'load_balancer_without_targets'
       -- Gone: in no state but deleted, though all of its kind were listed after this was taken of it.
       when r.kind in ('snapshot', 'nfs_snapshot', 'droplet_backup') and not exists (
                select from arcadia.cloud_resources o where o.account_id = r.account_id and o.kind = r.parent_kind
                                                        and o.provider_id = r.parent_provider_id and o.deleted_at is null)
            and exists (select from arcadia.listings l where l.account_id = r.account_id and l.kind = r.parent_kind
                                                         and l.started_at > coalesce(r.provider_created_at, r.first_seen_at))
            then case r.kind when 'droplet_backup' then 'backup_of_what_is_gone' else 'snapshot_of_what_is_gone' end
       end offset 0) w (reason)
  join arcadia.running_cost c on c.resource_id = r.resource_id
  left join newest n on n.account_id = r.account_id
  left join billed b on b.resource_id = r.resource_id
 where r.deleted_at is null and r.kind in ('volume', 'reserved_ip', 'droplet', 'load_balancer', 'snapshot', 'nfs_snapshot', 'droplet_backup')
   and w.reason is not null;

comment on view arcadia.waste is
    'What exists now, does nothing and costs money: unattached, unassigned, powered off, without targets, or taken of what is gone';
comment on column arcadia.waste.reason is
    'unattached_volume, unassigned_reserved_ip, powered_off_droplet, load_balancer_without_targets, snapshot_of_what_is_gone'
    ', backup_of_what_is_gone';
comment on column arcadia.waste.monthly_usd is
    'USD a month; see cost_basis. NULL: the newest invoices do not bill it and no list price is known; backups are billed to their droplet';
comment on column arcadia.waste.cost_basis is
    'billed: by the lines of billed_period, which need not be a full month; estimated: at list price, see running_cost';
comment on column arcadia.waste.billed_period is 'The month of the account''s newest closed invoices, where they bill it. Else NULL';
