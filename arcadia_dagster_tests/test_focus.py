"""FOCUS: the views have the columns of the specification, its values and no others, and every line of a closed invoice once."""

import io
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from arcadia_dagster.demo.showcase import showcase_account
from arcadia_dagster.digitalocean.kinds import KINDS, Resource
from arcadia_dagster.digitalocean.products import _WORDINGS, Charge, meaning_of
from arcadia_dagster.digitalocean.urns import parse_urn
from arcadia_dagster.ledger import billing
from arcadia_dagster.ledger.accounts import account_for_import
from arcadia_dagster.ledger.matching import rematch
from arcadia_dagster_tests.books import Books, as_csv, as_json, droplet, item

# The columns of the specification in its order: the level in 1.2 and in 1.4 (Mandatory, Conditional, Recommended, -: not in it), the type,
# and "required" where it allows no NULL. Of https://focus.finops.org/focus-specification/v1-2/ and /v1-4/.
COST_AND_USAGE = """
    AllocatedMethodDetails -R json
    AllocatedMethodId -C text
    AllocatedResourceId -C text
    AllocatedResourceName -C text
    AllocatedTags -C json
    AvailabilityZone RR text
    BilledCost MM numeric required
    BillingAccountId MM text required
    BillingAccountName MM text
    BillingAccountType CC text required
    BillingCurrency MM text required
    BillingPeriodEnd MM time required
    BillingPeriodStart MM time required
    CapacityReservationId CC text
    CapacityReservationStatus CC text
    ChargeCategory MM text required
    ChargeClass MM text
    ChargeDescription MM text
    ChargeFrequency RR text required
    ChargePeriodEnd MM time required
    ChargePeriodStart MM time required
    CommitmentDiscountCategory CC text
    CommitmentDiscountId CC text
    CommitmentDiscountName CC text
    CommitmentDiscountQuantity CC numeric
    CommitmentDiscountStatus CC text
    CommitmentDiscountType CC text
    CommitmentDiscountUnit CC text
    CommitmentProgramEligibilityDetails -C json
    ConsumedQuantity CC numeric
    ConsumedUnit CC text
    ContractApplied -C json
    ContractedCost MM numeric required
    ContractedUnitPrice CC numeric
    EffectiveCost MM numeric required
    HostProviderName -M text
    InvoiceDetailId -C text
    InvoiceId RC text
    InvoiceIssuerName MM text required
    ListCost MM numeric required
    ListUnitPrice CC numeric
    PricingCategory CC text
    PricingCurrency CC text required
    PricingCurrencyContractedUnitPrice CC numeric
    PricingCurrencyEffectiveCost CC numeric required
    PricingCurrencyListUnitPrice CC numeric
    PricingQuantity MM numeric
    PricingUnit MM text
    ProviderName M- text required
    PublisherName M- text required
    RegionId CC text
    RegionName CC text
    ResourceId CC text
    ResourceName CC text
    ResourceType CC text
    ServiceCategory MM text required
    ServiceName MM text required
    ServiceProviderName -M text required
    ServiceSubcategory RR text required
    SkuId CC text
    SkuMeter CC text
    SkuPriceDetails CC json
    SkuPriceId CC text
    SubAccountId CC text
    SubAccountName CC text
    SubAccountType CC text
    Tags CC json
"""
INVOICE_DETAIL = """
    BilledCost M numeric required
    BillingAccountId M text required
    BillingCurrency M text required
    BillingPeriodEnd M time required
    BillingPeriodStart M time required
    ChargeCategory M text required
    InvoiceDetailCreated M time required
    InvoiceDetailDescription M text
    InvoiceDetailGrain M json
    InvoiceDetailId M text required
    InvoiceDetailLastUpdated M time required
    InvoiceId M text required
    InvoiceIssueDate M time
    InvoiceIssueStatus M text required
    InvoiceIssuerName M text required
    PaymentCurrency C text required
    PaymentCurrencyBilledCost C numeric required
    PaymentCurrencyInvoiceDetailId C text required
    PaymentDueDate M time
    PaymentTerms M text required
    PurchaseOrderNumber C text
    ReferenceInvoiceId M text required
"""
BILLING_PERIOD = """
    BillingPeriodCreated M time required
    BillingPeriodEnd M time required
    BillingPeriodLastUpdated M time required
    BillingPeriodStart M time required
    BillingPeriodStatus M text required
    InvoiceIssuerName M text required
"""
SERVICES = {
    "AI and Machine Learning": (
        "AI Platforms; Bots; Generative AI; Machine Learning; Natural Language Processing; Other (AI and Machine Learning)"
    ),
    "Analytics": "Analytics Platforms; Business Intelligence; Data Processing; Search; Streaming Analytics; Other (Analytics)",
    "Business Applications": "Productivity and Collaboration; Other (Business Applications)",
    "Compute": "Containers; End User Computing; Quantum Compute; Serverless Compute; Virtual Machines; Other (Compute)",
    "Databases": (
        "Caching; Data Warehouses; Ledger Databases; NoSQL Databases; Relational Databases; Time Series Databases; Other (Databases)"
    ),
    "Developer Tools": (
        "Continuous Integration and Deployment; Developer Platforms; Development Environments; Quality Assurance; "
        "Source Code Management; Other (Developer Tools)"
    ),
    "Identity": "Identity and Access Management; Other (Identity)",
    "Integration": "API Management; Messaging; Workflow Orchestration; Other (Integration)",
    "Internet of Things": "IoT Analytics; IoT Platforms; Other (Internet of Things)",
    "Management and Governance": (
        "Architecture; Compliance; Cost Management; Data Governance; Disaster Recovery; Endpoint Management; Observability; "
        "Support; Other (Management and Governance)"
    ),
    "Media": "Content Creation; Gaming; Media Streaming; Mixed Reality; Other (Media)",
    "Migration": "Data Migration; Resource Migration; Other (Migration)",
    "Mobile": "Other (Mobile)",
    "Multicloud": "Multicloud Integration; Other (Multicloud)",
    "Networking": (
        "Application Networking; Content Delivery; Network Connectivity; Network Infrastructure; Network Routing; Network Security; "
        "Other (Networking)"
    ),
    "Other": "Other (Other)",
    "Security": "Secret Management; Security Posture Management; Threat Detection and Response; Other (Security)",
    "Storage": "Backup Storage; Block Storage; File Storage; Object Storage; Storage Platforms; Other (Storage)",
    "Web": "Application Platforms; Other (Web)",
}
ENUMERATIONS = {
    "ChargeCategory": "Usage; Purchase; Tax; Credit; Adjustment",
    "ChargeClass": "Correction",
    "ChargeFrequency": "One-Time; Recurring; Usage-Based",
    "PricingCategory": "Standard; Dynamic; Committed; Other",
    "CommitmentDiscountCategory": "Spend; Usage",
    "CommitmentDiscountStatus": "Used; Unused",
    "CapacityReservationStatus": "Used; Unused",
    "InvoiceIssueStatus": "Open; Issued; Voided",
    "BillingPeriodStatus": "Open; Closed",
    "ServiceCategory": "; ".join(SERVICES),
    "ServiceSubcategory": "; ".join(SERVICES.values()),
}
TYPES = {"numeric": "numeric", "text": "text", "time": "timestamp with time zone", "json": "jsonb"}


