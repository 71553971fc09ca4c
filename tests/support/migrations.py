"""Earlier and later versions of the migrations, as other releases of sendtrace would have them."""

import shutil
from dataclasses import replace
from pathlib import Path
from textwrap import indent

from alembic import command
from alembic.config import Config
from alembic.script import Script, ScriptDirectory

from tracker.store.database import Database
from tracker.store.migrate import SCRIPT_FOLDER, Migrations


def make_config(migrations: Migrations) -> Config:
    """Return alembic's configuration for the migrations of a layer."""
    config = Config()
    config.set_main_option("script_location", str(SCRIPT_FOLDER))
    config.set_main_option("version_locations", str(migrations.versions))
    config.set_main_option("path_separator", "newline")
    return config


def list_scripts(migrations: Migrations) -> list[Script]:
    """Return the migrations of a layer, the first one first."""
    scripts = ScriptDirectory.from_config(make_config(migrations))
    return [*reversed([*scripts.walk_revisions()])]


def upgrade_to(database: Database, migrations: Migrations, revision: str) -> None:
    """Bring the tables of a layer to a revision of an earlier version."""
    config = make_config(migrations)
    with database.write() as connection:
        config.attributes.update(connection=connection, version_table=migrations.version_table)
        command.upgrade(config, revision)


def add_migration(
    migrations: Migrations, revision: str, folder: Path, *statements: str, compatible: bool
) -> Migrations:
    """Return the migrations of a later version, with one more that executes statements.

    Args:
        folder: a new folder for their files.
    """
    shutil.copytree(migrations.versions, folder)
    body = "\n".join(f"op.execute({statement!r})" for statement in statements) or "pass"
    (folder / f"{revision}.py").write_text(
        f"from alembic import op\n"
        f"revision = {revision!r}\ndown_revision = {migrations.head!r}\n"
        f"compatible = {compatible}\n"
        f"def upgrade():\n{indent(body, '    ')}\n"
    )
    return replace(migrations, versions=folder, head=revision)
