-- Counts a request of the clients that use one token, or says how long they must wait. One statement, so that the lock on the token's row is
-- held while nobody waits and no network answers. The first limit is that of the hour, which the provider tells the rest of.
-- The provider counts a request when it arrives, this before it is sent. Lest one arrive too soon after another that was longer on its way,
-- as the first of a connection is, each counts for a second more: several times what connecting to the other side of the world takes, and
-- a sixtieth of the minute.
create or replace function arcadia.take_request(
    digest bytea, prefixes text[], allowed int[], periods float8[], heard_limit int, heard_others int, heard_reset float8,
    out wait float8, out reached int, out reason text, out spent int)
    language plpgsql set search_path = pg_catalog as $$
declare
    budget arcadia.request_budgets;
    moment timestamptz;
    free_at timestamptz;
    used int;
    one_of_others_expired boolean := false;
    late constant interval := interval '1 second';
begin
    perform set_config('synchronous_commit', 'off', true);  -- a crash of the server may forget the last few requests
    loop
        select * into budget from arcadia.request_budgets b where b.token_digest = digest for update;
        exit when found;
        insert into arcadia.request_budgets (token_digest) values (digest) on conflict do nothing;
    end loop;
    moment := clock_timestamp();
    -- What lies further ahead than anything can was written before the clock was set back.
    delete from arcadia.request_counts c
     where c.token_digest = digest
       and (c.counted_until + late <= moment or c.counted_until > moment + make_interval(secs => c.seconds * 62 / 60));
    if greatest(budget.not_before, budget.others_until) > moment + interval '61 minutes' then
        update arcadia.request_budgets b set not_before = null, others = 0, others_until = null
         where b.token_digest = digest returning * into budget;
    end if;
    wait := extract(epoch from budget.not_before - moment);
    reached := 0;
    reason := budget.reason;
    if heard_others is not null and (heard_others > 0 or budget.others > 0 or heard_limit is distinct from budget.hourly_limit) then
        budget.others := heard_others;
        budget.others_until := moment + make_interval(secs => coalesce(heard_reset, periods[1] / allowed[1]));
        update arcadia.request_budgets b set hourly_limit = heard_limit, others = budget.others, others_until = budget.others_until
         where b.token_digest = digest;
    end if;
    for i in 1 .. cardinality(allowed) loop
        select coalesce(sum(c.requests), 0) into used from arcadia.request_counts c
         where c.token_digest = digest and c.prefix = prefixes[i] and c.seconds = periods[i];
        if i = 1 then
            spent := used + 1;
            used := used + budget.others;
        end if;
        if used >= allowed[i] then
            if i = 1 and budget.others > 0 and budget.others_until <= moment then
                one_of_others_expired := true;
                continue;
            end if;
            select min(f.counted_until) + late into free_at
              from (select c.counted_until, sum(c.requests) over (order by c.counted_until) as freed from arcadia.request_counts c
                     where c.token_digest = digest and c.prefix = prefixes[i] and c.seconds = periods[i]) f
             where f.freed > used - allowed[i];
            if i = 1 and budget.others > 0 then
                free_at := least(free_at, budget.others_until);
            end if;
            if extract(epoch from free_at - moment) > coalesce(wait, 0) then
                wait := extract(epoch from free_at - moment);
                reached := i;
            end if;
        end if;
    end loop;
    if wait > 0 then
        return;
    end if;
    wait := 0;
    if one_of_others_expired then  -- one request for it; the reply says when there will be another
        update arcadia.request_budgets b
           set others = budget.others - 1, others_until = moment + make_interval(secs => periods[1] / allowed[1])
         where b.token_digest = digest;
    end if;
    insert into arcadia.request_counts as c (token_digest, prefix, seconds, counted_until, requests)
    select digest, l.prefix, l.period, to_timestamp((floor(extract(epoch from moment) / (l.period / 60)) + 61) * (l.period / 60)), 1
      from unnest(prefixes, periods) l (prefix, period)
        on conflict (token_digest, prefix, seconds, counted_until) do update set requests = c.requests + 1;
end
$$;

comment on function arcadia.take_request is 'Counts a request against the limits of a token, or says in how many seconds it may be made';
