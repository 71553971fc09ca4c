"""Shell commands for the pages: complete, so that they work when copied into any folder."""

import json
import shlex
import sys
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import simulator
from simulator.stack.announcement import find_stack
from tracker.settings import ENVIRONMENT_PREFIX, Settings
from tracker.status import Step
from tracker.web.monitoring import HelpfulCommands
from workers.queues import task_name

DEMO_SCENARIO = Path(simulator.__path__[0]).parent / "scenarios" / "demo.toml"
"""The scenario of a checkout; an installed package doesn't have it."""


def make_commands(settings: Settings) -> HelpfulCommands:
    """Return the commands for the broker and the database of some settings.

    A URL with a password is left out: the shell must have its variable. The programs are named by
    the path of this Python, which other shells may not have in their PATH.
    """
    urls = {
        f"{ENVIRONMENT_PREFIX}BROKER_URL": settings.broker_url,
        f"{ENVIRONMENT_PREFIX}DATABASE_URL": settings.resolved_database_url,
    }
    hidden = [name for name, url in urls.items() if url and _has_password(url)]
    variables = {f"{ENVIRONMENT_PREFIX}HOME": str(settings.home.absolute())} | {
        name: url for name, url in urls.items() if url and name not in hidden
    }
    prefix = " ".join(f"{name}={shlex.quote(value)}" for name, value in variables.items())

    def python(*arguments: str) -> str:
        return f"{prefix} {shlex.join([sys.executable, '-P', '-m', *arguments])}"

    def requeue(campaign_id: int, batch: int, step: str) -> str:
        arguments = json.dumps({"campaign": campaign_id, "batch": batch})
        call = ("workers.celery_command", "call", task_name(Step(step)))
        return python(*call, f"--kwargs={arguments}")

    def start_worker(queue: str) -> str:
        name = f"--hostname=extra-{queue}@%h"
        return python("workers.celery_command", "worker", f"--queues={queue}", name)

    def attach() -> tuple[str, ...]:
        is_attached = settings.broker_url is not None or find_stack(settings.home) is not None
        return ("--attach",) if is_attached else ()

    scenario = str(DEMO_SCENARIO) if DEMO_SCENARIO.exists() else "SCENARIO.toml"
    return HelpfulCommands(
        recover=python("simulator", "recover"),
        verify=python("simulator", "verify"),
        simulate=lambda: python("simulator", "simulate", scenario, *attach()),
        resume=lambda run: python("simulator", "resume", str(run), *attach()),
        requeue=requeue,
        start_worker=start_worker,
        hidden_variables=hidden,
    )


def _has_password(url: str) -> bool:
    parts = urlsplit(url)
    return bool(parts.password) or "password" in parse_qs(parts.query)
