"""Announcement: a file in the state folder by which commands find the stack of `sendtrace up`.

The stack's process keeps the file locked as long as it lives, so a file that it left behind isn't
mistaken for a running stack.
"""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from tracker.errors import UsageError

STACK_FILE = "up.json"


@dataclass(frozen=True)
class StackAddress:
    """The URLs of a stack's broker and of its workers' database."""

    broker: str
    database: str


@contextmanager
def announce_stack(home: Path, address: StackAddress) -> Iterator[None]:
    """Let other commands find this stack for the duration of the block.

    Raises:
        UsageError: another stack runs on the same state folder.
    """
    path = home / STACK_FILE
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    with os.fdopen(descriptor, "r+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(
                f"a stack already runs on {home}; stop it, or set another SENDTRACE_HOME"
            ) from None
        file.truncate()
        json.dump({"pid": os.getpid(), **asdict(address)}, file)
        file.flush()
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def find_stack(home: Path) -> StackAddress | None:
    """Return the address of the stack that runs on a state folder, or None without one."""
    with suppress(OSError, ValueError, KeyError), (home / STACK_FILE).open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            announced = json.load(file)
            return StackAddress(announced["broker"], announced["database"])
    return None
