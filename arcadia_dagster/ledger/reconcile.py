"""The single door through which resources enter, change and leave the ledger, and the sync runs that prove each listing.

`begin` a listing before its first request, then hand what came to `reconcile`, complete or not; what is to be compared may be `recall`ed
before. What invoices alone tell of enters by `admit_billed`. Projects and tenants of resources are `attribution.py`'s.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import islice
from typing import Any, NamedTuple

import msgspec
from psycopg.rows import dict_row, namedtuple_row
from sqlalchemy import Connection, Engine, text

from arcadia_dagster.digitalocean.kinds import EDITION, Kind, Resource, Sightings, kind_named
from arcadia_dagster.ledger.copying import array, busy, bytea, copy_lines, driver, line
from arcadia_dagster.ledger.tables import resources

STRIKES = 3
MASS_DELETION_COUNT = 10
MASS_DELETION_SHARE = Decimal("0.30")

_encoder = msgspec.json.Encoder(decimal_format="number", order="deterministic")
_decoder = msgspec.json.Decoder(float_hook=Decimal)


class MassDeletionWithheldError(Exception):
    """A listing would tombstone so much at once that a person must say that this is right. What was seen has been recorded."""


@dataclass(frozen=True, kw_only=True)
class SyncRun:
    """One attempt to read one kind of one account. `started_at` is the database's clock, so that runs on two machines have an order."""

    sync_run_id: int
    account_id: int
    kind: str
    started_at: datetime


@dataclass(frozen=True, kw_only=True)
class Changes:
    """What one listing did to the ledger, in numbers of resources."""

    seen: int = 0
    discovered: int = 0
    updated: int = 0
    restored: int = 0
    struck: int = 0
    deleted: int = 0

    @property
    def any(self) -> bool:
        """Whether a resource entered, changed or left (a strike alone is none of these)."""
        return bool(self.discovered or self.updated or self.restored or self.deleted)


def placeholder(provider_id: str) -> Resource:
    """All that a URN tells of a thing. Of buckets, the id is the name."""
    return Resource(provider_id=provider_id, name=provider_id)


def name_key(name: str) -> str:
    """A name as names are compared: case-folded, white space collapsed."""
    return " ".join(name.casefold().split())


def lock(conn: Connection, *parts: object) -> None:
    """Hold the advisory lock of that name until the transaction ends, so that two runs act one after the other."""
    name = ":".join(["arcadia", *map(str, parts)])
    conn.execute(text("select pg_advisory_xact_lock(hashtextextended(:name, 0))"), {"name": name})


def begin(engine: Engine, *, account_id: int, kind: str, dagster_run_id: str | None = None, started_at: datetime | None = None) -> SyncRun:
    """Record that a listing begins. Call it before the first request; `started_at` is given only where one reading serves many kinds."""
    with engine.begin() as conn:
        row = conn.execute(
            text(
                "insert into arcadia.cloud_sync_runs (account_id, kind, dagster_run_id, started_at)"
                " values (:account_id, :kind, :dagster_run_id, coalesce(:started_at, clock_timestamp()))"
                " returning sync_run_id, started_at"
            ),
            {"account_id": account_id, "kind": kind, "dagster_run_id": dagster_run_id, "started_at": started_at},
        ).one()
    return SyncRun(sync_run_id=row.sync_run_id, account_id=account_id, kind=kind, started_at=row.started_at)


@dataclass(frozen=True, kw_only=True)
class Recalled:
    """What the ledger held of one kind of one account: the digest of the item that each active resource was read of, by provider id.

    None: whatever a listing shows of it must be looked at. `revision` counts what had been recorded of the kind; None: nothing complete.
    """

    digests: Mapping[str, bytes | None]
    revision: int | None


def recall(engine: Engine, run: SyncRun) -> Recalled:
    """What a listing will be compared with, unless another is recorded until then."""
    with engine.connect() as conn:
        revision = _newest_listing(conn, run).revision  # read first, so that it tells of what is recorded while the rest is read
        return Recalled(digests={} if revision is None else _held(conn, run), revision=revision)


