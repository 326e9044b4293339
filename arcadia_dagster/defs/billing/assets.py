"""Balance, invoices and cost lines as assets. Reading documents, adding up and matching are the ledger's."""

import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from itertools import islice
from typing import Any, BinaryIO, Self

import dagster as dg
from sqlalchemy import text

from arcadia_dagster.defs.accounts import ACCOUNT_TAG, ACCOUNTS, account_partitions
from arcadia_dagster.defs.billing.partitions import invoice_partitions, invoice_uuid_of, partition_key
from arcadia_dagster.defs.inventory.assets import RETRIES
from arcadia_dagster.defs.resources import DigitalOcean, Ledger, failure
from arcadia_dagster.defs.scheduling import FRESH_MONTHLY, fresh
from arcadia_dagster.defs.tables import bars, preview, table_metadata
from arcadia_dagster.digitalocean.client import Client
from arcadia_dagster.digitalocean.inventory import list_invoices, read_invoice_preview
from arcadia_dagster.digitalocean.invoices import InvoiceError
from arcadia_dagster.digitalocean.replies import ProviderError
from arcadia_dagster.ledger import billing
from arcadia_dagster.ledger.accounts import accounts_of
from arcadia_dagster.ledger.reconcile import Changes, begin, finish
from arcadia_dagster.ledger.tables import cloud_balance_snapshots, cloud_cost_lines, cloud_invoices

POOL = None if ACCOUNTS else "digitalocean_billing"
_AT_ONCE = 4  # invoices whose documents are fetched at the same time; so many wait on disk at most


@dg.asset(
    group_name="billing",
    description="The account's balance, one row for each reading. Needs the token scope `billing:read`.",
    kinds={"digitalocean", "postgres"},
    owners=["team:finance"],
    metadata=table_metadata(cloud_balance_snapshots),
    partitions_def=account_partitions,
    pool=POOL,
    retry_policy=RETRIES,
    freshness_policy=fresh("record_balance"),
)
def balance_snapshots(billing_api: DigitalOcean, ledger: Ledger) -> dg.MaterializeResult[None]:
    """Keep one reading of the balance."""
    account_id, client = ledger.account(billing_api), billing_api.client
    try:
        row = billing.record_balance(
            ledger.engine, account_id, client.get("/v2/customers/my/balance", kind="balance", scope="billing:read")
        )
    except ProviderError as problem:
        raise failure(problem) from None
    except ValueError as problem:
        raise dg.Failure(str(problem), allow_retries=False) from None
    names = ("month_to_date_usage", "month_to_date_balance", "account_balance")
    money = {name: float(row[name]) for name in names if row[name] is not None}
    return dg.MaterializeResult(
        metadata={
            # Dagster plots numbers it can read as floats; the exact amounts are in the table.
            **money,
            "recent": preview(
                ledger.engine,
                "select to_char(taken_at, 'YYYY-MM-DD HH24:MI') as taken_at_utc, month_to_date_usage, account_balance,"
                " month_to_date_balance from arcadia.cloud_balance_snapshots where account_id = :account_id"
                " order by taken_at desc limit 10",
                {"account_id": account_id},
            ),
        }
    )


