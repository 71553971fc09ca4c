"""The stack of `sendtrace up`: what is refused before anything starts."""

import socket
from contextlib import closing
from pathlib import Path

import pytest

from simulator.stack.up import StackPorts, run_stack
from tracker.errors import UsageError
from tracker.settings import load_settings


def test_flower_is_not_exposed_without_a_password(home: Path) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]  # so the stack can't start
        ports = StackPorts(
            host="127.0.0.1",
            web_port=port,
            flower_host="0.0.0.0",  # noqa: S104
            flower_port=port,
        )
        with pytest.raises(UsageError, match="set SENDTRACE_FLOWER_AUTH"):
            run_stack(load_settings(home=home), ports, 1)
