"""The command `sendtrace simulate`."""

import json
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from simulator.cli.output import check_writable, write_output
from simulator.cli.runs import EXIT_THRESHOLD_MISSED
from simulator.cli.signals import EXIT_INTERRUPTED, exit_immediately, set_shutdown_handler
from tracker.cli import EXIT_FAILURE, EXIT_INVARIANT_VIOLATED, DatabaseOption, exit_on_error
from tracker.settings import load_settings
from tracker.text import escape_control_characters

if TYPE_CHECKING:
    from simulator.run.run import RunOutcome

DEFAULT_WORKERS = 2
DEFAULT_BATCH_SIZE = 10_000
"""Where throughput levels off; see docs/decisions.md."""


@exit_on_error
def simulate(
    scenario: Annotated[Path, typer.Argument(metavar="SCENARIO.toml", help="What to simulate.")],
    seed: Annotated[
        int | None, typer.Option(metavar="N", min=0, help="Instead of the scenario's seed.")
    ] = None,
    workers: Annotated[
        int, typer.Option(metavar="N", min=1, max=256, help="Worker processes.")
    ] = DEFAULT_WORKERS,
    batch_size: Annotated[
        int, typer.Option(metavar="N", min=1, max=100_000, help="Messages a task.")
    ] = DEFAULT_BATCH_SIZE,
    database: DatabaseOption = None,
    broker: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="The broker. Default: SENDTRACE_BROKER_URL, else a Valkey of its own.",
        ),
    ] = None,
    attach: Annotated[
        bool, typer.Option("--attach", help="Use the workers that already run on the broker.")
    ] = False,
    repeat: Annotated[
        int, typer.Option(metavar="N", min=1, max=100, help="Run it so often, for comparisons.")
    ] = 1,
    record: Annotated[
        bool, typer.Option(help="Keep the result, and sample queues and workers meanwhile.")
    ] = True,
    sweep: Annotated[
        bool, typer.Option(help="Send on batches that stand still, as a beat would.")
    ] = True,
    json_file: Annotated[
        Path | None,
        typer.Option("--json", metavar="FILE", help="Write the whole result there."),
    ] = None,
) -> None:
    """Run a scenario and check every message against its prediction.

    The result is kept in SENDTRACE_HOME/runs/ID: summary.json, timeseries.csv and report.html.
    Ctrl-C sends no more messages, finishes what is under way and keeps the partial result; a second
    one stops at once.

    Exit codes: 0 all as predicted, thresholds met · 1 something broke · 2 wrong usage or scenario ·
    3 an invariant is broken or a message did not end as predicted · 99 a threshold was not met ·
    130 interrupted.

    Examples: sendtrace simulate scenarios/demo.toml ·
    sendtrace simulate sale.toml --seed 7 --workers 4 --json result.json ·
    sendtrace simulate sale.toml --repeat 5
    """
    set_shutdown_handler(exit_immediately)
    from simulator.pages.result_text import format_result, format_spread
    from simulator.results.result import RunResult
    from simulator.run.options import RunOptions
    from simulator.run.run import RunOutcome, simulate
    from simulator.scenario.file import load_scenario
    from workers.checks.base import all_checks

    # From now on there is something to clean up.
    set_shutdown_handler(signal.default_int_handler)
    parsed = load_scenario(scenario, seed=seed)
    settings = load_settings(database_url=database, broker_url=broker)
    parsed.refuse_to_overwrite("--json", json_file)
    check_writable("--json", json_file)
    all_checks()  # one that can't be loaded would stop the workers, after much was written
    options = RunOptions(
        workers=workers,
        batch_size=batch_size,
        is_attached=attach,
        should_record=record,
        should_sweep=sweep,
    )
    outcomes: list[RunOutcome] = []
    results: list[RunResult] = []

    def tell(result: RunResult) -> None:
        results.append(result)
        print(escape_control_characters(format_result(result, settings.zone)), flush=True)

    try:
        for number in range(1, repeat + 1):
            if repeat > 1:
                print(f"{number} of {repeat}", file=sys.stderr, flush=True)
            outcome = simulate(parsed, settings, options, tell)
            outcomes.append(outcome)
            _print_result_location(outcome)
            options = replace(options, series=options.series or outcome.result.run.id)
            if outcome.result.is_partial or outcome.is_shutdown_requested:
                break
    finally:
        if json_file is not None and results:
            said = [each.as_json() for each in results]
            write_output(
                "--json", json_file, json.dumps(said if repeat > 1 else said[0], indent=2) + "\n"
            )
    if len(results) > 1:
        print(escape_control_characters(format_spread(results)), flush=True)
    code = max(map(choose_exit_code, outcomes), key=EXIT_CODES_BY_SEVERITY.index)
    if code:
        raise typer.Exit(code)


def _print_result_location(outcome: "RunOutcome") -> None:
    """Say where the result is, or why it is nowhere."""
    run = f"run {outcome.result.run.id}"
    if outcome.archive_error is not None:
        told = f"sendtrace: the result of {run} can't be kept: {outcome.archive_error}"
        print(escape_control_characters(told), file=sys.stderr, flush=True)
    elif outcome.page is not None:
        print(escape_control_characters(f"{run}: {outcome.page}"), file=sys.stderr, flush=True)


EXIT_CODES_BY_SEVERITY = (
    0,
    EXIT_THRESHOLD_MISSED,
    EXIT_INTERRUPTED,
    EXIT_FAILURE,
    EXIT_INVARIANT_VIOLATED,
)
"""Exit codes of runs that came to an end, the worst last."""


def choose_exit_code(outcome: "RunOutcome") -> int:
    """What a run means to whoever started it."""
    from simulator.results.result import RunState

    result = outcome.result
    if not result.is_proven:
        return EXIT_INVARIANT_VIOLATED
    if outcome.archive_error is not None:
        return EXIT_FAILURE
    if outcome.is_shutdown_requested or result.observations.state is RunState.INTERRUPTED:
        return EXIT_INTERRUPTED
    return 0 if result.has_passed else EXIT_THRESHOLD_MISSED
