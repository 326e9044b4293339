-- Prices that the provider does not send with a resource are from its price list: volumes, snapshots (0.01 at least), reserved IPs.
create view arcadia.running_cost as
select r.account_id, a.name as account, r.resource_id, r.kind, r.provider_id, r.name, r.region, r.status, p.name as project, r.tenant_id,
       r.provider_created_at,
       -- One subscription pays for all registries of an account, and each of them shows it.
       case when r.kind = 'registry' and exists (
                     select from arcadia.cloud_resources o where o.account_id = r.account_id and o.kind = 'registry' and o.deleted_at is null
                                                             and o.resource_id < r.resource_id) then 0
            when r.monthly_price is not null then r.monthly_price
            when r.kind = 'volume' then round(0.10 * s.gigabytes, 2)
            when r.kind = 'snapshot' then greatest(round(0.06 * s.gigabytes, 2), case when s.gigabytes > 0 then 0.01 end)
            when r.kind = 'reserved_ip' then case when r.attrs ? 'droplet' then 0 else 5 end
       end as estimated_monthly_usd
  from arcadia.cloud_resources r
  join arcadia.cloud_accounts a on a.account_id = r.account_id
  left join arcadia.cloud_projects p on p.cloud_project_id = r.cloud_project_id
 cross join lateral (select case jsonb_typeof(r.attrs -> 'size_gigabytes') when 'number' then (r.attrs ->> 'size_gigabytes')::numeric end
                    ) s (gigabytes)
 where r.deleted_at is null  -- that is state active, in the words of an index
   and r.kind not in ('alert_policy', 'autoscale_pool', 'certificate', 'dns_zone', 'firewall', 'ssh_key', 'tag', 'vpc');

comment on view arcadia.running_cost is
    'An estimate of what runs now, at list price: no billed money, not to be added to it. Free kinds are left out; nodes count as droplets';
comment on column arcadia.running_cost.estimated_monthly_usd is
    'USD a month at list price: the provider''s; volumes 0.10 a GiB, snapshots 0.06 a GB, reserved IPs 5 if unassigned. NULL: not known';
comment on column arcadia.running_cost.status is 'As the provider says. What is off is billed all the same';
