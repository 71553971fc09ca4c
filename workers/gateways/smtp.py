"""A real gateway for email: an SMTP server (RFC 5321), configured in the environment alone.

SMTP knows no idempotency key. Should a worker die between the server's answer and our commit, or
the connection before the answer comes, the message is sent again, with the same Message-ID.
"""

import hashlib
import re
import smtplib
import ssl
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP as WIRE_FORMAT
from email.utils import format_datetime
from enum import StrEnum
from functools import cached_property
from typing import ClassVar, NamedTuple

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from tracker.clock import Instant, to_datetime
from tracker.errors import UsageError
from tracker.record.catalog import Batch, Campaign
from tracker.record.engagement import EngagementEvent
from tracker.record.receipts import Receipt
from tracker.status import Channel, Status
from tracker.store.database import Database
from workers.gateways.base import (
    DeliveredMessages,
    GatewayUnavailable,
    PollResult,
    Submission,
    SubmissionResult,
)

GATEWAY_KIND = "smtp"
"""Its name among the entry points."""

MAX_CALL_SECONDS = 20.0
"""Seconds after which a call takes no more messages: a step has 60. The rest comes back at once."""

PROBE_AFTER_IDLE_SECONDS = 5.0
"""Seconds after which a connection is tried before it is used again."""

ENV_PREFIX = "SENDTRACE_SMTP_"

_MAILBOX = re.compile(r"[^\s\x00-\x1f\x7f<>()\[\]@,;:\"\\]+@[^\s\x00-\x1f\x7f<>()\[\]@,;:\"\\]+")
_ENHANCED_STATUS_CODE = re.compile(r"[245]\.\d{1,3}\.\d{1,3}\b")


class Tls(StrEnum):
    """How the connection is encrypted: not, by STARTTLS, or from the beginning."""

    NONE = "none"
    STARTTLS = "starttls"
    TLS = "tls"


DEFAULT_PORTS = {Tls.NONE: 25, Tls.STARTTLS: 587, Tls.TLS: 465}


