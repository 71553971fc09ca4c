"""Talk to an SMTP server over one connection that is reused (RFC 5321)."""

import re
import smtplib
import ssl
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from typing import NamedTuple

from tracker.replies import ReplyKind, ReplyRule, classify_reply
from tracker.text import make_printable
from workers.gateways.base import GatewayUnavailable
from workers.gateways.smtp_client import LimitedClient, TlsClient
from workers.gateways.smtp_settings import ENV_PREFIX, SmtpSettings, Tls
from workers.gateways.step_time import MAX_REPLY_SECONDS, STEP_MARGIN_SECONDS, extend_step_time

PROBE_AFTER_IDLE_SECONDS = 5.0
"""Idle time after which a connection is tested with NOOP before it is used again."""

START_INPUT_CODE, SERVICE_CLOSING_CODE = 354, 421
"""Codes of replies (RFC 5321): to DATA, and from a server that closes the connection."""

NO_TLS_REASONS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE")
"""What OpenSSL says of a server that answers in clear text; the second since version 3.5."""

_REPEATED_CODE = re.compile(r"\n\s*(?:[245]\.\d{1,3}\.\d{1,3}\b)?\s*")


class SmtpReply(NamedTuple):
    """A server's reply: a code of RFC 5321 and its text, in one line."""

    code: int
    text: str

    @classmethod
    def from_response(cls, response: tuple[int, bytes]) -> "SmtpReply":
        """Build a reply from a response of smtplib; an enhanced code is kept of the first line."""
        code, text = response
        return cls(code, make_printable(_REPEATED_CODE.sub(" ", text.decode(errors="replace"))))

    @property
    def is_success(self) -> bool:
        """True for a 2xx code."""
        return 200 <= self.code < 300

    @property
    def is_temporary(self) -> bool:
        """True for a 4xx code: a transient failure (RFC 5321, 4.2.1)."""
        return 400 <= self.code < 500

    def outcome(self, rules: Sequence[ReplyRule]) -> ReplyKind | None:
        """Return what the reply says of a message that wasn't accepted; None if it was."""
        return None if self.is_success else classify_reply(str(self), rules)

    def __str__(self) -> str:
        """Return the reply as the server sent it."""
        return f"{self.code} {self.text}".strip()


SMTPUTF8_UNSUPPORTED_REPLY = SmtpReply(553, "5.6.7 the server doesn't support SMTPUTF8 addresses")
CONNECTION_LOST_REPLY = SmtpReply(451, "4.4.2 connection lost")
NO_REPLY = SmtpReply(0, "no reply to the message")
"""Stands for the reply to a message that was handed over, which never came."""


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

        Without a reply to the whole message, NO_REPLY is returned: the server may have accepted
        the message, so it isn't sent again.

        If the connection breaks and a new one can be opened, the message is the cause, unless the
        connection had been used before: servers end old connections. Then it is sent again.

        Raises:
            GatewayUnavailable: the failure has nothing to do with the message.
        """
        is_new = self._client is None
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
            raise GatewayUnavailable(f"{self._server}: sender refused: {reply}")
        reply = SmtpReply.from_response(client.rcpt(recipient))
        if reply.is_success:
            reply = self._send_content(client, content)
        self._last_used_at = time.monotonic()
        if reply.code in (SERVICE_CLOSING_CODE, NO_REPLY.code):
            self.close()
        elif not reply.is_success:
            try:
                client.rset()
            except OSError:  # the server closed the connection after its reply
                self.close()
        return reply

    def _send_content(self, client: smtplib.SMTP, content: bytes) -> SmtpReply:
        reply = SmtpReply.from_response(client.docmd("DATA"))
        if reply.code != START_INPUT_CODE:
            return reply
        sock = client.sock
        if sock is None:
            raise smtplib.SMTPServerDisconnected("the connection is closed")
        extend_step_time(self._settings.timeout + STEP_MARGIN_SECONDS)
        client.send(_quote_content(content))
        # The server has the whole message now. The step must not end before it is recorded.
        extend_step_time(MAX_REPLY_SECONDS + STEP_MARGIN_SECONDS)
        try:
            sock.settimeout(MAX_REPLY_SECONDS)
            reply = SmtpReply.from_response(client.getreply())
            sock.settimeout(self._settings.timeout)
        except OSError:
            return NO_REPLY
        return reply if reply.code > 0 else NO_REPLY

    def _connect(self) -> smtplib.SMTP:
        settings = self._settings
        try:
            with ExitStack() as on_failure:
                client: smtplib.SMTP
                if settings.tls is Tls.TLS:
                    client = TlsClient(
                        settings.host,
                        settings.port_in_use,
                        timeout=settings.timeout,
                        context=ssl.create_default_context(),
                    )
                else:
                    client = LimitedClient(
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
                f"{self._server}: connection failed:"
                f" {settings.hide_secrets(_describe_error(error))}"
            ) from None
        return client


def _quote_content(content: bytes) -> bytes:
    """Return a message with line ends and dots as DATA needs them, and the final dot."""
    lines = re.sub(rb"\r\n|\r|\n", b"\r\n", content)
    end = b"" if lines.endswith(b"\r\n") else b"\r\n"
    return re.sub(rb"(?m)^\.", b"..", lines) + end + b".\r\n"


def _describe_error(error: Exception) -> str:
    """Return what the server or the network reported, and the setting that may be wrong."""
    if isinstance(error, smtplib.SMTPNotSupportedError) and "STARTTLS" in str(error):
        return f"the server doesn't offer STARTTLS; set {ENV_PREFIX}TLS=tls or none"
    if isinstance(error, ssl.SSLError) and error.reason in NO_TLS_REASONS:
        return f"the server doesn't speak TLS on this port; set {ENV_PREFIX}TLS=starttls or none"
    if isinstance(error, smtplib.SMTPResponseException):
        text = error.smtp_error
        text = text.decode(errors="replace") if isinstance(text, bytes) else text
        return f"{error.smtp_code} {make_printable(text)}"
    return str(error) or type(error).__name__
