"""One resource of each kind as DigitalOcean's API lists it: every field its OpenAPI requires, with plausible values.

Belongs here: functions that build one item (a plain dict, for the caller to change), and what droplets cost over the
years. Does not belong here: which items an account holds (account.py, sky_ai.py), or how they are served (server.py).
"""

import ipaddress
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

Item = dict[str, Any]

# Stands wherever the provider's replies carry a secret or a person's name; it must never be stored or printed.
PLANTED = "planted-secret-0f9d2c"

REGIONS = {
    "ams3": "Amsterdam 3", "blr1": "Bangalore 1", "fra1": "Frankfurt 1", "lon1": "London 1", "nyc3": "New York 3",
    "sfo3": "San Francisco 3", "sgp1": "Singapore 1", "syd1": "Sydney 1", "tor1": "Toronto 1",
}  # fmt: skip

# slug: memory MiB, vcpus, disk GiB, transfer TiB, description, US dollars a month now, and before July 2022.
_SIZES: dict[str, tuple[int, int, int, int, str, int, int]] = {
    "512MB": (512, 1, 20, 1, "Standard", 5, 5),  # the first four are the names of before 2018
    "1GB": (1024, 1, 30, 2, "Standard", 10, 10),
    "2GB": (2048, 2, 40, 3, "Standard", 20, 20),
    "4GB": (4096, 2, 60, 4, "Standard", 40, 40),
    "s-1vcpu-512mb-10gb": (512, 1, 10, 1, "Basic", 4, 4),
    "s-1vcpu-1gb": (1024, 1, 25, 1, "Basic", 6, 5),
    "s-1vcpu-2gb": (2048, 1, 50, 2, "Basic", 12, 10),
    "s-2vcpu-2gb": (2048, 2, 60, 3, "Basic", 18, 15),
    "s-2vcpu-4gb": (4096, 2, 80, 4, "Basic", 24, 20),
    "s-4vcpu-8gb": (8192, 4, 160, 5, "Basic", 48, 40),
    "c-2": (4096, 2, 25, 4, "CPU-Optimized", 42, 40),
    "c-4": (8192, 4, 50, 5, "CPU-Optimized", 84, 80),
    "gpu-h100x1-80gb": (245760, 20, 720, 15, "H100 GPU - 1X", 2278, 2278),
}
_PRICE_CHANGE = datetime(2022, 7, 1, tzinfo=UTC)
HOURS_CHARGED_PER_MONTH = 672  # 28 days: a droplet or snapshot that exists longer in a month costs its monthly price


def monthly_price(size: str, at: datetime) -> Decimal:
    """US dollars a month of a droplet `size` at a time (prices rose in July 2022). Raises KeyError if it is unknown."""
    *_, now, before = _SIZES[size]
    return Decimal(now if at >= _PRICE_CHANGE else before)


def region(slug: str) -> Item:
    """The region object that other items carry."""
    return {
        "name": REGIONS[slug],
        "slug": slug,
        "features": ["backups", "ipv6", "metadata", "install_agent", "storage", "image_transfer"],
        "available": True,
        "sizes": [name for name in _SIZES if "-" in name],
    }


def size(slug: str) -> Item:
    """The size object of a droplet, with its price of today."""
    memory, vcpus, disk, transfer, description, price, _ = _SIZES[slug]
    found: Item = {
        "slug": slug,
        "memory": memory,
        "vcpus": vcpus,
        "disk": disk,
        "transfer": transfer,
        "price_monthly": price,
        "price_hourly": round(price / HOURS_CHARGED_PER_MONTH, 5),
        "regions": list(REGIONS),
        "available": True,
        "description": description,
    }
    if slug.startswith("gpu-"):
        found["gpu_info"] = {"count": 1, "model": "nvidia_h100", "vram": {"amount": 80, "unit": "gib"}}
    return found


def _uuid(*parts: object) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, "https://simulated.invalid/" + "/".join(map(str, parts))))


def base_image(name: str = "22.04 (LTS) x64", slug: str = "ubuntu-22-04-x64") -> Item:
    """A public Ubuntu image, as a droplet made from it shows it."""
    return {
        "id": 100_000_000 + int(_uuid("image", slug)[:6], 16),
        "name": name,
        "type": "base",
        "distribution": "Ubuntu",
        "slug": slug,
        "public": True,
        "regions": list(REGIONS),
        "created_at": "2022-04-22T02:24:10Z",
        "min_disk_size": 7,
        "size_gigabytes": 0.63,
        "description": f"Ubuntu {name}",
        "tags": [],
        "status": "available",
        "error_message": "",
    }


