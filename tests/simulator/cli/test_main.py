"""The command line: what it imports, and what its help says."""

import os
import subprocess
import sys

import pytest
import typer

from simulator.cli.main import COMMANDS, LazyGroup, app
from tests.support.factory import make_busy_batch
from tracker.store.database import Database

LIST_IMPORTS = """
import sys
from simulator.cli.main import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
print(*sorted({name.partition(".")[0] for name in sys.modules}), file=sys.stderr)
"""


def imported_by(*arguments: str, environment: dict[str, str] | None = None) -> set[str]:
    """Return the top-level packages that a successful command has imported."""
    process = subprocess.run(
        [sys.executable, "-c", LIST_IMPORTS, *arguments],
        env=os.environ | (environment or {}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    return set(process.stderr.split())


@pytest.mark.parametrize("option", ["--version", "--help"])
def test_version_and_help_import_no_command(option: str) -> None:
    assert not imported_by(option) & {
        "alembic", "celery", "numpy", "pydantic", "rich", "sqlalchemy", "tracker", "workers"
    }  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_imports_no_engine(command: str) -> None:
    unneeded = {"alembic", "celery", "fastapi", "vl_convert"}
    if command != "checks":  # its help lists the steps and reasons
        unneeded |= {"numpy", "sqlalchemy"}
    assert not imported_by(command, "--help") & unneeded


def test_report_imports_only_what_it_needs(database: Database) -> None:
    make_busy_batch(database)
    url = database.engine.url.render_as_string(hide_password=False)
    imported = imported_by("report", environment={"SENDTRACE_DATABASE_URL": url})
    assert "sqlalchemy" in imported
    unneeded = {"alembic", "celery", "fastapi", "jinja2", "phonenumbers", "rich", "workers"}
    if not database.is_postgresql:
        unneeded |= {"numpy", "psycopg"}
    assert not imported & unneeded


@pytest.mark.parametrize("name", COMMANDS)
def test_help_lists_each_command_with_the_first_line_of_its_own_help(name: str) -> None:
    group = typer.main.get_command(app)
    assert isinstance(group, LazyGroup)
    command = group.get_command(None, name)
    assert command.help.startswith(COMMANDS[name].summary.removesuffix("."))
