"""The command `sendtrace migrate`."""

import sys
from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from tracker.commands import DatabaseOption, FormatOption, exit_on_error
from tracker.output.tables import Row, RowFormat, print_rows
from tracker.settings import load_settings
from tracker.text import pluralize

if TYPE_CHECKING:
    from tracker.store.migrate import Migration

COLUMNS = ("layer", "revision", "compatible")


@exit_on_error
def migrate(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List the migrations, and change nothing.")
    ] = False,
    format: FormatOption = RowFormat.TABLE,
    database: DatabaseOption = None,
) -> None:
    """Bring the schema of the database up to date, and list the migrations that were applied.

    No other command changes a schema; the first one that uses an empty database creates it. Workers
    of the previous version go on after compatible migrations. After others they stop taking tasks.

    Examples: sendtrace migrate --dry-run · sendtrace migrate ·
    sendtrace migrate --database postgresql://sendtrace@localhost/sendtrace
    """
    from simulator.schema import ALL_MIGRATIONS
    from tracker.store.database import check_reachable, connect
    from tracker.store.migrate import find_pending
    from tracker.store.migrate import migrate as apply_migrations

    settings = load_settings(database_url=database)
    if not dry_run and settings.database_url is None:
        settings.prepare_home()
    with closing(connect(settings.resolved_database_url, must_exist=dry_run)) as opened:
        check_reachable(opened)
        with opened.readable_errors():
            run = find_pending if dry_run else apply_migrations
            migrations = run(opened, *ALL_MIGRATIONS)
    if migrations or format is not RowFormat.TABLE:
        print_rows([_make_row(migration, format) for migration in migrations], COLUMNS, format)
    count = pluralize(len(migrations), "migration")
    summary = f"{count} {'to apply' if dry_run else 'applied'}"
    print(summary if migrations else "the schema is current", file=sys.stderr)
    # Tables that are created have no workers of an earlier version.
    created = {change.layer for change in migrations if change.revision.endswith("_initial")}
    if any(not change.is_compatible and change.layer not in created for change in migrations):
        print("workers of the earlier version take no more tasks; restart them", file=sys.stderr)


def _make_row(migration: "Migration", format: RowFormat) -> Row:
    mark = "yes" if migration.is_compatible else "no"
    return {
        "layer": migration.layer,
        "revision": migration.revision,
        "compatible": migration.is_compatible if format is RowFormat.JSON else mark,
    }
