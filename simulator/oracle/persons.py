"""Customers of an organization who have the same address: one person, as the oracle finds them.

Only persons who occur more than once are kept.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simulator.scenario.plan import PlannedCampaign
from simulator.setup.census import NO_KEY, ImportedAudience
from tracker.status import Channel

SharingKey = tuple[str, Channel]
"""The owner of an audience, and a channel."""


class SharingCustomers(NamedTuple):
    """Customers of an audience whose address on a channel others have, by ascending numbers.

    Attributes:
        numbers: numbers of the customers.
        persons: number of each one's person, counted within the organization and the channel.
        restrictions: bits of `Restriction` that any customer of the person has.
        hard_bounces: most hard bounces that a customer of the person has.
        soft_bounces: most soft bounces that a customer of the person has.
        is_duplicate: whether only an earlier customer of the audience may get the message.
    """

    numbers: NDArray[np.int64]
    persons: NDArray[np.int64]
    restrictions: NDArray[np.int8]
    hard_bounces: NDArray[np.int64]
    soft_bounces: NDArray[np.int64]
    is_duplicate: NDArray[np.bool_]

    def select(self, first: int, count: int) -> "SharingCustomers":
        """Return the customers of a chunk, with their positions in it instead of their numbers."""
        begin, end = np.searchsorted(self.numbers, [first, first + count])
        part = SharingCustomers._make(column[begin:end] for column in self)
        return part._replace(numbers=part.numbers - first)


NOBODY = SharingCustomers(
    numbers=np.zeros(0, np.int64),
    persons=np.zeros(0, np.int64),
    restrictions=np.zeros(0, np.int8),
    hard_bounces=np.zeros(0, np.int64),
    soft_bounces=np.zeros(0, np.int64),
    is_duplicate=np.zeros(0, np.bool_),
)


class MessageEffects(NamedTuple):
    """Effects of messages on customers or persons, as counts of messages.

    Attributes:
        sent: messages that are sent.
        limited: messages that use the message limit, those that break the gateway included.
        hard_bounces: messages that end as hard bounces.
        soft_bounces: messages that end as soft bounces.
        delivered: messages that are delivered, at first.
        opted_out: messages after which the recipient opts out.
        uncertain: messages of which too little is known.
    """

    sent: NDArray[np.int64]
    limited: NDArray[np.int64]
    hard_bounces: NDArray[np.int64]
    soft_bounces: NDArray[np.int64]
    delivered: NDArray[np.int64]
    opted_out: NDArray[np.int64]
    uncertain: NDArray[np.int64]

    @classmethod
    def none(cls, count: int) -> "MessageEffects":
        """Return no effects on so many customers."""
        return cls(*np.zeros((len(cls._fields), count), np.int64))

    @classmethod
    def from_flags(cls, **flags: NDArray[np.bool_]) -> "MessageEffects":
        """Return the effects of one message each, by what is true of it."""
        return cls(**{name: values.astype(np.int64) for name, values in flags.items()})

    def plus(self, other: "MessageEffects") -> "MessageEffects":
        """Return the sum with the effects of other messages on the same customers."""
        return MessageEffects._make(a + b for a, b in zip(self, other, strict=True))


@dataclass(eq=False)
class SharedPersons:
    """The persons who occur more than once among the customers of a scenario's audience files.

    Attributes:
        audiences: what is known of the audience files, by the owners of the audiences.
        sharing: their customers who share an address.
    """

    audiences: Mapping[str, ImportedAudience]
    sharing: Mapping[SharingKey, SharingCustomers]
    _effects: dict[object, MessageEffects] = field(default_factory=dict)

    def find_sharing(self, owner: str, channel: Channel) -> SharingCustomers:
        """Return the customers of an audience who share an address on a channel."""
        return self.sharing.get((owner, channel), NOBODY)

    def sum_effects(
        self, key: object, sharing: SharingCustomers, predict: Callable[[int, int], MessageEffects]
    ) -> MessageEffects:
        """Return the effects of a campaign's messages on persons, by their numbers.

        While they are computed, nothing is known of them.

        Args:
            key: identifies the campaign, and what is asked of it.
            sharing: the customers of its audience who share an address on its channel.
            predict: returns the effects on so many customers from a number on.
        """
        if key not in self._effects:
            count = int(sharing.persons.max(initial=-1)) + 1
            unknown = MessageEffects.none(count)
            unknown.uncertain[:] = 1
            self._effects[key] = unknown
            self._effects[key] = _sum_effects(count, sharing, predict)
        return self._effects[key]


NO_PERSONS = SharedPersons({}, {})
"""The persons of a scenario without audience files."""

CHUNK_CUSTOMERS = 50_000
"""Customers whose messages are predicted at a time."""


def _sum_effects(
    count: int, sharing: SharingCustomers, predict: Callable[[int, int], MessageEffects]
) -> MessageEffects:
    total = MessageEffects.none(count)
    for begin in sorted({*(sharing.numbers // CHUNK_CUSTOMERS).tolist()}):
        part = sharing.select(begin * CHUNK_CUSTOMERS, CHUNK_CUSTOMERS)
        first, last = int(part.numbers[0]), int(part.numbers[-1])
        effects = predict(begin * CHUNK_CUSTOMERS + first, last - first + 1)
        for sums, values in zip(total, effects, strict=True):
            np.add.at(sums, part.persons, values[part.numbers - first])
    return total


def find_shared_persons(
    campaigns: Sequence[PlannedCampaign], audiences: Mapping[str, ImportedAudience]
) -> SharedPersons:
    """Find the persons who occur more than once in the audience files of an organization.

    Args:
        audiences: its audience files, by the owners of the audiences.
    """
    by_organization: defaultdict[str | None, dict[str, ImportedAudience]] = defaultdict(dict)
    for campaign in campaigns:
        owner = campaign.audience.owner
        if owner in audiences:
            by_organization[campaign.organization_key][owner] = audiences[owner]
    sharing: dict[SharingKey, SharingCustomers] = {}
    for group in by_organization.values():
        for channel in Channel:
            sharing.update(_find_sharing(group, channel))
    return SharedPersons(audiences, sharing)


def _find_sharing(
    audiences: Mapping[str, ImportedAudience], channel: Channel
) -> dict[SharingKey, SharingCustomers]:
    """Return the customers of an organization's audiences who share an address on a channel."""
    keys = np.concatenate([audience.keys[channel] for audience in audiences.values()])
    distinct, counts = np.unique(keys[keys != NO_KEY], return_counts=True)
    shared = distinct[counts > 1]
    if not len(shared):
        return {}
    rows_by_owner: dict[str, tuple[NDArray[np.int64], NDArray[np.int64]]] = {}
    restrictions = np.zeros(len(shared), np.int8)
    hard, soft = np.zeros((2, len(shared)), np.int64)
    for owner, audience in audiences.items():
        own = audience.keys[channel]
        persons = np.minimum(np.searchsorted(shared, own), len(shared) - 1)
        numbers = np.flatnonzero(shared[persons] == own)
        persons = persons[numbers]
        rows_by_owner[owner] = numbers, persons
        np.bitwise_or.at(restrictions, persons, audience.restrictions[numbers])
        np.maximum.at(hard, persons, audience.hard_bounces[channel][numbers])
        np.maximum.at(soft, persons, audience.soft_bounces[channel][numbers])
    return {
        (owner, channel): SharingCustomers(
            numbers=numbers,
            persons=persons,
            restrictions=restrictions[persons],
            hard_bounces=hard[persons],
            soft_bounces=soft[persons],
            is_duplicate=_find_repeated(persons) & np.bool_(audiences[owner].skips_duplicates),
        )
        for owner, (numbers, persons) in rows_by_owner.items()
        if len(numbers)
    }


def _find_repeated(persons: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which elements occur earlier, too."""
    is_repeated = np.ones(len(persons), np.bool_)
    is_repeated[np.unique(persons, return_index=True)[1]] = False
    return is_repeated