def columns(listed, edition=None):
    """(name, type, required) of a list; with `edition` 0 (1.2) or 1 (1.4) those that are in it."""
    rows = [line.split() for line in listed.splitlines() if line.strip()]
    return [(row[0], TYPES[row[2]], len(row) > 3) for row in rows if edition is None or row[1][edition] != "-"]


VIEWS = {
    "focus_1_2": columns(COST_AND_USAGE, 0),
    "focus_1_4": columns(COST_AND_USAGE, 1),
    "focus_invoice_detail": columns(INVOICE_DETAIL),
    "focus_billing_period": columns(BILLING_PERIOD),
}


def domain_of(column):
    """BillingPeriodStatus -> focus_billing_period_status."""
    return "focus" + "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in column)


@pytest.fixture
def books(engine):
    return Books(engine)


@pytest.fixture
def showcase(books):
    """The invoices and the preview of the showcase, with what is needed of its inventory."""
    account = showcase_account()
    books.inventory("project", *(Resource(provider_id=one["id"], name=one["name"]) for one in account.projects))
    books.inventory("droplet", *(KINDS["droplet"].read(one) for one in account.droplets))
    for invoice in account.invoices:
        month = datetime.fromisoformat(f"{invoice.period}-01").date()
        books.record(
            billing.InvoiceHeader(
                invoice_uuid=invoice.uuid, invoice_id=invoice.invoice_id, period=month, amount=Decimal(invoice.amount), issued_at=None
            )
        )
        books.ingest(invoice.uuid, invoice.items)
    preview = billing.read_preview(account.preview.listing())
    billing.ingest_preview(books.engine, books.id, preview, as_json(*account.preview.items))
    return books


