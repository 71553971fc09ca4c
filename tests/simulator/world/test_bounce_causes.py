"""The simulated gateway's causes of bounces have the scenario's shares."""

from collections import Counter

import pytest
from pydantic import ValidationError

from simulator.world.behaviour import BounceCauseShares
from simulator.world.bounce_causes import DEFAULT_SHARES, explain_bounces, resolve_shares
from tracker.bounces import BounceCause, classify_bounce
from tracker.status import Channel, Status

BOUNCES = 50_000


def draw(shares: BounceCauseShares, channel: Channel, status: Status) -> Counter[BounceCause]:
    bounces = dict.fromkeys(range(BOUNCES), status)
    explanations = explain_bounces(shares, 42, "spring", channel, 1, bounces)
    assert explanations.keys() == bounces.keys()
    return Counter(map(classify_bounce, explanations.values()))


@pytest.mark.parametrize(("channel", "status"), DEFAULT_SHARES)
def test_causes_have_their_default_shares(channel: Channel, status: Status) -> None:
    drawn = draw(BounceCauseShares(), channel, status)
    expected = DEFAULT_SHARES[channel, status]
    assert drawn.keys() == expected.keys()
    for cause, share in expected.items():
        assert drawn[cause] / BOUNCES == pytest.approx(share, abs=0.01)


def test_a_scenario_sets_shares_and_the_others_share_the_rest() -> None:
    shares = BounceCauseShares(mailbox_full=0.75)
    assert resolve_shares(shares, Channel.EMAIL, Status.SOFT_BOUNCED) == pytest.approx(
        {
            BounceCause.MAILBOX_FULL: 0.75,
            BounceCause.SERVER_DOWN: 0.15,
            BounceCause.MESSAGE_TOO_LARGE: 0.1,
        }
    )
    drawn = draw(shares, Channel.EMAIL, Status.SOFT_BOUNCED)
    assert drawn[BounceCause.MAILBOX_FULL] / BOUNCES == pytest.approx(0.75, abs=0.01)
    everything = BounceCauseShares(unknown_domain=1.0)
    assert set(draw(everything, Channel.EMAIL, Status.HARD_BOUNCED)) == {BounceCause.UNKNOWN_DOMAIN}


def test_a_cause_depends_on_the_message_only() -> None:
    shares = BounceCauseShares()
    alone = explain_bounces(shares, 42, "spring", Channel.EMAIL, 1, {7: Status.SOFT_BOUNCED})
    among = explain_bounces(
        shares,
        42,
        "spring",
        Channel.EMAIL,
        1,
        {3: Status.HARD_BOUNCED, 7: Status.SOFT_BOUNCED, 9_000: Status.SOFT_BOUNCED},
    )
    assert among[7] == alone[7]
    again = [
        explain_bounces(shares, 42, "spring", Channel.EMAIL, attempt, {7: Status.SOFT_BOUNCED})[7]
        for attempt in range(1, 30)
    ]
    assert len(set(again)) > 1


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ({"mailbox_full": 0.7, "server_down": 0.4}, "sum to 1.1; expected at most 1"),
        ({"unknown_recipient": 0.7, "unknown_domain": 0.1}, "sum to 0.8; expected 1"),
        ({"mailbox_full": 1.5}, "less than or equal to 1"),
        ({"mail_box_full": 0.5}, "Extra inputs are not permitted"),
    ],
)
def test_impossible_shares_are_refused(shares: dict[str, float], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        BounceCauseShares.model_validate(shares)
