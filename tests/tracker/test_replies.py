"""The rules that classify replies of mail servers."""

import pytest

from tracker.replies import ReplyKind, ReplyRule, classify_reply, parse_rules

HARD, SOFT, US = ReplyKind


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("550 5.1.1 no such mailbox", HARD),
        ("550 5.2.1 the account is disabled", HARD),
        ("550 5.1.1 user unknown in relay recipient table", HARD),
        ("550 5.4.1 recipient address rejected: access denied", HARD),
        ("550 user unknown", HARD),
        ("554 delivery error: this mailbox is disabled", HARD),
        ("5.1.1", HARD),
        ("550 no such user; see the spamhaus help", HARD),
        ("550 5.7.1 user unknown; rate limit for unknown users", HARD),
        ("554 delivery error: dd this user doesn't have an account here", HARD),
        ("550 5.5.0 Requested action not taken: mailbox unavailable", HARD),
        ("450 4.1.1 recipient rejected: user unknown in local recipient table", SOFT),
        ("451 user unknown, try again", SOFT),
        ("552 5.2.2 the mailbox is full", SOFT),
        ("554 5.2.2 over quota", SOFT),
        ("552 5.3.4 the message is too large", SOFT),
        ("550 mailbox full", SOFT),
        ("452 4.2.2 over quota", SOFT),
        ("451 4.7.1 greylisted, come back in 300 seconds", SOFT),
        ("450 4.7.1 try again later", SOFT),
        ("451 local error", SOFT),
        ("552 storage exceeded", SOFT),
        ("552 5.2.0 storage exceeded", SOFT),
        ("4.4.7", SOFT),
        ("554 5.7.1 relaying denied", US),
        ("550 we don't know you: Relaying Denied", US),
        ("553 sorry, that domain isn't in my list of allowed rcpthosts (#5.7.1)", US),
        ("530 5.7.0 log in first", US),
        ("530 log in first", US),
        ("550 5.7.26 this email is unauthenticated", US),
        ("550-5.7.1 first line 550 5.7.1 policy", US),
        ("554 blocked using a.dnsbl.internal", US),
        ("550 5.4.5 too much sent today", US),
        ("550 5.1.8 the sender's domain doesn't exist", US),
        ("421 4.7.0 try again later", US),
        ("503 bad sequence of commands", US),
        ("554 transaction failed", US),
        ("552 5.7.0 content not allowed", US),
        ("550 no such user here; sender verify failed", US),
        ("550 5.1.1.9 is on our blocklist", US),
        ("550 5.5.2 syntax error", US),
    ],
)
def test_a_reply_is_about_the_recipient_or_about_us(reply: str, expected: ReplyKind) -> None:
    assert classify_reply(reply) is expected


@pytest.mark.parametrize(
    ("match", "is_match"),
    [
        ("550", True),
        ("55", True),  # a text
        ("551", False),
        ("5.7.1", True),
        ("5.7.*", True),
        ("5.1.*", False),
        ("550 5.7.1 Local   POLICY", True),
        ("550 policy", True),
        ("551 policy", False),
        ("local rule", False),
    ],
)
def test_a_rule_matches_codes_and_a_part_of_the_text(match: str, is_match: bool) -> None:
    kind = classify_reply("550 5.7.1 a local policy says no", [ReplyRule(match, SOFT)])
    assert kind is (SOFT if is_match else US)


def test_a_status_holds_where_a_reply_has_no_enhanced_code() -> None:
    assert classify_reply("host not found", status="5.4.4") is HARD
    assert classify_reply("connection timed out", status="4.4.1") is SOFT
    assert classify_reply("554 not delivered", status="5.1.1") is HARD
    assert classify_reply("550 5.2.2 full", status="5.1.1") is SOFT


def test_only_a_rule_of_the_scenario_makes_a_temporary_reply_hard() -> None:
    reply = "450 4.1.1 user unknown"
    assert classify_reply(reply) is SOFT
    assert classify_reply(reply, [ReplyRule("450 user unknown", HARD)]) is HARD


def test_the_first_rule_decides() -> None:
    rules = parse_rules('[{"match": "5.2.2", "as": "hard"}, {"match": "552", "as": "us"}]')
    assert classify_reply("552 5.2.2 full", rules) is HARD
    assert classify_reply("552 5.3.4 too large", rules) is US
    assert classify_reply("450 busy", rules) is SOFT


def test_a_field_is_not_looked_for_in_lists_of_lists() -> None:
    rule = ReplyRule("", HARD, {"code": "7"})
    assert rule.matches("400", "", "", [{"code": 7}])
    nested: list[object] = [{"code": 7}]
    for _ in range(10_000):
        nested = [nested]
    assert not rule.matches("400", "", "", nested)