def line(books, **fields):
    """The FOCUS row of an invoice of this one line, as a mapping."""
    books.invoice(item(**{"description": "web (s-1vcpu-1gb)"} | fields))
    return rows(books, "focus_1_4")[-1]


def rows(books, view):
    order = 'order by length("InvoiceId"), "InvoiceId", "x_InvoiceLine"' if view != "focus_billing_period" else ""
    return [row._mapping for row in books.rows(f"select * from arcadia.{view} {order}")]


# Columns


def test_as_many_columns_as_the_specification_has():
    assert [len(VIEWS[view]) for view in VIEWS] == [57, 65, 22, 6]


@pytest.mark.parametrize("view", VIEWS)
def test_every_column_is_there_in_order_with_its_type_and_a_comment_and_our_own_begin_with_x(books, view):
    found = books.rows(
        "select attname, format_type(coalesce(nullif(typbasetype, 0), atttypid), null) as type, typname,"
        " col_description(attrelid, attnum) as words"
        f" from pg_attribute join pg_type on pg_type.oid = atttypid where attrelid = 'arcadia.{view}'::regclass order by attnum"
    )
    expected = VIEWS[view]
    assert [(row.attname, row.type) for row in found[: len(expected)]] == [(name, type_) for name, type_, _ in expected]
    assert all(row.attname.startswith("x_") for row in found[len(expected) :])
    assert [row.attname for row in found if not row.words] == []
    for row in found:
        assert row.typname == (domain_of(row.attname) if row.attname in ENUMERATIONS else row.typname)


@pytest.mark.parametrize("view", VIEWS)
def test_what_may_not_be_null_is_not(showcase, view):
    found = rows(showcase, view)
    assert found
    assert [(name, row) for row in found for name, _, required in VIEWS[view] if required and row[name] is None] == []


# Values


def test_the_database_takes_the_values_of_the_specification_and_no_others(engine):
    def cast(column, value):
        with engine.connect() as conn:
            return conn.scalar(text(f"select cast(:value as arcadia.{domain_of(column)})"), {"value": value})

    required = {name for view in VIEWS.values() for name, _, required in view if required}
    for column, values in ENUMERATIONS.items():
        allowed = values.split("; ")
        assert [cast(column, value) for value in allowed] == allowed
        for wrong in ("", allowed[0].lower(), f"{allowed[0]} ", "Something else"):
            with pytest.raises(DBAPIError, match="violates check constraint"):
                cast(column, wrong)
        if column in required:
            with pytest.raises(DBAPIError, match="does not allow null values"):
                cast(column, None)
        else:
            assert cast(column, None) is None


def test_a_row_with_a_wrong_value_is_an_error(books):
    books.invoice(item("web (s)", rid=1))
    with books.engine.connect() as conn:
        definition = conn.scalar(text("select pg_get_viewdef('arcadia.focus_services'::regclass)"))
        conn.execute(text("create or replace view arcadia.focus_services as " + definition.replace("'Compute'", "'Computing'")))
        with pytest.raises(DBAPIError, match="focus_service_category_check"):
            conn.execute(text("select * from arcadia.focus_1_2"))


def test_each_subcategory_is_of_its_category(books):
    for row in books.rows("select * from arcadia.focus_services"):
        assert row.service_subcategory in SERVICES[row.service_category].split("; "), row


def test_every_kind_that_is_billed_has_its_service_type_and_urn(books):
    services = {row.service: row for row in books.rows("select * from arcadia.focus_services")}
    for kind in {wording.kind for wording in _WORDINGS if wording.charge is Charge.RESOURCE} | {"load_balancer"}:
        assert services[kind].resource_type
        assert parse_urn(f"do:{services[kind].urn_name}:7") == (kind, "7")


