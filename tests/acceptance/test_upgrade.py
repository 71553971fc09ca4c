"""An upgrade while a worker of the earlier version runs, on both databases.

No earlier release exists. So a later version is this one with further migrations.
"""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from simulator.stack.local import start_local_broker
from tests.support.migrations import add_migration
from tests.support.postgresql import PostgresqlServer
from tests.support.shell import Shell, StartedCommand, make_scenario, wait_until
from tracker.store.migrate import TRACKER_MIGRATIONS, Migrations
from workers.queues import QUEUES

LATER_VERSION = """
import sys
from dataclasses import replace
from pathlib import Path
from tracker.store import migrate

folder, head, command = sys.argv[1:4]
migrate.TRACKER_MIGRATIONS = replace(migrate.TRACKER_MIGRATIONS, versions=Path(folder), head=head)
if command == "worker":
    from workers.celery_worker import main
    del sys.argv[1:4]
else:
    from simulator.cli.main import main
    del sys.argv[1:3]
sys.exit(main())
"""

WORKER = (f"--queues={','.join(QUEUES)}", "--concurrency=2")

STOPPED = "taking no more tasks: error="


@pytest.fixture(params=["sqlite", "postgresql"])
def upgraded(request: pytest.FixtureRequest, make_shell: Callable[..., Shell]) -> Iterator[Shell]:
    """Return a shell with a broker, and a database without tables."""
    with start_local_broker() as broker:
        shell = make_shell(SENDTRACE_BROKER_URL=broker.url)
        shell.environment["SENDTRACE_DATABASE_URL"] = f"sqlite:///{shell.database}"
        if request.param == "sqlite":
            shell.home.mkdir()
            yield shell
            shell.clean_up()
            return
        server: PostgresqlServer = request.getfixturevalue("postgresql_server")
        name = f"upgrade_{uuid4().hex[:12]}"
        server.execute(f"CREATE DATABASE {name}")
        shell.environment["SENDTRACE_DATABASE_URL"] = server.database_url(name)
        yield shell
        shell.clean_up()
        server.execute(f"DROP DATABASE {name} WITH (FORCE)")


def later(shell: Shell, migrations: Migrations) -> tuple[str, ...]:
    """Return the program of a later version."""
    file = shell.write("later.py", LATER_VERSION)
    return (sys.executable, "-P", str(file), str(migrations.versions), migrations.head)


def start_worker(shell: Shell, name: str, program: tuple[str, ...]) -> StartedCommand:
    started = shell.start(*WORKER, f"--hostname={name}@here", program=program, label=name)
    wait_until(
        lambda: " ready" in started.stderr_text or started.process.poll() is not None, "ready"
    )
    assert started.process.poll() is None, started.stderr_text
    return started


def test_a_worker_goes_on_after_a_compatible_migration_and_stops_after_another(
    upgraded: Shell, tmp_path: Path
) -> None:
    shell, scenario = upgraded, make_scenario(email=150, sms=50, median="10ms", p99="20ms")
    simulate = ("simulate", str(shell.write("small.toml", scenario)), "--attach")
    this_worker = (sys.executable, "-P", "-m", "workers.celery_worker")
    assert shell.run("migrate").returncode == 0
    old = start_worker(shell, "old", this_worker)

    compatible = add_migration(
        TRACKER_MIGRATIONS,
        "9998",
        tmp_path / "compatible",
        "CREATE TABLE notes (id INTEGER PRIMARY KEY)",
        "ALTER TABLE messages ADD COLUMN note TEXT",
        compatible=True,
    )
    version = later(shell, compatible)
    ended = shell.run("migrate", program=version)
    assert (ended.returncode, ended.stderr) == (0, "1 migration applied\n")
    ended = shell.run(*simulate, program=version)
    assert ended.returncode == 0, ended.stderr + ended.stdout + old.stderr_text
    assert STOPPED not in old.stderr_text

    version = later(shell, add_migration(compatible, "9999", tmp_path / "last", compatible=False))
    assert shell.run("migrate", program=version).returncode == 0
    driver = shell.start(*simulate, program=version, label="driver")
    wait_until(lambda: STOPPED in old.stderr_text, "the worker stops taking tasks")
    start_worker(shell, "new", (*version, "worker"))
    assert driver.wait() == 0, driver.stderr_text
    assert old.stderr_text.count(STOPPED) == 1
    assert "tracker tables are at 9999); use that version" in old.stderr_text
    assert "Traceback" not in old.stderr_text
    assert old.process.poll() is None, "a supervisor would restart it in vain"
    again = shell.run(*WORKER, "--hostname=again@here", program=this_worker)
    assert again.returncode == 2
    [line] = again.stderr.splitlines()
    assert "was made by a newer version of sendtrace (its tracker tables are at 9999" in line
