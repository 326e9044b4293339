-- A column that means the same in many views is explained once; what a view says of it itself stays.
do $$
declare
    uncommented record;
begin
    for uncommented in
        select c.relname, a.attname, said.comment
          from pg_class c
          join pg_attribute a on a.attrelid = c.oid and a.attnum > 0
          join (values
                ('account', 'The account''s name; two accounts can have the same'),
                ('account_id', 'The account, as in cloud_accounts'),
                ('amount_usd', 'USD as billed; credits are negative'),
                ('attribution_source', 'Why it is in its project: own_project_id, membership, inherited or fallback'),
                ('attrs', 'Allow-listed fields of the provider''s object'),
                ('category', 'As invoiced: iaas or paas'),
                ('charge', 'usage: pays for a resource, known or not; account_level, tax, credit: none can be named'),
                ('cloud_project_id', 'The project that the resource is in now, as in cloud_projects'),
                ('component', 'Part of a grouped product, such as a node pool'),
                ('deleted_at', 'Tombstone: given up after the third complete listing without it'),
                ('description', 'The text of the line, as invoiced'),
                ('ended_at', 'To when the line bills, UTC'),
                ('environment', 'As its owner says'),
                ('first_seen_at', 'The listing that first showed it'),
                ('group_description', 'As invoiced: the cluster, database or app that the line is part of, or a part of the product'),
                ('hours', 'As printed. On backup lines it is the number of backups'),
                ('invoice_id', 'The number on the invoice''s face'),
                ('invoice_uuid', 'The invoice, as in cloud_invoices'),
                ('invoiced_project', 'The project''s name as the invoice printed it'),
                ('is_default', 'Whether new resources go into it where nobody says otherwise'),
                ('issued_at', 'When the invoice was issued; NULL for an imported file, which does not say'),
                ('kind', 'Kind of resource; of a line: account, tax or credit where it pays for none, NULL where its product is unknown'),
                ('last_seen_at', 'The newest listing that showed it'),
                ('line_id', 'The line, for arcadia explain; another one when its invoice is stored anew'),
                ('lines', 'How many lines that is'),
                ('match_detail', 'reason; candidates of an ambiguous line'),
                ('match_method', 'id: the invoice names the provider''s id; name, parent, group, ip: what the text names'),
                ('match_status', 'matched, account_level, tax, credit, ambiguous or unmatched'),
                ('name', 'The name that it has now, or had last'),
                ('ordinal', 'Place on the invoice, from 1'),
                ('parent_kind', 'Kind of what it was taken of'),
                ('parent_provider_id', 'The provider''s id of what it was taken of'),
                ('period', 'First day of the month that the invoice bills'),
                ('product', 'As invoiced'),
                ('project', 'The project''s name: where the resource is now; for what is in no project, the name on the invoice'),
                ('provider', 'digitalocean'),
                ('provider_created_at', 'When the provider says it was created'),
                ('provider_id', 'The provider''s id of it'),
                ('purpose', 'As its owner says'),
                ('reason', 'Why the line is matched to no resource'),
                ('region', 'The provider''s slug; of what is in several, all with commas between'),
                ('resource_id', 'The resource, as in cloud_resources'),
                ('resource_kind', 'Of the resource that the line pays for'),
                ('resource_name', 'Of the resource: the name that it has now, or had last'),
                ('resource_provider_id', 'Of the resource: the provider''s id'),
                ('resource_region', 'Of the resource: the provider''s slug'),
                ('resource_state', 'active, deleted, or billing_only: gone before the first listing, known from invoices alone'),
                ('stale_strike_count', 'Complete listings in a row in which it was missing; the third tombstones it'),
                ('started_at', 'From when the line bills, UTC'),
                ('state', 'active; deleted: missing from three complete listings in a row; billing_only: known from invoices alone'),
                ('status', 'As the provider says'),
                ('tags', 'The tags that it has now, or had last'),
                ('tenant_id', 'Whose it is now: of a line, that of its resource; without one, see tenant_of_open_line. NULL: none')
               ) said (name, comment) on said.name = a.attname
         where c.relnamespace = 'arcadia'::regnamespace and col_description(c.oid, a.attnum) is null
           and c.relname in ('cloud_resources', 'cloud_projects', 'all_cost_lines', 'matched_cost_lines', 'month_to_date_lines',
                             'unknown_products', 'cost_by_project', 'cost_by_tenant', 'cost_by_kind', 'cost_by_resource', 'cost_by_tag',
                             'unexplained_lines', 'match_rate', 'resource_timeline', 'running_cost', 'waste', 'cost_changes', 'cost_forecast',
                             'project_cost_trend', 'resources_by_name')
    loop
        execute format('comment on column arcadia.%I.%I is %L', uncommented.relname, uncommented.attname, uncommented.comment);
    end loop;
end
$$;