def test_a_service_is_called_as_no_unknown_product_can_be(books):
    for (name,) in books.rows("select service_name from arcadia.focus_services"):
        assert meaning_of(name, "", "", is_negative=False, has_id=False).charge is not Charge.UNKNOWN, name
    assert books.rows("select service_name from arcadia.focus_services group by 1 having count(*) > 1") == []


# Lines and money


@pytest.mark.parametrize("view", ["focus_1_2", "focus_1_4", "focus_invoice_detail"])
def test_every_line_of_a_closed_invoice_is_there_once_and_nothing_of_previews(showcase, view):
    lines = "select invoice_uuid, ordinal, amount_usd from arcadia.cloud_cost_lines where invoice_uuid {} like 'preview:%' order by 1, 2"
    assert showcase.rows(f'select "InvoiceId", "x_InvoiceLine", "BilledCost" from arcadia.{view} order by 1, 2') == showcase.rows(
        lines.format("not")
    )
    assert showcase.rows(lines.format(""))


@pytest.mark.parametrize("view", ["focus_1_2", "focus_1_4", "focus_invoice_detail"])
def test_the_lines_of_each_invoice_add_up_to_it_to_the_cent(showcase, view):
    sums = showcase.rows(f'select "InvoiceId", sum("BilledCost") from arcadia.{view} group by 1 order by 1')
    assert sums == showcase.rows("select invoice_uuid, amount from arcadia.cloud_invoices where status <> 'preview' order by 1")


def test_invoice_details_join_the_lines_of_cost_and_usage_one_to_one(showcase):
    ((joined, lines, keys),) = showcase.rows(
        'select count(*), (select count(*) from arcadia.focus_1_4), count(distinct "InvoiceDetailId") from arcadia.focus_1_4'
        ' join arcadia.focus_invoice_detail using ("InvoiceIssuerName", "InvoiceId", "InvoiceDetailId", "BilledCost")'
    )
    assert joined == lines == keys


def test_an_invoice_that_does_not_add_up_is_shown_as_such_and_its_lines_stay_as_they_are(books):
    books.invoice(item("web (s)", rid=1, amount="1.00"), amount="1.10")
    books.invoice(item("web (s)", rid=1, amount="1.00"))
    assert [(row["BilledCost"], row["x_ResidualFlag"]) for row in rows(books, "focus_1_2")] == [(1, True), (1, False)]


def test_the_same_cost_in_every_column_and_no_invented_price(showcase):
    for row in rows(showcase, "focus_1_2"):
        assert row["BilledCost"] == row["EffectiveCost"] == row["ListCost"] == row["ContractedCost"] == row["PricingCurrencyEffectiveCost"]
        assert [name for name in row if "UnitPrice" in name and row[name] is not None] == []


# What goes with what


def test_the_specifications_rules_on_nulls_hold_for_every_line(showcase):
    found = rows(showcase, "focus_1_4")
    assert {row["ChargeCategory"] for row in found} == {"Usage", "Tax", "Credit"}
    for row in found:
        usage = row["ChargeCategory"] == "Usage"
        for column in ("PricingQuantity", "PricingUnit", "ConsumedQuantity", "ConsumedUnit", "PricingCategory"):
            assert (row[column] is not None) is usage, (column, row)
        assert (row["RegionId"] is None) is (row["RegionName"] is None)
        assert (row["SubAccountId"] is None) is (row["SubAccountName"] is None) is (row["SubAccountType"] is None)
        assert (row["ResourceId"] is None) is (row["ResourceType"] is None) is (row["x_MatchStatus"] != "matched")
        assert row["ResourceName"] is None or row["ResourceId"]
        assert row["ChargePeriodStart"] < row["ChargePeriodEnd"]
        assert row["BillingPeriodStart"] < row["BillingPeriodEnd"]
        assert (row["x_MatchReason"] is None) is (row["x_MatchStatus"] == "matched")


