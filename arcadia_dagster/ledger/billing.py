"""Balance, invoices, previews and their lines: stored as received, added up to the cent, matched in the transaction that stores them.

Documents are read by `digitalocean/invoices.py`, lines are matched by `matching.py`. Nothing is fetched here. Documents are files and
their lines pass one by one: no invoice is too long to be stored.
"""

import hashlib
import io
import shutil
import struct
import tempfile
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime
from decimal import Decimal
from functools import lru_cache
from itertools import islice
from typing import Any, BinaryIO

from sqlalchemy import Connection, Engine, text

from arcadia_dagster.digitalocean.documents import read_decimal, read_items
from arcadia_dagster.digitalocean.invoices import (
    Charge,
    InvoiceError,
    InvoiceLine,
    LookUp,
    Meaning,
    Reading,
    difference,
    meaning_of,
    parse_csv,
    parse_items,
)
from arcadia_dagster.digitalocean.kinds import kind_named
from arcadia_dagster.ledger.copying import FORMAT, copying, quoted
from arcadia_dagster.ledger.matching import FOR_MANY_LINES, HISTORY, MANY_LINES, MATCH_EVENT, OUTCOME, decide, match_events, stored_lines
from arcadia_dagster.ledger.reconcile import Changes, SyncRun, admit_billed, finish, lock, name_key
from arcadia_dagster.ledger.tables import BY_NAME

_FILE_NAMESPACE = uuid.UUID("a4b7c8de-52f0-5a53-9a86-9c3a1f3f0f5e")  # of invoices known by the content of a file
_PART = 256 * 1024  # bytes of a document that are on their way to the database at a time
_LARGEST = 1_000_000_000  # bytes: the most that a bytea can hold, rounded down
_BATCH = 200  # rows


@dataclass(frozen=True, kw_only=True)
class InvoiceHeader:
    """An invoice as the account's lists show it. `period` is the first day of the month billed, `amount` USD."""

    invoice_uuid: str
    invoice_id: str | None
    period: date
    amount: Decimal
    issued_at: datetime | None = None
    period_is_stated: bool = True  # False: it follows from when the invoice was issued


@dataclass(frozen=True, kw_only=True)
class Ingested:
    """What became of one invoice: its lines by outcome, and what does not add up. `written` is False where nothing had changed."""

    invoice_uuid: str
    period: date
    line_count: int
    line_total: Decimal
    residual: Decimal | None
    discrepancy: str | None
    outcomes: Mapping[str, int]
    written: bool


def read_money(value: Any, what: str) -> Decimal:
    """A decimal string of USD as the billing endpoints send it. Raises ValueError that names `what` for anything else."""
    money = read_decimal(value)
    if money is None:
        raise ValueError(f"{what}: {str(value)[:40]!r} is not an amount of money")
    return money


def read_headers(invoices: Sequence[Mapping[str, Any]], history: Sequence[Mapping[str, Any]]) -> list[InvoiceHeader]:
    """The invoices of an account from both places that name them: the invoice list, and the billing history's entries of type Invoice.

    The list says which month an invoice bills, the history when it was issued. What only the history names bills the month before it was
    issued (https://docs.digitalocean.com/platform/billing/: invoices are made on the first of the following month).
    Raises ValueError where a field cannot be read.
    """
    issued = {}
    for entry in history:
        if entry.get("type") == "Invoice" and (known := _name(entry, "invoice_uuid")):
            issued[known] = entry
    headers = []
    for invoice in invoices:
        invoice_uuid = _name(invoice, "invoice_uuid")
        if not invoice_uuid:
            raise ValueError("the invoice list holds an invoice without invoice_uuid")
        entry = issued.pop(invoice_uuid, {})
        headers.append(
            InvoiceHeader(
                invoice_uuid=invoice_uuid,
                invoice_id=_name(invoice, "invoice_id") or _name(entry, "invoice_id"),
                period=_month(invoice.get("invoice_period"), invoice_uuid),
                amount=read_money(invoice.get("amount"), f"invoice {invoice_uuid}"),
                issued_at=_time(entry.get("date"), f"invoice {invoice_uuid}"),
            )
        )
    for invoice_uuid, entry in issued.items():
        at = _time(entry.get("date"), f"invoice {invoice_uuid}")
        if at is None:
            raise ValueError(f"the billing history names invoice {invoice_uuid} without a date")
        headers.append(
            InvoiceHeader(
                invoice_uuid=invoice_uuid,
                invoice_id=_name(entry, "invoice_id"),
                period=date(at.year, at.month - 1, 1) if at.month > 1 else date(at.year - 1, 12, 1),
                amount=read_money(entry.get("amount"), f"invoice {invoice_uuid}"),
                issued_at=at,
                period_is_stated=False,
            )
        )
    return sorted(headers, key=lambda header: (header.period, header.invoice_uuid))


