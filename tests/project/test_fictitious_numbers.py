"""No number in code, documents, samples and tests belongs to a person."""

import re

import phonenumbers

from simulator.forced import OUTCOME_BY_MOBILE
from tests.support.paths import ROOT
from workers.mobile import RESERVED_FOR_FICTION

INTERNATIONAL = re.compile(r"(?<!\w)\+\d[\d ().-]{7,18}\d\b")

FOLDERS = (
    "benchmarks",
    "docs",
    "drills",
    "fault_matrix",
    "scenarios",
    "simulator",
    "tests",
    "tracker",
)
SUFFIXES = {".py", ".md", ".toml", ".csv", ".json", ".html"}

OTHER_FICTION = re.compile(
    r"\+4420794\d{5}"  # Ofcom: 020 7946 0000 to 0999
    r"|\+4915228817386"  # Bundesnetzagentur, numbers for films
    r"|\+46701740[6-9]\d\d"  # PTS, numbers for books and films
    r"|\+80012345678"  # the example of the numbering plan for freephone
)
"""Reserved numbers that can't receive SMS, or that phonenumbers accepts anyway."""


def test_every_number_is_reserved_or_belongs_to_no_range() -> None:
    found: dict[str, str] = {}
    for folder in (*FOLDERS, "workers"):
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in SUFFIXES:
                text = path.read_text(encoding="utf-8", errors="replace")
                found |= {number: str(path) for number in INTERNATIONAL.findall(text)}
    assert set(OUTCOME_BY_MOBILE) <= found.keys()
    somebodys = {}
    for written, file in found.items():
        number = phonenumbers.parse(written)
        e164 = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
        is_reserved = RESERVED_FOR_FICTION.fullmatch(e164) or OTHER_FICTION.fullmatch(e164)
        if phonenumbers.is_valid_number(number) and not is_reserved:
            somebodys[written] = file
    assert somebodys == {}
