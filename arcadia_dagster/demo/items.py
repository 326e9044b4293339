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
    engine: str = "pg",
    version: str = "16",
    size_slug: str = "db-s-1vcpu-1gb",
    num_nodes: int = 1,
    storage_gib: int = 10,
) -> Item:
    """A managed database cluster; its reply carries passwords, as the provider's does."""

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
        "engine": engine,
        "version": version,
        "semantic_version": f"{version}.4",
        "num_nodes": num_nodes,
        "size": size_slug,
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
        "storage_size_mib": storage_gib * 1024,
    }


def database_replica(replica_id: str, name: str, *, created_at: str, region_slug: str = "blr1", size_slug: str = "db-s-1vcpu-1gb") -> Item:
    """A read-only replica, as its cluster's own list shows it; passwords and all."""
    host = f"{name}.db.ondigitalocean.com"
    connection = {
        "uri": f"postgres://doadmin:{PLANTED}@{host}:25060/defaultdb",
        "host": host,
        "port": 25060,
        "user": "doadmin",
        "password": PLANTED,
        "ssl": True,
    }
    return {
        "id": replica_id,
        "name": name,
        "region": region_slug,
        "size": size_slug,
        "status": "online",
        "tags": [],
        "created_at": created_at,
        "private_network_uuid": _uuid("vpc", region_slug),
        "connection": {**connection, "database": "defaultdb"},
        "private_connection": {**connection, "database": "defaultdb"},
        "storage_size_mib": 30720,
    }


def app(app_id: str, name: str, *, created_at: str, project_id: str, workers: Sequence[str] = ()) -> Item:
    """An App Platform app of a service and these workers; its spec carries environment values, as the provider's does."""
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
        "workers": [
            {
                "name": worker,
                "image": {"registry_type": "DOCR", "repository": worker, "tag": "latest"},
                "instance_size_slug": "apps-s-1vcpu-0.5gb",
                "instance_count": 1,
            }
            for worker in workers
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
    cluster_id: str,
    name: str,
    *,
    created_at: str,
    region_slug: str = "blr1",
    node_droplet_ids: Sequence[int] = (),
    ha: bool = False,
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
                "labels": {"token": PLANTED},
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
        "ha": ha,
        "registry_enabled": False,
        "registries": None,
    }


def function_namespace(namespace_uuid: str, label: str, *, created_at: str, region_slug: str = "blr1") -> Item:
    """A functions namespace; `key` is its password."""
    return {
        "uuid": namespace_uuid,
        "namespace": f"fn-{_uuid('namespace', namespace_uuid)}",
        "label": label,
        "region": region_slug,
        "api_host": f"https://faas-{region_slug}-a1b2c3d4.doserverless.co",
        "key": PLANTED,
        "created_at": created_at,
        "updated_at": created_at,
    }


def registry(name: str, *, created_at: str, region_slug: str = "blr1", tier: str = "basic", monthly_cents: int = 500) -> Item:
    """A container registry with its plan."""
    return {
        "name": name,
        "created_at": created_at,
        "region": region_slug,
        "storage_usage_bytes": 29_393_920,
        "storage_usage_bytes_updated_at": "2026-05-12T04:10:00Z",
        "subscription": {
            "tier": {
                "name": tier.title(),
                "slug": tier,
                "included_repositories": 5,
                "included_storage_bytes": 5_368_709_120,
                "allow_storage_overage": True,
                "included_bandwidth_bytes": 5_368_709_120,
                "monthly_price_in_cents": monthly_cents,
                "storage_overage_price_in_cents": 2,
            },
            "created_at": created_at,
            "updated_at": created_at,
        },
    }


def spaces_key(name: str, *buckets: str, created_at: str) -> Item:
    """An access key for Spaces; without buckets it may use all of them, and its grant names none."""
    grants = [{"bucket": bucket, "permission": "readwrite"} for bucket in buckets]
    return {
        "name": name,
        "grants": grants or [{"bucket": "", "permission": "fullaccess"}],
        "access_key": PLANTED + _uuid("key", name)[:6],
        "created_at": created_at,
    }


def cdn_endpoint(endpoint_id: str, bucket: str, *, created_at: str, region_slug: str = "sgp1") -> Item:
    """A CDN endpoint in front of a bucket."""
    return {
        "id": endpoint_id,
        "origin": f"{bucket}.{region_slug}.digitaloceanspaces.com",
        "endpoint": f"{bucket}.{region_slug}.cdn.digitaloceanspaces.com",
        "ttl": 3600,
        "created_at": created_at,
    }


def certificate(certificate_id: str, name: str, *domains: str, created_at: str) -> Item:
    """A Let's Encrypt certificate."""
    return {
        "id": certificate_id,
        "name": name,
        "not_after": "2026-08-01T00:00:00Z",
        "sha1_fingerprint": _uuid("fingerprint", name).replace("-", ""),
        "created_at": created_at,
        "dns_names": list(domains),
        "state": "verified",
        "type": "lets_encrypt",
    }