def droplet(
    droplet_id: int,
    name: str,
    *,
    created_at: str,
    size_slug: str = "s-1vcpu-1gb",
    region_slug: str = "blr1",
    status: str = "active",
    tags: Sequence[str] = (),
    features: Sequence[str] = ("monitoring", "private_networking"),
    backup_ids: Sequence[int] = (),
    next_backup_window: Item | None = None,
    snapshot_ids: Sequence[int] = (),
    volume_ids: Sequence[str] = (),
    image: Item | None = None,
) -> Item:
    """A droplet; a size that begins `gpu-` makes it one that only `type=gpus` lists. `created_at` is ISO, with Z."""
    its_size = size(size_slug)
    public = ipaddress.IPv4Address("139.59.0.0") + (droplet_id * 7919) % 65000 + 1
    private = ipaddress.IPv4Address("10.122.0.0") + droplet_id % 65000 + 2
    disks: list[Item] = [{"type": "local", "size": {"amount": its_size["disk"], "unit": "gib"}}]
    item: Item = {
        "id": droplet_id,
        "name": name,
        "memory": its_size["memory"],
        "vcpus": its_size["vcpus"],
        "disk": its_size["disk"],
        "disk_info": disks,
        "locked": False,
        "status": status,
        "kernel": None,
        "created_at": created_at,
        "features": list(features),
        "backup_ids": list(backup_ids),
        "next_backup_window": next_backup_window,
        "snapshot_ids": list(snapshot_ids),
        "image": image or base_image(),
        "volume_ids": list(volume_ids),
        "size": its_size,
        "size_slug": size_slug,
        "networks": {
            "v4": [
                {"ip_address": str(public), "netmask": "255.255.240.0", "gateway": "139.59.0.1", "type": "public"},
                {"ip_address": str(private), "netmask": "255.255.0.0", "gateway": "10.122.0.1", "type": "private"},
            ],
            "v6": [],
        },
        "region": region(region_slug),
        "tags": list(tags),
        "vpc_uuid": _uuid("vpc", region_slug),
    }
    if "gpu_info" in its_size:
        disks.append({"type": "scratch", "size": {"amount": 5120, "unit": "gib"}})
        item["gpu_info"] = its_size["gpu_info"]
    return item


def snapshot(
    snapshot_id: int | str,
    name: str,
    *,
    resource_id: int | str,
    created_at: str,
    size_gigabytes: float,
    regions: Sequence[str] = ("blr1",),
    resource_type: str = "droplet",
    min_disk_size: int = 25,
    tags: Sequence[str] = (),
) -> Item:
    """A snapshot of a droplet (numeric id) or of a volume (`resource_type="volume"`, both ids are uuids)."""
    return {
        "id": str(snapshot_id),
        "name": name,
        "created_at": created_at,
        "regions": list(regions),
        "resource_id": str(resource_id),
        "resource_type": resource_type,
        "min_disk_size": min_disk_size,
        "size_gigabytes": size_gigabytes,
        "tags": list(tags),
    }


def backup(
    backup_id: int,
    name: str,
    *,
    created_at: str,
    size_gigabytes: float,
    region_slug: str = "blr1",
    min_disk_size: int = 25,
) -> Item:
    """A backup image of a droplet, as the droplet's own list of backups shows it."""
    return {
        "id": backup_id,
        "name": name,
        "distribution": "Ubuntu",
        "slug": None,
        "public": False,
        "regions": [region_slug],
        "created_at": created_at,
        "min_disk_size": min_disk_size,
        "size_gigabytes": size_gigabytes,
        "type": "backup",
    }


def volume(
    volume_id: str,
    name: str,
    *,
    created_at: str,
    size_gigabytes: int,
    region_slug: str = "blr1",
    droplet_ids: Sequence[int] = (),
    tags: Sequence[str] = (),
) -> Item:
    """A block storage volume."""
    return {
        "id": volume_id,
        "name": name,
        "description": f"Block storage of {name}",
        "size_gigabytes": size_gigabytes,
        "created_at": created_at,
        "filesystem_type": "ext4",
        "filesystem_label": "data",
        "region": region(region_slug),
        "droplet_ids": list(droplet_ids),
        "tags": list(tags),
    }


def reserved_ip(ip: str, *, region_slug: str = "blr1", droplet: Item | None = None, project_id: str) -> Item:
    """A reserved (once: floating) address, assigned to a whole droplet object or to nothing."""
    return {
        "ip": ip,
        "region": region(region_slug),
        "droplet": droplet,
        "locked": False,
        "project_id": project_id,
    }


