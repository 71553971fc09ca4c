"""The text of a page's health strip and of its warnings."""

from html.parser import HTMLParser

from tracker.text import to_one_line


class _PageReader(HTMLParser):
    """A reader of the health strip, and of the warnings below a campaign's heading."""

    BLOCKS = ("p", "li")

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self._depth = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        if self._depth:
            self._depth += 1
        elif attributes.get("id") == "health" or "data-problems" in attributes:
            self._depth = 1
        if self._depth and tag in self.BLOCKS:
            self.lines.append("")

    def handle_endtag(self, tag: str) -> None:  # noqa: ARG002  # as the base class has it
        if self._depth:
            self._depth -= 1

    def handle_data(self, data: str) -> None:
        if self._depth and self.lines:
            self.lines[-1] += data


def read_page_lines(html: str) -> list[str]:
    """Return the lines of a page's health strip and of its warnings."""
    reader = _PageReader()
    reader.feed(html)
    return [line for line in map(to_one_line, reader.lines) if line]
