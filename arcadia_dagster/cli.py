"""The `arcadia` command. It runs the same Dagster jobs that production runs, and says in one sentence what went wrong.

What a command prints is decided here; what it does, in `defs/` and `ledger/`.
"""

import contextlib
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO
from uuid import uuid4

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError

from arcadia_dagster import embedded_postgres, settings
from arcadia_dagster.digitalocean.invoices import InvoiceError
from arcadia_dagster.digitalocean.kinds import KINDS
from arcadia_dagster.digitalocean.replies import ProviderError
from arcadia_dagster.ledger import api_keys
from arcadia_dagster.ledger.access import AccessError, tenant_role
from arcadia_dagster.ledger.accounts import (
    AccountError,
    account_for_import,
    account_named,
    account_of_team,
    accounts_of,
    doubts,
    note_no_account,
)
from arcadia_dagster.ledger.billing import Ingested, import_csv, outcomes_of
from arcadia_dagster.ledger.export import ExportError, Format, export, whole_file
from arcadia_dagster.ledger.matching import rematch
from arcadia_dagster.ledger.schema import SchemaError, connect, reason
from arcadia_dagster.ledger.tenants import SUMMARY, apply, assign
from arcadia_dagster.ledger.tenants_file import TenantsFileError, read_tenants

if TYPE_CHECKING:
    import dagster as dg

USER_ERRORS = (
    settings.SettingsError,
    SchemaError,
    ProviderError,
    AccessError,
    AccountError,
    ExportError,
    api_keys.ApiKeyError,
    embedded_postgres.EmbeddedPostgresError,
    OSError,
)

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="A ledger of a DigitalOcean account in Postgres: what exists, what changed, what was billed, and which resource every billed"
    " line pays for.\n\nTry [bold]arcadia demo[/bold] first: it needs no token and no database. Then set DO_API_TOKEN and run"
    " [bold]arcadia sync[/bold].",
)
keys = typer.Typer(no_args_is_help=True, help="Keys of the read API: make, list and revoke them.")
app.add_typer(keys, name="keys")
# A log or a pipe has no width; 80 columns would fold every line of a table.
# No emoji: names and identifiers hold colons, and `:x:` is none of ours.
console = Console(width=None if sys.stdout.isatty() else 150, emoji=False)
errors = Console(stderr=True, emoji=False)


def main() -> None:
    """Entry point: a problem that a user can mend is one sentence on standard error and exit code 1, never a traceback."""
    try:
        app()
    except USER_ERRORS as problem:
        _complain(f"arcadia: {problem}")
        sys.exit(1)
    except Exception as problem:
        # Dagster's storage tries for a while, and then says so with an exception of its own.
        lost = problem.__cause__ if type(problem).__name__ == "DagsterPostgresException" else problem
        if not isinstance(lost, DBAPIError):
            raise
        _complain(f"arcadia: the database refused or was lost: {reason(lost)}")  # its own text holds the statement and its parameters
        sys.exit(1)
    finally:
        # It would stop by itself a moment later; a script that looks at once should find nothing left running.
        with contextlib.suppress(OSError):  # a folder that cannot be read has been complained about
            embedded_postgres.stop(settings.embedded_data_dir())


def _complain(sentence: str) -> None:
    errors.print(sentence, style="red", markup=False, highlight=False, soft_wrap=True)


@app.command()
def demo() -> None:
    """Mirror two simulated accounts into one ledger, ingest their invoices, and show what each line of the newest ones pays for.

    Needs no token: the accounts are served on loopback. The ledger is kept, so a second run shows that nothing changes.
    """
    from arcadia_dagster.demo.server import SimulatedServer
    from arcadia_dagster.demo.showcase import showcase_account
    from arcadia_dagster.demo.sky_ai import sky_ai_account

    accounts = [sky_ai_account(), showcase_account()]  # a history of eleven years; something of every kind
    all_succeeded = True
    with SimulatedServer(accounts) as server, _ledger() as engine:
        for name in settings.TOKEN_VARIABLES:
            os.environ.pop(name, None)
        for account in accounts:
            os.environ |= {"DO_API_TOKEN": account.token, "DIGITALOCEAN_API_URL": server.url, "ARCADIA_ACCOUNTS_FILE": ""}
            console.print(f"Simulated account {account.team_name!r} at {server.url}")
            account_id, succeeded = _sync_everything(engine, allow_mass_deletion=False)
            all_succeeded &= succeeded
            _show_newest_invoice(engine, account_id)
            _show_month_to_date(engine, account_id)
            _show_resources(engine, account_id)
    console.print(
        "\nLook around: [bold]arcadia status[/bold], [bold]arcadia dev[/bold] (the Dagster UI), or any SQL client on"
        " [bold]arcadia.matched_cost_lines[/bold]."
    )
    raise typer.Exit(0 if all_succeeded else 1)


@app.command()
def sync(
    account: Annotated[
        str | None, typer.Option(help="One of the accounts that the accounts' file names; all of them, one after another, unless given.")
    ] = None,
    allow_mass_deletion: Annotated[
        bool,
        typer.Option(
            "--allow-mass-deletion",
            help="Tombstone even where over 10 and over 30 % of a kind's resources are gone at once. For this run only.",
        ),
    ] = False,
) -> None:
    """Read everything once from the configured account, or from each of several: inventory, billing, matching.

    Needs DO_API_TOKEN (or DO_API_TOKEN_FILE), or an accounts' file. Exit code 0 only if every step succeeded, of every account.
    """
    names = settings.account_names()
    if account is not None and account not in names:
        known = f"it names {', '.join(names)}" if names else "there is no accounts' file"
        raise AccountError(f"there is no account {account!r} to sync: {known}")
    with _ledger() as engine:
        if len(names) > 1:
            raise typer.Exit(0 if _sync_accounts(engine, [account] if account else names, allow_mass_deletion=allow_mass_deletion) else 1)
        account_id, succeeded = _sync_everything(engine, allow_mass_deletion=allow_mass_deletion)
        _show_resources(engine, account_id)
        _show_month_to_date(engine, account_id)
        _show_matching(engine, account_id)
    raise typer.Exit(0 if succeeded else 1)