def finish(conn: Connection, run: SyncRun, changes: Changes, *, requests: int, error: str | None, complete: bool) -> None:
    """Close a sync run in the transaction that did its work; a complete one becomes the newest listing of its kind."""
    conn.execute(
        text(
            "update arcadia.cloud_sync_runs set finished_at = clock_timestamp(), complete = :complete, seen = :seen,"
            " discovered = :discovered, updated = :updated, restored = :restored, struck = :struck, deleted = :deleted,"
            " requests = :requests, error = :error where sync_run_id = :sync_run_id"
        ),
        {**vars(changes), "complete": complete, "requests": requests, "error": error, "sync_run_id": run.sync_run_id},
    )
    recorded = "update arcadia.listings set revision = revision + 1 where account_id = :account_id and kind = :kind"
    if complete:
        recorded = (
            "insert into arcadia.listings (account_id, kind, started_at) values (:account_id, :kind, :started_at)"
            " on conflict (account_id, kind) do update set revision = listings.revision + 1, started_at = case"
            # One that is yet to begin was recorded by a clock that has been set back since: it proves no order.
            " when listings.started_at < excluded.started_at or listings.started_at > clock_timestamp() then excluded.started_at"
            " else listings.started_at end"
        )
    conn.execute(text(recorded), {"account_id": run.account_id, "kind": run.kind, "started_at": run.started_at})


def ever_listed(engine: Engine, account_id: int, kind: str) -> bool:
    """Whether a complete listing of the kind was ever read from the provider. What a walk of the projects showed is none."""
    with engine.connect() as conn:
        found = conn.execute(
            text(
                "select exists (select from arcadia.cloud_sync_runs"
                " where account_id = :account_id and kind = :kind and complete and requests > 0)"
            ),
            {"account_id": account_id, "kind": kind},
        ).scalar_one()
    return bool(found)


def set_aside(engine: Engine, run: SyncRun, *, requests: int, error: str) -> None:
    """Close the sync run of a listing that showed nothing and says nothing of what is there."""
    with engine.begin() as conn:
        finish(conn, run, Changes(), requests=requests, error=error, complete=False)


def reconcile(
    engine: Engine,
    run: SyncRun,
    found: Sightings | Iterable[Resource],
    *,
    recalled: Recalled | None = None,
    requests: int = 0,
    error: str | None = None,
    strike_interval: timedelta = timedelta(minutes=10),
    allow_mass_deletion: bool = False,
) -> Changes:
    """Bring one kind of one account in line with a listing, in one transaction, and close its sync run.

    `error` says why a listing is incomplete: then what was seen is recorded and nothing is struck. An item that cannot be read makes it
    incomplete too, and is left out. A listing that began before one that has been reconciled already is out of date and changes nothing.
    A resource is struck at most once per `strike_interval`. What was `recalled` before the listing began need not be read again, if it
    still holds.

    Raises MassDeletionWithheldError, after committing what was seen, where more than 10 and more than 30 % of the active resources would
    be tombstoned at once and `allow_mass_deletion` is False.
    """
    seen = found if isinstance(found, Sightings) else Sightings(found)
    withheld: str | None = None
    with engine.begin() as conn:
        lock(conn, "reconcile", run.account_id, run.kind)
        newest = _newest_listing(conn, run)
        if newest.started_at is not None and newest.started_at > run.started_at:
            note = f"a listing of {run.kind} that began later ({newest.started_at:%Y-%m-%d %H:%M:%S} UTC) has been recorded already"
            finish(conn, run, Changes(seen=len(seen)), requests=requests, error=error or note, complete=False)
            return Changes(seen=len(seen))

        held = recalled.digests if recalled is not None and recalled.revision == newest.revision is not None else _held(conn, run)
        unsure = seen.unlike(held)
        shown = len(seen) - len(unsure) + sum(map(held.__contains__, unsure))
        missed = [one for one in held if one not in seen.digests] if shown < len(held) else []
        things = _Things(seen, unsure)
        counts = {"discovered": 0, "updated": 0, "restored": 0}
        ever_seen = bool(held) or _any_known(conn, run)
        new: list[str] = []
        for ids in _batches(unsure):
            known = _known(conn, run, ids) if ever_seen else {}
            _write_known(conn, run, known, things, counts)
            new += [one for one in ids if one not in known]
        counts["discovered"] = _write_new(conn, run, things, new)
        if _is_much(conn, counts["discovered"] + counts["restored"]):
            conn.execute(text("set local default_statistics_target = 10"))  # a rough idea will do until the server looks for itself
            conn.execute(text(f"analyze arcadia.resources ({_COMPARED})"))
        error = error or things.error
        complete = error is None
        struck: list[int] = []
        last_strike: list[int] = []
        if complete:
            missing = [*_known(conn, run, missed).values()]
            due = [row for row in missing if row.last_struck_at is None or row.last_struck_at + strike_interval <= run.started_at]
            # The clock was set back since: how long ago that was is not known, so the interval begins anew.
            _strike_again_later(conn, run, [row.resource_id for row in missing if (row.last_struck_at or run.started_at) > run.started_at])
            struck = [row.resource_id for row in due if row.stale_strike_count + 1 < STRIKES]
            last_strike = [row.resource_id for row in due if row.stale_strike_count + 1 >= STRIKES]
            if len(last_strike) > MASS_DELETION_COUNT and len(last_strike) > MASS_DELETION_SHARE * len(held) and not allow_mass_deletion:
                withheld = (
                    f"{len(last_strike)} of {len(held)} active {run.kind} resources are missing from three listings in a row; that"
                    " many are not tombstoned unless you say that it is right: run again with allow_mass_deletion"
                )
                last_strike = []
            _strike(conn, run, struck, last_strike)
        changes = Changes(seen=len(seen) - things.unreadable, struck=len(struck), deleted=len(last_strike), **counts)
        finish(conn, run, changes, requests=requests, error=error or withheld, complete=complete)
    if withheld is not None:
        raise MassDeletionWithheldError(withheld)
    return changes


