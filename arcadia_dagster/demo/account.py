"""The state of a simulated DigitalOcean account: plain lists and dicts in the shapes of the API, for a test to change.

Belongs here: the state, how an invoice prints as CSV and as a summary, and one account that holds something of every
kind. Does not belong here: HTTP (server.py), single items (items.py), the demo's account (sky_ai.py).
"""

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal

from arcadia_dagster.demo import items
from arcadia_dagster.demo.items import Item

_CSV_HEADER = (
    "product", "group_description", "description", "hours", "start", "end", "USD", "project_name", "category",
)  # fmt: skip


def total(lines: Iterable[Item]) -> str:
    """The sum of the `amount` of invoice items, as a decimal string with two digits."""
    return f"{sum((Decimal(line['amount']) for line in lines), Decimal(0)):.2f}"


@dataclass
class SimulatedInvoice:
    """One invoice. `amount` is a decimal string, `period` is YYYY-MM, `items` are in the shape of the JSON reply."""

    uuid: str
    invoice_id: str
    period: str
    amount: str
    items: list[Item]
    updated_at: str | None = None  # only the preview has it

    def listing(self) -> Item:
        """The entry of this invoice in the list of invoices."""
        entry = {
            "invoice_uuid": self.uuid,
            "invoice_id": self.invoice_id,
            "amount": self.amount,
            "invoice_period": self.period,
        }
        return entry if self.updated_at is None else entry | {"updated_at": self.updated_at}

    def csv(self) -> bytes:
        """The invoice as the control panel's CSV: `items` in their order, without ids, amounts as `$1.23`."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(_CSV_HEADER)
        for line in self.items:
            writer.writerow(
                (
                    line["product"],
                    line["group_description"],
                    line["description"],
                    line["duration"],
                    _csv_time(line["start_time"]),
                    _csv_time(line["end_time"]),
                    f"-${line['amount'][1:]}" if line["amount"].startswith("-") else f"${line['amount']}",
                    line["project_name"],
                    line["category"],
                )
            )
        return text.getvalue().encode()

    def summary(self) -> Item:
        """The invoice as its summary reply: charges by product, and the customer's name and address."""
        products: dict[str, list[Item]] = {}
        taxes, overages, credits_ = [], [], []
        for line in self.items:
            if line["product"] == "Taxes":
                taxes.append(line)
            elif " Overage (" in line["description"]:
                overages.append(line)
            elif line["amount"].startswith("-"):
                credits_.append(line)
            else:
                products.setdefault(line["product"], []).append(line)
        return {
            "invoice_uuid": self.uuid,
            "invoice_id": self.invoice_id,
            "billing_period": self.period,
            "amount": self.amount,
            "user_name": items.PLANTED,
            "user_billing_address": {"address_line1": items.PLANTED, "city": "Bengaluru", "country_iso2_code": "IN"},
            "user_company": "Sky AI",
            "user_email": "billing@sky-ai.com",
            "product_charges": {
                "name": "Product usage charges",
                "amount": total(line for lines in products.values() for line in lines),
                "items": [{"name": name, "amount": total(lines), "count": str(len(lines))} for name, lines in products.items()],
            },
            "overages": {"name": "Overages", "amount": total(overages)},
            "taxes": {"name": "Taxes", "amount": total(taxes)},
            "credits_and_adjustments": {"name": "Credits & adjustments", "amount": total(credits_)},
        }


def _csv_time(iso: str) -> str:
    """`2026-04-01T00:00:00Z` as the CSV writes it; an empty time stays empty."""
    return iso and f"{iso[:10]} {iso[11:19]} +0000"


