"""What all commands share: options, exit codes, readable errors, and the opened database."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from enum import StrEnum
from functools import wraps
from typing import TYPE_CHECKING, Annotated, ParamSpec, TypeVar

import typer

from tracker.errors import SendtraceError, UnreadableRecord, UsageError
from tracker.output.tables import RowFormat
from tracker.text import escape_control_characters

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from tracker.record.catalog import Campaign
    from tracker.store.database import Database

EXIT_FAILURE = 1
EXIT_INVARIANT_VIOLATED = 3
EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141
"""The shell's convention for a command whose reader has ended: 128 + SIGPIPE."""

P = ParamSpec("P")
R = TypeVar("R")

CampaignArgument = Annotated[
    str | None, typer.Argument(help="Name of a campaign. Default: all campaigns of the run.")
]
RunOption = Annotated[
    int | None, typer.Option("--run", metavar="N", help="Number of the run. Default: the latest.")
]
DatabaseOption = Annotated[
    str | None,
    typer.Option(
        "--database",
        metavar="URL",
        help="Database URL. Default: SENDTRACE_DATABASE_URL, else SQLite in SENDTRACE_HOME.",
    ),
]


class TableOrJson(StrEnum):
    """Output formats of results that don't have the rows and columns of a CSV file."""

    TABLE = "table"
    JSON = "json"


FormatOption = Annotated[RowFormat, typer.Option(help="Output format.")]
TableOrJsonOption = Annotated[TableOrJson, typer.Option(help="Output format.")]


def make_group(help: str) -> typer.Typer:
    """Return an empty group of commands."""
    return typer.Typer(help=help, no_args_is_help=True, add_completion=False, rich_markup_mode=None)


def exit_on_error(command: Callable[P, R]) -> Callable[P, R]:
    """Turn errors that a user can cause into one line on stderr and an exit code."""

    @wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            result = command(*args, **kwargs)
            if sys.stdout is not None:  # None if the parent process has closed it
                sys.stdout.flush()
        except typer.Exit:
            raise
        except SendtraceError as error:
            _print_error(str(error))
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt:
            _print_error("interrupted")
            raise typer.Exit(EXIT_INTERRUPTED) from None
        except BrokenPipeError:
            _discard_stdout()
            raise typer.Exit(EXIT_BROKEN_PIPE) from None
        except OSError as error:
            _discard_stdout()
            file = f"{error.filename}: " if error.filename else ""
            _print_error(f"{file}{error.strerror or error}")
            raise typer.Exit(EXIT_FAILURE) from None
        return result

    return wrapped


def _print_error(text: str) -> None:
    print(f"sendtrace: {escape_control_characters(text)}", file=sys.stderr)


def _discard_stdout() -> None:
    """Redirect stdout to nowhere, so that Python doesn't fail again to flush it at exit."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def open_database(
    url: str | None, check_tables: "Callable[[Database], None]"
) -> "Iterator[Database]":
    """Open the database of a command, the configured one without `url`. Writes nothing.

    Args:
        check_tables: raises for tables that aren't those of this version. The highest layer
            provides it, as the object of the commands' context, since it knows all tables.

    Raises:
        UsageError: the database can't be reached, or its tables aren't those of this version.
    """
    from tracker.settings import load_settings
    from tracker.store.database import check_reachable, connect

    settings = load_settings(database_url=url)
    try:
        is_recorded = bool(settings.database_url) or (settings.home / "sendtrace.db").exists()
    except OSError as error:
        raise UsageError(f"SENDTRACE_HOME: can't be read: {error.strerror}") from None
    if not is_recorded:
        raise UsageError(f"nothing is recorded in {settings.home}; run sendtrace simulate first")
    with closing(connect(settings.resolved_database_url, must_exist=True)) as database:
        check_reachable(database)
        with database.readable_errors():
            check_tables(database)
            yield database


def find_selected_campaigns(
    connection: "Connection", name: str | None, run: int | None
) -> "list[Campaign]":
    """Return the campaigns that a command was asked for.

    Raises:
        NotFound: there is no such campaign or run.
        UnreadableRecord: a row holds a value that sendtrace doesn't write.
    """
    from tracker.record.catalog import find_campaigns

    try:
        return find_campaigns(connection, name, run)
    except (ValueError, TypeError, AttributeError, OverflowError) as error:
        selection = "campaigns" if name is None else f"campaign {name}"
        raise UnreadableRecord(f"the record of {selection} can't be read: {error}") from None
