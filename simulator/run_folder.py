"""The folder with the files of a run: its result, and rows that could not be read."""

from pathlib import Path


def folder_of(home: Path, run_id: int) -> Path:
    """Where the files of a run are."""
    return home / "runs" / str(run_id)


def make_room(home: Path, run_id: int) -> None:
    """Set aside a folder that is there already: another database had a run of this number."""
    folder = folder_of(home, run_id)
    number = 1
    while folder.exists():
        aside = folder.with_name(f"{run_id}.other-{number}")
        if not aside.exists():
            folder.rename(aside)
        number += 1
