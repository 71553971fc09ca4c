"""The real command, run in folders of its own."""

import json
import os
import random
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from tests.support.fork_server import ForkServer

MODULE = (sys.executable, "-P", "-m", "simulator")
"""Doesn't import from the current folder, as the script `sendtrace` doesn't."""


SCRIPT = (str(Path(sys.executable).with_name("sendtrace")),)


FOREIGN_MODULES = ("celery.py", "celeryconfig.py", "kombu.py", "tracker.py", "workers.py")

FOREIGN_SETTINGS = {
    "BROKER_URL": "redis://127.0.0.1:1/0",
    "CELERY_BROKER_URL": "redis://127.0.0.1:1/0",
    "CELERY_RESULT_BACKEND": "django-db",
    "DJANGO_SETTINGS_MODULE": "shop.settings",
    "FLOWER_PORT": "tcp://10.43.0.7:5555",
    "LOADER": "nowhere",
    "REMAP_SIGTERM": "SIGQUIT",
}
"""Variables of another project of Celery, and of Kubernetes beside a service called flower."""

POLL_SECONDS = 0.02

LIMIT_SECONDS = 150.0
"""Time for anything that a test waits for: a busy machine may take many times the usual."""


def make_scenario(
    *,
    name: str = "small",
    email: int = 1_500,
    sms: int = 700,
    median: str = "200ms",
    p99: str = "400ms",
    credit: int | None = None,
) -> str:
    """Return a scenario with two campaigns, in which every outcome occurs."""
    return f"""
name = "{name}"
seed = 11

[organization]
name = "Acme Retail"
{"" if credit is None else f"credit = {credit}"}

[[campaigns]]
name = "spring-email"
channel = "email"
audience = {email}
requires = ["coupon"]

[campaigns.defects]
unsubscribed = 0.05
email_missing = 0.03
coupon_expired = 0.02

[[campaigns]]
name = "spring-sms"
channel = "sms"
audience = {sms}
requires = ["membership"]

[campaigns.defects]
ndnc = 0.06
not_in_loyalty_program = 0.04

[gateways.email]
latency = {{ median = "{median}", p99 = "{p99}" }}
hard_bounce = 0.02
soft_bounce = 0.1
not_delivered = 0.01

[gateways.sms]
latency = {{ median = "{median}", p99 = "{p99}" }}
hard_bounce = 0.01
soft_bounce = 0.1
"""


def wait_until(condition: Callable[[], bool], what: str, limit: float = LIMIT_SECONDS) -> None:
    """Wait until a condition is true; fail after `limit` seconds."""
    deadline = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < deadline, f"not within {limit:.0f} s: {what}"
        time.sleep(POLL_SECONDS)


def is_running(process: psutil.Process) -> bool:
    """Return whether a process has not ended, even if nobody has waited for it."""
    with suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def without_times(reports: Sequence[Any]) -> list[Any]:
    """Return the JSON of reports without their times, which differ from run to run."""
    return [
        report | {"as_of": None, "sent": report["sent"] | {"engagement_as_of": None}}
        for report in reports
    ]


