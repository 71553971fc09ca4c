"""The rows that contradict what is recorded of engagement, as queries: see ``contradictions``."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Select

from tracker.record.engagement import event_tallies_query
from tracker.status import IMPLIED_ENGAGEMENTS
from tracker.store.schema.engagement import engagement_days, engagement_tallies, engagements


def find_wrong_engagement_tallies(ids: Sequence[int]) -> Select[Any]:
    counted = event_tallies_query(engagements.c.campaign_id.in_(ids)).subquery("counted")
    key = ("campaign_id", "batch", "kind", "quarter")
    tallied = sa.select(
        *(engagement_tallies.c[each] for each in key),
        sa.literal(0),
        engagement_tallies.c.recipients,
    ).where(engagement_tallies.c.campaign_id.in_(ids))
    there = sa.select(
        *(counted.c[each] for each in key), counted.c.recipients, sa.literal(0).label("tallied")
    )
    return _differing_sums(sa.union_all(there, tallied), key, "recipients", "tallied")


def find_wrong_engagement_days(ids: Sequence[int]) -> Select[Any]:
    key = ("campaign_id", "kind")
    days = sa.select(
        *(engagement_days.c[each] for each in key),
        engagement_days.c.recipients.label("in_days"),
        sa.literal(0).label("rolled"),
    ).where(engagement_days.c.campaign_id.in_(ids))
    rolled = sa.select(
        *(engagement_tallies.c[each] for each in key),
        sa.literal(0),
        engagement_tallies.c.rolled,
    ).where(engagement_tallies.c.campaign_id.in_(ids))
    return _differing_sums(sa.union_all(days, rolled), key, "in_days", "rolled")


def _differing_sums(
    both: sa.CompoundSelect[Any], key: Sequence[str], one: str, other: str
) -> Select[Any]:
    """The sums of two columns, by ``key``, where they differ."""
    rows = both.subquery()
    columns = [rows.c[each] for each in key]
    first, second = sa.func.sum(rows.c[one]), sa.func.sum(rows.c[other])
    return (
        sa.select(*columns, first.label(one), second.label(other))
        .group_by(*columns)
        .having(first != second)
        .order_by(*columns)
    )


def find_missing_implied_events(ids: Sequence[int]) -> Select[Any]:
    before = engagements.alias("before")
    lacking = sa.or_(
        *(
            sa.and_(
                engagements.c.kind == kind,
                ~sa.select(before.c.number)
                .where(
                    before.c.campaign_id == engagements.c.campaign_id,
                    before.c.kind == other,
                    before.c.number == engagements.c.number,
                    before.c.at <= engagements.c.at,
                )
                .exists(),
            )
            for kind, others in IMPLIED_ENGAGEMENTS.items()
            for other in others
        )
    )
    return (
        sa.select(engagements.c.campaign_id, engagements.c.number, engagements.c.kind)
        .where(
            engagements.c.campaign_id.in_(ids), engagements.c.kind.in_(IMPLIED_ENGAGEMENTS), lacking
        )
        .order_by(engagements.c.campaign_id, engagements.c.number)
    )
