"""What the replies of HTTP servers mean, and what a gateway sends to them."""

import json
from email.utils import formatdate

import pytest
from jinja2.exceptions import SecurityError

from tracker.clock import SystemClock, to_datetime
from tracker.replies import ReplyKind, ReplyRule
from workers.gateways.http_replies import (
    MAX_EXCERPT,
    MAX_RETRY_AFTER_SECONDS,
    HttpReply,
    parse_json,
    parse_retry_after,
)
from workers.gateways.http_template import VARIABLES, compile_json

HARD, SOFT, US = ReplyKind


def make_reply(code: int, body: str = "") -> HttpReply:
    return HttpReply(code, body, parse_json(body.encode()))


@pytest.mark.parametrize(
    ("code", "body", "expected"),
    [
        (200, "", None),
        (202, '{"id": "x", "code": 21211}', None),
        (400, '{"code": 21211, "message": "The To number is not valid"}', HARD),
        (400, '{"code": 21610, "message": "replied STOP"}', HARD),
        (400, '{"code": 21614}', HARD),
        (400, '{"code": 21212, "message": "the From number is not valid"}', US),
        (400, '{"code": 21602, "to": "+12121121211"}', US),
        (400, "21211", US),
        (
            400,
            '{"errors": [{"field": "personalizations.0.to.0.email",'
            ' "message": "Does not contain a valid address."}]}',
            HARD,
        ),
        (
            400,
            '{"errors": [{"field": "personalizations.0.to.0.email",'
            ' "message": "Invalid type. Expected: string, given: array."}]}',
            US,
        ),
        (
            400,
            '{"errors": [{"field": "from.email", "message": "Does not contain a valid address."}]}',
            US,
        ),
        (400, '{"message": "\'to\' parameter is not a valid address. please check it"}', HARD),
        (400, '{"message": "\'from\' parameter is not a valid address. please check it"}', US),
        (422, '{"ErrorCode": 406, "Message": "marked as inactive"}', HARD),
        (422, '{"ErrorCode": 300, "Message": "Invalid \'To\' address"}', HARD),
        (422, '{"ErrorCode": 300, "Message": "Invalid \'From\' address"}', US),
        (400, '{"message": "Email address is not verified."}', US),
        *((code, "any words, mailbox full, user unknown", US) for code in (400, 404, 410, 422)),
        *((code, "", US) for code in (301, 401, 402, 403, 405, 413, 415, 429, 500, 502, 503, 504)),
    ],
)
def test_the_shipped_rules_tell_who_is_to_blame(
    code: int, body: str, expected: ReplyKind | None
) -> None:
    assert make_reply(code, body).outcome([]) is expected


@pytest.mark.parametrize(
    ("rule", "body", "is_match"),
    [
        (ReplyRule("200", SOFT, {"status": "7"}), '{"status": 7}', True),
        (ReplyRule("200", SOFT, {"status": "7"}), '{"status": 70}', False),
        (ReplyRule("201", SOFT, {"status": "7"}), '{"status": 7}', False),
        (ReplyRule("200", SOFT, {"messages.status": "4"}), '{"messages": [{"status": "4"}]}', True),
        (ReplyRule("200", SOFT, {"ok": "false"}), '{"ok": false}', True),
        (ReplyRule("200", SOFT, {"a.b": "1"}), '{"a": {"c": 1}}', False),
        (ReplyRule("200", SOFT, {"a": "1"}), '[[[["deep"]]]]', False),
        (ReplyRule("200", SOFT, {"a": "1"}), "[" * 100_000, False),
        (ReplyRule("200 barred", SOFT), '{"reason": "Barred"}', True),
        (ReplyRule("barred", SOFT), '{"reason": "barred"}', False),
    ],
)
def test_a_rule_names_a_status_or_a_field_of_a_success(
    rule: ReplyRule, body: str, is_match: bool
) -> None:
    assert make_reply(200, body).outcome([rule]) is (SOFT if is_match else None)


def test_a_rule_of_the_scenario_wins() -> None:
    reply = make_reply(400, '{"code": 21211}')
    assert reply.outcome([ReplyRule("400", SOFT)]) is SOFT
    assert reply.outcome([ReplyRule("404", SOFT)]) is HARD


def test_a_rule_matches_any_part_of_the_body_and_the_record_has_its_beginning() -> None:
    reply = make_reply(400, "x " * MAX_EXCERPT + "mailbox full")
    assert reply.outcome([ReplyRule("400 mailbox full", SOFT)]) is SOFT
    assert len(str(reply)) == len("400 ") + MAX_EXCERPT - 1


def test_the_time_of_a_retry_is_a_number_or_a_date() -> None:
    now = to_datetime(SystemClock().now()).timestamp()
    assert parse_retry_after("7") == 7
    assert 55 < parse_retry_after(formatdate(now + 60, usegmt=True)) <= 60
    assert parse_retry_after(formatdate(now - 60, usegmt=True)) == 0
    assert parse_retry_after("9" * 400) == MAX_RETRY_AFTER_SECONDS
    for useless in (None, "", "soon", "-5", "1e9", "²", "Mon, 99 Jan 2026"):
        assert parse_retry_after(useless) == 0, useless


def test_a_template_renders_strings_and_keeps_the_rest() -> None:
    template = compile_json({"to": ["{{ recipient }}", 1], "x": {"{{ text }}": None}, "y": True})
    assert template.variables == {"recipient"}
    values = dict.fromkeys(VARIABLES, '"\n{{ text }}')
    rendered = json.loads(json.dumps(template.render(values)))
    assert rendered == {"to": ['"\n{{ text }}', 1], "x": {"{{ text }}": None}, "y": True}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{{ recipent }}", "unknown variable 'recipent'; did you mean recipient"),
        ("{{ recipient", "got '{{ recipient', which isn't a Jinja2 template: line 1"),
        ("{{ recipient | uper }}", "line 1: unknown filter 'uper'; did you mean upper"),
    ],
)
def test_a_wrong_template_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        compile_json({"to": [text]})


def test_a_template_can_not_reach_python() -> None:
    template = compile_json({"to": "{{ recipient.__class__.__mro__ }}"})
    with pytest.raises(SecurityError):
        template.render({"recipient": "ann"})
