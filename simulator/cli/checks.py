"""The command group `sendtrace checks`, for rule developers."""

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated

import typer

from tracker.commands import EXIT_FAILURE, FormatOption, exit_on_error, make_group
from tracker.csv_cells import CsvWriter
from tracker.errors import UsageError
from tracker.output.tables import Row, RowFormat, print_rows
from tracker.status import Reason
from tracker.system.private_files import open_requested_file
from workers.checks.base import third_party_checks
from workers.rules import cli as workers_cli
from workers.rules.as_of import Verdict
from workers.rules.cli import parse_time_option, print_note

app = make_group("List, explain and try the checks that block messages.")
app.command("list")(workers_cli.list_checks)
app.command("explain")(workers_cli.explain_message)
app.command("diff")(workers_cli.diff_rules)


ScenarioOption = Annotated[
    Path, typer.Option(metavar="SCENARIO.toml", help="The scenario whose customers are judged.")
]
AudienceOption = Annotated[
    Path | None,
    typer.Option(metavar="FILE.csv", help="Customers to judge instead of the scenario's."),
]
VerdictsOption = Annotated[
    Path | None,
    typer.Option(metavar="FILE.csv", help="Write the verdict on each customer to this file."),
]
StartOption = Annotated[
    str | None,
    typer.Option(
        metavar="TIME",
        help="When the run's clock starts, such as 2026-11-30T17:24, in the time zone of the"
        " settings unless it names another one. Default: start of [clock] in the scenario, else"
        " now.",
    ),
]
FailOnErrorOption = Annotated[
    bool, typer.Option("--fail-on-error", help="Exit with 1 if a check fails on a message.")
]


@app.command("try")
@exit_on_error
def try_scenario(
    scenario: ScenarioOption,
    audience: AudienceOption = None,
    verdicts: VerdictsOption = None,
    at: StartOption = None,
    fail_on_error: FailOnErrorOption = False,
    format: FormatOption = RowFormat.TABLE,
) -> None:
    """Judge a scenario's customers with all checks.

    Nothing is sent or stored. Each message is judged at its arrival, with the limits of time and
    memory of a worker. All customers are as they are before the first campaign. Bounces and message
    limits from one campaign to the next are not simulated. Reasons that only the step dispatch
    gives are left out: out_of_credit, handler_not_found and the timeout of a handler.

    Exit codes: 0 judged · 1 a check failed (with --fail-on-error), exceeded the time limit of a
    step or ended its process · 2 wrong input.

    Examples: sendtrace checks try --scenario scenarios/demo.toml ·
    sendtrace checks try --scenario sale.toml --audience customers.csv --at 2026-12-24T18:00
    """
    from simulator.scenario.file import load_scenario
    from simulator.setup.dry_run import DryRun

    starts_at = None if at is None else parse_time_option(at)
    parsed = load_scenario(scenario, audience=audience)
    parsed.require_rules()
    parsed.refuse_to_overwrite("--verdicts", verdicts)
    counts: Counter[tuple[str, str]] = Counter()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sendtrace-")))
        write_verdict = stack.enter_context(_open_verdict_writer(verdicts))
        dry_run = DryRun(parsed, folder, print_note, starts_at)
        for campaign, customer_id, judged in dry_run.judge_customers():
            verdict = str(judged)
            counts[campaign, verdict] += 1
            write_verdict(campaign, customer_id, verdict)
    order = [campaign.name for campaign in parsed.campaigns]
    rows: list[Row] = [
        {"campaign": campaign, "verdict": verdict, "customers": count}
        for (campaign, verdict), count in sorted(
            counts.items(), key=lambda item: (order.index(item[0][0]), -item[1])
        )
    ]
    print_rows(rows, ("campaign", "verdict", "customers"), format)
    for line in dry_run.check_errors.format_lines():
        print_note(line)
    if fail_on_error and dry_run.check_errors.errors:
        raise typer.Exit(EXIT_FAILURE)


@contextmanager
def _open_verdict_writer(file: Path | None) -> Iterator[Callable[[str, str, str], None]]:
    """Yield a function that writes a line (campaign, customer id, verdict), if there is a file."""
    if file is None:
        yield lambda *_: None
        return
    try:
        stream = open_requested_file(file)
    except OSError as error:
        raise UsageError(f"--verdicts {file}: can't write: {error.strerror}") from None
    with stream:
        writer = CsvWriter(stream)
        writer.write_row(("campaign", "customer_id", "verdict"))

        def write_verdict(campaign: str, customer_id: str, verdict: str) -> None:
            writer.write_row((campaign, customer_id, verdict))

        yield write_verdict


@app.command()
@exit_on_error
def coverage(
    scenarios: Annotated[
        list[Path], typer.Argument(metavar="SCENARIO.toml…", help="The scenarios.")
    ],
    format: FormatOption = RowFormat.TABLE,
) -> None:
    """Count the reasons that scenarios reach.

    The counts are those of the predictions; nothing is run. What rules of other packages block is
    not predicted, and messages that they would block may be counted for another reason.

    Examples: sendtrace checks coverage scenarios/*.toml ·
    sendtrace checks coverage sale.toml --format csv
    """
    from simulator.oracle.coverage import (
        LEADING_COLUMNS,
        count_predicted_reasons,
        scenarios_by_column,
    )
    from simulator.scenario.file import load_scenario

    parsed = {path: load_scenario(path) for path in scenarios}
    reached = {
        name: count_predicted_reasons(named) for name, named in scenarios_by_column(parsed).items()
    }
    rows = [*_build_coverage_rows(reached), *_build_foreign_rows(reached)]
    print_rows(rows, (*LEADING_COLUMNS, *reached), format)
    if format is RowFormat.TABLE:
        count = sum(any(counts[reason] for counts in reached.values()) for reason in Reason)
        print(f"\n{count} of {len(Reason)} reasons are reached")
    foreign = third_party_checks()
    if foreign:
        names = ", ".join(check.name for check in foreign)
        print_note(f"not predicted: what rules of other packages block ({names})")


def _build_coverage_rows(reached: dict[str, Counter[Reason]]) -> Iterator[Row]:
    for reason in sorted(Reason, key=lambda reason: (reason.category, reason)):
        row: dict[str, object] = {"category": reason.category.value, "reason": reason.slug}
        row.update((name, counts[reason]) for name, counts in reached.items())
        yield row


def _build_foreign_rows(reached: dict[str, Counter[Reason]]) -> Iterator[Row]:
    """Yield a row for each rule of another package; how often it blocks isn't predicted."""
    for check in third_party_checks():
        row: dict[str, object] = {
            "category": check.reason.category.value,
            "reason": str(Verdict(check.reason, check.name)),
        }
        row.update((name, "not predicted") for name in reached)
        yield row
