create view arcadia.focus_invoice_detail as
select f."BilledCost",
       f."BillingAccountId",
       f."BillingCurrency",
       f."BillingPeriodEnd",
       f."BillingPeriodStart",
       f."ChargeCategory",
       date_trunc('second', i.ingested_at, 'UTC') as "InvoiceDetailCreated",
       f."ChargeDescription" as "InvoiceDetailDescription",
       jsonb_strip_nulls(jsonb_build_object(
           'ServiceName', f."ServiceName",
           'SubAccountId', f."SubAccountId",
           'ResourceId', f."ResourceId",
           'ResourceType', f."ResourceType",
           'x_Product', f."x_DoProduct",
           'x_GroupDescription', f."x_DoGroupDescription",
           'x_InvoiceLine', f."x_InvoiceLine"
       )) as "InvoiceDetailGrain",
       f."InvoiceDetailId",
       date_trunc('second', greatest(i.ingested_at, rematched.at), 'UTC') as "InvoiceDetailLastUpdated",
       f."InvoiceId",
       i.issued_at as "InvoiceIssueDate",
       'Issued'::arcadia.focus_invoice_issue_status as "InvoiceIssueStatus",
       f."InvoiceIssuerName",
       'USD'::text as "PaymentCurrency",
       f."BilledCost" as "PaymentCurrencyBilledCost",
       f."InvoiceDetailId" as "PaymentCurrencyInvoiceDetailId",
       null::timestamptz as "PaymentDueDate",
       'Not stated'::text as "PaymentTerms",
       null::text as "PurchaseOrderNumber",
       f."InvoiceId" as "ReferenceInvoiceId",
       f."x_InvoiceNumber",
       f."x_InvoiceLine",
       f."x_ResidualFlag"
  from arcadia.focus_cost_and_usage f
  left join arcadia.cloud_invoices i on i.invoice_uuid = f."InvoiceId"
  left join (select invoice_uuid, ordinal, max(occurred_at) as at
               from arcadia.cloud_match_events group by invoice_uuid, ordinal) as rematched
         on rematched.invoice_uuid = f."InvoiceId" and rematched.ordinal = f."x_InvoiceLine";

comment on view arcadia.focus_invoice_detail is
    'FOCUS 1.4 Invoice Detail: every line of every closed invoice, once; joins focus_1_4 on InvoiceIssuerName, InvoiceId, InvoiceDetailId';
comment on column arcadia.focus_invoice_detail."BilledCost" is 'USD as invoiced; credits are negative';
comment on column arcadia.focus_invoice_detail."BillingAccountId" is 'As in focus_1_4';
comment on column arcadia.focus_invoice_detail."BillingCurrency" is 'USD, the only currency of the provider';
comment on column arcadia.focus_invoice_detail."BillingPeriodEnd" is 'First moment after the month that the invoice bills';
comment on column arcadia.focus_invoice_detail."BillingPeriodStart" is 'First moment of the month that the invoice bills';
comment on column arcadia.focus_invoice_detail."ChargeCategory" is 'As in focus_1_4';
comment on column arcadia.focus_invoice_detail."InvoiceDetailCreated" is 'When the invoice''s lines, as they are, were stored';
comment on column arcadia.focus_invoice_detail."InvoiceDetailDescription" is 'The text of the line as printed';
comment on column arcadia.focus_invoice_detail."InvoiceDetailGrain" is 'What the line is about; keys that begin with x_ are ours';
comment on column arcadia.focus_invoice_detail."InvoiceDetailId" is 'InvoiceId and number of the line';
comment on column arcadia.focus_invoice_detail."InvoiceDetailLastUpdated" is
    'When the line was stored, or last matched to something else';
comment on column arcadia.focus_invoice_detail."InvoiceId" is 'The invoice''s uuid';
comment on column arcadia.focus_invoice_detail."InvoiceIssueDate" is 'NULL where the billing history does not name the invoice';
comment on column arcadia.focus_invoice_detail."InvoiceIssueStatus" is
    'Issued: previews are not here, and the provider tells of no voided invoices';
comment on column arcadia.focus_invoice_detail."InvoiceIssuerName" is 'DigitalOcean';
comment on column arcadia.focus_invoice_detail."PaymentCurrency" is 'USD, the only currency of the provider';
comment on column arcadia.focus_invoice_detail."PaymentCurrencyBilledCost" is 'As BilledCost';
comment on column arcadia.focus_invoice_detail."PaymentCurrencyInvoiceDetailId" is 'As InvoiceDetailId';
comment on column arcadia.focus_invoice_detail."PaymentDueDate" is 'NULL: the provider does not say';
comment on column arcadia.focus_invoice_detail."PaymentTerms" is 'Not stated, as FOCUS allows no NULL here';
comment on column arcadia.focus_invoice_detail."PurchaseOrderNumber" is 'NULL: the provider does not say';
comment on column arcadia.focus_invoice_detail."ReferenceInvoiceId" is
    'The invoice itself: the provider does not name invoices that it adjusts';
comment on column arcadia.focus_invoice_detail."x_InvoiceNumber" is 'The number on the invoice''s face; NULL for an imported file';
comment on column arcadia.focus_invoice_detail."x_InvoiceLine" is 'Place on the invoice, from 1';
comment on column arcadia.focus_invoice_detail."x_ResidualFlag" is 'The lines of this invoice do not add up to its amount';

create view arcadia.focus_billing_period as
select date_trunc('second', min(i.ingested_at), 'UTC') as "BillingPeriodCreated",
       (i.period + interval '1 month') at time zone 'UTC' as "BillingPeriodEnd",
       date_trunc('second', max(i.ingested_at), 'UTC') as "BillingPeriodLastUpdated",
       i.period::timestamp at time zone 'UTC' as "BillingPeriodStart",
       (case when bool_or(i.ingested_at is null)
               or (i.period + interval '1 month') at time zone 'UTC' > now()
               or i.period in (select period from arcadia.cloud_invoices where status = 'preview') then 'Open'
             else 'Closed' end)::arcadia.focus_billing_period_status as "BillingPeriodStatus",
       'DigitalOcean'::text as "InvoiceIssuerName"
  from arcadia.cloud_invoices i
 where i.status <> 'preview'
 group by i.period
having count(i.ingested_at) > 0;

comment on view arcadia.focus_billing_period is 'FOCUS 1.4 Billing Period: the months that closed invoices bill, all accounts together';
comment on column arcadia.focus_billing_period."BillingPeriodCreated" is 'When the first of its invoices, as they are, was stored';
comment on column arcadia.focus_billing_period."BillingPeriodEnd" is 'First moment after the month';
comment on column arcadia.focus_billing_period."BillingPeriodLastUpdated" is 'When the last of its invoices was stored';
comment on column arcadia.focus_billing_period."BillingPeriodStart" is 'First moment of the month';
comment on column arcadia.focus_billing_period."BillingPeriodStatus" is
    'Open: the month is not over, the provider still previews an invoice for it, or one is known and not ingested; otherwise Closed';
comment on column arcadia.focus_billing_period."InvoiceIssuerName" is 'DigitalOcean';
