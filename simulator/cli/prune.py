"""The commands `sendtrace prune` and `sendtrace erase`."""

import json
import sys
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from simulator.progress_lines import ProgressLines
from tracker.clock import parse_age, to_datetime
from tracker.commands import (
    DatabaseOption,
    TableOrJson,
    TableOrJsonOption,
    exit_on_error,
    open_database,
)
from tracker.errors import UsageError
from tracker.output.tables import RowFormat, print_rows
from tracker.settings import load_settings, to_local_time
from tracker.text import format_bytes, pluralize

if TYPE_CHECKING:
    from simulator.retention.selection import PrunePlan, RunSelection

COLUMNS = ("run", "ended", "scenario", "state", "rows", "database", "files")

RunsOption = Annotated[
    list[int] | None,
    typer.Option("--run", metavar="N", min=1, help="Number of a run; may be repeated."),
]
OlderThanOption = Annotated[
    str | None,
    typer.Option(metavar="AGE", help="Runs that ended longer ago, such as 30d, 12h or 90m."),
]
KeepOption = Annotated[
    int | None, typer.Option(metavar="N", min=0, help="All runs but the latest N.")
]
YesOption = Annotated[bool, typer.Option("--yes", help="Delete. Default: only say what would go.")]


@exit_on_error
def prune(
    older_than: OlderThanOption = None,
    run: RunsOption = None,
    keep: KeepOption = None,
    yes: YesOption = False,
    format: TableOrJsonOption = TableOrJson.TABLE,
    database: DatabaseOption = None,
) -> None:
    """Delete runs with their campaigns, customers and messages.

    Their results, folders and logs go, too. Without --yes nothing is deleted: it says what would
    go, and how many bytes. A run that may have a driver is never deleted. Suppression lists,
    metrics and the action log stay. Rows go in short transactions, so running campaigns go on. If
    it is interrupted, the record is consistent, and the next prune goes on.

    Exit codes: 0 done, or nothing to do · 2 wrong usage, or an unknown run · 130 interrupted.

    Examples: sendtrace prune --older-than 30d · sendtrace prune --older-than 30d --yes ·
    sendtrace prune --run 3 --run 4 --yes · sendtrace prune --keep 10
    """
    from simulator.retention.prune import prune_runs
    from simulator.retention.selection import plan_prune
    from simulator.schema import check_all_tables

    selection = _parse_selection(older_than, run, keep)
    settings = load_settings(database_url=database)
    with open_database(database, check_all_tables) as record:
        plan = plan_prune(record, settings, selection)
        if format is TableOrJson.TABLE:
            _print_plan(plan)
        if yes:
            lines = ProgressLines(partial(print, file=sys.stderr, flush=True))
            count_rows = lines.counter("rows deleted")
            for rows in prune_runs(record, settings, [chosen.id for chosen in plan.runs]):
                count_rows(rows)
            released = sum(record.release_space())
        if format is TableOrJson.JSON:
            print(json.dumps(_describe_plan(plan, is_deleted=yes), indent=2))
        elif not yes:
            print("Nothing was deleted; --yes deletes." if plan.runs or plan.hidden else "")
        elif record.is_postgresql:
            print("Deleted. PostgreSQL uses the space again; the disk doesn't get it back.")
        else:
            print(f"Deleted; the disk got {format_bytes(released)} of the database back.")


@exit_on_error
def erase(
    customer: Annotated[str, typer.Option(metavar="ID", help="The customer's id.")],
    organization: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Name of the organization. Default: the only one."),
    ] = None,
    database: DatabaseOption = None,
) -> None:
    """Erase the contact data of a customer.

    Addresses, mobile numbers and other data of the customer are removed from the database, from
    rejected rows, results and logs, in all runs. The customer's id, messages and all counts stay.
    Suppression lists keep a hash of each address, with a key in SENDTRACE_HOME: keep the file
    erasure.key. So the address stays suppressed in later runs. Erase while nothing runs.

    Exit codes: 0 erased · 2 no such customer, or a run is running.

    Examples: sendtrace erase --customer c4711 ·
    sendtrace erase --customer c4711 --organization "Acme Retail"
    """
    from simulator.retention.erase import erase_customer
    from simulator.schema import check_all_tables

    settings = load_settings(database_url=database)
    with open_database(database, check_all_tables) as record:
        erasure = erase_customer(record, settings, customer, organization)
    print(
        f"erased in {pluralize(erasure.audiences, 'audience')},"
        f" {pluralize(erasure.rows, 'other row')} and {pluralize(erasure.files, 'file')}"
    )


def _parse_selection(
    older_than: str | None, numbers: Sequence[int] | None, keep: int | None
) -> "RunSelection":
    from simulator.retention.selection import RunSelection

    if sum(map(bool, (older_than is not None, numbers, keep is not None))) != 1:
        raise UsageError("expected one of --older-than, --run and --keep")
    if older_than is None:
        return RunSelection(numbers=numbers or None, keep=keep)
    try:
        return RunSelection(older_than=parse_age(older_than))
    except ValueError as error:
        raise UsageError(f"--older-than: {error}") from None


def _print_plan(plan: "PrunePlan") -> None:
    if plan.runs:
        rows: list[dict[str, object]] = [
            {
                "run": run.id,
                "ended": f"{to_local_time(run.ended_at):%Y-%m-%d %H:%M}",
                "scenario": run.scenario,
                "state": run.state.value,
                "rows": run.rows,
                "database": format_bytes(run.database_bytes),
                "files": format_bytes(run.files.size),
            }
            for run in plan.runs
        ]
        print_rows(rows, COLUMNS, RowFormat.TABLE)
    total = sum(run.database_bytes for run in plan.runs)
    files = sum(run.files.size for run in plan.runs)
    print(
        f"{pluralize(len(plan.runs), 'run')}: about {format_bytes(total)} of the database,"
        f" {format_bytes(files)} of files"
    )
    for run_id in plan.hidden:
        print(f"run {run_id}: its deletion was interrupted, and goes on")
    for run_id, state in plan.left.items():
        print(f"run {run_id} stays: it is {state}")


def _describe_plan(plan: "PrunePlan", *, is_deleted: bool) -> dict[str, Any]:
    """Return the plan as other programs read it; the keys are a contract."""
    return {
        "deleted": is_deleted,
        "runs": [
            {
                "run": run.id,
                "ended": to_datetime(run.ended_at).isoformat(),
                "scenario": run.scenario,
                "state": run.state.value,
                "rows": run.rows,
                "database_bytes": run.database_bytes,
                "file_bytes": run.files.size,
            }
            for run in plan.runs
        ],
        "interrupted": [*plan.hidden],
        "left": [{"run": run_id, "state": state.value} for run_id, state in plan.left.items()],
    }
