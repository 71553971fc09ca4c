"""How the simulated world behaves: gateways, recipients and services, as a scenario file says it.

Each class is the table of the file, what the database stores of it, and what the draws are made
from.
"""

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Annotated, Self

from pydantic import Field, model_validator

from simulator.values import Duration, InvalidKey, ScenarioSection, Share, format_duration

SIMULATED_GATEWAY_KIND = "simulated"


def validate_share_sum(noun: str, shares: Iterable[float]) -> None:
    """Raise ValueError if the shares of outcomes that exclude each other sum to more than 1."""
    total = sum(shares)
    if total > 1 + 1e-9:
        raise ValueError(f"got {noun} that sum to {total:g}; expected at most 1")


class LatencyDistribution(ScenarioSection):
    """A log-normal distribution of latencies, given by two of its percentiles."""

    median: Annotated[Duration, Field(examples=["800ms"])]
    """Latency that half of the messages exceed."""
    p99: Annotated[Duration, Field(examples=["4s"])]
    """Latency that one message in a hundred exceeds; at least the median."""

    @model_validator(mode="after")
    def _validate_order(self) -> Self:
        if self.p99 < self.median:
            raise InvalidKey(
                "p99",
                f"got {format_duration(self.p99)}; expected at least the median,"
                f" {format_duration(self.median)}",
            )
        if self.p99 and not self.median:
            raise InvalidKey("median", 'got 0s; expected above 0, or p99 = "0s" as well')
        return self


NO_LATENCY = LatencyDistribution(median=timedelta(), p99=timedelta())


class TimeWindow(ScenarioSection):
    """A period of simulated time, from the start of the run."""

    start: Annotated[Duration, Field(alias="from", examples=["5s"])]
    """Beginning of the period."""
    end: Annotated[Duration, Field(alias="to", examples=["20s"])]
    """End of the period; later than `from`."""

    @model_validator(mode="after")
    def _validate_order(self) -> Self:
        if self.end <= self.start:
            raise InvalidKey(
                "to",
                f"got {format_duration(self.end)}; expected later than `from`,"
                f" {format_duration(self.start)}",
            )
        return self

    def contains(self, elapsed: timedelta) -> bool:
        """Return whether a time since the start of the run lies in the period, its end excluded."""
        return self.start <= elapsed < self.end


class SlowPeriod(TimeWindow):
    """A period in which a gateway is slow."""

    factor: Annotated[float, Field(ge=1, le=1_000_000, strict=True, examples=[3])]
    """Factor by which latencies are longer, for messages accepted in the period."""


class ReceiptFaultRates(ScenarioSection):
    """Rates of faulty receipts."""

    duplicate: Annotated[Share, Field(examples=[0.05])] = 0.0
    """Share of attempts whose receipt arrives twice."""
    stale: Annotated[Share, Field(examples=[0.01])] = 0.0
    """Share of later attempts after whose receipt the previous attempt's arrives again."""
    lost: Annotated[Share, Field(examples=[0.002])] = 0.0
    """Share of attempts whose receipt never arrives. The message stays in the gateway."""
    late_bounce: Annotated[Share, Field(examples=[0.003])] = 0.0
    """Share of delivered messages that bounce hard later. This receipt counts."""

    @property
    def has_faults(self) -> bool:
        """True if any receipt can go wrong."""
        return any((self.duplicate, self.stale, self.lost, self.late_bounce))


def _validate_cause_shares(shares: Mapping[str, float | None]) -> None:
    noun = ", ".join(shares)
    given = [share for share in shares.values() if share is not None]
    validate_share_sum(noun, given)
    if len(given) == len(shares) and sum(given) < 1 - 1e-9:
        raise ValueError(f"got {noun} that sum to {sum(given):g}; expected 1")


class BounceCauseShares(ScenarioSection):
    """Shares of the causes of bounces, each among the bounces of its channel and kind.

    Causes without a key share the rest, in proportion to their defaults.
    """

    unknown_recipient: Annotated[Share | None, Field(examples=[0.7])] = None
    """Share of hard bounces of emails: 5.1.1, the mailbox doesn't exist. Default: 0.8."""
    unknown_domain: Annotated[Share | None, Field(examples=[0.3])] = None
    """Share of hard bounces of emails: 5.1.2, the domain doesn't exist. Default: 0.2."""
    mailbox_full: Annotated[Share | None, Field(examples=[0.5])] = None
    """Share of soft bounces of emails: 4.2.2, the mailbox is full. Default: 0.5."""
    server_down: Annotated[Share | None, Field(examples=[0.4])] = None
    """Share of soft bounces of emails: 4.4.1, the server didn't answer. Default: 0.3."""
    message_too_large: Annotated[Share | None, Field(examples=[0.1])] = None
    """Share of soft bounces of emails: 5.3.4, the message is too large. Default: 0.2."""

    @model_validator(mode="after")
    def _validate_shares(self) -> Self:
        _validate_cause_shares(
            {
                "unknown_recipient": self.unknown_recipient,
                "unknown_domain": self.unknown_domain,
            }
        )
        _validate_cause_shares(
            {
                "mailbox_full": self.mailbox_full,
                "server_down": self.server_down,
                "message_too_large": self.message_too_large,
            }
        )
        return self


