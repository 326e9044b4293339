-- Every column of both editions of FOCUS "Cost and Usage", once. Its readers are focus_1_2 and focus_1_4, which show those of theirs.
create view arcadia.focus_cost_and_usage as
select null::jsonb as "AllocatedMethodDetails",
       null::text as "AllocatedMethodId",
       null::text as "AllocatedResourceId",
       null::text as "AllocatedResourceName",
       null::jsonb as "AllocatedTags",
       null::text as "AvailabilityZone",
       l.amount_usd as "BilledCost",
       coalesce(a.team_uuid, 'import:' || a.name) as "BillingAccountId",
       a.name as "BillingAccountName",
       'Team'::text as "BillingAccountType",
       'USD'::text as "BillingCurrency",
       b.period_end as "BillingPeriodEnd",
       b.period_start as "BillingPeriodStart",
       null::text as "CapacityReservationId",
       null::arcadia.focus_capacity_reservation_status as "CapacityReservationStatus",
       x.charge::arcadia.focus_charge_category as "ChargeCategory",
       null::arcadia.focus_charge_class as "ChargeClass",
       coalesce(nullif(btrim(l.description), ''), nullif(btrim(l.product), '')) as "ChargeDescription",
       (case when x.charge <> 'Usage' then 'One-Time'
             when l.product ~* 'subscription' and l.description !~* 'overage' or x.service in ('support', 'addon') then 'Recurring'
             else 'Usage-Based' end)::arcadia.focus_charge_frequency as "ChargeFrequency",
       -- The end is exclusive, the invoice's is not always: volumes and taxes end with the last second of a month, older lines with its
       -- last minute, and one backup begins and ends in the same moment.
       greatest(case when (l.ended_at at time zone 'UTC')::time in (time '23:59:59', time '23:59')
                      and date_trunc('month', l.ended_at, 'UTC') < date_trunc('month', l.ended_at + interval '1 minute', 'UTC')
                     then date_trunc('month', l.ended_at + interval '1 minute', 'UTC')
                     else coalesce(l.ended_at, b.period_end) end,
                coalesce(l.started_at, b.period_start) + interval '1 second') as "ChargePeriodEnd",
       coalesce(l.started_at, b.period_start) as "ChargePeriodStart",
       null::arcadia.focus_commitment_discount_category as "CommitmentDiscountCategory",
       null::text as "CommitmentDiscountId",
       null::text as "CommitmentDiscountName",
       null::numeric as "CommitmentDiscountQuantity",
       null::arcadia.focus_commitment_discount_status as "CommitmentDiscountStatus",
       null::text as "CommitmentDiscountType",
       null::text as "CommitmentDiscountUnit",
       null::jsonb as "CommitmentProgramEligibilityDetails",
       x.quantity as "ConsumedQuantity",
       x.unit as "ConsumedUnit",
       null::jsonb as "ContractApplied",
       l.amount_usd as "ContractedCost",
       null::numeric as "ContractedUnitPrice",
       l.amount_usd as "EffectiveCost",
       case when l.kind is distinct from 'addon' then 'DigitalOcean'::text end as "HostProviderName",
       l.invoice_uuid || ':' || l.ordinal as "InvoiceDetailId",
       l.invoice_uuid as "InvoiceId",
       'DigitalOcean'::text as "InvoiceIssuerName",
       l.amount_usd as "ListCost",
       null::numeric as "ListUnitPrice",
       (case when x.charge = 'Usage' then 'Standard' end)::arcadia.focus_pricing_category as "PricingCategory",
       'USD'::text as "PricingCurrency",
       null::numeric as "PricingCurrencyContractedUnitPrice",
       l.amount_usd as "PricingCurrencyEffectiveCost",
       null::numeric as "PricingCurrencyListUnitPrice",
       x.quantity as "PricingQuantity",
       x.unit as "PricingUnit",
       'DigitalOcean'::text as "ProviderName",
       'DigitalOcean'::text as "PublisherName",
       x.region as "RegionId",
       coalesce(city.name || coalesce(' ' || substring(x.region from '^[a-z]{3}([0-9]+)$'), ''), x.region) as "RegionName",
       'do:' || coalesce(t.urn_name, l.resource_kind) || ':' || l.resource_provider_id as "ResourceId",
       nullif(l.resource_name, l.resource_provider_id) as "ResourceName",
       coalesce(t.resource_type, l.resource_kind) as "ResourceType",
       coalesce(s.service_category, 'Other')::arcadia.focus_service_category as "ServiceCategory",
       coalesce(s.service_name, nullif(btrim(l.product), ''), 'Other') as "ServiceName",
       'DigitalOcean'::text as "ServiceProviderName",
       coalesce(s.service_subcategory, 'Other (Other)')::arcadia.focus_service_subcategory as "ServiceSubcategory",
       null::text as "SkuId",
       null::text as "SkuMeter",
       null::jsonb as "SkuPriceDetails",
       null::text as "SkuPriceId",
       project.provider_id as "SubAccountId",
       case when project.provider_id is not null then l.invoiced_project end as "SubAccountName",
       case when project.provider_id is not null then 'Project'::text end as "SubAccountType",
       (select jsonb_object_agg(tag, true) from unnest(r.tags) as tag) as "Tags",
       l.match_status as "x_MatchStatus",
       l.match_method as "x_MatchMethod",
       l.reason as "x_MatchReason",
       l.tenant_id as "x_TenantId",
       l.invoiced_project as "x_InvoicedProject",
       l.product as "x_DoProduct",
       nullif(l.group_description, '') as "x_DoGroupDescription",
       l.invoice_id as "x_InvoiceNumber",
       l.ordinal as "x_InvoiceLine",
       i.residual <> 0 as "x_ResidualFlag"
  from arcadia.matched_cost_lines l
  left join arcadia.cloud_accounts a on a.account_id = l.account_id
  left join arcadia.cloud_invoices i on i.invoice_uuid = l.invoice_uuid
  left join arcadia.cloud_cost_lines c on c.line_id = l.line_id
  left join arcadia.resources r on r.resource_id = l.resource_id
 cross join lateral (
    select l.period::timestamp at time zone 'UTC' as period_start, (l.period + interval '1 month') at time zone 'UTC' as period_end
  ) as b
 cross join lateral (
    select case when l.match_status = 'tax' then 'Tax'
                when coalesce(l.kind, 'credit') = 'credit' and l.product ~* '^\s*adjustments?\s*$' then 'Adjustment'
                when l.match_status = 'credit' then 'Credit'
                else 'Usage' end as charge,
           case when l.kind = 'droplet' and l.product ~* 'backups' then 'droplet_backup'
                when l.kind <> 'account' then l.kind
                when l.description ~* 'bandwidth overage' then 'bandwidth'
                when l.product ~* '^spaces' then 'spaces'
                when l.product ~* '^container registry' then 'registry'
                when l.product ~* '^uptime' then 'uptime'
                when l.product ~* 'support' then 'support'
                when l.product ~* 'genai|inference' then 'genai'
                else l.kind end as service,
           regexp_match(l.description, '\(([0-9]{1,15}(?:\.[0-9]{1,9})?) ?([KMGT]i?B) @') as overage,  -- (2825.36GB @ $0.01/GB)
           lower(coalesce(l.resource_region, c.parsed_region)) as places
  ) as w
 cross join lateral (
    select w.charge,
           w.service,
           case when w.charge = 'Usage' then coalesce(l.hours, w.overage[1]::numeric, 1) end as quantity,
           case when w.charge = 'Usage'
                then case when l.hours is null then coalesce(w.overage[2], 'Units')
                          when w.service = 'droplet_backup' then 'Backups'
                          else 'Hours' end end as unit,
           case when w.places not like '%,%' then w.places end as region  -- a snapshot can be in several
  ) as x
  left join arcadia.focus_services s on s.service = x.service
  left join arcadia.focus_services t on t.service = l.resource_kind
  left join (values ('ams', 'Amsterdam'), ('atl', 'Atlanta'), ('blr', 'Bangalore'), ('fra', 'Frankfurt'), ('lon', 'London'),
                    ('nyc', 'New York'), ('ric', 'Richmond'), ('sfo', 'San Francisco'), ('sgp', 'Singapore'), ('syd', 'Sydney'),
                    ('tor', 'Toronto')) as city (code, name)
         on city.code = substring(x.region from '^([a-z]{3})[0-9]*$')
  -- The invoice names a project, as it was called then. Of several that ever bore that name, the one that the resource is in.
  left join (select account_id, name, array_agg(resource_id) as projects
               from arcadia.resources_by_name
              where kind = 'project'
              group by account_id, name) as named
         on named.account_id = l.account_id and named.name = l.invoiced_project
  left join arcadia.resources project
         on project.resource_id = case when l.cloud_project_id = any(named.projects) then l.cloud_project_id
                                       when cardinality(named.projects) = 1 then named.projects[1] end;

