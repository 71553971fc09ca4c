"""A line between two programs that can be disturbed: what goes over it can be held up, or cut."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

CHUNK_BYTES = 64 * 1024
"""Bytes that are passed on at once."""


class Upstream(NamedTuple):
    """Where a server listens: at a Unix socket, or at a port of a host."""

    path: Path | None = None
    host: str = ""
    port: int = 0


class SocketProxy:
    """A Unix socket at ``path`` that leads to a server at a ``place``. Use it as a context manager.

    Its methods may be called from any thread.
    """

    def __init__(self, path: Path, place: Upstream) -> None:
        self.path, self._upstream = path, place
        self._loop = asyncio.new_event_loop()
        self._forwarding = asyncio.Event()
        self._forwarding.set()
        self._accepting = True
        self._connections: set[asyncio.Task[None]] = set()

    @contextmanager
    def running(self) -> Iterator["SocketProxy"]:
        """A block in which the line is there."""
        ready = threading.Event()
        thread = threading.Thread(target=self._run, args=(ready,), name="line", daemon=True)
        thread.start()
        ready.wait()
        try:
            yield self
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            thread.join()

    def stall(self) -> None:
        """From now on nothing comes through, and nobody is told."""
        self._loop.call_soon_threadsafe(self._forwarding.clear)

    def disconnect(self) -> None:
        """End what is connected, and from now on let nobody in."""

        def end() -> None:
            self._accepting = False
            for call in self._connections:
                call.cancel()

        self._loop.call_soon_threadsafe(end)

    def resume(self) -> None:
        """Let everything through again."""

        def restore() -> None:
            self._accepting = True
            self._forwarding.set()

        self._loop.call_soon_threadsafe(restore)

    def _run(self, ready: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        listening = asyncio.start_unix_server(self._handle_connection, self.path)
        server = self._loop.run_until_complete(listening)
        ready.set()
        self._loop.run_forever()
        server.close()
        for call in self._connections:
            call.cancel()
        self._loop.run_until_complete(asyncio.gather(*self._connections, return_exceptions=True))
        self._loop.close()

    def _handle_connection(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        call = self._loop.create_task(self._relay(reader, writer))
        self._connections.add(call)
        call.add_done_callback(self._connections.discard)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = None
        try:
            await self._forwarding.wait()
            if self._accepting:
                answers, there = await self._connect_upstream()
                await asyncio.wait(
                    [
                        asyncio.create_task(self._forward(reader, there)),
                        asyncio.create_task(self._forward(answers, writer)),
                    ],
                    return_when=asyncio.FIRST_COMPLETED,
                )
        except OSError:
            pass  # the server is away: so are we
        finally:
            for each in (writer, there):
                if each is not None:
                    each.transport.abort()

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
