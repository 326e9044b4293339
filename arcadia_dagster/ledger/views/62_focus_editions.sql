-- The columns of each edition, in the order of the specification, then our own.
create view arcadia.focus_1_2 as
select "AvailabilityZone", "BilledCost", "BillingAccountId", "BillingAccountName", "BillingAccountType", "BillingCurrency",
       "BillingPeriodEnd", "BillingPeriodStart", "CapacityReservationId", "CapacityReservationStatus", "ChargeCategory", "ChargeClass",
       "ChargeDescription", "ChargeFrequency", "ChargePeriodEnd", "ChargePeriodStart", "CommitmentDiscountCategory",
       "CommitmentDiscountId", "CommitmentDiscountName", "CommitmentDiscountQuantity", "CommitmentDiscountStatus",
       "CommitmentDiscountType", "CommitmentDiscountUnit", "ConsumedQuantity", "ConsumedUnit", "ContractedCost", "ContractedUnitPrice",
       "EffectiveCost", "InvoiceId", "InvoiceIssuerName", "ListCost", "ListUnitPrice", "PricingCategory", "PricingCurrency",
       "PricingCurrencyContractedUnitPrice", "PricingCurrencyEffectiveCost", "PricingCurrencyListUnitPrice", "PricingQuantity",
       "PricingUnit", "ProviderName", "PublisherName", "RegionId", "RegionName", "ResourceId", "ResourceName", "ResourceType",
       "ServiceCategory", "ServiceName", "ServiceSubcategory", "SkuId", "SkuMeter", "SkuPriceDetails", "SkuPriceId", "SubAccountId",
       "SubAccountName", "SubAccountType", "Tags", "x_MatchStatus", "x_MatchMethod", "x_MatchReason", "x_TenantId", "x_InvoicedProject",
       "x_DoProduct", "x_DoGroupDescription", "x_InvoiceNumber", "x_InvoiceLine", "x_ResidualFlag"
  from arcadia.focus_cost_and_usage;

create view arcadia.focus_1_4 as
select "AllocatedMethodDetails", "AllocatedMethodId", "AllocatedResourceId", "AllocatedResourceName", "AllocatedTags", "AvailabilityZone",
       "BilledCost", "BillingAccountId", "BillingAccountName", "BillingAccountType", "BillingCurrency", "BillingPeriodEnd",
       "BillingPeriodStart", "CapacityReservationId", "CapacityReservationStatus", "ChargeCategory", "ChargeClass", "ChargeDescription",
       "ChargeFrequency", "ChargePeriodEnd", "ChargePeriodStart", "CommitmentDiscountCategory", "CommitmentDiscountId",
       "CommitmentDiscountName", "CommitmentDiscountQuantity", "CommitmentDiscountStatus", "CommitmentDiscountType",
       "CommitmentDiscountUnit", "CommitmentProgramEligibilityDetails", "ConsumedQuantity", "ConsumedUnit", "ContractApplied",
       "ContractedCost", "ContractedUnitPrice", "EffectiveCost", "HostProviderName", "InvoiceDetailId", "InvoiceId", "InvoiceIssuerName",
       "ListCost", "ListUnitPrice", "PricingCategory", "PricingCurrency", "PricingCurrencyContractedUnitPrice",
       "PricingCurrencyEffectiveCost", "PricingCurrencyListUnitPrice", "PricingQuantity", "PricingUnit", "RegionId", "RegionName",
       "ResourceId", "ResourceName", "ResourceType", "ServiceCategory", "ServiceName", "ServiceProviderName", "ServiceSubcategory",
       "SkuId", "SkuMeter", "SkuPriceDetails", "SkuPriceId", "SubAccountId", "SubAccountName", "SubAccountType", "Tags", "x_MatchStatus",
       "x_MatchMethod", "x_MatchReason", "x_TenantId", "x_InvoicedProject", "x_DoProduct", "x_DoGroupDescription", "x_InvoiceNumber",
       "x_InvoiceLine", "x_ResidualFlag"
  from arcadia.focus_cost_and_usage;

comment on view arcadia.focus_1_2 is 'FOCUS 1.2: every line of every closed invoice, once. Columns that begin with x_ are ours';
comment on view arcadia.focus_1_4 is
    'FOCUS 1.4 Cost and Usage: every line of every closed invoice, once. Columns that begin with x_ are ours';

do $$
declare
    said record;
begin
    for said in
        select edition.name as view, c.attname as column, col_description(c.attrelid, c.attnum) as words
          from (values ('focus_1_2'), ('focus_1_4')) as edition (name)
          join pg_attribute e on e.attrelid = format('arcadia.%I', edition.name)::regclass
          join pg_attribute c on c.attrelid = 'arcadia.focus_cost_and_usage'::regclass and c.attname = e.attname and c.attnum > 0
    loop
        execute format('comment on column arcadia.%I.%I is %L', said.view, said.column, said.words);
    end loop;
end
$$;
