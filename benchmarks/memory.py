"""Peak resident memory of a driver, its broker, its worker and the worker's pool."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from simulator.background import run_in_background

POLL_INTERVAL_SECONDS = 0.2
"""Time between two readings. Linux keeps each process's peak, so none is missed in between."""

Peaks = dict[str, int]
"""Bytes by role: driver, worker (the parent process), pool child (the largest) and broker."""


@contextmanager
def watch_memory(pid: int) -> Iterator[Peaks]:
    """Read the memory of a driver and its descendants while the block runs; yield the peaks."""
    peaks: Peaks = {}

    def poll(stop: threading.Event) -> None:
        while not stop.wait(POLL_INTERVAL_SECONDS):
            with suppress(psutil.NoSuchProcess):
                driver = psutil.Process(pid)
                for process in (driver, *driver.children(recursive=True)):
                    with suppress(psutil.Error):
                        _update_peak(peaks, process, driver)

    with run_in_background(poll, "memory"):
        yield peaks


def _update_peak(peaks: Peaks, process: psutil.Process, driver: psutil.Process) -> None:
    if process == driver:
        role = "driver"
    elif "celery" in " ".join(process.cmdline()):
        role = "worker" if process.ppid() == driver.pid else "pool child"
    elif "valkey" in process.name():
        role = "broker"
    else:  # a process that has not yet become what it will be
        return
    peaks[role] = max(peaks.get(role, 0), _read_peak(process))


def _read_peak(process: psutil.Process) -> int:
    """Return the largest resident size so far in bytes; the current one where none is kept."""
    try:
        status = Path(f"/proc/{process.pid}/status").read_text()
    except OSError:
        return int(process.memory_info().rss)
    peak = re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
    return int(peak[1]) * 1024 if peak else 0
