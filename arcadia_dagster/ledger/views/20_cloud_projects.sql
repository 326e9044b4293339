-- Kept updatable, so that an operator sets a tenant by: update arcadia.cloud_projects set tenant_id = ... where name = ...
create view arcadia.cloud_projects as
select resource_id as cloud_project_id,
       account_id,
       'digitalocean'::text as provider,
       provider_id,
       name,
       attrs ->> 'description' as description,
       attrs ->> 'purpose' as purpose,
       attrs ->> 'environment' as environment,
       coalesce((attrs ->> 'is_default')::boolean, false) as is_default,
       tenant_id,
       first_seen_at,
       case when deleted_at is null and stale_strike_count = 0
            then greatest(last_seen_at, (select l.started_at from arcadia.listings l
                                          where l.account_id = r.account_id and l.kind = 'project'))
            else last_seen_at end as last_seen_at,
       deleted_at
  from arcadia.resources r
 where kind = 'project';

comment on view arcadia.cloud_projects is 'The account''s projects, past ones included';
comment on column arcadia.cloud_projects.tenant_id is
    'Yours to set, and no sync changes it, where no rule of the tenants'' file names the project. Its resources take it over at the next sync';
