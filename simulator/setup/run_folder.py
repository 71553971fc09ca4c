"""The folder of a run's files: its result, and rows that could not be read."""

from itertools import count
from pathlib import Path


def create_run_folder(home: Path, run_id: int) -> Path:
    """Create and return the folder `runs/ID` of a run.

    If a run of another database has taken it, the folder is `runs/ID.2`, `runs/ID.3` and so on.
    """
    for number in count(1):
        folder = home / "runs" / (str(run_id) if number == 1 else f"{run_id}.{number}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            if not folder.parent.is_dir():
                raise
        else:
            return folder
    raise AssertionError("unreachable: count() has no end")