@dataclass
class SimulatedAccount:
    """What one token sees. Everything may be changed between requests; the next reply shows it.

    `backups` lists backup images by droplet id, `project_resources` by project id, `database_replicas` by cluster id,
    `autoscale_members` by pool id.
    `denied` holds paths, such as `/v2/volumes`, that are answered with 403, and everything below them.
    `ratelimit_limit` is requests an hour; 5 % of it may be spent in any one minute.
    """

    token: str
    team_uuid: str
    team_name: str
    droplets: list[Item] = field(default_factory=list)
    volumes: list[Item] = field(default_factory=list)
    snapshots: list[Item] = field(default_factory=list)
    backups: dict[int, list[Item]] = field(default_factory=dict)
    reserved_ips: list[Item] = field(default_factory=list)
    firewalls: list[Item] = field(default_factory=list)
    load_balancers: list[Item] = field(default_factory=list)
    domains: list[Item] = field(default_factory=list)
    projects: list[Item] = field(default_factory=list)
    project_resources: dict[str, list[Item]] = field(default_factory=dict)
    databases: list[Item] = field(default_factory=list)
    apps: list[Item] = field(default_factory=list)
    kubernetes_clusters: list[Item] = field(default_factory=list)
    database_replicas: dict[str, list[Item]] = field(default_factory=dict)
    function_namespaces: list[Item] = field(default_factory=list)
    registries: list[Item] = field(default_factory=list)
    spaces_keys: list[Item] = field(default_factory=list)
    cdn_endpoints: list[Item] = field(default_factory=list)
    certificates: list[Item] = field(default_factory=list)
    vpcs: list[Item] = field(default_factory=list)
    vpc_peerings: list[Item] = field(default_factory=list)
    nat_gateways: list[Item] = field(default_factory=list)
    autoscale_pools: list[Item] = field(default_factory=list)
    autoscale_members: dict[str, list[Item]] = field(default_factory=dict)
    reserved_ipv6s: list[Item] = field(default_factory=list)
    uptime_checks: list[Item] = field(default_factory=list)
    alert_policies: list[Item] = field(default_factory=list)
    nfs_shares: list[Item] = field(default_factory=list)
    nfs_snapshots: list[Item] = field(default_factory=list)
    dedicated_inferences: list[Item] = field(default_factory=list)
    vector_databases: list[Item] = field(default_factory=list)
    genai_agents: list[Item] = field(default_factory=list)
    genai_knowledge_bases: list[Item] = field(default_factory=list)
    addons: list[Item] = field(default_factory=list)
    ssh_keys: list[Item] = field(default_factory=list)
    tags: list[Item] = field(default_factory=list)
    partner_attachments: list[Item] = field(default_factory=list)
    byoip_prefixes: list[Item] = field(default_factory=list)
    balance: Item = field(default_factory=dict)
    billing_history: list[Item] = field(default_factory=list)
    invoices: list[SimulatedInvoice] = field(default_factory=list)
    preview: SimulatedInvoice | None = None
    denied: set[str] = field(default_factory=set)
    ratelimit_limit: int = 500_000
    may_create_projects: bool = True

    def images(self) -> list[Item]:
        """The account's own images, as `/v2/images?private=true` lists them: its droplet snapshots and its backups."""
        shared: Item = {
            "distribution": "Ubuntu",
            "slug": None,
            "public": False,
            "description": "",
            "status": "available",
            "error_message": "",
        }
        own = [
            {key: item[key] for key in ("name", "created_at", "regions", "min_disk_size", "size_gigabytes", "tags")}
            | {"id": int(item["id"]), "type": "snapshot"}
            for item in self.snapshots
            if item["resource_type"] == "droplet"
        ]
        own += [item | {"tags": []} for images in self.backups.values() for item in images]
        return [shared | item for item in own]

    def user(self) -> Item:
        """The account object: the team is what the token belongs to."""
        return {
            "droplet_limit": 25,
            "floating_ip_limit": 5,
            "email": f"ops@{self.team_name}.com",
            "name": self.team_name,
            "uuid": self.team_uuid.replace("-", "")[::-1],
            "email_verified": True,
            "status": "active",
            "status_message": "",
            "team": {"uuid": self.team_uuid, "name": self.team_name},
        }