@app.command(name="import")
def import_(
    files: Annotated[list[Path], typer.Argument(help="Invoice CSVs from the control panel (Billing, an invoice, Download CSV).")],
    account: Annotated[str, typer.Option(help="The account they belong to: its name or team uuid. A new name makes a new account.")],
) -> None:
    """Store invoice CSVs downloaded from the control panel, and match their lines to what the ledger knows. No token needed.

    A file is known by its content: importing it twice changes nothing.
    """
    if not account.strip():
        raise typer.BadParameter("must not be empty", param_hint="--account")
    failed = False
    with _ledger() as engine:
        account_id = account_for_import(engine, account)
        table = _table("file", "month", "lines", "USD", "outcome", "", numbers=(2, 3))
        stored: dict[Path, Ingested] = {}
        for file in files:
            try:
                with file.open("rb") as document:
                    result = import_csv(engine, account_id, document)
            except (InvoiceError, OSError) as problem:
                failed = True
                _complain(f"arcadia: {file}: {_reason(problem)}")
                continue
            stored[file] = result
        if stored:
            changed = rematch(engine, account_id)  # one file can tell more of the lines of another
            with engine.begin() as conn:
                assign(conn, account_id)  # what invoices alone tell of
            for file, result in stored.items():
                counts = outcomes_of(engine, result.invoice_uuid) if changed else result.outcomes
                outcomes = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
                note = "" if result.written else "already imported"
                month, total = f"{result.period:%Y-%m}", f"{result.line_total:.2f}"
                table.add_row(escape(file.name), month, str(result.line_count), total, outcomes, note)
            console.print(table)
            _show_lines(engine, [result.invoice_uuid for result in stored.values()])
    raise typer.Exit(1 if failed else 0)


def _reason(problem: Exception) -> str:
    return (problem.strerror or str(problem)) if isinstance(problem, OSError) else str(problem)


@app.command()
def dev(
    port: Annotated[int, typer.Option(help="Port of the UI on this machine.", min=1, max=65535)] = 3000,
    host: Annotated[str, typer.Option(help="Address to serve on. Anyone who reaches it can run jobs.")] = "127.0.0.1",
) -> None:
    """Start the Dagster UI and daemon on the same database. Stop with Ctrl-C."""
    _listen(host, port).close()
    settings.account_names()  # a file that is wrong is told here, and not by a UI without anything in it
    with _ledger():
        home = _dagster_home()
        console.print(f"Dagster UI: http://{host}:{port} (Ctrl-C stops it)", highlight=False)
        command = [sys.executable, "-m", "dagster", "dev", "-m", "arcadia_dagster.definitions", "-h", host, "-p", str(port)]
        process: subprocess.Popen[bytes] | None = None
        stopping = False

        def stop(*_: object) -> None:
            nonlocal stopping
            if process is None:
                raise KeyboardInterrupt
            if not stopping:  # a second one would keep it from stopping its children
                process.send_signal(signal.SIGINT)
            stopping = True

        # Before it starts: what is ignored here (`&` in a script ignores Ctrl-C), it would ignore for good.
        for request in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if request != signal.SIGHUP or signal.getsignal(request) != signal.SIG_IGN:  # nohup is meant
                signal.signal(request, stop)
        # In a process group of its own, so that Ctrl-C reaches it once and through us, as every other request to stop.
        process = subprocess.Popen(command, env={**os.environ, "DAGSTER_HOME": str(home)}, process_group=0)  # noqa: S603
        code = process.wait()
    # Where one of its services dies, it ends with 0 all the same.
    raise typer.Exit(0 if stopping else abs(code) or 1)


@app.command()
def status(
    account: Annotated[
        str | None, typer.Option(help="One account in full: its name in the accounts' file, its team's name or uuid.")
    ] = None,
) -> None:
    """Show what is in the ledger, how old it is, and what is unmatched; of several accounts, how each of them is."""
    names = settings.account_names()
    with _ledger() as engine, engine.connect() as conn:
        accounts = conn.execute(text("select account_id, name, team_uuid from arcadia.cloud_accounts order by 1")).all()
        if account is not None:
            account_id = accounts_of(conn, names, "inventory").get(account) or account_named(conn, account)
            accounts = [one for one in accounts if one.account_id == account_id]
            if not accounts:
                raise AccountError(f"nothing is known of an account {account!r} yet; arcadia status names those that are known")
        elif len(names) > 1:
            _show_accounts(engine, names)
            led = {*accounts_of(conn, names, "inventory").values(), *accounts_of(conn, names, "billing").values()}
            others = [one.name for one in accounts if one.account_id not in led]
            if others:
                console.print(f"Besides: {', '.join(others)}", markup=False, highlight=False, soft_wrap=True)
            console.print("One of them in full: [bold]arcadia status --account NAME[/bold]")
            return
        if not accounts:
            console.print("The ledger is empty. Run [bold]arcadia demo[/bold], [bold]arcadia sync[/bold] or [bold]arcadia import[/bold].")
        for one in accounts:
            console.rule(f"{escape(one.name)}  [dim]{one.team_uuid or 'imported invoices only'}[/dim]", align="left")
            _show_resources(engine, one.account_id)
            _show_balance(engine, one.account_id)
            _show_month_to_date(engine, one.account_id)
            _show_matching(engine, one.account_id)
            _show_unknown_products(engine, one.account_id)


