"""The second simulated account, `showcase`: a few of everything that can be listed or billed, the cases that are hard to match, and
invoices since January 2026.

Belongs here: this one account, the same in every process. Does not belong here: shapes of items (items.py), state and
printing (account.py).
"""

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from arcadia_dagster.demo import items
from arcadia_dagster.demo.account import SimulatedAccount, SimulatedInvoice, total
from arcadia_dagster.demo.items import Item
from arcadia_dagster.demo.rules import cents, hours_between, iso, next_month, prorated

_NOW = datetime(2026, 5, 12, 5, 30, tzinfo=UTC)
_FIRST_INVOICE = datetime(2026, 1, 1, tzinfo=UTC)
_WHEN = "2025-11-20T09:30:00Z"
_LATER = "2026-03-09T14:20:00Z"
_TAX = Decimal("0.081")

# Nodes of the cluster are droplets without lines of their own; the pool is free, and its droplets have lines like any other.
_WEB, _GPU, _GONE, _NODES, _MEMBERS = 510_000_101, 510_000_190, 510_000_099, (510_000_201, 510_000_202), (510_000_150, 510_000_151)
_SNAPSHOT = 210_000_300
# What makes lines hard to tell apart: destroyed and made again under its name, renamed, resized, two alive under one name.
_API_BEFORE, _API, _RENAMED, _RESIZED, _TWINS = 510_000_110, 510_000_111, 510_000_120, 510_000_130, (510_000_140, 510_000_141)
_DESTROYED, _MADE_AGAIN = "2026-04-09T22:10:00Z", "2026-04-10T06:00:00Z"
_NAMED, _GROWN, _SECOND_MEMBER, _PART_NAMED = "2026-04-01T00:00:00Z", "2026-04-14T10:44:00Z", "2026-04-02T08:15:00Z", "2026-04-21T12:00:00Z"
_GIVEN_BACK, _TAKEN_AGAIN, _ASSIGNED = "2026-02-03T09:00:00Z", "2026-04-20T09:00:00Z", "2026-04-24T13:00:00Z"


def _uuid(*parts: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, "https://showcase.example/" + "/".join(parts)))


_PROJECT, _DATA = _uuid("project"), _uuid("project", "data")
_CLUSTER, _APP, _POSTGRES, _VALKEY = _uuid("cluster"), _uuid("app"), _uuid("postgres"), _uuid("valkey")
_VOLUME, _PVC, _VOLUME_SNAPSHOT = _uuid("volume"), _uuid("pvc"), _uuid("volume snapshot")
_LOAD_BALANCER, _SERVICE, _NAMESPACE = _uuid("load balancer"), _uuid("service"), _uuid("namespace")
_VPC, _OTHER_VPC, _NAT, _SHARE, _INFERENCE = _uuid("vpc"), _uuid("other vpc"), _uuid("nat"), _uuid("share"), _uuid("inference")
_VECTORS, _AGENT, _ADDON, _SHARE_SNAPSHOT = _uuid("vectors"), _uuid("agent"), _uuid("addon"), _uuid("share snapshot")
_PVC_NAME = f"pvc-{_uuid('claim')}"
_SERVICE_NAME = "a" + _uuid("service name").replace("-", "")[:31]
_CLUSTER_TAGS = ("k8s", f"k8s:{_CLUSTER}")
_UNUSED_IP, _IP_AGAIN = "45.55.96.60", "45.55.96.62"
_POOL = _uuid("pool")