class SmtpSettings(BaseSettings):
    """The environment's ``SENDTRACE_SMTP_…`` variables. ``timeout`` is in seconds."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, env_ignore_empty=True, frozen=True)

    host: str
    from_: str = Field(validation_alias=f"{ENV_PREFIX}FROM")
    port: int | None = Field(None, ge=1, le=65_535)
    tls: Tls = Tls.STARTTLS
    username: str | None = None
    password: SecretStr | None = None
    timeout: float = Field(10.0, gt=0, le=10)

    @property
    def is_password_exposed(self) -> bool:
        """Whether others on the network could read it."""
        here = self.host in ("localhost", "127.0.0.1", "::1")
        return self.tls is Tls.NONE and self.username is not None and not here

    @field_validator("username", "password")
    @classmethod
    def _require_ascii(cls, value: str | SecretStr | None) -> str | SecretStr | None:
        text = value.get_secret_value() if isinstance(value, SecretStr) else value
        if text is not None and not text.isascii():
            raise ValueError("it has characters that are not ASCII, which SMTP can't take")
        return value

    @field_validator("from_")
    @classmethod
    def _require_mailbox(cls, address: str) -> str:
        if _MAILBOX.fullmatch(address) is None or not address.isascii():
            raise ValueError(f"{address!r} is no address; expected one like news@shop.example")
        return address


def load_smtp_settings() -> SmtpSettings:
    """The settings; :exc:`UsageError` names the variable that is missing or wrong."""
    try:
        return SmtpSettings()  # type: ignore[call-arg]  # they come from the environment
    except ValidationError as error:
        problem = error.errors()[0]
        name = str(problem["loc"][0]).upper().removeprefix(ENV_PREFIX)
        said = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "missing":
            said = "is not set; the smtp gateway needs it"
        raise UsageError(f"{ENV_PREFIX}{name}: {said}") from None


class SmtpReply(NamedTuple):
    """What a server says: a code of RFC 5321, and its first line."""

    code: int
    text: str

    @classmethod
    def from_response(cls, said: tuple[int, bytes]) -> "SmtpReply":
        lines = said[1].decode("ascii", "replace").splitlines()
        return cls(said[0], lines[0].strip() if lines else "")

    @property
    def is_success(self) -> bool:
        return 200 <= self.code < 300

    @property
    def status(self) -> Status:
        """What an attempt has come to; codes of 4xx are refusals for now (RFC 5321, 4.2.1)."""
        if self.is_success:
            return Status.DELIVERED
        return Status.SOFT_BOUNCED if 400 <= self.code < 500 else Status.HARD_BOUNCED

    @property
    def detail(self) -> str:
        """It begins with the enhanced status code (RFC 3463), where the server gives one."""
        return (
            self.text
            if _ENHANCED_STATUS_CODE.match(self.text)
            else f"{self.code} {self.text}".strip()
        )


INVALID_ADDRESS_REPLY = SmtpReply(553, "5.1.3 this is no address")
SMTPUTF8_UNSUPPORTED_REPLY = SmtpReply(553, "5.6.7 the server takes no such address (SMTPUTF8)")
CONNECTION_LOST_REPLY = SmtpReply(421, "4.4.2 the connection was lost")


class SmtpGateway:
    """An SMTP server behind the workers' protocol: what it takes over counts as delivered."""

    network: ClassVar = True
    channels: ClassVar = frozenset({Channel.EMAIL})

    def __init__(self, _settings: str, _database: Database) -> None:
        self._settings = load_smtp_settings()
        if self._settings.is_password_exposed:
            raise UsageError(
                f"{ENV_PREFIX}TLS: a password must not go over the network in the clear;"
                " expected starttls or tls"
            )
        self._connection: smtplib.SMTP | None = None
        self._last_used_at = 0.0

    def check(self) -> None:
        """Raise :exc:`GatewayUnavailable` if the server can't be reached, or does not let us in."""
        self._ensure_connected()

    def submit(self, submission: Submission, now: Instant) -> SubmissionResult:
        """Send one message after the other, over one connection, for no longer than a while."""
        began = time.monotonic()
        clock = submission.campaign.clock
        receipts: list[Receipt] = []
        for number, recipient in zip(submission.numbers, submission.recipients, strict=True):
            try:
                reply = self._send(submission.campaign, number, recipient)
            except GatewayUnavailable:
                if not receipts:
                    raise
                break
            receipts.append(
                Receipt(number, submission.attempt, reply.status, clock.now(), detail=reply.detail)
            )
            if time.monotonic() - began > MAX_CALL_SECONDS:
                break
        return SubmissionResult({now: [receipt.number for receipt in receipts]}, receipts)

    def receipts(
        self, _batch: Batch, _awaited: Mapping[int, Sequence[int]], _now: Instant
    ) -> PollResult[Receipt]:
        """Nothing: all was said when the messages were taken over."""
        return PollResult(())

    def engagement(
        self, _batch: Batch, _delivered: DeliveredMessages, _since: Instant, _now: Instant
    ) -> PollResult[EngagementEvent]:
        """Nothing: a server does not know."""
        return PollResult(())

    def _send(self, campaign: Campaign, number: int, recipient: str) -> SmtpReply:
        """What became of a message; :exc:`GatewayUnavailable` if that has nothing to do with it.

        Where the connection breaks but another can be made, it is the message that breaks it.
        """
        if _MAILBOX.fullmatch(recipient) is None:
            return INVALID_ADDRESS_REPLY
        try:
            content = self._build_message(campaign, number, recipient)
        except (ValueError, IndexError, AttributeError):  # the email package's parser gave up
            return INVALID_ADDRESS_REPLY
        is_fresh = self._connection is None
        connection = self._ensure_connected()
        if not recipient.isascii() and not connection.has_extn("smtputf8"):
            return SMTPUTF8_UNSUPPORTED_REPLY
        try:
            return self._transact_or_disconnect(connection, recipient, content)
        except OSError as error:
            connection = self._ensure_connected()
            if is_fresh or isinstance(error.__context__, TimeoutError):
                return CONNECTION_LOST_REPLY
        # The server may have had enough of the old connection, which is not the message's fault.
        try:
            return self._transact_or_disconnect(connection, recipient, content)
        except OSError:
            self._ensure_connected()
            return CONNECTION_LOST_REPLY

    def _transact_or_disconnect(
        self, connection: smtplib.SMTP, recipient: str, content: bytes
    ) -> SmtpReply:
        """A transaction. On a connection that was left within one, a later message would take the
        replies to this one for its own."""
        try:
            return self._transact(connection, recipient, content)
        except BaseException:
            self._disconnect()
            raise

    def _transact(self, connection: smtplib.SMTP, recipient: str, content: bytes) -> SmtpReply:
        utf8 = () if recipient.isascii() else ("SMTPUTF8",)
        reply = SmtpReply.from_response(connection.mail(self._settings.from_, utf8))
        if not reply.is_success:
            # That is about us, not about the message.
            self._disconnect()
            raise GatewayUnavailable(f"the SMTP server refuses the sender: {reply.detail}")
        reply = SmtpReply.from_response(connection.rcpt(recipient))
        if reply.is_success:
            try:
                reply = SmtpReply.from_response(connection.data(content))
            except smtplib.SMTPDataError as error:
                reply = SmtpReply.from_response(
                    (error.smtp_code, _decode_error_text(error).encode())
                )
        self._last_used_at = time.monotonic()
        if reply.code == CONNECTION_LOST_REPLY.code:
            self._disconnect()
            raise GatewayUnavailable(f"the SMTP server closes the connection: {reply.detail}")
        if not reply.is_success:
            try:
                connection.rset()
            except OSError:  # it said what it had to say, and hung up
                self._disconnect()
        return reply

    def _ensure_connected(self) -> smtplib.SMTP:
        """The connection, made anew where there is none or it is gone."""
        if (
            self._connection is not None
            and time.monotonic() - self._last_used_at > PROBE_AFTER_IDLE_SECONDS
        ):
            try:
                is_there = SmtpReply.from_response(self._connection.noop()).is_success
            except OSError:
                is_there = False
            if not is_there:
                self._disconnect()
        if self._connection is None:
            self._connection = self._connect()
            self._last_used_at = time.monotonic()
        return self._connection

    def _connect(self) -> smtplib.SMTP:
        settings = self._settings
        host, port = settings.host, settings.port or DEFAULT_PORTS[settings.tls]
        try:
            with ExitStack() as failing:
                connection: smtplib.SMTP
                if settings.tls is Tls.TLS:
                    context = ssl.create_default_context()
                    connection = smtplib.SMTP_SSL(
                        host, port, timeout=settings.timeout, context=context
                    )
                else:
                    connection = smtplib.SMTP(host, port, timeout=settings.timeout)
                failing.callback(connection.close)
                if settings.tls is Tls.STARTTLS:
                    connection.starttls(context=ssl.create_default_context())
                connection.ehlo_or_helo_if_needed()
                if settings.username is not None:
                    password = settings.password.get_secret_value() if settings.password else ""
                    connection.login(settings.username, password)
                failing.pop_all()
        except OSError as error:
            raise GatewayUnavailable(
                f"the SMTP server {host}:{port} can't be used: {_describe_error(error)}"
            ) from None
        return connection

    def __del__(self) -> None:
        with suppress(AttributeError):  # it was not even made
            self._disconnect()

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _build_message(self, campaign: Campaign, number: int, recipient: str) -> bytes:
        message = EmailMessage(policy=WIRE_FORMAT.clone(utf8=not recipient.isascii()))
        name = "".join(each if each.isprintable() else " " for each in campaign.sender)
        message["Subject"] = campaign.name
        message["From"] = Address(name, addr_spec=self._settings.from_)
        message["To"] = recipient
        message["Date"] = format_datetime(to_datetime(campaign.clock.now()))
        message["Message-ID"] = self._message_id(campaign, number)
        message.set_content(f"{campaign.name}\n")
        return message.as_bytes()

    def _message_id(self, campaign: Campaign, number: int) -> str:
        """The same each time, so that whoever gets a message twice can tell."""
        return f"<{number}.{campaign.id}.{self._hash_campaign(campaign)}@{self._sender_domain}>"

    @staticmethod
    def _hash_campaign(campaign: Campaign) -> str:
        """Tells the campaigns of one database from those of another."""
        source = f"{campaign.run_id} {campaign.started_at} {campaign.name}"
        return hashlib.blake2b(source.encode(), digest_size=6).hexdigest()

    @cached_property
    def _sender_domain(self) -> str:
        return self._settings.from_.rpartition("@")[2]


def _describe_error(error: Exception) -> str:
    """What went wrong, without what we told the server."""
    if isinstance(error, smtplib.SMTPResponseException):
        return f"{error.smtp_code} {_decode_error_text(error)}"
    return str(error) or type(error).__name__


def _decode_error_text(error: smtplib.SMTPResponseException) -> str:
    said = error.smtp_error
    return said.decode("ascii", "replace") if isinstance(said, bytes) else said