def firewall(firewall_id: str, name: str, *, created_at: str, droplet_ids: Sequence[int] = (), tags: Sequence[str] = ()) -> Item:
    """A firewall that lets ssh and the web in, and everything out."""
    everywhere = {"addresses": ["0.0.0.0/0", "::/0"]}
    return {
        "id": firewall_id,
        "name": name,
        "status": "succeeded",
        "created_at": created_at,
        "pending_changes": [],
        "droplet_ids": list(droplet_ids),
        "tags": list(tags),
        "inbound_rules": [{"protocol": "tcp", "ports": ports, "sources": everywhere} for ports in ("22", "80", "443")],
        "outbound_rules": [{"protocol": protocol, "ports": "0", "destinations": everywhere} for protocol in ("tcp", "udp", "icmp")],
    }


def load_balancer(
    load_balancer_id: str,
    name: str,
    *,
    created_at: str,
    region_slug: str = "blr1",
    droplet_ids: Sequence[int] = (),
    project_id: str,
) -> Item:
    """A regional HTTP load balancer of one node."""
    return {
        "id": load_balancer_id,
        "name": name,
        "project_id": project_id,
        "ip": "139.59.48.17",
        "ipv6": "",
        "size_unit": 1,
        "size": "lb-small",
        "algorithm": "round_robin",
        "status": "active",
        "created_at": created_at,
        "forwarding_rules": [
            {
                "entry_protocol": "https",
                "entry_port": 443,
                "target_protocol": "http",
                "target_port": 8080,
                "certificate_id": _uuid("certificate", name),
                "tls_passthrough": False,
            }
        ],
        "health_check": {
            "protocol": "http",
            "port": 8080,
            "path": "/",
            "check_interval_seconds": 10,
            "response_timeout_seconds": 5,
            "unhealthy_threshold": 5,
            "healthy_threshold": 3,
        },
        "sticky_sessions": {"type": "none"},
        "region": region(region_slug),
        "droplet_ids": list(droplet_ids),
        "tag": "",
        "redirect_http_to_https": True,
        "enable_proxy_protocol": False,
        "enable_backend_keepalive": False,
        "http_idle_timeout_seconds": 60,
        "vpc_uuid": _uuid("vpc", region_slug),
        "disable_lets_encrypt_dns_records": False,
        "network": "EXTERNAL",
        "network_stack": "IPV4",
        "type": "REGIONAL",
    }


def domain(name: str, ip: str = "139.59.10.20") -> Item:
    """A DNS zone; its zone file is text."""
    return {
        "name": name,
        "ttl": 1800,
        "zone_file": (
            f"$ORIGIN {name}.\n$TTL 1800\n"
            f"{name}. IN SOA ns1.digitalocean.com. hostmaster.{name}. 1415982609 10800 3600 604800 1800\n"
            + "".join(f"{name}. 1800 IN NS ns{n}.digitalocean.com.\n" for n in (1, 2, 3))
            + f"{name}. 1800 IN A {ip}\n"
        ),
    }


def project(
    project_id: str,
    name: str,
    *,
    created_at: str,
    description: str = "",
    purpose: str = "Service or API",
    environment: str = "Production",
    is_default: bool = False,
) -> Item:
    """A project."""
    return {
        "id": project_id,
        "owner_uuid": _uuid("owner").replace("-", ""),
        "owner_id": 258992,
        "name": name,
        "description": description,
        "purpose": purpose,
        "environment": environment,
        "is_default": is_default,
        "created_at": created_at,
        "updated_at": created_at,
    }


# Where `links.self` of a project resource leads, by the kind in its URN. A bucket's is its public address.
_SELF = {
    "droplet": "droplets", "domain": "domains", "floatingip": "reserved_ips", "loadbalancer": "load_balancers",
    "dbaas": "databases", "kubernetes": "kubernetes/clusters", "volume": "volumes", "app": "apps",
}  # fmt: skip


def project_resource(urn: str, *, assigned_at: str, status: str = "ok") -> Item:
    """A resource of a project: no more than its URN, such as `do:droplet:123` or `do:space:bucket`."""
    _, kind, key = urn.split(":", 2)
    address = f"https://{key}.sgp1.digitaloceanspaces.com" if kind == "space" else f"https://api.digitalocean.com/v2/{_SELF[kind]}/{key}"
    return {"urn": urn, "assigned_at": assigned_at, "links": {"self": address}, "status": status}