@app.command()
def explain(
    line: Annotated[int, typer.Argument(help="The line_id, as arcadia.matched_cost_lines shows it.")],
) -> None:
    """Say why a billed line pays for the resource it does, or for none: who was considered, and what spoke for and against each."""
    from arcadia_dagster.ledger.matching import explain as explain_line

    with _ledger() as engine, engine.connect() as conn:
        explanation = explain_line(conn, line)
    if explanation is None:
        _complain(f"arcadia: there is no line {line}; line_id in arcadia.matched_cost_lines names them")
        raise typer.Exit(1)
    facts = explanation.line
    times = " to ".join(f"{facts[name]:%Y-%m-%d %H:%M}" if facts[name] else "?" for name in ("started_at", "ended_at"))
    document = "month to date" if facts["is_preview"] else "invoice"
    console.print(f"{facts['product']}: {facts['description']}", markup=False, highlight=False, style="bold")
    console.print(f"{facts['amount_usd']} USD, {times} UTC, {document} of {facts['period']:%B %Y}", highlight=False)
    if facts["match_status"] == "matched":
        pays = f"{facts['resource_kind']} {facts['resource_name']} ({facts['resource_provider_id']}, {facts['resource_state']})"
        console.print(f"matched by {facts['match_method']}: {pays}", markup=False, highlight=False)
    else:
        status = f"{facts['match_status']}: " if facts["match_status"] in ("unmatched", "ambiguous") else ""
        console.print(f"{status}{facts['reason']}", markup=False, highlight=False)
    if explanation.considered:
        table = _table("considered", "id", "region", "state", "speaks for it", "speaks against it")
        for one in explanation.considered:
            reasons = ["\n".join(one[side]) for side in ("speaks_for", "speaks_against")]
            table.add_row(escape(one["name"]), one["provider_id"], one["region"] or "", one["state"], *reasons)
        console.print(table)


@app.command(name="export")
def export_(
    view: Annotated[str, typer.Argument(help="What to export: a view, or a table that begins with cloud_. A wrong name lists them.")],
    format_: Annotated[
        Format,
        typer.Option(
            "--format",
            help="csv: safe to open in a spreadsheet; json: an object a line, numerics as strings of exact digits; parquet.",
        ),
    ],
    out: Annotated[str, typer.Option(help="The file, replaced once the export is complete; - is standard output, for csv and json.")],
    period: Annotated[datetime | None, typer.Option(formats=["%Y-%m"], help="One month alone, such as 2026-04.")] = None,
    account: Annotated[str | None, typer.Option(help="One account alone: its name or team uuid.")] = None,
) -> None:
    """Write a view as CSV, JSON or Parquet: every row of one moment, or no file at all.

    In a CSV, a text that a spreadsheet would take for a formula has an apostrophe in front.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # nothing half-written stays
    with _ledger() as engine, engine.connect() as conn:
        account_id = None
        if account is not None and (account_id := account_named(conn, account)) is None:
            raise AccountError(f"there is no account {account!r}; arcadia status names them")
        with _standard_output(format_) if out == "-" else whole_file(Path(out)) as file:
            month = period.date() if period else None
            rows = export(conn, view.removeprefix("arcadia."), file, format=format_, period=month, account_id=account_id)
    if out != "-":
        console.print(f"{out}: {rows:,} rows", markup=False, highlight=False, soft_wrap=True)


@contextlib.contextmanager
def _standard_output(format_: Format) -> Iterator[BinaryIO]:
    if format_ == "parquet":
        raise ExportError("Parquet is written to a file, not to standard output; name one with --out")
    try:
        # Not sys.stdout, which would try again to write, at the very end, what could not be written.
        with open(sys.stdout.fileno(), "wb", closefd=False) as file:
            yield file
    except OSError as problem:
        raise ExportError(f"standard output cannot be written: {_reason(problem)}") from None


tenants = typer.Typer(no_args_is_help=True, help="Who owns what: tenants, as one file declares them, and what each of them has.")
app.add_typer(tenants, name="tenants")


@tenants.command(name="apply")
def tenants_apply(
    file: Annotated[Path | None, typer.Argument(help="The tenants' file; by default the one that ARCADIA_TENANTS_FILE names.")] = None,
) -> None:
    """Make the tenants of a file those of the ledger, and give every resource its tenant. Nothing is applied unless all of it is right."""
    path = file or settings.tenants_file()
    if path is None:
        raise settings.SettingsError("no tenants' file: name one, or set ARCADIA_TENANTS_FILE")
    try:
        declaration = read_tenants(path)
    except TenantsFileError as problem:
        for line in problem.problems:
            _complain(line)
        raise typer.Exit(1) from None
    with _ledger() as engine:
        applied = apply(engine, declaration)
    for what, ids in (("declared", applied.declared), ("changed", applied.changed), ("withdrawn", applied.withdrawn)):
        if ids:
            console.print(f"Tenants {what}: {', '.join(ids)}", highlight=False)
    for role in map(tenant_role, applied.withdrawn):
        console.print(f"Role {role} is left, as other databases of the server may use it; it sees nothing here any more.", highlight=False)
    if applied.roles:
        console.print(f"Roles made: {', '.join(applied.roles)}", highlight=False)
    if applied.moved:
        console.print(f"Resources and projects with another tenant than before: {applied.moved:,}", highlight=False)
    if not applied.any:
        console.print("Nothing changed.")


@tenants.command(name="show")
def tenants_show() -> None:
    """Show each tenant with its resources and what the last closed month billed for it."""
    with _ledger() as engine, engine.connect() as conn:
        rows = conn.execute(text(SUMMARY)).all()
    if not rows:
        console.print("No tenants are declared. Write a file and run [bold]arcadia tenants apply FILE[/bold].")
        return
    money = f"USD {rows[0].month}" if rows[0].month else "USD"
    table = _table("tenant", "name", "fallback", "active", "ever", money, title="Tenants", numbers=(3, 4, 5))
    for row in rows:
        counts = (f"{row.active:,}", f"{row.resources:,}", f"{row.usd:,.2f}")
        table.add_row(escape(row.tenant_id), escape(row.name), row.fallback, *counts)
    console.print(table)


@app.command()
def report(
    out: Annotated[Path, typer.Option(help="The file to write. It is replaced as a whole.")] = Path("arcadia-report.html"),
    account: Annotated[str | None, typer.Option(help="One account alone: its name or team uuid. All of them unless given.")] = None,
) -> None:
    """Write the costs as one HTML page with pictures: where the money went, what changed and why, what can be switched off.

    The page needs no network and no other file.
    """
    from arcadia_dagster.report import figures, page

    with _ledger() as engine, engine.connect() as conn, console.status("Drawing"):
        found = figures.read(conn, account)
        page.write(out, found)
    said = f"{found.newest:%B %Y}: {found.newest_usd:,.2f} USD" if found.newest else "no closed invoice has been read yet"
    console.print(f"{out} ({said})", markup=False, highlight=False, soft_wrap=True)


@app.command()
def simulate(
    port: Annotated[int, typer.Option(help="Port on this machine; 0 takes a free one.", min=0, max=65535)] = 8099,
) -> None:
    """Serve the simulated accounts alone, for other API clients. Stop with Ctrl-C."""
    from arcadia_dagster.demo.server import SimulatedServer
    from arcadia_dagster.demo.showcase import showcase_account
    from arcadia_dagster.demo.sky_ai import sky_ai_account

    account, other = sky_ai_account(), showcase_account()
    with contextlib.suppress(KeyboardInterrupt), SimulatedServer([account, other], port=port) as server:
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        console.print(f"DIGITALOCEAN_API_URL={server.url}\nDO_API_TOKEN={account.token}", highlight=False, soft_wrap=True)
        console.print(f"Simulated account {account.team_name!r}, and {other.team_name!r} with the token {other.token}; Ctrl-C stops it.")
        signal.pause()


@app.command()
def serve(
    port: Annotated[int, typer.Option(help="Port on this machine; 0 takes a free one.", min=0, max=65535)] = 8080,
    host: Annotated[str, typer.Option(help="Address to serve on. It speaks plain HTTP: put a proxy with TLS before anything public.")] = (
        "127.0.0.1"
    ),
) -> None:
    """Serve the read API: inventory, balance, cost lines and timelines as JSON. Needs a key: see arcadia keys. Stop with Ctrl-C."""
    with _listen(host, port) as listener, _ledger() as engine:
        from arcadia_dagster.api.app import server

        api_keys.check_owner(engine)
        logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.WARNING)
        logging.getLogger("uvicorn.access").setLevel(logging.INFO)  # every request, without its headers
        # When it has let requests come to their end, it raises the signal that it was stopped with once more.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        where = f"[{host}]" if ":" in host else host
        url = f"http://{where}:{listener.getsockname()[1]}/api/v1"
        console.print(f"Read API: {url}, described in {url}/openapi.json (Ctrl-C stops it)", markup=False, highlight=False, soft_wrap=True)
        with contextlib.suppress(KeyboardInterrupt):
            server(engine).run(sockets=[listener])


def _listen(host: str, port: int) -> socket.socket:
    """A socket that listens there. Raises OSError with a sentence for the user where that cannot be."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen()
        except OSError:
            listener.close()
            raise
    except OSError as problem:
        raise OSError(f"{host}:{port} cannot be served on ({_reason(problem)}); choose another with --port") from None
    return listener