def test_a_tax_row(books):
    row = line(books, description="VAT (8.10%)", product="Taxes", amount="0.40")
    assert [row[name] for name in ("ChargeCategory", "ChargeFrequency", "ServiceName", "ServiceCategory")] == [
        "Tax",
        "One-Time",
        "Taxes",
        "Other",
    ]
    assert row["x_MatchStatus"] == "tax"


CHARGES = [
    ({}, "Usage", "Usage-Based", "Droplets"),
    ({"description": "web (Weekly Backup Services)", "product": "Droplet Backups"}, "Usage", "Usage-Based", "Droplet Backups"),
    (
        {"description": "Spaces ($5/mo 250GiB storage & 1TiB transfer)", "product": "Spaces Subscription"},
        "Usage",
        "Recurring",
        "Spaces",
    ),
    (
        {"description": "Container Registry Storage Overage", "product": "Container Registry Subscription"},
        "Usage",
        "Usage-Based",
        "Container Registry Subscription",
    ),
    ({"description": "Droplet Bandwidth Overage (9GB @ $0.01/GB)", "product": ""}, "Usage", "Usage-Based", "Bandwidth Overages"),
    ({"description": "Llama", "product": "GenAI Platform", "group": "Serverless Inference"}, "Usage", "Usage-Based", "GenAI Platform"),
    ({"description": "1 additional check", "product": "Uptime Health Check"}, "Usage", "Usage-Based", "Uptime"),
    ({"description": "Business", "product": "Premium Support Plan"}, "Usage", "Recurring", "Support"),
    (
        {"description": "pg", "product": "Database Clusters", "group": "pg", "amount": "-1.20"},
        "Usage",
        "Usage-Based",
        "Database Clusters",
    ),
    ({"description": "Trial", "product": "Credits", "amount": "-5.00"}, "Credit", "One-Time", "Credits"),
    ({"description": "Goodwill", "product": "Adjustments", "amount": "-5.00"}, "Adjustment", "One-Time", "Credits"),
    ({"description": "Rounding", "product": "Adjustment", "amount": "0.01"}, "Adjustment", "One-Time", "Adjustment"),
    ({"description": "q-1", "product": "Quantum Computers"}, "Usage", "Usage-Based", "Quantum Computers"),
    ({"description": "", "product": ""}, "Usage", "Usage-Based", "Other"),
]


def test_what_sort_of_charge_and_service(books):
    books.invoice(*(item(**{"description": "web (s-1vcpu-1gb)"} | fields) for fields, *_ in CHARGES))
    for row, (fields, *expected) in zip(rows(books, "focus_1_4"), CHARGES, strict=True):
        assert [row[name] for name in ("ChargeCategory", "ChargeFrequency", "ServiceName")] == expected, fields


QUANTITIES = [
    ({}, 720, "Hours"),
    ({"duration": "0", "amount": "0.13"}, 0, "Hours"),
    ({"duration": "5", "description": "web (Weekly Backup Services)", "product": "Droplet Backups"}, 5, "Backups"),
    ({"duration": "", "description": "Bandwidth Overage (2825.36GB @ $0.01/GB)", "product": "Overages"}, Decimal("2825.36"), "GB"),
    ({"duration": "", "description": "Bandwidth Overage (1.2.3GB @ $0.01/GB)", "product": "Overages"}, 1, "Units"),
    ({"duration": "", "description": f"Bandwidth Overage ({'9' * 200_000}GB @ $0.01/GB)", "product": "Overages"}, 1, "Units"),
    ({"duration": "", "description": "Bandwidth Overage (\u0663GB @ $0.01/GB)", "product": "Overages"}, 1, "Units"),
    ({"duration": "", "description": "Bandwidth Overage ()", "product": "Overages"}, 1, "Units"),
    ({"duration": "3", "duration_unit": "Fortnights"}, 1, "Units"),
]


def test_quantities_are_those_that_the_line_prints(books):
    books.invoice(*(item("web (s)") | fields for fields, *_ in QUANTITIES))
    for row, (fields, *expected) in zip(rows(books, "focus_1_2"), QUANTITIES, strict=True):
        assert [row["PricingQuantity"], row["PricingUnit"]] == [row["ConsumedQuantity"], row["ConsumedUnit"]] == expected, fields


