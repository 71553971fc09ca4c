"""Email addresses: which are well-formed, how they are sent, and when two are the same."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from workers import addresses
from workers.addresses import EmailAddress, is_well_formed, parse_address

MALFORMED = [
    "",
    "anna",
    "anna@",
    "@shop.example",
    "anna@example",
    "anna@localhost",
    "anna@.com",
    "anna@shop.example.",
    "anna@shop..example",
    "anna@-shop.example",
    "anna@shop-.example",
    "anna@shop.123",
    "anna@[192.0.2.1]",
    "anna@sh_op.example",
    "anna@☃.example",
    "anna@shop@shop.example",
    "anna smith@shop.example",
    "anna@sh op.example",
    "anna@shop.example\n",
    " anna@shop.example",
    ".anna@shop.example",
    "anna.@shop.example",
    "anna..b@shop.example",
    "<anna@shop.example>",
    "mailto:anna@shop.example",
    "anna@shop.example,",
    "'anna@shop.example'",
    "anna,bo@shop.example",
    "anna@shop.example;bo@shop.example",
    "Anna <anna@shop.example>",
    "anna(at)shop.example",
    "a" * 65 + "@shop.example",
    "anna@" + "b" * 64 + ".example",
    "anna@" + "b.c" * 90 + ".example",
    "anna@shop\u200d.example",
    "anna@shop。",
    "anna@。example",
    "anna@shop。.example",
    "anna。b@shop",
    "anna@b\u00fc\u200ccher.example",
    "an\u200dna@shop.example",
    "a" * 65 + "@නෙත්\u200dර.example",
    "anna@නෙත්\u200dර." + "b." * 125 + "example",
]


@pytest.mark.parametrize("address", MALFORMED)
def test_what_no_server_accepts_is_malformed(address: str) -> None:
    assert parse_address(address) is None
    assert not is_well_formed(address)


@pytest.mark.parametrize(
    ("address", "text", "key"),
    [
        ("anna@shop.example", "anna@shop.example", "anna@shop.example"),
        ("Anna.B@SHOP.Example", "Anna.B@shop.example", "anna.b@shop.example"),
        ("anna+news@shop.example", "anna+news@shop.example", "anna+news@shop.example"),
        ("o'brien@shop.example", "o'brien@shop.example", "o'brien@shop.example"),
        ("anna@BÜCHER.example", "anna@xn--bcher-kva.example", "anna@xn--bcher-kva.example"),
        ("anna@xn--bcher-kva.example", "anna@xn--bcher-kva.example", "anna@xn--bcher-kva.example"),
        ("Søren@shop.example", "Søren@shop.example", "søren@shop.example"),
        ("so\u0308ren@shop.example", "sören@shop.example", "sören@shop.example"),
        ("STRASSE@shop.example", "STRASSE@shop.example", "strasse@shop.example"),
        ("Straße@shop.example", "Straße@shop.example", "strasse@shop.example"),
        ('"anna b"@shop.example', '"anna b"@shop.example', '"anna b"@shop.example'),
        ('"anna"@shop.example', "anna@shop.example", "anna@shop.example"),
        ("Anna@ශ්\u200dරී.lk", "Anna@xn--10cl1a0b660p.lk", "anna@xn--10cl1a0b660p.lk"),
        ("anna@XN--10CL1A0B660P.lk", "anna@xn--10cl1a0b660p.lk", "anna@xn--10cl1a0b660p.lk"),
        ("anna@ශ්රී.lk", "anna@xn--10cl1a0b.lk", "anna@xn--10cl1a0b.lk"),
        (
            "anna@نامه\u200cای.test",
            "anna@xn--mgba3gch31f060k.test",
            "anna@xn--mgba3gch31f060k.test",
        ),
        ("anna@例え。jp", "anna@xn--r8jz45g.jp", "anna@xn--r8jz45g.jp"),
        ("anna@mail．Shop｡test", "anna@mail.shop.test", "anna@mail.shop.test"),
        ("anna@shop.test", "anna@shop.test", "anna@shop.test"),
        ("anna@bücher.test", "anna@xn--bcher-kva.test", "anna@xn--bcher-kva.test"),
        ("anna@mail.localhost", "anna@mail.localhost", "anna@mail.localhost"),
        ("anna@shop.invalid", "anna@shop.invalid", "anna@shop.invalid"),
    ],
)
def test_an_address_is_sent_in_ascii_and_compared_without_case(
    address: str, text: str, key: str
) -> None:
    assert is_well_formed(address)
    assert parse_address(address) == EmailAddress(text, key)


PARTS = st.text("aB9.-+_'@ é", max_size=8)


@given(PARTS, PARTS, st.sampled_from(["example", "Test", "x-", "1", "c9", "xn--p1ai", ""]))
@example("a" * 64, "b", "example")
@example("a", "ab--c", "example")
def test_plain_addresses_are_judged_like_all_others(local: str, host: str, top: str) -> None:
    address = f"{local}@{host}.{top}"
    assert parse_address(address) == addresses._parse_unusual(address)


@given(st.text(max_size=30))
def test_a_parsed_address_stays_the_same(text: str) -> None:
    parsed = parse_address(f"{text}@bücher.example")
    if parsed is not None:
        assert parse_address(parsed.text) == parsed
