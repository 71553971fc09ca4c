"""Output files of commands."""

from datetime import timedelta
from pathlib import Path

from tracker.errors import SendtraceError, UsageError
from tracker.system.private_files import open_requested_file


def check_writable(option: str, file: Path | None) -> None:
    """Raise UsageError, before the work, if an option's file can't be written."""
    if file is None:
        return
    try:
        is_new = not file.exists()
        if not is_new and not file.is_file():
            raise UsageError(f"{option} {file}: is not a regular file")
        with file.open("a"):
            pass
        if is_new:
            file.unlink()
    except OSError as error:
        raise UsageError(f"{option} {file}: can't be written: {error.strerror}") from None


def write_output(option: str, file: Path, text: str) -> None:
    """Write an option's file; raise SendtraceError if that fails."""
    try:
        with open_requested_file(file) as stream:
            stream.write(text)
    except OSError as error:
        raise SendtraceError(f"{option} {file}: can't be written: {error.strerror}") from None


def parse_duration_option(option: str, text: str) -> timedelta:
    """Return the duration that an option gives, such as "30m"; raise UsageError unless it is one.

    Args:
        option: the option, for the error.
    """
    from simulator.values import parse_positive_duration  # loads pydantic

    try:
        return parse_positive_duration(text)
    except ValueError as error:
        raise UsageError(f"{option}: {error}") from None
