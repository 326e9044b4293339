"""Opens the ledger's database and brings schema `arcadia` up to this code: tables by Alembic, then the views of `views/`.

What the tables are is said in `tables.py`, how they came to be in `migrations/`. Nothing here reads or writes the ledger's contents.
After a change to `tables.py`, `python -m arcadia_dagster.ledger.schema "what changes"` writes the migration, on a database of its own;
read it, then `ruff format` it. (While no release has gone out: delete `versions/0001_first.py`, then the same with "first".) Views need
none, they are made again when their files change; but one that is given up is dropped by a migration.
"""

import hashlib
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, text
from sqlalchemy.exc import DBAPIError

from arcadia_dagster.ledger import access
from arcadia_dagster.ledger.tables import SCHEMA

if TYPE_CHECKING:
    from alembic.config import Config

_FOLDER = Path(__file__).parent
_MIGRATIONS = _FOLDER / "migrations"
_VIEWS = _FOLDER / "views"
_OLDEST_SERVER = (15,)  # views with the rights of who reads them


class SchemaError(RuntimeError):
    """The ledger's database cannot be used as it is. Its text is one sentence for the user, without a password."""


class DatabaseDown(SchemaError):  # noqa: N818
    """The ledger's database does not let us in; another try may succeed."""


def connect(url: URL) -> Engine:
    """An engine on the ledger at `url` (postgresql+psycopg), its schema made or migrated. Sessions see times in UTC.

    Raises DatabaseDown, or SchemaError when the database cannot be brought up to this code.
    """
    # What the address itself says goes first.
    defaults = {"application_name": "arcadia", "connect_timeout": "10"}
    engine = create_engine(url.set(query={**defaults, **url.query}), pool_pre_ping=True)

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: object) -> None:  # by statement, as poolers refuse start-up options
        connection.autocommit = True
        # To compile a statement takes longer than most of ours. Room for the temporary tables of a long invoice: taken as they grow, and
        # only in sessions that make some.
        connection.execute("set time zone 'UTC'; set jit = off; set temp_buffers = '160MB'")
        connection.autocommit = False

    try:
        migrate(engine)
    except BaseException:
        engine.dispose()
        raise
    return engine


def migrate(engine: Engine) -> None:
    """Bring schema `arcadia` to the newest revision and its views to the files, in one transaction.

    Safe when many processes start together; when nothing is to be done it waits for nobody. A database of a newer release is left
    untouched. Raises DatabaseDown or SchemaError.
    """
    where = place(engine.url)
    try:
        connection = engine.connect()
    except DBAPIError as error:
        raise DatabaseDown(f"cannot connect to the ledger's database at {where}: {reason(error)}") from error
    with connection:
        version = connection.dialect.server_version_info or _OLDEST_SERVER
        if version < _OLDEST_SERVER:
            raise SchemaError(f"the ledger needs PostgreSQL {_OLDEST_SERVER[0]} or newer, and {where} is {'.'.join(map(str, version))}")
        try:
            if _is_current(connection, where):
                return
            connection.rollback()
            connection.execute(text("select pg_advisory_xact_lock(:lock)"), {"lock": access.LOCK})
            if not _is_current(connection, where):  # or another process was quicker
                # Rather fail than queue behind somebody's long transaction, and every reader behind us.
                connection.execute(text("set local lock_timeout = '60s'"))
                _upgrade(connection)
            connection.commit()
        except DBAPIError as error:
            raise SchemaError(f"the ledger at {where} cannot be brought to this release's schema: {reason(error)}") from error


def revisions(connection: Connection) -> tuple[str | None, str]:
    """The revision that the schema is of, and the one that this code is made for."""
    return connection.scalar(text(f"select min(version_num) from {SCHEMA}.alembic_version")), _revisions()[-1]