def vpc(vpc_id: str, name: str, *, created_at: str, region_slug: str = "blr1", default: bool = False) -> Item:
    """A private network."""
    return {
        "id": vpc_id,
        "urn": f"do:vpc:{vpc_id}",
        "name": name,
        "description": f"Network of {name}",
        "region": region_slug,
        "ip_range": "10.122.0.0/16",
        "default": default,
        "created_at": created_at,
    }


def vpc_peering(peering_id: str, name: str, *vpc_ids: str, created_at: str) -> Item:
    """Two private networks made one."""
    return {"id": peering_id, "name": name, "vpc_ids": list(vpc_ids), "status": "ACTIVE", "created_at": created_at}


def nat_gateway(gateway_id: str, name: str, *, created_at: str, vpc_id: str, region_slug: str = "blr1") -> Item:
    """A NAT gateway of a private network."""
    return {
        "id": gateway_id,
        "name": name,
        "type": "PUBLIC",
        "state": "ACTIVE",
        "region": region_slug,
        "size": 1,
        "vpcs": [{"vpc_uuid": vpc_id, "gateway_ip": "10.122.0.5"}],
        "egresses": {"public_gateways": [{"ipv4": "139.59.60.61"}]},
        "udp_timeout_seconds": 30,
        "icmp_timeout_seconds": 30,
        "tcp_timeout_seconds": 30,
        "created_at": created_at,
        "updated_at": created_at,
    }


def autoscale_pool(pool_id: str, name: str, *, created_at: str, project_id: str, members: int = 1, region_slug: str = "blr1") -> Item:
    """A pool of so many droplets made from one template, whose user data holds a secret as people's do."""
    return {
        "id": pool_id,
        "name": name,
        "config": {"min_instances": 1, "max_instances": 5, "target_cpu_utilization": 0.5, "cooldown_minutes": 10},
        "droplet_template": {
            "name": name,
            "region": region_slug,
            "size": "s-1vcpu-2gb",
            "image": "ubuntu-22-04-x64",
            "ssh_keys": ["3b:16:e4:bf:8b:00:8b:b8:59:8c:a9:d3:f0:19:fa:45"],
            "tags": ["pool"],
            "vpc_uuid": _uuid("vpc", region_slug),
            "with_droplet_agent": True,
            "project_id": project_id,
            "ipv6": False,
            "user_data": f"#!/bin/sh\nexport TOKEN={PLANTED}\n",
        },
        "current_utilization": {"memory": 0.35, "cpu": 0.21},
        "created_at": created_at,
        "updated_at": created_at,
        "status": "active",
        "active_resources_count": members,
    }


def autoscale_member(droplet_id: int, *, created_at: str) -> Item:
    """A droplet that a pool made, as the pool's own list shows it."""
    return {
        "droplet_id": droplet_id,
        "created_at": created_at,
        "updated_at": created_at,
        "health_status": "healthy",
        "status": "active",
        "current_utilization": {"memory": 0.35, "cpu": 0.21},
    }


def reserved_ipv6(ip: str, *, reserved_at: str, region_slug: str = "blr1", droplet: Item | None = None) -> Item:
    """A reserved IPv6 address, assigned to a whole droplet object or to nothing."""
    return {"ip": ip, "region_slug": region_slug, "reserved_at": reserved_at, "droplet": droplet}


def uptime_check(check_id: str, name: str, target: str) -> Item:
    """A check that an address answers."""
    return {"id": check_id, "name": name, "type": "https", "target": target, "regions": ["us_east", "eu_west"], "enabled": True}


def alert_policy(policy_id: str, description: str) -> Item:
    """An alert on the load of droplets; the address of a Slack hook is a secret."""
    return {
        "uuid": policy_id,
        "type": "v1/insights/droplet/cpu",
        "description": description,
        "compare": "GreaterThan",
        "value": 80.0,
        "window": "5m",
        "entities": [],
        "tags": ["web"],
        "alerts": {
            "email": [f"{PLANTED}@showcase.example"],
            "slack": [{"channel": "ops", "url": f"https://hooks.slack.com/services/{PLANTED}"}],
        },
        "enabled": True,
    }


def nfs_share(share_id: str, name: str, *, created_at: str, size_gib: int, vpc_id: str, region_slug: str = "blr1") -> Item:
    """A network file share."""
    return {
        "id": share_id,
        "name": name,
        "size_gib": size_gib,
        "region": region_slug,
        "status": "ACTIVE",
        "created_at": created_at,
        "vpc_ids": [vpc_id],
        "performance_tier": "standard",
        "mount_path": f"/{share_id}",
        "host": "10.122.0.64",
    }


def nfs_snapshot(snapshot_id: str, name: str, *, created_at: str, size_gib: int, share_id: str, region_slug: str = "blr1") -> Item:
    """A snapshot of a network file share."""
    return {
        "id": snapshot_id,
        "name": name,
        "size_gib": size_gib,
        "region": region_slug,
        "status": "ACTIVE",
        "created_at": created_at,
        "share_id": share_id,
    }


