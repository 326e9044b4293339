"""What the environment says, read when it is asked for: tokens, addresses, databases, folders. Nothing else reads environment variables.

Knows no Dagster. It opens no connection itself; asking for the ledger's address starts the embedded server where no other is named.
"""

import contextlib
import os
from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Literal, TypeVar
from urllib.parse import urlsplit

import platformdirs
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from arcadia_dagster.accounts_file import AccountsFileError, TokenPlace, Tokens, read_accounts

Purpose = Literal["inventory", "billing"]
PURPOSES: tuple[Purpose, ...] = ("inventory", "billing")

DAGSTER_SCHEMA = "dagster"

_ANY_PURPOSE = ("DO_API_TOKEN", "DIGITALOCEAN_TOKEN", "DIGITALOCEAN_ACCESS_TOKEN")

_VAULT = "vault:"  # begins a reference to a secret in HashiCorp Vault

# Every variable that can name a token, of any purpose.
TOKEN_VARIABLES = tuple(
    name + suffix for name in ("DO_API_TOKEN_INVENTORY", "DO_API_TOKEN_BILLING", *_ANY_PURPOSE) for suffix in ("", "_FILE")
)


class SettingsError(ValueError):
    """A variable is missing or cannot be used. Its text is one sentence for the user and never holds a secret."""


def account_names() -> tuple[str, ...]:
    """The accounts that the accounts' file names, in its order; none where there is no file. Raises SettingsError if it is wrong."""
    return tuple(_accounts())


def token_place(purpose: Purpose, account: str | None = None) -> str:
    """Where the token for a purpose is said to be, in words for a person: a variable, or a key of the accounts' file."""
    place = _token_place(purpose, account)
    return "DO_API_TOKEN" if place is None else f"{place.key} in {accounts_file()}"


def api_token(purpose: Purpose, account: str | None = None) -> str:
    """The provider's token for inventory or billing. Raises SettingsError when none is configured, or the one that is cannot be used.

    With an accounts' file, that of the account, which must be named where there are several. Else the one of that purpose first, then the
    common ones; each also as `..._FILE`. A value `vault:PATH#FIELD` is read from HashiCorp Vault, each time anew, so that a token changed
    there is used from the next run on.
    """
    place = _token_place(purpose, account)
    if place is not None:
        return _token_at(place)
    for name in _token_variables(purpose):
        if token := _variable(name):
            return _usable_token(_from_vault(token, name) if token.startswith(_VAULT) else token, name)
        if file := _variable(f"{name}_FILE"):
            return _usable_token(_read(file, f"{name}_FILE", "the token"), f"{name}_FILE ({file})")
    own, common, *others = _token_variables(purpose)
    raise SettingsError(
        f"no DigitalOcean token for {purpose}: set {common}, or the path of a file that holds it in {common}_FILE"
        f" ({own}, {', '.join(others)} are read too)"
    )


def all_tokens() -> list[str]:
    """Every token that is configured, of all accounts and purposes; those that cannot be had are left out, and nobody can leak them."""
    accounts: Sequence[str | None] = account_names() or (None,)
    found = []
    for account in accounts:
        for purpose in PURPOSES:
            with contextlib.suppress(SettingsError):
                found.append(api_token(purpose, account))
    return found


def token_is_configured(purpose: Purpose) -> bool:
    """Whether the accounts' file or any variable names a token for this purpose. Does not look whether it is usable."""
    return bool(_accounts()) or any(_variable(name) or _variable(f"{name}_FILE") for name in _token_variables(purpose))


def api_url() -> str:
    """The provider's base address, without `/v2` and without a slash at the end."""
    value = _variable("DIGITALOCEAN_API_URL") or "https://api.digitalocean.com"
    if not _is_web_address(value) or urlsplit(value).query:
        raise SettingsError("DIGITALOCEAN_API_URL must be an address such as https://api.digitalocean.com, without /v2")
    return value.rstrip("/").removesuffix("/v2").rstrip("/")


def home() -> Path:
    """The folder that holds the embedded server's data, absolute. It need not exist yet."""
    value = _variable("ARCADIA_HOME")
    return Path(value).expanduser().absolute() if value else platformdirs.user_data_path("arcadia-dagster", appauthor=False)


def export_dir() -> Path:
    """The folder that exports of the schedules are written to, absolute. It need not exist yet."""
    value = _variable("ARCADIA_EXPORT_DIR")
    return Path(value).expanduser().absolute() if value else home() / "exports"


def strike_interval() -> timedelta:
    """A missing resource is struck at most once in this time."""
    value = _variable("ARCADIA_STRIKE_INTERVAL_SECONDS") or "600"
    try:
        seconds = timedelta(seconds=int(value))
    except (ValueError, OverflowError):
        seconds = timedelta(-1)
    if seconds < timedelta(0):
        raise SettingsError(f"ARCADIA_STRIKE_INTERVAL_SECONDS must be a whole number of seconds, 0 or more, not {value!r}")
    return seconds


