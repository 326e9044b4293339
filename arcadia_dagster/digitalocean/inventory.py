"""Reading what an account has: one function for every kind's listing, and the readings that take more than one list.

Each returns a `Listing` or something like it: what was read, what it cost, and the error that cut it short. Nothing here decides what a
missing item means.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from arcadia_dagster.digitalocean.client import Client, Listing, at_once
from arcadia_dagster.digitalocean.items import Item
from arcadia_dagster.digitalocean.kinds import KINDS, Kind, Reader, Resource, Sightings, reader
from arcadia_dagster.digitalocean.replies import Forbidden, NotFound, Paging, ProviderError
from arcadia_dagster.digitalocean.urns import parse_urn


class Reading(Sightings):
    """What one listing of one kind showed.

    `error` says why the listing is incomplete; an item that cannot be read makes it so from when that was tried. None: it is complete.
    """

    def __init__(self, kind: Kind, listing: Listing) -> None:
        self.kind = kind
        self.requests = listing.requests
        self.error = None if listing.error is None else str(listing.error)
        self._items = listing.by_id
        self.digests = self._items.digests

    def unlike(self, held: Mapping[str, bytes | None]) -> list[str]:
        """As of any sightings."""
        return self._items.unlike(held)

    def reader(self, ids: Collection[str]) -> Reader:
        """As of any sightings."""
        self._items.locate(ids)
        items, kind, read = self._items, self.kind, reader(self.kind)

        def thing(one: str) -> tuple[Resource, bytes | None]:
            try:
                content, digest = items.content(one)
                return kind.read(items.item(one)) if content is None else read(content), digest
            except ValueError as problem:
                sentence = f"an item of the {self.kind.name} listing cannot be read: {problem}"
                self.error = self.error or sentence
                raise ValueError(sentence) from None

        return thing


@dataclass(frozen=True, kw_only=True)
class Walk:
    """What a walk of all projects found: (kind, provider id) -> id of the project."""

    memberships: dict[tuple[str, str], str]
    requests: int
    error: str | None
    problem: ProviderError | None = None  # the provider's part in the error


def list_kind(client: Client, kind: Kind, known: Mapping[str, bytes | None] | None = None) -> Listing:
    """Every page of every pass that together make one listing of the kind.

    Of an item that has the digest that `known` has for its id, no more need be kept.
    """
    if kind.path is None or kind.key is None:
        raise ValueError(f"{kind.name} has no listing; it is known from project URNs only")
    if kind.name == "droplet_backup":
        return list_backups(client)
    leads_to_others = any(other.listed_along == kind.name for other in KINDS.values())
    if leads_to_others or kind.inner is not None:  # others are read by what is in it
        known = None
    if kind.listed_along is not None:
        return _list_along(client, kind, KINDS[kind.listed_along])
    listing = Listing(items=[], requests=0, error=None, id_field=kind.list_id)
    passes: Iterable[Mapping[str, str]] = kind.passes
    if kind.per_region:
        regions = _remembered(client, "region", _list_regions)
        listing = Listing(items=[], requests=regions.requests, error=regions.error, id_field=kind.list_id)
        passes = [{"region": region["slug"]} for region in regions.items]
    path = kind.path
    listing = sum(at_once(lambda query: _list(client, kind, path, query, known), passes), listing)
    if kind.name == "project":  # https://docs.digitalocean.com/products/projects/details/features/
        listing = _not_empty(listing, kind.name, kind.path, "every team has a default project")
    if kind.inner is not None:
        listing = _inside(listing, kind, kind.inner)
    if listing.complete and leads_to_others:
        client.listed[kind.name] = listing
    return listing


def _list(
    client: Client, kind: Kind, path: str, query: Mapping[str, str] | None = None, known: Mapping[str, bytes | None] | None = None
) -> Listing:
    return client.list(
        path, kind.key or "", kind=kind.name, id_field=kind.list_id, scope=kind.scope, params=query, paging=kind.paging, known=known
    )


def _list_regions(client: Client) -> Listing:
    listing = client.list("/v2/regions", "regions", kind="region", id_field="slug", scope="regions:read")
    return _not_empty(listing, "region", "/v2/regions", "the provider has regions")


def _remembered(client: Client, name: str, read: Callable[[Client], Listing]) -> Listing:
    """A listing that others are read along; one that this client has read already costs nothing again."""
    known = client.listed.get(name)
    if known is not None:
        return Listing(items=known.items, requests=0, error=None, id_field=known.id_field)
    listing = read(client)
    if listing.complete:
        client.listed[name] = listing
    return listing


def _list_along(client: Client, kind: Kind, parent: Kind) -> Listing:
    """The lists that every thing of the parent's kind has of its own, as one; each item with the `parent_id` of whose list it was in."""
    parents = _remembered(client, parent.name, lambda client: list_kind(client, parent))
    listing = Listing(items=[], requests=parents.requests, error=parents.error, id_field=kind.list_id)
    only_field, values = kind.along_only or (None, ())
    having: list[Any] = []
    for item in parents.items if parents.complete else ():
        if only_field is not None and not isinstance(item.get(only_field), str):
            error = _unreadable(
                kind, parent.path or "", f"{only_field!r} of a {parent.name} is no text, so which of these it has is unknown"
            )
            listing += Listing(items=[], requests=0, error=error, id_field=kind.list_id)
        elif only_field is None or item[only_field] in values:
            having.append(item[parent.list_id])
    return sum(at_once(lambda one: _with(_list(client, kind, str(kind.path).format(id=one)), parent_id=one), having), listing)


