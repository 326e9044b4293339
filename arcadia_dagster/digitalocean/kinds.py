"""The kinds of resources, one row each, and how an item of a listing reads as a `Resource`.

Everything that differs between kinds is data in `KINDS`: where they are listed, which fields are kept, which changes count as drift,
which URN names and token scope belong to them. A new kind is a new row. No code for one kind, no HTTP, no database.
"""

import functools
import operator
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Literal

import msgspec

_canonical = msgspec.json.Encoder(decimal_format="number", order="deterministic")  # one spelling for one value


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """One thing the account has, as the ledger keeps it. Times are UTC; `monthly_price` is USD a month at list price."""

    provider_id: str
    name: str
    region: str | None = None
    status: str | None = None
    tags: tuple[str, ...] = ()
    attrs: Mapping[str, Any] = field(default_factory=dict)
    monthly_price: Decimal | None = None
    own_project_id: str | None = None
    parent_kind: str | None = None
    parent_provider_id: str | None = None
    provider_created_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of resource. Paths into an item are dotted (`size.price_monthly`).

    `attrs` is the allow-list: a field that is not named here is never kept, because list replies carry passwords, keys and environment
    values. Every kept field means something: a change of it is an event. Fields that change by themselves (next backup window, locks,
    counters) are therefore left out.
    """

    name: str
    asset: str | None = None  # the Dagster asset that lists it; None: known from project URNs only
    path: str | None = None
    key: str | None = None  # of the array in the reply
    scope: str | None = None
    passes: tuple[Mapping[str, str], ...] = ({},)  # queries that together make one listing
    id: str = "id"
    label: str = "name"  # the field that names it to people
    region: str | None = "region.slug"
    status: str | None = "status"
    tags: str | None = "tags"
    created: str | None = "created_at"
    monthly_price: str | None = None
    project_id: str | None = None  # where the object itself says which project it is in
    parent: tuple[str | None, str] | None = None  # (field of the parent's kind, field of its id)
    parent_kind: str | None = None  # when it is always the same
    attrs: tuple[str, ...] = ()
    drift: tuple[str, ...] = ()  # fields whose change behind the owner's back is worth a look, besides region and project
    urn_names: tuple[str, ...] = ()
    in_projects: bool = True  # False: the provider never lists it in a project
    # Which of an invoice item's two ids is its provider id. Seen filled: resource_id for what has numbers, resource_uuid for the rest.
    billed_id: Literal["resource_id", "resource_uuid"] = "resource_uuid"

    def read(self, item: Mapping[str, Any]) -> Resource:
        """The item of a listing, as a Resource. Raises ValueError where the id is missing or a time cannot be read."""
        provider_id = _text(_at(item, self.id))
        if provider_id is None:
            raise ValueError(f"a {self.name} without {self.id!r}")
        parent_kind, parent_id = self.parent_kind, None
        if self.parent is not None:
            kind_field, id_field = self.parent
            parent_id = _text(_at(item, id_field))
            if kind_field is not None:
                parent_kind = _text(_at(item, kind_field))
        price = _at(item, self.monthly_price)
        return Resource(
            provider_id=provider_id,
            name=_text(_at(item, self.label)) or provider_id,
            region=_region(_at(item, self.region)),
            status=_text(_at(item, self.status)),
            tags=_tags(_at(item, self.tags)),
            attrs=_pick(item, self.attrs),
            monthly_price=None if price is None else Decimal(str(price)),
            own_project_id=_text(_at(item, self.project_id)),
            parent_kind=parent_kind if parent_id is not None else None,
            parent_provider_id=parent_id,
            provider_created_at=_time(_at(item, self.created), self.name, provider_id),
        )


_steps = functools.cache(operator.methodcaller("split", "."))


def _at(item: Any, path: str | None) -> Any:
    if path is None:
        return None
    for step in _steps(path):
        if not isinstance(item, dict):
            return None
        item = item.get(step)
    return item


def _text(value: Any) -> str | None:
    return None if value is None or value == "" else str(value)


def _region(value: Any) -> str | None:
    """A snapshot is in a list of regions; the names are joined so that one column says where it is."""
    if isinstance(value, list):
        return ",".join(sorted(str(region) for region in value)) or None
    return _text(value)


def _tags(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):  # load balancers have one tag
        return (value,) if value else ()
    return tuple(sorted(str(tag) for tag in value)) if value else ()


def _time(value: Any, kind: str, provider_id: str) -> datetime | None:
    if value is None or value == "":
        return None
    try:
        time = datetime.fromisoformat(str(value))
    except ValueError:
        raise ValueError(f"{kind} {provider_id}: {str(value)[:40]!r} is not a time") from None
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


def _settled(value: Any) -> Any:
    """The same value in one spelling: lists without an order of their own, 2.50 and 2.5 alike, so that re-ordering is no change."""
    if isinstance(value, dict):
        return {key: _settled(inner) for key, inner in value.items()}
    if isinstance(value, list):
        settled = [_settled(inner) for inner in value]
        return settled if len(settled) < 2 else sorted(settled, key=_canonical.encode)
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else value.normalize()
    return value


def _pick(item: Mapping[str, Any], paths: Iterable[str]) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for path in paths:
        value = _at(item, path)
        if value is None:
            continue
        *outer, last = _steps(path)
        place = kept
        for step in outer:
            place = place.setdefault(step, {})
        place[last] = _settled(value)
    return kept


_ROWS = (
    Kind(
        name="project",
        asset="projects",
        path="/v2/projects",
        key="projects",
        scope="project:read",
        region=None,
        status=None,
        tags=None,
        attrs=("description", "purpose", "environment", "is_default"),
    ),
    Kind(
        name="droplet",
        asset="droplets",
        path="/v2/droplets",
        key="droplets",
        scope="droplet:read",
        # GPU droplets are left out of the plain listing: https://docs.digitalocean.com/reference/api/digitalocean/#tag/Droplets
        passes=({}, {"type": "gpus"}),
        monthly_price="size.price_monthly",
        attrs=(
            "size_slug",
            "memory",
            "vcpus",
            "disk",
            "features",
            "vpc_uuid",
            "volume_ids",
            "networks",
            "image.id",
            "image.name",
            "image.slug",
            "image.distribution",
        ),
        drift=("size_slug", "vpc_uuid"),
        urn_names=("droplet",),
        billed_id="resource_id",
    ),
    Kind(
        name="volume",
        asset="volumes",
        path="/v2/volumes",
        key="volumes",
        scope="block_storage:read",
        status=None,
        attrs=("size_gigabytes", "description", "droplet_ids", "filesystem_type", "filesystem_label"),
        drift=("size_gigabytes",),
        urn_names=("volume",),
    ),
    Kind(
        name="snapshot",
        asset="snapshots",
        path="/v2/snapshots",
        key="snapshots",
        scope="snapshot:read",
        region="regions",
        status=None,
        parent=("resource_type", "resource_id"),
        attrs=("size_gigabytes", "min_disk_size", "resource_type"),
        drift=("size_gigabytes",),
        urn_names=("snapshot", "volumesnapshot", "image"),
        in_projects=False,
        billed_id="resource_id",
    ),
    Kind(
        name="droplet_backup",
        asset="droplet_backups",
        path="/v2/images",  # with private=true; see backups.py for how droplets are found
        key="images",
        scope="image:read",
        region="regions",
        tags=None,
        parent=(None, "droplet_id"),
        parent_kind="droplet",
        attrs=("size_gigabytes", "min_disk_size", "distribution"),
        urn_names=("backup",),
        in_projects=False,
    ),
    Kind(
        name="reserved_ip",
        asset="reserved_ips",
        path="/v2/reserved_ips",
        key="reserved_ips",
        scope="reserved_ip:read",
        id="ip",
        label="ip",
        status=None,
        tags=None,
        created=None,
        project_id="project_id",
        attrs=("droplet.id", "droplet.name"),
        urn_names=("floatingip", "reservedip"),
    ),
    Kind(
        name="firewall",
        asset="firewalls",
        path="/v2/firewalls",
        key="firewalls",
        scope="firewall:read",
        region=None,
        attrs=("inbound_rules", "outbound_rules", "droplet_ids"),
        drift=("inbound_rules", "outbound_rules", "droplet_ids"),
        urn_names=("firewall",),
        in_projects=False,
    ),
    Kind(
        name="load_balancer",
        asset="load_balancers",
        path="/v2/load_balancers",
        key="load_balancers",
        scope="load_balancer:read",
        tags="tag",
        project_id="project_id",
        attrs=(
            "ip",
            "ipv6",
            "type",
            "network",
            "size",
            "size_unit",
            "vpc_uuid",
            "algorithm",
            "droplet_ids",
            "forwarding_rules",
            "health_check",
            "sticky_sessions",
            "redirect_http_to_https",
            "enable_proxy_protocol",
        ),
        drift=("forwarding_rules", "size", "size_unit", "droplet_ids", "vpc_uuid"),
        urn_names=("loadbalancer",),
    ),
    Kind(
        name="dns_zone",
        asset="domains",
        path="/v2/domains",
        key="domains",
        scope="domain:read",
        id="name",
        region=None,
        status=None,
        tags=None,
        created=None,
        attrs=("ttl",),
        urn_names=("domain",),
    ),
    Kind(name="spaces_bucket", urn_names=("space",)),
    Kind(name="managed_db", urn_names=("dbaas",)),
    Kind(name="k8s_cluster", urn_names=("kubernetes",)),
    Kind(name="app", urn_names=("app",)),
    Kind(name="reserved_ipv6", urn_names=("floatingipv6", "reservedipv6")),
)

KINDS: dict[str, Kind] = {kind.name: kind for kind in _ROWS}


def kind_named(name: str) -> Kind:
    """The row of a kind; for a name that only URNs have shown so far, a row that says nothing but its name."""
    return KINDS.get(name) or Kind(name=name)
