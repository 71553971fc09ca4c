"""What a stack says of itself: its page, /health, metrics and logs."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from drills.campaign import AttachedCampaign
from drills.logs import find_logs, hide_machine, read_warnings
from drills.page_text import read_page_lines
from drills.results import Observation
from drills.samples import compare_samples, read_samples
from drills.stack import Answer, DrillStack
from tracker.text import to_one_line

MAX_LOG_LINES = 12

MAX_LINE_LENGTH = 240


class Baseline:
    """The metrics and the sizes of the logs before the harm."""

    def __init__(self, stack: DrillStack) -> None:
        self.samples = read_samples(stack)
        self.log_sizes = {log: log.stat().st_size for log in find_logs(stack)}


def observe(
    stack: DrillStack, campaign: AttachedCampaign, baseline: Baseline, seconds: float
) -> Observation:
    """Return what the stack says now.

    Args:
        seconds: time since the harm.
    """
    health = stack.ask_json("/health") or {}
    answers = _ask_pages(stack, campaign)
    parts: Mapping[str, Mapping[str, str]] = health.get("parts", {})
    lines = list(read_warnings(stack, baseline.log_sizes))
    hide = partial(hide_machine, stack=stack)
    return Observation(
        seconds=round(seconds, 1),
        page=[hide(line) for line in read_page_lines(answers["campaign"].text)],
        page_answers={kind: hide(describe_answer(answer)) for kind, answer in answers.items()},
        health_status=health.get("status"),
        cause=health.get("cause"),
        parts={
            part: hide(f"{state['status']}: {state['summary']}")
            for part, state in parts.items()
            if state["status"] != "ok"
        },
        metrics=[hide(line) for line in compare_samples(baseline.samples, read_samples(stack))],
        log=[hide(line)[:MAX_LINE_LENGTH] for line in lines[:MAX_LOG_LINES]],
        log_left_out=max(0, len(lines) - MAX_LOG_LINES),
    )


def _ask_pages(stack: DrillStack, campaign: AttachedCampaign) -> dict[str, Answer]:
    """Request a page of each kind, all at once."""
    own = f"/campaigns/{campaign.campaign_id}"
    paths = {
        "campaigns": "/",
        "campaign": own,
        "messages": f"{own}/messages",
        "operations": "/operations",
        "runs": "/runs",
    }
    with ThreadPoolExecutor(len(paths)) as pool:
        return dict(zip(paths, pool.map(stack.ask, paths.values()), strict=True))


def describe_answer(answer: Answer) -> str:
    """Return the status of an answer and its time, or the error."""
    if answer.status is None:
        return f"no answer: {to_one_line(answer.text)}"
    return f"{answer.status} in {answer.seconds:.1f} s"