def dedicated_inference(inference_id: str, name: str, *, created_at: str, vpc_id: str, region_slug: str = "tor1") -> Item:
    """A model on GPUs of its own."""
    return {
        "id": inference_id,
        "status": "active",
        "region": region_slug,
        "vpc_uuid": vpc_id,
        "spec": {
            "version": 1,
            "name": name,
            "region": region_slug,
            "vpc": {"uuid": vpc_id},
            "enable_public_endpoint": True,
            "model_deployments": [
                {
                    "model_id": _uuid("model", name),
                    "model_slug": "mistral/mistral-7b-instruct-v3",
                    "model_provider": "hugging_face",
                    "workload_config": {"note": PLANTED},
                    "accelerators": [
                        {"accelerator_id": _uuid("gpu", name), "accelerator_slug": "gpu-h100x1-80gb", "scale": 1, "type": "prefill"}
                    ],
                }
            ],
        },
        "endpoints": {"public_endpoint_fqdn": f"https://{name}.inference.example"},
        "created_at": created_at,
        "updated_at": created_at,
    }


def vector_database(database_id: str, name: str, *, created_at: str, project_id: str, region_slug: str = "tor1") -> Item:
    """A vector database."""
    return {
        "id": database_id,
        "name": name,
        "size": "small",
        "region": region_slug,
        "status": "active",
        "tags": ["search"],
        "project_id": project_id,
        "owner_uuid": _uuid("owner"),
        "config": {"weaviate_version": "1.30.0", "default_quantization": "rq", "enable_auto_schema": True},
        "endpoints": {"http": f"https://{name}.vector.example", "grpc": f"grpc-{name}.vector.example"},
        "created_at": created_at,
        "updated_at": created_at,
    }


def genai_agent(agent_id: str, name: str, *, created_at: str, project_id: str, region_slug: str = "tor1") -> Item:
    """A GenAI agent; its servers' headers carry keys."""
    return {
        "uuid": agent_id,
        "name": name,
        "instruction": f"You know that the password is {PLANTED}.",
        "region": region_slug,
        "project_id": project_id,
        "tags": ["support"],
        "model": {"uuid": _uuid("model"), "name": "Llama 3.3 Instruct (70B)"},
        "mcp_servers": [{"server_label": "crm", "server_url": "https://crm.example", "authorization": PLANTED}],
        "deployment": {"status": "STATUS_RUNNING", "visibility": "VISIBILITY_PRIVATE", "created_at": created_at, "updated_at": created_at},
        "created_at": created_at,
        "updated_at": created_at,
    }


def genai_knowledge_base(base_id: str, name: str, *, created_at: str, project_id: str, database_id: str, region_slug: str = "tor1") -> Item:
    """A knowledge base of agents, in a managed OpenSearch."""
    return {
        "uuid": base_id,
        "name": name,
        "region": region_slug,
        "project_id": project_id,
        "database_id": database_id,
        "embedding_model_uuid": _uuid("embedding"),
        "is_public": False,
        "tags": [],
        "user_id": "258992",
        "created_at": created_at,
        "updated_at": created_at,
    }


def addon(addon_id: str, name: str, *, plan: str = "starter", price: int = 20) -> Item:
    """Software of others, subscribed to; `sso_url` signs whoever has it in."""
    return {
        "uuid": addon_id,
        "name": name,
        "state": "provisioned",
        "app_name": "Logs & More",
        "app_slug": "logs-and-more",
        "plan_name": plan.title(),
        "plan_slug": plan,
        "plan_price_per_month": price,
        "has_config": True,
        "metadata": [{"name": "api_token", "value": PLANTED}],
        "sso_url": f"https://addons.example/sso?token={PLANTED}",
        "message": "",
    }


def ssh_key(key_id: int, name: str) -> Item:
    """A public key."""
    return {"id": key_id, "name": name, "fingerprint": ":".join(["3b"] * 16), "public_key": f"ssh-ed25519 {PLANTED} {name}"}


def tag(name: str, count: int) -> Item:
    """A tag and on how many things it is."""
    return {"name": name, "resources": {"count": count, "droplets": {"count": count}}}


def partner_attachment(attachment_id: str, name: str, *, created_at: str, vpc_id: str, region_slug: str = "nyc3") -> Item:
    """A private line to another network."""
    return {
        "id": attachment_id,
        "name": name,
        "state": "active",
        "connection_bandwidth_in_mbps": 1000,
        "region": region_slug,
        "naas_provider": "megaport",
        "vpc_ids": [vpc_id],
        "bgp": {"local_asn": 64512, "peer_asn": 64513, "local_router_ip": "169.254.0.1/29", "peer_router_ip": "169.254.0.6/29"},
        "created_at": created_at,
    }


def byoip_prefix(prefix_id: str, prefix: str, *, project_id: str, region_slug: str = "nyc3") -> Item:
    """Addresses that the customer brought."""
    return {
        "uuid": prefix_id,
        "name": f"Prefix {prefix}",
        "prefix": prefix,
        "status": "active",
        "region": region_slug,
        "validations": [],
        "failure_reason": "",
        "locked": False,
        "advertised": True,
        "project_id": project_id,
    }
