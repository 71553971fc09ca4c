"""A stack and runs with brokers of their own exclude each other on one database."""

from pathlib import Path

import pytest

from simulator.stack.announcement import StackAddress, announce_stack, exclude_stack, find_stack
from simulator.web.commands import make_commands
from tracker.errors import UsageError
from tracker.settings import load_settings

ADDRESS = StackAddress(broker="redis+socket:///run/broker.sock", database="sqlite:///a.db")


def test_a_run_beside_a_stack_on_its_database_is_refused(tmp_path: Path) -> None:
    with (
        announce_stack(tmp_path, ADDRESS),
        pytest.raises(UsageError, match="give --attach") as refused,
        exclude_stack(tmp_path, ADDRESS.database),
    ):
        pass
    assert refused.value.exit_code == 2
    with exclude_stack(tmp_path, ADDRESS.database):
        assert find_stack(tmp_path) is None


def test_a_run_on_another_database_than_the_stack_may_go_on(tmp_path: Path) -> None:
    with announce_stack(tmp_path, ADDRESS), exclude_stack(tmp_path, "sqlite:///b.db"):
        assert find_stack(tmp_path) == ADDRESS


def test_a_stack_does_not_start_beside_a_run(tmp_path: Path) -> None:
    with exclude_stack(tmp_path, ADDRESS.database):
        with (
            exclude_stack(tmp_path, ADDRESS.database),  # other runs may
            pytest.raises(UsageError, match="a simulation without --attach runs on"),
            announce_stack(tmp_path, ADDRESS),
        ):
            pass
        with (
            pytest.raises(UsageError, match="a simulation without --attach runs on"),
            announce_stack(tmp_path, ADDRESS),
        ):
            pass
    with announce_stack(tmp_path, ADDRESS):
        assert find_stack(tmp_path) == ADDRESS


def test_the_page_suggests_the_workers_of_a_stack_that_runs(tmp_path: Path) -> None:
    commands = make_commands(load_settings(home=tmp_path))
    assert "--attach" not in commands.simulate() + commands.resume(3)
    with announce_stack(tmp_path, ADDRESS):
        assert commands.simulate().endswith(" --attach")
        assert commands.resume(3).endswith("resume 3 --attach")
