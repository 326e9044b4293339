"""Checks on what the inventory holds: that nothing left it without proof, and that it keeps no secret."""

import re

import dagster as dg
from sqlalchemy import text

from arcadia_dagster import settings
from arcadia_dagster.defs.accounts import ACCOUNTS
from arcadia_dagster.defs.checking import no_rows
from arcadia_dagster.defs.resources import Ledger
from arcadia_dagster.ledger.accounts import doubts

tombstones_are_proven = no_rows(
    "tombstones_are_proven",
    """
    select r.kind, r.provider_id, r.name, r.deleted_at, s.complete, s.error
      from arcadia.resources r
      left join lateral (select * from arcadia.cloud_resource_events e where e.resource_id = r.resource_id and e.event = 'deleted'
                          order by e.event_id desc limit 1) e on true
      left join arcadia.cloud_sync_runs s on s.sync_run_id = e.sync_run_id and s.account_id = r.account_id and s.kind = r.kind
     where r.deleted_at is not null and not r.billing_only and s.complete is distinct from true""",
    asset="project_resources",
    description="Every tombstone follows from a complete listing of its kind in its own account: none from a failed or partial read.",
    worst="r.deleted_at desc",
)

names_are_unique = no_rows(
    "names_are_unique",
    "select account_id, kind, lower(name) as name, count(*) as resources, string_agg(provider_id, ', ' order by provider_id) as ids"
    " from arcadia.cloud_resources where deleted_at is null group by 1, 2, 3 having count(*) > 1",
    asset="project_resources",
    description="Two active resources of one kind with one name make lines that name them undecidable without an id.",
    worst="4 desc",
    severity=dg.AssetCheckSeverity.WARN,
)

no_listing_left_open = no_rows(
    "no_listing_left_open",
    """
    select account_id, kind, started_at, dagster_run_id from arcadia.cloud_sync_runs s
     where finished_at is null and started_at < now() - interval '2 hours'
       and not exists (select from arcadia.cloud_sync_runs n where n.account_id = s.account_id and n.kind = s.kind
                          and n.started_at > s.started_at and n.complete)""",
    asset="project_resources",
    description="No listing was begun and never ended: a killed run leaves one, and the next run of the kind makes up for it.",
    worst="started_at",
    severity=dg.AssetCheckSeverity.WARN,
)


# Names that list replies give to passwords, keys and tokens, and addresses with a password in them.
NAMES_OF_SECRETS = (
    "password|passwd|secret|token|private_key|access_key|api_key|credential|connection|private_connection|env|envs|sso_url|kubeconfig"
)
_CREDENTIALS_IN_URL = r"[a-z][a-z0-9+.-]*://[^/\s:@\"]+:[^/\s@\"]+@"


@dg.asset_check(
    asset="project_resources",
    description="No field that bears the name of a secret, no address with a password in it, and none of this process's tokens is kept:"
    " in what there is, and in what was written in the last seven days. What is older was looked at then.",
)
def no_secret_is_kept(ledger: Ledger) -> dg.AssetCheckResult:
    """Fails where attributes, events or errors hold what looks like a secret. Says where, never what."""
    tokens = settings.all_tokens()
    where = """
        select 'resources.attrs' as place, resource_id as row, attrs::text as content from arcadia.resources
         where deleted_at is null or deleted_at > now() - interval '7 days'
        union all select 'cloud_resource_events.changes', event_id, changes::text
          from arcadia.cloud_accounts a join arcadia.cloud_resource_events e using (account_id)
         where e.occurred_at > now() - interval '7 days'
        union all select 'cloud_sync_runs.error', sync_run_id, error from arcadia.cloud_sync_runs where error is not null
        union all select 'cloud_invoices.error', null, error from arcadia.cloud_invoices"""
    with ledger.engine.connect() as conn:
        found = conn.execute(
            text(
                f"select place, row from ({where}) w where content ~* :names or content ~* :urls"  # noqa: S608
                " or exists (select from unnest(cast(:tokens as text[])) t where strpos(content, t) > 0) limit 20"
            ),
            {"names": rf'"({NAMES_OF_SECRETS})" *:', "urls": _CREDENTIALS_IN_URL, "tokens": tokens},
        ).all()
    places = [f"{row.place} {row.row}" for row in found]
    return dg.AssetCheckResult(passed=not places, metadata={"places": re.sub(r"[\[\]']", "", str(places)) or "none"})


if ACCOUNTS:

    @dg.asset_check(
        asset="project_resources",
        description="Each account of the accounts' file leads to a team of its own, both of its tokens to the same, and for a week to no"
        " other than before. Nothing is mixed up otherwise: what is read belongs to the team.",
    )
    def accounts_are_told_apart(ledger: Ledger) -> dg.AssetCheckResult:
        """Fails where a person ought to look at the file."""
        with ledger.engine.connect() as conn:
            found = list(dict.fromkeys(sentence for _, sentence in doubts(conn, ACCOUNTS)))
        return dg.AssetCheckResult(
            passed=not found,
            severity=dg.AssetCheckSeverity.WARN,
            description="; ".join(found) + "." if found else None,
            metadata={"found": len(found)},
        )