def _with(listing: Listing, **fields: Any) -> Listing:
    """The listing, each item with these fields besides: the reply does not say of whom it is."""
    return replace(listing, items=listing.by_id.adding(lambda _: fields))


def _inside(listing: Listing, kind: Kind, field: str) -> Listing:
    """The things that the items of a listing name in a list of their own, each once; what names nothing is left out."""
    inner: dict[str, Any] = {}
    error = listing.error
    for item in listing.items:
        entries = item.get(field) or []
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            error = error or _unreadable(kind, kind.path or "", f"{field!r} of an item is not a list of objects")
            continue
        inner |= {str(entry[kind.id]): entry for entry in entries if entry.get(kind.id)}
    return Listing(items=list(inner.values()), requests=listing.requests, error=error, id_field=kind.id)


def _unreadable(kind: Kind, path: str, message: str) -> ProviderError:
    return ProviderError(kind=kind.name, path=path, status=200, message=message, advice="nothing follows from it; run again later")


def _not_empty(listing: Listing, kind: str, path: str, why: str) -> Listing:
    """The listing of what every account has: an empty one is not the truth, and everything in what it lacks would be missed."""
    if listing.items or listing.error is not None:
        return listing
    error = ProviderError(kind=kind, path=path, status=200, message=f"the list is empty, and {why}", advice="run again later")
    return Listing(items=[], requests=listing.requests, error=error, id_field=listing.id_field)


def list_pool_members(client: Client, pool_ids: Iterable[str]) -> Listing:
    """The droplets (`droplet_id`) of these autoscale pools, each with its `autoscale_pool_id`: nothing in a droplet itself says so.

    One request for each pool. A pool that is gone has none.
    """

    def of(pool_id: str) -> Listing:
        one = client.list(
            f"/v2/droplets/autoscale/{pool_id}/members", "droplets", kind="autoscale_pool", id_field="droplet_id", scope="droplet:read"
        )
        return _with(replace(one, error=None if isinstance(one.error, NotFound) else one.error), autoscale_pool_id=pool_id)

    return sum(at_once(of, pool_ids), Listing(items=[], requests=0, error=None, id_field="droplet_id"))