def _name(entry: Mapping[str, Any], field: str) -> str | None:
    """What names an invoice, as text, whether it came as text or as a number. Raises ValueError for anything else."""
    value = entry.get(field)
    if value is not None and (isinstance(value, bool) or not isinstance(value, str | int)):
        raise ValueError(f"{field} of an invoice is of type {type(value).__name__}, not a text")
    return None if value is None else str(value)


def _month(value: Any, invoice_uuid: str) -> date:
    try:
        return date.fromisoformat(f"{value}-01")
    except ValueError:
        raise ValueError(f"invoice {invoice_uuid}: period {value!r} is not of the form YYYY-MM") from None


def _time(value: Any, what: str) -> datetime | None:
    if not value:
        return None
    at: datetime | None
    try:
        at = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        at = None
    if at is None or at.tzinfo is None:
        raise ValueError(f"{what}: {str(value)[:40]!r} is not a time with its offset")
    return at


def record_balance(engine: Engine, account_id: int, balance: Mapping[str, Any]) -> dict[str, Any]:
    """Keep one reading of /v2/customers/my/balance; returns the row. Raises ValueError where a field cannot be read."""
    names = ("month_to_date_balance", "account_balance", "month_to_date_usage")
    values = {name: None if balance.get(name) is None else read_money(balance[name], f"balance field {name}") for name in names}
    generated_at = _time(balance.get("generated_at"), "balance field generated_at")
    if all(value is None for value in values.values()):
        raise ValueError("the balance reply holds no balance")
    with engine.begin() as conn:
        row = (
            conn.execute(
                text(
                    "insert into arcadia.cloud_balance_snapshots (account_id, month_to_date_balance, account_balance,"
                    " month_to_date_usage, generated_at, taken_at) values (:account_id, :month_to_date_balance, :account_balance,"
                    " :month_to_date_usage, :generated_at, clock_timestamp()) returning *"
                ),
                {**values, "account_id": account_id, "generated_at": generated_at},
            )
            .mappings()
            .one()
        )
    return dict(row)


def record_invoices(engine: Engine, run: SyncRun, headers: Iterable[InvoiceHeader], *, requests: int = 0) -> dict[str, int]:
    """Enter invoices not known yet as `pending`; one whose amount the provider has changed becomes pending again. Closes the sync run.

    Returns how many are `new` and `changed`. An invoice never leaves: a list that no longer names it changes nothing, and a month that was
    stated is not changed for one that was concluded.
    """
    counts = Counter(new=0, changed=0)
    headers = list(headers)
    with engine.begin() as conn:
        lock(conn, "billing", run.account_id)
        for header in headers:
            outcome = conn.execute(
                text(
                    "insert into arcadia.cloud_invoices as i (invoice_uuid, account_id, invoice_id, period, amount, issued_at)"
                    " values (:invoice_uuid, :account_id, :invoice_id, :period, :amount, :issued_at)"
                    " on conflict (invoice_uuid) do update set invoice_id = coalesce(excluded.invoice_id, i.invoice_id),"
                    " period = case when :period_is_stated then excluded.period else i.period end,"
                    " amount = excluded.amount, issued_at = coalesce(excluded.issued_at, i.issued_at),"
                    " status = case when excluded.amount = i.amount then i.status else 'pending' end"
                    " where i.account_id = excluded.account_id"
                    " and (i.invoice_id, i.period, i.amount, i.issued_at) is distinct from (coalesce(excluded.invoice_id,"
                    " i.invoice_id), case when :period_is_stated then excluded.period else i.period end,"
                    " excluded.amount, coalesce(excluded.issued_at, i.issued_at))"
                    " returning case when xmax = 0 then 'new' else 'changed' end"
                ),
                {**asdict(header), "account_id": run.account_id},
            ).scalar()
            if outcome is not None:
                counts[outcome] += 1
        _drop_superseded(conn, run.account_id)
        changes = Changes(seen=len(headers), discovered=counts["new"], updated=counts["changed"])
        finish(conn, run, changes, requests=requests, error=None, complete=True)
    return dict(counts)


@dataclass(frozen=True, kw_only=True)
class _Document:
    """A document to keep in the header of its invoice."""

    file: BinaryIO
    sha256: str


_Documents = Mapping[str, _Document | None]  # by "items" and "csv"; None takes away what is kept, what is not named stays