comment on view arcadia.focus_cost_and_usage is
    'FOCUS Cost and Usage, every line of every closed invoice once, with the columns of all editions; read focus_1_2 or focus_1_4';
comment on column arcadia.focus_cost_and_usage."AllocatedMethodDetails" is
    'NULL: shared costs are not split, see the account-level lines';
comment on column arcadia.focus_cost_and_usage."AllocatedMethodId" is 'NULL: shared costs are not split';
comment on column arcadia.focus_cost_and_usage."AllocatedResourceId" is 'NULL: shared costs are not split';
comment on column arcadia.focus_cost_and_usage."AllocatedResourceName" is 'NULL: shared costs are not split';
comment on column arcadia.focus_cost_and_usage."AllocatedTags" is 'NULL: shared costs are not split';
comment on column arcadia.focus_cost_and_usage."AvailabilityZone" is 'NULL: the provider has regions only';
comment on column arcadia.focus_cost_and_usage."BilledCost" is
    'USD as invoiced; credits are negative. Adds up to the lines of the invoice';
comment on column arcadia.focus_cost_and_usage."BillingAccountId" is
    'The team''s uuid; import: and its name, where only imported files tell of it';
comment on column arcadia.focus_cost_and_usage."BillingAccountName" is 'The team''s name';
comment on column arcadia.focus_cost_and_usage."BillingAccountType" is 'Team';
comment on column arcadia.focus_cost_and_usage."BillingCurrency" is 'USD, the only currency of the provider';
comment on column arcadia.focus_cost_and_usage."BillingPeriodEnd" is 'First moment after the month that the invoice bills';
comment on column arcadia.focus_cost_and_usage."BillingPeriodStart" is 'First moment of the month that the invoice bills';
comment on column arcadia.focus_cost_and_usage."CapacityReservationId" is 'NULL: the provider has no capacity reservations';
comment on column arcadia.focus_cost_and_usage."CapacityReservationStatus" is 'NULL: the provider has no capacity reservations';
comment on column arcadia.focus_cost_and_usage."ChargeCategory" is
    'Usage, also where negative or a subscription; Tax; Credit; Adjustment: a line of a product of that name';
