"""Customers of audience files who are on the lists with which a run began.

The copy of a list and the hashes of the customers' addresses are compared here a second time,
because the statements that suppress the customers are a part of what a run tests.
"""

from array import array
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection

from simulator.setup.census import MAX_COUNTED_BOUNCES, ImportedAudience, Restriction, hash_key
from simulator.setup.run import RunCampaign
from tracker.record.suppressions.snapshot import read_copy
from tracker.status import Channel, Reason, SuppressionReason

_OPT_OUTS = (SuppressionReason.UNSUBSCRIBED, SuppressionReason.SPAM)


class _Entries(NamedTuple):
    """The entries of a list for one channel and reason, by ascending hashes of their addresses."""

    hashes: NDArray[np.uint64]
    bounces: NDArray[np.int64]

    def find_bounces(self, keys: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Return the bounces of customers, given the hashes of their addresses; 0 if not listed."""
        if not len(self.hashes):
            return np.zeros(len(keys), np.int64)
        places = np.minimum(np.searchsorted(self.hashes, keys), len(self.hashes) - 1)
        return np.where(self.hashes[places] == keys, self.bounces[places], 0)


_List = dict[tuple[Channel, SuppressionReason], _Entries]


def suppress_listed_customers(
    connection: Connection, run_id: int, campaigns: Sequence[RunCampaign]
) -> tuple[RunCampaign, ...]:
    """Return a run's campaigns with what the lists of their organizations say of the customers."""
    lists: dict[str, _List] = {}
    audiences: dict[int, ImportedAudience] = {}
    suppressed = []
    for run_campaign in campaigns:
        imported, campaign = run_campaign.imported_audience, run_campaign.campaign
        if imported is not None and run_campaign.plan.keeps_suppressions:
            name, audience_id = campaign.organization.name, campaign.audience_id
            if name not in lists:
                lists[name] = _load_list(connection, run_id, name)
            if audience_id not in audiences:
                channels = {
                    other.plan.name: other.plan.channel
                    for other in campaigns
                    if other.campaign.audience_id == audience_id
                }
                audiences[audience_id] = _suppress(imported, lists[name], channels)
            run_campaign = replace(run_campaign, imported_audience=audiences[audience_id])
        suppressed.append(run_campaign)
    return tuple(suppressed)


def _load_list(connection: Connection, run_id: int, organization: str) -> _List:
    columns: dict[tuple[Channel, SuppressionReason], tuple[array[int], array[int]]] = {}
    for channel, reason, address, bounces in read_copy(connection, run_id, organization):
        hashes, counts = columns.setdefault((channel, reason), (array("Q"), array("q")))
        hashes.append(hash_key(address))
        counts.append(bounces)
    lists = {}
    for key, (hashes, counts) in columns.items():
        unordered = np.frombuffer(hashes, np.uint64)
        order = np.argsort(unordered)
        lists[key] = _Entries(unordered[order], np.frombuffer(counts, np.int64)[order])
    return lists


def _suppress(
    imported: ImportedAudience, listed: _List, channels: dict[str, Channel]
) -> ImportedAudience:
    """Return an audience with what a list says of its customers.

    Args:
        imported: what the audience file says of them.
        listed: the list of its organization.
        channels: the channels of the campaigns to the audience, by their names.
    """
    nobody = _Entries(np.zeros(0, np.uint64), np.zeros(0, np.int64))

    def find(channel: Channel, reason: SuppressionReason) -> NDArray[np.int64]:
        return listed.get((channel, reason), nobody).find_bounces(imported.keys[channel])

    def count(channel: Channel, reason: SuppressionReason) -> NDArray[np.int16]:
        return np.minimum(find(channel, reason), MAX_COUNTED_BOUNCES).astype(np.int16)

    opted_out = {
        channel: np.logical_or.reduce([find(channel, reason) > 0 for reason in _OPT_OUTS])
        for channel in Channel
    }
    ndnc = find(Channel.SMS, SuppressionReason.NDNC) > 0
    restrictions = (
        imported.restrictions
        | Restriction.UNSUBSCRIBED_EMAIL * opted_out[Channel.EMAIL]
        | Restriction.UNSUBSCRIBED_SMS * opted_out[Channel.SMS]
        | Restriction.NDNC * ndnc
    )
    record_defects = {}
    for name, channel in channels.items():
        defects = imported.record_defects[name].copy()
        if channel is Channel.SMS:
            defects[ndnc & (defects != Reason.UNSUBSCRIBED)] = Reason.NDNC
        defects[opted_out[channel]] = Reason.UNSUBSCRIBED
        record_defects[name] = defects
    hard, soft = (
        {channel: np.maximum(bounces[channel], count(channel, reason)) for channel in Channel}
        for bounces, reason in (
            (imported.hard_bounces, SuppressionReason.HARD_BOUNCED),
            (imported.soft_bounces, SuppressionReason.SOFT_BOUNCED),
        )
    )
    return replace(
        imported,
        record_defects=record_defects,
        hard_bounces=hard,
        soft_bounces=soft,
        restrictions=restrictions.astype(np.int8),
    )