def showcase_account() -> SimulatedAccount:
    """The account: every kind of resource, a Kubernetes cluster with what it made, what is hard to match, and an invoice a month."""
    web = items.droplet(
        _WEB,
        "web-01",
        created_at=_WHEN,
        size_slug="s-2vcpu-4gb",
        tags=("web",),
        features=("backups", "monitoring", "private_networking"),
        backup_ids=(210_000_401,),
        snapshot_ids=(_SNAPSHOT,),
        volume_ids=(_VOLUME,),
    )
    nodes = [
        items.droplet(number, f"default-pool-{number}", created_at=_WHEN, size_slug="s-2vcpu-4gb", tags=(*_CLUSTER_TAGS, "k8s:worker"))
        for number in _NODES
    ]
    api = items.droplet(_API, "api-01", created_at=_MADE_AGAIN, size_slug="s-1vcpu-2gb")
    service = items.load_balancer(_SERVICE, _SERVICE_NAME, created_at=_WHEN, droplet_ids=_NODES, project_id=_PROJECT)
    urns = {
        _PROJECT: (
            *(f"do:droplet:{droplet}" for droplet in (_WEB, _API, _RENAMED, _RESIZED, *_TWINS, *_MEMBERS)),
            f"do:kubernetes:{_CLUSTER}", f"do:loadbalancer:{_LOAD_BALANCER}",
            f"do:loadbalancer:{_SERVICE}", f"do:app:{_APP}", "do:domain:showcase.example", f"do:floatingip:{_UNUSED_IP}",
            f"do:floatingip:{_IP_AGAIN}",
            "do:space:showcase-assets", f"do:volume:{_VOLUME}",
        ),
        _DATA: (f"do:dbaas:{_POSTGRES}", f"do:dbaas:{_VALKEY}", f"do:droplet:{_GPU}", f"do:volume:{_PVC}", "do:space:showcase-data"),
    }  # fmt: skip
    invoices = list(_invoices())
    preview = _invoice(_NOW.replace(day=1, hour=0, minute=0))
    preview.updated_at = iso(_NOW)
    return SimulatedAccount(
        token="showcase-token",  # noqa: S106 - of a simulated account
        team_uuid=_uuid("team"),
        team_name="showcase",
        droplets=[
            web,
            *nodes,
            api,
            items.droplet(_RENAMED, "batch-01", created_at=_WHEN),
            items.droplet(_RESIZED, "search-01", created_at=_WHEN, size_slug="s-2vcpu-4gb"),
            *(items.droplet(twin, "sandbox", created_at=_LATER) for twin in _TWINS),
            items.droplet(_MEMBERS[0], "workers-x7k2", created_at=_LATER, size_slug="s-1vcpu-2gb", tags=("pool",)),
            items.droplet(_MEMBERS[1], "workers-9qp4", created_at=_SECOND_MEMBER, size_slug="s-1vcpu-2gb", tags=("pool",)),
            items.droplet(_GPU, "train-gpu", created_at=_LATER, size_slug="gpu-h100x1-80gb", region_slug="tor1"),
        ],
        volumes=[
            items.volume(_VOLUME, "web-data", created_at=_WHEN, size_gigabytes=100, droplet_ids=(_WEB,)),
            items.volume(_PVC, _PVC_NAME, created_at=_WHEN, size_gigabytes=20, droplet_ids=_NODES[:1], tags=_CLUSTER_TAGS),
        ],
        snapshots=[
            items.snapshot(_SNAPSHOT, "web-01 (before, the move)", resource_id=_WEB, created_at=_WHEN, size_gigabytes=10.15),
            items.snapshot(
                _VOLUME_SNAPSHOT,
                "web-data-1770000000000",
                resource_id=_VOLUME,
                resource_type="volume",
                created_at=_WHEN,
                size_gigabytes=12.5,
                min_disk_size=100,
            ),
        ],
        backups={_WEB: [items.backup(210_000_401, "web-01 2026-05-10", created_at="2026-05-10T04:11:09Z", size_gigabytes=9.4)]},
        reserved_ips=[
            items.reserved_ip("45.55.96.61", droplet=web, project_id=_PROJECT),
            items.reserved_ip(_UNUSED_IP, project_id=_PROJECT),
            items.reserved_ip(_IP_AGAIN, droplet=api, project_id=_PROJECT),
        ],
        reserved_ipv6s=[
            items.reserved_ipv6("2604:a880:800:14::42c3:d000", reserved_at=_WHEN, droplet=web),
            items.reserved_ipv6("2604:a880:800:14::42c3:d001", reserved_at=_LATER),
        ],
        firewalls=[items.firewall(_uuid("firewall"), "web", created_at=_WHEN, droplet_ids=(_WEB,))],
        load_balancers=[
            items.load_balancer(_LOAD_BALANCER, "web-lb", created_at=_WHEN, droplet_ids=(_WEB,), project_id=_PROJECT),
            service | {"tag": f"k8s:{_CLUSTER}"},
        ],
        domains=[items.domain("showcase.example")],
        projects=[
            items.project(_PROJECT, "Showcase", created_at=_WHEN, is_default=True),
            items.project(_DATA, "data", created_at=_WHEN),
        ],
        project_resources={
            project: [items.project_resource(urn, assigned_at=_LATER) for urn in members] for project, members in urns.items()
        },
        databases=[
            items.database(
                _POSTGRES, "orders-pg", created_at=_WHEN, project_id=_DATA, num_nodes=2, size_slug="db-s-2vcpu-4gb", storage_gib=30
            ),
            items.database(_VALKEY, "cache", created_at=_WHEN, project_id=_DATA, engine="valkey", version="8"),
        ],
        database_replicas={
            _POSTGRES: [items.database_replica(_uuid("replica"), "orders-pg-read", created_at=_LATER, size_slug="db-s-2vcpu-4gb")]
        },
        kubernetes_clusters=[items.kubernetes_cluster(_CLUSTER, "showcase-k8s", created_at=_WHEN, node_droplet_ids=_NODES, ha=True)],
        apps=[items.app(_APP, "storefront", created_at=_WHEN, project_id=_PROJECT, workers=("notifier",))],
        function_namespaces=[items.function_namespace(_NAMESPACE, "showcase-functions", created_at=_WHEN)],
        registries=[items.registry("showcase", created_at=_WHEN)],
        spaces_keys=[
            items.spaces_key("everything", created_at=_WHEN),
            items.spaces_key("ci", "showcase-assets", "showcase-artifacts", created_at=_LATER),
        ],
        cdn_endpoints=[items.cdn_endpoint(_uuid("cdn"), "showcase-assets", created_at=_WHEN)],
        certificates=[items.certificate(_uuid("certificate"), "showcase-cert", "showcase.example", created_at=_WHEN)],
        vpcs=[
            items.vpc(_VPC, "default-blr1", created_at=_WHEN, default=True),
            items.vpc(_OTHER_VPC, "default-nyc3", created_at=_WHEN, region_slug="nyc3", default=True),
        ],
        vpc_peerings=[items.vpc_peering(_uuid("peering"), "blr1-nyc3", _VPC, _OTHER_VPC, created_at=_LATER)],
        nat_gateways=[items.nat_gateway(_NAT, "egress", created_at=_WHEN, vpc_id=_VPC)],
        autoscale_pools=[items.autoscale_pool(_POOL, "workers", created_at=_LATER, project_id=_PROJECT, members=len(_MEMBERS))],
        autoscale_members={
            _POOL: [items.autoscale_member(_MEMBERS[0], created_at=_LATER), items.autoscale_member(_MEMBERS[1], created_at=_SECOND_MEMBER)]
        },
        uptime_checks=[items.uptime_check(_uuid("check"), "storefront", f"https://probe:{items.PLANTED}@showcase.example/health")],
        alert_policies=[items.alert_policy(_uuid("alert"), "CPU is running high")],
        nfs_shares=[items.nfs_share(_SHARE, "media", created_at=_WHEN, size_gib=100, vpc_id=_VPC)],
        nfs_snapshots=[items.nfs_snapshot(_SHARE_SNAPSHOT, "media-monday", created_at=_LATER, size_gib=40, share_id=_SHARE)],
        dedicated_inferences=[items.dedicated_inference(_INFERENCE, "mistral", created_at=_LATER, vpc_id=_uuid("tor1"))],
        vector_databases=[items.vector_database(_VECTORS, "search", created_at=_LATER, project_id=_DATA)],
        genai_agents=[items.genai_agent(_AGENT, "support", created_at=_LATER, project_id=_DATA)],
        genai_knowledge_bases=[
            items.genai_knowledge_base(_uuid("base"), "manuals", created_at=_LATER, project_id=_DATA, database_id=_VALKEY)
        ],
        addons=[items.addon(_ADDON, "logs")],
        ssh_keys=[items.ssh_key(510_001, "ops")],
        tags=[items.tag("web", 1), items.tag("k8s", 2)],
        partner_attachments=[items.partner_attachment(_uuid("attachment"), "office", created_at=_LATER, vpc_id=_OTHER_VPC)],
        byoip_prefixes=[items.byoip_prefix(_uuid("prefix"), "203.0.113.0/24", project_id=_PROJECT)],
        balance={
            "month_to_date_balance": preview.amount,
            "account_balance": "0.00",
            "month_to_date_usage": preview.amount,
            "generated_at": iso(_NOW),
        },
        billing_history=[
            {
                "description": f"Invoice for {invoice.period}",
                "amount": invoice.amount,
                "invoice_id": invoice.invoice_id,
                "invoice_uuid": invoice.uuid,
                "date": iso(next_month(datetime.fromisoformat(f"{invoice.period}-01T00:00:00+00:00")) + timedelta(hours=6)),
                "type": "Invoice",
            }
            for invoice in invoices
        ],
        invoices=invoices,
        preview=preview,
    )


