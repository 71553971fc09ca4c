"""A line between two programs that can be disturbed: what goes over it can be held up, or cut."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

CHUNK = 64 * 1024
"""Bytes that are passed on at once."""


class Place(NamedTuple):
    """Where a server listens: at a Unix socket, or at a port of a host."""

    path: Path | None = None
    host: str = ""
    port: int = 0


class Line:
    """A Unix socket at ``path`` that leads to a server at a ``place``. Use it as a context manager.

    Its methods may be called from any thread.
    """

    def __init__(self, path: Path, place: Place) -> None:
        self.path, self._place = path, place
        self._loop = asyncio.new_event_loop()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._open = True
        self._calls: set[asyncio.Task[None]] = set()

    @contextmanager
    def running(self) -> Iterator["Line"]:
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

    def hold_up(self) -> None:
        """From now on nothing comes through, and nobody is told."""
        self._loop.call_soon_threadsafe(self._flowing.clear)

    def cut(self) -> None:
        """End what is connected, and from now on let nobody in."""

        def end() -> None:
            self._open = False
            for call in self._calls:
                call.cancel()

        self._loop.call_soon_threadsafe(end)

    def mend(self) -> None:
        """Let everything through again."""

        def restore() -> None:
            self._open = True
            self._flowing.set()

        self._loop.call_soon_threadsafe(restore)

    def _run(self, ready: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        listening = asyncio.start_unix_server(self._connect, self.path)
        server = self._loop.run_until_complete(listening)
        ready.set()
        self._loop.run_forever()
        server.close()
        for call in self._calls:
            call.cancel()
        self._loop.run_until_complete(asyncio.gather(*self._calls, return_exceptions=True))
        self._loop.close()

    def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        call = self._loop.create_task(self._serve(reader, writer))
        self._calls.add(call)
        call.add_done_callback(self._calls.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = None
        try:
            await self._flowing.wait()
            if self._open:
                answers, there = await self._reach()
                await asyncio.wait(
                    [
                        asyncio.create_task(self._pass_on(reader, there)),
                        asyncio.create_task(self._pass_on(answers, writer)),
                    ],
                    return_when=asyncio.FIRST_COMPLETED,
                )
        except OSError:
            pass  # the server is away: so are we
        finally:
            for each in (writer, there):
                if each is not None:
                    each.transport.abort()

    async def _reach(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._place.path is not None:
            return await asyncio.open_unix_connection(self._place.path)
        return await asyncio.open_connection(self._place.host, self._place.port)

    async def _pass_on(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await source.read(CHUNK):
                await self._flowing.wait()
                target.write(data)
                await target.drain()
