"""An account with a past, a ledger that knows that past, whole runs of the jobs over both, and what the ledger then says.

Belongs here: what every attack begins with and is judged by. Faults are in `faults.py`, the attacks in the tests.
"""

import copy
import uuid
from collections import Counter
from contextlib import contextmanager

import dagster as dg
from sqlalchemy import create_engine, text

from arcadia_dagster.definitions import defs
from arcadia_dagster.defs.billing.jobs import neighbours, range_tags, waiting_invoices
from arcadia_dagster.defs.billing.partitions import invoice_partitions
from arcadia_dagster.demo import items, server
from arcadia_dagster.demo.showcase import showcase_account
from arcadia_dagster.digitalocean import client
from arcadia_dagster.digitalocean.kinds import KINDS
from arcadia_dagster.ledger.schema import connect

DEFINITIONS = defs()
JOBS = ("sync_catalogue", "sync_snapshots", "sync_backups", "sync_inventory", "record_balance", "discover_invoices")
KIND_OF = {kind.asset: kind.name for kind in KINDS.values() if kind.asset} | {"project_resources": "project_resource"}
JOB_OF = {
    asset: name
    for name in JOBS
    for asset in (key.to_user_string() for key in DEFINITIONS.resolve_job_def(name).asset_layer.executable_asset_keys)
}

# Where the simulated account keeps what is listed under this key of a reply, if not under the same name.
_KEPT_AS = {
    "namespaces": "function_namespaces", "vpc_nat_gateways": "nat_gateways", "shares": "nfs_shares", "vector_dbs": "vector_databases",
    "agents": "genai_agents", "knowledge_bases": "genai_knowledge_bases", "resources": "addons", "endpoints": "cdn_endpoints",
    "checks": "uptime_checks", "policies": "alert_policies", "keys": "spaces_keys",
}  # fmt: skip

# Of every kind there is one thing for each of these roles, besides what the account has anyway.
STAYS_STRUCK = "hot"  # there before and now, yet missing from the last two listings: one more, and it is tombstoned
MISSING_TWICE = "gone"  # gone, and missing from the last two listings
JUST_LEFT = "left"  # gone since the last listing
TOMBSTONED = "dead"
NEW = "new"
_BEFORE, _NOW = (STAYS_STRUCK, MISSING_TWICE, JUST_LEFT, TOMBSTONED), (STAYS_STRUCK, NEW)
_PLACEHOLDER = "newthing"  # a kind that only the walk of the projects shows


class Requests(list):
    """A server's list of requests that calls `spring` when it has grown to `count`, before that request is answered."""

    def __init__(self, count, spring):
        super().__init__()
        self.count, self.spring = count, spring

    def append(self, request):
        super().append(request)
        if len(self) == self.count:
            self.spring()


def _lists(account):
    """(kind, the list that the account keeps its things in)."""
    for kind in KINDS.values():
        if kind.name == "droplet_backup":
            yield kind, next(iter(account.backups.values()))
        elif kind.name == "db_replica":
            yield kind, next(iter(account.database_replicas.values()))
        elif kind.name == "nfs_snapshot":
            yield kind, account.nfs_snapshots
        elif kind.path is not None:
            yield kind, getattr(account, _KEPT_AS.get(kind.key, kind.key))


def _in_role(kind, item, role):
    """Another thing like `item`, known by its role."""
    other = copy.deepcopy(item)
    number = (*_BEFORE, NEW).index(role) + 1
    field = kind.list_id
    known = other[field]
    if isinstance(known, int):
        other[field] = known + 7000 + number
    elif known.isdecimal():
        other[field] = str(int(known) + 7000 + number)
    elif known.count(".") == 3:
        other[field] = f"203.0.113.{number}"
    elif len(known) == 36 and known.count("-") == 4:
        other[field] = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{known}/{role}"))
    else:
        other[field] = f"{known}-{role}"
    for name in ("name", "label", "prefix", "endpoint", "description"):
        if name in other and name != field:
            other[name] = f"{other[name]}-{role}"
    if "is_default" in other:
        other["is_default"] = False
    if kind.name == "spaces_bucket":
        other["grants"] = [{"bucket": f"bucket-{role}", "permission": "read"}]
    if kind.name == "droplet":
        other["backup_ids"], other["features"] = [], []
    return other


