"""Clean the cells of exports: invisible characters, and words such as `N/A` for an empty cell."""

from unicodedata import category

EMPTY_WORDS = frozenset(
    {"n/a", "#n/a", "null", "(null)", "<null>", "[null]", "\\n", "nan", "none", "-", "--", "–", "—"}
)
"""Words for an empty cell, in lower case. "NA" isn't one: it is Namibia's code, and a name."""

MAX_EMPTY_WORD_CHARACTERS = max(map(len, EMPTY_WORDS))

_JOINERS = "\u200c\u200d"
"""Zero-width characters that belong to the spelling of some scripts, and to emoji."""

_KEPT = "\0\t\n\r"
"""Control characters that remain: the reader rejects NUL, and the others are space."""


class _VisibleCharacters(dict[int, str | None]):
    """A table for `str.translate` that drops control and zero-width characters."""

    def __init__(self, kept: str) -> None:
        super().__init__()
        self._kept = kept

    def __missing__(self, code: int) -> str | None:
        character = chr(code)
        is_invisible = category(character) in ("Cc", "Cf") and character not in self._kept
        self[code] = None if is_invisible else character
        return self[code]


_VISIBLE = _VisibleCharacters(_KEPT)
_VISIBLE_OR_JOINERS = _VisibleCharacters(_KEPT + _JOINERS)


def strip_invisible(text: str, *, keep_joiners: bool) -> str:
    """Return a text without control and zero-width characters; line ends and tabs remain.

    Args:
        keep_joiners: whether joiners remain, which text for people may need.
    """
    # Most text is printable, and this check is several times as fast as the translation.
    if text.rstrip("\r\n").replace("\t", " ").isprintable():
        return text
    return text.translate(_VISIBLE_OR_JOINERS if keep_joiners else _VISIBLE)


def clean_cell(cell: str) -> str:
    """Return a cell without space around it; an empty text for one of EMPTY_WORDS."""
    stripped = cell.strip()
    is_short = len(stripped) <= MAX_EMPTY_WORD_CHARACTERS
    return "" if is_short and stripped.lower() in EMPTY_WORDS else stripped