@dg.asset(
    group_name="billing",
    description="Every invoice of the account, from the invoice list and the billing history; each becomes a partition of `cost_lines`."
    " Needs the token scope `billing:read`.",
    kinds={"digitalocean", "postgres"},
    owners=["team:finance"],
    metadata=table_metadata(cloud_invoices),
    partitions_def=account_partitions,
    pool=POOL,
    retry_policy=RETRIES,
    freshness_policy=fresh("discover_invoices"),
)
def invoices(context: dg.AssetExecutionContext, billing_api: DigitalOcean, ledger: Ledger) -> dg.MaterializeResult[None]:
    """Record the invoices that exist and add their partitions. None is ever taken away."""
    account_id, client = ledger.account(billing_api), billing_api.client
    run = begin(ledger.engine, account_id=account_id, kind="invoice", dagster_run_id=context.run.run_id)
    before = client.requests
    try:
        headers = billing.read_headers(*list_invoices(client))
    except (ProviderError, ValueError) as problem:
        with ledger.engine.begin() as conn:
            finish(conn, run, Changes(), requests=client.requests - before, error=str(problem), complete=False)
        raise failure(problem) if isinstance(problem, ProviderError) else dg.Failure(str(problem), allow_retries=False) from None
    counts = billing.record_invoices(ledger.engine, run, headers, requests=client.requests - before)
    with ledger.engine.connect() as conn:
        listed = conn.execute(
            text(
                "select period, invoice_uuid from arcadia.cloud_invoices where account_id = :account_id and invoice_uuid = any(:listed)"
                " order by period, invoice_uuid"
            ),
            {"account_id": account_id, "listed": [header.invoice_uuid for header in headers]},
        ).all()
    context.instance.add_dynamic_partitions(
        invoice_partitions.name or "invoices", [partition_key(row.period, row.invoice_uuid) for row in listed]
    )
    by_year: dict[str, Decimal] = {}
    for header in headers:
        by_year[str(header.period.year)] = by_year.get(str(header.period.year), Decimal(0)) + header.amount
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": len(headers),
            **counts,
            "requests": client.requests - before,
            "invoiced_by_year": bars(list(by_year.items()), unit="$"),
        }
    )


@dg.asset(
    group_name="billing",
    description="`arcadia.month_to_date_lines`: the provider's preview of the invoice to come, its lines replaced as a whole and matched"
    " like others. Never counted with the closed invoices, and gone when the real one arrives. Needs the token scope `billing:read`.",
    deps=[invoices],
    kinds={"digitalocean", "postgres"},
    owners=["team:finance"],
    metadata=table_metadata(cloud_cost_lines, "month_to_date_lines"),
    partitions_def=account_partitions,
    pool=POOL,
    retry_policy=RETRIES,
    freshness_policy=fresh("discover_invoices"),
)
def invoice_preview(billing_api: DigitalOcean, ledger: Ledger) -> dg.MaterializeResult[None]:
    """Read the preview and its items, and store them in place of the last ones of that month."""
    account_id, client = ledger.account(billing_api), billing_api.client
    before = client.requests
    stated: billing.Preview | None = None
    try:
        stated = billing.read_preview(read_invoice_preview(client))
        if stated is None:
            return _no_preview(client.requests - before, "The provider previews no invoice: nothing is used.")
        with tempfile.TemporaryFile() as items:
            client.save_list("/v2/customers/my/invoices/preview", "invoice_items", items, kind="invoice_item", scope="billing:read")
            stored = billing.ingest_preview(ledger.engine, account_id, stated, items)
    except InvoiceError as problem:  # which the ledger has noted
        raise dg.Failure(f"invoice preview: {problem}", allow_retries=False) from None
    except (ProviderError, ValueError) as problem:
        billing.fail_preview(ledger.engine, account_id, str(problem), stated)
        raise failure(problem) if isinstance(problem, ProviderError) else dg.Failure(str(problem), allow_retries=False) from None
    if stored is None:
        return _no_preview(client.requests - before, f"The invoice of {stated.period:%B %Y} has arrived; its preview is left aside.")
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": stored.line_count,
            "period": f"{stored.period:%Y-%m}",
            "covers_until": "not said" if stated.covers_until is None else f"{stated.covers_until:%Y-%m-%d %H:%M %Z}",
            "amount_usd": float(stated.amount),  # as above, for the plot
            "line_total_usd": str(stored.line_total),
            "written": stored.written,
            "requests": client.requests - before,
            "lines_by_outcome": bars(sorted(stored.outcomes.items(), key=lambda item: -item[1])),
            "dearest": preview(
                ledger.engine,
                "select coalesce(resource_name, description) as pays_for, coalesce(resource_kind, kind) as kind, description, amount_usd,"
                " match_status as status, coalesce(match_method, reason) as how from arcadia.month_to_date_lines"
                " where invoice_uuid = :invoice_uuid order by abs(amount_usd) desc, ordinal limit 10",
                {"invoice_uuid": stored.invoice_uuid},
            ),
        }
    )