# So many items are looked up at a time, and so many rows.
_BATCH = 2000
# While the server is busy with new ones, the next are read, so few between two looks at whether it waits, and so many at most.
_PIECE = 5
_AHEAD = 2 * _BATCH
# What queries join by or look for: figures on long JSON cost as much as all the others, and nothing uses them.
_COMPARED = ", ".join(column.name for column in resources.columns if column.name not in ("attrs", "tags", "fingerprint", "item_digest"))


def _batches(ids: list[str]) -> Iterable[list[str]]:
    return (ids[first : first + _BATCH] for first in range(0, len(ids), _BATCH))


def _is_much(conn: Connection, new: int) -> bool:
    """Whether so many new rows make the planner's picture of `resources` wrong enough for joins that never end.

    By autovacuum's own rule, which is applied a minute later: https://www.postgresql.org/docs/current/routine-vacuuming.html
    """
    known = text("select greatest(reltuples, 0) from pg_class where oid = 'arcadia.resources'::regclass")
    return new >= 50 and new >= 50 + conn.execute(known).scalar_one() / 10


def _held(conn: Connection, run: SyncRun) -> dict[str, bytes | None]:
    """The active resources, with the digests of what this edition of the code read. What is asked for is in an index."""
    query = (
        "select provider_id, case when stale_strike_count = 0 and substr(item_digest, 17) = %s then substr(item_digest, 1, 16) end"
        " from arcadia.resources where account_id = %s and kind = %s and deleted_at is null"
    )
    held: dict[str, bytes | None] = {}
    with driver(conn).cursor("held", binary=True) as cursor:
        cursor.execute(query, (EDITION, run.account_id, run.kind))
        while rows := cursor.fetchmany(_BATCH):
            held.update(rows)
    return held


def _any_known(conn: Connection, run: SyncRun) -> bool:
    query = text("select exists (select from arcadia.resources where account_id = :account_id and kind = :kind)")
    return bool(conn.execute(query, {"account_id": run.account_id, "kind": run.kind}).scalar_one())


def _known(conn: Connection, run: SyncRun, provider_ids: list[str]) -> dict[str, Any]:
    """What is known of those of these that are in the ledger."""
    if not provider_ids:
        return {}
    # Each is looked up by the index, however many there are: of a table that is being filled the planner knows nothing, and a plan that
    # was prepared when it was empty reads all of it for each batch.
    query = (
        "select r.* from unnest(%s::text[]) as wanted (id) cross join lateral (select provider_id, resource_id, fingerprint,"
        " item_digest, stale_strike_count, last_struck_at, deleted_at is not null as gone, (select l.item_digest"
        " from arcadia.item_lookalikes l where l.resource_id = resources.resource_id and l.fingerprint = resources.fingerprint"
        ") as lookalike from arcadia.resources"
        " where account_id = %s and kind = %s and provider_id = wanted.id offset 0) r"
    )
    with driver(conn).cursor(row_factory=namedtuple_row) as cursor:
        rows: list[Any] = cursor.execute(query, (provider_ids, run.account_id, run.kind), prepare=False).fetchall()
    return {row.provider_id: row for row in rows}


