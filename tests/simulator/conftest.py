"""Fixtures of the simulator's tests."""

from collections.abc import Iterator

import pytest

from tracker.output.svg import draw_svgs


@pytest.fixture(scope="session", autouse=True)
def draw_in_this_process() -> Iterator[None]:
    """Draw the charts of pages in this process; a child takes longer to start than to draw."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("simulator.pages.result_page.draw_svgs_in_child", draw_svgs)
        yield
