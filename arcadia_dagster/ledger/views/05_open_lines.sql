-- Whose a line without a resource is, and why it has none. To say that of one, the names and tenants of others must be looked at, so these
-- functions have their owner's rights, and answer for the reader's own lines only. Not part of the policies or views that call them, which
-- would be plans of a hundred nodes. Who reads is the role taken on, or else who logged in; a parallel worker may not know the former, so
-- they are restricted to the leader. pg_temp comes last, so that no type of the reader's own stands in for another.
create or replace function arcadia.reads_all(reader name) returns boolean language sql stable parallel safe as $$
    select pg_catalog.pg_has_role(reader, c.relowner, 'usage')
           or coalesce(pg_catalog.pg_has_role(reader, pg_catalog.to_regrole('arcadia_admin')::oid, 'usage'), false)
           or coalesce(pg_catalog.pg_has_role(reader, pg_catalog.to_regrole('arcadia_analyst')::oid, 'usage'), false)
           or (select r.rolbypassrls from pg_catalog.pg_roles r where r.rolname operator(pg_catalog.=) reader)
      from pg_catalog.pg_class c where c.oid operator(pg_catalog.=) 'arcadia.cloud_cost_lines'::regclass
$$;

create or replace function arcadia.tenant_of_open_line(line bigint) returns text
    language plpgsql stable strict parallel restricted security definer cost 20 set search_path = pg_catalog, pg_temp as $$
declare
    reader name := case current_setting('role') when 'none' then session_user else current_setting('role') end;
    tenant text;
begin
    -- Without tenants declared, nobody's. Where candidates, or projects that bear or bore the name, are of several tenants: the fallback's.
    select coalesce(case when l.match_status = 'ambiguous' then (
                        select case when count(*) = count(r.tenant_id) and min(r.tenant_id) = max(r.tenant_id) then min(r.tenant_id) end
                          from jsonb_array_elements(l.match_detail -> 'candidates') c
                          left join arcadia.resources r on r.resource_id = (c ->> 'resource_id')::bigint)
                    else (
                        select case when count(*) = count(p.tenant_id) and min(p.tenant_id) = max(p.tenant_id) then min(p.tenant_id) end
                          from arcadia.resources_by_name p
                         where p.name = l.project_name and p.account_id = l.account_id and p.kind = 'project')
                    end, fallback.tenant_id)
      into tenant
      from arcadia.cloud_cost_lines l join arcadia.cloud_tenants fallback on fallback.is_fallback
     where l.line_id = line and l.resource_id is null;
    if tenant is not null and not arcadia.reads_all(reader) and not exists (
        select from arcadia.cloud_tenants t where t.tenant_id = tenant and pg_has_role(reader, to_regrole(t.role_name)::oid, 'usage'))
    then
        return null;
    end if;
    return tenant;
end
$$;

create or replace function arcadia.detail_of_open_line(line bigint) returns jsonb
    language plpgsql stable strict parallel restricted security definer cost 20 set search_path = pg_catalog, pg_temp as $$
declare
    reader name := case current_setting('role') when 'none' then session_user else current_setting('role') end;
    detail jsonb;
    tenant text;
begin
    select match_detail into detail from arcadia.cloud_cost_lines where line_id = line and resource_id is null;
    if detail is null or arcadia.reads_all(reader) then
        return detail;
    end if;
    tenant := arcadia.tenant_of_open_line(line);
    if tenant is null then
        return null;
    end if;
    if detail ? 'candidates' then
        detail := jsonb_set(detail, '{candidates}', coalesce((
            select jsonb_agg(c order by place)
              from jsonb_array_elements(detail -> 'candidates') with ordinality e (c, place)
              join arcadia.resources r on r.resource_id = (c ->> 'resource_id')::bigint and r.tenant_id = tenant), '[]'));
    end if;
    return detail;
end
$$;

comment on function arcadia.reads_all is 'Whether row-level security hides nothing from this role';
comment on function arcadia.tenant_of_open_line is
    'The tenant that all candidates of the line share; of a line without any, that of the project it prints; otherwise the fallback';
comment on function arcadia.detail_of_open_line is 'reason; candidates of an ambiguous line, for a tenant those of its own';