class Shell:
    """A shell that runs commands in a folder, with folders for state and temporary files."""

    def __init__(
        self, folder: Path, scratch: Path, fork_server: ForkServer, **settings: str
    ) -> None:
        self.folder = folder
        self._fork_server = fork_server
        self.home = folder / "home"
        self.scratch = scratch
        self._started: list[StartedCommand] = []
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith("SENDTRACE_")
        }
        self.environment = {
            **inherited,
            "SENDTRACE_HOME": str(self.home),
            "TMPDIR": str(scratch),
            **settings,
        }

    @property
    def database(self) -> Path:
        return self.home / "sendtrace.db"

    def write(self, name: str, text: str) -> Path:
        file = self.folder / name
        file.write_text(text)
        return file

    def write_foreign_modules(self) -> None:
        """Make the folder that of another project of Celery."""
        for name in FOREIGN_MODULES:
            self.write(name, "raise SystemExit('this is another project')")

    def run(
        self,
        *arguments: str | Path,
        program: tuple[str, ...] | None = None,
        settings: Mapping[str, str] = {},
    ) -> "subprocess.CompletedProcess[str]":
        """Run a command to its end; `settings` are further environment variables.

        Without a program it is `sendtrace`, in a process that need not load its modules.
        """
        texts = [*map(str, arguments)]
        environment = {**self.environment, **settings}
        if program is None:
            return self._fork_server.run(texts, folder=self.folder, environment=environment)
        return subprocess.run(
            [*program, *texts],
            cwd=self.folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LIMIT_SECONDS,
            check=False,
        )

    def start(
        self,
        *arguments: str | Path,
        program: tuple[str, ...] = MODULE,
        label: str = "command",
        ignored: frozenset[signal.Signals] = frozenset(),
        settings: Mapping[str, str] = {},
    ) -> "StartedCommand":
        """Start a command in a session of its own, as a terminal would."""

        def ignore_signals() -> None:
            for number in ignored:
                signal.signal(number, signal.SIG_IGN)

        stdout, stderr = self.folder / f"{label}.out", self.folder / f"{label}.err"
        with stdout.open("w") as out, stderr.open("w") as err:
            process = subprocess.Popen(
                [*program, *map(str, arguments)],
                cwd=self.folder,
                env={**self.environment, **settings},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
                preexec_fn=ignore_signals,
            )
        self._started.append(StartedCommand(process, stdout, stderr))
        return self._started[-1]

    def reports(self, *arguments: str) -> Any:
        """Return the JSON of `report`."""
        ended = self.run("report", *arguments, "--format", "json")
        assert ended.returncode == 0, ended.stderr
        return json.loads(ended.stdout)

    def find_processes(self) -> list[psutil.Process]:
        """Return the processes started here that still run.

        Brokers are found by their sockets, workers by their names, which contain the driver's id.
        """
        return [process for process in psutil.process_iter() if self._is_ours(process)]

    def assert_nothing_is_left(self) -> None:
        """Assert that the started processes end, and have removed their temporary folders."""
        wait_until(lambda: not self.find_processes(), "no process is left")
        wait_until(lambda: not list(self.scratch.glob("sendtrace-*")), "no folder is left")

    def _is_ours(self, process: psutil.Process) -> bool:
        try:
            command = " ".join(process.cmdline())
            return process.status() != psutil.STATUS_ZOMBIE and (
                str(self.scratch) in command
                or any(
                    process.pid == started.process.pid or f"run-{started.process.pid}@" in command
                    for started in self._started
                )
            )
        except psutil.Error:
            return False

    def query_number(self, query: str) -> int:
        """Return a number from the SQLite database, or 0 while the table does not exist."""
        try:
            with closing(sqlite3.connect(f"file:{self.database}?mode=ro", uri=True)) as connection:
                [number] = connection.execute(query).fetchone()
        except sqlite3.OperationalError:
            return 0
        return int(number)

    def count_moved(self) -> int:
        """Return how many messages of the last run have left the first status."""
        return self.query_number(
            "SELECT count(*) FROM messages_by_name WHERE status <> 'queued'"
            " AND run = (SELECT max(id) FROM runs)"
        )

    def clean_up(self) -> None:
        """Kill the processes that a failed test has left."""
        for process in self.find_processes():
            with suppress(psutil.NoSuchProcess):
                process.kill()
        for started in self._started:
            started.process.kill()
            started.process.wait()


@dataclass(frozen=True)
class StartedCommand:
    """A command that was started, and the files of its output."""

    process: "subprocess.Popen[bytes]"
    stdout: Path
    stderr: Path

    def wait(self, limit: float = LIMIT_SECONDS) -> int:
        """Return the exit code."""
        return self.process.wait(limit)

    @property
    def stderr_text(self) -> str:
        return self.stderr.read_text()

    def worker(self) -> psutil.Process:
        """Return the main process of the command's Celery worker."""
        [worker] = [
            child
            for child in psutil.Process(self.process.pid).children()
            if "celery" in " ".join(child.cmdline())
        ]
        return worker


@dataclass(frozen=True)
class FinishedRun:
    """A run that has ended, with its output and its result."""

    shell: Shell
    stdout: str
    stderr: str
    result: Any

    @classmethod
    def of(
        cls,
        shell: Shell,
        *arguments: str | Path,
        program: tuple[str, ...] | None = None,
        settings: Mapping[str, str] = {},
    ) -> "FinishedRun":
        """Run `simulate`, which must pass; see `Shell.run`."""
        file = shell.folder / "result.json"
        command = ("simulate", *arguments, "--json", file)
        ended = shell.run(*command, program=program, settings=settings)
        assert ended.returncode == 0, ended.stderr + ended.stdout
        return cls(shell, ended.stdout, ended.stderr, json.loads(file.read_text()))

    @property
    def outcome_digests(self) -> dict[str, str]:
        """The digest of the outcomes of all messages, by campaign."""
        campaigns = self.result["prediction"]["campaigns"]
        return {campaign["campaign"]: campaign["fates"] for campaign in campaigns}


def find_free_port() -> int:
    """Return a port below those that the system gives to connections and to servers without one."""
    while True:
        port = random.randrange(20_000, 32_000)  # noqa: S311
        with suppress(OSError), closing(socket.create_server(("127.0.0.1", port))):
            return port
