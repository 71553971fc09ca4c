"""The only source of chance.

Every draw is a pure function of (seed, campaign, purpose, attempt, message number), so it does not
matter who draws it, when, or together with which other messages. The generator is counter-based:
Philox4x64 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011), with one block of
its counter, four numbers, for each message.
"""

import hashlib
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

DRAWS_PER_MESSAGE = 4
"""Philox yields four 64-bit numbers a block; each message has a block of its own."""


class DrawPurpose(StrEnum):
    """What a draw decides. Draws for different purposes have nothing to do with each other."""

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


def draw_uniforms(
    seed: int, campaign: str, purpose: DrawPurpose, first: int, count: int, attempt: int = 0
) -> NDArray[np.float64]:
    """Numbers in [0, 1) for messages ``first`` … ``first + count - 1``; shape (count, 4)."""
    source = f"{campaign}\0{purpose}\0{attempt}".encode()
    stream = int.from_bytes(hashlib.blake2b(source, digest_size=8).digest(), "big")
    generator = np.random.Philox(key=np.array([seed, stream], np.uint64), counter=first)
    raw = generator.random_raw(count * DRAWS_PER_MESSAGE).reshape(count, DRAWS_PER_MESSAGE)
    # The upper 53 bits, as the mantissa of a double.
    return np.asarray((raw >> np.uint64(11)) * 2.0**-53)


def uniforms_to_normals(one: NDArray[np.float64], two: NDArray[np.float64]) -> NDArray[np.float64]:
    """Standard normal numbers from two independent uniform ones (Box and Muller, 1958)."""
    return np.asarray(np.sqrt(-2.0 * np.log1p(-one)) * np.cos(2.0 * np.pi * two))
