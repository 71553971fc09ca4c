"""Supervisor, with real children: restarts, order, and the announcement of a stack."""

import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path

import psutil
import pytest
from redis import Redis
from redis.exceptions import RedisError

from simulator.stack import child, commands, supervisor
from simulator.stack.announcement import StackAddress, announce_stack, find_stack
from simulator.stack.broker_data import set_damaged_data_aside
from simulator.stack.child import ChildCommand, ChildProcess
from simulator.stack.commands import socket_folder, valkey_command
from simulator.stack.supervisor import Supervisor
from tracker.errors import UsageError

LIMIT_SECONDS = 150.0

SLEEPER = "import time; time.sleep(600)"
STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
time.sleep(600)
"""
NOTING = """
import signal, sys, time
def end(*_):
    open(sys.argv[1], "a").write(sys.argv[2] + "\\n")
    sys.exit()
signal.signal(signal.SIGTERM, end)
print("ready", flush=True)
time.sleep(600)
"""

ADDRESS = StackAddress(broker="redis://here", database="sqlite://")


@pytest.fixture
def log() -> list[str]:
    return []


def command(
    folder: Path, name: str, program: str, *arguments: str, stop_seconds: float = 10.0
) -> ChildCommand:
    return ChildCommand(
        name=name,
        command=[sys.executable, "-c", program, *arguments],
        log=folder / f"{name}.log",
        stop_seconds=stop_seconds,
    )


@contextmanager
def supervised(groups: list[list[ChildCommand]], log: list[str]) -> Iterator[Supervisor]:
    made = Supervisor(groups, log.append)
    made.start()
    try:
        yield made
    finally:
        made.stop()


def find_children(program: str) -> list[psutil.Process]:
    return [
        process
        for process in psutil.Process().children(recursive=True)
        if process.status() != psutil.STATUS_ZOMBIE and program in process.cmdline()
    ]


def supervise_until(made: Supervisor, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LIMIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        made.restart_dead_children(0.05)


def test_a_child_that_dies_is_restarted(tmp_path: Path, log: list[str]) -> None:
    with supervised([[command(tmp_path, "one", SLEEPER)]], log) as made:
        [first] = find_children(SLEEPER)
        first.kill()
        supervise_until(made, lambda: "child restarted: name=one" in log)
        [second] = find_children(SLEEPER)
        assert second.pid != first.pid
    exited = f"child exited: name=one exit_code=-9 restart_in=1s log={tmp_path / 'one.log'}"
    assert log[0] == exited
    assert find_children(SLEEPER) == []


def test_delays_grow_while_a_child_dies_early(
    tmp_path: Path, log: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "MIN_RESTART_DELAY_SECONDS", 0.01)
    monkeypatch.setattr(supervisor, "MAX_RESTART_DELAY_SECONDS", 0.03)
    monkeypatch.setattr(supervisor, "STABLE_AFTER_SECONDS", 600.0)
    with supervised([[command(tmp_path, "one", "raise SystemExit(7)")]], log) as made:
        supervise_until(made, lambda: len(log) >= 9)
    exits = [line for line in log if "exited" in line]
    delays = [line.partition("restart_in=")[2].partition("s ")[0] for line in exits]
    assert delays[:4] == ["0.01", "0.02", "0.03", "0.03"]
    assert all("exit_code=7" in line for line in exits)


def test_a_stable_child_is_restarted_after_the_shortest_delay(
    tmp_path: Path, log: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "MIN_RESTART_DELAY_SECONDS", 0.01)
    monkeypatch.setattr(supervisor, "STABLE_AFTER_SECONDS", 0.0)
    with supervised([[command(tmp_path, "one", "pass")]], log) as made:
        supervise_until(made, lambda: len(log) >= 6)
    assert all("restart_in=0.01s" in line for line in log if "exited" in line)


def test_groups_stop_in_the_opposite_order(tmp_path: Path, log: list[str]) -> None:
    notes = tmp_path / "notes"
    groups = [[command(tmp_path, name, NOTING, str(notes), name)] for name in ("a", "b", "c")]
    with supervised(groups, log) as made:
        logs = [group[0].log for group in groups]
        supervise_until(made, lambda: all("ready" in file.read_text() for file in logs))
    assert notes.read_text().split() == ["c", "b", "a"]


def test_a_child_that_ignores_sigterm_is_killed(tmp_path: Path, log: list[str]) -> None:
    stubborn = command(tmp_path, "one", STUBBORN, stop_seconds=0.2)
    with supervised([[stubborn]], log) as made:
        supervise_until(made, lambda: "ready" in stubborn.log.read_text())
    assert find_children(STUBBORN) == []


def test_ctrl_c_while_stopping_kills_all_children(tmp_path: Path, log: list[str]) -> None:
    stubborn = command(tmp_path, "one", STUBBORN, stop_seconds=600)
    made = Supervisor([[stubborn, command(tmp_path, "two", SLEEPER)]], log.append)
    made.start()
    supervise_until(made, lambda: "ready" in stubborn.log.read_text())
    previous_handler = signal.signal(signal.SIGALRM, signal.default_int_handler)

    def stop_and_press_ctrl_c() -> None:
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        made.stop()

    try:
        with pytest.raises(KeyboardInterrupt):
            stop_and_press_ctrl_c()
    finally:
        signal.signal(signal.SIGALRM, previous_handler)
    assert find_children(STUBBORN) + find_children(SLEEPER) == []


def test_a_child_that_was_killed_is_never_signalled_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed = ChildProcess(command(tmp_path, "one", SLEEPER))
    killed.kill()
    signalled: list[int] = []
    monkeypatch.setattr("os.killpg", lambda group, _number: signalled.append(group))
    killed.stop()
    killed.kill()
    assert signalled == []


def test_a_large_log_is_rotated(
    tmp_path: Path, log: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "MAX_LOG_BYTES", 3)
    (tmp_path / "one.log").write_text("earlier")
    with supervised([[command(tmp_path, "one", SLEEPER)]], log):
        assert (tmp_path / "one.old.log").read_text() == "earlier"
        assert (tmp_path / "one.log").read_text() == ""


def test_a_log_that_grows_is_rotated_while_its_child_runs(
    tmp_path: Path, log: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "MAX_LOG_BYTES", 3)
    monkeypatch.setattr(child, "LOG_CHECK_SECONDS", 0.05)
    writer = f"print('before', flush=True)\n{SLEEPER}"
    old, current = tmp_path / "one.old.log", tmp_path / "one.log"
    with supervised([[command(tmp_path, "one", writer)]], log) as made:
        supervise_until(made, lambda: old.exists() and old.read_text() == "before\n")
        supervise_until(made, lambda: current.read_text() == "")


def test_a_broker_whose_file_is_damaged_starts_without_it(
    tmp_path: Path, log: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "MIN_RESTART_DELAY_SECONDS", 0.01)
    data, output = tmp_path / "broker", tmp_path / "broker.log"
    data.mkdir()
    with socket_folder() as folder:
        address = folder / "broker.sock"
        broker = ChildCommand(
            name="broker",
            command=valkey_command(address, data, append_only=True),
            log=output,
            repair=partial(set_damaged_data_aside, data, output),
        )

        def answers() -> bool:
            with closing(Redis(unix_socket_path=str(address))) as client, suppress(RedisError):
                return bool(client.rpush("queued", "x" * 10_000))
            return False

        with supervised([[broker]], log) as made:
            supervise_until(made, answers)
            children = psutil.Process().children()
            [server] = [child for child in children if child.cwd() == str(data)]
            server.kill()
            supervise_until(made, lambda: any("restarted" in line for line in log))
            assert not any("damaged" in line for line in log), "killed, but not damaged"
            supervise_until(made, answers)
        [file] = (data / "appendonlydir").glob("*.incr.aof")
        content = bytearray(file.read_bytes())
        content[:20] = b"\xff" * 20
        file.write_bytes(content)
        log.clear()
        with supervised([[broker]], log) as made:
            supervise_until(made, answers)
    [aside] = tmp_path.glob("broker.damaged-*")
    assert (aside / "appendonlydir" / file.name).read_bytes() == content
    [warning] = [line for line in log if line.startswith("warning: damaged broker data set aside")]
    assert warning.endswith(f"folder={aside}")


STARTED = "1:M * oO0OoO0OoO0Oo Valkey is starting oO0OoO0OoO0Oo\n"
READY = "1:M * Ready to accept connections unix\n"


@pytest.mark.parametrize(
    ("lines", "is_damaged"),
    [
        ("", False),
        (f"{STARTED}1:M # Bad file format reading the append only file a.incr.aof: make a", True),
        (f"{STARTED}1:M # Internal error in RDB reading offset 0, function at rdb.c:474", True),
        (f"{STARTED}1:M # \n*** FATAL AOF MANIFEST FILE ERROR ***\n", True),
        (f"{STARTED}1:M # Unable to obtain the AOF file a.base.rdb length. stat: No such", True),
        (
            f"{STARTED}{READY}{STARTED}1:M # Unexpected end of file reading the append only file",
            True,
        ),
        (
            f"{STARTED}1:M * RDB is base AOF\n1:M # Failed opening Unix socket: bind",
            False,
        ),
        (f"{STARTED}1:M # Fatal error: the truncated file is not the last file", True),
        (
            f"{STARTED}1:M # Fatal error: can't open the AOF manifest file a.manifest for reading:"
            " Permission denied",
            False,
        ),
        (
            f"{STARTED}1:M # Error trying to write the temporary AOF manifest file a.manifest:"
            " No space left on device",
            False,
        ),
        (f"{STARTED}1:M # Bad file format reading the append only file\n{STARTED}{READY}", False),
        (f"{STARTED}{READY}1:M # Background AOF rewrite terminated by signal 9", False),
    ],
)
def test_only_data_that_the_last_start_could_not_load_is_damaged(
    tmp_path: Path, lines: str, is_damaged: bool
) -> None:
    data, output = tmp_path / "broker", tmp_path / "broker.log"
    data.mkdir()
    (data / "file").touch()
    output.write_text(lines)
    event = set_damaged_data_aside(data, output)
    assert (event is not None, not list(data.iterdir())) == (is_damaged, is_damaged)


def test_sockets_are_in_a_folder_with_a_short_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / ("builds-of-a-group-with-a-long-name" * 3)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    with socket_folder() as folder:
        assert len(f"{folder}/everybody/.s.PGSQL.5432") <= 103
        assert folder.stat().st_mode & 0o077 == 0
    monkeypatch.setattr(commands, "MAX_SOCKET_PATH_BYTES", 20)
    with pytest.raises(UsageError, match=r"TMPDIR: .*too long for a Unix socket"), socket_folder():
        pass


def test_a_stack_is_found_while_it_runs(tmp_path: Path) -> None:
    assert find_stack(tmp_path) is None
    with announce_stack(tmp_path, ADDRESS):
        assert find_stack(tmp_path) == ADDRESS
        assert (tmp_path / "up.json").stat().st_mode & 0o077 == 0
        other = StackAddress(broker="redis://other", database="sqlite://")
        with (
            pytest.raises(UsageError, match="a stack already runs"),
            announce_stack(tmp_path, other),
        ):
            pass
        assert find_stack(tmp_path) == ADDRESS
    assert find_stack(tmp_path) is None


def test_the_file_of_a_dead_stack_is_ignored(tmp_path: Path) -> None:
    (tmp_path / "up.json").write_text('{"broker": "redis://gone", "database": "sqlite://"}')
    assert find_stack(tmp_path) is None
    with announce_stack(tmp_path, ADDRESS):
        assert find_stack(tmp_path) == ADDRESS
