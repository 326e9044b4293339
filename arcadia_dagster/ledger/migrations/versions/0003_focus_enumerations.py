"""What FOCUS allows in its columns of fixed values: the domains that the views focus_* cast to."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for (name, constraint), values in _DOMAINS.items():
        allowed = ", ".join(f"'{value}'" for value in values.split("|"))
        op.execute(f"create domain arcadia.{name} as text constraint {name}_check check (value in ({allowed})) {constraint}")


_DOMAINS = {
    ("focus_charge_category", "not null"): "Usage|Purchase|Tax|Credit|Adjustment",
    ("focus_charge_class", ""): "Correction",
    ("focus_charge_frequency", "not null"): "One-Time|Recurring|Usage-Based",
    ("focus_pricing_category", ""): "Standard|Dynamic|Committed|Other",
    ("focus_commitment_discount_category", ""): "Spend|Usage",
    ("focus_commitment_discount_status", ""): "Used|Unused",
    ("focus_capacity_reservation_status", ""): "Used|Unused",
    ("focus_service_category", "not null"): (
        "AI and Machine Learning|Analytics|Business Applications|Compute|Databases|Developer Tools|Identity|Integration|"
        "Internet of Things|Management and Governance|Media|Migration|Mobile|Multicloud|Networking|Other|Security|Storage|"
        "Web"
    ),
    ("focus_service_subcategory", "not null"): (
        "AI Platforms|Bots|Generative AI|Machine Learning|Natural Language Processing|Other (AI and Machine Learning)|"
        "Analytics Platforms|Business Intelligence|Data Processing|Search|Streaming Analytics|Other (Analytics)|"
        "Productivity and Collaboration|Other (Business Applications)|Containers|End User Computing|Quantum Compute|"
        "Serverless Compute|Virtual Machines|Other (Compute)|Caching|Data Warehouses|Ledger Databases|NoSQL Databases|"
        "Relational Databases|Time Series Databases|Other (Databases)|Continuous Integration and Deployment|"
        "Developer Platforms|Development Environments|Quality Assurance|Source Code Management|Other (Developer Tools)|"
        "Identity and Access Management|Other (Identity)|API Management|Messaging|Workflow Orchestration|"
        "Other (Integration)|IoT Analytics|IoT Platforms|Other (Internet of Things)|Architecture|Compliance|Cost Management|"
        "Data Governance|Disaster Recovery|Endpoint Management|Observability|Support|Other (Management and Governance)|"
        "Content Creation|Gaming|Media Streaming|Mixed Reality|Other (Media)|Data Migration|Resource Migration|"
        "Other (Migration)|Other (Mobile)|Multicloud Integration|Other (Multicloud)|Application Networking|Content Delivery|"
        "Network Connectivity|Network Infrastructure|Network Routing|Network Security|Other (Networking)|Other (Other)|"
        "Secret Management|Security Posture Management|Threat Detection and Response|Other (Security)|Backup Storage|"
        "Block Storage|File Storage|Object Storage|Storage Platforms|Other (Storage)|Application Platforms|Other (Web)"
    ),
    ("focus_invoice_issue_status", "not null"): "Open|Issued|Voided",
    ("focus_billing_period_status", "not null"): "Open|Closed",
}
