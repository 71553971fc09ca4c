"""Read the settings of the SMTP gateway from the environment."""

import base64
import re
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

from tracker.errors import UsageError
from tracker.settings import load_environment
from tracker.system.loopback import is_loopback
from tracker.text import hide_secrets

ENV_PREFIX = "SENDTRACE_SMTP_"

_MAILBOX = re.compile(r"[^\s\x00-\x1f\x7f<>()\[\]@,;:\"\\]+@[^\s\x00-\x1f\x7f<>()\[\]@,;:\"\\]+")
"""Addresses with a local part and a domain, and no SMTP syntax in them; `localhost` is a domain."""


class Tls(StrEnum):
    """The encryption of the connection: none, after STARTTLS, or from its start."""

    NONE = "none"
    STARTTLS = "starttls"
    TLS = "tls"


DEFAULT_PORTS = {Tls.NONE: 25, Tls.STARTTLS: 587, Tls.TLS: 465}


class SmtpSettings(BaseModel):
    """The values of the `SENDTRACE_SMTP_…` variables; `timeout` is in seconds."""

    model_config = ConfigDict(frozen=True)

    host: str
    from_: str
    port: int | None = Field(default=None, ge=1, le=65_535)
    tls: Tls = Tls.STARTTLS
    username: str | None = None
    password: SecretStr | None = None
    timeout: float = Field(default=10.0, gt=0, le=10)

    def hide_secrets(self, text: str) -> str:
        """Return a text without the password, which a server may return in a refusal of a login."""
        if not self.password or not self.password.get_secret_value():
            return text
        password = self.password.get_secret_value().encode()
        login = f"\0{self.username}\0".encode() + password
        # As it is, and as the commands AUTH LOGIN and AUTH PLAIN send it (RFC 4954, RFC 4616).
        secrets = (base64.b64encode(login), base64.b64encode(password), password)
        return hide_secrets(text, map(bytes.decode, secrets))

    @property
    def port_in_use(self) -> int:
        """The configured port, or the default one for `tls`."""
        return self.port or DEFAULT_PORTS[self.tls]

    @property
    def is_password_exposed(self) -> bool:
        """True if a login would send the password unencrypted to another machine."""
        is_local = is_loopback(self.host)
        return self.tls is Tls.NONE and self.username is not None and not is_local

    @field_validator("username", "password")
    @classmethod
    def _require_ascii(cls, value: str | SecretStr | None) -> str | SecretStr | None:
        text = value.get_secret_value() if isinstance(value, SecretStr) else value
        if text is not None and not text.isascii():
            raise ValueError("got characters outside ASCII; SMTP logins accept only ASCII")
        return value

    @field_validator("from_")
    @classmethod
    def _require_mailbox(cls, address: str) -> str:
        if not _MAILBOX.fullmatch(address) or not address.isascii():
            raise ValueError(f"got {address!r}; expected an address such as news@shop.example")
        return address


def load_smtp_settings() -> SmtpSettings:
    """Return the settings; raise `UsageError` that names the variable that is missing or wrong."""
    settings = load_environment(SmtpSettings, ENV_PREFIX)
    if settings.is_password_exposed:
        raise UsageError(
            f"{ENV_PREFIX}TLS: got none with a username; expected starttls or tls, so that the"
            " password is encrypted"
        )
    return settings
