"""The folder with the files of a run: its result, and rows that could not be read."""

from itertools import count
from pathlib import Path


def create_run_folder(home: Path, run_id: int) -> Path:
    """Make the folder of a run: ``runs/ID``; where another database's run of this number has taken
    that, ``runs/ID.2`` and so on."""
    for number in count(1):
        folder = home / "runs" / (str(run_id) if number == 1 else f"{run_id}.{number}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            if not folder.parent.is_dir():
                raise
        else:
            return folder
    raise AssertionError("there is always a next number")
