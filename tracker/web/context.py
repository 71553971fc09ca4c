"""What every part of the live page needs: the record, the shared numbers, the making of pages."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, NamedTuple

from fastapi import APIRouter
from jinja2 import Environment
from markupsafe import Markup, escape
from sqlalchemy import Connection
from starlette.responses import HTMLResponse

from tracker.errors import NotFound
from tracker.monitoring import WorkerActivity
from tracker.output.render import TemplateFilters, make_template_environment
from tracker.queries.timeline import MAX_NUMBER
from tracker.record.catalog import Campaign, find_latest_campaign_ids, load_campaigns
from tracker.settings import Settings
from tracker.store.database import Database
from tracker.web.figures import ChartCache, LiveUpdates
from tracker.web.live import LiveFeed
from tracker.web.monitoring import Monitoring

MAX_NAMED_CAMPAIGNS = 5
"""Campaigns that are named to whoever asks for one that is not there."""


@dataclass(frozen=True, kw_only=True)
class WebContext:
    """The record, its latest numbers, and all that is there beside it."""

    database: Database
    settings: Settings
    outside: Monitoring
    live: LiveFeed
    sections: Sequence["WebSection"] = ()
    drawings: ChartCache = field(default_factory=ChartCache)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        with self.database.read() as connection:
            yield connection

    def campaign(self, connection: Connection, campaign_id: int) -> Campaign:
        """A campaign; :exc:`NotFound`, with some of those that there are."""
        found = load_campaigns(connection, [campaign_id]) if campaign_id <= MAX_NUMBER else []
        if found:
            return found[0]
        there = load_campaigns(
            connection, find_latest_campaign_ids(connection, MAX_NAMED_CAMPAIGNS)
        )
        named = ", ".join(f"{each.id} ({each.name}, run {each.run_id})" for each in there)
        latest = f"the latest are {named}" if named else "nothing is recorded yet"
        raise NotFound(f"there is no campaign {campaign_id}; {latest}")

    def can_show_contacts(self, asked: str | None) -> bool:
        """Whether a viewer who asks may see contact data."""
        return asked == "shown" and self.settings.show_contacts

    def unserved(self, seen: WorkerActivity | None) -> list[str]:
        """The queues that no worker serves; none where nobody can tell."""
        if seen is None or seen.disconnected_since is not None:
            return []
        served = {queue for each in seen.workers if each.is_online for queue in each.queues}
        return [queue for queue in self.outside.queues if queue not in served]

    def task_url(self, task_id: str | None) -> str | None:
        """Where Flower shows a task."""
        if self.settings.flower_url is None or not task_id:
            return None
        return f"{self.settings.flower_url.rstrip('/')}/task/{task_id}"

    def page(self, template: str, status: int = 200, **context: Any) -> HTMLResponse:
        """A page from a template."""
        return HTMLResponse(self.render(template, **context), status)

    def render(self, template: str, **context: Any) -> str:
        shared: Mapping[str, Any] = {
            "sections": self.sections,
            "snapshot": self.live.snapshot,
            "flower_url": self.settings.flower_url,
        }
        return self._template_environment.get_template(template).render({**shared, **context})

    @cached_property
    def bulletins(self) -> LiveUpdates:
        return LiveUpdates(self.live, self.settings.zone)

    @cached_property
    def _template_environment(self) -> Environment:
        filters: TemplateFilters = {
            "time": format_time,
            "share": _format_share,
            "value": format_value,
        }
        return make_template_environment(
            *(each.template_packages for each in self.sections), filters=filters
        )


def format_time(at: datetime | None) -> str:
    """A moment as the page's program puts it into the viewer's zone; in UTC without one."""
    if at is None:
        return Markup('<span class="aside">unknown</span>')
    utc = at.astimezone(UTC)
    return Markup('<time datetime="{0}" title="{1}">{1}</time>').format(
        escape(utc.isoformat()), escape(f"{utc:%Y-%m-%d %H:%M:%S} UTC")
    )


def format_value(value: object) -> str:
    """A value that a check looked at, as people write it."""
    match value:
        case None | () | frozenset() if not value:
            return "none"
        case bool():
            return "yes" if value else "no"
        case tuple() | frozenset():
            return ", ".join(sorted(map(str, value)))
        case _:
            return str(value)


def _format_share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f}\N{NO-BREAK SPACE}%" if whole else ""


class WebSection(NamedTuple):
    """A part of the live page that another floor brings: the way to it, and what makes its pages
    from what is at the desk. ``template_packages`` is the package whose templates those pages use."""

    label: str
    path: str
    make_router: Callable[[WebContext], APIRouter]
    template_packages: str
