"""The browser that tests and pictures use."""

from pathlib import Path

from docs.browser import Browser
from tests.support.browser import browser as browser
from tests.support.browser import needs_browser

RELOADS_ITSELF = "<p>steady</p><script>setTimeout(() => location.reload(), 5)</script>"


@needs_browser
def test_an_expression_has_a_value_while_the_page_reloads_itself(
    browser: Browser, tmp_path: Path
) -> None:
    page = tmp_path / "page.html"
    page.write_text(RELOADS_ITSELF)
    browser.open(page.as_uri())
    text = 'document.querySelector("p")?.textContent ?? ""'
    assert {browser.evaluate(text) for _ in range(100)} <= {"steady", ""}
