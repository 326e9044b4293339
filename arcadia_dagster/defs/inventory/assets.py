"""One asset for each kind that has a listing, and the walk of the projects. What a listing means to the ledger is not decided here."""

from collections.abc import Callable, Iterator
from typing import Any

import dagster as dg
from sqlalchemy import text

from arcadia_dagster import settings
from arcadia_dagster.defs.resources import DigitalOcean, Ledger, failure
from arcadia_dagster.defs.tables import bars, preview, table_metadata
from arcadia_dagster.digitalocean.client import Client, Forbidden, Listing, ProviderError
from arcadia_dagster.digitalocean.inventory import create_project, list_kind, read_kind, walk_projects
from arcadia_dagster.digitalocean.kinds import KINDS, Kind
from arcadia_dagster.ledger.attribution import WALK, attribute, record_walk
from arcadia_dagster.ledger.matching import rematch
from arcadia_dagster.ledger.reconcile import Changes, MassDeletionWithheldError, begin, reconcile
from arcadia_dagster.ledger.tables import resources

POOL = "digitalocean_inventory"
RETRIES = dg.RetryPolicy(max_retries=2, delay=15, backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.PLUS_MINUS)

Events = Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]


class SyncConfig(dg.Config):
    """What an operator may say for one run."""

    allow_mass_deletion: bool = False


_LISTED_BY = {
    "droplet_backup": "Backups of droplets, found through their droplets in as few requests as the data allows.",
    "snapshot": "Snapshots of droplets and volumes, with what each was taken of.",
    "project": "Projects. The internal project, for what is in no other, is made on the provider at the first sync.",
    "dns_zone": "DNS zones. Zone files are not kept.",
}


def listing_asset(kind: Kind) -> dg.AssetsDefinition:
    """The asset that lists one kind and reconciles the ledger with it."""

    @dg.asset(
        name=kind.asset,
        group_name="inventory",
        description=_LISTED_BY.get(kind.name, f"Every {kind.name.replace('_', ' ')} of the account.")
        + f" Read from `{kind.path}`; needs the token scope `{kind.scope}`.",
        kinds={"digitalocean", "postgres"},
        owners=["team:infrastructure"],
        tags={"arcadia/kind": kind.name},
        metadata=table_metadata(resources, "cloud_projects" if kind.name == "project" else "cloud_resources"),
        pool=POOL,
        retry_policy=RETRIES,
        check_specs=[_listing_complete(kind.asset or kind.name)],
    )
    def asset(context: dg.AssetExecutionContext, config: SyncConfig, inventory_api: DigitalOcean, ledger: Ledger) -> Events:
        fetch = _list_projects if kind.name == "project" else list_kind
        yield from _sync(context, config, kind=kind, fetch=fetch, client=inventory_api.client, ledger=ledger)

    return asset


def _listing_complete(asset: str) -> dg.AssetCheckSpec:
    return dg.AssetCheckSpec(
        name="listing_complete",
        asset=asset,
        description="Every page was read, without an error, and held as many items as the provider said. Nothing is struck otherwise.",
    )


def _sync(
    context: dg.AssetExecutionContext,
    config: SyncConfig,
    *,
    kind: Kind,
    fetch: Callable[[Client, Kind], Listing],
    client: Client,
    ledger: Ledger,
) -> Events:
    account_id = ledger.account(client)
    run = begin(ledger.engine, account_id=account_id, kind=kind.name, dagster_run_id=context.run.run_id)
    listing = fetch(client, kind)
    reading = read_kind(kind, listing)
    withheld: str | None = None
    changes = Changes(seen=len(reading.resources))
    try:
        changes = reconcile(
            ledger.engine,
            run,
            reading.resources,
            requests=reading.requests,
            error=reading.error,
            strike_interval=settings.strike_interval(),
            allow_mass_deletion=config.allow_mass_deletion,
        )
    except MassDeletionWithheldError as problem:
        withheld = str(problem)
    _follow_up(ledger, account_id, changes, run.sync_run_id)
    metadata = _changes_metadata(changes, reading.requests)
    yield dg.AssetCheckResult(
        check_name="listing_complete", passed=reading.error is None, metadata={**metadata, "error": reading.error or "none"}
    )
    if withheld is not None:
        raise dg.Failure(withheld, metadata=metadata, allow_retries=False)
    if listing.error is not None:
        raise failure(listing.error)
    if reading.error is not None:
        raise dg.Failure(reading.error, metadata=metadata, allow_retries=False)
    yield dg.MaterializeResult(
        metadata={
            **metadata,
            "dagster/row_count": _active(ledger, account_id, kind.name),
            "newest": preview(
                ledger.engine,
                "select name, provider_id, region, status, to_char(provider_created_at, 'YYYY-MM-DD') as created,"
                " case when deleted_at is null then '' else to_char(deleted_at, 'YYYY-MM-DD HH24:MI') end as gone_since"
                " from arcadia.resources where account_id = :account_id and kind = :kind and not billing_only"
                " order by deleted_at is not null, provider_created_at desc nulls last, name limit 10",
                {"account_id": account_id, "kind": kind.name},
            ),
        }
    )