APRIL, MAY = datetime(2026, 4, 1, tzinfo=UTC), datetime(2026, 5, 1, tzinfo=UTC)


PERIODS = [
    (
        "2026-04-03T10:00:00Z",
        "2026-04-10T12:30:10Z",
        (datetime(2026, 4, 3, 10, tzinfo=UTC), datetime(2026, 4, 10, 12, 30, 10, tzinfo=UTC)),
    ),
    ("2026-04-01T00:00:00Z", "2026-05-01T00:00:00Z", (APRIL, MAY)),
    ("2026-04-01T00:00:00Z", "2026-04-30T23:59:59Z", (APRIL, MAY)),
    ("2026-04-01T00:00:00Z", "2026-04-30T23:59:00Z", (APRIL, MAY)),
    ("2026-04-01T00:00:00Z", "2026-04-29T23:59:59Z", (APRIL, datetime(2026, 4, 29, 23, 59, 59, tzinfo=UTC))),
    ("2026-04-05T04:00:00Z", "2026-04-05T04:00:00Z", (datetime(2026, 4, 5, 4, tzinfo=UTC), datetime(2026, 4, 5, 4, 0, 1, tzinfo=UTC))),
    ("2025-12-30T00:00:00Z", "2025-12-31T23:59:59Z", (datetime(2025, 12, 30, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC))),
    ("2026-04-05T04:00:00Z", "", (datetime(2026, 4, 5, 4, tzinfo=UTC), MAY)),
    ("", "", (APRIL, MAY)),
]


@pytest.mark.parametrize("zone", ["UTC", "Pacific/Auckland"])
def test_charge_periods_are_the_lines_with_an_exclusive_end_or_else_the_month(books, zone):
    books.invoice(*(item("web (s)") | {"start_time": start, "end_time": end} for start, end, _ in PERIODS))
    with books.engine.connect() as conn:
        conn.execute(text(f"set local time zone '{zone}'"))
        found = conn.execute(text('select * from arcadia.focus_1_2 order by "x_InvoiceLine"')).mappings().all()
    for row, (start, end, expected) in zip(found, PERIODS, strict=True):
        assert (row["ChargePeriodStart"], row["ChargePeriodEnd"]) == expected, (start, end)
        assert (row["BillingPeriodStart"], row["BillingPeriodEnd"]) == (APRIL, MAY)


# Who and where


def test_the_resource_by_its_urn_with_region_and_tags(books):
    books.inventory("droplet", droplet(1, "web", region="nyc3", tags=("blue", "env:prod")))
    books.inventory("reserved_ip", Resource(provider_id="1.1.1.1", name="1.1.1.1", region="xyz9"))
    books.inventory("snapshot", Resource(provider_id="5", name="old", region="ams3,nyc3"))
    books.invoice(
        item("web (s)", rid=1),
        item("Unused Floating IP - 1.1.1.1", "Floating IPs"),
        item("old (ams3) 1.00GB Droplet Snapshot", "Droplet Snapshots", rid=5),
        item("gone (sfo2) 100GB", "Volumes"),
    )
    names = ("ResourceId", "ResourceName", "ResourceType", "RegionId", "RegionName", "Tags")
    assert [tuple(row[name] for name in names) for row in rows(books, "focus_1_4")] == [
        ("do:droplet:1", "web", "Droplet", "nyc3", "New York 3", {"blue": True, "env:prod": True}),
        ("do:reservedip:1.1.1.1", None, "Reserved IP", "xyz9", "xyz9", None),
        ("do:snapshot:5", "old", "Snapshot", None, None, None),
        (None, None, None, "sfo2", "San Francisco 2", None),
    ]


def test_the_sub_account_is_the_invoiced_project_whatever_it_is_called_now(books):
    books.inventory("project", Resource(provider_id="p1", name="shop"), Resource(provider_id="p2", name="data"))
    books.inventory("project", Resource(provider_id="p1", name="store"), Resource(provider_id="p2", name="data"))
    books.inventory("droplet", droplet(1, "web", own_project_id="p2"))
    books.invoice(*(item("web (s)", rid=1, project=project) for project in ("shop", "store", "data", "unheard-of", "")))
    names = ("SubAccountId", "SubAccountName", "SubAccountType", "x_InvoicedProject")
    assert [tuple(row[name] for name in names) for row in rows(books, "focus_1_4")] == [
        ("p1", "shop", "Project", "shop"),
        ("p1", "store", "Project", "store"),
        ("p2", "data", "Project", "data"),
        (None, None, None, "unheard-of"),
        (None, None, None, None),
    ]


