"""`sendtrace up`: broker, workers, beat, Flower and the live page as one stack."""

import socket
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from celery import Celery
from kombu.exceptions import OperationalError

import workers
from simulator.schema import open_database
from simulator.stack.announcement import StackAddress, announce_stack
from simulator.stack.broker import Broker
from simulator.stack.broker_data import set_damaged_data_aside
from simulator.stack.child import ChildCommand
from simulator.stack.commands import PYTHON_MODULE, socket_folder, valkey_command, worker_command
from simulator.stack.hung_workers import PING_INTERVAL_SECONDS, HungWorkers
from simulator.stack.supervisor import Supervisor
from tracker.errors import BrokerUnreachable, SendtraceError
from tracker.settings import Settings
from tracker.web.server import bind_socket, check_address, format_url
from workers.celery_app import make_celery_app
from workers.queues import QUEUES

STACK_START_SECONDS = 90
"""Seconds that the stack has to be ready; it takes ten on an idle machine."""

READY_POLL_SECONDS = 0.25

WORKER_STOP_SECONDS = 30.0
"""Seconds that a worker has to finish its tasks: a step on a large batch takes seconds."""

FLOWER_STOP_SECONDS = 30.0
"""Seconds that Flower has to save its tasks; 100,000 take 4 s on an idle core."""

FLOWER_ADDRESS_OPTIONS = "SENDTRACE_FLOWER_ADDRESS and --flower-port"
"""What chooses Flower's address."""

BROKER_FOLDER_REMOVAL_SECONDS = 60
"""Seconds until the broker's socket is removed when this process dies; workers stop before."""

FLOWER_CONFIG_PATH = Path(workers.__path__[0]) / "flowerconfig.py"


class StackNotReady(SendtraceError):
    """A part of the stack didn't answer in time."""


@dataclass(frozen=True, kw_only=True)
class StackPorts:
    """The addresses that the live page and Flower listen on."""

    host: str
    web_port: int
    flower_host: str
    flower_port: int

    @property
    def flower_url(self) -> str:
        """The URL of Flower."""
        return format_url(self.flower_host, self.flower_port)

    @property
    def web_url(self) -> str:
        """The URL of the live page."""
        return format_url(self.host, self.web_port)


def run_stack(settings: Settings, ports: StackPorts, processes: int) -> None:
    """Keep a stack running until Ctrl-C.

    Raises:
        UsageError: the stack can't be started; nothing was.
        StackNotReady: a part of the stack didn't answer in time.
    """
    check_address(ports.host, settings.token)
    settings.check_flower_address(ports.flower_host)
    settings.prepare_home()
    with ExitStack() as stack:
        # A port in use is an error before anything starts.
        bind_socket(ports.host, ports.web_port).close()
        bind_socket(ports.flower_host, ports.flower_port, FLOWER_ADDRESS_OPTIONS).close()
        open_database(settings).close()
        broker_socket = None
        if settings.broker_url is None:
            folder = stack.enter_context(socket_folder(BROKER_FOLDER_REMOVAL_SECONDS))
            broker_socket = folder / "broker.sock"
        broker_url = settings.broker_url or f"redis+socket://{broker_socket}"
        broker = stack.enter_context(closing(Broker(broker_url)))
        address = StackAddress(broker=broker_url, database=settings.resolved_database_url)
        stack.enter_context(announce_stack(settings.home, address))
        if broker_socket is None:
            broker.check_reachable()
        groups = _StackChildren(settings, ports, address, processes).groups(broker_socket)
        supervisor = Supervisor(groups, _print_event)
        stack.callback(supervisor.stop)
        stack.callback(_print_event, "stopping; Ctrl-C again stops at once")
        supervisor.start()
        _wait_until_ready(supervisor, broker, ports)
        _print_addresses(settings, ports, is_broker_embedded=broker_socket is not None)
        with suppress(KeyboardInterrupt):
            _supervise(supervisor, broker)


