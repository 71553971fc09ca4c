"""The segments of an SMS, counted by the workers and by the oracle."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.setup.message_costs import count_segments
from workers.message.sms_segments import GSM_BASIC, GSM_EXTENSION, count_sms_segments

GSM_TABLE = (
    # 3GPP TS 23.038, 6.2.1: rows are the low bits of a septet from 0, columns the high ones.
    "@Δ 0¡P¿p",
    "£_!1AQaq",
    '$Φ"2BRbr',
    "¥Γ#3CScs",
    "èΛ¤4DTdt",
    "éΩ%5EUeu",
    "ùΠ&6FVfv",
    "ìΨ'7GWgw",
    "òΣ(8HXhx",
    "ÇΘ)9IYiy",
    "\nΞ*:JZjz",
    "Ø\x1b+;KÄkä",
    "øÆ,<LÖlö",
    "\ræ-=MÑmñ",
    "Åß.>NÜnü",
    "åÉ/?O§oà",
)
EXTENSION_TABLE = "\f^{}\\[~]|€"  # 6.2.1.1


def test_the_alphabet_is_that_of_the_standard() -> None:
    assert {*"".join(GSM_TABLE)} - {"\x1b"} == GSM_BASIC
    assert len(GSM_BASIC) == 127
    assert {*EXTENSION_TABLE} == GSM_EXTENSION


@pytest.mark.parametrize(
    ("text", "segments"),
    [
        ("", 1),
        (160 * "a", 1),
        (161 * "a", 2),
        (306 * "a", 2),
        (307 * "a", 3),
        (80 * "€", 1),
        (81 * "€", 2),
        (159 * "a" + "€", 2),
        pytest.param(152 * "a" + "€" + 152 * "a", 3, id="a € isn't divided"),
        (70 * "न", 1),
        (71 * "न", 2),
        (134 * "न", 2),
        (135 * "न", 3),
        ("`" + 69 * "a", 1),
        ("`" + 70 * "a", 2),
        (35 * "🎉", 1),
        (36 * "🎉", 2),
        (66 * "🎉", 2),
        pytest.param(67 * "🎉", 3, id="an emoji isn't divided"),
    ],
)
def test_segments_are_counted_as_operators_do(text: str, segments: int) -> None:
    assert count_sms_segments(text) == segments
    assert count_segments(text) == segments


@given(st.lists(st.sampled_from(["a" * 50, "€" * 25, "€", "b", "न", "🎉" * 20, "🎉"]), max_size=40))
def test_workers_and_oracle_count_the_same(parts: list[str]) -> None:
    text = "".join(parts)
    assert count_sms_segments(text) == count_segments(text)
