"""A small disk that can be filled."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

BALLAST = "ballast"

BLOCK = b"\0" * (64 << 10)


class DiskNotMounted(Exception):
    """A small disk can't be mounted on this machine; the message says why."""


@contextmanager
def mount_small_disk(folder: Path) -> Iterator[Path]:
    """Mount a disk of 64 MB for the duration of the block.

    Raises:
        DiskNotMounted: where mounting isn't permitted.
    """
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64m", "sendtrace", str(folder)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode != 0:
        raise DiskNotMounted(f"can't mount a small disk: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path) -> None:
    """Fill the disk of a folder to its last byte, in a file of the folder."""
    # Unbuffered: a buffer is written once more when the file is closed, and the disk is full.
    with (folder / BALLAST).open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(BLOCK)


def free(folder: Path) -> None:
    """Remove what `fill` has written."""
    (folder / BALLAST).unlink()
