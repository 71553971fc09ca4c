"""The vocabulary matches the design's lifecycle and table of reasons."""

import pytest

from tests.support.contract import ARROWS, CONTRACT, STATUSES
from tracker.status import (
    FINAL_STATUSES,
    IN_PROGRESS_STATUSES,
    LEGAL_TRANSITIONS,
    SENT_STATUSES,
    Category,
    Reason,
    Status,
    Step,
    is_settled,
)


def test_the_statuses_are_those_of_the_design_and_keep_their_codes() -> None:
    assert {status.slug: int(status) for status in Status} == STATUSES
    assert {slug for arrow in ARROWS for slug in arrow} == set(STATUSES)


@pytest.mark.parametrize(
    ("source", "target"),
    [
        pytest.param(source, target, id=f"{source.slug}-{target.slug}")
        for source in Status
        for target in Status
    ],
)
def test_a_change_is_legal_if_it_is_drawn(source: Status, target: Status) -> None:
    assert (target in LEGAL_TRANSITIONS[source]) is ((source.slug, target.slug) in ARROWS)


def test_a_message_begins_queued() -> None:
    assert LEGAL_TRANSITIONS[None] == {Status.QUEUED}


def test_the_mapping_has_exactly_the_statuses() -> None:
    assert set(LEGAL_TRANSITIONS) == {None, *Status}


def test_the_mapping_can_not_be_changed() -> None:
    with pytest.raises(TypeError):
        LEGAL_TRANSITIONS[Status.NOT_SENT] = frozenset(Status)  # type: ignore[index]  # that is the point


@pytest.mark.parametrize(
    ("derived", "slugs"),
    [
        pytest.param(FINAL_STATUSES, "not_sent delivered hard_bounced not_delivered", id="final"),
        pytest.param(
            SENT_STATUSES, "in_gateway soft_bounced not_delivered delivered hard_bounced", id="sent"
        ),
        pytest.param(IN_PROGRESS_STATUSES, "queued about_to_be_sent", id="in progress"),
    ],
)
def test_sets_of_statuses(derived: frozenset[Status], slugs: str) -> None:
    assert {status.slug for status in derived} == set(slugs.split())


def test_sent_not_sent_and_in_progress_divide_the_statuses() -> None:
    parts = [*SENT_STATUSES, *IN_PROGRESS_STATUSES, Status.NOT_SENT]
    assert sorted(parts) == sorted(Status)


@pytest.mark.parametrize(
    ("status", "attempt", "settled"),
    [
        pytest.param(Status.QUEUED, 0, False, id="queued"),
        pytest.param(Status.ABOUT_TO_BE_SENT, 0, False, id="about to be sent"),
        pytest.param(Status.NOT_SENT, 0, True, id="not sent"),
        pytest.param(Status.IN_GATEWAY, 1, False, id="in the gateway"),
        pytest.param(Status.IN_GATEWAY, 3, False, id="in the gateway for the last time"),
        pytest.param(Status.SOFT_BOUNCED, 1, False, id="soft bounced, two attempts left"),
        pytest.param(Status.SOFT_BOUNCED, 2, False, id="soft bounced, one attempt left"),
        pytest.param(Status.SOFT_BOUNCED, 3, True, id="soft bounced, no attempt left"),
        pytest.param(Status.SOFT_BOUNCED, 4, True, id="soft bounced, more than allowed"),
        pytest.param(Status.NOT_DELIVERED, 1, True, id="not delivered"),
        pytest.param(Status.DELIVERED, 1, True, id="delivered, a late bounce is possible"),
        pytest.param(Status.HARD_BOUNCED, 1, True, id="hard bounced"),
    ],
)
def test_settled_with_three_attempts(status: Status, attempt: int, settled: bool) -> None:
    assert is_settled(status, attempt, attempts=3) is settled


def test_the_reasons_are_the_contract_in_its_order() -> None:
    assert len(CONTRACT) == 27
    assert [(reason.category, reason.slug, reason.step) for reason in Reason] == CONTRACT


def test_reason_codes_are_unique_and_none_means_no_reason() -> None:
    assert sorted(int(reason) for reason in Reason) == list(range(1, 28))
    assert not Reason.__members__.keys() - {reason.name for reason in Reason}, "an alias"


@pytest.mark.parametrize(
    "member", [pytest.param(member, id=member.slug) for member in (*Status, *Reason)]
)
def test_every_status_and_reason_has_a_sentence_of_meaning(member: Status | Reason) -> None:
    assert len(member.meaning.split()) >= 3
    assert member.meaning[0].isupper()
    assert member.meaning.endswith(".")


def test_no_two_members_mean_the_same() -> None:
    meanings = [member.meaning for member in (*Status, *Reason)]
    assert len(set(meanings)) == len(meanings)


def test_the_headings_of_the_categories() -> None:
    assert [(category.value, category.heading) for category in Category] == [
        ("internally_suppressed", "Internally Suppressed List"),
        ("incomplete_or_invalid", "Incomplete/Invalid Information"),
        ("system_error", "System Error"),
    ]


def test_titles_of_reasons_are_words_and_differ() -> None:
    titles = [reason.title for reason in Reason]
    assert len(set(titles)) == 27
    assert Reason.UNSUBSCRIBED.title == "Unsubscribed"
    assert not any("_" in title for title in titles)


def test_steps_by_name() -> None:
    assert [step.value for step in Step] == [
        "enqueue",
        "suppress",
        "validate",
        "dispatch",
        "submit",
        "deliver",
        "engage",
    ]