def account(*roles):
    """The showcase with one more thing of every kind for each role, two backups of a droplet that is no more, and three invoices."""
    made = showcase_account()
    for kind, kept in _lists(made):
        kept += [_in_role(kind, kept[0], role) for role in roles]
    made.backups[1] = [items.backup(7_000_000 + number, f"of the past {number}", created_at="2026-01-01T00:00:00Z", size_gigabytes=1)
                       for number in range(3)]  # fmt: skip
    members = next(iter(made.project_resources.values()))
    for name in ("one", "two", *roles):
        members.append(dict(members[0]) | {"urn": f"do:{_PLACEHOLDER}:{name}"})
    made.invoices = made.invoices[:3]
    known = {invoice.uuid for invoice in made.invoices}
    made.billing_history = [entry for entry in made.billing_history if entry["invoice_uuid"] in known]
    return made


def account_before():
    """As the ledger knows it. The newest invoice was not made yet."""
    made = account(*_BEFORE)
    newest = made.invoices.pop(0)
    made.billing_history = [entry for entry in made.billing_history if entry["invoice_uuid"] != newest.uuid]
    return made


def account_now():
    """As it is today: things came and went, a droplet has another tag, a volume grew, an invoice was made."""
    made = account(*_NOW)
    made.droplets[0]["tags"] = ["web", "moved"]
    made.volumes[0]["size_gigabytes"] += 50
    return made


def give_it_a_past(engine):
    """Strikes and tombstones for the things in those roles."""
    names = {role: [] for role in _BEFORE}
    for kind, kept in _lists(account(*_BEFORE)):
        for role, item in zip(_BEFORE, kept[-len(_BEFORE) :], strict=True):
            provider_id = f"bucket-{role}" if kind.name == "spaces_bucket" else str(item[kind.id])
            names[role].append((kind.name, provider_id))
    for role in _BEFORE:
        names[role].append((_PLACEHOLDER, role))
    with engine.begin() as conn:
        for role, things in names.items():
            if role == JUST_LEFT:
                continue
            for kind, provider_id in things:
                dead = role == TOMBSTONED
                done = conn.execute(
                    text(
                        "update arcadia.resources set stale_strike_count = :strikes, last_struck_at = now() - interval '1 day',"
                        " deleted_at = case when :dead then now() - interval '1 day' end where kind = :kind and provider_id = :id"
                    ),
                    {"strikes": 3 if dead else 2, "dead": dead, "kind": kind, "id": provider_id},
                )
                assert done.rowcount == 1, (kind, provider_id)
        conn.execute(text("update arcadia.cloud_resource_events set occurred_at = occurred_at - interval '2 days'"))


class Runs:
    """The jobs of the code location, in this process, on one ledger and one server."""

    def __init__(self, url, served, token, monkeypatch, *, hurry=60):
        self.engine = connect(url)
        self.instance = dg.DagsterInstance.ephemeral()
        # The provider's special limits would make an attack on them last minutes, and our clock passes as quickly as we hurry.
        monkeypatch.setattr(server, "_SPECIAL_LIMITS", ())
        clock, sleep = client.time.monotonic, client.time.sleep
        monkeypatch.setattr(client, "_clock", lambda: clock() * hurry)
        monkeypatch.setattr(client, "_sleep", lambda seconds: sleep(seconds / hurry))
        monkeypatch.setenv("ARCADIA_TEST_HURRY", str(hurry))
        monkeypatch.setenv("ARCADIA_DATABASE_URL", url.render_as_string(hide_password=False))
        monkeypatch.setenv("DO_API_TOKEN", token)
        monkeypatch.setenv("DIGITALOCEAN_API_URL", served.url)

    def job(self, name, *, assets=None, tags=None, config=None, instance=None):
        return DEFINITIONS.resolve_job_def(name).execute_in_process(
            instance=instance or self.instance,
            raise_on_error=False,
            tags=tags,
            run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}, **(config or {})},
            asset_selection=assets and [dg.AssetKey(asset) for asset in assets],
        )

    def everything(self, assets=None):
        """What `arcadia sync` does, or these assets' part of it: asset -> the sentence that its step failed with, last try."""
        failed = {}
        for name in JOBS:
            chosen = assets and [asset for asset in assets if JOB_OF[asset] == name]
            if assets is None or chosen:
                failed |= failures(self.job(name, assets=chosen))
        if assets is None or "invoices" in assets:
            name = str(invoice_partitions.name)
            wanted = waiting_invoices(self.engine, retry_failed=True)
            self.instance.add_dynamic_partitions(name, wanted)
            for ends in neighbours(wanted, self.instance.get_dynamic_partitions(name)):
                failed |= failures(self.job("ingest_invoices", tags=range_tags(*ends)))
        return failed

    def rows(self, query, **values):
        with self.engine.connect() as conn:
            return conn.execute(text(query), values).all()

    def close(self):
        self.engine.dispose()
        self.instance.dispose()


