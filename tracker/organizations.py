"""The senders of campaigns, with their settings."""

from dataclasses import dataclass

from tracker.status import Channel


@dataclass(frozen=True, kw_only=True)
class Organization:
    """The sender of campaigns.

    Attributes:
        title: what people read instead of the name, if it has one.
        credit: messages left on all channels together; None is unlimited.
        credit_email: messages left on the channel; None is unlimited.
        credit_sms: segments of messages left on the channel; None is unlimited.
        hard_bounce_limit: hard bounces after which an address gets no more messages.
        soft_bounce_limit: soft bounces in a row after which an address gets no more messages.
        message_limit: messages per customer within message_limit_days; None is unlimited.
    """

    id: int
    name: str
    enabled: bool
    credit: int | None
    hard_bounce_limit: int
    soft_bounce_limit: int
    message_limit: int | None = None
    message_limit_days: int = 1
    title: str | None = None
    credit_email: int | None = None
    credit_sms: int | None = None

    def credit_on(self, channel: Channel) -> int | None:
        """Return the credit for messages on a channel; None is unlimited."""
        if self.credit is not None:
            return self.credit
        return self.credit_email if channel is Channel.EMAIL else self.credit_sms


@dataclass(frozen=True, kw_only=True)
class ChannelSettings:
    """An organization's settings for a channel.

    Attributes:
        sender: None for the organization's name.
        unsubscribe_url: template of the address at which a customer unsubscribes on the web.
        unsubscribe_email: email address at which a customer unsubscribes.
    """

    enabled: bool = True
    sender: str | None = None
    unsubscribe_url: str | None = None
    unsubscribe_email: str | None = None


DEFAULT_CHANNEL_SETTINGS = ChannelSettings()


@dataclass(frozen=True, kw_only=True)
class CouponSeries:
    """Coupons that are issued together and valid while the series is active."""

    name: str
    active: bool
