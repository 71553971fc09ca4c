"""Talk to an SMTP server over one connection that is reused (RFC 5321)."""

import re
import smtplib
import ssl
import time
from contextlib import ExitStack, suppress
from typing import NamedTuple

from tracker.status import Status
from workers.gateways.base import GatewayUnavailable
from workers.gateways.smtp_settings import SmtpSettings, Tls

PROBE_AFTER_IDLE_SECONDS = 5.0
"""Idle time after which a connection is tested with NOOP before it is used again."""

_ENHANCED_STATUS_CODE = re.compile(r"[245]\.\d{1,3}\.\d{1,3}\b")


class SmtpReply(NamedTuple):
    """A server's reply: a code of RFC 5321 and the first line of its text."""

    code: int
    text: str

    @classmethod
    def from_response(cls, response: tuple[int, bytes]) -> "SmtpReply":
        """Build a reply from a response of smtplib."""
        code, text = response
        lines = text.decode("ascii", "replace").splitlines()
        return cls(code, lines[0].strip() if lines else "")

    @property
    def is_success(self) -> bool:
        """True for a 2xx code."""
        return 200 <= self.code < 300

    @property
    def status(self) -> Status:
        """The outcome of the attempt; 4xx codes are transient failures (RFC 5321, 4.2.1)."""
        if self.is_success:
            return Status.DELIVERED
        return Status.SOFT_BOUNCED if 400 <= self.code < 500 else Status.HARD_BOUNCED

    @property
    def detail(self) -> str:
        """The reply as text, beginning with the enhanced status code (RFC 3463) if it has one."""
        if _ENHANCED_STATUS_CODE.match(self.text):
            return self.text
        return f"{self.code} {self.text}".strip()


SMTPUTF8_UNSUPPORTED_REPLY = SmtpReply(553, "5.6.7 the server doesn't support SMTPUTF8 addresses")
CONNECTION_LOST_REPLY = SmtpReply(421, "4.4.2 connection lost")


class SmtpConnection:
    """A connection to an SMTP server that is opened when needed and kept for later messages."""

    def __init__(self, settings: SmtpSettings) -> None:
        self._settings = settings
        self._server = f"SMTP server {settings.host}:{settings.port_in_use}"
        self._client: smtplib.SMTP | None = None
        self._last_used_at = 0.0

    def __del__(self) -> None:
        with suppress(AttributeError):  # __init__ failed
            self.close()

    @property
    def is_open(self) -> bool:
        """True if there is a connection, which the server may have closed meanwhile."""
        return self._client is not None

    def close(self) -> None:
        """Close the connection, if it is open."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def ensure_open(self) -> smtplib.SMTP:
        """Return the client of a working connection; open a new one if necessary.

        Raises:
            GatewayUnavailable: the server can't be reached, or it refuses the login.
        """
        idle_seconds = time.monotonic() - self._last_used_at
        if self._client is not None and idle_seconds > PROBE_AFTER_IDLE_SECONDS:
            try:
                is_alive = SmtpReply.from_response(self._client.noop()).is_success
            except OSError:
                is_alive = False
            if not is_alive:
                self.close()
        if self._client is None:
            self._client = self._connect()
            self._last_used_at = time.monotonic()
        return self._client

    def send(self, recipient: str, content: bytes) -> SmtpReply:
        """Send one message and return the reply that decides its outcome.

        If the connection breaks and a new one can be opened, the message is the cause, unless the
        connection had been used before: servers end old connections. Then it is sent again.

        Raises:
            GatewayUnavailable: the failure has nothing to do with the message.
        """
        is_new = not self.is_open
        client = self.ensure_open()
        if not recipient.isascii() and not client.has_extn("smtputf8"):
            return SMTPUTF8_UNSUPPORTED_REPLY
        try:
            return self._transact_or_close(client, recipient, content)
        except OSError as error:
            client = self.ensure_open()
            if is_new or isinstance(error.__context__, TimeoutError):
                return CONNECTION_LOST_REPLY
        try:
            return self._transact_or_close(client, recipient, content)
        except OSError:
            self.ensure_open()
            return CONNECTION_LOST_REPLY

    def _transact_or_close(self, client: smtplib.SMTP, recipient: str, content: bytes) -> SmtpReply:
        try:
            return self._transact(client, recipient, content)
        except BaseException:
            # The next message would mistake the outstanding replies for its own.
            self.close()
            raise

    def _transact(self, client: smtplib.SMTP, recipient: str, content: bytes) -> SmtpReply:
        options = () if recipient.isascii() else ("SMTPUTF8",)
        reply = SmtpReply.from_response(client.mail(self._settings.from_, options))
        if not reply.is_success:
            # The server rejects the sender, so no message can be sent.
            raise GatewayUnavailable(f"{self._server}: sender refused: {reply.detail}")
        reply = SmtpReply.from_response(client.rcpt(recipient))
        if reply.is_success:
            try:
                reply = SmtpReply.from_response(client.data(content))
            except smtplib.SMTPDataError as error:
                reply = SmtpReply.from_response(
                    (error.smtp_code, _decode_error_text(error).encode())
                )
        self._last_used_at = time.monotonic()
        if reply.code == CONNECTION_LOST_REPLY.code:
            raise GatewayUnavailable(f"{self._server}: service closing: {reply.detail}")
        if not reply.is_success:
            try:
                client.rset()
            except OSError:  # the server closed the connection after its reply
                self.close()
        return reply

    def _connect(self) -> smtplib.SMTP:
        settings = self._settings
        try:
            with ExitStack() as on_failure:
                client: smtplib.SMTP
                if settings.tls is Tls.TLS:
                    client = smtplib.SMTP_SSL(
                        settings.host,
                        settings.port_in_use,
                        timeout=settings.timeout,
                        context=ssl.create_default_context(),
                    )
                else:
                    client = smtplib.SMTP(
                        settings.host, settings.port_in_use, timeout=settings.timeout
                    )
                on_failure.callback(client.close)
                if settings.tls is Tls.STARTTLS:
                    client.starttls(context=ssl.create_default_context())
                client.ehlo_or_helo_if_needed()
                if settings.username is not None:
                    password = settings.password.get_secret_value() if settings.password else ""
                    client.login(settings.username, password)
                on_failure.pop_all()
        except OSError as error:
            raise GatewayUnavailable(
                f"{self._server}: connection failed: {_describe_error(error)}"
            ) from None
        return client


def _describe_error(error: Exception) -> str:
    """Return what the server or the network reported, without the credentials that we sent."""
    if isinstance(error, smtplib.SMTPResponseException):
        return f"{error.smtp_code} {_decode_error_text(error)}"
    return str(error) or type(error).__name__


def _decode_error_text(error: smtplib.SMTPResponseException) -> str:
    text = error.smtp_error
    return text.decode("ascii", "replace") if isinstance(text, bytes) else text
