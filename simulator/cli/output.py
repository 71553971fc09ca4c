"""Files that a command is told to write."""

from pathlib import Path

from tracker.errors import SendtraceError, UsageError


def check_writable(option: str, file: Path | None) -> None:
    """Find out before the work, not after it, that what comes of it can't be written."""
    if file is None:
        return
    try:
        new = not file.exists()
        if not new and not file.is_file():
            raise UsageError(f"{option} {file}: is not a regular file")
        with file.open("a"):
            pass
        if new:
            file.unlink()
    except OSError as error:
        raise UsageError(f"{option} {file}: can't be written: {error.strerror}") from None


def write_output(option: str, file: Path, text: str) -> None:
    """Write what came of it; :exc:`SendtraceError` if that can't be done any more."""
    try:
        file.write_text(text, encoding="utf-8", errors="replace")
    except OSError as error:
        raise SendtraceError(f"{option} {file}: can't be written: {error.strerror}") from None
