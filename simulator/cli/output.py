"""Output files of commands."""

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