@dataclass(frozen=True)
class _Billed:
    """A thing with a price: a US dollar amount a month at 28 days, or, where `hourly`, for every hour without a cap.

    `number` and `key` are what the provider fills in as resource_id and resource_uuid; most products have one, some none.
    """

    product: str
    description: str
    price: str
    number: int | None = None
    key: str = ""
    group: str = ""
    since: str = _WHEN
    until: str | None = None
    project: str = "Showcase"
    hourly: bool = False
    category: str = "iaas"


_BILLED = (
    _Billed("Droplets", "web-01 (s-2vcpu-4gb)", "24", number=_WEB),
    _Billed("Droplets", "api-01 (s-1vcpu-2gb)", "12", number=_API_BEFORE, until=_DESTROYED),
    _Billed("Droplets", "api-01 (s-1vcpu-2gb)", "12", number=_API, since=_MADE_AGAIN),
    _Billed("Droplets", "crunch-01 (s-1vcpu-1gb)", "6", number=_RENAMED, until=_NAMED),
    _Billed("Droplets", "batch-01 (s-1vcpu-1gb)", "6", number=_RENAMED, since=_NAMED),
    _Billed("Droplets", "search-01 (s-1vcpu-2gb)", "12", number=_RESIZED, until=_GROWN),
    _Billed("Droplets", "search-01 (s-2vcpu-4gb)", "24", number=_RESIZED, since=_GROWN),
    *(_Billed("Droplets", "sandbox (s-1vcpu-1gb)", "6", number=twin, since=_LATER) for twin in _TWINS),
    _Billed("Droplets", "workers-x7k2 (s-1vcpu-2gb)", "12", number=_MEMBERS[0], since=_LATER),
    _Billed("Droplets", "workers-9qp4 (s-1vcpu-2gb)", "12", number=_MEMBERS[1], since=_SECOND_MEMBER),
    _Billed("Droplets", "old-web (s-1vcpu-1gb)", "6", number=_GONE, until="2026-02-10T16:00:00Z"),
    _Billed("Droplets", "train-gpu (gpu-h100x1-80gb)", "3.39", number=_GPU, since=_LATER, project="data", hourly=True),
    _Billed("Droplet Snapshots", "web-01 (before, the move) (blr1) 10.15GB Droplet Snapshot", "0.609", number=_SNAPSHOT, project=""),
    _Billed("Volumes", "web-data (blr1) 100GB", "10", key=_VOLUME),
    _Billed("Volumes", f"{_PVC_NAME} (blr1) 20GB", "2", key=_PVC, project="data"),
    _Billed("Volume Snapshots", "web-data-1770000000000 (blr1) 12.50GB Volume Snapshot", "0.75", key=_VOLUME_SNAPSHOT, project=""),
    _Billed("Kubernetes Clusters", "2 nodes - 4 GB / 2 vCPU / 80 GB SSD", "48", key=_CLUSTER, group="showcase-k8s"),
    _Billed("Kubernetes Clusters", _SERVICE_NAME, "12", key=_CLUSTER, group="showcase-k8s"),
    _Billed("Kubernetes Clusters", "High Availability Control Plane", "40", key=_CLUSTER, group="showcase-k8s"),
    _Billed("Load Balancers", "web-lb", "12", key=_LOAD_BALANCER, category="paas"),
    _Billed("Database Clusters", "orders-pg (db-s-2vcpu-4gb)", "60.90", key=_POSTGRES, group="orders-pg", project="data", category="paas"),
    _Billed("Database Clusters", "orders-pg standby node", "60.90", key=_POSTGRES, group="orders-pg", project="data", category="paas"),
    _Billed(
        "Database Clusters", "orders-pg-read (db-s-2vcpu-4gb)", "60.90", key=_POSTGRES, group="orders-pg", since=_LATER, project="data",
        category="paas",
    ),
    _Billed("Database Clusters", "orders-pg included storage", "0", key=_POSTGRES, group="orders-pg", project="data", category="paas"),
    _Billed("Database Clusters", "orders-pg adjustment", "-1.20", key=_POSTGRES, group="orders-pg", project="data", category="paas"),
    _Billed("Database Clusters", "cache (db-s-1vcpu-1gb)", "15", key=_VALKEY, group="cache", project="data", category="paas"),
    _Billed("App Platform", "web", "12", key=_APP, group="storefront", category="paas"),
    # A part that gets another name begins a line of its own.
    _Billed("App Platform", "mailer", "5", key=_APP, group="storefront", until=_PART_NAMED, category="paas"),
    _Billed("App Platform", "notifier", "5", key=_APP, group="storefront", since=_PART_NAMED, category="paas"),
    _Billed("Functions", "showcase-functions", "0.42", key=_NAMESPACE, category="paas"),
    _Billed("Floating IPs", f"Unused Floating IP - {_UNUSED_IP}", "5"),
    _Billed("Floating IPs", f"Unused Floating IP - {_IP_AGAIN}", "5", until=_GIVEN_BACK),
    _Billed("Floating IPs", f"Unused Floating IP - {_IP_AGAIN}", "5", since=_TAKEN_AGAIN, until=_ASSIGNED),
    _Billed("VPC NAT Gateways", "egress (blr1)", "40", key=_NAT),
    _Billed("Network File Storage", "media (blr1) 100GiB", "15", key=_SHARE),
    _Billed("Dedicated Inference", "mistral (gpu-h100x1-80gb)", "3.39", key=_INFERENCE, since=_LATER, hourly=True, category="paas"),
    _Billed("Vector Databases", "search (small)", "25", key=_VECTORS, since=_LATER, project="data", category="paas"),
    _Billed("Add-Ons", "logs (starter)", "20", key=_ADDON, category="paas"),
    _Billed("Spaces Subscription", "Spaces ($5/mo 250GiB storage & 1TiB transfer)", "5", project=""),
    _Billed("Container Registry Subscription", "Container Registry (basic)", "5", project="", category="paas"),
    _Billed("Uptime Health Check", "1 additional check", "1", project="", category="paas"),
    _Billed("GenAI Platform", "GenAI Serverless Inference - Llama 3.3 Instruct (70B)", "3.21", group="Serverless Inference", project=""),
    _Billed("Quantum Computers", "qubits (q-1)", "0.07", since="2026-04-01T00:00:00Z", project=""),  # nobody knows what it is
)  # fmt: skip


