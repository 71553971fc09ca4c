"""The command `sendtrace simulate`."""

import json
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from simulator.cli.output import check_writable, parse_duration_option, write_output
from simulator.cli.runs import EXIT_THRESHOLD_MISSED
from simulator.cli.signals import EXIT_INTERRUPTED, exit_immediately, set_shutdown_handler
from tracker.commands import EXIT_FAILURE, EXIT_INVARIANT_VIOLATED, DatabaseOption, exit_on_error
from tracker.settings import load_settings
from tracker.text import escape_control_characters

if TYPE_CHECKING:
    from simulator.results.result import RunResult
    from simulator.run.options import RunOptions
    from simulator.run.outcome import RunOutcome
    from simulator.scenario.file import Scenario
    from tracker.settings import Settings

DEFAULT_WORKERS = 2

DEFAULT_OUTAGE_LIMIT = "30m"

DEFAULT_BATCH_SIZE = 10_000
"""Larger batches don't increase the throughput; see docs/decisions.md."""

EXIT_CODES_BY_SEVERITY = (
    0,
    EXIT_THRESHOLD_MISSED,
    EXIT_INTERRUPTED,
    EXIT_FAILURE,
    EXIT_INVARIANT_VIOLATED,
)
"""Exit codes of finished runs, the most severe last."""

ScenarioArgument = Annotated[
    Path, typer.Argument(metavar="SCENARIO.toml", help="The scenario to run.")
]
SeedOption = Annotated[
    int | None, typer.Option(metavar="N", min=0, help="Seed. Default: the scenario's.")
]
WorkersOption = Annotated[int, typer.Option(metavar="N", min=1, max=256, help="Worker processes.")]
BatchSizeOption = Annotated[
    int, typer.Option(metavar="N", min=1, max=100_000, help="Maximum number of messages in a task.")
]
BrokerOption = Annotated[
    str | None,
    typer.Option(
        metavar="URL", help="The broker. Default: SENDTRACE_BROKER_URL, else an embedded Valkey."
    ),
]
AttachOption = Annotated[
    bool, typer.Option("--attach", help="Use workers that already run on the broker.")
]
OutageLimitOption = Annotated[
    str,
    typer.Option(
        "--outage-limit",
        metavar="DURATION",
        help="Longest outage of the broker or the database. A longer one interrupts the run.",
    ),
]
RepeatOption = Annotated[
    int, typer.Option(metavar="N", min=1, max=100, help="Number of runs, to measure noise.")
]
RecordOption = Annotated[bool, typer.Option(help="Keep the result, and sample queues and workers.")]
SweepOption = Annotated[
    bool,
    typer.Option(
        help="Re-queue stalled batches, as Celery's beat does. Without it and"
        " without a beat, messages that a rule deferred by more than a minute aren't judged again."
    ),
]
JsonFileOption = Annotated[
    Path | None, typer.Option("--json", metavar="FILE", help="Write the result as JSON to a file.")
]


