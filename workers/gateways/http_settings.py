"""The settings of an HTTP gateway, from the scenario, and their secrets, from the environment."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from html import escape
from typing import Annotated, Literal
from urllib.parse import parse_qsl, quote, quote_plus, urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue

from tracker.errors import UsageError
from tracker.settings import load_environment, read_variable
from tracker.system.loopback import is_loopback
from tracker.text import hide_secrets
from workers.gateways.http_template import DEFAULT_BODY, compile_json
from workers.gateways.step_time import MAX_REPLY_SECONDS

ENV_PREFIX = "SENDTRACE_HTTP_"

_PLACEHOLDER = re.compile(r"\$\{([^{}]*)\}")
_SECRET_VARIABLE = re.compile(rf"{ENV_PREFIX}[A-Z0-9_]+")
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # a token of RFC 9110
_HEADER_VALUE = re.compile(r"[\x20-\x7e]+")
_SECRET_NAME = re.compile(r"auth|cookie|key|password|secret|token", re.IGNORECASE)
_RESERVED_HEADERS = frozenset(
    {"connection", "content-length", "content-type", "host", "te", "transfer-encoding", "upgrade"}
)


def _validate_url(text: str) -> str:
    try:
        url = urlsplit(text)
        is_valid = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
    except ValueError:
        is_valid = False
    if not is_valid or not re.fullmatch(r"[!-~]+", text) or url.fragment:
        raise ValueError(f"got {text!r}; expected a URL such as https://api.shop.internal/send")
    names = [name for name, _ in parse_qsl(url.query, keep_blank_values=True)]
    has_secret = any(_SECRET_NAME.search(name) for name in names)
    if has_secret or url.username is not None or _PLACEHOLDER.search(text):
        raise ValueError("got a URL with credentials; expected them in a header")
    return text


def _validate_header_name(name: str) -> str:
    if not _HEADER_NAME.fullmatch(name) or name.lower() in _RESERVED_HEADERS:
        raise ValueError(f"got {name!r}; expected the name of a header of your own")
    return name


def _validate_headers(headers: dict[str, str]) -> dict[str, str]:
    for name, value in headers.items():
        _validate_header_name(name)
        if not _HEADER_VALUE.fullmatch(value):
            raise ValueError(f"got {value!r} for {name}; expected printable ASCII characters")
        variables = _PLACEHOLDER.findall(value)
        for variable in variables:
            if not _SECRET_VARIABLE.fullmatch(variable):
                raise ValueError(
                    f"got ${{{variable}}} for {name}; expected a variable of the environment"
                    f" whose name begins with {ENV_PREFIX}"
                )
        if not variables and _SECRET_NAME.search(name):
            raise ValueError(
                f"got a value for {name}; expected a secret of the environment, such as"
                f" ${{{ENV_PREFIX}KEY}}"
            )
    return headers


def _validate_body(body: dict[str, JsonValue]) -> dict[str, JsonValue]:
    if "recipient" not in compile_json(body).variables:
        raise ValueError("expected {{ recipient }} in one of the strings")
    return body


class HttpSettings(BaseModel):
    """The request that an HTTP gateway sends for each message, as it is recorded."""

    model_config = ConfigDict(frozen=True, extra="forbid", serialize_by_alias=True)

    url: Annotated[
        str, AfterValidator(_validate_url), Field(examples=["https://api.shop.internal/send"])
    ]
    """Address to send each message to. Any host but loopback must be in `SENDTRACE_HTTP_HOSTS`."""
    method: Annotated[Literal["POST", "PUT"], Field(examples=["PUT"])] = "POST"
    """Method of the request."""
    headers: Annotated[
        dict[str, str],
        AfterValidator(_validate_headers),
        Field(examples=[{"Authorization": f"Bearer ${{{ENV_PREFIX}KEY}}"}]),
    ] = Field(default_factory=dict)
    """Headers of the request. `${SENDTRACE_HTTP_…}` is replaced by that variable."""
    body: Annotated[
        dict[str, JsonValue],
        AfterValidator(_validate_body),
        Field(alias="json", examples=[{"to": "{{ recipient }}", "text": "{{ text }}"}]),
    ] = Field(default_factory=lambda: dict[str, JsonValue](DEFAULT_BODY))
    """JSON of the request. Its strings are Jinja2 templates."""
    idempotency_header: Annotated[
        str | None, AfterValidator(lambda name: name and _validate_header_name(name))
    ] = Field(default=None, examples=["Idempotency-Key"])
    """Header with a key of the message and its attempt. It says that the server accepts a key only
    once, so a request without a reply is repeated."""
    receipts_within: timedelta | None = None
    """Time after the latest acceptance in which the server reports outcomes to the API. A 2xx reply
    then only means accepted. Default: no reports, and a 2xx reply means delivered."""
    parallel: Annotated[int, Field(ge=1, le=64, strict=True, examples=[8])] = 4
    """Requests at the same time, at most, of each worker process."""


class HttpEnvironment(BaseModel):
    """The values of the `SENDTRACE_HTTP_…` variables; `timeout` is in seconds."""

    model_config = ConfigDict(frozen=True)

    hosts: str = ""
    """Hosts that may be called besides loopback, separated by commas or spaces."""
    timeout: float = Field(default=MAX_REPLY_SECONDS, gt=0, le=MAX_REPLY_SECONDS)

    @property
    def allowed_hosts(self) -> frozenset[str]:
        """The hosts that may be called besides loopback, in lower case."""
        return frozenset(self.hosts.lower().replace(",", " ").split())


@dataclass(frozen=True)
class Endpoint:
    """The server of an HTTP gateway, with the secrets of the environment.

    Its representation has no secrets.
    """

    is_local: bool
    server: str
    timeout: float
    headers: Mapping[str, str]
    _secrets: tuple[str, ...]

    def __repr__(self) -> str:
        return f"Endpoint({self.server})"

    def hide_secrets(self, text: str) -> str:
        """Return a text without the secrets, which a server may return in its reply."""
        return hide_secrets(text, self._secrets)


def load_endpoint(settings: HttpSettings) -> Endpoint:
    """Return the endpoint; raise `UsageError` if the environment lacks a secret or a permission."""
    environment = load_environment(HttpEnvironment, ENV_PREFIX)
    url = urlsplit(settings.url)
    host = (url.hostname or "").removesuffix(".")
    is_local = is_loopback(host)
    if not is_local and host not in environment.allowed_hosts:
        raise UsageError(
            f"gateway http: calls {host}; set {ENV_PREFIX}HOSTS={host} to allow this host"
        )
    secrets = _load_secrets(settings.headers.values())
    if secrets and url.scheme == "http" and not is_local:
        raise UsageError(
            f"gateway http: got the URL {settings.url} and headers with secrets; expected https,"
            " so that they are encrypted"
        )
    headers = {
        name: _PLACEHOLDER.sub(lambda match: secrets[match[1]], value)
        for name, value in settings.headers.items()
    }
    port = url.port or (443 if url.scheme == "https" else 80)
    return Endpoint(
        is_local=is_local,
        server=f"HTTP server {host}:{port}",
        timeout=environment.timeout,
        headers=headers,
        _secrets=_list_spellings(secrets.values()),
    )


def _list_spellings(secrets: Iterable[str]) -> tuple[str, ...]:
    """Return secrets as servers may write them in JSON, HTML and URLs."""
    spellings: set[str] = set()
    for secret in secrets:
        as_json = json.dumps(secret)[1:-1]
        spellings |= {secret, as_json, as_json.replace("/", r"\/"), escape(secret)}
        spellings |= {quote(secret), quote(secret, safe=""), quote_plus(secret)}
    return tuple(spellings)


def _load_secrets(texts: Iterable[str]) -> dict[str, str]:
    """Return the values of the variables in some texts; raise `UsageError` if one isn't set."""
    secrets = {}
    for name in sorted({name for text in texts for name in _PLACEHOLDER.findall(text)}):
        secrets[name] = read_variable(name) or ""
        if not secrets[name]:
            raise UsageError(f"{name}: not set, but a header of the gateway http needs it")
        if not _HEADER_VALUE.fullmatch(secrets[name]):
            raise UsageError(f"{name}: expected printable ASCII characters, as headers need them")
    return secrets