class _Newest(NamedTuple):
    revision: int | None
    started_at: datetime | None  # None: unknown, as the clock was set back since


def _newest_listing(conn: Connection, run: SyncRun) -> _Newest:
    row = conn.execute(
        text(
            "select revision, case when started_at <= clock_timestamp() then started_at end from arcadia.listings"
            " where account_id = :account_id and kind = :kind"
        ),
        {"account_id": run.account_id, "kind": run.kind},
    ).one_or_none()
    return _Newest(None, None) if row is None else _Newest(*row)


class _Seen(msgspec.Struct, frozen=True, gc=False):
    item: Resource
    cells: str  # a line of what is in `_READ`
    fingerprint: bytes
    digest: bytes | None  # of what it was read of


class _Things:
    """What was seen, as it is read; what cannot be read is left out, and counted."""

    def __init__(self, seen: Sightings, ids: list[str]) -> None:
        self.error: str | None = None  # of the first that cannot be read
        self.unreadable = 0
        self._seen = seen
        self._read = seen.reader(ids)

    def looks_alike(self, row: Any) -> bool:
        """Whether it has been read before, as what the ledger's row of it says."""
        digest = self._seen.digests[row.provider_id]
        return digest is not None and row.lookalike == digest + EDITION and not row.gone and not row.stale_strike_count

    def read(self, ids: Iterable[str]) -> Iterator[_Seen]:
        for one in ids:
            try:
                seen = _seen(*self._read(one))
            except ValueError as problem:
                self.error = self.error or str(problem)
                self.unreadable += 1
            else:
                yield seen


# What a row of `resources` takes over from a listing.
_STATE = (
    "name",
    "name_key",
    "region",
    "status",
    "tags",
    "attrs",
    "monthly_price",
    "own_project_id",
    "parent_kind",
    "parent_provider_id",
    "provider_created_at",
    "fingerprint",
    "item_digest",
)
_READ = ("provider_id", *_STATE)


def _seen(item: Resource, item_digest: bytes | None) -> _Seen:
    digest = None if item_digest is None else item_digest + EDITION
    meant = line(
        (
            item.provider_id,
            item.name,
            name_key(item.name),
            item.region,
            item.status,
            item.tags,
            item.attrs,
            item.monthly_price,
            item.own_project_id,
            item.parent_kind,
            item.parent_provider_id,
            item.provider_created_at,
        )
    )
    fingerprint = hashlib.sha256(meant.encode()).digest()[:16]
    return _Seen(item, f"{meant}\t{bytea(fingerprint)}\t{'' if digest is None else bytea(digest)}", fingerprint, digest)


def _write_known(conn: Connection, run: SyncRun, known: Mapping[str, Any], things: _Things, counts: dict[str, int]) -> None:
    """Update what changed, restore what came back, reset strikes; `counts` is brought up to date.

    Only these rows travel to the database: of what reads as it did before, no more than the digest. It is written beside the row, which is
    many times as long; into the row only where that has none by this edition of the code, or every listing would look beside all rows.
    """
    forgiven: list[int] = []
    lookalikes: list[tuple[int, bytes | None, bytes]] = []
    outdated: list[tuple[int, bytes | None]] = []
    changed: list[tuple[_Seen, Any]] = []
    for one in things.read(id for id, row in known.items() if not things.looks_alike(row)):
        row = known[one.item.provider_id]
        if row.gone or bytes(row.fingerprint or b"") != one.fingerprint:
            changed.append((one, row))
            continue
        if row.stale_strike_count:
            forgiven.append(row.resource_id)
        if one.digest in (None, row.item_digest):
            continue
        if row.item_digest is not None and row.item_digest.endswith(EDITION):
            lookalikes.append((row.resource_id, one.digest, one.fingerprint))
        else:
            outdated.append((row.resource_id, one.digest))

    _write_changed(conn, run, changed, counts)
    if forgiven:
        conn.execute(
            text(
                "update arcadia.resources set stale_strike_count = 0, last_struck_at = null, last_seen_at = :seen_at"
                " where resource_id = any(cast(:ids as bigint[]))"
            ),
            {"seen_at": run.started_at, "ids": forgiven},
        )
    if lookalikes:
        ids, digests, fingerprints = zip(*lookalikes, strict=True)
        conn.execute(
            text(
                "insert into arcadia.item_lookalikes (resource_id, item_digest, fingerprint)"
                " select * from unnest(cast(:ids as bigint[]), cast(:digests as bytea[]), cast(:fingerprints as bytea[]))"
                " on conflict (resource_id) do update set item_digest = excluded.item_digest, fingerprint = excluded.fingerprint"
            ),
            {"ids": [*ids], "digests": [*digests], "fingerprints": [*fingerprints]},
        )
    if outdated:
        ids, digests = zip(*outdated, strict=True)
        conn.execute(
            text(
                "update arcadia.resources r set item_digest = d.item_digest from unnest(cast(:ids as bigint[]), cast(:digests as bytea[]))"
                " as d (resource_id, item_digest) where r.resource_id = d.resource_id"
            ),
            {"ids": [*ids], "digests": [*digests]},
        )