def _no_preview(requests: int, why: str) -> dg.MaterializeResult[None]:
    return dg.MaterializeResult(metadata={"dagster/row_count": 0, "requests": requests, "note": why})


@dg.asset(
    group_name="billing",
    description="The lines of each invoice, replaced as a whole and matched to resources as they are stored. The JSON items carry the ids,"
    " the CSV is the printed document. An invoice that cannot be read fails alone and keeps its documents.",
    deps=[dg.AssetDep(invoices, partition_mapping=dg.AllPartitionMapping()) if ACCOUNTS else invoices],
    partitions_def=invoice_partitions,
    backfill_policy=dg.BackfillPolicy.single_run(),
    kinds={"digitalocean", "postgres"},
    owners=["team:finance"],
    metadata=table_metadata(cloud_cost_lines),
    pool=POOL,
    retry_policy=RETRIES,
    freshness_policy=FRESH_MONTHLY,
)
def cost_lines(context: dg.AssetExecutionContext, billing_api: DigitalOcean, ledger: Ledger) -> dg.MaterializeResult[None]:
    """Ingest the invoices of this run's partitions, oldest first, each with the token of its account."""
    keys = context.partition_keys  # each look at it asks Dagster's storage again
    requests = 0
    done: dict[str, billing.Ingested] = {}
    failed: dict[str, str] = {}
    again = False
    for account, its_keys in _by_account(context, ledger, keys).items():
        if ACCOUNTS and account is None:
            failed |= dict.fromkeys(its_keys, "it belongs to no account that a token of the accounts' file leads to")
            continue
        try:
            account_id, client = ledger.account(billing_api, account), billing_api.client_of(account)
        except dg.Failure as problem:
            if account is None:
                raise
            failed |= dict.fromkeys(its_keys, f"{account}: {problem.description}")
            again = problem.allow_retries
            continue
        before = client.requests
        for key, coming in _ahead(its_keys, partial(_fetch, client, ledger, account_id)):
            invoice_uuid = invoice_uuid_of(key)
            try:
                with coming.result() as found:
                    done[key] = billing.ingest(
                        ledger.engine, account_id, invoice_uuid, items=found.items, csv=found.csv, warning=found.warning
                    )
            except ProviderError as problem:
                billing.fail(ledger.engine, account_id, invoice_uuid, str(problem))
                failed[key] = str(problem)
                again = failure(problem).allow_retries
            except InvoiceError as problem:
                failed[key] = str(problem)
            if len(keys) > 1 and (len(done) + len(failed)) % 25 == 0:
                context.log.info(f"{len(done) + len(failed)} of {len(keys)} invoices read")
        requests += client.requests - before
    total = sum((one.line_total for one in done.values()), Decimal(0))
    outcomes: dict[str, int] = {}
    for one in done.values():
        for status, count in one.outcomes.items():
            outcomes[status] = outcomes.get(status, 0) + count
    metadata: dict[str, Any] = {
        "dagster/row_count": sum(one.line_count for one in done.values()),
        "invoices": len(done),
        "invoices_written": sum(one.written for one in done.values()),
        "invoices_failed": len(failed),
        "requests": requests,
        "line_total_usd": str(total),
        "lines_by_outcome": bars(sorted(outcomes.items(), key=lambda item: -item[1])),
    }
    if failed:
        # The others did land; a failed step would show none of them.
        for key in done:
            context.log_event(dg.AssetMaterialization(asset_key=context.asset_key, partition=key))
        first = next(iter(failed.values()))
        raise dg.Failure(
            f"{len(failed)} of {len(keys)} invoices could not be ingested; the others were. The first: {first}",
            metadata={**metadata, "failed": dg.MetadataValue.md("\n".join(f"- `{key}`: {why}" for key, why in failed.items()))},
            allow_retries=again,
        )
    return dg.MaterializeResult(metadata=metadata)