class _StackChildren:
    """The commands of a stack's children."""

    def __init__(
        self, settings: Settings, ports: StackPorts, address: StackAddress, processes: int
    ) -> None:
        self._home = settings.home.absolute()
        self._logs = settings.logs
        self._ports = ports
        self._processes = processes
        self._environment = {
            "SENDTRACE_HOME": str(self._home),
            "SENDTRACE_BROKER_URL": address.broker,
            "SENDTRACE_DATABASE_URL": address.database,
            "SENDTRACE_FLOWER_URL": ports.flower_url,
        }

    def groups(self, broker_socket: Path | None) -> list[list[ChildCommand]]:
        """Return the children in the order of their start; the broker only if it has a socket."""
        broker = [] if broker_socket is None else [[self._broker(broker_socket)]]
        # A worker for each stage, so that a slow stage doesn't block the others.
        stage_workers = [self._worker(queue) for queue in QUEUES]
        celery = (*PYTHON_MODULE, "workers.celery_command")
        beat = [*celery, "beat", f"--schedule={self._home / 'beat'}", "--pidfile="]
        flower = [*celery, "flower", f"--conf={FLOWER_CONFIG_PATH}"]
        web = [*PYTHON_MODULE, "simulator", "serve", f"--host={self._ports.host}"]
        others = [
            self._child("beat", beat),
            self._child(
                "flower",
                [*flower, f"--port={self._ports.flower_port}"],
                stop_seconds=FLOWER_STOP_SECONDS,
            ),
            self._child("web", [*web, f"--port={self._ports.web_port}"]),
        ]
        return [*broker, stage_workers, others]

    def _broker(self, broker_socket: Path) -> ChildCommand:
        data = self._home / "broker"
        data.mkdir(exist_ok=True)
        command = self._child("broker", valkey_command(broker_socket, data, append_only=True))
        return replace(command, repair=partial(set_damaged_data_aside, data, command.log))

    def _worker(self, queue: str) -> ChildCommand:
        command = worker_command(worker_node_name(queue), [queue], self._processes)
        return self._child(worker_child_name(queue), command, stop_seconds=WORKER_STOP_SECONDS)

    def _child(
        self, name: str, command: Sequence[str], *, stop_seconds: float = 10.0
    ) -> ChildCommand:
        return ChildCommand(
            name=name,
            command=command,
            environment=self._environment,
            log=self._logs / f"{name}.log",
            stop_seconds=stop_seconds,
        )


def _supervise(supervisor: Supervisor, broker: Broker) -> None:
    """Restart children that exit and workers that hang, until Ctrl-C."""
    children = {worker_node_name(queue): worker_child_name(queue) for queue in QUEUES}
    with make_celery_app("up", broker.url) as app:
        hung_workers = HungWorkers(supervisor, app, children, _print_event)
        while True:
            ping_at = time.monotonic() + PING_INTERVAL_SECONDS
            while (left := ping_at - time.monotonic()) > 0:
                supervisor.restart_dead_children(left)
            hung_workers.kill_hung_workers()


def worker_child_name(queue: str) -> str:
    """Return what the stack calls the child process of the worker that serves a queue."""
    return f"worker-{queue}"


def worker_node_name(queue: str) -> str:
    """Return the Celery name of the worker that serves a queue."""
    return f"{queue}@{socket.gethostname()}"


def _wait_until_ready(supervisor: Supervisor, broker: Broker, ports: StackPorts) -> None:
    deadline = time.monotonic() + STACK_START_SECONDS
    with make_celery_app("up", broker.url) as app:
        checks: list[tuple[str, Callable[[], bool]]] = [
            ("the broker", lambda: _is_broker_reachable(broker)),
            ("the live page", lambda: _is_listening(ports.host, ports.web_port)),
            ("Flower", lambda: _is_listening(ports.flower_host, ports.flower_port)),
            ("a worker", lambda: _has_all_workers(app)),
        ]
        for name, is_ready in checks:
            while not is_ready():
                supervisor.restart_dead_children(READY_POLL_SECONDS)
                if time.monotonic() > deadline:
                    raise StackNotReady(
                        f"{name} did not answer within {STACK_START_SECONDS} s; see the logs"
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
    expected = {worker_node_name(queue) for queue in QUEUES}
    try:
        replies = app.control.ping(list(expected), timeout=1, limit=len(expected))
    except (OperationalError, OSError):
        return False
    return expected <= {name for reply in replies for name in reply}


def _print_addresses(settings: Settings, ports: StackPorts, *, is_broker_embedded: bool) -> None:
    home = "" if settings.home == Path(".sendtrace") else f"SENDTRACE_HOME={settings.home} "
    lines = [
        f"live page  {ports.web_url}",
        f"Flower     {ports.flower_url}",
        f"workers    one per queue: {', '.join(QUEUES)}",
        f"broker     {'embedded Valkey' if is_broker_embedded else 'as configured'}",
        f"logs       {settings.logs}",
        "",
        f"Run a scenario:  {home}sendtrace simulate scenarios/demo.toml --attach",
        "Ctrl-C stops it all.",
    ]
    print("\n".join(lines), flush=True)


def _print_event(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)
