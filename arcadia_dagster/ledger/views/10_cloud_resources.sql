create view arcadia.cloud_resources as
select resource_id,
       account_id,
       'digitalocean'::text as provider,
       kind,
       provider_id,
       name,
       region,
       status,
       tags,
       attrs,
       monthly_price,
       cloud_project_id,
       tenant_id,
       attribution_source,
       parent_kind,
       parent_provider_id,
       provider_created_at,
       first_seen_at,
       -- An unchanged resource is not written at each listing: the newest complete one saw it, or it would have a strike.
       case when deleted_at is null and stale_strike_count = 0
            then greatest(last_seen_at, (select l.started_at from arcadia.listings l
                                          where l.account_id = r.account_id and l.kind = r.kind))
            else last_seen_at end as last_seen_at,
       stale_strike_count,
       deleted_at,
       case when billing_only then 'billing_only' when deleted_at is not null then 'deleted' else 'active' end as state
  from arcadia.resources r
 where kind <> 'project';

comment on view arcadia.cloud_resources is 'Everything the account has or had: one row for each thing, for ever';
comment on column arcadia.cloud_resources.state is
    'active; deleted: missing from three complete listings in a row; billing_only: known from invoices alone';
comment on column arcadia.cloud_resources.monthly_price is 'USD a month at list price, where the provider says one. Not billed money';
comment on column arcadia.cloud_resources.last_seen_at is 'The newest listing that showed it';
comment on column arcadia.cloud_resources.attribution_source is
    'Why it is in its project: own_project_id, membership, inherited (from what it was taken of) or fallback';
comment on column arcadia.cloud_resources.stale_strike_count is 'Complete listings in a row in which it was missing; the third tombstones it';
