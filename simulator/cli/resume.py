"""The commands `sendtrace judge` and `sendtrace resume`, for what is on record."""

import json
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from simulator.cli.actions import ReasonOption, act_on_campaign
from simulator.cli.output import check_writable, parse_duration_option, write_output
from simulator.cli.signals import exit_immediately, set_shutdown_handler
from simulator.cli.simulate import (
    BrokerOption,
    JsonFileOption,
    choose_exit_code,
    print_result_location,
)
from tracker.commands import DatabaseOption, RunOption, exit_on_error, open_database
from tracker.errors import UsageError
from tracker.settings import load_settings
from tracker.store.schema.integers import MAX_INTEGER
from tracker.text import escape_control_characters

if TYPE_CHECKING:
    from simulator.results.result import RunResult
    from simulator.run.outcome import RunOutcome

RunArgument = Annotated[
    int, typer.Argument(metavar="RUN", min=1, max=MAX_INTEGER, help="The run's number.")
]
TargetArgument = Annotated[
    str,
    typer.Argument(metavar="CAMPAIGN|RUN", help="Name of a paused campaign, or the run's number."),
]
ResumeFileOption = Annotated[
    Path | None,
    typer.Option("--json", metavar="FILE", help="Write the result or the action as JSON."),
]
WorkersOption = Annotated[
    int | None,
    typer.Option(metavar="N", min=1, max=256, help="Worker processes. Default: as before."),
]
AttachOption = Annotated[
    bool | None,
    typer.Option("--attach/--no-attach", help="Use workers that already run. Default: as before."),
]

OutageLimitOption = Annotated[
    str | None,
    typer.Option(
        metavar="DURATION", help="Longest outage of the broker or the database. Default: as before."
    ),
]


@exit_on_error
def judge(
    run: RunArgument, database: DatabaseOption = None, json_file: JsonFileOption = None
) -> None:
    """Give the result of a run from the record, even if its driver was killed.

    The result is printed and kept as by `simulate`; it replaces an earlier one. What only the
    driver has seen, such as the depths of the queues, is "not measured" if the driver was killed.

    Exit codes: 0 passed · 1 abandoned: no recorded end, and no heartbeat of its driver for 30 s ·
    2 no such run, or one that may have a living driver · 3 an invariant is broken or a message
    differs from its prediction · 99 a threshold or an expectation is missed · 130 the run was
    interrupted.

    Examples: sendtrace judge 3 · sendtrace judge 3 --json result.json
    """
    from simulator.run.judge import judge as judge_run
    from simulator.schema import check_all_tables

    check_writable("--json", json_file)
    settings = load_settings(database_url=database)
    with open_database(database, check_all_tables) as record:
        outcome = judge_run(record, settings, run, _print_result)
    _finish(outcome, json_file)


@exit_on_error
def resume(
    target: TargetArgument,
    workers: WorkersOption = None,
    database: DatabaseOption = None,
    broker: BrokerOption = None,
    attach: AttachOption = None,
    outage_limit: OutageLimitOption = None,
    json_file: ResumeFileOption = None,
    run: RunOption = None,
    reason: ReasonOption = "",
) -> None:
    """Resume a paused campaign, or a run that was interrupted, aborted or abandoned.

    A number means a run, and a name a campaign.

    A campaign goes on within seconds: what would have been queued during the pause arrives later by
    it. The run's result isn't comparable in speed. --run and --reason belong to a campaign.

    A run queues the messages that are still scheduled; they arrive later by the pause. Every
    message ends as in a run without a pause, except where credit, a message limit or the date
    decides.
    Faults whose time had come are not injected again. The result is marked as resumed: figures of
    its speed aren't comparable, and thresholds on them are not judged. --workers, --broker,
    --attach and --outage-limit belong to a run.

    Exit codes: of a campaign, 0 resumed · 2 no such campaign, or one that isn't paused; of a run,
    as of `simulate`; 2 also for a run that is finished or running; 99 also for a threshold that is
    not judged.

    Examples: sendtrace resume diwali-email · sendtrace resume 3 --workers 4
    """
    run_id = _parse_run(target)
    options = {
        "--workers": workers,
        "--broker": broker,
        "--attach": attach,
        "--outage-limit": outage_limit,
    }
    if run_id is None:
        _reject_options(options, "a run")
        from tracker.record.actions.campaigns import resume_campaign

        act_on_campaign(resume_campaign, target, run, reason, json_file, database)
        return
    _reject_options({"--run": run, "--reason": reason or None}, "a campaign")
    _resume_run(run_id, workers, database, broker, attach, outage_limit, json_file)


def _parse_run(target: str) -> int | None:
    """Return the run that a number means, or None for a campaign's name."""
    if not target.isdecimal():
        return None
    if not 1 <= int(target) <= MAX_INTEGER:
        raise UsageError(f"RUN {target}: out of range; expected 1 to {MAX_INTEGER}")
    return int(target)


def _reject_options(options: Mapping[str, object], owner: str) -> None:
    for name, value in options.items():
        if value is not None:
            raise UsageError(f"{name} is only for {owner}")


def _resume_run(
    run_id: int,
    workers: int | None,
    database: str | None,
    broker: str | None,
    attach: bool | None,
    outage_limit: str | None,
    json_file: Path | None,
) -> None:
    set_shutdown_handler(exit_immediately)
    from simulator.run.resume import ResumeOptions
    from simulator.run.resume import resume as resume_run
    from workers.checks.base import all_checks

    check_writable("--json", json_file)
    settings = load_settings(database_url=database, broker_url=broker)
    all_checks()  # a check that can't be loaded is an error before anything is changed
    set_shutdown_handler(signal.default_int_handler)  # a run cleans up when it is interrupted
    options = ResumeOptions(
        workers=workers,
        is_attached=attach,
        outage_limit=(
            None if outage_limit is None else parse_duration_option("--outage-limit", outage_limit)
        ),
    )
    _finish(resume_run(settings, run_id, options, _print_result), json_file)


def _print_result(result: "RunResult") -> None:
    from simulator.pages.result_text import format_result

    text = format_result(result, load_settings().zone)
    print(escape_control_characters(text), flush=True)


def _finish(outcome: "RunOutcome", json_file: Path | None) -> None:
    """Print where the result is, write it to a file, and exit with its code."""
    print_result_location(outcome)
    if json_file is not None:
        write_output("--json", json_file, json.dumps(outcome.result.as_json(), indent=2) + "\n")
    code = choose_exit_code(outcome)
    if code:
        raise typer.Exit(code)