def test_of_two_projects_of_one_name_the_one_that_the_resource_is_in_or_none(books):
    books.inventory("project", Resource(provider_id="p1", name="shop"), Resource(provider_id="p2", name="shop"))
    books.inventory("droplet", droplet(1, "web"), droplet(2, "db"))
    with books.engine.begin() as conn:
        conn.execute(
            text(
                "update arcadia.resources r set cloud_project_id = p.resource_id from arcadia.resources p"
                " where r.kind = 'droplet' and r.provider_id = '1' and p.kind = 'project' and p.provider_id = 'p2'"
            )
        )
    books.invoice(item("web (s)", rid=1, project="shop"), item("db (s)", rid=2, project="shop"))
    assert [row["SubAccountId"] for row in rows(books, "focus_1_4")] == ["p2", None]


def test_an_imported_file_has_an_account_and_no_residual(engine):
    account_id = account_for_import(engine, "My Team")
    billing.import_csv(engine, account_id, io.BytesIO(as_csv(item("web (s)"))))
    with engine.connect() as conn:
        row = conn.execute(text("select * from arcadia.focus_1_2")).one()._mapping
    names = ("BillingAccountId", "BillingAccountName", "x_InvoiceNumber", "x_ResidualFlag")
    assert tuple(row[name] for name in names) == ("import:My Team", "My Team", None, None)


# Invoices and months


def test_a_changed_match_is_an_update_of_the_invoice_detail(books):
    books.invoice(item("web (s)"))
    (before,) = rows(books, "focus_invoice_detail")
    assert "ResourceId" not in before["InvoiceDetailGrain"]
    assert before["InvoiceDetailCreated"] == before["InvoiceDetailLastUpdated"]
    with books.engine.begin() as conn:
        conn.execute(text("update arcadia.cloud_invoices set ingested_at = ingested_at - interval '1 day'"))
    books.inventory("droplet", droplet(1, "web"))
    rematch(books.engine, books.id)
    (after,) = rows(books, "focus_invoice_detail")
    assert after["InvoiceDetailGrain"]["ResourceId"] == "do:droplet:1"
    assert after["InvoiceDetailCreated"] < after["InvoiceDetailLastUpdated"]


def test_a_month_is_open_until_it_is_over_and_all_its_invoices_are_in(books):
    def status():
        return [row["BillingPeriodStatus"] for row in rows(books, "focus_billing_period")]

    assert status() == []
    header = {"invoice_id": None, "period": APRIL.date(), "amount": Decimal(1)}
    books.record(billing.InvoiceHeader(invoice_uuid="first", **header), billing.InvoiceHeader(invoice_uuid="second", **header))
    assert status() == []
    books.ingest("first", [item("web (s)", rid=1)])
    assert status() == ["Open"]
    books.ingest("second", [item("web (s)", rid=1)])
    assert status() == ["Closed"]
    with books.engine.begin() as conn:
        conn.execute(text("update arcadia.cloud_invoices set period = date_trunc('month', now()) where invoice_uuid = 'first'"))
    assert sorted(status()) == ["Closed", "Open"]


def test_a_month_that_is_previewed_is_open(showcase):
    def status():
        return {row["BillingPeriodStart"].month: row["BillingPeriodStatus"] for row in rows(showcase, "focus_billing_period")}

    assert status() == dict.fromkeys((1, 2, 3, 4), "Closed")  # nothing of May, which has a preview only
    uuid = "mid-month"
    header = billing.InvoiceHeader(
        invoice_uuid=uuid, invoice_id=None, period=MAY.date(), amount=Decimal(1), issued_at=datetime(2026, 5, 9, tzinfo=UTC)
    )
    showcase.record(header)
    showcase.ingest(uuid, [item("web (s)", rid=1, start="2026-05-01", end="2026-05-09")])
    assert status() == dict.fromkeys((1, 2, 3, 4), "Closed") | {5: "Open"}