def hurry() -> int:
    """By how much the time-outs and the waits between tries are divided: 1, unless a test is in a hurry."""
    value = _variable("ARCADIA_TEST_HURRY") or "1"
    if not value.isdecimal() or int(value) < 1:
        raise SettingsError(f"ARCADIA_TEST_HURRY must be a whole number, 1 or more, not {value!r}")
    return int(value)


def internal_project() -> str | None:
    """Name of the project that orphans fall back to; None when it is turned off by an empty value."""
    return os.environ.get("ARCADIA_INTERNAL_PROJECT", "skyai-internal").strip() or None


def accounts_file() -> Path | None:
    """The file that names the accounts, absolute: ARCADIA_ACCOUNTS_FILE, else `arcadia.toml` in the working folder where there is one.

    None where there is none, or the variable is there and empty.
    """
    value = os.environ.get("ARCADIA_ACCOUNTS_FILE")
    if value is None:
        path = Path("arcadia.toml").absolute()
        return path if path.exists() else None
    return Path(value.strip()).expanduser().absolute() if value.strip() else None


def tenants_file() -> Path | None:
    """The file that declares the tenants, absolute; None where none is named. Whether it can be read is seen when it is."""
    value = _variable("ARCADIA_TENANTS_FILE")
    return Path(value).expanduser().absolute() if value else None


def alert_webhook() -> str | None:
    """The address that alerts are posted to, from ARCADIA_ALERT_WEBHOOK or the file that ..._FILE names; None where none is. A secret."""
    name = "ARCADIA_ALERT_WEBHOOK"
    value = _variable(name)
    if value is None and (file := _variable(f"{name}_FILE")):
        name = f"{name}_FILE"
        value = _read(file, name, "the address")
    if value is None:
        return None
    # What it is must not be printed: who knows it may post to the channel.
    if not _is_web_address(value) or not value.isascii() or not value.isprintable() or " " in value:
        raise SettingsError(f"{name} must give one address that begins with https:// (or http://)")
    return value


def ui_url() -> str | None:
    """Where people reach the Dagster UI, without a slash at the end, for links in alerts; None where nobody said."""
    value = _variable("ARCADIA_UI_URL")
    if value is not None and (not _is_web_address(value) or urlsplit(value).query):
        raise SettingsError("ARCADIA_UI_URL must be an address such as https://dagster.example.com")
    return value and value.rstrip("/")


def unexplained_limit() -> Decimal:
    """USD that the lines of a month may bill without its being known for what, before it is an alert."""
    return _amount("ARCADIA_ALERT_UNEXPLAINED_USD", Decimal(10))


def project_increase_limit() -> Decimal:
    """Percent that a project may cost more than it used to, before it is an alert."""
    return _amount("ARCADIA_ALERT_PROJECT_INCREASE_PERCENT", Decimal(50))


def monthly_budget() -> Decimal | None:
    """USD that the months of all accounts together are to stay below; None where there is no budget."""
    return _amount("ARCADIA_MONTHLY_BUDGET_USD", None)


def ledger_url() -> URL:
    """Address of the ledger's database, for psycopg 3. Starts the embedded server when ARCADIA_DATABASE_URL is not set.

    Raises SettingsError for an address that is none, EmbeddedPostgresError when the embedded server cannot be started.
    """
    if value := _variable("ARCADIA_DATABASE_URL"):
        return postgres_url(value, "ARCADIA_DATABASE_URL").set(drivername="postgresql+psycopg")
    from arcadia_dagster import embedded_postgres

    return make_url(embedded_postgres.start(embedded_data_dir())).set(drivername="postgresql+psycopg")


def database_is_embedded() -> bool:
    """Whether the ledger is in an embedded server, which no other machine can reach."""
    return _variable("ARCADIA_DATABASE_URL") is None


def embedded_data_dir() -> Path:
    """Where the embedded server keeps its data."""
    return home() / "postgres"


def dagster_storage_url() -> str:
    """Address of Dagster's own storage, password included: DAGSTER_POSTGRES_URL, else schema `dagster` in the ledger's database.

    Always for psycopg2: dagster-postgres does not work with psycopg 3, which is what SQLAlchemy 2.1 takes `postgresql://` for. The schema
    is chosen by a start-up option; behind a pooler that refuses those, name a database in DAGSTER_POSTGRES_URL.
    """
    if value := _variable("DAGSTER_POSTGRES_URL"):
        url = postgres_url(value, "DAGSTER_POSTGRES_URL")
    else:
        url = ledger_url()
        options = [url.query["options"]] if isinstance(url.query.get("options"), str) else url.query.get("options", ())
        url = url.update_query_dict({"options": " ".join([*options, f"-csearch_path={DAGSTER_SCHEMA}"])})
    return url.set(drivername="postgresql+psycopg2").render_as_string(hide_password=False)


