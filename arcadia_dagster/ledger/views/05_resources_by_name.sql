-- For looking something up by a name: each is in one index of two, nearly all in the resource's row. Of both together the planner has no
-- figures, so whoever joins many thousand names joins either table by itself.
create view arcadia.resources_by_name as
select name, name_key, name_seen_from as seen_from, null::timestamptz as seen_until, resource_id, account_id, kind, provider_id, region, attrs,
       tenant_id, provider_created_at, first_seen_at, last_seen_at, stale_strike_count, deleted_at, billing_only
  from arcadia.resources
 union all
select o.name, o.name_key, o.seen_from, o.seen_until, o.resource_id, r.account_id, r.kind, r.provider_id, r.region, r.attrs, r.tenant_id,
       r.provider_created_at, r.first_seen_at, r.last_seen_at, r.stale_strike_count, r.deleted_at, r.billing_only
  from arcadia.other_names o join arcadia.resources r on r.resource_id = o.resource_id;

comment on view arcadia.resources_by_name is 'Every resource, projects included, once for each name that it has or had';
comment on column arcadia.resources_by_name.name is 'One name of it';
comment on column arcadia.resources_by_name.name_key is 'The name as names are compared: case-folded, white space collapsed';
comment on column arcadia.resources_by_name.seen_from is
    'When its old name was last seen; NULL: its first name, borne since its creation as far as is known';
comment on column arcadia.resources_by_name.seen_until is 'When another name was first seen; NULL: its name today, or the last it had';
comment on column arcadia.resources_by_name.last_seen_at is 'When its row was last written as seen; cloud_resources knows better';
comment on column arcadia.resources_by_name.billing_only is 'Known from invoices alone: gone before the first listing';
