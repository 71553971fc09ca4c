"""Files that other users have permissions on."""

import stat
from contextlib import suppress
from pathlib import Path


def find_open_files(folder: Path) -> list[str]:
    """Return a folder and all in it, links left out, that users other than its owner may use."""
    open_files = []
    for path in (folder, *folder.rglob("*")):
        with suppress(FileNotFoundError):  # a process has removed it meanwhile
            mode = path.stat(follow_symlinks=False).st_mode
            if mode & 0o077 and not stat.S_ISLNK(mode):
                open_files.append(f"{stat.filemode(mode)} {path}")
    return open_files