comment on column arcadia.focus_cost_and_usage."ChargeClass" is
    'NULL: invoices do not tell the correction of an earlier month from usage that came late';
comment on column arcadia.focus_cost_and_usage."ChargeDescription" is 'The text of the line as printed';
comment on column arcadia.focus_cost_and_usage."ChargeFrequency" is
    'Recurring: subscriptions, support and add-ons; Usage-Based: other usage; One-Time: taxes, credits and adjustments';
comment on column arcadia.focus_cost_and_usage."ChargePeriodEnd" is
    'Exclusive, always after the start; the billing period''s where the line has none';
comment on column arcadia.focus_cost_and_usage."ChargePeriodStart" is 'Start of the line; the billing period''s where it has none';
comment on column arcadia.focus_cost_and_usage."CommitmentDiscountCategory" is 'NULL: invoices name no commitments';
comment on column arcadia.focus_cost_and_usage."CommitmentDiscountId" is 'NULL: invoices name no commitments';
comment on column arcadia.focus_cost_and_usage."CommitmentDiscountName" is 'NULL: invoices name no commitments';
comment on column arcadia.focus_cost_and_usage."CommitmentDiscountQuantity" is 'NULL: invoices name no commitments';
comment on column arcadia.focus_cost_and_usage."CommitmentDiscountStatus" is 'NULL: invoices name no commitments';
comment on column arcadia.focus_cost_and_usage."CommitmentDiscountType" is 'NULL: invoices name no commitments';
comment on column arcadia.focus_cost_and_usage."CommitmentDiscountUnit" is 'NULL: invoices name no commitments';
comment on column arcadia.focus_cost_and_usage."CommitmentProgramEligibilityDetails" is 'NULL: invoices name no commitments';
comment on column arcadia.focus_cost_and_usage."ConsumedQuantity" is 'As PricingQuantity: the invoice knows one quantity';
comment on column arcadia.focus_cost_and_usage."ConsumedUnit" is 'As PricingUnit';
comment on column arcadia.focus_cost_and_usage."ContractApplied" is 'NULL: invoices name no contracts';
comment on column arcadia.focus_cost_and_usage."ContractedCost" is 'USD; as BilledCost, since invoices show no price before discounts';
comment on column arcadia.focus_cost_and_usage."ContractedUnitPrice" is 'NULL: invoices show no unit prices';
comment on column arcadia.focus_cost_and_usage."EffectiveCost" is 'USD; as BilledCost, since nothing is prepaid';
comment on column arcadia.focus_cost_and_usage."HostProviderName" is
    'DigitalOcean; NULL for add-ons, which run wherever their vendor has them';
comment on column arcadia.focus_cost_and_usage."InvoiceDetailId" is 'InvoiceId and number of the line; joins focus_invoice_detail';
comment on column arcadia.focus_cost_and_usage."InvoiceId" is 'The invoice''s uuid; the number on its face is x_InvoiceNumber';
comment on column arcadia.focus_cost_and_usage."InvoiceIssuerName" is 'DigitalOcean';
comment on column arcadia.focus_cost_and_usage."ListCost" is 'USD; as BilledCost, since invoices show no price before discounts';
comment on column arcadia.focus_cost_and_usage."ListUnitPrice" is
    'NULL: invoices show no unit prices, and with monthly caps none makes the amount';
