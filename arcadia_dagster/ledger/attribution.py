"""Which project every resource belongs to: what the walk of all projects found, and what follows from it. Tenants follow in `tenants.py`.

A resource's own project id wins, then its place in a project's list, then what it was taken of; what is in no project falls back to the
internal project. Resources themselves enter and leave by `reconcile.py` alone.
"""

from collections.abc import Mapping
from datetime import timedelta

from sqlalchemy import Engine, text

from arcadia_dagster.digitalocean.kinds import KINDS, Sightings
from arcadia_dagster.ledger.reconcile import Changes, SyncRun, begin, finish, lock, placeholder, reconcile
from arcadia_dagster.ledger.tenants import assign

WALK = "project_resource"


def record_walk(
    engine: Engine,
    run: SyncRun,
    memberships: Mapping[tuple[str, str], str],
    *,
    requests: int,
    error: str | None = None,
    dagster_run_id: str | None = None,
    strike_interval: timedelta = timedelta(minutes=10),
    allow_mass_deletion: bool = False,
) -> dict[str, Changes]:
    """Record what a walk of all projects found: (kind, provider id) -> the provider's id of the project.

    Kinds that have a listing of their own get their membership only. The others have no other proof of life: each becomes a listing of
    placeholders, reconciled like any other, so that a thing whose URN is gone from three complete walks is tombstoned. An incomplete walk
    (`error`) adds what it saw and takes nothing away.

    Returns the changes of each kind of placeholder. Raises MassDeletionWithheldError as reconcile does, when all kinds are done.
    """
    complete = error is None
    with engine.begin() as conn:
        lock(conn, "reconcile", run.account_id, run.kind)
        newer = conn.execute(
            text(
                "select 1 from arcadia.listings where account_id = :account_id and kind = :kind and started_at > :started_at"
                " and started_at <= clock_timestamp()"
            ),
            {"account_id": run.account_id, "kind": run.kind, "started_at": run.started_at},
        ).scalar()
        if newer:
            note = "a walk that began later has been recorded already"
            finish(conn, run, Changes(seen=len(memberships)), requests=requests, error=error or note, complete=False)
            return {}
        found = {
            "account_id": run.account_id,
            "kinds": [kind for kind, _ in memberships],
            "ids": [provider_id for _, provider_id in memberships],
            "projects": list(memberships.values()),
        }
        if complete:
            conn.execute(
                text(
                    "delete from arcadia.project_memberships m where account_id = :account_id and not exists (select from"
                    " unnest(cast(:kinds as text[]), cast(:ids as text[])) as f (kind, id)"
                    " where f.kind = m.kind and f.id = m.provider_id)"
                ),
                found,
            )
        conn.execute(
            text(
                "insert into arcadia.project_memberships (account_id, kind, provider_id, project_id) select :account_id, *"
                " from unnest(cast(:kinds as text[]), cast(:ids as text[]), cast(:projects as text[]))"
                " on conflict (account_id, kind, provider_id) do update set project_id = excluded.project_id"
                " where project_memberships.project_id <> excluded.project_id"
            ),
            found,
        )
        known_kinds: list[str] = list(
            conn.execute(
                text("select distinct kind from arcadia.resources where account_id = :account_id and deleted_at is null"),
                {"account_id": run.account_id},
            ).scalars()
        )
        kinds = sorted(kind for kind in {*known_kinds, *(kind for kind, _ in memberships)} if not _has_listing(kind))
        finish(conn, run, Changes(seen=len(memberships)), requests=requests, error=error, complete=complete)

    changes: dict[str, Changes] = {}
    failure: Exception | None = None
    for kind in kinds:
        placeholders = begin(engine, account_id=run.account_id, kind=kind, dagster_run_id=dagster_run_id, started_at=run.started_at)
        try:
            changes[kind] = reconcile(
                engine,
                placeholders,
                (placeholder(provider_id) for k, provider_id in memberships if k == kind),
                error=error,
                strike_interval=strike_interval,
                allow_mass_deletion=allow_mass_deletion,
            )
        except Exception as problem:  # the other kinds are recorded all the same; the first problem is raised below
            failure = failure or problem
    if failure is not None:
        raise failure
    return changes


def with_walk(engine: Engine, run: SyncRun, seen: Sightings, error: str | None) -> tuple[Sightings, str | None]:
    """A listing together with what the walks of the projects know of its kind; both, and why that is not all, if so.

    For kinds of which neither source need show everything. Both must have been read anew since the listing before: one walk is one proof.
    """
    with engine.connect() as conn:
        known = conn.execute(
            text("select provider_id from arcadia.project_memberships where account_id = :account_id and kind = :kind"),
            {"account_id": run.account_id, "kind": run.kind},
        ).scalars()
        walk = Sightings(map(placeholder, known))
        walked = conn.execute(
            text(
                "select exists (select from arcadia.listings w where w.account_id = :account_id and w.kind = :walk"
                " and not exists (select from arcadia.listings l where l.account_id = :account_id and l.kind = :kind"
                " and l.started_at >= w.started_at and l.started_at <= clock_timestamp()))"
            ),
            {"account_id": run.account_id, "kind": run.kind, "walk": WALK},
        ).scalar_one()
    return seen.beside(walk), error or (None if walked else "no complete walk of the projects since the listing before")


