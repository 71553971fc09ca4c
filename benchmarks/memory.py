"""Peak resident memory of a driver, its broker, its worker and the worker's pool."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

POLL_INTERVAL_SECONDS = 0.2
"""Seconds between two looks. Where the system keeps the peak itself, none is missed by that."""

Peaks = dict[str, int]
"""Bytes by role: driver, worker (its parent process), pool child (the largest), broker."""


@contextmanager
def watch_memory(pid: int) -> Iterator[Peaks]:
    """Watch a driver and all processes below it while the block runs."""
    peaks: Peaks = {}
    done = threading.Event()

    def look_now_and_then() -> None:
        while not done.wait(POLL_INTERVAL_SECONDS):
            _update_peaks(pid, peaks)

    watcher = threading.Thread(target=look_now_and_then, daemon=True)
    watcher.start()
    try:
        yield peaks
    finally:
        done.set()
        watcher.join()


def _update_peaks(pid: int, peaks: Peaks) -> None:
    try:
        driver = psutil.Process(pid)
        family = [driver, *driver.children(recursive=True)]
    except psutil.NoSuchProcess:
        return
    for process in family:
        try:
            role, peak = _find_role(process, pid), _read_peak(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
        if role and peak:
            peaks[role] = max(peaks.get(role, 0), peak)


def _find_role(process: psutil.Process, driver: int) -> str | None:
    """What a process is; None for one that has not become anything yet."""
    if process.pid == driver:
        return "driver"
    if "celery" in " ".join(process.cmdline()):
        return "worker" if process.ppid() == driver else "pool child"
    return "broker" if "valkey" in process.name() else None


def _read_peak(process: psutil.Process) -> int:
    """The largest resident size so far, in bytes; where that is not kept, the present one."""
    try:
        status = Path(f"/proc/{process.pid}/status").read_text()
    except OSError:
        return process.memory_info().rss
    kept = re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
    return int(kept[1]) * 1024 if kept else 0