def _invoices() -> Iterator[SimulatedInvoice]:
    """Newest first, as the API lists them."""
    month = _NOW.replace(day=1, hour=0, minute=0)
    while month > _FIRST_INVOICE:
        month = (month - timedelta(days=1)).replace(day=1)
        yield _invoice(month)


def _invoice(month: datetime) -> SimulatedInvoice:
    """The invoice of a month, or, for the month that is not over, its preview."""
    end = min(next_month(month), _NOW)
    last_second = next_month(month) - timedelta(seconds=1)
    lines = [line for billed in _BILLED for line in _lines(billed, month, end)]
    price = Decimal("24") * Decimal("0.05")
    backups = [day for day in (month + timedelta(days=number) for number in range(31)) if day.weekday() == 6 and day < end]
    lines.insert(
        1,
        _line(
            _Billed("Droplet Backups", "web-01 (Weekly Backup Services)", "", number=_WEB),
            f"{cents(price * min(len(backups), 4)):.2f}",
            backups[0] + timedelta(hours=4),
            backups[-1] + timedelta(hours=4),
            duration=str(len(backups)),
        ),
    )
    if month.month == 2:
        lines.append(_line(_plain("Credits", "Inference Cloud Trial"), "-5.00", month, last_second))
        lines.append(_line(_plain("Overages", "Droplet Bandwidth Overage (120.00GB @ $0.01/GB)"), "1.20", month, last_second))
    tax = cents(Decimal(total(lines)) * _TAX)
    lines.append(_line(_plain("Taxes", "VAT Switzerland (8.10%)"), f"{tax:.2f}", month, last_second))
    return SimulatedInvoice(
        uuid=_uuid("invoice", f"{month:%Y-%m}"),
        invoice_id=str(520_000_000 + month.year * 100 + month.month),
        period=f"{month:%Y-%m}",
        amount=total(lines),
        items=lines,
    )


