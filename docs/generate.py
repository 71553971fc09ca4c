"""Writes docs/lifecycle.md from the vocabulary, so that the drawing can't differ from the code."""

from collections.abc import Iterator
from pathlib import Path

from tracker.status import (
    FINAL_STATUSES,
    LATE_TRANSITIONS,
    LEGAL_TRANSITIONS,
    Category,
    Reason,
    Status,
)

LIFECYCLE = Path(__file__).parent / "lifecycle.md"


def lifecycle() -> str:
    """The page as it should be."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield "# The lifecycle of a message"
    yield ""
    yield "Generated from `tracker/status.py` by `make docs`; a test sees when it is out of date."
    yield ""
    yield "```mermaid"
    yield "stateDiagram-v2"
    for source, targets in LEGAL_TRANSITIONS.items():
        for target in sorted(targets):
            late = " : late" if (source, target) in LATE_TRANSITIONS else ""
            yield f"    {source.slug if source is not None else '[*]'} --> {target.slug}{late}"
    for status in sorted(FINAL_STATUSES):
        yield f"    {status.slug} --> [*]"
    yield f"    {Status.SOFT_BOUNCED.slug} --> [*] : no attempt left"
    yield "```"
    yield ""
    yield "| code | status | meaning |"
    yield "|---|---|---|"
    for status in Status:
        yield f"| {status:d} | `{status.slug}` | {status.meaning} |"
    yield ""
    yield "## Why a message is Not Sent"
    yield ""
    yield "Within a step, the first reason in this order that applies is the message's reason."
    for category in Category:
        yield ""
        yield f"### {category.heading} (`{category.value}`)"
        yield ""
        yield "| code | reason | step | meaning |"
        yield "|---|---|---|---|"
        for reason in Reason:
            if reason.category is category:
                yield f"| {reason:d} | `{reason.slug}` | {reason.step} | {reason.meaning} |"


if __name__ == "__main__":
    LIFECYCLE.write_text(lifecycle(), encoding="utf-8")
