"""The kinds of resources, one row each, and how an item of a listing reads as a `Resource`.

Everything that differs between kinds is data in `KINDS`: where they are listed, which fields are kept, which changes count as drift,
which URN names and token scope belong to them. A new kind is a new row. No code for one kind, no HTTP, no database.
"""

import functools
import hashlib
import operator
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast

import msgspec

from arcadia_dagster.digitalocean import documents, items
from arcadia_dagster.digitalocean.documents import read_decimal
from arcadia_dagster.digitalocean.items import decode_item, decode_number
from arcadia_dagster.digitalocean.replies import Paging

_canonical = msgspec.json.Encoder(decimal_format="number", order="deterministic")  # one spelling for one value

# Of all that decides how an item reads, beside the item: two items alike read alike only by the same edition.
EDITION = hashlib.blake2b(
    b"".join(Path(str(file)).read_bytes() for file in (__file__, documents.__file__, items.__file__)), digest_size=8
).digest()


class Resource(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One thing the account has, as the ledger keeps it. Times are UTC; `monthly_price` is USD a month at list price.

    `attrs` is JSON, as `spell_attrs` makes it: nearly all that is read is kept as it is, and looked into only where it has changed.
    """

    provider_id: str
    name: str
    region: str | None = None
    status: str | None = None
    tags: tuple[str, ...] = ()
    attrs: str = "{}"
    monthly_price: Decimal | None = None
    own_project_id: str | None = None
    parent_kind: str | None = None
    parent_provider_id: str | None = None
    provider_created_at: datetime | None = None


Reader: TypeAlias = Callable[[str], tuple[Resource, bytes | None]]


class Sightings:
    """What a listing showed, by provider id. A thing is read when it is asked for, and need not be where its digest is known.

    `digests` has every id. Two things of one id with the same digest read alike by the same `EDITION` of the code; None: nothing is known
    without a look at it.
    """

    digests: Mapping[str, bytes | None]

    def __init__(self, things: Iterable[Resource]) -> None:
        """Things that have been read already; of two with the same id the later one."""
        self._things = {one.provider_id: one for one in things}
        self.digests = dict.fromkeys(self._things)

    def __len__(self) -> int:
        return len(self.digests)

    def unlike(self, held: Mapping[str, bytes | None]) -> list[str]:
        """The ids of those that must be looked at, as their digest is not the one that is held of them."""
        return [one for one, digest in self.digests.items() if digest is None or held.get(one) != digest]

    def reader(self, ids: Collection[str]) -> Reader:  # noqa: ARG002
        """What reads any one of these ids, and tells its digest, None where it has none.

        It raises ValueError, with a sentence for the user, where a thing cannot be read.
        """
        return lambda one: (self._things[one], None)

    def beside(self, others: "Sightings") -> "Sightings":
        """These, and those of the others that are not among these."""
        return _Together(self, others)


class _Together(Sightings):
    def __init__(self, some: Sightings, others: Sightings) -> None:
        self._some, self._others = some, others
        self.digests = {**dict.fromkeys(others.digests), **some.digests}

    def reader(self, ids: Collection[str]) -> Reader:
        read_some, read_others = self._some.reader(ids), self._others.reader(ids)
        return lambda one: read_some(one) if one in self._some.digests else (read_others(one)[0], None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of resource. Paths into an item are dotted (`size.price_monthly`).

    `attrs` is the allow-list: a field that is not named here is never kept, because list replies carry passwords, keys and environment
    values. Every kept field means something: a change of it is an event. Fields that change by themselves (next backup window, locks,
    counters) are therefore left out.
    """

    name: str
    asset: str | None = None  # the Dagster asset that lists it; None: known from project URNs only
    job: Literal["sync_inventory", "sync_catalogue", "sync_snapshots", "sync_backups"] = "sync_inventory"
    path: str | None = None
    key: str | None = None  # of the array in the reply
    scope: str | None = None
    paging: Paging = Paging.PAGES
    passes: tuple[Mapping[str, str], ...] = ({},)  # queries that together make one listing
    per_region: bool = False  # one query for each region of the provider
    listed_along: str | None = None  # the kind of which each thing has a list of these; `path` then holds `{id}`
    along_only: tuple[str, tuple[str, ...]] | None = None  # (field, values) of the things that can have such a list
    inner: str | None = None  # the field of a listed item that holds the list of these
    inner_of: str = "id"  # what makes an item distinct that has such a field
    also_in_walk: bool = False  # its list need not show all: what the walk of the projects finds exists as well
    id: str = "id"
    label: str = "name"  # the field that names it to people
    region: str | None = "region.slug"
    status: str | None = "status"
    tags: str | None = "tags"
    created: str | None = "created_at"
    monthly_price: str | None = None
    price_in_cents: bool = False
    project_id: str | None = None  # where the object itself says which project it is in
    parent: tuple[str | None, str] | None = None  # (field of the parent's kind, field of its id)
    parent_kind: str | None = None  # when it is always the same
    attrs: tuple[str, ...] = ()
    drift: tuple[str, ...] = ()  # fields whose change behind the owner's back is worth a look, besides region and project
    urn_names: tuple[str, ...] = ()
    in_projects: bool = True  # False: the provider never lists it in a project
    in_cluster: bool = False  # a Kubernetes cluster makes such things, and tags them with its id
    # Which of an invoice item's two ids is its provider id. Seen filled: resource_id for what has numbers, resource_uuid for the rest.
    billed_id: Literal["resource_id", "resource_uuid"] = "resource_uuid"

    @property
    def list_id(self) -> str:
        """The field that tells the items of its list apart."""
        return self.id if self.inner is None else self.inner_of

    def read(self, item: Mapping[str, Any]) -> Resource:
        """The item of a listing, as a Resource. Raises ValueError where the id is missing or a time cannot be read."""
        tags = _tags(_at(item, self.tags))
        attrs = _pick(item, self.attrs)
        if self.in_cluster and (cluster := _cluster(tags)) is not None:
            attrs["k8s_cluster_id"] = cluster
        return self.resource([_at(item, path) for path in self.fields], tags, spell_attrs(attrs))

    @property
    def fields(self) -> tuple[str | None, ...]:
        """The paths to what is read of an item beside its tags and attributes."""
        plain = (self.id, self.label, self.region, self.status, self.created, self.monthly_price, self.project_id)
        return (*plain, *(self.parent or (None, None)))

    def resource(self, fields: Sequence[Any], tags: tuple[str, ...], attrs: str) -> Resource:
        """The Resource with what was found at the paths of `fields`, these tags and attributes. Raises ValueError as `read` does."""
        id_, label, region, status, created, monthly_price, project_id, parent_kind, parent_id = fields
        provider_id = _text(id_)
        if provider_id is None:
            raise ValueError(f"a {self.name} without {self.id!r}")
        parent = _text(parent_id)
        return Resource(
            provider_id=provider_id,
            name=_text(label) or provider_id,
            region=_region(region),
            status=_text(status),
            tags=tags,
            attrs=attrs,
            monthly_price=_price(monthly_price, in_cents=self.price_in_cents),
            own_project_id=_text(project_id),
            parent_kind=None if parent is None else self.parent_kind or _text(parent_kind),
            parent_provider_id=parent,
            provider_created_at=_time(created, self.name, provider_id),
        )


def reader(kind: Kind) -> Callable[[bytes | memoryview], Resource]:
    """What reads items of the kind from their JSON: as `Kind.read` does, nearly all of them in half the time.

    They are decoded to types of what is read, and nothing else is made objects. Items that these types do not allow for, and those that
    take more than to put their lists in order, are read by `Kind.read`.
    """
    fields = [path for path in (*kind.fields, kind.tags) if path is not None]
    plain, objects, _ = _plan((*fields,))
    plain_attrs, in_objects, in_lists = _plan(kind.attrs)
    inside = {*in_objects, *in_lists}
    if inside & {*objects} or (inside | {*objects}) & {*plain, *plain_attrs}:
        return lambda content: kind.read(decode_item(content))  # what is no attribute lies among them
    cluster = ("k8s_cluster_id",) if kind.in_cluster else ()
    kept = _shape((*kind.attrs, *cluster))
    decode = msgspec.json.Decoder(_shape((*fields, *kind.attrs, *cluster)), float_hook=decode_number).decode
    getters, tags_of = [_getter(path) for path in kind.fields], _getter(kind.tags)
    kept_of = _values(kept.__struct_fields__)

    def read(content: bytes | memoryview) -> Resource:
        try:
            item = decode(content)
        except msgspec.ValidationError:
            return kind.read(decode_item(content))
        tags = _tags(tags_of(item))
        if cluster:
            item.k8s_cluster_id = _cluster(tags)  # type: ignore[attr-defined]
        attrs = _canonical.encode(kept(*_settled_all(kept_of(item)))).decode()
        if _is_unusual(attrs) or "{}" in attrs:
            return kind.read(decode_item(content))
        return kind.resource([get(item) for get in getters], tags, attrs)

    return read


class _Part(msgspec.Struct, omit_defaults=True, gc=False):
    """An object, as far as it is read. None: there is no such field, or it is null."""


@functools.cache
def _shape(paths: tuple[str, ...]) -> type[_Part]:
    """The type of an object with what these paths lead to, its fields in the order of their names."""
    plain, objects, lists = _plan(paths)
    types: dict[str, Any] = dict.fromkeys(plain, Any)
    types |= {name: _shape(inner) | None for name, inner in objects.items()}
    types |= {name: list[_shape(inner)] | None for name, inner in lists.items()}  # type: ignore[misc]
    fields = [(name, types[name], None) for name in sorted(types)]
    shape = cast(type[_Part], msgspec.defstruct("Shape", fields, bases=(_Part,), gc=False, omit_defaults=True))
    _SETTLE[shape] = _settled_part
    return shape


def _values(names: tuple[str, ...]) -> Callable[[_Part], Iterable[Any]]:
    """What gets these fields, all at once where there are several."""
    return operator.attrgetter(*names) if len(names) > 1 else lambda part: [getattr(part, name) for name in names]


def _getter(path: str | None) -> Callable[[_Part], Any]:
    if path is None:
        return lambda _: None
    first, _, rest = path.partition(".")
    outer = operator.attrgetter(first)
    if not rest:
        return outer
    inner = _getter(rest)
    return lambda part: None if (value := outer(part)) is None else inner(value)


_CLUSTER_TAG = re.compile(r"k8s:([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})")
_USER_IN_URL = re.compile(r"(?<=://)[^/\s@]*@")

_steps = functools.cache(operator.methodcaller("split", "."))


def _at(item: Mapping[str, Any], path: str | None) -> Any:
    if path is None:
        return None
    if "." not in path:
        return item.get(path)
    value: Any = item
    for step in _steps(path):
        if not isinstance(value, dict):
            return None
        value = value.get(step)
    return value


def _text(value: Any) -> str | None:
    if type(value) is str and "\0" not in value:
        return value or None
    return None if value is None else str(_storable(value))


def _storable(value: Any) -> Any:
    if isinstance(value, str) and "\0" in value:
        raise ValueError(f"{value[:40]!r} holds a NUL character, which no text may hold")
    return value


def _region(value: Any) -> str | None:
    """A snapshot is in a list of regions; the names are joined so that one column says where it is."""
    if isinstance(value, list):
        return ",".join(sorted(str(_storable(region)) for region in value)) or None
    return _text(value)


def _tags(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):  # load balancers have one tag
        value = [value] if value else []
    if value is not None and not isinstance(value, list):
        raise ValueError(f"its tags are of type {type(value).__name__}, not a list")
    if not value:
        return ()
    try:
        plain = "\0" not in "".join(value)
    except TypeError:
        plain = False
    return tuple(sorted(value if plain else (str(_storable(tag)) for tag in value)))


def _price(value: Any, *, in_cents: bool) -> Decimal | None:
    if value is None:
        return None
    price = read_decimal(value)
    if price is None:
        raise ValueError(f"{str(value)[:40]!r} is not a price")
    return price / 100 if in_cents else price


@functools.lru_cache(1000)
def _cluster(tags: tuple[str, ...]) -> str | None:
    """The Kubernetes cluster whose tag is among these: its nodes, volumes and load balancers bear `k8s:` and its id."""
    return next((match[1] for tag in tags if (match := _CLUSTER_TAG.fullmatch(tag))), None)


def _time(value: Any, kind: str, provider_id: str) -> datetime | None:
    if value is None or value == "":
        return None
    try:
        time = datetime.fromisoformat(str(value))
        if time.tzinfo is UTC:
            return time
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(f"{kind} {provider_id}: {str(value)[:40]!r} is not a time") from None


def spell_attrs(attrs: Mapping[str, Any]) -> str:
    """These attributes as JSON, in one spelling: lists without an order of their own, 2.50 and 2.5 alike, so that re-ordering is no change.

    An address loses the user and password that it may hold. Raises ValueError for what cannot be stored: a NUL character, a number
    without end.
    """
    spelled = _canonical.encode(_settled_object(attrs)).decode()
    return _canonical.encode(_settled_object(_cleaned(attrs))).decode() if _is_unusual(spelled) else spelled


def _is_unusual(spelled: str) -> bool:
    """Whether a text in it cannot be kept as it is. Most attributes have none, and are looked through once instead of text by text."""
    return ("\\" in spelled and "\\u0000" in spelled) or ("/" in spelled and "://" in spelled)


def _cleaned(value: Any) -> Any:
    if isinstance(value, str):
        return _USER_IN_URL.sub("", str(_storable(value)))
    if isinstance(value, Mapping):
        return {_storable(key): _cleaned(inner) for key, inner in value.items()}
    return [*map(_cleaned, value)] if isinstance(value, list) else value


def _settled_object(value: Mapping[str, Any]) -> Mapping[str, Any]:
    for inner in value.values():
        if type(inner) in _SETTLE:
            return {key: _SETTLE[kind](inner) if (kind := type(inner)) in _SETTLE else inner for key, inner in value.items()}
    return value


def _settled_part(part: _Part) -> _Part:
    values = msgspec.structs.astuple(part)
    for inner in values:
        if type(inner) in _SETTLE:
            return type(part)(*_settled_all(values))
    return part


def _settled_list(value: list[Any]) -> list[Any]:
    settled = _settled_all(value) if value else value
    if len(settled) == 2:  # as a droplet's networks, and to sort them takes longer than to compare the two
        first, second = settled
        return settled if _canonical.encode(first) <= _canonical.encode(second) else [second, first]
    return settled if len(settled) < 2 else sorted(settled, key=_canonical.encode)


def _settled_all(values: Iterable[Any]) -> list[Any]:
    return [_SETTLE[kind](value) if (kind := type(value)) in _SETTLE else value for value in values]


def _settled_number(value: Decimal) -> int | Decimal:
    if not value.is_finite() or value.adjusted() > 40:
        raise ValueError(f"{str(value)[:40]!r} is not a number")
    return int(value) if value == value.to_integral_value() else value.normalize()


_SETTLE: dict[type, Callable[[Any], Any]] = {dict: _settled_object, list: _settled_list, Decimal: _settled_number}


@functools.cache
def _plan(paths: tuple[str, ...]) -> tuple[tuple[str, ...], Mapping[str, tuple[str, ...]], Mapping[str, tuple[str, ...]]]:
    """These paths apart: the fields themselves, and what is wanted inside those that are objects and those that are lists of objects."""
    fields: list[str] = []
    objects: dict[str, tuple[str, ...]] = {}
    lists: dict[str, tuple[str, ...]] = {}
    for path in paths:
        first, _, rest = path.partition(".")
        if not rest:
            fields.append(first)
        elif first.endswith("[]"):
            lists[first[:-2]] = (*lists.get(first[:-2], ()), rest)
        else:
            objects[first] = (*objects.get(first, ()), rest)
    return tuple(fields), objects, lists


def _pick(item: Mapping[str, Any], paths: tuple[str, ...]) -> dict[str, Any]:
    """The values at these paths and nothing else. `pools[].size` is the size of every pool in a list of them."""
    fields, objects, lists = _plan(paths)
    kept = {name: value for name in fields if (value := item.get(name)) is not None}
    for name, inner in objects.items():
        value = item.get(name)
        if isinstance(value, dict) and (picked := _pick(value, inner)):
            kept[name] = picked
    for name, inner in lists.items():
        value = item.get(name)
        if isinstance(value, list):
            kept[name] = [_pick(one, inner) for one in value if isinstance(one, dict)]
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
            *(f"networks.{v}[].{field}" for v in ("v4", "v6") for field in ("ip_address", "netmask", "gateway", "type")),
            "image.id",
            "image.name",
            "image.slug",
            "image.distribution",
            "autoscale_pool_id",  # not the droplet's own: the pool that made it names it
        ),
        drift=("size_slug", "vpc_uuid"),
        urn_names=("droplet",),
        in_cluster=True,
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
        in_cluster=True,
    ),
    Kind(
        name="snapshot",
        asset="snapshots",
        job="sync_snapshots",
        path="/v2/snapshots",
        key="snapshots",
        scope="snapshot:read",
        region="regions",
        status=None,
        parent=("resource_type", "resource_id"),
        attrs=("size_gigabytes", "min_disk_size", "resource_type"),
        drift=("size_gigabytes",),
        urn_names=("snapshot", "volumesnapshot", "image"),
        in_cluster=True,
        in_projects=False,
        billed_id="resource_id",
    ),
    Kind(
        name="droplet_backup",
        asset="droplet_backups",
        job="sync_backups",
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
        in_cluster=True,
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
    # What is billed, besides
    Kind(
        name="spaces_bucket",
        asset="spaces_buckets",
        path="/v2/spaces/keys",  # there is no list of buckets: https://docs.digitalocean.com/reference/api/digitalocean/#tag/Spaces-Keys
        key="keys",
        scope="spaces_key:read",
        inner="grants",
        inner_of="access_key",
        also_in_walk=True,
        id="bucket",
        label="bucket",
        region=None,
        status=None,
        tags=None,
        created=None,
        urn_names=("space",),
    ),
    Kind(
        name="managed_db",
        asset="databases",
        path="/v2/databases",
        key="databases",
        scope="database:read",
        paging=Paging.SINGLE,
        region="region",
        project_id="project_id",
        attrs=("engine", "version", "size", "num_nodes", "storage_size_mib", "db_names", "private_network_uuid"),
        drift=("engine", "size", "num_nodes", "storage_size_mib", "private_network_uuid"),
        urn_names=("dbaas",),
    ),
    Kind(
        name="db_replica",
        asset="database_replicas",
        path="/v2/databases/{id}/replicas",
        key="replicas",
        scope="database:read",
        paging=Paging.SINGLE,
        listed_along="managed_db",
        # https://docs.digitalocean.com/products/databases/#read-only-nodes: other engines have none, and no such list
        along_only=("engine", ("pg", "mysql", "advanced_pg", "advanced_mysql")),
        region="region",
        parent=(None, "parent_id"),
        parent_kind="managed_db",
        attrs=("size", "storage_size_mib", "private_network_uuid"),
        drift=("size", "storage_size_mib"),
        in_projects=False,
    ),
    Kind(
        name="k8s_cluster",
        asset="kubernetes_clusters",
        path="/v2/kubernetes/clusters",
        key="kubernetes_clusters",
        scope="kubernetes:read",
        region="region",
        status="status.state",
        attrs=(
            "version",
            "ha",
            "vpc_uuid",
            "auto_upgrade",
            "surge_upgrade",
            "cluster_subnet",
            "service_subnet",
            "registry_enabled",
            "control_plane_firewall",
            "node_pools[].id",
            "node_pools[].name",
            "node_pools[].size",
            "node_pools[].count",
            "node_pools[].auto_scale",
            "node_pools[].min_nodes",
            "node_pools[].max_nodes",
            "node_pools[].nodes[].id",
            "node_pools[].nodes[].name",
            "node_pools[].nodes[].droplet_id",
        ),
        drift=("ha", "vpc_uuid", "control_plane_firewall"),
        urn_names=("kubernetes",),
    ),
    Kind(
        name="app",
        asset="apps",
        path="/v2/apps",
        key="apps",
        scope="app:read",
        label="spec.name",
        status=None,
        tags=None,
        project_id="project_id",
        attrs=(
            "tier_slug",
            "live_domain",
            *(
                f"spec.{components}[].{field}"
                for components in ("services", "workers", "jobs")
                for field in ("name", "instance_size_slug", "instance_count", "autoscaling")
            ),
            "spec.static_sites[].name",
            "spec.functions[].name",
            *(f"spec.databases[].{field}" for field in ("name", "engine", "version", "production", "cluster_name")),
            "spec.domains[].domain",
            "spec.egress.type",
        ),
        drift=("tier_slug",),
        urn_names=("app",),
    ),
    Kind(
        name="function_namespace",
        asset="function_namespaces",
        path="/v2/functions/namespaces",
        key="namespaces",
        scope="function:read",
        paging=Paging.SINGLE,
        id="uuid",
        label="label",
        region="region",
        status=None,
        tags=None,
        attrs=("namespace", "api_host"),
        in_projects=False,
    ),
    Kind(
        name="registry",
        asset="registries",
        path="/v2/registries",
        key="registries",
        scope="registry:read",
        paging=Paging.SINGLE,
        id="name",
        region="region",
        status=None,
        tags=None,
        monthly_price="subscription.tier.monthly_price_in_cents",
        price_in_cents=True,
        attrs=("subscription.tier.slug", "subscription.tier.name", "subscription.tier.included_storage_bytes"),
        drift=("subscription",),
        in_projects=False,
    ),
    Kind(
        name="nat_gateway",
        asset="nat_gateways",
        path="/v2/vpc_nat_gateways",
        key="vpc_nat_gateways",
        scope="nat_gateway:read",
        region="region",
        status="state",
        tags=None,
        attrs=("type", "size", "vpcs[].vpc_uuid", "vpcs[].gateway_ip", "egresses.public_gateways[].ipv4"),
        drift=("size", "vpcs"),
        urn_names=("nat_gateway",),
    ),
    Kind(
        name="autoscale_pool",
        asset="autoscale_pools",
        path="/v2/droplets/autoscale",
        key="autoscale_pools",
        scope="droplet:read",
        region="droplet_template.region",
        tags="droplet_template.tags",
        project_id="droplet_template.project_id",
        attrs=("config", "droplet_template.size", "droplet_template.image", "droplet_template.vpc_uuid", "droplet_template.ipv6"),
        drift=("config", "droplet_template"),
        in_projects=False,
    ),
    Kind(
        name="reserved_ipv6",
        asset="reserved_ipv6s",
        path="/v2/reserved_ipv6",
        key="reserved_ipv6s",
        scope="reserved_ip:read",
        id="ip",
        label="ip",
        region="region_slug",
        status=None,
        tags=None,
        created="reserved_at",
        attrs=("droplet.id", "droplet.name"),
        urn_names=("floatingipv6", "reservedipv6"),
    ),
    Kind(
        name="nfs_share",
        asset="nfs_shares",
        job="sync_catalogue",  # billed, yet a request for each region
        path="/v2/nfs",
        key="shares",
        scope="nfs:list",
        paging=Paging.SINGLE,
        per_region=True,
        region="region",
        tags=None,
        attrs=("size_gib", "performance_tier", "vpc_ids", "mount_path", "host"),
        drift=("size_gib", "performance_tier", "vpc_ids"),
        in_projects=False,
    ),
    Kind(
        name="nfs_snapshot",
        asset="nfs_snapshots",
        job="sync_catalogue",
        path="/v2/nfs/snapshots",
        key="snapshots",
        scope="nfs:list",
        paging=Paging.SINGLE,
        per_region=True,
        region="region",
        tags=None,
        parent=(None, "share_id"),
        parent_kind="nfs_share",
        attrs=("size_gib",),
        drift=("size_gib",),
        in_projects=False,
    ),
    Kind(
        name="dedicated_inference",
        asset="dedicated_inferences",
        path="/v2/dedicated-inferences",
        key="dedicated_inferences",
        scope="dedicated_inference:read",
        label="spec.name",
        region="region",
        tags=None,
        attrs=(
            "vpc_uuid",
            "spec.enable_public_endpoint",
            "spec.model_deployments[].model_slug",
            "spec.model_deployments[].model_provider",
            "spec.model_deployments[].accelerators[].accelerator_slug",
            "spec.model_deployments[].accelerators[].scale",
        ),
        drift=("spec", "vpc_uuid"),
        in_projects=False,
    ),
    Kind(
        name="vector_database",
        asset="vector_databases",
        path="/v2/vector-databases",
        key="vector_dbs",
        scope="database:read",
        paging=Paging.TOTAL,
        region="region",
        project_id="project_id",
        attrs=("size", "config.weaviate_version"),
        drift=("size",),
    ),
    Kind(
        name="genai_agent",
        asset="genai_agents",
        path="/v2/gen-ai/agents",
        key="agents",
        scope="genai:read",
        paging=Paging.META,
        id="uuid",
        region="region",
        status="deployment.status",
        project_id="project_id",
        attrs=("model.name", "model.uuid", "deployment.visibility"),
        drift=("deployment",),
    ),
    Kind(
        name="genai_knowledge_base",
        asset="genai_knowledge_bases",
        path="/v2/gen-ai/knowledge_bases",
        key="knowledge_bases",
        scope="genai:read",
        paging=Paging.META,
        id="uuid",
        region="region",
        status=None,
        project_id="project_id",
        attrs=("database_id", "embedding_model_uuid", "is_public"),
        drift=("is_public",),
    ),
    Kind(
        name="addon",
        asset="addons",
        path="/v2/add-ons/saas",
        key="resources",
        scope="addon:read",
        paging=Paging.SINGLE,
        id="uuid",
        region=None,
        status="state",
        tags=None,
        created=None,
        monthly_price="plan_price_per_month",
        attrs=("app_name", "app_slug", "plan_name", "plan_slug"),
        drift=("plan_slug",),
        in_projects=False,
    ),
    # Billed by their number, or free: what explains the others
    Kind(
        name="cdn_endpoint",
        asset="cdn_endpoints",
        job="sync_catalogue",
        path="/v2/cdn/endpoints",
        key="endpoints",
        scope="cdn:read",
        label="endpoint",
        region=None,
        status=None,
        tags=None,
        attrs=("origin", "custom_domain", "certificate_id", "ttl"),
        drift=("origin", "custom_domain", "certificate_id"),
        in_projects=False,
    ),
    Kind(
        name="uptime_check",
        asset="uptime_checks",
        job="sync_catalogue",
        path="/v2/uptime/checks",
        key="checks",
        scope="uptime:read",
        region="regions",
        status=None,
        tags=None,
        created=None,
        attrs=("type", "target", "enabled"),
        drift=("enabled",),
        in_projects=False,
    ),
    Kind(
        name="certificate",
        asset="certificates",
        job="sync_catalogue",
        path="/v2/certificates",
        key="certificates",
        scope="certificate:read",
        region=None,
        status="state",
        tags=None,
        attrs=("type", "dns_names", "not_after", "sha1_fingerprint"),
        drift=("dns_names",),
        in_projects=False,
    ),
    Kind(
        name="vpc",
        asset="vpcs",
        job="sync_catalogue",
        path="/v2/vpcs",
        key="vpcs",
        scope="vpc:read",
        region="region",
        status=None,
        tags=None,
        attrs=("ip_range", "description", "default"),
        drift=("ip_range", "default"),
        urn_names=("vpc",),
        in_projects=False,
    ),
    Kind(
        name="vpc_peering",
        asset="vpc_peerings",
        job="sync_catalogue",
        path="/v2/vpc_peerings",
        key="vpc_peerings",
        scope="vpc_peering:read",
        region=None,
        tags=None,
        attrs=("vpc_ids",),
        drift=("vpc_ids",),
        in_projects=False,
    ),
    Kind(
        name="partner_attachment",
        asset="partner_attachments",
        job="sync_catalogue",
        path="/v2/partner_network_connect/attachments",
        key="partner_attachments",
        scope="partner_network_connect:read",
        region="region",
        status="state",
        tags=None,
        attrs=("connection_bandwidth_in_mbps", "naas_provider", "vpc_ids", "parent_uuid"),
        drift=("connection_bandwidth_in_mbps", "vpc_ids"),
        urn_names=("partner_attachment",),
        in_projects=False,
    ),
    Kind(
        name="byoip_prefix",
        asset="byoip_prefixes",
        job="sync_catalogue",
        path="/v2/byoip_prefixes",
        key="byoip_prefixes",
        scope="byoip_prefix:read",
        id="uuid",
        label="prefix",
        region="region",
        tags=None,
        created=None,
        project_id="project_id",
        attrs=("prefix", "advertised"),
        drift=("advertised",),
        in_projects=False,
    ),
    Kind(
        name="alert_policy",
        asset="alert_policies",
        job="sync_catalogue",
        path="/v2/monitoring/alerts",
        key="policies",
        scope="monitoring:read",
        id="uuid",
        label="description",
        region=None,
        status=None,
        created=None,
        attrs=("type", "compare", "value", "window", "enabled", "entities"),
        drift=("enabled",),
        in_projects=False,
    ),
    Kind(
        name="ssh_key",
        asset="ssh_keys",
        job="sync_catalogue",
        path="/v2/account/keys",
        key="ssh_keys",
        scope="ssh_key:read",
        region=None,
        status=None,
        tags=None,
        created=None,
        attrs=("fingerprint",),
        drift=("fingerprint",),
        in_projects=False,
    ),
    Kind(
        name="tag",
        asset="tags",
        job="sync_catalogue",
        path="/v2/tags",
        key="tags",
        scope="tag:read",
        id="name",
        region=None,
        status=None,
        tags=None,
        created=None,
        in_projects=False,
    ),
)

KINDS: dict[str, Kind] = {kind.name: kind for kind in _ROWS}


def kind_named(name: str) -> Kind:
    """The row of a kind; for a name that only URNs have shown so far, a row that says nothing but its name."""
    return KINDS.get(name) or Kind(name=name)
