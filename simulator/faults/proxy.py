"""A proxy between two programs that can stall or cut their connections."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

CHUNK_BYTES = 64 * 1024


class Upstream(NamedTuple):
    """The address of a server: a Unix socket, or a host and port."""

    path: Path | None = None
    host: str = ""
    port: int = 0


class SocketProxy:
    """A Unix socket whose connections lead to a server.

    The methods may be called from any thread.
    """

    def __init__(self, path: Path, upstream: Upstream) -> None:
        self.path, self._upstream = path, upstream
        self._loop = asyncio.new_event_loop()
        self._forwarding = asyncio.Event()
        self._forwarding.set()
        self._accepting = True
        self._connections: set[asyncio.Task[None]] = set()

    @contextmanager
    def running(self) -> Iterator["SocketProxy"]:
        """Serve the socket, in a thread of its own, for the duration of the block."""
        ready = threading.Event()
        thread = threading.Thread(target=self._serve, args=(ready,), name="proxy", daemon=True)
        thread.start()
        ready.wait()
        try:
            yield self
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            thread.join()

    def stall(self) -> None:
        """Hold back all data; connections stay open."""
        self._loop.call_soon_threadsafe(self._forwarding.clear)

    def disconnect(self) -> None:
        """Close all connections, and refuse new ones."""

        def close_all() -> None:
            self._accepting = False
            for connection in self._connections:
                connection.cancel()

        self._loop.call_soon_threadsafe(close_all)

    def resume(self) -> None:
        """Forward data and accept connections again."""

        def restore() -> None:
            self._accepting = True
            self._forwarding.set()

        self._loop.call_soon_threadsafe(restore)

    def _serve(self, ready: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        listening = asyncio.start_unix_server(self._handle_connection, self.path)
        server = self._loop.run_until_complete(listening)
        ready.set()
        self._loop.run_forever()
        server.close()
        for connection in self._connections:
            connection.cancel()
        self._loop.run_until_complete(asyncio.gather(*self._connections, return_exceptions=True))
        self._loop.close()

    def _handle_connection(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        connection = self._loop.create_task(self._relay(reader, writer))
        self._connections.add(connection)
        connection.add_done_callback(self._connections.discard)

    async def _relay(
        self, client_reader: asyncio.StreamReader, client_writer: asyncio.StreamWriter
    ) -> None:
        writers = [client_writer]
        try:
            await self._forwarding.wait()
            if self._accepting:
                server_reader, server_writer = await self._connect_upstream()
                writers.append(server_writer)
                await asyncio.wait(
                    [
                        asyncio.create_task(self._forward(client_reader, server_writer)),
                        asyncio.create_task(self._forward(server_reader, client_writer)),
                    ],
                    return_when=asyncio.FIRST_COMPLETED,
                )
        except OSError:
            pass  # the server is unavailable, so the client's connection is closed as well
        finally:
            for writer in writers:
                writer.transport.abort()

    async def _connect_upstream(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._upstream.path is not None:
            return await asyncio.open_unix_connection(self._upstream.path)
        return await asyncio.open_connection(self._upstream.host, self._upstream.port)

    async def _forward(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await source.read(CHUNK_BYTES):
                await self._forwarding.wait()
                target.write(data)
                await target.drain()
