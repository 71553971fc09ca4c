"""A browser for tests: what a person sees of a page, and does with a keyboard."""

from collections.abc import Iterator

import pytest

from docs.browser import CHROMIUM, Browser, open_browser

needs_browser = pytest.mark.skipif(
    CHROMIUM is None, reason="chromium is not installed; apt-get install chromium"
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with open_browser(tmp_path_factory.mktemp("browser")) as browser:
        yield browser