def _has_listing(kind: str) -> bool:
    return kind in KINDS and KINDS[kind].path is not None


def attribute(
    engine: Engine, account_id: int, *, internal_project: str | None, sync_run_id: int | None = None, gone_too: bool = True
) -> int:
    """Bring project and tenant of the account's resources in line with what is known now; returns how many changes that took.

    A move from one project to another is an event (`drift_detected`); the first attribution is part of the discovery. What a project may
    yet turn out to hold falls back to the internal project only after a complete walk that began no earlier than the resource was seen.
    Without `gone_too` the tenants of tombstones are left for a later call.
    """
    with engine.begin() as conn:
        lock(conn, "attribute", account_id)
        attributed = int(
            conn.execute(
                text(_ATTRIBUTE),
                {
                    "account_id": account_id,
                    "internal": internal_project,
                    "never_listed": [
                        # What is listed together with a walk has been looked for in all projects by then.
                        kind.name
                        for kind in KINDS.values()
                        if not kind.in_projects or kind.also_in_walk
                    ],
                    "sync_run_id": sync_run_id,
                    "walk": WALK,
                },
            ).scalar_one()
        )
        return attributed + assign(conn, account_id, sync_run_id=sync_run_id, gone_too=gone_too)


_ATTRIBUTE = """
with project as (
    select resource_id, provider_id, name
      from arcadia.resources where account_id = :account_id and kind = 'project' and deleted_at is null
), internal as (
    select min(resource_id) as resource_id from project where name = :internal
), walk as (
    select max(started_at) as started_at from arcadia.listings where account_id = :account_id and kind = :walk
), direct as (
    select r.resource_id, r.kind, r.provider_id, r.parent_kind, r.parent_provider_id,
           r.cloud_project_id as old_project, r.attribution_source as old_source,
           coalesce(own.resource_id, listed.resource_id, kept.resource_id) as found,
           case when own.resource_id is not null then 'own_project_id'
                when coalesce(listed.resource_id, kept.resource_id) is not null then 'membership' end as source,
           -- Where the clock was set back, what was seen before that is later than any walk; and it has fallen back already, as a rule.
           case when r.first_seen_at <= walk.started_at or (walk.started_at is not null
                     and (r.kind = any(:never_listed) or r.attribution_source = 'fallback' or r.first_seen_at > clock_timestamp()))
                then internal.resource_id end as fallback
      from arcadia.resources r
     cross join walk
     cross join internal
      left join project own on own.provider_id = r.own_project_id
      left join arcadia.project_memberships m
             on m.account_id = r.account_id and m.kind = r.kind and m.provider_id = r.provider_id
      left join project listed on listed.provider_id = m.project_id
      left join arcadia.listings l on l.account_id = r.account_id and l.kind = r.kind
     cross join lateral (
           select case when r.stale_strike_count = 0 then greatest(r.last_seen_at, l.started_at) else r.last_seen_at end as at
           ) seen
      -- What a walk no longer shows is gone, as a rule. It keeps its project until it has been seen after that walk began; which
      -- nobody knows where the clock was set back.
      left join project kept
             on kept.resource_id = r.cloud_project_id and r.attribution_source = 'membership'
            and (seen.at < walk.started_at or seen.at > clock_timestamp())
     where r.account_id = :account_id and r.kind <> 'project' and r.deleted_at is null
), settled as (
    select d.resource_id, d.old_project, d.old_source,
           coalesce(d.found, parent.project, d.fallback) as project,
           case when d.found is not null then d.source when parent.project is not null then 'inherited'
                when d.fallback is not null then 'fallback' end as source
      from direct d
      left join direct p on p.kind = d.parent_kind and p.provider_id = d.parent_provider_id
      -- Few are parts of what is gone: each looks for it by the index, instead of all being read for them.
      left join lateral (
           select cloud_project_id from arcadia.resources
            where account_id = :account_id and kind = d.parent_kind and provider_id = d.parent_provider_id and kind <> 'project' offset 0
           ) gone on p.resource_id is null and d.parent_provider_id is not null
     cross join lateral (
           -- What is gone keeps the project it had; its snapshots still belong there.
           select case when p.resource_id is not null then coalesce(p.found, p.fallback) else gone.cloud_project_id end as project
           ) parent
), due as materialized (
    select * from settled where (old_project, old_source) is distinct from (project, source)
), changed as (
    update arcadia.resources r
       set cloud_project_id = d.project, attribution_source = d.source
      from due d
     where r.resource_id = d.resource_id
    returning r.resource_id, d.old_project, d.project
), moved as (
    insert into arcadia.cloud_resource_events (resource_id, account_id, sync_run_id, event, changes, occurred_at)
    select c.resource_id, :account_id, :sync_run_id, 'drift_detected',
           jsonb_build_object('project', jsonb_build_object('before', old.name, 'after', new.name)), now()
      from changed c
      join arcadia.resources old on old.resource_id = c.old_project
      left join arcadia.resources new on new.resource_id = c.project
     where c.old_project is distinct from c.project
)
select count(*) from changed
"""
