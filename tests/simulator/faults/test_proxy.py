"""A line that is disturbed, with a real server at its end."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from simulator.faults.proxy import SocketProxy, Upstream

PATIENCE = 5.0


def answer_all(server: socket.socket) -> None:
    """Say to everybody what they said."""

    def echo(call: socket.socket) -> None:
        with closing(call), suppress(OSError):
            while said := call.recv(1024):
                call.sendall(said)

    with suppress(OSError):
        while True:
            call, _ = server.accept()
            threading.Thread(target=echo, args=(call,), daemon=True).start()


@pytest.fixture(params=["unix", "tcp"])
def line(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SocketProxy]:
    folder = tmp_path_factory.mktemp("l")
    if request.param == "unix":
        place = Upstream(path=folder / "s")
        server = socket.socket(socket.AF_UNIX)
        server.bind(str(place.path))
        server.listen()
    else:
        server = socket.create_server(("127.0.0.1", 0))
        place = Upstream(host="127.0.0.1", port=server.getsockname()[1])
    with closing(server):
        threading.Thread(target=answer_all, args=(server,), daemon=True).start()
        with SocketProxy(folder / "line", place).running() as running:
            yield running


@pytest.fixture
def call(line: SocketProxy) -> Iterator[Callable[[], socket.socket]]:
    made: list[socket.socket] = []

    def connect() -> socket.socket:
        made.append(socket.socket(socket.AF_UNIX))
        made[-1].settimeout(PATIENCE)
        made[-1].connect(str(line.path))
        return made[-1]

    yield connect
    for each in made:
        each.close()


def says(call: socket.socket, said: bytes) -> bytes:
    call.sendall(said)
    return call.recv(1024)


def test_what_is_said_comes_through(call: Callable[[], socket.socket]) -> None:
    one, two = call(), call()
    assert (says(one, b"one"), says(two, b"two")) == (b"one", b"two")
    large = b"x" * 300_000
    threading.Thread(target=one.sendall, args=(large,), daemon=True).start()
    heard = 0
    while heard < len(large):
        heard += len(one.recv(65_536))


def test_what_is_held_up_comes_through_later(
    line: SocketProxy, call: Callable[[], socket.socket]
) -> None:
    there = call()
    assert says(there, b"before") == b"before"
    line.stall()
    newcomer = call()
    for each in (there, newcomer):
        each.sendall(b"held")
        each.settimeout(0.2)
        with pytest.raises(TimeoutError):
            each.recv(1024)
    line.resume()
    for each in (there, newcomer):
        each.settimeout(PATIENCE)
        assert each.recv(1024) == b"held"


def test_what_is_cut_has_to_be_connected_anew(
    line: SocketProxy, call: Callable[[], socket.socket]
) -> None:
    there = call()
    assert says(there, b"before") == b"before"
    line.disconnect()
    with suppress(ConnectionError):
        assert there.recv(1024) == b""
    newcomer = call()
    with suppress(ConnectionError):
        newcomer.sendall(b"hello")
        assert newcomer.recv(1024) == b""
    line.resume()
    assert says(call(), b"after") == b"after"


def test_a_server_that_is_away_ends_the_call(tmp_path: Path) -> None:
    lead = SocketProxy(tmp_path / "line", Upstream(path=tmp_path / "nobody"))
    with lead.running() as line, closing(socket.socket(socket.AF_UNIX)) as call:
        call.settimeout(PATIENCE)
        call.connect(str(line.path))
        with suppress(ConnectionError):
            assert call.recv(1024) == b""
