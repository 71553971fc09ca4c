"""Announcement: a file in the state folder by which commands find the stack of `sendtrace up`.

The stack's process keeps the file locked as long as it lives, so a file that it left behind isn't
mistaken for a running stack. Runs with a broker of their own share a lock on it, which keeps a
stack from starting.
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
        UsageError: another stack, or a run with a broker of its own, is on the state folder.
    """
    path = home / STACK_FILE
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    with os.fdopen(descriptor, "r+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            is_run = find_stack(home) is None
            conflict = "a simulation without --attach" if is_run else "a stack already"
            raise UsageError(
                f"{conflict} runs on {home}; stop it, or set another SENDTRACE_HOME"
            ) from None
        file.truncate()
        json.dump({"pid": os.getpid(), **asdict(address)}, file)
        file.flush()
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


@contextmanager
def exclude_stack(home: Path, database: str) -> Iterator[None]:
    """Keep a stack from using a run's database for the duration of the block.

    The stack's sweep would find no task of the run on its own broker, re-queue batches that the
    run's worker has, and so hand their messages over twice. A run's sweep leaves the batches of
    other runs alone, so several runs may do this at once.

    Raises:
        UsageError: such a stack runs already.
    """
    stack = find_stack(home)
    if stack is not None and stack.database != database:
        yield
        return
    descriptor = os.open(home / STACK_FILE, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(
                f"`sendtrace up` runs on {home} with the same database; give --attach to use its"
                " broker and workers"
            ) from None
        yield
    finally:
        os.close(descriptor)


def find_stack(home: Path) -> StackAddress | None:
    """Return the address of the stack that runs on a state folder, or None without one."""
    with suppress(OSError, ValueError, KeyError), (home / STACK_FILE).open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            announced = json.load(file)
            return StackAddress(announced["broker"], announced["database"])
    return None
