"""A real `sendtrace up`, its processes, and what it answers."""

import json
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from drills.places import Place
from simulator.stack.announcement import find_stack
from simulator.stack.commands import PYTHON_MODULE
from simulator.stack.up import worker_node_name
from tracker.web.server import bind_socket, format_url
from workers.celery_app import make_celery_app
from workers.queues import QUEUES

HOST = "127.0.0.1"

START_LIMIT_SECONDS = 150.0
"""Time that a stack has to start; it takes ten seconds on an idle machine."""

STOP_LIMIT_SECONDS = 60.0

ANSWER_LIMIT_SECONDS = 15.0
"""Time that the live page has to answer a request. The page of a message first loads the rules."""

PING_SECONDS = 1.0

POLL_SECONDS = 0.5


class StackFailed(Exception):
    """A stack didn't start, or a campaign on it; the message has its output."""


class Answer(NamedTuple):
    """The answer of the live page.

    Attributes:
        status: the HTTP status, None if there was no answer.
        text: the body, or the error.
        seconds: time that it took.
    """

    status: int | None
    text: str
    seconds: float


@dataclass
class DrillStack:
    """A stack on a place, which may be killed and started again.

    Attributes:
        output: the file with everything that `sendtrace up` has printed.
    """

    place: Place
    web_port: int
    flower_port: int
    output: Path
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def environment(self) -> Mapping[str, str]:
        """The environment of commands that use the stack."""
        inherited = {name: value for name, value in os.environ.items() if "SENDTRACE_" not in name}
        settings = {"SENDTRACE_HOME": str(self.place.home)}
        if self.place.database_url is not None:
            settings["SENDTRACE_DATABASE_URL"] = self.place.database_url
        return inherited | settings

    @property
    def database_url(self) -> str:
        """The URL of the record."""
        return self.place.database_url or f"sqlite:///{self.place.home / 'sendtrace.db'}"

    def start(self) -> None:
        """Run `sendtrace up`, and wait until it is ready.

        Raises:
            StackFailed: it exited, or wasn't ready in time.
        """
        before = self.output.read_text().count("Ctrl-C stops it all") if self.is_started else 0
        ports = [f"--port={self.web_port}", f"--flower-port={self.flower_port}"]
        self.process = self.run("up", *ports, output=self.output)
        deadline = time.monotonic() + START_LIMIT_SECONDS
        while self.output.read_text().count("Ctrl-C stops it all") == before:
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise StackFailed(self.output.read_text(errors="replace")[-2_000:])
            time.sleep(POLL_SECONDS)

    @property
    def is_started(self) -> bool:
        """True if the stack was started before."""
        return self.output.exists()

    def stop(self) -> None:
        """Stop `sendtrace up` as Ctrl-C does; kill it if that takes too long."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(STOP_LIMIT_SECONDS)
        self.process.kill()
        self.process.wait()

    def run(self, *arguments: str, output: Path) -> "subprocess.Popen[bytes]":
        """Start a command of sendtrace on the stack; its output is added to a file."""
        with output.open("ab") as file:
            return subprocess.Popen(
                [*PYTHON_MODULE, "simulator", *arguments],
                cwd=output.parent,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def find_child(self, word: str) -> psutil.Process:
        """Return the child of `sendtrace up` whose command contains a word.

        Raises:
            StackFailed: there is none.
        """
        if self.process is not None:
            for child in psutil.Process(self.process.pid).children():
                with suppress(psutil.Error):
                    command = " ".join(child.cmdline())
                    if word in command and "watchdog" not in command:
                        return child
        raise StackFailed(f"no child has {word} in its command")

    def ask(self, path: str, *, limit: float = ANSWER_LIMIT_SECONDS) -> Answer:
        """Request a path of the live page."""
        started_at = time.monotonic()
        status: int | None
        try:
            url = f"{format_url(HOST, self.web_port)}{path}"
            with urllib.request.urlopen(url, timeout=limit) as response:  # noqa: S310
                status, text = response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            status, text = error.code, error.read().decode(errors="replace")
        except OSError as error:
            reason = getattr(error, "reason", error)
            status, text = None, str(getattr(reason, "strerror", None) or reason)
        return Answer(status, text, time.monotonic() - started_at)

    def ask_json(self, path: str) -> Any:
        """Return the JSON of a path, whatever its status; None if there is none."""
        answer = self.ask(path)
        with suppress(ValueError):
            return json.loads(answer.text) if answer.status is not None else None
        return None

    def has_all_workers(self) -> bool:
        """Return whether a worker of each queue answers a ping through the broker."""
        address = find_stack(self.place.home)
        if address is None:
            return False
        expected = {worker_node_name(queue) for queue in QUEUES}
        with make_celery_app("drills", address.broker) as app:
            try:
                replies = app.control.ping([*expected], timeout=PING_SECONDS, limit=len(expected))
            except Exception:  # kombu and redis raise many types
                return False
        return expected <= {name for reply in replies for name in reply}


@contextmanager
def start_stack(place: Place, folder: Path) -> Iterator[DrillStack]:
    """Start a stack on a place, and stop it after the block.

    Args:
        folder: the folder for the output of the commands.
    """
    with closing(bind_socket(HOST, 0)) as web, closing(bind_socket(HOST, 0)) as flower:
        web_port, flower_port = (bound.getsockname()[1] for bound in (web, flower))
    stack = DrillStack(place, web_port, flower_port, folder / "up.log")
    try:
        stack.start()
        yield stack
    finally:
        stack.stop()


def wait_for(condition: Callable[[], bool], limit: float) -> float | None:
    """Wait until a condition holds; return the seconds that it took, None after the limit."""
    started_at = time.monotonic()
    while not condition():
        if time.monotonic() - started_at > limit:
            return None
        time.sleep(POLL_SECONDS)
    return time.monotonic() - started_at
