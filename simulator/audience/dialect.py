"""Guess the encoding and the separator of an audience file."""

import codecs
import csv
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from simulator.audience.formats import SEPARATORS

CHUNK_BYTES = 1 << 20

MAX_SAMPLE_BYTES = 50_000
"""Bytes of words outside ASCII that the encoding is guessed from; more take long."""

MAX_BROKEN_SHARE = 0.05
"""Share of characters outside ASCII that may be broken in a file that is UTF-8."""

MIN_NUL_SHARE = 0.2
"""Share of bytes that are NUL in UTF-16 without a byte order mark; other text has none."""

CHAOS_TOLERANCE = 0.02
"""Difference of two measures of disorder, from 0 to 1, that isn't significant."""

BYTE_ORDER_MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}

WORKBOOK_STARTS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")
"""First bytes of Excel's files: those of a ZIP archive, and of the format before 2007."""

CANDIDATES = (
    "cp1252", "cp1250", "cp1251", "cp1253", "cp1254", "cp932", "gb18030", "big5", "cp949",
    "koi8_r", "mac_roman", "cp850",
)  # fmt: skip
"""Encodings of exports besides Unicode; of those that fit equally well, the first is chosen."""

NAMES = {f"cp{number}": f"windows-{number}" for number in range(1250, 1255)}
"""Names by which people know the encodings."""

_ISO_8859_15 = re.compile(rb"\xa4|[a-z]\xbd[a-z]")
"""Bytes that are € and œ in ISO-8859-15; in Windows-1252, they are ¤ and a ½ within a word."""

_WINDOWS_ONLY = re.compile(rb"[\x80-\x9f]")
"""Bytes that are letters and punctuation in Windows-1252, and nothing in ISO-8859-15."""

_WORD_OUTSIDE_ASCII = re.compile(rb"[^\s;,|\t\"]*[\x80-\xff][^\s;,|\t\"]*")


def guess_encoding(path: Path) -> str:
    """Return the encoding that the bytes of a file suggest; raise ValueError for a workbook."""
    with path.open("rb") as file:
        beginning = file.read(CHUNK_BYTES)
    if beginning.startswith(WORKBOOK_STARTS):
        raise ValueError("got a workbook or an archive; expected CSV, as a spreadsheet exports it")
    for mark, encoding in BYTE_ORDER_MARKS.items():
        if beginning.startswith(mark):
            return encoding
    if beginning.count(0) > MIN_NUL_SHARE * len(beginning):
        return "utf-16-be" if beginning[:1] == b"\0" else "utf-16-le"
    if _is_utf_8(path):
        return "utf-8"
    return _guess_legacy_encoding(path)


def _is_utf_8(path: Path) -> bool:
    """Return whether nearly all characters outside ASCII are sound UTF-8."""
    sound = broken = 0
    decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
    for chunk in _read_chunks(path):
        text = decoder.decode(chunk)
        if not text.isascii():
            others = [character for character in text if not character.isascii()]
            escaped = sum("\udc80" <= character <= "\udcff" for character in others)
            broken += escaped
            sound += len(others) - escaped
    return broken <= MAX_BROKEN_SHARE * (sound + broken)


def _guess_legacy_encoding(path: Path) -> str:
    from charset_normalizer import from_bytes

    words: dict[bytes, None] = {}
    size = 0
    for chunk in _read_chunks(path):
        for word in _WORD_OUTSIDE_ASCII.findall(chunk):
            if word not in words and size < MAX_SAMPLE_BYTES:
                words[word] = None
                size += len(word)
    sample = b" ".join(words)
    matches = [
        *from_bytes(
            sample,
            cp_isolation=[*CANDIDATES],
            enable_fallback=False,
            preemptive_behaviour=False,
        )
    ]
    least = min((match.chaos for match in matches), default=0.0)
    fitting = {
        encoding
        for match in matches
        if match.chaos <= least + CHAOS_TOLERANCE
        for encoding in match.could_be_from_charset
    }
    encoding = next((name for name in CANDIDATES if name in fitting), CANDIDATES[0])
    if encoding == "cp1252" and _ISO_8859_15.search(sample) and not _WINDOWS_ONLY.search(sample):
        return "iso-8859-15"
    return NAMES.get(encoding, encoding)


def _read_chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk


def guess_separator(lines: Sequence[str]) -> str:
    """Return the separator with which the first lines of a file make the most regular table."""

    def rate(separator: str) -> tuple[float, int]:
        try:
            rows = [row for row in csv.reader(lines, delimiter=separator) if any(row)]
        except csv.Error:
            rows = []
        if not rows or len(rows[0]) == 1:
            return 0.0, 0
        regular = sum(1 < len(row) <= len(rows[0]) for row in rows)
        return regular / len(rows), len(rows[0])

    return max(SEPARATORS.values(), key=rate)
