"""What a campaign may need its customers to have, and how a list of it is read."""

import re
from collections.abc import Iterable

_REQUIREMENT = re.compile(r"coupon|referral|last_store|profile|membership|(tag|field):\S.*")


def known_requirements(requires: Iterable[str]) -> tuple[str, ...]:
    """The requirements, if each is one; else :exc:`ValueError` that says what was expected."""
    told = tuple(requires)
    for each in told:
        if _REQUIREMENT.fullmatch(each) is None:
            raise ValueError(
                f"{each!r} is not known; expected coupon, referral, last_store, profile,"
                " membership, tag:NAME or field:NAME"
            )
    return told
