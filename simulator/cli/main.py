"""The `sendtrace` command.

A sub-command is imported only when it is asked for, so `--version` and `--help` answer at once.
"""

import gc
import io
import sys
from pkgutil import resolve_name
from typing import Annotated, Any, NamedTuple

import typer
from typer.core import TyperGroup

from simulator.cli.signals import allow_cleanup, exit_immediately, set_shutdown_handler

GC_THRESHOLD = 25_000
"""New objects between two runs of the garbage collector. Loading a command's modules makes nearly
200,000 objects, which all stay. With the default of 700, scanning them takes a seventh of the time.
"""


class CommandEntry(NamedTuple):
    """The location of a sub-command, as MODULE:NAME, and its line in `sendtrace --help`."""

    location: str
    summary: str


COMMANDS = {
    "simulate": CommandEntry(
        "simulator.cli.simulate:simulate",
        "Run a scenario and check every message against its prediction.",
    ),
    "judge": CommandEntry(
        "simulator.cli.resume:judge", "Give the result of a run from the record."
    ),
    "pause": CommandEntry("simulator.cli.actions:pause", "Pause a campaign."),
    "cancel": CommandEntry("simulator.cli.actions:cancel", "Cancel a campaign."),
    "resume": CommandEntry(
        "simulator.cli.resume:resume",
        "Resume a paused campaign, or a run that was interrupted, aborted or abandoned.",
    ),
    "up": CommandEntry(
        "simulator.cli.stack:up", "Start broker, workers, beat, Flower and the live page."
    ),
    "serve": CommandEntry("simulator.cli.stack:serve", "Serve the live page and the JSON API."),
    "migrate": CommandEntry(
        "simulator.cli.migrate:migrate", "Bring the schema of the database up to date."
    ),
    "recover": CommandEntry("simulator.cli.stack:recover", "Re-queue stalled batches, once."),
    "report": CommandEntry("tracker.cli:report", "Print the Live Monitoring Report."),
    "trace": CommandEntry("tracker.cli:trace", "Print the timeline of one message."),
    "confirm": CommandEntry(
        "tracker.cli:confirm", "Record the outcome of a message that got no reply."
    ),
    "rollup": CommandEntry("tracker.cli:rollup", "Update the daily engagement counts."),
    "verify": CommandEntry(
        "simulator.cli.verify:verify", "Check the invariants against the recorded rows."
    ),
    "runs": CommandEntry("simulator.cli.runs:runs", "List the recorded runs, latest first."),
    "prune": CommandEntry(
        "simulator.cli.prune:prune", "Delete runs with their campaigns, customers and messages."
    ),
    "erase": CommandEntry("simulator.cli.prune:erase", "Erase the contact data of a customer."),
    "compare": CommandEntry("simulator.cli.runs:compare", "Compare two runs figure by figure."),
    "audience": CommandEntry("simulator.cli.audience:app", "Inspect files of customers."),
    "suppressions": CommandEntry(
        "simulator.cli.suppressions:app",
        "List and change the recipients that organizations suppress in all runs.",
    ),
    "checks": CommandEntry(
        "simulator.cli.checks:app", "List, explain and try the checks that block messages."
    ),
}
"""The sub-commands in the order of the help."""


# Typer bundles its own click, whose types aren't public: hence Any.
class LazyGroup(TyperGroup):
    """A group that imports a sub-command when it is looked up, and none to list them."""

    def list_commands(self, _ctx: Any) -> list[str]:
        """Return the names of all sub-commands."""
        return list(COMMANDS)

    def get_command(self, _ctx: Any, cmd_name: str) -> Any:
        """Import a sub-command, or return None for an unknown name."""
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        if not entry.location.startswith("tracker."):  # which doesn't use Celery
            from workers.celery_environment import ignore_foreign_settings

            ignore_foreign_settings()
        from tracker.system.private_files import keep_files_private

        keep_files_private()
        command = resolve_name(entry.location)
        if not isinstance(command, typer.Typer):
            command = _make_app(command, cmd_name)
        allow_cleanup()
        return typer.main.get_command(command)

    def format_commands(self, _ctx: Any, formatter: Any) -> None:
        """Write the section of the help that lists the sub-commands."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.summary) for name, entry in COMMANDS.items()])


def _make_app(function: Any, name: str) -> typer.Typer:
    command = typer.Typer(
        add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None
    )
    command.command(name)(function)
    return command


app = typer.Typer(
    cls=LazyGroup,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _print_version(is_wanted: bool) -> None:
    if is_wanted:
        from importlib.metadata import version  # reads like an email, and loads that package

        print(f"sendtrace {version('sendtrace')}")
        raise typer.Exit


def _check_all_tables(database: Any) -> None:
    from simulator.schema import check_all_tables

    check_all_tables(database)


@app.callback()
def sendtrace(
    context: typer.Context,
    _version: Annotated[
        bool,
        typer.Option("--version", help="Show the version.", callback=_print_version, is_eager=True),
    ] = False,
) -> None:
    """Simulate and track campaign messages on their way through a distributed task queue."""
    context.obj = _check_all_tables  # for tracker.cli, which knows only the tracker's tables


def main() -> None:
    """Run the command line."""
    set_shutdown_handler(exit_immediately)  # until the command is loaded, see LazyGroup
    gc.set_threshold(GC_THRESHOLD)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without Unicode shows a ? for a ✔
    if sys.argv[1:2] == ["checks"]:
        from simulator.cli.rule_process import fork_for_rules

        code = fork_for_rules()
        if code is not None:
            sys.exit(code)
    app(prog_name="sendtrace")


if __name__ == "__main__":
    main()
