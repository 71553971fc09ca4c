"""The application's shared objects, and what every route needs of them."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Annotated, Any, NamedTuple

from fastapi import APIRouter, Depends, Request
from jinja2 import Environment
from markupsafe import Markup, escape
from sqlalchemy import Connection, exc
from starlette.responses import HTMLResponse

from tracker.errors import NotFound
from tracker.monitoring import WorkerActivity
from tracker.output.render import TemplateFilters, make_template_environment
from tracker.queries.report import Report, make_reports
from tracker.record.catalog import Campaign, find_latest_campaign_ids, load_campaigns
from tracker.settings import Settings
from tracker.store.database import Database
from tracker.store.schema.integers import MAX_INTEGER
from tracker.web.actions.form_tokens import FormTokens
from tracker.web.charts import ChartCache
from tracker.web.health.judge import Health, find_unserved_queues
from tracker.web.health.watch import HealthWatch
from tracker.web.live import LiveFeed
from tracker.web.monitoring import Monitoring
from tracker.web.progress import LiveUpdates

MAX_NAMED_CAMPAIGNS = 5
"""Existing campaigns that an error about an unknown one names."""


BACKTICKED = re.compile("`([^`]+)`")


class WebSection(NamedTuple):
    """Pages that a higher layer adds to the live page.

    Attributes:
        label: the section's name in the navigation.
        path: the address of its first page.
        template_package: the package that holds the templates of its pages.
    """

    label: str
    path: str
    router: APIRouter
    template_package: str


@dataclass(frozen=True, kw_only=True)
class WebContext:
    """The objects that all routes share."""

    database: Database
    settings: Settings
    monitoring: Monitoring
    health_watch: HealthWatch
    live: LiveFeed
    sections: Sequence[WebSection] = ()
    chart_cache: ChartCache = field(default_factory=ChartCache)
    form_tokens: FormTokens = field(default_factory=FormTokens)

    @cached_property
    def live_updates(self) -> LiveUpdates:
        """The updates that the event streams send."""
        return LiveUpdates(self.live, self.settings.zone, self.render_health)

    @cached_property
    def _template_environment(self) -> Environment:
        filters: TemplateFilters = {
            "time": format_time,
            "percent": _format_percent,
            "value": format_value,
            "prose": _format_prose,
        }
        packages = (section.template_package for section in self.sections)
        return make_template_environment(*packages, filters=filters)

    def find_database_error(self) -> exc.TimeoutError | None:
        """Return the error of a database that the live feed can't read now, None if it can."""
        error = self.live.snapshot.database_error
        return None if error is None else exc.TimeoutError(error)

    @contextmanager
    def read_database(self) -> Iterator[Connection]:
        """Open a transaction that only reads.

        Raises:
            TimeoutError: the live feed can't read the database now. A request that tried anyway
                might wait for it for ever, and keep a thread from others.
        """
        error = self.find_database_error()
        if error is not None:
            raise error
        with self.database.read() as connection:
            yield connection

    def load_campaign(self, connection: Connection, campaign_id: int) -> Campaign:
        """Load a campaign, or raise `NotFound` with the latest existing ones."""
        if campaign_id <= MAX_INTEGER:
            for campaign in load_campaigns(connection, [campaign_id]):
                return campaign
        raise NotFound(f"unknown campaign {campaign_id}; {describe_latest_campaigns(connection)}")

    def load_report(self, campaign_id: int) -> Report:
        """Return the latest report of a campaign, or raise `NotFound`.

        A campaign that the snapshot lacks is read from the database, and included in the
        following snapshots.
        """
        report = self.live.snapshot.reports.get(campaign_id)
        if report is None:
            with self.read_database() as connection:
                [report] = make_reports(connection, [self.load_campaign(connection, campaign_id)])
            self.live.pin(campaign_id)
        return report

    def can_show_contacts(self, contacts: str | None) -> bool:
        """Return whether contact data is shown for a request with this `contacts` parameter."""
        return contacts == "shown" and self.settings.show_contacts

    def read_worker_activity(self) -> WorkerActivity | None:
        """Return the workers and their failures, None without a broker."""
        read = self.monitoring.read_worker_activity
        return None if read is None else read()

    def find_unserved_queues(self, activity: WorkerActivity | None) -> list[str]:
        """Return the queues that no worker serves; none while that is unknown."""
        is_broker_known = self.monitoring.read_queue_depths is not None
        if is_broker_known and self.health_watch.queue_depths is None:
            return []  # the events of the workers are missing because the broker is
        return find_unserved_queues(activity, self.monitoring.queues)

    def task_url(self, task_id: str | None) -> str | None:
        """Return the address of Flower's page about a task."""
        if self.settings.flower_url is None or not task_id:
            return None
        return f"{self.settings.flower_url.rstrip('/')}/task/{task_id}"

    @property
    def _site_pages(self) -> Sequence[tuple[str, str]]:
        sections = ((section.label, section.path) for section in self.sections)
        return [("Campaigns", "/"), ("Operations", "/operations"), *sections]

    def render_health(self, health: Health | None) -> str:
        """Return the health strip of all pages."""
        return self.render_template("web/health.html", health=health)

    def render_page(self, template: str, status: int = 200, **variables: Any) -> HTMLResponse:
        """Return a page rendered from a template."""
        return HTMLResponse(self.render_template(template, **variables), status)

    def render_template(self, template: str, **variables: Any) -> str:
        """Return a template's text, rendered with some variables and those that all pages share."""
        shared: Mapping[str, Any] = {
            "site_pages": self._site_pages,
            "current_page": None,
            "snapshot": self.live.snapshot,
            "health": self.live.snapshot.health,
            "commands": self.monitoring.commands,
            "flower_url": self.settings.flower_url,
        }
        return self._template_environment.get_template(template).render({**shared, **variables})


async def get_context(request: Request) -> WebContext:
    """Return the context that `make_app` has put into the application's state."""
    context: WebContext = request.app.state.context
    return context


Context = Annotated[WebContext, Depends(get_context)]
"""A route's parameter that receives the application's context."""


def describe_latest_campaigns(connection: Connection) -> str:
    """Return a clause that names the latest campaigns, for an error about an unknown one."""
    latest = load_campaigns(connection, find_latest_campaign_ids(connection, MAX_NAMED_CAMPAIGNS))
    names = ", ".join(
        f"{campaign.id} ({campaign.name}, run {campaign.run_id})" for campaign in latest
    )
    return f"the latest are {names}" if names else "no campaign is recorded yet"


def format_time(at: datetime | None) -> str:
    """Return a `time` element in UTC, which live.js converts to the viewer's zone."""
    if at is None:
        return Markup('<span class="muted">unknown</span>')
    utc = at.astimezone(UTC)
    return Markup('<time datetime="{0}" title="{1}">{1}</time>').format(
        escape(utc.isoformat()), escape(f"{utc:%Y-%m-%d %H:%M:%S} UTC")
    )


def format_value(value: object) -> str:
    """Return a value that a check read, as text."""
    match value:
        case None | () | frozenset() if not value:
            return "none"
        case bool():
            return "yes" if value else "no"
        case tuple() | frozenset():
            return ", ".join(sorted(map(str, value)))
        case _:
            return str(value)


def _format_prose(text: str) -> str:
    """Return a text whose `code` is marked up."""
    return Markup(BACKTICKED.sub(r"<code>\1</code>", str(escape(text))))  # noqa: S704  # escaped


def _format_percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f}\N{NO-BREAK SPACE}%" if whole else ""