def _changes_metadata(changes: Changes, requests: int) -> dict[str, Any]:
    return {**vars(changes), "requests": requests}


def _follow_up(ledger: Ledger, account_id: int, changes: Changes, sync_run_id: int) -> None:
    """What follows from a change of the inventory, at once: where things belong, and lines that can be matched now."""
    attribute(ledger.engine, account_id, internal_project=settings.internal_project(), sync_run_id=sync_run_id)
    if changes.any:
        rematch(ledger.engine, account_id)


def _active(ledger: Ledger, account_id: int, kind: str) -> int:
    with ledger.engine.connect() as conn:
        return int(
            conn.execute(
                text("select count(*) from arcadia.resources where account_id = :a and kind = :k and deleted_at is null"),
                {"a": account_id, "k": kind},
            ).scalar_one()
        )


def _list_projects(client: Client, kind: Kind) -> Listing:
    """The projects, after making the internal one where a complete listing lacks it. A token that may not make it gets a warning."""
    listing = list_kind(client, kind)
    name = settings.internal_project()
    if name is None or listing.error is not None or any(item.get("name") == name for item in listing.items):
        return listing
    log = dg.get_dagster_logger()
    try:
        created = create_project(client, name)
    except Forbidden:
        log.warning(
            f"The token may not create the project {name!r} (scope project:create), so what is in no project stays without one."
            " Create it by hand, or set ARCADIA_INTERNAL_PROJECT to one that exists, or to nothing."
        )
    except ProviderError as problem:
        log.warning(f"The project {name!r} could not be created; the next sync tries again. {problem}")
    else:
        log.info(f"Created the project {name!r} for what is in no other.")
        return Listing(items=[*listing.items, created], requests=listing.requests + 1, error=None)
    return listing


inventory_assets = [listing_asset(kind) for kind in KINDS.values() if kind.asset is not None]


@dg.asset(
    group_name="inventory",
    description="What is in which project: the walk of all projects. Spaces buckets, databases, Kubernetes clusters and apps are known"
    " from here alone. Needs the token scope `project:read`, and the read scope of every kind that is to be seen.",
    deps=["projects"],
    kinds={"digitalocean", "postgres"},
    owners=["team:infrastructure"],
    metadata=table_metadata(resources, "cloud_resources"),
    pool=POOL,
    retry_policy=RETRIES,
    check_specs=[_listing_complete("project_resources")],
    # After the other listings of a run, so that what they discovered is attributed in the same run; yet a refused kind must not stop it.
    op_tags={"dagster/priority": "-1"},
)
def project_resources(context: dg.AssetExecutionContext, config: SyncConfig, inventory_api: DigitalOcean, ledger: Ledger) -> Events:
    """Walk the projects, record memberships and placeholders, attribute everything."""
    client = inventory_api.client
    account_id = ledger.account(client)
    run = begin(ledger.engine, account_id=account_id, kind=WALK, dagster_run_id=context.run.run_id)
    with ledger.engine.connect() as conn:
        projects = (
            conn.execute(
                text(
                    "select provider_id from arcadia.cloud_projects where account_id = :account_id and deleted_at is null"
                    " order by provider_id"
                ),
                {"account_id": account_id},
            )
            .scalars()
            .all()
        )
    walk = walk_projects(client, projects)
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
    _follow_up(ledger, account_id, changes, run.sync_run_id)
    metadata = _changes_metadata(changes, walk.requests)
    yield dg.AssetCheckResult(
        check_name="listing_complete", passed=walk.error is None, metadata={**metadata, "error": walk.error or "none"}
    )
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
