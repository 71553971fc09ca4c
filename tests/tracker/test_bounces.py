"""The cause of a bounce is read from the gateway's explanation."""

import pytest

from tracker.bounces import BounceCause, classify_bounce


@pytest.mark.parametrize("cause", BounceCause)
def test_each_cause_is_recognized_from_its_explanation(cause: BounceCause) -> None:
    assert classify_bounce(cause.explanation) is cause


@pytest.mark.parametrize(
    ("explanation", "cause"),
    [
        ("550 5.1.1 <a@example.com>: Recipient address rejected", BounceCause.UNKNOWN_RECIPIENT),
        ("550-5.1.1 The email account doesn't exist", BounceCause.UNKNOWN_RECIPIENT),
        ("452 4.2.2 Over quota", BounceCause.MAILBOX_FULL),
        ("552 5.2.2 Mailbox full", BounceCause.MAILBOX_FULL),
        ("552 5.2.3 Message length exceeds administrative limit", BounceCause.MESSAGE_TOO_LARGE),
        ("421 4.4.2 connection dropped", BounceCause.SERVER_DOWN),
        ("554 5.7.1 Message rejected as spam", BounceCause.OTHER),
        ("host 10.5.1.1 said no", BounceCause.OTHER),
        ("version 15.1.1", BounceCause.OTHER),
        ("550 no such user", BounceCause.OTHER),
        ("", BounceCause.OTHER),
        (None, BounceCause.OTHER),
    ],
)
def test_cause_of_real_explanations(explanation: str | None, cause: BounceCause) -> None:
    assert classify_bounce(explanation) is cause
