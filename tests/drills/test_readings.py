"""The readings of a stack: text of a page, changed metrics, and a recovery that lasts."""

import time

from drills.page_text import read_page_lines
from drills.samples import compare_samples
from drills.watches import RecoveryWatch

PAGE = """
<p>before</p>
<div id="health" role="status"><p class="banner"><b>Broker  down</b> since
 now.</p><ul><li><span>✘</span> broker</li></ul></div>
<p>between</p><div data-problems><p>3 stalled batches</p></div><p>after</p>
"""


def test_the_strip_and_the_problems_of_a_page_are_read() -> None:
    assert read_page_lines(PAGE) == ["Broker down since now.", "✘ broker", "3 stalled batches"]
    assert read_page_lines("timed out") == []


def test_changed_metrics_are_listed() -> None:
    disk, sweep = 'sendtrace_disk_free_bytes{path="/"}', "sendtrace_sweep_timestamp_seconds"
    now = time.time()
    before = {"sendtrace_broker_up": 1.0, disk: 1000.0, sweep: now, "gone": 4.0, "same": 2.0}
    after = {"sendtrace_broker_up": 0.0, disk: 900.0, sweep: now, "new": 0.0, "same": 2.0}
    assert compare_samples(before, after) == ["sendtrace_broker_up: 1 → 0", "gone: 4 → absent"]
    late = compare_samples(before, before | {disk: 0.0, sweep: now - 90})
    assert late == [f"{disk}: 1000 → 0", f"{sweep}: 90 s ago"]
    assert compare_samples(before, {}) == ["/metrics doesn't answer"]


def test_a_moment_of_health_is_no_recovery() -> None:
    answers = iter([True, False, False, True])
    watch = RecoveryWatch(lambda: next(answers, True), time.monotonic(), limit=60.0)
    healthy_after = watch.wait()
    assert healthy_after is not None
    assert healthy_after > 0, "the first moment did not last"
    assert RecoveryWatch(lambda: False, time.monotonic(), limit=0.1).wait() is None
