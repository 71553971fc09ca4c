"""Judgements: three states, and what they mean together."""

import pytest

from simulator.results.judgement import ConditionResult, are_all_met, count_missed, count_unjudged

MET, MISSED = ConditionResult(holds=True), ConditionResult(holds=False)
UNJUDGED = [
    ConditionResult(holds=holds, unjudged_reason="the run is partial") for holds in (True, False)
]


def test_a_value_does_not_count_if_its_condition_can_not_be_judged() -> None:
    assert [judgement.is_met for judgement in (MET, MISSED, *UNJUDGED)] == [True, False, None, None]
    assert UNJUDGED[0].as_json() == {"passed": None, "not_judged": "the run is partial"}


@pytest.mark.parametrize(
    ("judgements", "are_met"),
    [
        ([], True),
        ([MET, MET], True),
        ([MET, MISSED], False),
        ([MET, *UNJUDGED], None),
        ([MISSED, *UNJUDGED], False),
    ],
)
def test_one_missed_condition_outweighs_those_that_can_not_be_judged(
    judgements: list[ConditionResult], are_met: bool | None
) -> None:
    assert are_all_met(judgements) is are_met
    missed, unjudged = count_missed(judgements), count_unjudged(judgements)
    assert (are_met is True) == (missed == unjudged == 0)
    assert (are_met is False) == (missed > 0)
