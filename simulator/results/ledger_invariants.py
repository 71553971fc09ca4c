"""Invariants of the record against the simulated gateway's ledger."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from simulator.schema import GATEWAY_OUTCOMES, acceptances
from simulator.world.behaviour import SIMULATED_GATEWAY_KIND
from tracker.audit.invariants import QueryInvariant
from tracker.record.actions.submissions import may_be_in_gateway
from tracker.record.predicates import is_same_message
from tracker.status import Status
from tracker.store.schema.catalog import campaigns, gateways
from tracker.store.schema.messages import messages, transitions

IS_SAME_ATTEMPT = sa.and_(
    is_same_message(transitions, acceptances), transitions.c.attempt == acceptances.c.attempt
)
"""A transition and an acceptance belong to the same attempt at the same message."""


def _select_unrecorded_acceptances(ids: Sequence[int]) -> sa.Select[Any]:
    return (
        sa.select(
            acceptances.c.campaign_id,
            acceptances.c.number,
            acceptances.c.attempt,
            messages.c.status,
        )
        .outerjoin(transitions, sa.and_(IS_SAME_ATTEMPT, transitions.c.status == Status.IN_GATEWAY))
        .outerjoin(messages, is_same_message(messages, acceptances))
        .where(
            acceptances.c.campaign_id.in_(ids),
            transitions.c.number.is_(None),
            # Between the gateway's transaction and the journal's, and after a crash there, a
            # message still awaits this attempt. An unknown message has NULL here.
            sa.func.coalesce(sa.not_(_is_awaiting_attempt()), sa.true()),
        )
        .order_by(acceptances.c.campaign_id, acceptances.c.number)
    )


def _is_awaiting_attempt() -> sa.ColumnElement[bool]:
    """Return the condition that a message awaits the attempt of an acceptance.

    Of a cancelled campaign, it does so only if the submission is noted.
    """
    attempts, cancelled_at = (
        sa.select(column)
        .where(campaigns.c.id == acceptances.c.campaign_id)
        .correlate(acceptances)
        .scalar_subquery()
        for column in (campaigns.c.attempts, campaigns.c.cancelled_at)
    )
    return sa.and_(
        sa.or_(cancelled_at.is_(None), may_be_in_gateway()), _is_before_attempt(attempts)
    )


def _is_before_attempt(attempts: sa.ScalarSelect[int]) -> sa.ColumnElement[bool]:
    """Return the condition that a message is in the state before the attempt of an acceptance."""
    return sa.or_(
        sa.and_(messages.c.status == Status.ABOUT_TO_BE_SENT, acceptances.c.attempt == 1),
        sa.and_(
            messages.c.status == Status.SOFT_BOUNCED,
            messages.c.attempt == acceptances.c.attempt - 1,
            messages.c.attempt < attempts,
        ),
    )


def _select_unaccepted_handovers(ids: Sequence[int]) -> sa.Select[Any]:
    return (
        sa.select(transitions.c.campaign_id, transitions.c.number, transitions.c.attempt)
        .outerjoin(acceptances, IS_SAME_ATTEMPT)
        .where(
            transitions.c.campaign_id.in_(_select_simulated_campaigns(ids)),
            transitions.c.status == Status.IN_GATEWAY,
            acceptances.c.number.is_(None),
        )
        .order_by(transitions.c.campaign_id, transitions.c.number)
    )


def _select_simulated_campaigns(ids: Sequence[int]) -> sa.Select[tuple[int]]:
    """Select the campaigns whose gateway is the simulated one."""
    return (
        sa.select(campaigns.c.id)
        .join(gateways, gateways.c.id == campaigns.c.gateway_id)
        .where(campaigns.c.id.in_(ids), gateways.c.kind == SIMULATED_GATEWAY_KIND)
    )


def _select_wrong_outcomes(ids: Sequence[int]) -> sa.Select[Any]:
    # Only the first outcome is the ledger's: a late bounce is a change after it.
    return (
        sa.select(
            transitions.c.campaign_id,
            transitions.c.number,
            transitions.c.attempt,
            transitions.c.status,
            acceptances.c.outcome,
        )
        .join(acceptances, IS_SAME_ATTEMPT)
        .where(
            transitions.c.campaign_id.in_(ids),
            transitions.c.status.in_(GATEWAY_OUTCOMES),
            transitions.c.previous == Status.IN_GATEWAY,
            transitions.c.status != acceptances.c.outcome,
        )
        .order_by(transitions.c.campaign_id, transitions.c.number)
    )


INVARIANTS = (
    QueryInvariant(
        "accepted_is_recorded",
        "Messages that the gateway accepted are recorded as accepted, or still await it.",
        _select_unrecorded_acceptances,
    ),
    QueryInvariant(
        "recorded_is_accepted",
        "Messages that are recorded as accepted are in the gateway's ledger.",
        _select_unaccepted_handovers,
    ),
    QueryInvariant(
        "outcome_is_recorded",
        "The recorded outcome of a message is the outcome in the gateway's ledger.",
        _select_wrong_outcomes,
    ),
)