def database(
    database_id: str,
    name: str,
    *,
    created_at: str,
    region_slug: str = "blr1",
    project_id: str,
    tags: Sequence[str] = (),
) -> Item:
    """A managed PostgreSQL cluster; its reply carries passwords, as the provider's does."""

    def connection(host: str) -> Item:
        return {
            "uri": f"postgres://doadmin:{PLANTED}@{host}:25060/defaultdb?sslmode=require",
            "database": "defaultdb",
            "host": host,
            "port": 25060,
            "user": "doadmin",
            "password": PLANTED,
            "ssl": True,
        }

    return {
        "id": database_id,
        "name": name,
        "engine": "pg",
        "version": "16",
        "semantic_version": "16.4",
        "num_nodes": 1,
        "size": "db-s-1vcpu-1gb",
        "region": region_slug,
        "status": "online",
        "created_at": created_at,
        "private_network_uuid": _uuid("vpc", region_slug),
        "tags": list(tags),
        "db_names": ["defaultdb"],
        "connection": connection(f"{name}.db.ondigitalocean.com"),
        "private_connection": connection(f"private-{name}.db.ondigitalocean.com"),
        "users": [{"name": "doadmin", "role": "primary", "password": PLANTED}],
        "maintenance_window": {"day": "sunday", "hour": "02:00:00", "pending": False, "description": []},
        "project_id": project_id,
        "storage_size_mib": 10240,
    }


def app(app_id: str, name: str, *, created_at: str, project_id: str) -> Item:
    """An App Platform app; its spec carries environment values, as the provider's does."""
    spec: Item = {
        "name": name,
        "region": "blr",
        "services": [
            {
                "name": "web",
                "image": {"registry_type": "DOCR", "repository": name, "tag": "latest"},
                "instance_size_slug": "apps-s-1vcpu-1gb",
                "instance_count": 1,
                "http_port": 8080,
                "envs": [{"key": "DATABASE_URL", "scope": "RUN_TIME", "type": "GENERAL", "value": f"postgres://{PLANTED}@db"}],
            }
        ],
    }
    return {
        "id": app_id,
        "owner_uuid": _uuid("owner"),
        "project_id": project_id,
        "spec": spec,
        "default_ingress": f"https://{name}.ondigitalocean.app",
        "live_url": f"https://{name}.ondigitalocean.app",
        "live_domain": f"{name}.ondigitalocean.app",
        "tier_slug": "basic",
        "region": {"slug": "blr", "label": "Bangalore", "flag": "india", "continent": "Asia", "data_centers": ["blr1"]},
        "created_at": created_at,
        "updated_at": created_at,
    }


def kubernetes_cluster(
    cluster_id: str, name: str, *, created_at: str, region_slug: str = "blr1", node_droplet_ids: Sequence[int] = ()
) -> Item:
    """A Kubernetes cluster of one node pool; the nodes name their droplets, as text."""
    tags = ["k8s", f"k8s:{cluster_id}"]
    return {
        "id": cluster_id,
        "name": name,
        "region": region_slug,
        "version": "1.31.1-do.4",
        "cluster_subnet": "10.244.0.0/16",
        "service_subnet": "10.245.0.0/16",
        "vpc_uuid": _uuid("vpc", region_slug),
        "ipv4": "139.59.51.9",
        "endpoint": f"https://{cluster_id}.k8s.ondigitalocean.com",
        "tags": tags,
        "node_pools": [
            {
                "id": _uuid("pool", cluster_id),
                "name": "default-pool",
                "size": "s-2vcpu-4gb",
                "count": len(node_droplet_ids),
                "tags": [*tags, "k8s:worker"],
                "labels": None,
                "taints": [],
                "auto_scale": False,
                "min_nodes": 0,
                "max_nodes": 0,
                "nodes": [
                    {
                        "id": _uuid("node", droplet_id),
                        "name": f"default-pool-{droplet_id}",
                        "status": {"state": "running"},
                        "droplet_id": str(droplet_id),
                        "created_at": created_at,
                        "updated_at": created_at,
                    }
                    for droplet_id in node_droplet_ids
                ],
            }
        ],
        "maintenance_policy": {"start_time": "00:00", "duration": "4h0m0s", "day": "any"},
        "auto_upgrade": False,
        "status": {"state": "running", "message": ""},
        "created_at": created_at,
        "updated_at": created_at,
        "surge_upgrade": True,
        "ha": False,
        "registry_enabled": False,
        "registries": None,
    }
