"""Delete runs with all that belongs to them."""

from collections.abc import Iterator, Sequence

from simulator.retention.files import find_run_files
from simulator.retention.selection import SIMULATOR_TABLES, can_prune
from tracker.record.retention.runs import delete_rows, hide_run, list_hidden_runs
from tracker.settings import Settings
from tracker.store.database import Database


def prune_runs(database: Database, settings: Settings, run_ids: Sequence[int]) -> Iterator[int]:
    """Delete runs that have no driver; yield the number of rows of each transaction.

    It may end after any of them: the record is consistent, and the next call goes on with the runs
    whose deletion has begun, before it begins with others.
    """
    with database.read() as connection:
        hidden = list_hidden_runs(connection)
    for run_id in hidden:
        yield from _delete_hidden_run(database, settings, run_id)
    for run_id in run_ids:
        with database.read() as connection:
            condition = can_prune(connection)
        if hide_run(database, run_id, condition):  # False if it was resumed or deleted meanwhile
            yield from _delete_hidden_run(database, settings, run_id)


def _delete_hidden_run(database: Database, settings: Settings, run_id: int) -> Iterator[int]:
    with database.read() as connection:  # while the record still has their names
        files = find_run_files(connection, settings, run_id)
    files.delete()
    yield from delete_rows(database, run_id, SIMULATOR_TABLES)
