"""The local stack of a run: its broker, and the connections that faults can disturb."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from simulator.faults.proxy import SocketProxy, Upstream
from simulator.scenario.faults import FaultKind
from simulator.scenario.file import Scenario
from simulator.stack.local import LocalBroker, start_local_broker
from tracker.settings import Settings

POSTGRESQL_PORT = 5432
"""PostgreSQL's default port, which is also part of the name of its socket."""


@dataclass(frozen=True, kw_only=True)
class LocalStack:
    """An embedded broker, proxies, and the addresses by which driver and worker go through them.

    Attributes:
        database_proxy: carries all connections to the database; None unless a fault pauses it.
        worker_proxies: carry the worker's connections; empty unless a fault partitions it.
    """

    broker: LocalBroker
    database_proxy: SocketProxy | None
    worker_proxies: Sequence[SocketProxy]
    driver_settings: Settings
    worker_broker: str
    worker_database: str


@contextmanager
def start_local_stack(scenario: Scenario, settings: Settings) -> Iterator[LocalStack]:
    """Run a broker and the proxies that a scenario's faults need for the duration of the block."""
    kinds = {fault.kind for fault in scenario.faults}
    database_url = settings.resolved_database_url
    database_proxy: SocketProxy | None = None
    worker_proxies: list[SocketProxy] = []
    with ExitStack() as stack:
        broker = stack.enter_context(start_local_broker())
        worker_broker = broker.url
        if FaultKind.PAUSE in kinds:
            folder = broker.folder / "everybody"
            database_proxy = make_database_proxy(database_url, folder)
            stack.enter_context(database_proxy.running())
            database_url = redirect_database(database_url, folder)
        worker_database = database_url
        if FaultKind.PARTITION in kinds:
            socket = broker.folder / "workers.sock"
            worker_proxies.append(SocketProxy(socket, Upstream(path=broker.socket)))
            worker_broker = f"redis+socket://{socket}"
            if is_postgresql(settings):
                folder = broker.folder / "workers"
                worker_proxies.append(make_database_proxy(database_url, folder))
                worker_database = redirect_database(database_url, folder)
        for proxy in worker_proxies:
            stack.enter_context(proxy.running())
        yield LocalStack(
            broker=broker,
            database_proxy=database_proxy,
            worker_proxies=worker_proxies,
            driver_settings=settings.model_copy(update={"database_url": database_url}),
            worker_broker=worker_broker,
            worker_database=worker_database,
        )


def is_postgresql(settings: Settings) -> bool:
    """Return whether the configured database is PostgreSQL."""
    return sa.make_url(settings.resolved_database_url).get_backend_name() == "postgresql"


def make_database_proxy(url: str, folder: Path) -> SocketProxy:
    """Make a proxy to a PostgreSQL server, on a socket in a folder of its own."""
    folder.mkdir(mode=0o700)
    return SocketProxy(folder / _socket_name(POSTGRESQL_PORT), _parse_upstream(url))


def redirect_database(url: str, folder: Path) -> str:
    """Return the URL of the same database through the proxy whose socket is in a folder."""
    proxied = sa.make_url(url).set(host=None, port=POSTGRESQL_PORT, query={"host": str(folder)})
    return proxied.render_as_string(hide_password=False)


def _parse_upstream(url: str) -> Upstream:
    parsed = sa.make_url(url)
    host = str(parsed.query.get("host") or parsed.host or "localhost")
    port = parsed.port or POSTGRESQL_PORT
    if host.startswith("/"):
        return Upstream(path=Path(host) / _socket_name(port))
    return Upstream(host=host, port=port)


def _socket_name(port: int) -> str:
    return f".s.PGSQL.{port}"