@keys.command(name="add")
def keys_add(
    name: Annotated[str, typer.Argument(help="Who will use it, such as 'grafana'.")],
    admin: Annotated[bool, typer.Option("--admin", help="It may read everything.")] = False,
    tenant: Annotated[str | None, typer.Option(help="It may read what belongs to this tenant.")] = None,
) -> None:
    """Make a key of the read API, for admins or for one tenant. Prints it once: only its digest is kept."""
    if admin == (tenant is not None):
        raise typer.BadParameter("give one of --admin and --tenant", param_hint="--admin / --tenant")
    with _ledger() as engine:
        key, secret = api_keys.add_key(engine, name, tenant_id=tenant)
    # Not with the key: so that KEY=$(arcadia keys add ...) holds it and nothing else.
    errors.print(f"Key {key.key_id}, {_who(key)}. Keep it: nobody can show it again.", markup=False, highlight=False, soft_wrap=True)
    console.print(secret, markup=False, highlight=False, soft_wrap=True)


@keys.command(name="list")
def keys_list() -> None:
    """List the keys there are and were. The keys themselves are not kept."""
    with _ledger() as engine:
        table = _table("id", "name", "of", "made, UTC", "revoked, UTC", numbers=(0,))
        for key in api_keys.all_keys(engine):
            made, revoked = (f"{moment:%Y-%m-%d %H:%M}" if moment else "" for moment in (key.created_at, key.revoked_at))
            table.add_row(str(key.key_id), escape(key.name), _who(key), made, revoked)
    console.print(table)


@keys.command(name="revoke")
def keys_revoke(key_id: Annotated[int, typer.Argument(help="As arcadia keys list shows it.", metavar="ID")]) -> None:
    """Revoke a key: from now on it is refused."""
    with _ledger() as engine:
        key = api_keys.revoke_key(engine, key_id)
    console.print(f"Key {key.key_id} ({key.name}) is revoked.", markup=False, highlight=False, soft_wrap=True)


def _who(key: api_keys.ApiKey) -> str:
    return "an admin's" if key.tenant_id is None else f"of tenant {key.tenant_id}"


@contextlib.contextmanager
def _ledger() -> Iterator[Engine]:
    """The ledger's database, its schema up to date."""
    # Where there is no terminal, a status would still write an empty line, which is none of an export's.
    with console.status("Opening the ledger") if console.is_terminal else contextlib.nullcontext():
        engine = connect(settings.ledger_url())
    try:
        yield engine
    finally:
        engine.dispose()


