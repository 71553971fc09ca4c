"""Draw why messages bounce at the simulated gateway."""

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from simulator.draws import DrawPurpose, draw_uniforms
from simulator.world.behaviour import BounceCauseShares
from tracker.bounces import BounceCause
from tracker.status import Channel, Status

DEFAULT_SHARES: Mapping[tuple[Channel, Status], Mapping[BounceCause, float]] = MappingProxyType(
    {
        (Channel.EMAIL, Status.HARD_BOUNCED): {
            BounceCause.UNKNOWN_RECIPIENT: 0.8,
            BounceCause.UNKNOWN_DOMAIN: 0.2,
        },
        (Channel.EMAIL, Status.SOFT_BOUNCED): {
            BounceCause.MAILBOX_FULL: 0.5,
            BounceCause.SERVER_DOWN: 0.3,
            BounceCause.MESSAGE_TOO_LARGE: 0.2,
        },
        (Channel.SMS, Status.HARD_BOUNCED): {BounceCause.INVALID_NUMBER: 1.0},
        (Channel.SMS, Status.SOFT_BOUNCED): {BounceCause.UNREACHABLE: 1.0},
    }
)
"""Shares of causes among the bounces of a channel and a kind, where a scenario gives none."""


def explain_bounces(
    shares: BounceCauseShares,
    seed: int,
    campaign: str,
    channel: Channel,
    attempt: int,
    bounces: Mapping[int, Status],
) -> dict[int, str]:
    """Return the gateway's explanation of each bounce, by message number.

    Args:
        bounces: the status of each bounced message of the attempt.
    """
    if not bounces:
        return {}
    first = min(bounces)
    count = max(bounces) - first + 1
    uniforms = draw_uniforms(seed, campaign, DrawPurpose.BOUNCE_CAUSE, first, count, attempt)[:, 0]
    explanations: dict[int, str] = {}
    for status in set(bounces.values()):
        numbers = [number for number, bounce in bounces.items() if bounce is status]
        resolved = resolve_shares(shares, channel, status)
        causes = _pick_causes(uniforms[np.asarray(numbers) - first], [*resolved.values()])
        names = [cause.explanation for cause in resolved]
        explanations |= {
            number: names[cause] for number, cause in zip(numbers, causes.tolist(), strict=True)
        }
    return explanations


def _pick_causes(uniforms: NDArray[np.float64], shares: list[float]) -> NDArray[np.int64]:
    """Return the positions of causes that uniform numbers select."""
    positions = np.searchsorted(np.cumsum(shares), uniforms, side="right")
    return np.minimum(positions, len(shares) - 1)  # the shares may sum to slightly less than 1


def resolve_shares(
    shares: BounceCauseShares, channel: Channel, status: Status
) -> dict[BounceCause, float]:
    """Return the share of each cause among the bounces of a channel and a kind; they sum to 1."""
    defaults = DEFAULT_SHARES[channel, status]
    given = {
        BounceCause.UNKNOWN_RECIPIENT: shares.unknown_recipient,
        BounceCause.UNKNOWN_DOMAIN: shares.unknown_domain,
        BounceCause.MAILBOX_FULL: shares.mailbox_full,
        BounceCause.SERVER_DOWN: shares.server_down,
        BounceCause.MESSAGE_TOO_LARGE: shares.message_too_large,
    }
    fixed = {cause: share for cause in defaults if (share := given.get(cause)) is not None}
    rest = 1.0 - sum(fixed.values())
    default_rest = sum(share for cause, share in defaults.items() if cause not in fixed)
    return {
        cause: fixed[cause] if cause in fixed else rest * share / default_rest
        for cause, share in defaults.items()
    }