def failures(result):
    """Step -> its sentence; one that no asset of ours chose begins with UNNAMED."""
    found = {}
    for event in result.all_events:
        if event.is_step_failure:
            data = event.step_failure_data
            said = data.user_failure_data and data.user_failure_data.description
            found[event.step_key] = said or f"UNNAMED {data.error and (data.error.cause or data.error).to_string()[:600]}"
    return found


# What a ledger says, without the ids and times that differ from one run to the next. The first column is what a row belongs to.
CONTENTS = {
    "resources": """
        select kind, provider_id, name, region, status, tags, attrs::text, monthly_price, own_project_id, parent_kind,
               parent_provider_id, provider_created_at, billing_only, encode(fingerprint, 'hex') from arcadia.resources""",
    "strikes": "select kind, provider_id, stale_strike_count, deleted_at is not null from arcadia.resources",
    "names": "select r.kind, r.provider_id, n.name, n.seen_until is null from arcadia.resources_by_name n join arcadia.resources r"
    " using (resource_id)",
    "projects": """
        select r.kind, r.provider_id, p.provider_id as project, r.attribution_source, r.tenant_id from arcadia.resources r
          left join arcadia.resources p on p.resource_id = r.cloud_project_id""",
    "memberships": "select 'project_resource', kind, provider_id, project_id from arcadia.project_memberships",
    "events": "select r.kind, r.provider_id, e.event, e.changes - 'deleted_at' from arcadia.cloud_resource_events e"
    " join arcadia.resources r using (resource_id)",
    "listings": "select kind from arcadia.listings",
    "invoices": """
        select 'invoice', invoice_uuid, invoice_id, period, amount, status, issued_at, covers_until, line_count, line_total, residual,
               discrepancy, error, items_sha256, csv_sha256, lines_sha256 from arcadia.cloud_invoices""",
    "lines": """
        select 'invoice', l.invoice_uuid, l.ordinal, l.product, l.description, l.amount_usd, l.started_at, l.ended_at, l.kind,
               l.provider_resource_id, l.provider_resource_uuid, r.kind as resource_kind, r.provider_id, l.match_status, l.match_method,
               l.match_detail ->> 'reason' as reason
          from arcadia.cloud_cost_lines l left join arcadia.resources r using (resource_id)""",
    "accounts": "select 'account', team_uuid, name from arcadia.cloud_accounts",
    "balance": "select distinct 'balance', account_balance, month_to_date_usage from arcadia.cloud_balance_snapshots",
}  # fmt: skip


def contents(engine):
    """Table -> its rows, as text, with how many there are of each."""
    with engine.connect() as conn:
        return {name: Counter(tuple(map(str, row)) for row in conn.execute(text(query))) for name, query in CONTENTS.items()}


def difference(before, after, *, tables=None, of=None, without=()):
    """Sentences for what two ledgers do not have in common, in these tables, and of these kinds."""
    told = []
    for table in tables or before:
        for sign, rows in (("-", before[table] - after[table]), ("+", after[table] - before[table])):
            told += [f"{table} {sign} {' | '.join(row)[:300]}" for row in rows if (of is None or row[0] in of) and table not in without]
    return sorted(told)


@contextmanager
def database(server_url, name, template):
    """A database like another one, for as long as the block lasts."""
    engine = create_engine(server_url, isolation_level="AUTOCOMMIT")
    with engine.connect() as conn:
        conn.execute(text(f"create database {name} template {template}"))
    try:
        yield server_url.set(database=name)
    finally:
        with engine.connect() as conn:
            conn.execute(text(f"drop database {name} with (force)"))
        engine.dispose()
