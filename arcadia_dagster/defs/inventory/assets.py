"""One asset for each kind that has a listing, and the walk of the projects. What a listing means to the ledger is not decided here."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import dagster as dg
from sqlalchemy import text

from arcadia_dagster import settings
from arcadia_dagster.defs.accounts import ACCOUNTS, account_partitions
from arcadia_dagster.defs.resources import DigitalOcean, Ledger, failure
from arcadia_dagster.defs.scheduling import fresh
from arcadia_dagster.defs.tables import as_markdown, bars, table_metadata
from arcadia_dagster.digitalocean.client import Client, Listing
from arcadia_dagster.digitalocean.inventory import Reading, create_project, list_kind, list_pool_members, walk_projects
from arcadia_dagster.digitalocean.kinds import KINDS, Kind, Sightings
from arcadia_dagster.digitalocean.replies import Forbidden, NotFound, ProviderError
from arcadia_dagster.ledger.attribution import WALK, attribute, record_walk, with_walk
from arcadia_dagster.ledger.matching import is_waiting, rematch
from arcadia_dagster.ledger.reconcile import (
    Changes,
    MassDeletionWithheldError,
    SyncRun,
    begin,
    ever_listed,
    recall,
    reconcile,
    set_aside,
)
from arcadia_dagster.ledger.tables import resources

# One run at a time in a pool: they share the limits of a token. Several accounts have each their own; how many run at once: dagster.yaml.
POOL = None if ACCOUNTS else "digitalocean_inventory"
RETRIES = dg.RetryPolicy(max_retries=2, delay=15 / settings.hurry(), backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.PLUS_MINUS)

Events = Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]


class SyncConfig(dg.Config):
    """What an operator may say for one run."""

    allow_mass_deletion: bool = False


_LISTED_BY = {
    "droplet_backup": "Backups of droplets, found through their droplets in as few requests as the data allows.",
    "droplet": "Droplets, those with GPUs included, each with the autoscale pool that made it.",
    "snapshot": "Snapshots of droplets and volumes, with what each was taken of.",
    "project": "Projects. The internal project, for what is in no other, is made on the provider at the first sync.",
    "dns_zone": "DNS zones. Zone files are not kept.",
    "spaces_bucket": "Spaces buckets: those that the projects list and those that a Spaces key is granted. Keys are not kept.",
    "managed_db": "Managed databases. Passwords and addresses of connections are not kept.",
    "db_replica": "Read-only replicas of the managed databases that can have some; nothing is asked where there is no such database.",
    "k8s_cluster": "Kubernetes clusters with their node pools and the droplets that are their nodes.",
    "app": "Apps with their components. Environment values are not kept.",
    "nfs_share": "NFS shares, asked for region by region.",
    "nfs_snapshot": "Snapshots of NFS shares, asked for region by region.",
}


LISTING_COMPLETE = "listing_complete"
_PRIORITY = {"autoscale_pool": "1"}  # before the droplets that they made


def listing_asset(kind: Kind) -> dg.AssetsDefinition:
    """The asset that lists one kind and reconciles the ledger with it."""

    @dg.asset(
        name=kind.asset,
        group_name="inventory",
        description=_LISTED_BY.get(kind.name, f"Every {kind.name.replace('_', ' ')} of the account.")
        + f" Read from `{kind.path}` by the job `{kind.job}`; needs the token scope `{kind.scope}`.",
        kinds={"digitalocean", "postgres"},
        owners=["team:infrastructure"],
        tags={"arcadia/kind": kind.name},
        metadata=table_metadata(resources, "cloud_projects" if kind.name == "project" else "cloud_resources"),
        partitions_def=account_partitions,
        pool=POOL,
        retry_policy=RETRIES,
        freshness_policy=fresh(kind.job),
        check_specs=[_listing_complete(kind.asset or kind.name)],
        # What is read along with others, or with the walk, comes after it in a run; yet a refused kind must not stop it.
        op_tags={"dagster/priority": _PRIORITY.get(kind.name, "-2" if kind.listed_along or kind.also_in_walk else "0")},
    )
    def asset(context: dg.AssetExecutionContext, config: SyncConfig, inventory_api: DigitalOcean, ledger: Ledger) -> Events:
        fetch = _list_projects if kind.name == "project" else list_kind
        yield from _sync(context, config, kind=kind, fetch=fetch, api=inventory_api, ledger=ledger)

    return asset


def _listing_complete(asset: str) -> dg.AssetCheckSpec:
    return dg.AssetCheckSpec(
        name=LISTING_COMPLETE,
        asset=asset,
        description="Every page was read, without an error, and held as many items as the provider said. Nothing is struck otherwise.",
        partitions_def=account_partitions,
    )


def _sync(
    context: dg.AssetExecutionContext,
    config: SyncConfig,
    *,
    kind: Kind,
    fetch: Callable[[Client, Kind, Mapping[str, bytes | None]], Listing],
    api: DigitalOcean,
    ledger: Ledger,
) -> Events:
    account_id, client = ledger.account(api), api.client
    run = begin(ledger.engine, account_id=account_id, kind=kind.name, dagster_run_id=context.run.run_id)
    recalled = recall(ledger.engine, run)
    pools = _Pools(context, client, ledger, account_id) if kind.name == "droplet" else None
    # A droplet of which a pool may yet be known must be there as it came.
    listing = fetch(client, kind, {} if pools and pools.ids else recalled.digests)
    if pools:
        listing = pools.added_to(listing)
    if kind.name == "droplet_backup":
        listing = _without_images(ledger, account_id, listing)
    reading = Reading(kind, listing)
    found: Sightings = reading
    requests, error = reading.requests, reading.error
    unreadable = _never_readable(ledger, run, listing.error, per_region=kind.per_region)
    if unreadable and kind.also_in_walk:  # then the walk is the only source
        set_aside(ledger.engine, run, requests=requests, error=error or "")
        run = begin(ledger.engine, account_id=account_id, kind=kind.name, dagster_run_id=context.run.run_id)
        requests, error = 0, None
    if kind.also_in_walk:
        found, error = with_walk(ledger.engine, run, found, error)
    withheld: str | None = None
    changes = Changes(seen=len(found))
    try:
        changes = reconcile(
            ledger.engine,
            run,
            found,
            recalled=recalled,
            requests=requests,
            error=error,
            strike_interval=settings.strike_interval(),
            allow_mass_deletion=config.allow_mass_deletion,
        )
    except MassDeletionWithheldError as problem:
        withheld = str(problem)
    _follow_up(ledger, account_id, changes, run.sync_run_id)
    metadata = _changes_metadata(changes, reading.requests)
    yield _completeness(metadata, reading.error, unreadable=unreadable)
    if unreadable and withheld is None:
        yield _not_readable(context, listing.error, metadata)
        return
    if withheld is not None:
        raise dg.Failure(withheld, metadata=metadata, allow_retries=False)
    if listing.error is not None:
        raise failure(listing.error)
    if reading.error is not None:
        raise dg.Failure(reading.error, metadata=metadata, allow_retries=False)
    yield dg.MaterializeResult(metadata={**metadata, **_what_there_is(ledger, account_id, kind.name)})


def _never_readable(ledger: Ledger, run: SyncRun, problem: ProviderError | None, *, per_region: bool = False) -> bool:
    """Whether a listing was refused that this account's token could never read: a scope it was not given, a product not enabled.

    What could be read before and now is refused is no such thing, and neither is a token that is not accepted at all.
    """
    refused = isinstance(problem, Forbidden | NotFound)
    refused = refused or (per_region and problem is not None and problem.status in (400, 422))  # a region without the product
    return refused and not ever_listed(ledger.engine, run.account_id, run.kind)


def _completeness(metadata: dict[str, Any], error: str | None, *, unreadable: bool) -> dg.AssetCheckResult:
    severity = dg.AssetCheckSeverity.WARN if unreadable else dg.AssetCheckSeverity.ERROR
    return dg.AssetCheckResult(
        check_name=LISTING_COMPLETE, passed=error is None, severity=severity, metadata={**metadata, "error": error or "none"}
    )


def _not_readable(context: dg.AssetExecutionContext, problem: object, metadata: dict[str, Any]) -> dg.MaterializeResult[None]:
    """What is said of a kind that the token could never read, instead of what there is of it."""
    context.log.warning(f"Left out, since it could never be read: {problem}")
    return dg.MaterializeResult(metadata={"requests": metadata["requests"], "not_readable": str(problem)})


def _changes_metadata(changes: Changes, requests: int) -> dict[str, Any]:
    return {**vars(changes), "requests": requests}


def _follow_up(ledger: Ledger, account_id: int, changes: Changes, sync_run_id: int) -> None:
    """What follows from a change of the inventory, at once: where things belong, and lines that can be matched now.

    Each looks at all that the account has, so a listing that changed nothing leaves both as they are, unless a run that was killed left
    them to it. The walk of the projects attributes once a sync in any case, tombstones too.
    """
    if changes.any or is_waiting(ledger.engine, account_id):
        attribute(ledger.engine, account_id, internal_project=settings.internal_project(), sync_run_id=sync_run_id, gone_too=False)
        rematch(ledger.engine, account_id)


def _what_there_is(ledger: Ledger, account_id: int, kind: str) -> dict[str, Any]:
    """How many of a kind are active, and the newest of them. Those that are gone are many after years, and this is asked for all day."""
    active = "from arcadia.resources where account_id = :account_id and kind = :kind and deleted_at is null"
    newest = (
        f"select name, provider_id, region, status, to_char(provider_created_at, 'YYYY-MM-DD') as created {active}"
        " order by provider_created_at desc nulls last, name limit 10"
    )
    values = {"account_id": account_id, "kind": kind}
    with ledger.engine.connect() as conn:
        count = conn.execute(text(f"select count(*) {active}"), values).scalar_one()
        return {"dagster/row_count": count, "newest": as_markdown(conn.execute(text(newest), values).all())}


class _Pools:
    """The autoscale pools that the ledger knows, by their `ids`, and which droplets they made.

    Who made a droplet never changes: what the ledger knows stays, whether the pool is gone or its members cannot be read now.
    """

    def __init__(self, context: dg.AssetExecutionContext, client: Client, ledger: Ledger, account_id: int) -> None:
        self._context, self._client = context, client
        with ledger.engine.connect() as conn:
            known = conn.execute(
                text(
                    "select kind, provider_id, attrs ->> 'autoscale_pool_id' as pool_id from arcadia.resources"
                    " where account_id = :account_id and deleted_at is null"
                    " and (kind = 'autoscale_pool' or (kind = 'droplet' and attrs ? 'autoscale_pool_id'))"
                ),
                {"account_id": account_id},
            ).all()
        self.ids = [row.provider_id for row in known if row.kind == "autoscale_pool"]
        self._made_by = {row.provider_id: row.pool_id for row in known if row.kind == "droplet"}

    def added_to(self, listing: Listing) -> Listing:
        """The droplets, each with the `autoscale_pool_id` of the pool that made it. No request is made where no pool is known."""
        members = list_pool_members(self._client, self.ids)
        if members.error is not None:
            self._context.log.warning(
                f"Which droplets the autoscale pools made could not be read in full; the next sync tries again. {members.error}"
            )
        made_by = {str(item["droplet_id"]): item["autoscale_pool_id"] for item in members.items} | self._made_by
        if not made_by:
            return replace(listing, requests=listing.requests + members.requests)
        items = listing.by_id.adding(lambda one: {"autoscale_pool_id": made_by[one]} if one in made_by else {})
        return replace(listing, items=items, requests=listing.requests + members.requests)


def _without_images(ledger: Ledger, account_id: int, listing: Listing) -> Listing:
    """The backups, complete also where the images were refused, unless the ledger knows one that only they can show.

    That is one of a destroyed droplet. What the droplets themselves show is all of the others.
    """
    if not (isinstance(listing.error, Forbidden | NotFound) and listing.error.path == "/v2/images"):
        return listing
    with ledger.engine.connect() as conn:
        hidden = conn.execute(
            text(
                "select exists (select from arcadia.resources b where account_id = :account_id and kind = 'droplet_backup'"
                " and deleted_at is null and provider_id <> all(:shown) and not exists (select from arcadia.resources d"
                " where d.account_id = b.account_id and d.kind = 'droplet' and d.provider_id = b.parent_provider_id"
                " and d.deleted_at is null and d.stale_strike_count = 0))"
            ),
            {"account_id": account_id, "shown": [*listing.by_id.digests]},
        ).scalar_one()
    return listing if hidden else replace(listing, error=None)


def _list_projects(client: Client, kind: Kind, _: Mapping[str, bytes | None]) -> Listing:
    """The projects, after making the internal one where a complete listing lacks it. A token that may not make it gets a warning.

    Each is looked at, whether it is known or not.
    """
    listing = list_kind(client, kind)
    name = settings.internal_project()
    if name is None or listing.error is not None or _shows(listing, name):
        return listing
    log = dg.get_dagster_logger()
    post = Listing(items=[], requests=1, error=None)
    try:
        post = replace(post, items=[create_project(client, name)])
    except Forbidden:
        log.warning(
            f"The token may not create the project {name!r} (scope project:create), so what is in no project stays without one."
            " Create it by hand, or set ARCADIA_INTERNAL_PROJECT to one that exists, or to nothing."
        )
    except ProviderError as problem:
        if problem.status == 409:  # another sync has made it since, and would see it struck by this one
            post += list_kind(client, kind)
        if not _shows(post, name):
            log.warning(f"The project {name!r} could not be created; the next sync tries again. {problem}")
    else:
        log.info(f"Created the project {name!r} for what is in no other.")
    return listing + post


def _shows(listing: Listing, name: str) -> bool:
    return any(item.get("name") == name for item in listing.items)


inventory_assets = [listing_asset(kind) for kind in KINDS.values() if kind.asset is not None]


@dg.asset(
    group_name="inventory",
    description="What is in which project: the walk of all projects. What has no listing of its own is known"
    " from here alone. Needs the token scope `project:read`, and the read scope of every kind that is to be seen.",
    deps=["projects"],
    kinds={"digitalocean", "postgres"},
    owners=["team:infrastructure"],
    metadata=table_metadata(resources, "cloud_resources"),
    partitions_def=account_partitions,
    pool=POOL,
    retry_policy=RETRIES,
    freshness_policy=fresh("sync_inventory"),
    check_specs=[_listing_complete("project_resources")],
    # After the other listings of a run, so that what they discovered is attributed in the same run; yet a refused kind must not stop it.
    op_tags={"dagster/priority": "-1"},
)
def project_resources(context: dg.AssetExecutionContext, config: SyncConfig, inventory_api: DigitalOcean, ledger: Ledger) -> Events:
    """Walk the projects, record memberships and placeholders, attribute everything."""
    account_id, client = ledger.account(inventory_api), inventory_api.client
    run = begin(ledger.engine, account_id=account_id, kind=WALK, dagster_run_id=context.run.run_id)
    internal = settings.internal_project()
    # What was seen since the last walk and is in no project any more: the next walk would be taken for proof that it has not been seen.
    attribute(ledger.engine, account_id, internal_project=internal, sync_run_id=run.sync_run_id, gone_too=False)
    with ledger.engine.connect() as conn:
        projects = conn.execute(
            text(
                "select provider_id, stale_strike_count > 0 as missing from arcadia.resources where account_id = :account_id"
                " and kind = 'project' and deleted_at is null order by provider_id"
            ),
            {"account_id": account_id},
        ).all()
    if not ever_listed(ledger.engine, account_id, "project"):
        reason = "the projects have never been listed: the token needs the scope project:read"
        set_aside(ledger.engine, run, requests=0, error=reason)
        metadata = _changes_metadata(Changes(), 0)
        yield _completeness(metadata, reason, unreadable=True)
        yield _not_readable(context, reason, metadata)
        return
    walk = walk_projects(client, [row.provider_id for row in projects], missing={row.provider_id for row in projects if row.missing})
    unreadable = _never_readable(ledger, run, walk.problem)
    withheld: str | None = None
    try:
        by_kind = record_walk(
            ledger.engine,
            run,
            walk.memberships,
            requests=walk.requests,
            error=walk.error,
            dagster_run_id=context.run.run_id,
            strike_interval=settings.strike_interval(),
            allow_mass_deletion=config.allow_mass_deletion,
        )
    except MassDeletionWithheldError as problem:
        by_kind, withheld = {}, str(problem)
    names = [name for name in vars(Changes()) if name != "seen"]
    changes = Changes(seen=len(walk.memberships), **{name: sum(getattr(one, name) for one in by_kind.values()) for name in names})
    attribute(ledger.engine, account_id, internal_project=internal, sync_run_id=run.sync_run_id)
    if changes.any or is_waiting(ledger.engine, account_id):
        rematch(ledger.engine, account_id)
    metadata = _changes_metadata(changes, walk.requests)
    yield _completeness(metadata, walk.error, unreadable=unreadable)
    if unreadable and withheld is None:
        yield _not_readable(context, walk.error, metadata)
        return
    if withheld is not None or walk.error is not None:
        raise dg.Failure(withheld or walk.error, metadata=metadata, allow_retries=withheld is None)
    with ledger.engine.connect() as conn:
        rows = conn.execute(
            text(
                "select coalesce(p.name, '(none)'), count(*) from arcadia.cloud_resources r left join arcadia.cloud_projects p"
                " using (cloud_project_id) where r.account_id = :account_id and r.deleted_at is null group by 1 order by 2 desc, 1"
            ),
            {"account_id": account_id},
        ).all()
    yield dg.MaterializeResult(
        metadata={
            **metadata,
            "dagster/row_count": len(walk.memberships),
            "resources_by_project": bars([(row[0], row[1]) for row in rows]),
        }
    )