def _dagster_home() -> Path:
    """Where Dagster keeps its files. Without DAGSTER_HOME: a folder of ours, with the instance configuration of this release."""
    if home := os.environ.get("DAGSTER_HOME"):
        if not (Path(home).is_absolute() and Path(home).is_dir()):
            raise settings.SettingsError(f"DAGSTER_HOME must be the absolute path of a folder that exists, not {home!r}")
        return Path(home)
    directory = settings.home() / "dagster"
    directory.mkdir(parents=True, exist_ok=True)
    package = Path(__file__).parent
    configuration = next(path for path in (package / "dagster.yaml", package.parent / "dagster.yaml") if path.exists())
    shutil.copyfile(configuration, directory / "dagster.yaml")
    os.environ["DAGSTER_HOME"] = str(directory)
    return directory


def _sync_accounts(engine: Engine, names: Sequence[str], *, allow_mass_deletion: bool) -> bool:
    """Sync several accounts, one after another, then what is of the ledger as a whole; returns whether all of it succeeded.

    One account's failure is its own: the others are synced all the same.
    """
    runner = _Runner()
    failed: list[str] = []
    for name in names:
        console.rule(f"[bold]{name}[/bold]", align="left")
        try:
            _, succeeded = _sync_everything(engine, runner, allow_mass_deletion=allow_mass_deletion, name=name)
        except (settings.SettingsError, ProviderError) as problem:
            note_no_account(engine, name, "inventory", str(problem))
            _complain(f"arcadia: {name}: {problem}")
            succeeded = False
        if not succeeded:
            failed.append(name)
    console.rule(align="left")
    succeeded = runner.run("check_inventory") & runner.run("check_ledger")
    _show_accounts(engine, names)
    said = f"{len(names) - len(failed)} of {len(names)} accounts are synced"
    console.print(f"{said}; not {', '.join(failed)}" if failed else said, highlight=False, soft_wrap=True)
    return succeeded and not failed


def _sync_everything(
    engine: Engine, runner: "_Runner | None" = None, *, allow_mass_deletion: bool, name: str | None = None
) -> tuple[int, bool]:
    """Run every job once, of the account that the accounts' file calls `name` where it names several; returns the account and whether all
    of them succeeded. Raises at once where nothing could succeed.
    """
    from arcadia_dagster.digitalocean.client import Client

    try:
        # One request, which the shared budget can do without.
        client = Client(
            settings.api_token("inventory", name),
            base_url=settings.api_url(),
            on_wait=_say_wait,
            token_place=settings.token_place("inventory", name),
        )
    except ValueError as problem:
        raise settings.SettingsError(str(problem)) from None
    with client:
        team = client.account()
    settings.api_token("billing", name)
    account_id = account_of_team(engine, team_uuid=team.team_uuid, name=team.name)

    runner = runner or _Runner()
    config = {"config": {"allow_mass_deletion": True}} if allow_mass_deletion else {}
    succeeded = True
    # The walk of the projects, in sync_inventory, comes after the other listings, so that everything is attributed in this very sync.
    for job_name in ("sync_catalogue", "sync_snapshots", "sync_backups", "sync_inventory", "record_balance", "discover_invoices"):
        takes_config = job_name.startswith("sync_")
        succeeded &= runner.run(job_name, op_config=config if takes_config else {}, account=name)
    billed = None
    if name is not None:
        with engine.connect() as conn:
            billed = accounts_of(conn, [name], "billing").get(name, account_id)
    for tags in runner.waiting_invoice_ranges(engine, billed):
        succeeded &= runner.run("ingest_invoices", tags=tags)
    if name is None:
        succeeded &= runner.run("check_ledger")
    return account_id, succeeded


def _say_wait(seconds: float, reason: str) -> None:
    if seconds >= 1:
        console.print(f"  waits {seconds:.0f} s {reason}", markup=False, highlight=False, soft_wrap=True)


def _say_step(what: str, began: float, detail: str = "", style: str = "green") -> None:
    mark = "✓" if style == "green" else "✗"
    console.print(f"[{style}]{mark}[/{style}] {what:<18} {time.monotonic() - began:6.1f} s  {detail}", highlight=False)