def _write_new(conn: Connection, run: SyncRun, things: _Things, ids: list[str]) -> int:
    """Enter these; returns how many that are. Things are read while the server is busy with those before them."""
    columns = ("resource_id", "account_id", "kind", *_READ, "first_seen_at", "last_seen_at")
    before, after = f"\t{line((run.account_id, run.kind))}\t", f"\t{line((run.started_at, run.started_at))}"
    # No more than a row is kept of what has been read: many thousand objects would be looked through for garbage again and again.
    lines = (before + one.cells + after for one in things.read(ids))
    ahead: list[str] = []
    entered = 0

    def read_ahead() -> bool:
        had = len(ahead)
        ahead.extend(islice(lines, min(_PIECE, _AHEAD - had)))
        return len(ahead) > had

    def next_batch() -> list[str]:
        ahead.extend(islice(lines, max(_BATCH - len(ahead), 0)))
        batch = ahead[:_BATCH]
        del ahead[:_BATCH]
        return batch

    # Ids are drawn first, so that each table is written as it will be, and nothing is looked for again among all that is there.
    draw = (
        "select array_agg(nextval(ids)::text) from (select pg_get_serial_sequence('arcadia.resources', 'resource_id')::regclass as ids"
        " offset 0) s cross join generate_series(1, %s)"
    )
    with busy(conn, read_ahead), driver(conn).cursor() as cursor:
        cursor.execute(draw, (min(len(ids), _BATCH),))
        while new := next_batch():
            drawn: list[str] = cursor.fetchall()[0][0][: len(new)]
            copy_lines(conn, "arcadia.resources", columns, map(str.__add__, drawn, new))
            entered += len(new)
            cursor.execute(
                "with told as (insert into arcadia.cloud_resource_events (resource_id, account_id, sync_run_id, event, occurred_at)"
                f" select unnest(%s::bigint[]), %s, %s, 'discovered', %s) {draw}",
                (array(drawn), run.account_id, run.sync_run_id, run.started_at, min(len(ids) - entered, _BATCH)),
            )
    return entered


def _write_changed(conn: Connection, run: SyncRun, changed: list[tuple[_Seen, Any]], counts: dict[str, int]) -> None:
    """`changed` are things with the rows that `_known` has of them."""
    if not changed:
        return
    kind = kind_named(run.kind)
    lines: list[str] = []
    renamed = False
    before = _states(conn, [row.resource_id for _, row in changed])
    for one, row in changed:
        changes = _difference(before[row.resource_id], one.item)
        event = "restored" if row.gone else _event(kind, changes)
        if event == "drift_detected" and not _difference(before[row.resource_id], placeholder(one.item.provider_id)):
            event = "updated"  # nothing drifted: no more than a URN was known
        if event is not None:
            counts["restored" if row.gone else "updated"] += 1
        lines.append(f"{row.resource_id}\t{one.cells}\t{line((event, _encoder.encode(changes).decode()))}")
        renamed = renamed or row.gone or "name" in changes

    conn.execute(
        text(
            f"create temp table staged on commit drop as select resource_id, {', '.join(_READ)}, ''::text as event,"
            " '{}'::jsonb as changes from arcadia.resources with no data"
        )
    )
    copy_lines(conn, "staged", ("resource_id", *_READ, "event", "changes"), lines)
    if renamed:
        _rename(conn, run)
    conn.execute(
        text(
            f"update arcadia.resources r set {', '.join(f'{column} = s.{column}' for column in _STATE)},"
            " last_seen_at = :seen_at, stale_strike_count = 0, last_struck_at = null, deleted_at = null, billing_only = false"
            " from staged s where r.resource_id = s.resource_id"
        ),
        {"seen_at": run.started_at},
    )
    conn.execute(
        text(
            "insert into arcadia.cloud_resource_events (resource_id, account_id, sync_run_id, event, changes, occurred_at)"
            " select resource_id, :account_id, :sync_run_id, event, changes, :seen_at from staged where event is not null"
        ),
        {"account_id": run.account_id, "sync_run_id": run.sync_run_id, "seen_at": run.started_at},
    )
    conn.execute(text("drop table staged"))