def _plain(product: str, description: str) -> _Billed:
    return _Billed(product, description, "", project="")


def _lines(billed: _Billed, month: datetime, end: datetime) -> Iterator[Item]:
    """The line of a thing in a month, if it was there."""
    start = max(datetime.fromisoformat(billed.since), month)
    stop = min(datetime.fromisoformat(billed.until), end) if billed.until else end
    if start >= stop:
        return
    hours, price = hours_between(start, stop), Decimal(billed.price)
    charge: Callable[[Decimal, int], str] = prorated if price > 0 and not billed.hourly else lambda price, _: f"{cents(price):.2f}"
    amount = charge(price * hours if billed.hourly else price, hours)
    # Volumes end with the last second of a month, all else with the first of the next.
    if billed.product == "Volumes" and stop == next_month(month):
        stop -= timedelta(seconds=1)
    yield _line(billed, amount, start, stop, duration=str(hours))


def _line(billed: _Billed, amount: str, start: datetime, end: datetime, *, duration: str = "") -> Item:
    return {
        "product": billed.product,
        "resource_uuid": billed.key,
        "resource_id": "" if billed.number is None else str(billed.number),
        "group_description": billed.group,
        "description": billed.description,
        "amount": amount,
        "duration": duration,
        "duration_unit": "Hours" if duration else "",
        "start_time": iso(start),
        "end_time": iso(end),
        "project_name": billed.project,
        "category": billed.category,
    }
