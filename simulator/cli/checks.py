"""``sendtrace checks``: the commands for those who write rules."""

import csv
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import typer

from tracker.cli import exit_on_error
from tracker.errors import UsageError
from tracker.output.tables import Row, RowFormat, print_rows
from tracker.status import Reason
from workers.rules import cli as workers_cli
from workers.rules.cli import FormatOption, format_verdict, print_note

app = typer.Typer(
    help="List, explain and try the checks that block messages.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)
app.command("list")(workers_cli.list_checks)
app.command("explain")(workers_cli.explain_message)
app.command("diff")(workers_cli.diff_rules)


@app.command("try")
@exit_on_error
def try_scenario(
    scenario: Annotated[Path, typer.Option(metavar="SCENARIO.toml", help="Whom to judge.")],
    audience: Annotated[
        Path | None, typer.Option(metavar="FILE.csv", help="Instead of the scenario's customers.")
    ] = None,
    verdicts: Annotated[
        Path | None, typer.Option(metavar="FILE.csv", help="Write each customer's verdict there.")
    ] = None,
    format: FormatOption = RowFormat.TABLE,
) -> None:
    """Have all checks judge a scenario's customers, with nothing sent and nothing stored.

    Each customer is judged as they stand before the first campaign: what one campaign changes for
    the next (bounces, message limit) is not played, and no reason of the hand-over is given
    (out_of_credit, handler_not_found, timeout of a handler).

    Examples: sendtrace checks try --scenario scenarios/demo.toml ·
    sendtrace checks try --scenario sale.toml --audience customers.csv --verdicts verdicts.csv
    """
    from simulator.scenario.file import load_scenario
    from simulator.setup.dry_run import judge_customers

    parsed = load_scenario(scenario, audience=audience)
    parsed.refuse_to_overwrite("--verdicts", verdicts)
    counts: Counter[tuple[str, str]] = Counter()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sendtrace-")))
        write = _open_verdict_writer(stack, verdicts)
        for campaign, customer_id, reason in judge_customers(parsed, folder, print_note):
            verdict = format_verdict(reason)
            counts[campaign, verdict] += 1
            write(campaign, customer_id, verdict)
    order = [campaign.name for campaign in parsed.campaigns]
    rows: list[Row] = [
        {"campaign": campaign, "verdict": verdict, "customers": count}
        for (campaign, verdict), count in sorted(
            counts.items(), key=lambda each: (order.index(each[0][0]), -each[1])
        )
    ]
    print_rows(rows, ("campaign", "verdict", "customers"), format)


def _open_verdict_writer(stack: ExitStack, file: Path | None) -> Any:
    """What writes a line of the file of verdicts, if one is wanted."""
    if file is None:
        return lambda *_: None
    try:
        opened = stack.enter_context(file.open("w", encoding="utf-8", newline=""))
    except OSError as error:
        raise UsageError(f"--verdicts {file}: can't be written: {error.strerror}") from None
    writer = csv.writer(opened)
    writer.writerow(("campaign", "customer_id", "verdict"))
    return lambda *cells: writer.writerow(cells)


@app.command()
@exit_on_error
def coverage(
    scenarios: Annotated[
        list[Path], typer.Argument(metavar="SCENARIO.toml…", help="Scenarios to look at.")
    ],
    format: FormatOption = RowFormat.TABLE,
) -> None:
    """Tell which reasons scenarios reach, from their predictions: nothing is run.

    Example: sendtrace checks coverage scenarios/*.toml
    """
    from simulator.oracle.coverage import (
        LEADING_COLUMNS,
        count_predicted_reasons,
        scenarios_by_column,
    )
    from simulator.scenario.file import load_scenario

    parsed = {path: load_scenario(path) for path in scenarios}
    reached = {
        name: count_predicted_reasons(each) for name, each in scenarios_by_column(parsed).items()
    }
    rows = list(_build_coverage_rows(reached))
    print_rows(rows, (*LEADING_COLUMNS, *reached), format)
    if format is RowFormat.TABLE:
        count = sum(any(each[reason] for each in reached.values()) for reason in Reason)
        print(f"\n{count} of {len(Reason)} reasons are reached")


def _build_coverage_rows(reached: dict[str, Counter[Reason]]) -> Iterator[Row]:
    for reason in sorted(Reason, key=lambda each: (each.category, each)):
        counts = {name: each[reason] for name, each in reached.items()}
        yield {"category": reason.category.value, "reason": reason.slug, **counts}
