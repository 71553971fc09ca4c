"""Count the segments of an SMS (3GPP TS 23.038 and 23.040), as operators charge them."""

GSM_BASIC = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
"""Characters of the default alphabet, apart from the escape to the extension table."""

GSM_EXTENSION = frozenset("\f^{}\\[~]|€")
"""Characters of the extension table; each takes two septets."""

GSM_ALONE, GSM_JOINED = 160, 153
"""Septets of a message of one segment, and of each segment of a longer one."""

UCS2_ALONE, UCS2_JOINED = 70, 67
"""Units of 16 bits, in messages with any other character: alone, and of each segment."""


def count_sms_segments(text: str) -> int:
    """Return the number of segments of a text; an empty one is sent as one segment."""
    characters = set(text)
    if characters <= GSM_BASIC | GSM_EXTENSION:
        sizes = [2 if char in GSM_EXTENSION else 1 for char in text]
        alone, joined = GSM_ALONE, GSM_JOINED
    else:
        sizes = [2 if ord(char) > 0xFFFF else 1 for char in text]
        alone, joined = UCS2_ALONE, UCS2_JOINED
    if sum(sizes) <= alone:
        return 1
    segments, used = 1, 0
    for size in sizes:  # a character of two units isn't divided between segments
        if used + size > joined:
            segments, used = segments + 1, 0
        used += size
    return segments
