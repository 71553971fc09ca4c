"""An SMTP client whose replies are limited, whatever the server sends."""

import io
import smtplib
import socket
import time
from typing import Any

MAX_REPLY_BYTES = 64 * 1024
"""Bytes of a reply that are read."""

MIN_WAIT_SECONDS = 0.001
"""Shortest timeout of a socket: zero means not to wait at all, which is another error."""


class _LimitedReader(io.RawIOBase):
    """A socket's bytes of one reply, limited in their number and in the time that all may take.

    The timeout of a socket is for one read only. A server that sends a line now and then, or lines
    without end, would outlast a step, and its message would be sent again.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._left = 0
        self._ends_at: float | None = None

    def begin(self) -> None:
        """Begin a reply; the timeout of the socket is for the whole of it."""
        timeout = self._socket.gettimeout()
        self._left = MAX_REPLY_BYTES
        self._ends_at = None if timeout is None else time.monotonic() + timeout

    def readable(self) -> bool:
        """Return True: that is what this reader is for."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read some bytes; raise OSError if the reply takes too long or is too long."""
        timeout = self._socket.gettimeout()
        if self._ends_at is not None:
            self._socket.settimeout(max(self._ends_at - time.monotonic(), MIN_WAIT_SECONDS))
        try:
            size = self._socket.recv_into(buffer)
        finally:
            self._socket.settimeout(timeout)
        self._left -= size
        if self._left < 0:
            raise OSError(f"the reply has more than {MAX_REPLY_BYTES:,} bytes")
        return size


class LimitedClient(smtplib.SMTP):
    """A client whose replies are read by a `_LimitedReader`."""

    _reader: _LimitedReader | None = None

    def getreply(self) -> tuple[int, bytes]:
        """Read a reply; raise OSError if it takes too long or is too long."""
        if self.file is None and self.sock is not None:
            self._reader = _LimitedReader(self.sock)
            self.file = io.BufferedReader(self._reader)
        if self._reader is not None:
            self._reader.begin()
        return super().getreply()


class TlsClient(LimitedClient, smtplib.SMTP_SSL):
    """A client of a connection that is encrypted from its start."""
