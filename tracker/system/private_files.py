"""Private files: only their user may open what sendtrace writes, which has addresses of customers.

Files that a command was asked for, such as that of `--json`, have the modes of the user's umask.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from pwd import getpwuid
from typing import TextIO

PRIVATE_UMASK = 0o077

OTHERS = stat.S_IRWXG | stat.S_IRWXO
"""The permissions of all users but the owner."""

STATE_PATTERNS = (
    "sendtrace.db*", "beat*", "broker*", "erasure.key", "flower*", "logs", "runs", "up.json"
)  # fmt: skip
"""Names of what sendtrace writes in a state folder, which may hold files of others too."""

_user_umask: int | None = None


def keep_files_private() -> None:
    """Have this process and its children create files that only their user may open."""
    global _user_umask  # a process has one umask
    previous = os.umask(PRIVATE_UMASK)
    if _user_umask is None:
        _user_umask = previous


def open_requested_file(path: Path) -> TextIO:
    """Open a file that a command was asked for, to write it. A new one has the user's modes.

    The umask isn't changed for it: other threads may create private files meanwhile.
    """
    is_new = not path.exists()
    file = path.open("w", encoding="utf-8", errors="replace", newline="")
    if is_new and _user_umask is not None:
        os.fchmod(file.fileno(), 0o666 & ~_user_umask)
    return file


def is_shared(folder: Path) -> bool:
    """Return whether a folder is one that all users write in, such as /tmp, or the root."""
    return bool(folder.stat().st_mode & stat.S_ISVTX) or folder.resolve() == Path("/")


def find_other_owner(path: Path) -> str | None:
    """Return the name of the user that owns a file or folder; None if it is this process's."""
    owner = path.stat().st_uid
    if owner == os.geteuid():
        return None
    with suppress(KeyError):
        return getpwuid(owner).pw_name
    return f"with the id {owner}"


def make_private(home: Path) -> int:
    """Take the permissions of other users on a state folder and on sendtrace's files in it.

    Returns:
        The number of files and folders that other users had permissions on.
    """
    entries = [entry for pattern in STATE_PATTERNS for entry in home.glob(pattern)]
    if not any(_read_others_mode(path) for path in (home, *entries)):
        return 0  # then nothing below is open either: a folder is made before its files
    return sum(map(_take_from_others, [home, *_walk(entries)]))


def _walk(entries: list[Path]) -> Iterator[Path]:
    for entry in entries:
        yield entry
        if not entry.is_symlink():
            yield from entry.rglob("*")


def _read_others_mode(path: Path) -> int:
    """Return the permissions of other users on a file; 0 for a link, and for one that is gone."""
    with suppress(FileNotFoundError):
        mode = path.stat(follow_symlinks=False).st_mode
        return 0 if stat.S_ISLNK(mode) else mode & OTHERS
    return 0


def _take_from_others(path: Path) -> bool:
    """Take other users' permissions on a file; return whether there were any.

    Files that another user left in a private folder can't be reached by others.
    """
    if not _read_others_mode(path):
        return False
    with suppress(FileNotFoundError, PermissionError):
        path.chmod(stat.S_IMODE(path.stat().st_mode) & ~OTHERS)
        return True
    return False
