"""The files of a run: its folder, with results and rejected rows, and the logs of its workers."""

import json
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy import Connection

from simulator.schema import run_drivers, run_setups
from tracker.settings import Settings


@dataclass(frozen=True, kw_only=True)
class RunFiles:
    """The files of a run in the state folder.

    Attributes:
        folder: None if it isn't in the state folder, as for a run of another machine.
        logs: logs that no other run has.
    """

    folder: Path | None
    logs: Sequence[Path]

    @property
    def size(self) -> int:
        """Their bytes."""
        files = [*self.logs, *(self.folder.rglob("*") if self.folder else ())]
        return sum(file.stat().st_size for file in files if file.is_file())

    def delete(self) -> None:
        """Delete them; missing ones are skipped."""
        if self.folder is not None:
            with suppress(FileNotFoundError):
                shutil.rmtree(self.folder)
        for log in self.logs:
            log.unlink(missing_ok=True)


def find_run_files(connection: Connection, settings: Settings, run_id: int) -> RunFiles:
    """Return the files of a run that exist.

    Only those in the state folder count: the record may be of another machine, whose paths mean
    something else here.
    """
    recorded = connection.scalar(
        sa.select(run_setups.c.folder).where(run_setups.c.run_id == run_id)
    )
    folder = None if recorded is None else Path(recorded)
    if folder is not None and not (_is_in(folder, settings.home / "runs") and folder.is_dir()):
        folder = None
    logs = _read_logs(connection, run_drivers.c.run_id == run_id)
    logs -= _read_logs(connection, run_drivers.c.run_id != run_id)
    log_files = [log for log in sorted(logs) if _is_in(log, settings.logs) and log.is_file()]
    return RunFiles(folder=folder, logs=log_files)


def _read_logs(connection: Connection, condition: sa.ColumnElement[bool]) -> set[Path]:
    conditions = connection.scalars(sa.select(run_drivers.c.conditions).where(condition))
    names = (json.loads(text).get("log") for text in conditions)
    return {Path(name) for name in names if name}


def _is_in(path: Path, folder: Path) -> bool:
    return path.resolve().parent == folder.resolve()