def _rename(conn: Connection, run: SyncRun) -> None:
    """Keep the names that those in `staged` have had until now.

    A name was given some time after the old one was last seen, and the old one was borne until the new one is seen. One that was borne
    before is as old as it was.
    """
    conn.execute(
        text(
            "with renamed as materialized (select r.resource_id, s.name_key, r.name_key as old_key, r.name as old, r.name_seen_from"
            " from staged s join arcadia.resources r using (resource_id) where s.name_key <> r.name_key),"
            " left_behind as (insert into arcadia.other_names (resource_id, name_key, name, seen_from, seen_until)"
            " select resource_id, old_key, old, name_seen_from, :seen_at from renamed),"
            " ended as (update arcadia.other_names o set seen_until = :seen_at from staged s"
            " where o.resource_id = s.resource_id and o.name_key <> s.name_key and o.seen_until is null),"
            " again as (delete from arcadia.other_names o using renamed n"
            " where o.resource_id = n.resource_id and o.name_key = n.name_key returning o.resource_id, o.seen_from)"
            " update arcadia.resources r set name_seen_from = case when again.resource_id is null then (select started_at"
            " from arcadia.listings where account_id = :account_id and kind = :kind) else again.seen_from end"
            " from renamed n left join again using (resource_id) where r.resource_id = n.resource_id"
        ),
        {"account_id": run.account_id, "kind": run.kind, "seen_at": run.started_at},
    )


def _strike(conn: Connection, run: SyncRun, struck: list[int], last_strike: list[int]) -> None:
    if not struck and not last_strike:
        return
    # A first strike freezes last_seen_at at the newest complete listing: that is the one that saw it, with or without a write.
    # Arrays are of the column's own type, as only then they are hashed; otherwise each row is looked for from their beginning on.
    conn.execute(
        text(
            "with gone as (update arcadia.resources r set stale_strike_count = stale_strike_count + 1, last_struck_at = :at,"
            " deleted_at = case when resource_id = any(cast(:last_strike as bigint[])) then cast(:at as timestamptz) end,"
            " last_seen_at = case when stale_strike_count > 0 then last_seen_at else greatest(last_seen_at, (select started_at"
            " from arcadia.listings l where l.account_id = r.account_id and l.kind = r.kind)) end"
            " where resource_id = any(cast(:missing as bigint[])) returning resource_id, deleted_at, name, last_seen_at)"
            " insert into arcadia.cloud_resource_events (resource_id, account_id, sync_run_id, event, changes, occurred_at)"
            " select resource_id, :account_id, :sync_run_id, 'deleted',"
            " jsonb_build_object('deleted_at', jsonb_build_object('before', null, 'after', deleted_at)), :at"
            " from gone where deleted_at is not null"
        ),
        {
            "at": run.started_at,
            "missing": struck + last_strike,
            "last_strike": last_strike,
            "account_id": run.account_id,
            "sync_run_id": run.sync_run_id,
        },
    )


def _strike_again_later(conn: Connection, run: SyncRun, resource_ids: list[int]) -> None:
    if resource_ids:
        conn.execute(
            text("update arcadia.resources set last_struck_at = :at where resource_id = any(cast(:ids as bigint[]))"),
            {"at": run.started_at, "ids": resource_ids},
        )


def _states(conn: Connection, resource_ids: list[int]) -> dict[int, dict[str, Any]]:
    """What the ledger holds of these resources, as fields that `_difference` compares."""
    if not resource_ids:
        return {}
    query = (
        "select resource_id, name, region, status, tags, attrs::text as attrs, monthly_price, own_project_id, parent_kind,"
        " parent_provider_id, provider_created_at from arcadia.resources where resource_id = any(%s::bigint[])"
    )
    with driver(conn).cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(query, (resource_ids,)).fetchall()
    return {row["resource_id"]: row for row in rows}