class _Runner:
    """Runs jobs in this process on the instance that production uses, so that the UI shows these runs like any other."""

    def __init__(self) -> None:
        import dagster as dg

        from arcadia_dagster.definitions import defs
        from arcadia_dagster.defs.scheduling import end_abandoned_runs

        began = time.monotonic()
        _dagster_home()
        with console.status("Starting Dagster"):
            self.instance = dg.DagsterInstance.get()
            end_abandoned_runs(self.instance)
            self.definitions: dg.Definitions = defs()
        _say_step("Dagster started", began)

    def run(
        self,
        job_name: str,
        *,
        op_config: Mapping[str, Any] | None = None,
        tags: Mapping[str, str] | None = None,
        account: str | None = None,
    ) -> bool:
        """Run one job with a line of progress; prints one sentence for each step that failed. Returns whether all succeeded."""
        from dagster._core.events import RunFailureReason

        from arcadia_dagster.defs.accounts import ACCOUNT_TAG
        from arcadia_dagster.defs.resources import WAITS
        from arcadia_dagster.defs.scheduling import process_tags

        job = self.definitions.resolve_job_def(job_name)
        run_id, began = str(uuid4()), time.monotonic()
        config: dict[str, Any] = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
        if op_config:
            takers = (node for node in job.nodes if node.name != "tenants")  # which lists nothing
            config["ops"] = {node.name: op_config for node in takers}
        with console.status(job_name) as line:

            def show(entry: Any) -> None:
                event = entry.dagster_event
                if event is not None and event.event_type_value == "STEP_START":
                    line.update(f"{job_name}: {event.step_key}")
                elif event is not None and event.event_type_value == "STEP_UP_FOR_RETRY":
                    cause = event.step_retry_data.error.cause
                    if cause is not None and cause.cls_name == "DagsterExecutionInterruptedError":
                        raise KeyboardInterrupt  # or Ctrl-C would have the step tried again in a while
                elif event is None and entry.user_message:
                    line.update(escape(f"{job_name}: {entry.step_key}: {entry.user_message}"))
                    if not console.is_terminal and entry.user_message.startswith(f"{WAITS} "):  # there the line above is not to be seen
                        console.print(f"  {entry.step_key}: {entry.user_message}", markup=False, highlight=False, soft_wrap=True)

            self.instance.add_event_listener(run_id, show)
            result = job.execute_in_process(
                instance=self.instance,
                run_id=run_id,
                run_config=config,
                partition_key=account,
                tags={**(tags or {}), **({ACCOUNT_TAG: account} if account else {}), **process_tags()},
                raise_on_error=False,
            )
        numbers = [
            {name: value.value for name, value in event.step_materialization_data.materialization.metadata.items()}
            for event in result.all_events
            if event.is_step_materialization
        ]
        _say_step(job_name, began, _detail(numbers), "green" if result.success else "red")
        for one in numbers:
            if "not_readable" in one:
                console.print(f"  left out: {one['not_readable']}", style="yellow", markup=False, highlight=False, soft_wrap=True)
        failures = [event for event in result.all_events if event.is_step_failure]
        for event in failures:
            _complain(f"  {event.step_key}: {_failure_text(event)}")
        for event in result.all_events:
            if event.is_job_failure:
                if event.job_failure_data.failure_reason == RunFailureReason.UNEXPECTED_TERMINATION:  # Dagster took the Ctrl-C
                    raise KeyboardInterrupt
                if not failures:
                    error = event.job_failure_data.error
                    _complain(f"  {job_name}: {error.cls_name}: {error.message.strip()}" if error else f"  {job_name}: {event.message}")
        return bool(result.success)

    def waiting_invoice_ranges(self, engine: Engine, account_id: int | None) -> list[dict[str, str]]:
        """Run tags for the account's invoices that are not ingested, in as few runs as ranges of partitions allow."""
        from arcadia_dagster.defs.billing.jobs import neighbours, range_tags, waiting_invoices
        from arcadia_dagster.defs.billing.partitions import invoice_partitions

        name = str(invoice_partitions.name)
        wanted = waiting_invoices(engine, account_id, retry_failed=True)
        known = self.instance.get_dynamic_partitions(name)
        missing = [key for key in wanted if key not in set(known)]
        if missing:  # the ledger is older than Dagster's storage
            self.instance.add_dynamic_partitions(name, missing)
        return [range_tags(first, last) for first, last in neighbours(wanted, [*known, *missing])]


def _failure_text(event: "dg.DagsterEvent") -> str:
    data = event.step_failure_data
    if data.user_failure_data is not None and data.user_failure_data.description:
        return str(data.user_failure_data.description)
    return str(data.error.cls_name) + ": " + str(data.error.message).strip() if data.error else "failed"


def _detail(numbers: list[dict[str, Any]]) -> str:
    """The numbers of all assets of a run, added up."""
    names = ("seen", "discovered", "updated", "restored", "struck", "deleted", "new", "invoices", "requests")
    totals = {name: sum(one[name] for one in numbers if isinstance(one.get(name), int)) for name in names}
    # A run over partitions reports the same numbers for each of them.
    if any("invoices_written" in one for one in numbers):
        first = next(one for one in numbers if "invoices_written" in one)
        totals = {"invoices": first["invoices"], "lines": first["dagster/row_count"], "requests": first["requests"]}
    return ", ".join(f"{total:,} {name}" for name, total in totals.items() if total)


def _show_resources(engine: Engine, account_id: int) -> None:
    query = """
        select kind, count(*) filter (where state = 'active') as active, count(*) filter (where state = 'deleted') as deleted,
               count(*) filter (where state = 'billing_only') as billing_only,
               (select l.started_at from arcadia.listings l where l.account_id = r.account_id and l.kind = r.kind) as read_at,
               (select s.error from arcadia.cloud_sync_runs s where s.account_id = r.account_id and s.kind = r.kind
                 order by s.started_at desc, s.sync_run_id desc limit 1) as error
          from arcadia.cloud_resources r where account_id = :account_id group by account_id, kind order by kind"""
    with engine.connect() as conn:
        rows = conn.execute(text(query), {"account_id": account_id}).all()
    if not rows:
        return
    table = _table("kind", "active", "deleted", "billing only", "last complete listing", "", title="Resources", numbers=(1, 2, 3))
    for row in rows:
        table.add_row(row.kind, str(row.active), str(row.deleted), str(row.billing_only), _age(row.read_at), escape(row.error or ""))
    console.print(table)


def _table(*columns: str, title: str | None = None, numbers: Sequence[int] = ()) -> Table:
    """A table in the one style of these commands; `numbers` are the columns that line up on the right."""
    table = Table(*columns, title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    for number in numbers:
        table.columns[number].justify = "right"
        table.columns[number].no_wrap = True
    return table


def _age(moment: datetime | None) -> str:
    if moment is None:
        return "never"
    seconds = int((datetime.now(UTC) - moment).total_seconds())
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit} ago"
    return "just now" if seconds < 60 else f"{seconds} s ago"