comment on column arcadia.focus_cost_and_usage."PricingCategory" is 'Standard for usage, otherwise NULL';
comment on column arcadia.focus_cost_and_usage."PricingCurrency" is 'USD, the only currency of the provider';
comment on column arcadia.focus_cost_and_usage."PricingCurrencyContractedUnitPrice" is 'NULL: invoices show no unit prices';
comment on column arcadia.focus_cost_and_usage."PricingCurrencyEffectiveCost" is 'USD; as EffectiveCost';
comment on column arcadia.focus_cost_and_usage."PricingCurrencyListUnitPrice" is 'NULL: invoices show no unit prices';
comment on column arcadia.focus_cost_and_usage."PricingQuantity" is
    'For usage, what the line prints: hours, the number of backups, or the size of an overage; 1 where it prints none. Otherwise NULL';
comment on column arcadia.focus_cost_and_usage."PricingUnit" is
    'Hours, Backups, that of the overage, or Units where the line prints no quantity';
comment on column arcadia.focus_cost_and_usage."ProviderName" is 'DigitalOcean';
comment on column arcadia.focus_cost_and_usage."PublisherName" is 'DigitalOcean; invoices do not name the vendors of add-ons';
comment on column arcadia.focus_cost_and_usage."RegionId" is
    'Of the resource, or as the line prints it; NULL where it is none or several';
comment on column arcadia.focus_cost_and_usage."RegionName" is 'As the provider shows it';
comment on column arcadia.focus_cost_and_usage."ResourceId" is
    'URN of the matched resource, as the provider writes them; NULL where the line is matched to none';
comment on column arcadia.focus_cost_and_usage."ResourceName" is 'Its name now, or the last it had; NULL for what has none but its id';
comment on column arcadia.focus_cost_and_usage."ResourceType" is 'Its kind';
comment on column arcadia.focus_cost_and_usage."ServiceCategory" is 'That of the service; Other for products that are not known';
comment on column arcadia.focus_cost_and_usage."ServiceName" is 'See focus_services; the product for those that are not known';
comment on column arcadia.focus_cost_and_usage."ServiceProviderName" is 'DigitalOcean';
comment on column arcadia.focus_cost_and_usage."ServiceSubcategory" is 'That of the service';
comment on column arcadia.focus_cost_and_usage."SkuId" is 'NULL: invoices name no SKU';
comment on column arcadia.focus_cost_and_usage."SkuMeter" is 'NULL: invoices name no SKU';
comment on column arcadia.focus_cost_and_usage."SkuPriceDetails" is 'NULL: invoices name no SKU';
comment on column arcadia.focus_cost_and_usage."SkuPriceId" is 'NULL: invoices name no SKU';
comment on column arcadia.focus_cost_and_usage."SubAccountId" is
    'The project that the invoice names, so that a move changes no past month; NULL where no project, or several, bore that name';
comment on column arcadia.focus_cost_and_usage."SubAccountName" is 'The project''s name as invoiced';
comment on column arcadia.focus_cost_and_usage."SubAccountType" is 'Project';
comment on column arcadia.focus_cost_and_usage."Tags" is
    'The resource''s tags now, or the last it had, each with the value true, as they have none; NULL: no tags';
comment on column arcadia.focus_cost_and_usage."x_MatchStatus" is 'As in matched_cost_lines';
comment on column arcadia.focus_cost_and_usage."x_MatchMethod" is 'As in matched_cost_lines';
comment on column arcadia.focus_cost_and_usage."x_MatchReason" is 'Why there is no resource';
comment on column arcadia.focus_cost_and_usage."x_TenantId" is 'As in matched_cost_lines';
comment on column arcadia.focus_cost_and_usage."x_InvoicedProject" is 'The project''s name as invoiced, whether it is known or not';
comment on column arcadia.focus_cost_and_usage."x_DoProduct" is 'The product as printed';
comment on column arcadia.focus_cost_and_usage."x_DoGroupDescription" is 'The group as printed, such as the cluster';
comment on column arcadia.focus_cost_and_usage."x_InvoiceNumber" is 'The number on the invoice''s face; NULL for an imported file';
comment on column arcadia.focus_cost_and_usage."x_InvoiceLine" is 'Place on the invoice, from 1';
comment on column arcadia.focus_cost_and_usage."x_ResidualFlag" is
    'The lines of this invoice do not add up to its amount: see cloud_invoices.residual. NULL for an imported file, which does not say';