def ingest(
    engine: Engine,
    account_id: int,
    invoice_uuid: str,
    *,
    items: BinaryIO | None,
    csv: BinaryIO | None,
    warning: str | None = None,
) -> Ingested:
    """Store one invoice's documents and lines as a whole, matched, in one transaction.

    `items` are its JSON items, as `digitalocean/documents.py` writes them, and carry the ids; `csv` is the printed document, the
    cross-check, and the fallback where items are None. Both are read several times. `warning` says why one of the two is missing. The same
    documents again write nothing.

    Raises InvoiceError where a line cannot be read, or where lines that add up would give way to some that do not: the invoice is then
    `failed` with that sentence, its documents are kept, and lines stored before stay as they were.
    """
    documents: dict[str, _Document | None] = {}
    try:
        for name, file in (("items", items), ("csv", csv)):
            documents[name] = None if file is None else _document(name, file)
        lines, cross_check, notes = _readings(items, csv)
        with engine.begin() as conn:
            lock(conn, "billing", account_id)
            # The same document may have been imported by hand; the provider's own invoice takes its place.
            conn.execute(
                text(
                    "delete from arcadia.cloud_invoices where account_id = :account_id and csv_sha256 = :csv_sha256"
                    " and invoice_uuid <> :invoice_uuid and amount is null"
                ),
                {
                    "account_id": account_id,
                    "csv_sha256": kept.sha256 if (kept := documents["csv"]) else None,
                    "invoice_uuid": invoice_uuid,
                },
            )
            written = _store_lines(conn, account_id, invoice_uuid, lines)
            if written:
                _refuse_what_adds_up_no_more(conn, invoice_uuid, lines)
            notes += [note for note in (cross_check and difference(lines, cross_check), warning) if note]
            discrepancy = "; ".join(notes) or None
            return _close(conn, account_id, invoice_uuid, lines, written=written, discrepancy=discrepancy, documents=documents)
    except InvoiceError as problem:
        fail(engine, account_id, invoice_uuid, str(problem), documents)
        raise


def _refuse_what_adds_up_no_more(conn: Connection, invoice_uuid: str, lines: Reading) -> None:
    """Raise InvoiceError, and so keep the lines stored before, where those add up to the invoice and these do not: a part was read."""
    stored = conn.execute(
        text("select amount from arcadia.cloud_invoices where invoice_uuid = :invoice_uuid and line_total = amount"),
        {"invoice_uuid": invoice_uuid},
    ).scalar()
    if stored is not None and lines.total != stored:
        raise InvoiceError(
            f"its {lines.count} lines now add up to {lines.total} USD, while it is of {stored} USD and the lines read before add up"
            " to that; those stay, and it is read again"
        )


def fail(engine: Engine, account_id: int, invoice_uuid: str, error: str, documents: _Documents | None = None) -> None:
    """Mark an invoice as failed with the sentence that says why, keeping the documents that came and the lines stored before."""
    with engine.begin() as conn:
        lock(conn, "billing", account_id)
        conn.execute(
            text(
                "update arcadia.cloud_invoices set status = 'failed', error = :error, tried_at = clock_timestamp()"
                " where invoice_uuid = :invoice_uuid and account_id = :account_id"
            ),
            {"error": error, "invoice_uuid": invoice_uuid, "account_id": account_id},
        )
        _keep(conn, account_id, invoice_uuid, documents or {})


def import_csv(engine: Engine, account_id: int, csv: BinaryIO) -> Ingested:
    """Store an invoice CSV that somebody downloaded. A file is known by its content: the same content again writes nothing.

    `csv` is read once, from where it is to its end. It does not say what the invoice amounts to, nor its uuid: `amount` stays NULL, and the
    uuid is made from the content. The month is the one in which most lines begin. Raises InvoiceError where the file cannot be read or has
    no line with a time.
    """
    with tempfile.TemporaryFile() as file:  # it may be a pipe, or change while it is worked on
        shutil.copyfileobj(csv, file)
        document = _document("csv", file)
        with engine.begin() as conn:
            lock(conn, "billing", account_id)
            known = conn.execute(
                text(
                    "select invoice_uuid from arcadia.cloud_invoices where account_id = :account_id and csv_sha256 = :digest"
                    " and line_count is not null"  # the provider's own invoice has none if its items could never be read
                ),
                {"account_id": account_id, "digest": document.sha256},
            ).scalar()
            if known is not None:
                return _summary(conn, known, written=False)
            printed = parse_csv(file)
            months: Counter[date] = Counter()

            def lines() -> Iterator[InvoiceLine]:
                passing = iter(printed.lines)
                while some := [*islice(passing, _BATCH)]:
                    months.update([_month_of(time) for line in some if (time := line.started_at) is not None])
                    yield from some

            reading = Reading(lines, to_compare=False)
            invoice_uuid = str(uuid.uuid5(_FILE_NAMESPACE, f"{account_id}:{document.sha256}"))
            conn.execute(  # before its lines, which refer to it; which month it bills is known after them
                text("insert into arcadia.cloud_invoices (invoice_uuid, account_id, period) values (:invoice_uuid, :account_id, now())"),
                {"invoice_uuid": invoice_uuid, "account_id": account_id},
            )
            _replace_lines(conn, account_id, invoice_uuid, _rows(reading))
            if not months:
                raise InvoiceError(
                    "the file has no line with a start time, so the month it bills is unknown; is it a complete invoice CSV?"
                )
            conn.execute(
                text("update arcadia.cloud_invoices set period = :period where invoice_uuid = :invoice_uuid"),
                {"period": max(months, key=lambda month: (months[month], month)), "invoice_uuid": invoice_uuid},
            )
            discrepancy = "; ".join(printed.warnings) or None
            return _close(conn, account_id, invoice_uuid, reading, written=True, discrepancy=discrepancy, documents={"csv": document})