# What is refused that could never be read is no trouble; what could be read before is.
_ACCOUNTS = """
    with named as (
        select c.name, array_agg(distinct account_id) as ids, string_agg(distinct a.name, ', ') as team,
               string_agg(distinct c.error, '; ') as no_token
          from arcadia.configured_accounts c left join arcadia.cloud_accounts a using (account_id)
         where c.name = any(:names) group by c.name)
    select name, team, no_token,
           (select min(started_at) from arcadia.listings where account_id = any(ids) and kind = any(:kinds)) as read_at,
           (select string_agg(l.kind || ': ' || s.error, '; ' order by l.kind) from arcadia.listings l
             cross join lateral (select error from arcadia.cloud_sync_runs s where s.account_id = l.account_id and s.kind = l.kind
                                    and finished_at is not null order by s.started_at desc, s.sync_run_id desc limit 1) s
             where account_id = any(ids) and s.error is not null) as unread,
           (select count(*) from arcadia.cloud_invoices where account_id = any(ids) and status = 'failed') as failed
      from named"""


def _show_accounts(engine: Engine, names: Sequence[str]) -> None:
    """Each account of the accounts' file: its team, when all that `sync_inventory` reads was last read in full, and what is wrong."""
    from arcadia_dagster.ledger.attribution import WALK

    kinds = [WALK, *(kind.name for kind in KINDS.values() if kind.job == "sync_inventory")]
    with engine.connect() as conn:
        known = {row.name: row for row in conn.execute(text(_ACCOUNTS), {"names": list(names), "kinds": kinds})}
        doubted: dict[str, list[str]] = {}
        for name, sentence in doubts(conn, names):
            doubted.setdefault(name, []).append(sentence)
    table = _table("account", "team", "last complete sync, UTC", "", "trouble", title="Accounts")
    for name in names:
        row = known.get(name)
        if row is None:
            table.add_row(name, "", "", "never", "")
            continue
        failed = [f"{row.failed} invoices could not be ingested"] if row.failed else []
        trouble = "; ".join([*filter(None, (row.no_token, row.unread)), *failed, *doubted.get(name, [])])
        read_at = f"{row.read_at:%Y-%m-%d %H:%M}" if row.read_at else ""
        table.add_row(name, escape(row.team or ""), read_at, _age(row.read_at), f"[red]{escape(trouble)}[/red]" if trouble else "none")
    console.print(table)


def _show_balance(engine: Engine, account_id: int) -> None:
    query = """
        select month_to_date_usage, account_balance, taken_at from arcadia.cloud_balance_snapshots
         where account_id = :account_id order by taken_at desc limit 1"""
    with engine.connect() as conn:
        row = conn.execute(text(query), {"account_id": account_id}).one_or_none()
    if row is not None:
        console.print(
            f"Balance {row.account_balance} USD, usage this month {row.month_to_date_usage} USD ({_age(row.taken_at)})",
            highlight=False,
        )


def _show_month_to_date(engine: Engine, account_id: int) -> None:
    """What the provider's previews say: one line for the month that is not over, and one for the last until its invoice is made."""
    query = """
        select period, covers_until, amount, line_count, error,
               (select count(*) from arcadia.cloud_cost_lines l where l.invoice_uuid = i.invoice_uuid
                   and match_status not in ('unmatched', 'ambiguous')) as explained
          from arcadia.cloud_invoices i where account_id = :account_id and status = 'preview' order by period"""
    with engine.connect() as conn:
        rows = conn.execute(text(query), {"account_id": account_id}).all()
    for row in rows:
        until = "" if row.covers_until is None else f", up to {row.covers_until:%Y-%m-%d %H:%M %Z}"
        lines = "no lines yet" if row.line_count is None else f"{row.line_count:,} lines, {row.explained:,} explained"
        console.print(f"Month to date ({row.period:%B %Y}{until}): {row.amount:,.2f} USD in {lines}", highlight=False)
        if row.error:
            console.print(f"Its newest reading failed: {row.error}", style="red", markup=False, highlight=False, soft_wrap=True)


def _show_matching(engine: Engine, account_id: int) -> None:
    with engine.connect() as conn:
        totals = conn.execute(
            text(
                "select match_status, count(*) as lines, sum(amount_usd) as usd from arcadia.matched_cost_lines"
                " where account_id = :account_id group by 1 order by 2 desc"
            ),
            {"account_id": account_id},
        ).all()
        waiting = conn.execute(
            text(
                "select status, count(*), max(error) from arcadia.cloud_invoices where account_id = :account_id"
                " and status in ('pending', 'failed') group by 1"
            ),
            {"account_id": account_id},
        ).all()
        adrift = conn.execute(
            text(
                "select count(*), sum(residual) from arcadia.cloud_invoices where account_id = :account_id and residual <> 0"
                " and status <> 'preview'"
            ),
            {"account_id": account_id},
        ).one()
        unexplained = conn.execute(
            text(
                "select to_char(period, 'YYYY-MM') as month, product, description, amount_usd, match_status, reason"
                " from arcadia.matched_cost_lines where account_id = :account_id and match_status in ('unmatched', 'ambiguous')"
                " order by abs(amount_usd) desc limit 15"
            ),
            {"account_id": account_id},
        ).all()
    if totals:
        table = _table("lines", "count", "USD", title="Billed lines", numbers=(1, 2))
        for row in totals:
            table.add_row(row.match_status, f"{row.lines:,}", f"{row.usd:,.2f}")
        console.print(table)
    if unexplained:
        table = _table("month", "product", "line", "USD", "status", "reason", title="Not explained, dearest first", numbers=(3,))
        for row in unexplained:
            usd = f"{row.amount_usd:.2f}"
            table.add_row(row.month, escape(row.product), escape(row.description), usd, row.match_status, escape(row.reason))
        console.print(table)
    for state, count, error in waiting:
        sentence = f"{count} invoices {state}" + (f": {error}" if error else "")
        console.print(sentence, style="red" if state == "failed" else "yellow", markup=False, highlight=False, soft_wrap=True)
    if adrift[0]:
        console.print(f"{adrift[0]} invoices do not add up; {adrift[1]} USD is left over", style="red")