_FIELDS = ("name", "region", "status", "monthly_price", "parent_kind", "parent_provider_id", "provider_created_at")


def _difference(before: Mapping[str, Any], after: Resource) -> dict[str, dict[str, Any]]:
    """field -> {before, after} of what changed. The project is left out: attribution says in which project a resource really is."""
    pairs = {name: (before[name], getattr(after, name)) for name in _FIELDS}
    pairs["tags"] = (sorted(before["tags"]), sorted(after.tags))
    attrs_before, attrs_after = _decoder.decode(before["attrs"]), _decoder.decode(after.attrs)
    for name in sorted({*attrs_before, *attrs_after}):
        pairs[name] = (attrs_before.get(name), attrs_after.get(name))
    return {name: {"before": old, "after": new} for name, (old, new) in pairs.items() if _differ(old, new)}


_PLAIN = (str, type(None), int, bool, Decimal, datetime)


def _differ(old: Any, new: Any) -> bool:
    if type(old) is type(new) and type(old) in _PLAIN:
        return bool(old != new)
    return _encoder.encode(old) != _encoder.encode(new)


def _event(kind: Kind, changes: Mapping[str, Any]) -> str | None:
    if not changes:
        return None
    if changes.keys() == {"tags"}:
        return "tagged"
    if changes.keys() & {"region", *kind.drift}:
        return "drift_detected"
    return "updated"


def admit_billed(conn: Connection, account_id: int, billed: str) -> None:
    """Enter what an invoice bills by an id that nobody has seen: gone before the first listing, so tombstoned from the start.

    `billed` names a relation of the transaction with kind, provider_id, name, name_key, region, started_at, ended_at, one row a line.
    The same id on a later invoice widens the dates of the one row; what inventory knows is never touched.
    """
    for kind in conn.execute(text(f"select distinct kind from {billed} order by kind")).scalars().all():
        lock(conn, "reconcile", account_id, kind)  # a listing that enters the same thing has its turn before or after
    conn.execute(
        text(
            f"""
with life as (
    select kind, provider_id, min(started_at) as born, max(ended_at) as died,
           (array_agg(name order by ended_at desc, name))[1] as name,
           (array_agg(name_key order by ended_at desc, name))[1] as name_key,
           (array_agg(region order by ended_at desc, region))[1] as region
      from {billed} group by kind, provider_id
), known as (
    select r.resource_id, r.name_key, r.name
      from life join arcadia.resources r on r.account_id = :account_id and r.kind = life.kind and r.provider_id = life.provider_id
), entered as (
    insert into arcadia.resources as r (account_id, kind, provider_id, name, name_key, region, provider_created_at, first_seen_at,
                                        last_seen_at, deleted_at, billing_only)
    select :account_id, kind, provider_id, name, name_key, region, born, now(), now(), died, true from life order by kind, provider_id
    on conflict (account_id, kind, provider_id) do update
       set provider_created_at = least(r.provider_created_at, excluded.provider_created_at),
           name = case when excluded.deleted_at >= r.deleted_at then excluded.name else r.name end,
           name_key = case when excluded.deleted_at >= r.deleted_at then excluded.name_key else r.name_key end,
           deleted_at = greatest(r.deleted_at, excluded.deleted_at)
     where r.billing_only and (excluded.provider_created_at < r.provider_created_at or excluded.deleted_at > r.deleted_at)
    returning resource_id, kind, provider_id, name_key, xmax = 0 as is_new
), named as (
    insert into arcadia.other_names (resource_id, name_key, name)
    select distinct on (e.resource_id, n.name_key) e.resource_id, n.name_key, n.name
      from entered e
     cross join lateral (select b.name_key, b.name from {billed} b where b.kind = e.kind and b.provider_id = e.provider_id
                         union all select k.name_key, k.name from known k where k.resource_id = e.resource_id) n
     where n.name_key <> e.name_key order by e.resource_id, n.name_key, n.name
    on conflict do nothing
), has_become_its_own as (
    delete from arcadia.other_names o using entered e where o.resource_id = e.resource_id and o.name_key = e.name_key
)
insert into arcadia.cloud_resource_events (resource_id, account_id, event, changes, occurred_at)
select resource_id, :account_id, 'discovered', :changes, now() from entered where is_new
"""
        ),
        {
            "account_id": account_id,
            "changes": json.dumps({"billing_only": {"before": None, "after": True}}),
        },
    )