@lru_cache(maxsize=4096)
def _month_of(time: datetime) -> date:
    return date(time.year, time.month, 1)


def _document(name: str, file: BinaryIO) -> _Document:
    """A document to keep, with its digest. Raises InvoiceError for one that is too large to be kept."""
    size = file.seek(0, io.SEEK_END)
    if size > _LARGEST:
        raise InvoiceError(
            f"the invoice's {'CSV' if name == 'csv' else 'JSON items'} are {size:,} bytes, and the ledger keeps documents of up to"
            f" {_LARGEST:,}; ask for a change if this is a real invoice"
        )
    return _Document(file=file, sha256=_sha256(_parts(file)))


def _parts(file: BinaryIO) -> Iterator[bytes]:
    file.seek(0)
    while part := file.read(_PART):
        yield part


def _sha256(parts: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def _readings(items: BinaryIO | None, csv: BinaryIO | None) -> tuple[Reading, Reading | None, list[str]]:
    """The lines; those of the document they are checked against, which has been read; and what is to be said of the latter.

    A CSV that cannot be read is a disagreement while the items can.
    """
    if items is None:
        if csv is None:
            raise InvoiceError("neither the JSON items nor the CSV of this invoice could be read")
        return Reading(lambda: parse_csv(csv).lines, to_compare=False), None, parse_csv(csv).warnings
    if csv is None:
        return Reading(lambda: parse_items(read_items(items)), to_compare=False), None, []
    lines, cross_check = Reading(lambda: parse_items(read_items(items))), Reading(lambda: parse_csv(csv).lines)
    try:
        warnings = parse_csv(csv).warnings
        for _ in cross_check:
            pass
    except InvoiceError as problem:
        return lines, None, [f"the CSV cannot be read: {problem}"]
    return lines, cross_check, warnings


COLUMNS = (
    "invoice_uuid",
    "ordinal",
    "account_id",
    "product",
    "group_description",
    "description",
    "hours",
    "started_at",
    "ended_at",
    "amount_usd",
    "project_name",
    "category",
    "kind",
    "look_up",
    "parsed_name",
    "name_key",
    "parsed_region",
    "parsed_size",
    "component",
    "provider_resource_id",
    "provider_resource_uuid",
)


# How rows travel: the cells of a line. What separates and quotes them is rare in texts, so nearly every row is its cells joined; and what
# is empty is NULL, but in columns that never are.
_STAGED = (
    *("ended_at", "charge", "billed_id", "look_up", "provider_resource_id", "provider_resource_uuid"),  # what rows are looked through for
    *("kind", "name_key", "parsed_name", "parsed_region", "parsed_size", "component", "reason"),
    *("product", "group_description", "description"),
    *("ordinal", "started_at", "hours", "amount_usd", "project_name", "category"),
)
_FORMAT = f"{FORMAT}, force_not_null (product, group_description, description, project_name, category)"


def _row(line: InvoiceLine) -> str:
    """A line as a row of _STAGED."""
    hours = "" if line.hours is None else line.hours
    texts = _texts(line.product, line.group_description, line.description, line.amount < 0, line.resource_id, line.resource_uuid)
    return (
        f"{_time_text(line.ended_at)}\t{texts}\t{line.ordinal}\t{_time_text(line.started_at)}\t{hours!s}\t{line.amount!s}"
        f"\t{_shared_cells(line.project_name, line.category)}\n"
    )


@lru_cache(maxsize=4096)
def _time_text(time: datetime | None) -> str:
    return "" if time is None else time.isoformat()


def _cells(*texts: str) -> str:
    """Texts as cells of one row, quoted only where it must be; an empty one never is."""
    cells = "\t".join(texts)
    if cells.count("\t") < len(texts) and "\n" not in cells and "\r" not in cells and "\x01" not in cells:
        return cells
    return "\t".join(text and quoted(text) for text in texts)


_shared_cells = lru_cache(maxsize=1024)(_cells)  # of texts that many lines have in common


@lru_cache(maxsize=1024)
def _texts(  # noqa: PLR0917  # arguments by name take longer than all the rest
    product: str, group_description: str, description: str, is_negative: bool, resource_id: str | None, resource_uuid: str | None
) -> str:
    """The cells that hold a line's texts and ids, and what they mean."""
    resource_id, resource_uuid = resource_id or "", resource_uuid or ""
    has_id = bool(resource_id or resource_uuid)
    meaning = meaning_of(product, group_description, description, is_negative=is_negative, has_id=has_id)
    return _cells(
        meaning.charge,
        _billed_id(meaning, resource_id, resource_uuid) or "",
        meaning.look_up or "",
        resource_id,
        resource_uuid,
        meaning.kind or "",
        name_key(meaning.name or ""),
        meaning.name or "",
        meaning.region or "",
        meaning.size or "",
        meaning.component or "",
        meaning.reason or "",
        product,
        group_description,
        description,
    )


def _billed_id(meaning: Meaning, resource_id: str, resource_uuid: str) -> str | None:
    """The provider id that the line itself names, whether or not anybody has seen it: an IP is the id of a reserved IP."""
    if not (resource_id or resource_uuid or meaning.look_up is LookUp.IP) or meaning.charge is not Charge.RESOURCE or meaning.kind is None:
        return None
    ids = (resource_id, resource_uuid)
    if kind_named(meaning.kind).billed_id == "resource_uuid":
        ids = ids[::-1]
    return ids[0] or ids[1] or (meaning.name if meaning.look_up is LookUp.IP else None)


def _rows(lines: Iterable[InvoiceLine]) -> Iterator[bytes]:
    """The rows of an invoice's lines, many in a text, made as they pass."""
    rows = map(_row, lines)
    while part := "".join(islice(rows, _BATCH)).encode():
        yield part


def _store_lines(conn: Connection, account_id: int, invoice_uuid: str, lines: Iterable[InvoiceLine]) -> bool:
    """Replace the invoice's lines by these, matched, unless they are the same; returns whether they were not.

    Iterates over `lines` once or twice. The caller holds the account's billing lock. Raises InvoiceError for an invoice that is not known.
    """
    header = conn.execute(
        text("select lines_sha256 from arcadia.cloud_invoices where invoice_uuid = :invoice_uuid and account_id = :account_id"),
        {"invoice_uuid": invoice_uuid, "account_id": account_id},
    ).one_or_none()
    if header is None:
        raise InvoiceError(f"invoice {invoice_uuid} is not known in this account; materialise the asset `invoices` first")
    if header.lines_sha256 is not None and _sha256(_rows(lines)) == header.lines_sha256:
        return False
    digest = hashlib.sha256()

    def rows() -> Iterator[bytes]:
        for part in _rows(lines):
            digest.update(part)
            yield part

    _replace_lines(conn, account_id, invoice_uuid, rows())
    conn.execute(
        text("update arcadia.cloud_invoices set lines_sha256 = :digest where invoice_uuid = :invoice_uuid"),
        {"digest": digest.hexdigest(), "invoice_uuid": invoice_uuid},
    )
    return True


def _close(
    conn: Connection,
    account_id: int,
    invoice_uuid: str,
    lines: Reading,
    *,
    written: bool,
    discrepancy: str | None,
    documents: _Documents,
) -> Ingested:
    """Close the header of an invoice whose lines are stored: how they add up, and the documents that they came from."""
    conn.execute(
        text(
            """
update arcadia.cloud_invoices i
   set status = case status when 'preview' then status else 'ingested' end, error = null,
       tried_at = clock_timestamp(), discrepancy = :discrepancy,
       ingested_at = case when :written or i.ingested_at is null then clock_timestamp() else i.ingested_at end,
       line_count = :line_count, line_total = :line_total, residual = i.amount - :line_total
 where invoice_uuid = :invoice_uuid
"""
        ),
        {
            "discrepancy": discrepancy,
            "written": written,
            "line_count": lines.count,
            "line_total": lines.total,
            "invoice_uuid": invoice_uuid,
        },
    )
    _keep(conn, account_id, invoice_uuid, documents)
    _drop_superseded(conn, account_id)
    return _summary(conn, invoice_uuid, written=written)


def _keep(conn: Connection, account_id: int, invoice_uuid: str, documents: _Documents) -> None:
    """Keep the documents of an invoice; those that it has already are not sent again."""
    values: dict[str, Any] = {"invoice_uuid": invoice_uuid, "account_id": account_id}
    header = conn.execute(
        text(
            "select items_sha256 as items, csv_sha256 as csv from arcadia.cloud_invoices"
            " where invoice_uuid = :invoice_uuid and account_id = :account_id"
        ),
        values,
    ).one_or_none()
    if header is None:
        return
    digests = {name: None if document is None else document.sha256 for name, document in documents.items()}
    changed = [name for name, digest in digests.items() if digest != getattr(header, name)]
    if not changed:
        return
    conn.execute(text("create temp table document (name text, content bytea) on commit drop"))
    # It is compressed as it arrives there, and goes on as it is: so by what compresses the ledger's own, where the server has it.
    conn.execute(
        text(
            "select set_config('default_toast_compression', 'lz4', true) from pg_settings"
            " where name = 'default_toast_compression' and 'lz4' = any(enumvals)"
        )
    )
    sent = {name: document for name in changed if (document := documents[name]) is not None}
    with copying(conn, "copy document from stdin (format binary)") as copy:
        for part in _as_copied(sent):
            copy.write(part)
    kept = [f"{name}_sha256 = :{name}, {name}_document = (select content from document where name = '{name}')" for name in changed]
    conn.execute(
        text(f"update arcadia.cloud_invoices set {', '.join(kept)} where invoice_uuid = :invoice_uuid and account_id = :account_id"),
        values | digests,
    )
    conn.execute(text("drop table document"))


def _as_copied(documents: Mapping[str, _Document]) -> Iterator[bytes]:
    """Rows of a name and a content, as binary COPY takes them (https://www.postgresql.org/docs/current/sql-copy.html).

    Nobody holds the whole of a content but the server.
    """
    yield b"PGCOPY\n\xff\r\n\0" + bytes(8)
    for name, document in documents.items():
        size = document.file.seek(0, io.SEEK_END)
        yield struct.pack("!hi", 2, len(name)) + name.encode() + struct.pack("!i", size)
        yield from _parts(document.file)
    yield struct.pack("!h", -1)


def _replace_lines(conn: Connection, account_id: int, invoice_uuid: str, rows: Iterable[bytes]) -> None:
    columns = ", ".join(_STAGED)
    conn.execute(
        text(
            f"create temp table billed_line on commit drop as select {columns} from (select *, ''::text as charge, ''::text as reason,"
            " ''::text as billed_id from arcadia.cloud_cost_lines) l with no data"
        )
    )
    with copying(conn, f"copy billed_line ({columns}) from stdin ({_FORMAT})") as copy:
        for part in rows:
            copy.write(part)
    store_billed_lines(conn, account_id, invoice_uuid)
    conn.execute(text("drop table billed_line"))


def store_billed_lines(conn: Connection, account_id: int, invoice_uuid: str) -> None:
    """Put the lines of the transaction's table `billed_line` in the place of the invoice's, matched as they are stored."""
    values = {"account_id": account_id, "invoice_uuid": invoice_uuid}
    there_are = conn.execute(
        text(
            "select count(*) as lines, count(*) filter (where charge = 'resource') as of_resources, count(billed_id) as ids,"
            " max(ended_at) as end_at from billed_line"
        )
    ).one()
    if there_are.lines > MANY_LINES:
        conn.execute(text(FOR_MANY_LINES))
    conn.execute(text("analyze billed_line (ordinal, kind, look_up, name_key, provider_resource_id, provider_resource_uuid, charge)"))
    before = conn.execute(
        text(
            "create temp table line_before on commit drop as select invoice_uuid, ordinal, product, description, started_at, match_status,"
            " resource_id, match_method, match_detail from arcadia.cloud_cost_lines where invoice_uuid = :invoice_uuid"
        ),
        values,
    ).rowcount
    if before:
        conn.execute(text("delete from arcadia.cloud_cost_lines where invoice_uuid = :invoice_uuid"), values)
    if there_are.ids:
        conn.execute(
            text(
                "create temp view billed_resource as select kind, billed_id as provider_id, coalesce(parsed_name, billed_id) as name,"
                " coalesce(name_key, billed_id) as name_key, parsed_region as region, coalesce(started_at, now()) as started_at,"
                " coalesce(ended_at, now()) as ended_at from billed_line where billed_id is not null"
            )
        )
        admit_billed(conn, account_id, "billed_resource")
        conn.execute(text("drop view billed_resource"))
    columns, outcome = ", ".join(COLUMNS), ", ".join(OUTCOME)
    decide(
        conn,
        f"(select *, ordinal as line from {_BILLED} l where charge = 'resource')",
        f"(select {_OF_HISTORY} from {HISTORY} h union all select {_OF_HISTORY} from billed_line where started_at is not null"
        " and not exists (select from arcadia.cloud_invoices where invoice_uuid = :invoice_uuid and status = 'preview'))",
        values,
        count=there_are.of_resources,
        columns=columns,
        into=f"insert into arcadia.cloud_cost_lines ({columns}, {outcome})",
    )
    if there_are.lines > there_are.of_resources:
        conn.execute(
            text(
                f"insert into arcadia.cloud_cost_lines ({columns}, {outcome})"
                f" select {columns}, case when charge = 'unknown' then 'unmatched' else charge end, null, null,"
                f" jsonb_build_object('reason', reason) from {_BILLED} l where charge <> 'resource'"
            ),
            values,
        )
    if before:
        conn.execute(
            text(
                f"insert into {MATCH_EVENT} "
                + match_events(
                    "line_before",
                    "(select n.* from arcadia.cloud_cost_lines n join line_before b using (invoice_uuid, ordinal, product, description)"
                    " where n.started_at is not distinct from b.started_at)",
                )
            ),
            values,
        )
    conn.execute(text("drop table line_before"))
    conn.execute(
        text("update arcadia.cloud_invoices set lines_end_at = :end_at where invoice_uuid = :invoice_uuid"),
        {"end_at": there_are.end_at, "invoice_uuid": invoice_uuid},
    )
    conn.execute(text(_QUEUE_OLDER), values)
    if there_are.lines > MANY_LINES:
        conn.execute(
            text(
                "analyze arcadia.cloud_cost_lines (account_id, invoice_uuid, ordinal, kind, look_up, name_key, provider_resource_id,"
                " provider_resource_uuid, ended_at, resource_id, match_status)"
            )
        )


_BILLED = "(select *, cast(:invoice_uuid as text) as invoice_uuid, cast(:account_id as bigint) as account_id from billed_line)"
_OF_HISTORY = "kind, name_key, parsed_region, parsed_size, look_up, started_at, ended_at"
# What an invoice shows of names can put older lines in doubt that were matched before their resource was listed.
_QUEUE_OLDER = f"""
insert into arcadia.rematch_queue (resource_id, account_id)
select distinct r.resource_id, r.account_id
  from (select kind, name_key, min(started_at) as since
          from {stored_lines(BY_NAME)} h
         where invoice_uuid <> :invoice_uuid and started_at < (select max(started_at) from billed_line)
           and not exists (select from arcadia.cloud_invoices where invoice_uuid = :invoice_uuid and status = 'preview')
         group by kind, name_key) l
  join arcadia.resources_by_name r on r.name_key = l.name_key and r.account_id = :account_id and r.kind = l.kind
   and not r.billing_only and r.first_seen_at > l.since
on conflict (resource_id) do update set account_id = excluded.account_id
"""


def _summary(conn: Connection, invoice_uuid: str, *, written: bool) -> Ingested:
    row = conn.execute(
        text("select period, line_count, line_total, residual, discrepancy from arcadia.cloud_invoices where invoice_uuid = :invoice_uuid"),
        {"invoice_uuid": invoice_uuid},
    ).one()
    return Ingested(invoice_uuid=invoice_uuid, written=written, outcomes=_outcomes(conn, invoice_uuid), **row._mapping)


def outcomes_of(engine: Engine, invoice_uuid: str) -> dict[str, int]:
    """How many of the invoice's lines are matched, ambiguous and so on, as of now: match_status -> lines."""
    with engine.connect() as conn:
        return _outcomes(conn, invoice_uuid)


def _outcomes(conn: Connection, invoice_uuid: str) -> dict[str, int]:
    query = "select match_status, count(*) as lines from arcadia.cloud_cost_lines where invoice_uuid = :invoice_uuid group by 1"
    return {row.match_status: row.lines for row in conn.execute(text(query), {"invoice_uuid": invoice_uuid})}


@dataclass(frozen=True, kw_only=True)
class Preview:
    """What the provider says of a month before its invoice is made: USD so far, and up to which moment, where it says so."""

    period: date
    amount: Decimal
    covers_until: datetime | None


def read_preview(stated: Any) -> Preview | None:
    """The `invoice_preview` in the reply of /v2/customers/my/invoices; None where there is none, as before anything was used.

    Raises ValueError where a field cannot be read.
    """
    if not stated:
        return None
    if not isinstance(stated, Mapping):
        raise ValueError(f"invoice preview: it is of type {type(stated).__name__}, not an object")
    return Preview(
        period=_month(stated.get("invoice_period"), "preview"),
        amount=read_money(stated.get("amount"), "invoice preview"),
        covers_until=_time(stated.get("updated_at"), "invoice preview"),
    )


# Of a preview `p`: whether its real invoice has arrived. An invoice made within its month is not yet that one (a team can be invoiced
# partway, https://docs.digitalocean.com/platform/billing/), unless the provider has gone on to preview a later month.
SUPERSEDED = """exists (
    select from arcadia.cloud_invoices r
     where r.account_id = p.account_id and r.period = p.period and r.status <> 'preview'
       and (r.issued_at >= (p.period + interval '1 month') at time zone 'UTC'
            or exists (select from arcadia.cloud_invoices later where later.account_id = p.account_id and later.status = 'preview'
                          and later.period > p.period)))"""


def ingest_preview(engine: Engine, account_id: int, preview: Preview, items: BinaryIO) -> Ingested | None:
    """Store the month to date as a whole in one transaction, matched, in place of what was stored of that month before.

    `items` are its JSON items, as `digitalocean/documents.py` writes them. The same documents again write no line. None, and nothing
    stored, where the month's real invoice has arrived: previews lag. Raises InvoiceError where a line cannot be read; see fail_preview.
    """
    try:
        document = _document("items", items)
        lines, _, _ = _readings(items, None)
        with engine.begin() as conn:
            lock(conn, "billing", account_id)
            invoice_uuid = _admit_preview(conn, account_id, preview)
            if invoice_uuid is None:
                return None
            # What a line is matched to depends on covers_until: where that has moved on, the same lines are stored anew.
            conn.execute(
                text(
                    "update arcadia.cloud_invoices set amount = :amount, covers_until = :covers_until, lines_sha256 = case"
                    " when covers_until is not distinct from cast(:covers_until as timestamptz) then lines_sha256 end"
                    " where invoice_uuid = :invoice_uuid"
                ),
                {"invoice_uuid": invoice_uuid, "amount": preview.amount, "covers_until": preview.covers_until},
            )
            written = _store_lines(conn, account_id, invoice_uuid, lines)
            documents: _Documents = {"items": document}
            return _close(conn, account_id, invoice_uuid, lines, written=written, discrepancy=None, documents=documents)
    except InvoiceError as problem:
        fail_preview(engine, account_id, str(problem), preview)
        raise


def fail_preview(engine: Engine, account_id: int, error: str, preview: Preview | None = None) -> None:
    """Note why the month to date could not be read, beside the amount and the lines stored before, which stay.

    Where not even the month could be read (no `preview`), it is noted on the account's newest preview.
    """
    with engine.begin() as conn:
        lock(conn, "billing", account_id)
        if preview is not None:
            _admit_preview(conn, account_id, preview)
        conn.execute(
            text(
                "update arcadia.cloud_invoices set error = :error, tried_at = clock_timestamp()"
                " where account_id = :account_id and status = 'preview' and period = coalesce(cast(:period as date),"
                " (select max(period) from arcadia.cloud_invoices where account_id = :account_id and status = 'preview'))"
            ),
            {"error": error, "period": None if preview is None else preview.period, "account_id": account_id},
        )


def _admit_preview(conn: Connection, account_id: int, preview: Preview) -> str | None:
    """The key of the month's preview, entered where it is new; None where the real invoice has arrived."""
    key = f"preview:{account_id}:{preview.period:%Y-%m}"
    conn.execute(
        text(
            "insert into arcadia.cloud_invoices (invoice_uuid, account_id, period, amount, covers_until, status)"
            " values (:key, :account_id, :period, :amount, :covers_until, 'preview') on conflict (invoice_uuid) do nothing"
        ),
        {**asdict(preview), "key": key, "account_id": account_id},
    )
    _drop_superseded(conn, account_id)
    return conn.execute(text("select invoice_uuid from arcadia.cloud_invoices where invoice_uuid = :key"), {"key": key}).scalar()


def _drop_superseded(conn: Connection, account_id: int) -> None:
    """Take away previews whose real invoice has arrived, and their lines with them."""
    conn.execute(
        text(f"delete from arcadia.cloud_invoices p where account_id = :account_id and status = 'preview' and {SUPERSEDED}"),
        {"account_id": account_id},
    )
