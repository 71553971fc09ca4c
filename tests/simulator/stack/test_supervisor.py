"""Children that are kept alive, with real ones."""

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from simulator.stack import supervisor
from simulator.stack.announcement import announce_stack, find_stack
from simulator.stack.supervisor import ChildProcess, Supervisor
from tracker.errors import UsageError

LIMIT = 20.0
"""Seconds in which anything here must happen."""

LONG = "import time; time.sleep(600)"
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
NOTING = """
import signal, sys, time
def end(*_):
    open(sys.argv[1], "a").write(sys.argv[2] + "\\n")
    sys.exit()
signal.signal(signal.SIGTERM, end)
print("ready", flush=True)
time.sleep(600)
"""


@pytest.fixture
def said() -> list[str]:
    return []


def child(
    folder: Path, name: str, program: str, *arguments: str, patience: float = 10.0
) -> ChildProcess:
    return ChildProcess(
        name=name,
        command=[sys.executable, "-c", program, *arguments],
        log=folder / f"{name}.log",
        patience=patience,
    )


@contextmanager
def kept(groups: list[list[ChildProcess]], said: list[str]) -> Iterator[Supervisor]:
    made = Supervisor(groups, said.append)
    made.start()
    try:
        yield made
    finally:
        made.stop()


def children(program: str) -> list[psutil.Process]:
    return [
        each
        for each in psutil.Process().children(recursive=True)
        if each.status() != psutil.STATUS_ZOMBIE and program in each.cmdline()
    ]


def watch_until(made: Supervisor, condition: "object") -> None:
    deadline = time.monotonic() + LIMIT
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        made.restart_dead_children(0.05)


def test_a_child_that_dies_is_started_again(tmp_path: Path, said: list[str]) -> None:
    with kept([[child(tmp_path, "one", LONG)]], said) as made:
        [first] = children(LONG)
        first.kill()
        watch_until(made, lambda: "one is started again" in said)
        [second] = children(LONG)
        assert second.pid != first.pid
    assert said[0].startswith("one ended with exit code -9; it is started again in 1 s")
    assert str(tmp_path / "one.log") in said[0]
    assert children(LONG) == []


def test_pauses_grow_while_it_dies_young(
    tmp_path: Path, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "MIN_RESTART_DELAY_SECONDS", 0.01)
    monkeypatch.setattr(supervisor, "MAX_RESTART_DELAY_SECONDS", 0.03)
    with kept([[child(tmp_path, "one", "raise SystemExit(7)")]], said) as made:
        watch_until(made, lambda: len(said) >= 9)
    deaths = [line for line in said if "ended" in line]
    pauses = [line.partition("again in ")[2].partition(" s")[0] for line in deaths]
    assert pauses[:4] == ["0.01", "0.02", "0.03", "0.03"]
    assert all("exit code 7" in line for line in deaths)


def test_who_lived_long_is_started_again_soon(
    tmp_path: Path, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "MIN_RESTART_DELAY_SECONDS", 0.01)
    monkeypatch.setattr(supervisor, "STABLE_AFTER_SECONDS", 0.0)
    with kept([[child(tmp_path, "one", "pass")]], said) as made:
        watch_until(made, lambda: len(said) >= 6)
    assert all("again in 0.01 s" in line for line in said if "ended" in line)


def test_groups_are_stopped_in_the_opposite_order(tmp_path: Path, said: list[str]) -> None:
    notes = tmp_path / "notes"
    groups = [[child(tmp_path, name, NOTING, str(notes), name)] for name in ("a", "b", "c")]
    with kept(groups, said) as made:
        logs = [each.log for [each] in groups]
        watch_until(made, lambda: all("ready" in log.read_text() for log in logs))
    assert notes.read_text().split() == ["c", "b", "a"]


def test_who_does_not_end_is_ended(tmp_path: Path, said: list[str]) -> None:
    with kept([[child(tmp_path, "one", STUBBORN, patience=0.2)]], said) as made:
        made.restart_dead_children(0.3)
    assert children(STUBBORN) == []


def test_interrupted_while_it_stops_it_ends_them_at_once(tmp_path: Path, said: list[str]) -> None:
    made = Supervisor(
        [[child(tmp_path, "one", STUBBORN, patience=600), child(tmp_path, "two", LONG)]],
        said.append,
    )
    made.start()
    made.restart_dead_children(0.3)
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    try:
        with pytest.raises(KeyboardInterrupt):
            made.stop()
    finally:
        signal.signal(signal.SIGALRM, before)
    assert children(STUBBORN) + children(LONG) == []


def test_a_large_log_is_put_aside(
    tmp_path: Path, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "MAX_LOG_BYTES", 3)
    (tmp_path / "one.log").write_text("of before")
    with kept([[child(tmp_path, "one", LONG)]], said):
        assert (tmp_path / "one.old.log").read_text() == "of before"
        assert (tmp_path / "one.log").read_text() == ""


def test_where_a_stack_is_can_be_read_while_it_lives(tmp_path: Path) -> None:
    assert find_stack(tmp_path) is None
    with announce_stack(tmp_path, {"broker": "redis://here"}):
        found = find_stack(tmp_path)
        assert found == {"pid": os.getpid(), "broker": "redis://here"}
        assert (tmp_path / "up.json").stat().st_mode & 0o077 == 0
        with pytest.raises(UsageError, match="a stack already runs"), announce_stack(tmp_path, {}):
            pass
        assert find_stack(tmp_path) == found
    assert find_stack(tmp_path) is None


def test_what_a_stack_left_behind_is_no_stack(tmp_path: Path) -> None:
    (tmp_path / "up.json").write_text('{"broker": "redis://gone"}')
    assert find_stack(tmp_path) is None
    with announce_stack(tmp_path, {"broker": "redis://here"}):
        assert (find_stack(tmp_path) or {})["broker"] == "redis://here"
