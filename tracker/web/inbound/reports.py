"""Store reports: select the items that can be used, and enqueue the tasks that apply them."""

import json
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

from fastapi import HTTPException
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from sqlalchemy import Connection

from tracker.clock import Instant, from_datetime, to_real_seconds
from tracker.queries.pending_batches import find_settled_batches
from tracker.record.catalog import BatchKey, Campaign, load_campaigns
from tracker.record.due import DueKind
from tracker.record.engagement import EngagementEvent, opt_out_customers
from tracker.record.inbound import ReportItem, group_by_batch, store_reports
from tracker.record.suppressions.changes import SuppressionChanges
from tracker.status import Channel
from tracker.web.context import WebContext, describe_latest_campaigns
from tracker.web.inbound.items import (
    EngagementIn,
    InboundItem,
    ItemType,
    RefusedItem,
    parse_item,
    refuse_item,
)
from tracker.web.monitoring import NotifyWorkers

MAX_REPORT_ITEMS = 10_000


class InboundResult(BaseModel):
    """The result of a report."""

    taken: int = Field(description="items that were stored")
    batches: int = Field(description="batches that the items belong to")
    queued: bool = Field(description="whether the tasks that apply the items were enqueued")
    refused: list[RefusedItem] = Field(description="items that were not stored")


def store_report(
    context: WebContext, item_type: ItemType, body: bytes, *, is_strict: bool
) -> InboundResult:
    """Store the items of a report that can be used, or refuse it if there are none.

    Args:
        is_strict: whether one item that can't be used refuses all.
    """
    values = _parse_body(body)
    parsed = [parse_item(item_type, place, value) for place, value in enumerate(values)]
    ids = sorted({item.campaign for item in parsed if not isinstance(item, RefusedItem)})
    with context.database.read() as connection:
        campaigns = load_campaigns(connection, ids)
        selection = _select_items(connection, campaigns, parsed, context.settings.clock_tolerance)
    if selection.refused and (is_strict or len(selection.refused) == len(values)):
        raise RequestValidationError([item.model_dump() for item in selection.refused])
    result = store_items(context, item_type.due_kind, campaigns, selection.items_by_campaign)
    return result.model_copy(update={"refused": selection.refused})


def store_items(
    context: WebContext,
    due_kind: DueKind,
    campaigns: Sequence[Campaign],
    items_by_campaign: Mapping[int, Sequence[ReportItem]],
) -> InboundResult:
    """Store items for the steps of their batches, and suppress customers who opted out.

    Args:
        items_by_campaign: the items of each of the campaigns, by its id.
    """
    with context.database.read() as connection:
        items_by_batch = group_by_batch(connection, campaigns, items_by_campaign)
    # An opt-out may lock its organization. In one order, so that two reports can't deadlock.
    campaigns = sorted(campaigns, key=lambda campaign: campaign.organization.id)
    with context.database.write() as connection:
        settled = find_settled_batches(connection, items_by_batch)
        store_reports(connection, due_kind, campaigns, items_by_batch)
        changes = [SuppressionChanges() for _ in campaigns]
        for campaign, change in zip(campaigns, changes, strict=True):
            items = items_by_campaign[campaign.id]
            events = [item for item in items if isinstance(item, EngagementEvent)]
            opt_out_customers(context.database, connection, campaign, events)
            change.add_opt_outs(events)
        for campaign, change in zip(campaigns, changes, strict=True):
            change.write(context.database, connection, campaign)
    notify = context.monitoring.notify_workers
    return InboundResult(
        taken=sum(map(len, items_by_campaign.values())),
        batches=len(items_by_batch),
        queued=_notify_workers(notify, items_by_batch, settled, due_kind),
        refused=[],
    )


def _parse_body(body: bytes) -> list[Any]:
    try:
        values = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise invalid_body(f"expected JSON; {error}") from None
    if not isinstance(values, list) or not values:
        raise invalid_body("expected a list of at least one item")
    if len(values) > MAX_REPORT_ITEMS:
        raise HTTPException(413, f"expected at most {MAX_REPORT_ITEMS:,} items")
    return values


def invalid_body(cause: str) -> RequestValidationError:
    """Return the error that refuses the whole body of a request."""
    return RequestValidationError([{"type": "value_error", "loc": ("body",), "msg": cause}])


@dataclass(frozen=True)
class _Selection:
    """The items of a report that can be stored, by their campaign's id, and those that can't."""

    items_by_campaign: defaultdict[int, list[ReportItem]]
    refused: list[RefusedItem]


def _select_items(
    connection: Connection,
    campaigns: Sequence[Campaign],
    parsed: Sequence[InboundItem | RefusedItem],
    tolerance: float,
) -> _Selection:
    """Return which items of a report can be stored.

    A time ahead of the clock of the campaign's run by at most `tolerance` real seconds counts as
    now.
    """
    describe_latest = cache(partial(describe_latest_campaigns, connection))
    clocks = {campaign.id: (campaign, campaign.clock.now()) for campaign in campaigns}
    selected: defaultdict[int, list[ReportItem]] = defaultdict(list)
    refused: list[RefusedItem] = []
    for place, item in enumerate(parsed):
        if isinstance(item, RefusedItem):
            refused.append(item)
        elif item.campaign not in clocks:
            cause = f"unknown campaign {item.campaign}; {describe_latest()}"
            refused.append(refuse_item(place, ["campaign"], cause))
        else:
            campaign, now = clocks[item.campaign]
            problem = _find_problem(item, campaign, now, tolerance)
            if problem is None:
                selected[campaign.id].append(item.to_item(min(from_datetime(item.at), now)))
            else:
                field, cause = problem
                refused.append(refuse_item(place, [field], cause))
    return _Selection(selected, refused)


def _find_problem(
    item: InboundItem, campaign: Campaign, now: Instant, tolerance: float
) -> tuple[str, str] | None:
    """Return a field of an item and why it can't be used, or None."""
    lead = to_real_seconds(from_datetime(item.at) - now, max(1.0, campaign.speed))
    if lead > tolerance:
        return "at", (
            f"got a time {lead:,.0f} s ahead of the clock of the campaign's run; expected at most"
            f" {tolerance:g} s"
        )
    is_open = isinstance(item, EngagementIn) and item.kind == "opened"
    if is_open and campaign.channel is Channel.SMS:
        return "kind", "got opened for an SMS; expected clicked, spam or unsubscribed"
    return None


def _notify_workers(
    notify: NotifyWorkers | None,
    keys: Collection[BatchKey],
    settled: Collection[BatchKey],
    kind: DueKind,
) -> bool:
    """Enqueue the tasks that apply stored reports; return False if the broker is unavailable."""
    if notify is None:
        return False
    try:
        for key in sorted(keys):
            notify(*key, kind, is_one_off=key not in settled)
    except Exception:  # the broker's client raises errors of several libraries
        return False
    return True