def messy_account() -> SimulatedAccount:
    """A small account with something of every kind, secrets in its replies, and no invoices. The same every time."""
    project_id = "9cc10173-e9ea-4176-9dbc-a4cee4c4ff30"
    volume_id = "506f78a4-e098-11e5-ad9f-000f53306ae1"
    load_balancer_id = "4de7ac8b-495b-4884-9a69-1050c6793cd6"
    database_id, app_id = "8f5f1a3e-3c8b-4f0e-9d53-1c39b4d1a6aa", "4f6c71e2-1e90-4762-9fee-6cc4a0a9f2cf"
    cluster_id = "bd5f5959-5e1e-4205-a714-a914373942af"
    when = "2024-03-09T10:15:42Z"
    web = items.droplet(410_000_101, "web-01", created_at=when, tags=("web",), volume_ids=(volume_id,), backup_ids=(157_000_001,))
    node = items.droplet(410_000_102, "default-pool-410000102", created_at=when, size_slug="s-2vcpu-4gb", tags=("k8s",))
    gpu = items.droplet(448_543_583, "train-gpu", created_at=when, size_slug="gpu-h100x1-80gb", region_slug="tor1")
    urns = (
        "do:droplet:410000101", "do:droplet:448543583", f"do:volume:{volume_id}", f"do:loadbalancer:{load_balancer_id}",
        "do:floatingip:45.55.96.47", "do:floatingip:45.55.96.48", f"do:dbaas:{database_id}",
        f"do:kubernetes:{cluster_id}", "do:space:messy-assets", "do:domain:messy.example",
    )  # fmt: skip
    return SimulatedAccount(
        token="messy-token",  # noqa: S106 - of a simulated account
        team_uuid="7c1e8f6a-0a63-4c5b-8a3b-1f2f6a1a9d10",
        team_name="messy",
        droplets=[web, node, gpu],
        volumes=[
            items.volume(volume_id, "data-01", created_at=when, size_gigabytes=100, droplet_ids=(410_000_101,)),
            items.volume("7724db7c-e098-11e5-b522-000f53304e51", "pvc-7724db7c", created_at=when, size_gigabytes=10),
        ],
        snapshots=[
            items.snapshot(157_000_100, "web-01 before the move", resource_id=410_000_101, created_at=when, size_gigabytes=4.21),
            items.snapshot(
                "fbe805e8-866b-11e6-96bf-000f53315a41",
                "data-01-1709979342000",
                resource_id=volume_id,
                resource_type="volume",
                created_at=when,
                size_gigabytes=12.5,
            ),
        ],
        backups={410_000_101: [items.backup(157_000_001, "web-01 2026-05-03", created_at="2026-05-03T04:11:09Z", size_gigabytes=3.9)]},
        reserved_ips=[
            items.reserved_ip("45.55.96.47", droplet=web, project_id=project_id),
            items.reserved_ip("45.55.96.48", project_id=project_id),
        ],
        firewalls=[items.firewall("fb6045f1-cf1d-4ca3-bfac-18832663025b", "web", created_at=when, droplet_ids=(410_000_101,))],
        load_balancers=[
            items.load_balancer(load_balancer_id, "web-lb", created_at=when, droplet_ids=(410_000_101,), project_id=project_id)
        ],
        domains=[items.domain("messy.example")],
        projects=[items.project(project_id, "messy", created_at=when, is_default=True)],
        project_resources={project_id: [items.project_resource(urn, assigned_at=when) for urn in urns]},
        databases=[items.database(database_id, "messy-pg", created_at=when, project_id=project_id)],
        apps=[items.app(app_id, "messy-app", created_at=when, project_id=project_id)],
        kubernetes_clusters=[items.kubernetes_cluster(cluster_id, "messy-k8s", created_at=when, node_droplet_ids=(410_000_102,))],
        balance={
            "month_to_date_balance": "0.00",
            "account_balance": "0.00",
            "month_to_date_usage": "0.00",
            "generated_at": "2026-05-12T05:31:00Z",
        },
    )
