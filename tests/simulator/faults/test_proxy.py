"""A proxy that stalls and cuts connections, with a real server behind it."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from simulator.faults.proxy import SocketProxy, Upstream

ANSWER_SECONDS = 150.0


def serve_echo(server: socket.socket) -> None:
    """Send back to each client what it sends."""

    def echo(connection: socket.socket) -> None:
        with closing(connection), suppress(OSError):
            while data := connection.recv(1024):
                connection.sendall(data)

    with suppress(OSError):
        while True:
            connection, _ = server.accept()
            threading.Thread(target=echo, args=(connection,), daemon=True).start()


@pytest.fixture(params=["unix", "tcp"])
def proxy(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SocketProxy]:
    folder = tmp_path_factory.mktemp("p")
    if request.param == "unix":
        upstream = Upstream(path=folder / "s")
        server = socket.socket(socket.AF_UNIX)
        server.bind(str(upstream.path))
        server.listen()
    else:
        server = socket.create_server(("127.0.0.1", 0))
        upstream = Upstream(host="127.0.0.1", port=server.getsockname()[1])
    with closing(server):
        threading.Thread(target=serve_echo, args=(server,), daemon=True).start()
        with SocketProxy(folder / "proxy", upstream).running() as running:
            yield running


@pytest.fixture
def connect(proxy: SocketProxy) -> Iterator[Callable[[], socket.socket]]:
    connections: list[socket.socket] = []

    def connect_to_proxy() -> socket.socket:
        connections.append(socket.socket(socket.AF_UNIX))
        connections[-1].settimeout(ANSWER_SECONDS)
        connections[-1].connect(str(proxy.path))
        return connections[-1]

    yield connect_to_proxy
    for connection in connections:
        connection.close()


def exchange(connection: socket.socket, data: bytes) -> bytes:
    connection.sendall(data)
    return connection.recv(1024)


def test_data_passes_through(connect: Callable[[], socket.socket]) -> None:
    one, two = connect(), connect()
    assert (exchange(one, b"one"), exchange(two, b"two")) == (b"one", b"two")
    large = b"x" * 300_000
    threading.Thread(target=one.sendall, args=(large,), daemon=True).start()
    received = 0
    while received < len(large):
        received += len(one.recv(65_536))


def test_stalled_data_passes_through_later(
    proxy: SocketProxy, connect: Callable[[], socket.socket]
) -> None:
    connected = connect()
    assert exchange(connected, b"before") == b"before"
    proxy.stall()
    newcomer = connect()
    for connection in (connected, newcomer):
        connection.sendall(b"held")
        connection.settimeout(0.2)
        with pytest.raises(TimeoutError):
            connection.recv(1024)
    proxy.resume()
    for connection in (connected, newcomer):
        connection.settimeout(ANSWER_SECONDS)
        assert connection.recv(1024) == b"held"


def test_a_connection_that_is_cut_must_be_made_again(
    proxy: SocketProxy, connect: Callable[[], socket.socket]
) -> None:
    connected = connect()
    assert exchange(connected, b"before") == b"before"
    proxy.disconnect()
    with suppress(ConnectionError):
        assert connected.recv(1024) == b""
    newcomer = connect()
    with suppress(ConnectionError):
        newcomer.sendall(b"hello")
        assert newcomer.recv(1024) == b""
    proxy.resume()
    assert exchange(connect(), b"after") == b"after"


def test_a_server_that_is_unavailable_closes_the_connection(tmp_path: Path) -> None:
    proxy = SocketProxy(tmp_path / "proxy", Upstream(path=tmp_path / "nobody"))
    with proxy.running(), closing(socket.socket(socket.AF_UNIX)) as connection:
        connection.settimeout(ANSWER_SECONDS)
        connection.connect(str(proxy.path))
        with suppress(ConnectionError):
            assert connection.recv(1024) == b""