def _by_account(context: dg.AssetExecutionContext, ledger: Ledger, keys: Sequence[str]) -> dict[str | None, list[str]]:
    """The invoices of a run by the account that the accounts' file names; all under None where it does not name several.

    A run of one account is tagged with it, whoever started it.
    """
    if not ACCOUNTS:
        return {None: list(keys)}
    with ledger.engine.connect() as conn:
        names = {account_id: name for name, account_id in reversed(accounts_of(conn, ACCOUNTS, "billing").items())}
        rows = conn.execute(
            text("select invoice_uuid, account_id from arcadia.cloud_invoices where invoice_uuid = any(:uuids)"),
            {"uuids": [invoice_uuid_of(key) for key in keys]},
        ).all()
    owners = {row.invoice_uuid: names.get(row.account_id) for row in rows}
    found: dict[str | None, list[str]] = {}
    for key in keys:
        found.setdefault(owners.get(invoice_uuid_of(key)), []).append(key)
    only = next(iter(found))
    if len(found) == 1 and only is not None:
        context.instance.add_run_tags(context.run.run_id, {ACCOUNT_TAG: only})
    return found


def _refuse_foreign(ledger: Ledger, account_id: int, invoice_uuid: str) -> None:
    with ledger.engine.connect() as conn:
        owner = conn.execute(
            text("select account_id from arcadia.cloud_invoices where invoice_uuid = :invoice_uuid"),
            {"invoice_uuid": invoice_uuid},
        ).scalar()
    if owner is not None and owner != account_id:
        raise InvoiceError(f"invoice {invoice_uuid} belongs to another account than the configured token")


@dataclass(frozen=True, kw_only=True)
class _Documents:
    """Both documents of one invoice, in files that go when it is left; `warning` says why there is no CSV."""

    items: BinaryIO
    csv: BinaryIO | None
    warning: str | None
    files: ExitStack

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.files.close()


def _ahead(keys: Sequence[str], fetch: Callable[[str], _Documents]) -> Iterator[tuple[str, Future[_Documents]]]:
    """Each key with what comes of fetching it, in order: while one invoice is stored, the documents of the next ones are on their way."""
    remaining, coming = iter(keys), deque[tuple[str, Future[_Documents]]]()
    threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="invoices")
    try:
        while True:
            coming.extend((key, threads.submit(fetch, key)) for key in islice(remaining, _AT_ONCE - len(coming)))
            if not coming:
                return
            yield coming.popleft()
    finally:
        threads.shutdown(cancel_futures=True)
        for _, unwanted in coming:
            if not unwanted.cancelled() and unwanted.exception() is None:
                unwanted.result().files.close()


def _fetch(client: Client, ledger: Ledger, account_id: int, key: str) -> _Documents:
    """Both documents of one invoice.

    Items that cannot be had in full fail the invoice: lines without ids would be stored as if there were none. A missing CSV is a flag.
    """
    invoice_uuid = invoice_uuid_of(key)
    _refuse_foreign(ledger, account_id, invoice_uuid)
    path = f"/v2/customers/my/invoices/{invoice_uuid}"
    with ExitStack() as files:
        items: BinaryIO = files.enter_context(tempfile.TemporaryFile())
        client.save_list(path, "invoice_items", items, kind="invoice_item", scope="billing:read")
        csv: BinaryIO = files.enter_context(tempfile.TemporaryFile())
        warning = None
        try:
            client.save(f"{path}/csv", csv, kind="invoice_csv", scope="billing:read", accept="text/csv")
        except ProviderError as problem:
            warning = f"the CSV document could not be had: {problem}"
        return _Documents(items=items, csv=None if warning else csv, warning=warning, files=files.pop_all())
