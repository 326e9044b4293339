"""The tables of schema `arcadia`: the single truth of what the ledger holds. A test holds the migrations against this module.

Other people's programs read `cloud_accounts`, `cloud_sync_runs`, `cloud_resource_events`, `cloud_balance_snapshots`, `cloud_invoices` and
`cloud_cost_lines` here, and the views of `views/`: `cloud_resources`, `cloud_projects`, `matched_cost_lines` and `month_to_date_lines`. No
queries here.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Date,
    DateTime,
    Float,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Numeric,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, DOMAIN, JSONB

SCHEMA = "arcadia"

metadata = MetaData(
    schema=SCHEMA,
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "fk": "%(table_name)s_%(column_0_N_name)s_fkey",
        "ck": "%(table_name)s_%(constraint_name)s_check",
        "ix": "%(table_name)s_%(column_0_N_name)s_idx",
    },
)

_time = DateTime(timezone=True)
_account = "arcadia.cloud_accounts.account_id"
_resource = "arcadia.resources.resource_id"


def _id(name: str) -> Column[int]:
    return Column(name, BigInteger, Identity(always=True), primary_key=True)


cloud_accounts = Table(
    "cloud_accounts",
    metadata,
    _id("account_id"),
    Column("provider", Text, nullable=False, server_default=text("'digitalocean'")),
    Column("team_uuid", Text, comment="The team that /v2/account reports; NULL: known from imported invoices only"),
    Column("name", Text, nullable=False, comment="The team's name, or the name given to an import"),
    UniqueConstraint("provider", "team_uuid"),
    comment="One DigitalOcean team each. Every other row belongs to one",
)

# Imports name their account; two of that name would make every later import ambiguous.
Index(
    "cloud_accounts_imported_name_key",
    cloud_accounts.c.name,
    unique=True,
    postgresql_where=cloud_accounts.c.team_uuid.is_(None),
)

cloud_sync_runs = Table(
    "cloud_sync_runs",
    metadata,
    _id("sync_run_id"),
    Column("account_id", BigInteger, ForeignKey(_account), nullable=False),
    Column("kind", Text, nullable=False),
    Column("dagster_run_id", Text),
    Column("started_at", _time, nullable=False, comment="Before the first request, by the database's clock"),
    Column("finished_at", _time, comment="NULL: still running, or killed"),
    Column("complete", Boolean, comment="Every page was read without error and held as many items as the provider said"),
    Column("seen", Integer),
    Column("discovered", Integer),
    Column("updated", Integer, comment="Changed in a field that means something"),
    Column("restored", Integer),
    Column("struck", Integer, comment="Missing from this listing, not yet given up"),
    Column("deleted", Integer, comment="Missing for the third time in a row, tombstoned"),
    Column("requests", Integer),
    Column("error", Text),
    Index(None, "account_id", "kind", "started_at"),
    comment="The proof of a listing: one row for each attempt to read one kind of one account",
)

listings = Table(
    "listings",
    metadata,
    Column("account_id", BigInteger, ForeignKey(_account), primary_key=True),
    Column("kind", Text, primary_key=True),
    Column("started_at", _time, nullable=False),
    Column("rematched_at", _time, comment="The started_at that the account's lines were last matched against"),
    Column("revision", BigInteger, nullable=False, server_default=text("0"), comment="Counts what has been recorded of the kind since"),
    comment="The newest complete listing of each kind: what it did not report missing was seen at that time",
)

resources = Table(
    "resources",
    metadata,
    _id("resource_id"),
    Column("account_id", BigInteger, ForeignKey(_account), nullable=False),
    Column("kind", Text, nullable=False),
    Column("provider_id", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("name_key", Text, nullable=False, comment="The name as names are compared: case-folded, white space collapsed"),
    Column(
        "name_seen_from",
        _time,
        comment="When its old name was last seen; NULL: its first name, borne since its creation as far as is known",
    ),
    Column("region", Text),
    Column("status", Text),
    Column("tags", ARRAY(Text), nullable=False, server_default=text("'{}'")),
    Column("attrs", JSONB, nullable=False, server_default=text("'{}'"), comment="Allow-listed fields of the provider's object"),
    Column("monthly_price", Numeric, comment="USD a month at list price, where the provider says one"),
    Column("own_project_id", Text, comment="The project id that the object itself carries"),
    Column("parent_kind", Text),
    Column("parent_provider_id", Text, comment="What a snapshot or backup was taken of"),
    Column("cloud_project_id", BigInteger, ForeignKey(_resource)),
    Column(
        "tenant_id", Text, comment="Whose it is: by a rule of the tenants' file, else the project's. On a project: the operator's to set"
    ),
    Column("tenant_given", Text, comment="On a project: what the tenants' file gave. Where tenant_id is another, the operator set it"),
    Column("attribution_source", Text, comment="membership, own_project_id, inherited or fallback"),
    Column("provider_created_at", _time),
    Column("first_seen_at", _time, nullable=False),
    Column("last_seen_at", _time, nullable=False, comment="When this row was last written as seen; the views know better"),
    Column("stale_strike_count", Integer, nullable=False, server_default=text("0")),
    Column("last_struck_at", _time),
    Column("deleted_at", _time, comment="Tombstone: given up after the third complete listing without it"),
    Column(
        "billing_only",
        Boolean,
        nullable=False,
        server_default=text("false"),
        comment="Known from invoices alone: gone before the first listing",
    ),
    Column("fingerprint", LargeBinary, comment="Digest of everything the provider said that means something"),
    Column(
        "item_digest",
        LargeBinary,
        comment="Of the item's bytes as they came, and of the code that read them: one that looks the same need not be read again",
    ),
    UniqueConstraint("account_id", "kind", "provider_id"),
    # What has been given up is many times what there is. A listing that changes nothing reads no row, only this.
    Index(
        "resources_active_idx",
        "account_id",
        "kind",
        postgresql_where=text("deleted_at is null"),
        postgresql_include=["provider_id", "item_digest", "stale_strike_count"],
    ),
    Index(None, "name_key"),
    Index("resources_project_name_idx", "name", postgresql_where=text("kind = 'project'")),  # an invoice says no more of a project
    # Each page and each mart looks up the projects of its rows.
    Index("resources_projects_idx", "resource_id", postgresql_where=text("kind = 'project'")),
    CheckConstraint("stale_strike_count between 0 and 3", name="strikes"),
    CheckConstraint("attribution_source in ('membership', 'own_project_id', 'inherited', 'fallback')", name="attribution_source"),
    CheckConstraint("not billing_only or deleted_at is not null", name="billing_only_is_gone"),
    comment="Everything the account has or had, projects included; read it through cloud_resources and cloud_projects",
)

item_lookalikes = Table(
    "item_lookalikes",
    metadata,
    # No foreign key: resources are never deleted, and to look each up again costs as much as to write the row. So in the next two tables.
    Column("resource_id", BigInteger, primary_key=True, autoincrement=False),
    Column("item_digest", LargeBinary, nullable=False, comment="Like the one in resources"),
    Column("fingerprint", LargeBinary, nullable=False, comment="What it reads as; where the resource has another, the digest is void"),
    comment="The last item of a resource that looked otherwise than what its row was written from, and read the same",
)

other_names = Table(
    "other_names",
    metadata,
    Column("resource_id", BigInteger, primary_key=True, autoincrement=False),
    Column("name_key", Text, primary_key=True, comment="Like the one in resources"),
    Column("name", Text, nullable=False),
    Column("seen_from", _time, comment="Like name_seen_from in resources"),
    Column("seen_until", _time, comment="When another name was first seen; NULL: one of several that invoices give it"),
    Index(None, "name_key"),
    Index(None, "name"),
    comment="Every name a resource ever had, beside the one in resources; read all through resources_by_name",
)

rematch_queue = Table(
    "rematch_queue",
    metadata,
    Column("resource_id", BigInteger, primary_key=True, autoincrement=False),
    Column("account_id", BigInteger, nullable=False, index=True),
    comment="Resources that matching has not yet seen as they are now. Filled by a trigger on resources, emptied by matching",
)

project_memberships = Table(
    "project_memberships",
    metadata,
    Column("account_id", BigInteger, ForeignKey(_account), primary_key=True),
    Column("kind", Text, primary_key=True),
    Column("provider_id", Text, primary_key=True),
    Column("project_id", Text, nullable=False, comment="The provider's id of the project"),
    comment="What the newest complete walk of all projects found in them",
)

cloud_resource_events = Table(
    "cloud_resource_events",
    metadata,
    _id("event_id"),
    Column("resource_id", BigInteger, nullable=False, index=True),
    Column("account_id", BigInteger, nullable=False),
    Column("sync_run_id", BigInteger),
    Column("event", Text, nullable=False),
    Column("changes", JSONB, nullable=False, server_default=text("'{}'"), comment="field -> {before, after}"),
    Column("occurred_at", _time, nullable=False, comment="When the listing that showed it was begun"),
    CheckConstraint("event in ('discovered', 'updated', 'tagged', 'drift_detected', 'deleted', 'restored')", name="event"),
    # Rows are appended as time goes on: a summary of each stretch of the table is as good as an entry for each row.
    Index(None, "occurred_at", postgresql_using="brin"),
    # A sync run that discovered something says so itself.
    Index(None, "sync_run_id", postgresql_where=text("event <> 'discovered'")),
    Index("cloud_resource_events_resized_idx", "resource_id", postgresql_where=text("changes ? 'size_slug'")),
    comment="What happened to resources. Append-only",
)

cloud_balance_snapshots = Table(
    "cloud_balance_snapshots",
    metadata,
    _id("balance_snapshot_id"),
    Column("account_id", BigInteger, ForeignKey(_account), nullable=False),
    Column("month_to_date_balance", Numeric, comment="USD: account_balance and month_to_date_usage together"),
    Column("account_balance", Numeric, comment="USD, without this month's usage"),
    Column("month_to_date_usage", Numeric, comment="USD"),
    Column("generated_at", _time, comment="When the provider worked the figures out"),
    Column("taken_at", _time, nullable=False),
    Index(None, "account_id", "taken_at"),
    comment="The account's balance over time",
)

cloud_invoices = Table(
    "cloud_invoices",
    metadata,
    Column("invoice_uuid", Text, primary_key=True),
    Column("account_id", BigInteger, ForeignKey(_account), nullable=False),
    Column("invoice_id", Text, comment="The number on its face"),
    Column("period", Date, nullable=False, comment="First day of the month it bills; a month can have several invoices"),
    Column("amount", Numeric, comment="USD as the provider states it; NULL for an imported file, which does not say"),
    Column("issued_at", _time),
    Column("status", Text, nullable=False, server_default=text("'pending'")),
    Column("covers_until", _time, comment="Of a preview: the moment up to which it bills. NULL: the whole month"),
    Column("tried_at", _time, comment="When it was last read, with or without success"),
    Column("ingested_at", _time),
    Column("line_count", Integer),
    Column("line_total", Numeric, comment="USD: the lines added up"),
    Column("residual", Numeric, comment="USD: amount less line_total. Anything but 0 is money that no line explains"),
    Column("discrepancy", Text, comment="Where the JSON items and the CSV document disagree"),
    Column("error", Text),
    Column("items_document", LargeBinary, comment="The JSON items as received, one array"),
    Column("items_sha256", Text),
    Column("csv_document", LargeBinary, comment="The CSV as received"),
    Column("csv_sha256", Text),
    Column("lines_sha256", Text, comment="Of the lines as parsed: the same again are not written again"),
    Column("lines_end_at", _time, comment="When the last of its lines ends"),
    Index(None, "account_id", "csv_sha256"),
    CheckConstraint("status in ('pending', 'ingested', 'failed', 'preview')", name="status"),
    CheckConstraint("status <> 'failed' or error is not null", name="failure_says_why"),
    Index(None, "account_id", "period"),
    comment="Every invoice, its documents, and how its lines add up; status preview: the month to date, until its invoice is made",
)

cloud_cost_lines = Table(
    "cloud_cost_lines",
    metadata,
    _id("line_id"),
    Column("invoice_uuid", Text, ForeignKey("arcadia.cloud_invoices.invoice_uuid", ondelete="CASCADE"), nullable=False),
    Column("ordinal", Integer, nullable=False, comment="Place on the invoice, from 1. Content is no key: lines can be alike"),
    Column("account_id", BigInteger, ForeignKey(_account), nullable=False),
    Column("product", Text, nullable=False),
    Column("group_description", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("hours", Numeric, comment="As printed. On backup lines it is the number of backups"),
    Column("started_at", _time),
    Column("ended_at", _time),
    Column("amount_usd", Numeric, nullable=False),
    Column("project_name", Text, nullable=False, comment="As invoiced; projects are renamed and resources moved"),
    Column("category", Text, nullable=False),
    Column("kind", Text, comment="Of what the line pays for; account, tax or credit where that is no resource"),
    Column("look_up", Text, comment="How parsed_name leads to the resource: name, parent, group or ip"),
    Column("parsed_name", Text),
    Column("name_key", Text, comment="parsed_name, case-folded, white space collapsed"),
    Column("parsed_region", Text),
    Column("parsed_size", Text),
    Column("component", Text, comment="Part of a grouped product, such as a node pool"),
    Column("provider_resource_id", Text),
    Column("provider_resource_uuid", Text),
    # No foreign key: resources are never deleted, and to look up a million of them again costs half as much as to match them.
    Column("resource_id", BigInteger),
    Column("match_status", Text, nullable=False),
    Column("match_method", Text, comment="id, name, parent, group or ip"),
    Column("match_detail", JSONB, comment="reason; candidates of an ambiguous line"),
    UniqueConstraint("invoice_uuid", "ordinal"),
    CheckConstraint("match_status in ('matched', 'account_level', 'tax', 'credit', 'ambiguous', 'unmatched')", name="match_status"),
    CheckConstraint(
        "case when match_status = 'matched' then resource_id is not null and match_method is not null"
        " else resource_id is null and match_method is null and coalesce(match_detail ->> 'reason', '') <> '' end",
        name="explained",
    ),
    CheckConstraint("match_status <> 'ambiguous' or match_detail ? 'candidates'", name="ambiguous_names_candidates"),
    comment="Every line of every invoice, and the resource it pays for; previews included, which matched_cost_lines leaves out",
)
Index("cloud_cost_lines_resource_id_idx", cloud_cost_lines.c.resource_id)
# What wants a person's eye is a small part of years of lines.
Index("cloud_cost_lines_open_idx", cloud_cost_lines.c.invoice_uuid, postgresql_where=text("match_status in ('ambiguous', 'unmatched')"))
# Lines that only their text can match: what inventory learns may change them.
BY_NAME = "look_up in ('name', 'parent', 'group') and provider_resource_id is null and provider_resource_uuid is null"
# The name first: what all lines have in common would be compared again and again for every new one.
Index("cloud_cost_lines_by_name_idx", cloud_cost_lines.c.name_key, cloud_cost_lines.c.account_id, postgresql_where=text(BY_NAME))
# The load balancer of a Kubernetes Service is billed to the cluster; the name on the line is the load balancer's own.
OF_SERVICE = "component like 'load balancer a%'"
Index("cloud_cost_lines_of_service_idx", cloud_cost_lines.c.account_id, cloud_cost_lines.c.component, postgresql_where=text(OF_SERVICE))

cloud_match_events = Table(
    "cloud_match_events",
    metadata,
    _id("event_id"),
    Column("account_id", BigInteger, ForeignKey(_account), nullable=False),
    Column("invoice_uuid", Text, nullable=False, comment="With ordinal: the line. No foreign key, as events outlive what they tell of"),
    Column("ordinal", Integer, nullable=False),
    Column("changes", JSONB, nullable=False, comment="match_status, match_method, resource_id, match_detail -> {before, after}"),
    Column("occurred_at", _time, nullable=False),
    Index(None, "invoice_uuid", "ordinal"),
    comment="Each change of what a line is matched to. Append-only; a line's first match is no change, and previews leave none",
)

cloud_tenants = Table(
    "cloud_tenants",
    metadata,
    Column("tenant_id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("is_fallback", Boolean, nullable=False, comment="Has what no rule gives to another"),
    Column("role_name", Text, nullable=False, comment="Members of this role of the database see what is the tenant's, and nothing else"),
    comment="The tenants that the tenants' file declares",
)
Index("cloud_tenants_fallback_key", cloud_tenants.c.is_fallback, unique=True, postgresql_where=cloud_tenants.c.is_fallback)

tenant_rules = Table(
    "tenant_rules",
    metadata,
    Column("place", Integer, primary_key=True, autoincrement=False, comment="In the tenants' file: the first rule that fits counts"),
    Column("tenant_id", Text, ForeignKey("arcadia.cloud_tenants.tenant_id"), nullable=False),
    Column("project", Text, comment="Name or provider's id of a project"),
    Column("tag", Text, comment="A tag of the resource"),
    Column("name", Text, comment="A glob (* and ?) that the resource's name fits, case ignored"),
    Column("kind", Text, comment="With tag or name: the resource's kind. NULL: any"),
    CheckConstraint("num_nonnulls(project, tag, name) = 1 and (kind is null or project is null)", name="selector"),
    comment="What belongs to whom, as the tenants' file says",
)

cloud_tenant_events = Table(
    "cloud_tenant_events",
    metadata,
    _id("event_id"),
    Column("tenant_id", Text, nullable=False),
    Column("event", Text, nullable=False),
    Column("changes", JSONB, nullable=False, comment="name, is_fallback, rules -> {before, after}"),
    Column("occurred_at", _time, nullable=False),
    CheckConstraint("event in ('declared', 'changed', 'withdrawn')", name="event"),
    comment="What happened to tenants. Append-only; no foreign key, as events outlive what they tell of",
)

configured_accounts = Table(
    "configured_accounts",
    metadata,
    Column("name", Text, primary_key=True, comment="As the accounts' file names it"),
    Column("purpose", Text, primary_key=True, comment="Of the token: inventory or billing"),
    Column("account_id", BigInteger, ForeignKey(_account), comment="The account that the token led to last; NULL: to none yet"),
    Column("former_account_id", BigInteger, ForeignKey(_account), comment="The other one that the name led to before"),
    Column("changed_at", _time, comment="Since when it leads to another"),
    Column("tried_at", _time, nullable=False, comment="When the token was last used"),
    Column("error", Text, comment="Why it led nowhere then; NULL: it did lead to the account"),
    CheckConstraint("purpose in ('inventory', 'billing')", name="purpose"),
    comment="Where the tokens of the accounts' file lead to. Empty where it does not name several",
)

request_budgets = Table(
    "request_budgets",
    metadata,
    Column("token_digest", LargeBinary, primary_key=True, comment="SHA-256 of the token"),
    Column("hourly_limit", Integer, comment="Requests an hour, as the provider said last; NULL: it has not"),
    Column("others", Integer, nullable=False, server_default=text("0"), comment="Requests of the hour that other programs made"),
    Column("others_until", _time, comment="When the provider forgets the oldest request of the hour"),
    Column("not_before", _time, comment="When the provider will be asked again, after it asked to wait"),
    Column("reason", Text, comment="Why it is not asked before"),
    comment="What the provider said of the requests that each token may make. Its row is locked while a request is counted",
)

request_counts = Table(
    "request_counts",
    metadata,
    Column("token_digest", LargeBinary, primary_key=True),
    Column("prefix", Text, primary_key=True, comment="Of the paths that the limit is for; empty: all"),
    Column("seconds", Float, primary_key=True, comment="The period of the limit"),
    Column("counted_until", _time, primary_key=True, comment="A whole period after the end of the sixtieth that they were sent in"),
    Column("requests", Integer, nullable=False),
    comment="The requests that count against the limits of a token now, made by all programs of this ledger",
)

schema_views = Table(
    "schema_views",
    metadata,
    Column("digest", Text, primary_key=True, comment="Of the view definitions that are in place"),
    comment="Which edition of the views this schema has",
)

api_keys = Table(
    "api_keys",
    metadata,
    _id("key_id"),
    Column("name", Text, nullable=False, comment="Who uses it, as its maker says"),
    Column("digest", LargeBinary, nullable=False, unique=True, comment="SHA-256 of the key, which itself is kept nowhere"),
    Column("role_name", Text, nullable=False, comment="The database's role under which its requests are answered"),
    Column("tenant_id", Text, comment="NULL: an admin's"),
    Column("created_at", _time, nullable=False),
    Column("revoked_at", _time, comment="NULL: it is valid"),
    CheckConstraint(
        "role_name = case when tenant_id is null then 'arcadia_admin' else 'arcadia_tenant_' || tenant_id end", name="role_name"
    ),
    comment="Keys of the read API. For the owner of the schema alone",
)

# What FOCUS allows in its columns of fixed values (https://focus.finops.org/focus-specification/), as domains that the views focus_* cast
# to: a row with any other value is an error, not a row.
_SERVICES = {
    "AI and Machine Learning": (
        "AI Platforms|Bots|Generative AI|Machine Learning|Natural Language Processing|Other (AI and Machine Learning)"
    ),
    "Analytics": "Analytics Platforms|Business Intelligence|Data Processing|Search|Streaming Analytics|Other (Analytics)",
    "Business Applications": "Productivity and Collaboration|Other (Business Applications)",
    "Compute": "Containers|End User Computing|Quantum Compute|Serverless Compute|Virtual Machines|Other (Compute)",
    "Databases": "Caching|Data Warehouses|Ledger Databases|NoSQL Databases|Relational Databases|Time Series Databases|Other (Databases)",
    "Developer Tools": (
        "Continuous Integration and Deployment|Developer Platforms|Development Environments|Quality Assurance|"
        "Source Code Management|Other (Developer Tools)"
    ),
    "Identity": "Identity and Access Management|Other (Identity)",
    "Integration": "API Management|Messaging|Workflow Orchestration|Other (Integration)",
    "Internet of Things": "IoT Analytics|IoT Platforms|Other (Internet of Things)",
    "Management and Governance": (
        "Architecture|Compliance|Cost Management|Data Governance|Disaster Recovery|Endpoint Management|Observability|"
        "Support|Other (Management and Governance)"
    ),
    "Media": "Content Creation|Gaming|Media Streaming|Mixed Reality|Other (Media)",
    "Migration": "Data Migration|Resource Migration|Other (Migration)",
    "Mobile": "Other (Mobile)",
    "Multicloud": "Multicloud Integration|Other (Multicloud)",
    "Networking": (
        "Application Networking|Content Delivery|Network Connectivity|Network Infrastructure|Network Routing|"
        "Network Security|Other (Networking)"
    ),
    "Other": "Other (Other)",
    "Security": "Secret Management|Security Posture Management|Threat Detection and Response|Other (Security)",
    "Storage": "Backup Storage|Block Storage|File Storage|Object Storage|Storage Platforms|Other (Storage)",
    "Web": "Application Platforms|Other (Web)",
}
_FOCUS_MANDATORY = {
    "service_category": "|".join(_SERVICES),
    "service_subcategory": "|".join(_SERVICES.values()),
    "charge_category": "Usage|Purchase|Tax|Credit|Adjustment",
    "charge_frequency": "One-Time|Recurring|Usage-Based",
    "invoice_issue_status": "Open|Issued|Voided",
    "billing_period_status": "Open|Closed",
}
_FOCUS_NULLABLE = {
    "charge_class": "Correction",
    "pricing_category": "Standard|Dynamic|Committed|Other",
    "commitment_discount_category": "Spend|Usage",
    "commitment_discount_status": "Used|Unused",
    "capacity_reservation_status": "Used|Unused",
}

for _required, _columns in ((True, _FOCUS_MANDATORY), (False, _FOCUS_NULLABLE)):
    for _name, _values in _columns.items():
        _allowed = ", ".join(f"'{value}'" for value in _values.split("|"))
        DOMAIN(
            f"focus_{_name}",
            Text(),
            check=text(f"value in ({_allowed})"),
            not_null=_required,
            schema=SCHEMA,
            metadata=metadata,
        )
