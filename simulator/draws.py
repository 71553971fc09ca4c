"""The only source of random numbers.

Every draw is a pure function of (seed, campaign, purpose, attempt, message number). It doesn't
matter who draws it, when, or together with which other messages. The generator is counter-based:
Philox4x64 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011), with one block of
its counter, four numbers, for each message.
"""

import hashlib
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

DRAWS_PER_MESSAGE = 4
"""Numbers of one Philox block. Each message has a block of its own."""


class DrawPurpose(StrEnum):
    """The purpose of a draw. Draws for different purposes are independent.

    The values seed the generator, so they never change.
    """

    DEFECT = "label"
    OUTCOME = "fate"
    SUBSCRIPTION = "subscription"
    COUPON = "coupon"
    REFERRAL = "referral"
    HANDLER = "handler"
    ENGAGEMENT = "engagement"
    RECEIPT_FAULT = "mishap"
    COPY_DELAY = "copy delay"
    LATE_BOUNCE = "late bounce"
    REJECTION = "rejection"
    ENGAGEMENT_DELAY = "engagement delay"
    ENGAGEMENT_FOLLOW_UP = "engagement sequel"
    ENGAGEMENT_REPEAT = "engagement again"
    DUPLICATE_TASK = "duplicate task"
    BOUNCE_CAUSE = "bounce cause"


def draw_uniforms(
    seed: int, campaign: str, purpose: DrawPurpose, first: int, count: int, attempt: int = 0
) -> NDArray[np.float64]:
    """Return uniform numbers in [0, 1) for messages from `first` on, of shape (count, 4)."""
    source = f"{campaign}\0{purpose}\0{attempt}".encode()
    stream = int.from_bytes(hashlib.blake2b(source, digest_size=8).digest(), "big")
    generator = np.random.Philox(key=np.array([seed, stream], np.uint64), counter=first)
    raw = generator.random_raw(count * DRAWS_PER_MESSAGE).reshape(count, DRAWS_PER_MESSAGE)
    # The upper 53 bits fill the mantissa of a double.
    return np.asarray((raw >> np.uint64(11)) * 2.0**-53)


def uniforms_to_normals(
    first: NDArray[np.float64], second: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return standard normal numbers from two independent uniforms (Box and Muller, 1958)."""
    return np.asarray(np.sqrt(-2.0 * np.log1p(-first)) * np.cos(2.0 * np.pi * second))
