"""Reading what an account has: one function for kinds with a plain listing, and the three readings that take more than one list.

Each returns a `Listing` or something like it: what was read, what it cost, and the error that cut it short. Nothing here decides what a
missing item means.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from arcadia_dagster.digitalocean.client import Client, Forbidden, Listing, NotFound, ProviderError
from arcadia_dagster.digitalocean.kinds import KINDS, Kind, Resource
from arcadia_dagster.digitalocean.urns import parse_urn


@dataclass(frozen=True, kw_only=True)
class Reading:
    """The resources of one kind in one account. `error` says why the listing is incomplete; None: it is complete."""

    resources: list[Resource]
    requests: int
    error: str | None


@dataclass(frozen=True, kw_only=True)
class Walk:
    """What a walk of all projects found: (kind, provider id) -> id of the project."""

    memberships: dict[tuple[str, str], str]
    requests: int
    error: str | None


def list_kind(client: Client, kind: Kind) -> Listing:
    """Every page of every pass that together make one listing of the kind."""
    if kind.path is None or kind.key is None:
        raise ValueError(f"{kind.name} has no listing; it is known from project URNs only")
    if kind.name == "droplet_backup":
        return list_backups(client)
    listing = Listing(items=[], requests=0, error=None, id_field=kind.id)
    for query in kind.passes:
        listing += client.list(kind.path, kind.key, kind=kind.name, id_field=kind.id, scope=kind.scope, params=query)
        if listing.error is not None:
            break
    return listing


def read_kind(kind: Kind, listing: Listing) -> Reading:
    """A listing as resources. An item that cannot be read makes the reading incomplete; the others are kept."""
    resources, error = [], None if listing.error is None else str(listing.error)
    for item in listing.items:
        try:
            resources.append(kind.read(item))
        except ValueError as problem:
            error = error or f"an item of the {kind.name} listing cannot be read: {problem}"
    return Reading(resources=resources, requests=listing.requests, error=error)


def list_backups(client: Client) -> Listing:
    """All droplet backups, each with the `droplet_id` it was taken of, in as few requests as the data allows.

    Droplets name their backups (`backup_ids`); the account's private images hold their details, 200 to a request. A droplet is asked for
    its own backups only where an image is missing or the token may not read images; droplets without backups are never asked. A backup
    in no droplet's list belongs to a destroyed one and is kept, without a parent.
    """
    kind = KINDS["droplet_backup"]
    droplets = list_kind(client, KINDS["droplet"])
    if droplets.error is not None:
        return Listing(items=[], requests=droplets.requests, error=droplets.error)
    requests, items = droplets.requests, {}
    owner = {str(backup): droplet["id"] for droplet in droplets.items for backup in droplet.get("backup_ids") or ()}
    # A token without image:read sees no backup_ids at all; then the feature is the only sign.
    unknown = [droplet["id"] for droplet in droplets.items if "backup_ids" not in droplet and "backups" in (droplet.get("features") or ())]
    images = client.list("/v2/images", "images", kind=kind.name, scope=kind.scope, params={"private": "true"})
    requests += images.requests
    if images.error is not None and not isinstance(images.error, Forbidden | NotFound):
        return Listing(items=[], requests=requests, error=images.error)
    for image in images.items if images.error is None else ():
        if image.get("type") == "backup":
            items[str(image["id"])] = {**image, "droplet_id": owner.get(str(image["id"]))}

    error: ProviderError | None = None
    for droplet_id in dict.fromkeys([*(owner[backup] for backup in owner if backup not in items), *unknown]):
        backups = client.list(f"/v2/droplets/{droplet_id}/backups", "backups", kind=kind.name, scope="droplet:read")
        requests += backups.requests
        error = error or backups.error
        items |= {str(backup["id"]): {**backup, "droplet_id": droplet_id} for backup in backups.items}
    return Listing(items=list(items.values()), requests=requests, error=error)


def walk_projects(client: Client, project_ids: Iterable[str]) -> Walk:
    """What every project holds. A thing that the provider says is gone (`not_found`) does not count as found."""
    memberships: dict[tuple[str, str], str] = {}
    requests, error = 0, None
    for project_id in project_ids:
        listing = client.list(
            f"/v2/projects/{project_id}/resources", "resources", kind="project_resource", id_field="urn", scope="project:read"
        )
        requests += listing.requests
        error = error or (None if listing.error is None else str(listing.error))
        for item in listing.items:
            if item.get("status") == "not_found":
                continue
            try:
                memberships[parse_urn(item["urn"])] = project_id
            except ValueError as problem:
                error = error or f"project {project_id}: {problem}"
    return Walk(memberships=memberships, requests=requests, error=error)


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


def list_invoices(client: Client) -> tuple[Sequence[Mapping[str, Any]], Sequence[Mapping[str, Any]]]:
    """The invoice list and the billing history. Raises ProviderError: a part of them is no list of invoices."""
    invoices = client.list("/v2/customers/my/invoices", "invoices", kind="invoice", id_field="invoice_uuid", scope="billing:read")
    # The history pages like the others, though its reply need not say how many entries there are.
    history = client.list(
        "/v2/customers/my/billing_history", "billing_history", kind="billing_history", id_field=None, scope="billing:read",
        total_required=False,
    )  # fmt: skip
    for listing in (invoices, history):
        if listing.error is not None:
            raise listing.error
    return invoices.items, history.items