def alembic_config(connection: Connection) -> "Config":
    """Alembic's configuration for the ledger on this connection, whose transaction it leaves to the caller."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def _revisions() -> list[str]:
    """The revisions that this code knows, oldest first: each file in versions/ begins with its number."""
    return sorted(path.name.split("_")[0] for path in (_MIGRATIONS / "versions").glob("[0-9]*.py"))


def _is_current(connection: Connection, where: str) -> bool:
    present = connection.execute(text(f"select to_regclass('{SCHEMA}.alembic_version'), to_regclass('{SCHEMA}.schema_views')")).one()
    if None in present:
        if present[0] is None:
            return False
        digest = "null::text"
    else:
        digest = f"(select min(digest) from {SCHEMA}.schema_views)"
    revision, views = connection.execute(text(f"select (select min(version_num) from {SCHEMA}.alembic_version), {digest}")).one()
    known = _revisions()
    if revision is not None and revision not in known:
        raise SchemaError(f"the ledger at {where} was made by a newer arcadia-dagster (revision {revision}); upgrade arcadia-dagster")
    return bool(revision == known[-1] and views == _views_digest(_view_files()))


def _upgrade(connection: Connection) -> None:
    from alembic import command

    if connection.scalar(text("select to_regnamespace(:schema)"), {"schema": SCHEMA}) is None:  # to ask needs no right to create
        connection.execute(text(f"create schema {SCHEMA}"))
    files = _view_files()
    names = [name for sql in files.values() for name in re.findall(rf"^create view {SCHEMA}\.(\w+)", sql, re.MULTILINE)]
    grants = _grants(connection, names)
    access.release(connection)
    # Before the tables change, as columns that a view shows cannot; all at once, as they are made of each other.
    connection.execute(text(f"drop view if exists {', '.join(f'{SCHEMA}.{name}' for name in names)}"))
    command.upgrade(alembic_config(connection), "head")
    for sql in (*files.values(), *grants):
        connection.exec_driver_sql(sql.replace("%", "%%"))
    for name in names:  # or it would show what its owner may read, instead of what its reader may
        connection.execute(text(f"alter view {SCHEMA}.{name} set (security_invoker = true)"))
    access.protect(connection)
    connection.execute(text(f"delete from {SCHEMA}.schema_views"))
    connection.execute(text(f"insert into {SCHEMA}.schema_views (digest) values (:digest)"), {"digest": _views_digest(files)})


def _grants(connection: Connection, views: list[str]) -> list[str]:
    """Statements that give the views' readers again what dropping the views takes from them."""
    query = """
        select format('grant %s on arcadia.%I to %s%s', a.privilege_type, c.relname,
                      case when a.grantee = 0 then 'public' else a.grantee::regrole::text end,
                      case when a.is_grantable then ' with grant option' else '' end)
          from pg_class c cross join aclexplode(c.relacl) a
         where c.relnamespace = to_regnamespace('arcadia') and c.relname = any(:views) and a.grantee <> c.relowner
    """
    return list(connection.scalars(text(query), {"views": views}))


def _view_files() -> dict[str, str]:
    return {path.name: path.read_text(encoding="utf-8") for path in sorted(_VIEWS.glob("*.sql"))}


def _views_digest(files: dict[str, str]) -> str:
    """Of the views and of who may read them: where either has changed, both are put in place again."""
    rights = Path(access.__file__).read_text(encoding="utf-8")
    return hashlib.sha256("\0".join((rights, *(part for file in files.items() for part in file))).encode()).hexdigest()


def place(url: URL) -> str:
    """Host, port and database of an address, without user and password."""
    host = url.host or url.query.get("host") or "localhost"
    return f"{host if isinstance(host, str) else ','.join(host)}{f':{url.port}' if url.port else ''}/{url.database or ''}"


def reason(error: DBAPIError) -> str:
    """What the server or the driver said, on one line."""
    diagnosis = getattr(error.orig, "diag", None)
    message = diagnosis and diagnosis.message_primary
    if not message:
        message = str(error.orig).partition("\n")[0].removeprefix("connection failed: ")
    detail = diagnosis and diagnosis.message_detail
    return " ".join(f"{message} ({detail})".split()) if detail else message


def _write_migration(what: str) -> None:
    """Add the revision that makes `tables.py` of the revisions so far."""
    import tempfile

    from alembic import command
    from sqlalchemy.engine import make_url

    from arcadia_dagster import embedded_postgres

    with tempfile.TemporaryDirectory() as folder:
        data_dir = Path(folder) / "postgres"
        engine = create_engine(make_url(embedded_postgres.start(data_dir)).set(drivername="postgresql+psycopg"))
        try:
            with engine.connect() as connection:
                connection.execute(text(f"create schema {SCHEMA}"))
                if _revisions():
                    command.upgrade(alembic_config(connection), "head")
                command.revision(alembic_config(connection), what, autogenerate=True, rev_id=f"{len(_revisions()) + 1:04}")
        finally:
            engine.dispose()
            embedded_postgres.stop(data_dir)


if __name__ == "__main__":
    _write_migration(sys.argv[1])
