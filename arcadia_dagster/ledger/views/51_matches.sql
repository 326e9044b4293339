create view arcadia.unexplained_lines as
select l.period, l.account_id, l.account, l.line_id, l.invoice_uuid, l.invoice_id, l.ordinal, l.product, l.group_description, l.description,
       l.kind, l.started_at, l.ended_at, l.amount_usd, l.project, l.match_status, l.reason,
       (select array_agg(concat(c ->> 'name', ' (' || nullif(c ->> 'provider_id', c ->> 'name') || ')') order by place)
          from jsonb_array_elements(l.match_detail -> 'candidates') with ordinality e (c, place)) as candidates
  from arcadia.matched_cost_lines l
 where l.match_status in ('ambiguous', 'unmatched');

comment on view arcadia.unexplained_lines is
    'Lines of closed invoices that pay for nothing that is certain. More on one of them: arcadia explain LINE_ID';
comment on column arcadia.unexplained_lines.match_status is 'ambiguous: several resources fit equally well; unmatched: none does';
comment on column arcadia.unexplained_lines.candidates is
    'Of an ambiguous line: the resources that fit, each as name (provider id). NULL: nothing fits';

create view arcadia.match_rate as
select i.period, i.account_id, i.account, i.invoice_uuid, i.invoice_id, i.status,
       l.lines, l.matched_lines, l.unexplained_lines,
       -- Cut off, not rounded: 1 means all.
       trunc(l.matched_lines::numeric / nullif(l.matched_lines + l.unexplained_lines, 0), 4) as line_rate,
       l.amount_usd, l.matched_usd, l.unexplained_usd,
       trunc(l.matched_size / nullif(l.matched_size + l.unexplained_size, 0), 4) as usd_rate,
       i.amount as invoice_usd, i.residual as residual_usd
  from (select c.*, a.name as account from arcadia.cloud_invoices c join arcadia.cloud_accounts a using (account_id)
         where c.status <> 'preview') i
 cross join lateral (
       select count(*) as lines, count(*) filter (where matched) as matched_lines, count(*) filter (where unexplained) as unexplained_lines,
              coalesce(sum(amount_usd), 0) as amount_usd, coalesce(sum(amount_usd) filter (where matched), 0) as matched_usd,
              coalesce(sum(amount_usd) filter (where unexplained), 0) as unexplained_usd,
              coalesce(sum(abs(amount_usd)) filter (where matched), 0) as matched_size,
              coalesce(sum(abs(amount_usd)) filter (where unexplained), 0) as unexplained_size
         from (select amount_usd, match_status = 'matched' as matched, match_status in ('ambiguous', 'unmatched') as unexplained
                 from arcadia.cloud_cost_lines where invoice_uuid = i.invoice_uuid) o) l;

comment on view arcadia.match_rate is
    'How much of each closed invoice is matched to a resource, in lines and dollars. Account-level lines, taxes and credits ask for none';
comment on column arcadia.match_rate.status is 
    'ingested; pending: not read yet, or before its amount changed; failed: could not be read';
comment on column arcadia.match_rate.lines is 'All lines of the invoice';
comment on column arcadia.match_rate.matched_lines is 'Lines whose resource is known';
comment on column arcadia.match_rate.unexplained_lines is
    'Lines that are ambiguous or unmatched; the rest are account-level, taxes and credits';
comment on column arcadia.match_rate.line_rate is
    'matched_lines of matched_lines and unexplained_lines, from 0 to 1; 1 only where it is all. NULL: the invoice has neither';
comment on column arcadia.match_rate.amount_usd is 'USD of all lines together';
comment on column arcadia.match_rate.matched_usd is 'USD of the matched lines';
comment on column arcadia.match_rate.unexplained_usd is 'USD of the ambiguous and unmatched lines';
comment on column arcadia.match_rate.usd_rate is
    'As line_rate, each line with the weight of its amount without the sign: lines below zero do not hide others';
comment on column arcadia.match_rate.invoice_usd is 'USD as the provider states it; NULL for an imported file, which does not say';
comment on column arcadia.match_rate.residual_usd is 'invoice_usd less amount_usd: money that no line shows';