def storage_has_own_database() -> bool:
    """Whether DAGSTER_POSTGRES_URL is set: Dagster's storage is then left to it, schema included."""
    return _variable("DAGSTER_POSTGRES_URL") is not None


def postgres_url(value: str, name: str) -> URL:
    """Parse a PostgreSQL address in any of its usual spellings; `name` is the variable that it came from, for the error."""
    try:
        url = make_url(value)
    except (ArgumentError, ValueError):  # their texts can hold the password
        url = None
    if url is None or url.drivername not in {"postgresql", "postgres", "postgresql+psycopg", "postgresql+psycopg2"}:
        raise SettingsError(f"{name} must be a PostgreSQL address of the form postgresql://user:password@host:5432/database")
    return url


def _variable(name: str) -> str | None:
    """The variable's value; None when it is unset or blank."""
    return os.environ.get(name, "").strip() or None


def _read(file: str, name: str, what: str) -> str:
    """What a file holds that the variable `name` names; `what` it must hold, for the error."""
    try:
        content = Path(file).expanduser().read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise SettingsError(f"{name} names {file}, which cannot be read: {reason}") from None
    if not content:
        raise SettingsError(f"{name} names {file}, which is empty; it must hold {what}")
    return content


def _is_web_address(value: str) -> bool:
    try:
        parts = urlsplit(value)
        _ = parts.port  # raises ValueError when it is no number
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and bool(parts.hostname) and not parts.fragment


_Default = TypeVar("_Default", Decimal, None)


def _amount(name: str, default: _Default) -> Decimal | _Default:
    value = _variable(name)
    if value is None:
        return default
    try:
        amount = Decimal(value)
    except InvalidOperation:
        amount = Decimal("NaN")
    if not amount.is_finite() or amount < 0:
        raise SettingsError(f"{name} must be a number, 0 or more, not {value!r}")
    return amount


def _accounts() -> dict[str, Tokens]:
    file = accounts_file()
    try:
        return {} if file is None else read_accounts(file)
    except AccountsFileError as problem:
        raise SettingsError(str(problem)) from None


def _token_place(purpose: Purpose, account: str | None) -> TokenPlace | None:
    """Where the accounts' file says the token is; None: there is no file, and the variables say it."""
    accounts = _accounts()
    if account is None and len(accounts) > 1:
        raise SettingsError(f"{accounts_file()} names {len(accounts)} accounts, and it is not said which of them is meant")
    if account is not None and account not in accounts:
        raise SettingsError(f"there is no account {account} in {accounts_file() or 'an accounts file, as none is there'}")
    for name, tokens in accounts.items():
        if account in (None, name):
            return tokens.inventory if purpose == "inventory" else tokens.billing
    return None


def _token_at(place: TokenPlace) -> str:
    file = accounts_file()
    name = f"{place.key} in {file}"
    if place.way == "token_file":
        path = (file.parent if file else Path()) / Path(place.value).expanduser()
        return _usable_token(_read(str(path), name, "the token"), f"{path}, which {name} names,")
    token = _variable(place.value) if place.way == "token_env" else place.value
    if token is None:
        raise SettingsError(f"{name} names the variable {place.value}, which is not set where this runs")
    return _usable_token(_from_vault(token, name) if token.startswith(_VAULT) else token, name)


def _token_variables(purpose: Purpose) -> tuple[str, ...]:
    return (f"DO_API_TOKEN_{purpose.upper()}", *_ANY_PURPOSE)


def _from_vault(reference: str, name: str) -> str:
    """The token that a reference `vault:PATH#FIELD` leads to; `name` is the variable that it came from."""
    path, _, field = reference.removeprefix(_VAULT).partition("#")
    if not path.strip("/") or not field:
        raise SettingsError(f"{name} must be like vault:secret/data/digitalocean#token: the path of a secret in Vault and a field of it")
    address = _variable("VAULT_ADDR")
    if address is None:
        raise SettingsError(f"{name} names a secret in Vault, and VAULT_ADDR does not say where Vault is")
    token = _variable("VAULT_TOKEN")
    if token is None and (file := _variable("VAULT_TOKEN_FILE")):
        token = _read(file, "VAULT_TOKEN_FILE", "the token")
    from arcadia_dagster import vault

    try:
        return vault.read(path.strip("/"), field, address=address, token=token, namespace=_variable("VAULT_NAMESPACE"))
    except vault.VaultError as problem:
        raise SettingsError(f"{name}: {problem}") from None


def _usable_token(token: str, origin: str) -> str:
    # Such a token could not be sent, and the HTTP library's error about it would print it.
    if not token.isascii() or not token.isprintable() or " " in token:
        raise SettingsError(f"the token in {origin} holds a space, a line break or a character that no token has; copy it again")
    return token
