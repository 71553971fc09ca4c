"""Rules that classify a server's reply: it refuses the recipient, or the sender.

A mail server's reply has a code (RFC 5321), often an enhanced status code (RFC 3463), and a text.
That of an HTTP server has a status, a text and perhaps JSON. The first rule that matches decides.
The rules of a scenario come before the shipped ones.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from functools import cache
from types import MappingProxyType
from typing import NamedTuple


class ReplyKind(StrEnum):
    """The meaning of a reply that doesn't accept a message."""

    HARD = "hard"
    """A permanent failure of the recipient's address."""
    SOFT = "soft"
    """A temporary failure for this recipient."""
    US = "us"
    """The server refuses the sender, for any recipient."""


_PATTERN = re.compile(r"(?:([2-5]\d\d)(?!\S))?\s*([245]\.\d{1,3}\.(?:\d{1,3}|\*)(?!\S))?")
_LEADING_CODES = re.compile(
    r"\s*(?:([2-5]\d\d)(?=[\s-]|$))?[\s-]*#?([245]\.\d{1,3}\.\d{1,3})?(?!\.?\d)"
)
_ENHANCED_CODE_IN_TEXT = re.compile(r"#([245]\.\d{1,3}\.\d{1,3})(?!\d)")


class ReplyRule(NamedTuple):
    """A rule of the table.

    Attributes:
        match: a code, an enhanced code, a part of the text, or several of them in this order, such
            as `550 5.7.1 relaying denied`. The last part of an enhanced code may be `*`.
        kind: the meaning of a reply that matches.
        fields: fields of the reply's JSON with their values as text. The parts of a field's path
            are separated by dots. Any element of a list may have the value.
    """

    match: str
    kind: ReplyKind
    fields: Mapping[str, str] = MappingProxyType({})

    @property
    def code(self) -> str:
        """The code that a reply must have; empty for any."""
        return _parse_pattern(self.match)[0]

    def matches(self, code: str, enhanced_code: str, text: str, body: object = None) -> bool:
        """Return whether a reply matches; `text` is in lower case, `body` is its JSON, if any."""
        wanted_code, wanted_enhanced, wanted_text = _parse_pattern(self.match)
        if wanted_code and wanted_code != code:
            return False
        if wanted_enhanced.endswith("*"):
            if not enhanced_code.startswith(wanted_enhanced[:-1]):
                return False
        elif wanted_enhanced and wanted_enhanced != enhanced_code:
            return False
        return wanted_text in text and all(
            value in _read_field(body, path.split(".")) for path, value in self.fields.items()
        )


def _read_field(body: object, path: Sequence[str]) -> Iterator[str]:
    """Yield the values of a field of JSON as text."""
    if isinstance(body, list):
        for item in body:
            if not isinstance(item, list):  # lists of lists may be nested without end
                yield from _read_field(item, path)
    elif not path:
        yield format_field(body)
    elif isinstance(body, dict) and path[0] in body:
        yield from _read_field(body[path[0]], path[1:])


def format_field(value: object) -> str:
    """Return the value of a field of JSON as text, as rules compare it."""
    return value if isinstance(value, str) else json.dumps(value)


@cache
def _parse_pattern(pattern: str) -> tuple[str, str, str]:
    text = " ".join(pattern.lower().split())
    codes = _PATTERN.match(text)
    if codes is None:
        return "", "", text
    return codes[1] or "", codes[2] or "", text[codes.end() :].strip()


def _rules(kind: ReplyKind, *patterns: str) -> list[ReplyRule]:
    return [ReplyRule(pattern, kind) for pattern in patterns]