class GatewayBehaviour(ScenarioSection):
    """Keys of simulated gateways: what the gateway does with the messages that it is given."""

    latency: Annotated[LatencyDistribution, Field(examples=[{"median": "800ms", "p99": "4s"}])] = (
        NO_LATENCY
    )
    """Time from the acceptance of a message to its receipt."""
    hard_bounce: Annotated[Share, Field(examples=[0.02])] = 0.0
    """Share of attempts that hard-bounce."""
    soft_bounce: Annotated[Share, Field(examples=[0.03])] = 0.0
    """Share of attempts that soft-bounce. They are submitted again while attempts are left."""
    not_delivered: Annotated[Share, Field(examples=[0.005])] = 0.0
    """Share of attempts that the gateway gives up on."""
    bounces: Annotated[BounceCauseShares, Field(examples=[{"mailbox_full": 0.5}])] = (
        BounceCauseShares()
    )
    """Shares of the causes of bounces."""
    reject_rate: Annotated[float, Field(ge=0.0, lt=1.0, strict=True, examples=[0.1])] = 0.0
    """Share of submitted messages that the gateway rejects temporarily, each time."""
    receipts: Annotated[ReceiptFaultRates, Field(examples=[{"duplicate": 0.05, "lost": 0.002}])] = (
        ReceiptFaultRates()
    )
    """How often receipts go wrong."""
    outage: Annotated[TimeWindow | None, Field(examples=[{"from": "5s", "to": "20s"}])] = None
    """Period in which the gateway can't be reached."""
    slow: Annotated[
        SlowPeriod | None, Field(examples=[{"from": "20s", "to": "30s", "factor": 3}])
    ] = None
    """Period in which the gateway is slow."""

    @model_validator(mode="after")
    def _validate_shares(self) -> Self:
        validate_share_sum(
            "hard_bounce, soft_bounce and not_delivered",
            (self.hard_bounce, self.soft_bounce, self.not_delivered),
        )
        return self


class EngagementRates(ScenarioSection):
    """Reactions of recipients to the emails that are delivered to them."""

    open: Annotated[Share, Field(examples=[0.4])] = 0.0
    """Share of recipients who open the email."""
    click: Annotated[Share, Field(examples=[0.08])] = 0.0
    """Share of recipients who open it and click a link; at most `open`."""
    spam: Annotated[Share, Field(examples=[0.002])] = 0.0
    """Share of recipients who mark it as spam."""
    unsubscribe: Annotated[Share, Field(examples=[0.01])] = 0.0
    """Share of recipients who open it, click and unsubscribe; at most `click`."""
    machine_open: Annotated[Share, Field(examples=[0.1])] = 0.0
    """Share of emails that a machine opens within a second. They don't count as opened."""
    again: Annotated[Share, Field(examples=[0.2])] = 0.0
    """Share of recipients who open, or click, who do it again, up to three times."""
    delay: Annotated[LatencyDistribution, Field(examples=[{"median": "2h", "p99": "12h"}])] = (
        NO_LATENCY
    )
    """Time from delivery to the open, and to the spam mark; at most three standard deviations above
    the median."""

    @model_validator(mode="after")
    def _validate_order(self) -> Self:
        if not self.unsubscribe <= self.click <= self.open:
            raise ValueError(
                f"got open = {self.open}, click = {self.click}, unsubscribe = {self.unsubscribe};"
                " expected unsubscribe <= click <= open, as unsubscribing implies a click, and a"
                " click an open"
            )
        return self

    @property
    def has_engagement(self) -> bool:
        """True if any recipient does anything."""
        return max(self.open, self.spam, self.machine_open) > 0


class ServiceFailures(ScenarioSection):
    """Failures of a service."""

    error_rate: Annotated[Share, Field(examples=[0.1])] = 0.0
    """Share of calls without an answer, for each customer. A step calls three times at most."""
    outage: Annotated[TimeWindow | None, Field(examples=[{"from": "5s", "to": "12s"}])] = None
    """Period in which the service can't be reached. It delays messages and blocks none."""