def list_backups(client: Client) -> Listing:
    """All droplet backups, each with the `droplet_id` it was taken of, in as few requests as the data allows.

    Droplets name their backups (`backup_ids`); the account's private images hold their details, 200 to a request. A droplet is asked for
    its own backups only where an image is missing or the token may not read images; droplets without backups are never asked. A backup
    in no droplet's list belongs to a destroyed one and is kept, without a parent: where the images are refused, that is the error, beside
    all that the droplets show.
    """
    kind = KINDS["droplet_backup"]
    droplets = list_kind(client, KINDS["droplet"])
    if droplets.error is not None:
        return Listing(items=[], requests=droplets.requests, error=droplets.error)
    requests = droplets.requests
    owner: dict[str, Any] = {}
    unknown: list[Any] = []
    for droplet in droplets.items:
        if not all(isinstance(droplet.get(field) or [], list) for field in ("backup_ids", "features")):
            return Listing(items=[], requests=requests, error=_unreadable(kind, "/v2/droplets", "backup_ids or features is not a list"))
        owner |= {str(backup): droplet["id"] for backup in droplet.get("backup_ids") or ()}
        # A token without image:read sees no backup_ids at all; then the feature is the only sign.
        if "backup_ids" not in droplet and "backups" in (droplet.get("features") or ()):
            unknown.append(droplet["id"])
    images = client.list("/v2/images", "images", kind=kind.name, scope=kind.scope, params={"private": "true"})
    requests += images.requests
    if images.error is not None and not isinstance(images.error, Forbidden | NotFound):
        return Listing(items=[], requests=requests, error=images.error)
    if not all(isinstance(image.get("type"), str) for image in images.items):
        unknown_type = _unreadable(kind, "/v2/images", "the type of an image is no text, so whether it is a backup is unknown")
        return Listing(items=[], requests=requests, error=unknown_type)
    shown = {str(image["id"]) for image in images.items if image.get("type") == "backup"} if images.error is None else set()
    items = images.by_id.only(shown).adding(lambda backup: {"droplet_id": owner.get(backup)})

    def of(droplet_id: Any) -> Listing:
        path = f"/v2/droplets/{droplet_id}/backups"
        return _with(client.list(path, "backups", kind=kind.name, scope="droplet:read"), droplet_id=droplet_id)

    to_ask = dict.fromkeys([*(owner[backup] for backup in owner if backup not in shown), *unknown])
    listing = sum(at_once(of, to_ask), Listing(items=items, requests=requests, error=None))
    return replace(listing, error=listing.error or images.error)


def walk_projects(client: Client, project_ids: Iterable[str], *, missing: Collection[str] = ()) -> Walk:
    """What every project holds. A thing that the provider says is gone (`not_found`) does not count as found.

    `missing` are those projects that their newest listing did not show: one of them that is not found holds nothing.
    """
    memberships: dict[tuple[str, str], str] = {}
    requests, error, cause = 0, None, None

    def of(project_id: str) -> Listing:
        path = f"/v2/projects/{project_id}/resources"
        return client.list(path, "resources", kind="project_resource", id_field="urn", scope="project:read")

    ids = [*project_ids]
    for project_id, listing in zip(ids, at_once(of, ids), strict=True):
        requests += listing.requests
        if project_id in missing and isinstance(listing.error, NotFound):
            continue
        cause = cause or listing.error
        error = error or (None if listing.error is None else str(listing.error))
        for item in listing.items:
            if item.get("status") == "not_found":
                continue
            try:
                memberships[parse_urn(item["urn"])] = project_id
            except ValueError as problem:
                error = error or f"project {project_id}: {problem}"
    return Walk(memberships=memberships, requests=requests, error=error, problem=cause)


def create_project(client: Client, name: str) -> dict[str, Any]:
    """Make a project on the provider; returns it as a listing would show it. Raises ProviderError."""
    body: Mapping[str, Any] = {
        "name": name,
        "purpose": "Operational / Developer tooling",
        "description": "What belongs to no other project",
        "environment": "Production",
    }
    reply = client.post("/v2/projects", body, kind="project", scope="project:create")
    project = reply.get("project")
    if not isinstance(project, dict) or not project.get("id"):
        raise ProviderError(kind="project", path="/v2/projects", status=None, message="the reply names no project", request_id=None)
    return project


def list_invoices(client: Client) -> tuple[Sequence[Item], Sequence[Item]]:
    """The invoice list and the billing history. Raises ProviderError: a part of them is no list of invoices."""
    invoices = client.list("/v2/customers/my/invoices", "invoices", kind="invoice", id_field="invoice_uuid", scope="billing:read")
    # The history pages like the others, though its reply need not say how many entries there are.
    history = client.list(
        "/v2/customers/my/billing_history", "billing_history", kind="billing_history", id_field=None, scope="billing:read",
        paging=Paging.LINKS,
    )  # fmt: skip
    for listing in (invoices, history):
        if listing.error is not None:
            raise listing.error
    return [*invoices.items], [*history.items]


def read_invoice_preview(client: Client) -> Any:
    """What the reply with the invoice list says of the month that is not over, as it came; None: nothing. Raises ProviderError."""
    reply = client.get("/v2/customers/my/invoices", kind="invoice_preview", scope="billing:read", params={"per_page": 1})
    return reply.get("invoice_preview")
