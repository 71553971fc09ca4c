"""The table `[gateways.NAME]` of a scenario file."""

import json
from datetime import timedelta
from typing import Annotated, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from simulator.values import (
    DURATION_SCHEMA,
    Count,
    Duration,
    Flag,
    InvalidKey,
    PositiveDuration,
    ScenarioSection,
    parse_positive_duration,
    validate_text,
)
from simulator.world.behaviour import SIMULATED_GATEWAY_KIND, GatewayBehaviour
from tracker.record.catalog import DEFAULT_UNCONFIRMED_AFTER
from tracker.replies import ReplyKind, format_field
from tracker.text import suggest_similar
from workers.gateways.http_settings import HttpSettings
from workers.plugins import PluginGroup, list_plugin_names

SMTP_RETRY_DELAY = timedelta(minutes=1)
"""Default delay before the next attempt at a real gateway, which servers expect."""

HTTP_GATEWAY_KIND = "http"

REAL_GATEWAY_KEYS = frozenset({"replies", "unconfirmed_after"})
"""Keys of `[gateways.NAME]` that simulated gateways don't have."""


def _validate_gateway_kind(kind: str) -> str:
    kinds = list_plugin_names(PluginGroup.GATEWAYS)
    if kind not in kinds:
        raise ValueError(f"unknown gateway {kind!r}{suggest_similar(kind, kinds)}")
    return kind


class ReplyRuleSection(ScenarioSection):
    """A rule that classifies a gateway's reply."""

    match: Annotated[
        str, AfterValidator(validate_text), Field(max_length=200, examples=["550 5.7.1 relaying"])
    ]
    """Code or HTTP status, enhanced code, part of the text, or several of them in this order. The
    last part of an enhanced code may be `*`."""
    fields: Annotated[
        dict[str, str | bool | int | float],
        Field(alias="json", examples=[{"error.code": 21211}]),
    ] = Field(default_factory=dict)
    """Fields of the JSON in an HTTP reply with their values. Dots separate the parts of a path."""
    as_: Annotated[ReplyKind, Field(alias="as", examples=["soft"])]
    """`hard`: a permanent failure of the recipient. `soft`: a temporary failure. `us`: the server
    refuses the sender, so the gateway counts as unavailable."""

    def to_json(self) -> dict[str, object]:
        """Return the rule as it is recorded."""
        rule: dict[str, object] = {"match": self.match, "as": self.as_}
        if self.fields:
            rule["json"] = {path: format_field(value) for path, value in self.fields.items()}
        return rule


class HttpSection(HttpSettings):
    """The request that a gateway `http` sends for each message.

    Secrets come from the environment, and so does the permission to call a host. See
    [gateways](gateways.md#send-through-an-http-api).
    """

    receipts_within: Annotated[
        Annotated[timedelta, BeforeValidator(parse_positive_duration), DURATION_SCHEMA] | None,
        Field(examples=["2m"]),
    ] = None  # written as ISO 8601, which the gateway reads


class GatewaySection(GatewayBehaviour):
    """A gateway that accepts messages for delivery.

    The default gateway accepts and delivers everything at once.
    """

    kind: Annotated[
        str, AfterValidator(_validate_gateway_kind), Field(examples=["simulated", "smtp"])
    ] = SIMULATED_GATEWAY_KIND
    """Installed gateway: `simulated`, `smtp`, `http`, or one of another package."""
    http: HttpSection | None = Field(
        default=None, examples=[{"url": "https://api.shop.internal/send"}]
    )
    """The request that is sent for each message; required for `kind = "http"`, and only allowed
    there."""
    enabled: Annotated[Flag, Field(examples=[False])] = True
    """Whether the gateway is configured for use. Otherwise it blocks all messages."""
    attempts: Annotated[int, Field(ge=1, le=100, strict=True, examples=[3])] = 3
    """Times that a message is submitted at most; it is submitted again after a soft bounce."""
    rate: Annotated[Count | None, Field(examples=[2_000])] = None
    """Messages per second of simulated time, all workers and campaigns together; default:
    unlimited."""
    retry_after: Annotated[Duration | None, Field(examples=["5m"])] = None
    """Delay between the first soft bounce and the next attempt; it doubles with each attempt, up to
    four hours. Default: none for a simulated gateway, a minute for others."""
    replies: Annotated[
        tuple[ReplyRuleSection, ...], Field(examples=[[{"match": "5.2.2", "as": "soft"}]])
    ] = ()
    """Rules that classify replies; they come before the shipped ones. Not for simulated
    gateways."""
    unconfirmed_after: Annotated[PositiveDuration | None, Field(examples=["6h"])] = None
    """Time after which a message that was handed over without a reply counts as not delivered;
    default: a day. Not for simulated gateways."""

    @model_validator(mode="after")
    def _validate_http_keys(self) -> Self:
        is_http = self.kind == HTTP_GATEWAY_KIND
        if is_http and self.http is None:
            raise InvalidKey("http", 'missing; this key is required with kind = "http"')
        if self.http is not None and not is_http:
            raise InvalidKey("http", 'only allowed with kind = "http"')
        for index, rule in enumerate(self.replies):
            if rule.fields and not is_http:
                raise InvalidKey(f"replies[{index}].json", 'only allowed with kind = "http"')
        return self

    @model_validator(mode="after")
    def _validate_simulated_keys(self) -> Self:
        if self.is_simulated:
            real_keys = sorted(self.model_fields_set & REAL_GATEWAY_KEYS)
            if real_keys:
                raise InvalidKey(real_keys[0], "only allowed with a gateway that isn't simulated")
        simulated_keys = sorted(self.model_fields_set & GatewayBehaviour.model_fields.keys())
        if simulated_keys and not self.is_simulated:
            raise InvalidKey(
                simulated_keys[0],
                f'got a key of simulated gateways; expected none of them with kind = "{self.kind}"',
            )
        return self

    @property
    def is_simulated(self) -> bool:
        """True if the gateway is simulated."""
        return self.kind == SIMULATED_GATEWAY_KIND

    @property
    def replies_as_json(self) -> str:
        """The rules of replies as they are recorded."""
        return json.dumps([rule.to_json() for rule in self.replies])

    @property
    def real_settings(self) -> str:
        """The settings of a real gateway as they are recorded, JSON text without secrets."""
        return "{}" if self.http is None else self.http.model_dump_json()

    @property
    def unconfirmed_delay(self) -> timedelta:
        """Simulated time after which a message without a reply counts as not delivered."""
        return self.unconfirmed_after or DEFAULT_UNCONFIRMED_AFTER

    @property
    def retry_delay(self) -> timedelta:
        """Simulated time between the first soft bounce and the next attempt."""
        if self.retry_after is not None:
            return self.retry_after
        return timedelta() if self.is_simulated else SMTP_RETRY_DELAY
