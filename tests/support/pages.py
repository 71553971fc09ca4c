"""Read the code blocks of the pages in docs/."""

import re

from docs.generate import FOLDER


def read_blocks(page: str, language: str) -> list[str]:
    """Return the code blocks of a page that are in a language."""
    text = (FOLDER / page).read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)