@exit_on_error
def simulate(
    scenario: ScenarioArgument,
    seed: SeedOption = None,
    workers: WorkersOption = DEFAULT_WORKERS,
    batch_size: BatchSizeOption = DEFAULT_BATCH_SIZE,
    database: DatabaseOption = None,
    broker: BrokerOption = None,
    attach: AttachOption = False,
    repeat: RepeatOption = 1,
    record: RecordOption = True,
    sweep: SweepOption = True,
    outage_limit: OutageLimitOption = DEFAULT_OUTAGE_LIMIT,
    json_file: JsonFileOption = None,
) -> None:
    """Run a scenario and check every message against its prediction.

    The result is kept in SENDTRACE_HOME/runs/ID: summary.json, timeseries.csv and report.html.
    Ctrl-C or SIGTERM queues no more messages, sends those in progress and keeps the partial
    result; a second one stops at once.

    Exit codes: 0 all messages match the prediction, thresholds met · 1 something broke · 2 wrong
    usage or scenario · 3 an invariant is broken or a message differs from its prediction ·
    99 a threshold or an expectation is missed · 130 interrupted.

    Examples: sendtrace simulate scenarios/demo.toml ·
    sendtrace simulate sale.toml --seed 7 --workers 4 --json result.json ·
    sendtrace simulate sale.toml --repeat 5
    """
    set_shutdown_handler(exit_immediately)
    from simulator.run.options import RunOptions
    from simulator.scenario.file import load_scenario
    from workers.checks.base import all_checks

    parsed = load_scenario(scenario, seed=seed)
    settings = load_settings(database_url=database, broker_url=broker)
    parsed.refuse_to_overwrite("--json", json_file)
    check_writable("--json", json_file)
    all_checks()  # a check that can't be loaded is an error before a run begins
    options = RunOptions(
        workers=workers,
        batch_size=batch_size,
        is_attached=attach,
        should_record=record,
        should_sweep=sweep,
        outage_limit=parse_duration_option("--outage-limit", outage_limit),
    )
    outcomes = _run_repeatedly(parsed, settings, options, repeat, json_file)
    code = max(map(choose_exit_code, outcomes), key=EXIT_CODES_BY_SEVERITY.index)
    if code:
        raise typer.Exit(code)


def _run_repeatedly(
    scenario: "Scenario",
    settings: "Settings",
    options: "RunOptions",
    repeat: int,
    json_file: Path | None,
) -> "list[RunOutcome]":
    """Run a scenario several times, until a run is interrupted or aborted; print the results."""
    from simulator.run.run import simulate as run_scenario

    set_shutdown_handler(signal.default_int_handler)  # a run cleans up when it is interrupted
    outcomes: list[RunOutcome] = []
    results: list[RunResult] = []

    def print_result(result: "RunResult") -> None:
        from simulator.pages.result_text import format_result  # loaded after the worker's start

        results.append(result)
        print(escape_control_characters(format_result(result, settings.zone)), flush=True)

    try:
        for number in range(1, repeat + 1):
            if repeat > 1:
                print(f"run {number} of {repeat}", file=sys.stderr, flush=True)
            outcome = run_scenario(scenario, settings, options, print_result)
            outcomes.append(outcome)
            print_result_location(outcome)
            options = replace(options, series=options.series or outcome.result.run.id)
            if outcome.result.observations.is_partial or outcome.is_shutdown_requested:
                break
    finally:
        if json_file is not None and results:
            summaries = [result.as_json() for result in results]
            content = summaries if repeat > 1 else summaries[0]
            write_output("--json", json_file, json.dumps(content, indent=2) + "\n")
    if len(results) > 1:
        from simulator.pages.result_text import format_spread

        print(escape_control_characters(format_spread(results)), flush=True)
    return outcomes


def print_result_location(outcome: "RunOutcome") -> None:
    """Print the path of the result's page, or why it is missing."""
    run = f"run {outcome.result.run.id}"
    if outcome.archive_error is not None:
        message = f"sendtrace: the result of {run} can't be kept: {outcome.archive_error}"
        print(escape_control_characters(message), file=sys.stderr, flush=True)
    elif outcome.page is not None:
        print(escape_control_characters(f"{run}: {outcome.page}"), file=sys.stderr, flush=True)


def choose_exit_code(outcome: "RunOutcome") -> int:
    """Return the exit code of a run that came to an end."""
    from simulator.results.observations import RunState

    result = outcome.result
    if not result.is_proven:
        return EXIT_INVARIANT_VIOLATED
    if outcome.archive_error is not None:
        return EXIT_FAILURE
    if result.observations.state is RunState.ABANDONED:
        return EXIT_FAILURE
    if outcome.is_shutdown_requested or result.observations.state is RunState.INTERRUPTED:
        return EXIT_INTERRUPTED
    return 0 if result.has_passed else EXIT_THRESHOLD_MISSED
