"""What the environment says, read when it is asked for: tokens, addresses, databases, folders. Nothing else reads environment variables.

Knows no Dagster. It opens no connection itself; asking for the ledger's address starts the embedded server where no other is named.
"""

import os
from datetime import timedelta
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import platformdirs
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

Purpose = Literal["inventory", "billing"]

DAGSTER_SCHEMA = "dagster"

_ANY_PURPOSE = ("DO_API_TOKEN", "DIGITALOCEAN_TOKEN", "DIGITALOCEAN_ACCESS_TOKEN")

# Every variable that can name a token, of any purpose.
TOKEN_VARIABLES = tuple(
    name + suffix for name in ("DO_API_TOKEN_INVENTORY", "DO_API_TOKEN_BILLING", *_ANY_PURPOSE) for suffix in ("", "_FILE")
)


class SettingsError(ValueError):
    """A variable is missing or cannot be used. Its text is one sentence for the user and never holds a secret."""


def api_token(purpose: Purpose) -> str:
    """The provider's token for inventory or billing: the one of that purpose first, then the common ones; each also as `..._FILE`.

    Raises SettingsError when none is configured, or the first that is cannot be used.
    """
    for name in _token_variables(purpose):
        if token := _variable(name):
            return _usable_token(token, name)
        if file := _variable(f"{name}_FILE"):
            try:
                token = Path(file).expanduser().read_text(encoding="utf-8").strip()
            except (OSError, UnicodeDecodeError) as error:
                reason = error.strerror if isinstance(error, OSError) else "it is not text"
                raise SettingsError(f"{name}_FILE names {file}, which cannot be read: {reason}") from None
            if not token:
                raise SettingsError(f"{name}_FILE names {file}, which is empty; it must hold the token")
            return _usable_token(token, f"{name}_FILE ({file})")
    own, common, *others = _token_variables(purpose)
    raise SettingsError(
        f"no DigitalOcean token for {purpose}: set {common}, or the path of a file that holds it in {common}_FILE"
        f" ({own}, {', '.join(others)} are read too)"
    )


def token_is_configured(purpose: Purpose) -> bool:
    """Whether any variable names a token for this purpose. Does not look whether it is usable."""
    return any(_variable(name) or _variable(f"{name}_FILE") for name in _token_variables(purpose))


def api_url() -> str:
    """The provider's base address, without `/v2` and without a slash at the end."""
    value = _variable("DIGITALOCEAN_API_URL") or "https://api.digitalocean.com"
    try:
        parts = urlsplit(value)
        usable = parts.scheme in {"http", "https"} and parts.hostname and not parts.query and not parts.fragment
        _ = parts.port  # raises ValueError when it is no number
    except ValueError:
        usable = False
    if not usable:
        raise SettingsError("DIGITALOCEAN_API_URL must be an address such as https://api.digitalocean.com, without /v2")
    return value.rstrip("/").removesuffix("/v2").rstrip("/")


def home() -> Path:
    """The folder that holds the embedded server's data, absolute. It need not exist yet."""
    value = _variable("ARCADIA_HOME")
    return Path(value).expanduser().absolute() if value else platformdirs.user_data_path("arcadia-dagster", appauthor=False)


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


def ledger_url() -> URL:
    """Address of the ledger's database, for psycopg 3. Starts the embedded server when ARCADIA_DATABASE_URL is not set.

    Raises SettingsError for an address that is none, EmbeddedPostgresError when the embedded server cannot be started.
    """
    if value := _variable("ARCADIA_DATABASE_URL"):
        return postgres_url(value, "ARCADIA_DATABASE_URL").set(drivername="postgresql+psycopg")
    from arcadia_dagster import embedded_postgres

    return make_url(embedded_postgres.start(embedded_data_dir())).set(drivername="postgresql+psycopg")


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


def _token_variables(purpose: Purpose) -> tuple[str, ...]:
    return (f"DO_API_TOKEN_{purpose.upper()}", *_ANY_PURPOSE)


def _usable_token(token: str, origin: str) -> str:
    # Such a token could not be sent, and the HTTP library's error about it would print it.
    if not token.isascii() or not token.isprintable() or " " in token:
        raise SettingsError(f"the token in {origin} holds a space, a line break or a character that no token has; copy it again")
    return token
