"""`sendtrace migrate`, and the commands that only read."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from simulator.cli.main import app
from simulator.schema import ALL_MIGRATIONS
from tests.support.factory import make_busy_batch
from tests.support.migrations import add_migration, list_scripts
from tracker.settings import Settings
from tracker.store.database import Database
from tracker.store.migrate import TRACKER_MIGRATIONS, migrate

EVERY_MIGRATION = [
    {"layer": migrations.layer, "revision": script.revision, "compatible": script.module.compatible}
    for migrations in ALL_MIGRATIONS
    for script in list_scripts(migrations)
]


def run(url: str, *arguments: str) -> tuple[int, str, str]:
    ended = CliRunner().invoke(app, [*arguments, "--database", url])
    return ended.exit_code, ended.stdout, ended.stderr


def test_migrations_are_listed_before_they_are_applied_and_only_once(tmp_path: Path) -> None:
    file = tmp_path / "new.db"
    file.touch()
    as_json = ("migrate", "--format", "json")
    code, planned, summary = run(f"sqlite:///{file}", *as_json, "--dry-run")
    count = len(EVERY_MIGRATION)
    assert (code, json.loads(planned), summary) == (
        0,
        EVERY_MIGRATION,
        f"{count} migrations to apply\n",
    )
    assert run(f"sqlite:///{file}", *as_json) == (0, planned, f"{count} migrations applied\n")
    assert run(f"sqlite:///{file}", *as_json) == (0, "[]\n", "the schema is current\n")
    assert run(f"sqlite:///{file}", "migrate") == (0, "", "the schema is current\n")


def test_a_dry_run_creates_no_database(tmp_path: Path) -> None:
    code, _, error = run(f"sqlite:///{tmp_path / 'new.db'}", "migrate", "--dry-run")
    assert (code, "new.db does not exist" in error) == (2, True)
    assert list(tmp_path.iterdir()) == []


def test_the_default_database_is_created(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SENDTRACE_HOME", str(tmp_path / "home"))
    assert CliRunner().invoke(app, ["migrate"]).exit_code == 0
    assert (
        CliRunner().invoke(app, ["report"]).stderr.startswith("sendtrace: nothing is recorded yet")
    )


def test_an_incompatible_migration_asks_for_other_workers(
    database: Database, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = add_migration(TRACKER_MIGRATIONS, "9999", tmp_path / "versions", compatible=False)
    monkeypatch.setattr("simulator.schema.ALL_MIGRATIONS", (later,))
    code, table, summary = run(settings.resolved_database_url, "migrate")
    assert (code, table.split()) == (
        0,
        ["layer", "revision", "compatible", "tracker", "9999", "no"],
    )
    assert summary.splitlines() == [
        "1 migration applied",
        "workers of the earlier version take no more tasks; restart them",
    ]


READING_COMMANDS = [
    "report",
    "report --days",
    "trace spring 0",
    "verify",
    "runs",
    "compare 1 1",
    "suppressions list",
    "suppressions export",
    "checks explain --campaign spring --message 0",
    "checks diff --campaign spring",
]


def read_only_url(settings: Settings) -> str:
    url = sa.make_url(settings.resolved_database_url)
    if url.get_backend_name() == "sqlite":
        return f"sqlite:///file:{url.database}?mode=ro&uri=true"
    options = {"options": "-c default_transaction_read_only=on"}
    return url.update_query_dict(options).render_as_string(hide_password=False)


def digest_file(settings: Settings) -> str | None:
    file = settings.home / "sendtrace.db"
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.exists() else None


def test_a_reading_command_works_on_a_read_only_database_and_writes_nothing(
    database: Database, settings: Settings
) -> None:
    make_busy_batch(database)
    add = ("suppressions", "add", "--organization", "Acme", "ana@example.com")
    assert run(settings.resolved_database_url, *add)[0] == 0
    if not database.is_postgresql:
        with database.engine.connect() as connection:
            driver: Any = connection.connection.driver_connection
            driver.execute("PRAGMA journal_mode = DELETE")  # as in a copy by VACUUM INTO
    database.close()
    before = digest_file(settings)
    for command in READING_COMMANDS:
        arguments = command.split()
        expected, _, messages = run(settings.resolved_database_url, *arguments)
        ended, _, errors = run(read_only_url(settings), *arguments)
        assert (ended, errors) == (expected, messages), command
        assert ended == 0 or command.startswith(("verify", "compare")), errors
    assert digest_file(settings) == before


def test_a_reading_command_refuses_a_newer_schema(
    database: Database, settings: Settings, tmp_path: Path
) -> None:
    migrate(database, add_migration(TRACKER_MIGRATIONS, "9999", tmp_path / "new", compatible=True))
    for command in READING_COMMANDS:
        ended, output, errors = run(read_only_url(settings), *command.split())
        assert (ended, output) == (2, ""), command
        assert "made by a newer version of sendtrace (its tracker tables are at 9999" in errors
