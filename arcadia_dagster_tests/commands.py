"""Runs the real commands in processes of their own, for the tests of what a user sees.

Says where the processes get their environment from. What the commands ought to do is in test_cli.py and test_dev.py.
"""

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass

import psutil

from arcadia_dagster.demo.server import SimulatedServer
from arcadia_dagster.demo.sky_ai import sky_ai_account

PASSWORD = "hunter2"
WRONG_TOKEN = "dop_v1_not_the_right_one"

# A shell starts what runs in the background with Ctrl-C ignored, and whoever that starts inherits it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str

    @property
    def sentence(self):
        """What was complained about, which must be one line."""
        assert self.err.count("\n") == 1, self.err
        return self.err.rstrip("\n")


def environment(**variables):
    """This process's environment without settings of ours, but for ARCADIA_HOME and those given."""
    settings = ("DO_", "DIGITALOCEAN_", "ARCADIA_", "DAGSTER_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(settings) or name == "ARCADIA_HOME"}
    return kept | {"ARCADIA_ACCOUNTS_FILE": ""} | {name: str(value) for name, value in variables.items()}


def start(*arguments, **variables):
    """`arcadia ...` in a session of its own, as a terminal starts it; its output is read through pipes."""
    return start_module("arcadia_dagster.cli", *arguments, **variables)


def start_module(module, *arguments, cwd=None, output=None, **variables):
    """`python -m MODULE ...`, likewise; with `output`, a file, everything it says goes there."""
    return subprocess.Popen(
        [sys.executable, "-m", module, *map(str, arguments)],
        env=environment(**variables),
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=output or subprocess.PIPE,
        stderr=subprocess.STDOUT if output else subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def end(process):
    """What a started command said until its end. Nobody is to be shown a traceback or a secret, whatever happens."""
    out, err = process.communicate(timeout=300)
    for secret in (PASSWORD, WRONG_TOKEN, "Traceback"):
        assert secret not in out + err, out + err
    return Done(process.returncode, out, err)


def arcadia(*arguments, **variables):
    """Run `arcadia ...` to its end."""
    return end(start(*arguments, **variables))


def small_account():
    """The demo's account with five of its invoices."""
    account = sky_ai_account()
    account.invoices, account.billing_history = account.invoices[:5], []
    return account


@contextmanager
def served(account, url):
    """The account on loopback: the server, and the variables that make a command read it into the database at `url`."""
    with SimulatedServer([account]) as server:
        yield server, {"ARCADIA_DATABASE_URL": url, "DIGITALOCEAN_API_URL": server.url, "DO_API_TOKEN": account.token}


class Trap(list):
    """A simulated server's list of requests that calls `spring` at the first one whose path matches, before it is answered."""

    def __init__(self, path, spring):
        super().__init__()
        self.path, self.spring = path, spring

    def append(self, request):
        super().append(request)
        if self.spring is not None and re.fullmatch(self.path, request[1]):
            spring, self.spring = self.spring, None
            spring()


def processes_of(home):
    """The processes that were started with this ARCADIA_HOME, and what they are."""
    found = {}
    for process in psutil.process_iter():
        try:
            if process.environ().get("ARCADIA_HOME") == str(home):
                found[process.pid] = " ".join(process.cmdline())
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def listening_of(home):
    """The addresses that those processes can be reached at over the network."""
    sockets = [one for pid in processes_of(home) for one in psutil.Process(pid).net_connections("tcp")]
    return {one.laddr.ip for one in sockets if one.status == psutil.CONN_LISTEN}


def wait_for(what, seconds=120):
    """Whatever `what` gives as soon as it gives something true."""
    give_up_at = time.monotonic() + seconds
    while not (given := what()):
        assert time.monotonic() < give_up_at, f"waited {seconds} s in vain"
        time.sleep(0.1)
    return given