def _show_unknown_products(engine: Engine, account_id: int) -> None:
    query = """
        select product, description, to_char(first_period, 'YYYY-MM') as month, lines, amount_usd, month_to_date_usd
          from arcadia.unknown_products where account_id = :account_id order by abs(amount_usd) + abs(month_to_date_usd) desc, product"""
    with engine.connect() as conn:
        rows = conn.execute(text(query), {"account_id": account_id}).all()
    if rows:
        table = _table(
            "product", "one line", "since", "lines", "USD", "month to date", title="Unknown products, dearest first", numbers=(3, 4, 5)
        )
        for row in rows:
            money = (f"{row.amount_usd:,.2f}", f"{row.month_to_date_usd:,.2f}")
            table.add_row(escape(row.product), escape(row.description), row.month, f"{row.lines:,}", *money)
        console.print(table)


_LINES = """
    select ordinal, product, description, amount_usd, match_status, match_method, reason, resource_kind, resource_name,
           resource_provider_id, resource_state, kind
      from arcadia.matched_cost_lines where invoice_uuid = any(:invoices) and ordinal <= :limit
     order by period, invoice_uuid, ordinal limit :limit"""
_MOST_LINES = 200  # that a person may want to see in a terminal


def _show_lines(engine: Engine, invoices: list[str], title: str | None = None) -> None:
    with engine.connect() as conn:
        rows = conn.execute(text(_LINES), {"invoices": invoices, "limit": _MOST_LINES}).all()
        count = conn.execute(
            text("select sum(line_count) from arcadia.cloud_invoices where invoice_uuid = any(:invoices)"), {"invoices": invoices}
        ).scalar_one()
    table = _table("#", "line", "USD", "pays for", "state", "id", "how", title=title, numbers=(0, 2))
    for row in rows:
        if row.match_status == "matched":
            pays, state, how = f"{row.resource_kind} {escape(row.resource_name)}", row.resource_state.replace("_", " "), row.match_method
        else:
            pays, state, how = f"[dim]{escape(row.reason)}[/dim]", "", row.match_status.replace("_", " ")
        style = "yellow" if row.match_status in ("unmatched", "ambiguous") else None
        identity = escape(row.resource_provider_id or "")
        table.add_row(str(row.ordinal), escape(row.description), f"{row.amount_usd:.2f}", pays, state, identity, how, style=style)
    console.print(table)
    if count > len(rows):
        console.print(f"and {count - len(rows):,} more in arcadia.matched_cost_lines", highlight=False)


# What the service before did: the first active resource of the line's kind whose name is the same but for case.
_BY_NAME_ALONE = """
    select count(*) from arcadia.cloud_cost_lines l where invoice_uuid = :invoice and exists (
        select from arcadia.cloud_resources r where r.account_id = l.account_id and r.state = 'active' and r.kind = l.kind
           and lower(r.name) = lower(l.parsed_name))"""


def _show_newest_invoice(engine: Engine, account_id: int) -> None:
    """The newest invoice line by line, how it adds up, and how many lines a match by kind and name alone would have explained."""
    with engine.connect() as conn:
        invoice = conn.execute(
            text(
                "select invoice_uuid, invoice_id, period, amount, line_total, residual, line_count from arcadia.cloud_invoices"
                " where account_id = :account_id and status = 'ingested' order by period desc, issued_at desc limit 1"
            ),
            {"account_id": account_id},
        ).one_or_none()
        if invoice is None:
            return
        counts = conn.execute(
            text(
                "select count(*) filter (where resource_state = 'active') as living,"
                " count(*) filter (where resource_state = 'deleted') as deleted,"
                " count(*) filter (where resource_state = 'billing_only') as billing_only,"
                " count(*) filter (where match_status = 'account_level') as account_level,"
                " count(*) filter (where match_status = 'tax') as tax, count(*) filter (where match_status = 'credit') as credit,"
                " count(*) filter (where match_status in ('ambiguous', 'unmatched')) as unexplained"
                " from arcadia.matched_cost_lines where invoice_uuid = :invoice"
            ),
            {"invoice": invoice.invoice_uuid},
        ).one()
        by_name = conn.execute(text(_BY_NAME_ALONE), {"invoice": invoice.invoice_uuid}).scalar_one()
        history = conn.execute(
            text(
                "select count(*) as invoices, count(*) filter (where residual <> 0) as adrift, sum(line_count) as lines"
                " from arcadia.cloud_invoices where account_id = :account_id and status = 'ingested'"
            ),
            {"account_id": account_id},
        ).one()
    _show_lines(engine, [invoice.invoice_uuid], title=f"Invoice of {invoice.period:%B %Y}, number {invoice.invoice_id}")
    names = {
        "living": "pay for living resources",
        "deleted": "for resources deleted since",
        "billing_only": "for resources gone before the first sync",
        "account_level": "for the account",
        "tax": "tax",
        "credit": "credit",
        "unexplained": "unexplained",
    }
    parts = [f"{getattr(counts, name)} {words}" for name, words in names.items() if getattr(counts, name) or name == "unexplained"]
    explained = invoice.line_count - counts.unexplained
    console.print(
        f"{invoice.line_count} lines, {invoice.line_total:.2f} USD of {invoice.amount:.2f} invoiced, {invoice.residual:.2f} left over: "
        + ", ".join(parts)
        + ".",
        highlight=False,
        soft_wrap=True,
    )
    console.print(
        f"[bold]Explained: {explained} of {invoice.line_count} lines.[/bold] By kind and name alone: {by_name} of {invoice.line_count}.",
        highlight=False,
    )
    console.print(
        f"In all {history.invoices} invoices, {history.lines:,} lines; {history.invoices - history.adrift} add up to the cent.",
        highlight=False,
    )


if __name__ == "__main__":
    main()