DEFAULT_RULES: Sequence[ReplyRule] = (
    # Codes with one meaning, whatever the text says.
    *_rules(ReplyKind.HARD, "5.1.1", "5.1.2", "5.1.3", "5.1.6", "5.1.10", "5.2.1"),
    *_rules(ReplyKind.HARD, "5.5.0 mailbox unavailable"),
    *_rules(ReplyKind.SOFT, "5.2.2", "5.2.3", "5.3.4", "5.4.7", "4.2.*"),
    *_rules(ReplyKind.US, "5.1.7", "5.1.8", "5.1.90", "5.4.5"),
    # The server asks the sender to try again later.
    *_rules(ReplyKind.SOFT, "greylist", "graylist", "grey list", "gray list"),
    # The sender is refused, by texts of servers that give no code of their own, or a wrong one.
    *_rules(ReplyKind.US, "relaying denied", "relay access denied", "relay not permitted"),
    *_rules(ReplyKind.US, "relaying not allowed", "not permitted to relay", "unable to relay"),
    *_rules(ReplyKind.US, "allowed rcpthosts", "authentication required"),
    *_rules(ReplyKind.US, "authentication is required", "sender verify failed"),
    # The recipient is unknown, even if the text mentions a blocklist or a limit.
    *_rules(ReplyKind.HARD, "user unknown", "unknown user", "no such user", "user not found"),
    *_rules(ReplyKind.HARD, "this user doesn't have", "mailbox is disabled"),
    # The sender is blocked, or sends too much.
    *_rules(ReplyKind.US, "block list", "blocklist", "blacklist", "black list", "spamhaus"),
    *_rules(ReplyKind.US, "dnsbl", "blocked using", "poor reputation", "bad reputation"),
    *_rules(ReplyKind.US, "unsolicited", "sending quota", "sending limit", "daily limit"),
    *_rules(ReplyKind.US, "rate limit", "too many connections", "too many messages"),
    *_rules(ReplyKind.US, "administrative prohibition", "policy restriction"),
    # The mailbox accepts no message at present.
    *_rules(ReplyKind.SOFT, "mailbox full", "mailbox is full", "over quota", "quota exceeded"),
    *_rules(ReplyKind.SOFT, "mailbox quota", "insufficient storage"),
    # Codes about the server, its policy and the protocol.
    *_rules(ReplyKind.US, "421", "5.7.*", "5.5.*", "503", "554", "530", "534", "535", "538"),
    *_rules(ReplyKind.SOFT, "5.3.*", "5.4.6", "552"),
)
"""The shipped rules for mail servers. Any other 5xx reply is `HARD`, any other reply `SOFT`.

They make no 4xx reply `HARD`, because it asks for another attempt.
"""


def classify_reply(reply: str, rules: Iterable[ReplyRule] = (), *, status: str = "") -> ReplyKind:
    """Return the meaning of a mail server's reply such as `550 5.1.1 unknown user`.

    Args:
        rules: rules that come before the shipped ones.
        status: the enhanced code to use if the reply has none.
    """
    code, enhanced_code = _read_codes(reply, status)
    first_digit = (code or enhanced_code)[:1]
    shipped = (
        rule for rule in DEFAULT_RULES if first_digit != "4" or rule.kind is not ReplyKind.HARD
    )
    kind = find_reply_kind(reply, (*rules, *shipped), status=status)
    return kind or (ReplyKind.HARD if first_digit == "5" else ReplyKind.SOFT)


def find_reply_kind(
    reply: str, rules: Iterable[ReplyRule], *, status: str = "", body: object = None
) -> ReplyKind | None:
    """Return the meaning of a reply by the first of some rules that matches, None without one.

    Args:
        status: the enhanced code to use if the reply has none.
        body: the JSON of the reply, if it has any.
    """
    code, enhanced_code = _read_codes(reply, status)
    text = " ".join(reply.lower().split())
    matching = (rule.kind for rule in rules if rule.matches(code, enhanced_code, text, body))
    return next(matching, None)


def _read_codes(reply: str, status: str) -> tuple[str, str]:
    """Return the code and the enhanced code of a reply, each empty if it has none."""
    codes = _LEADING_CODES.match(reply)
    code, enhanced_code = (codes[1] or "", codes[2] or "") if codes else ("", "")
    if not enhanced_code:
        in_text = _ENHANCED_CODE_IN_TEXT.search(reply)
        enhanced_code = in_text[1] if in_text else status
    return code, enhanced_code


@cache
def parse_rules(text: str) -> tuple[ReplyRule, ...]:
    """Return the rules in the JSON text of a recorded gateway."""
    return tuple(
        ReplyRule(rule["match"], ReplyKind(rule["as"]), rule.get("json", {}))
        for rule in json.loads(text)
    )
