"""Where the stack of ``sendtrace up`` is, told to other commands: a file in the state folder that
its process keeps locked as long as it lives."""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tracker.errors import UsageError

STACK_FILE = "up.json"


@contextmanager
def announce_stack(home: Path, told: dict[str, Any]) -> Iterator[None]:
    """A block in which others may read what is ``told``. Raises :exc:`UsageError` where another
    stack already runs on the same state folder."""
    path = home / STACK_FILE
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    with os.fdopen(descriptor, "r+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(
                f"a stack already runs on {home}; end it first, or choose another SENDTRACE_HOME"
            ) from None
        file.truncate()
        json.dump({"pid": os.getpid(), **told}, file)
        file.flush()
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def find_stack(home: Path) -> dict[str, Any] | None:
    """What the stack that runs on a state folder has told, None if there is none."""
    try:
        with (home / STACK_FILE).open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                found: dict[str, Any] = json.load(file)
                return found
    except (OSError, ValueError):
        return None
    return None  # it was left behind: whoever wrote it has gone
