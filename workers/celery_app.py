"""Celery apps with the shipped settings, whatever lies in the current folder."""

from collections.abc import Sequence
from types import ModuleType
from typing import Any

from celery import Celery
from celery.loaders.app import AppLoader

from tracker.system.private_files import keep_files_private
from workers.celery_environment import ignore_foreign_settings


class InstalledModulesLoader(AppLoader):  # type: ignore[misc]  # Celery has no types
    """A loader that finds installed modules only.

    Celery's own loader prefers modules in the current folder. There, another project's
    `celeryconfig.py` would replace ours.
    """

    def import_from_cwd(
        self, module: str, imp: Any = None, package: str | None = None
    ) -> ModuleType:
        """Import an installed module."""
        imported: ModuleType = (imp or self.import_module)(module, package=package)
        return imported

    def on_worker_init(self) -> None:
        """Have workers and beat create private files; called before they create any."""
        keep_files_private()


def make_celery_app(
    name: str,
    broker_url: str | None = None,
    *,
    include: Sequence[str] = (),
    set_as_current: bool = False,
) -> Celery:
    """Return an app with the settings of `celeryconfig.py`.

    Args:
        broker_url: a broker instead of the configured one.
        include: modules with tasks, which a worker imports.
        set_as_current: whether Celery uses the app where none is named.
    """
    ignore_foreign_settings()  # also for those who run `celery -A workers.app`
    app = Celery(
        name,
        loader=InstalledModulesLoader,
        fixups=(),  # Celery's only one sets up Django, if the shell names a Django project
        config_source="celeryconfig",
        include=include,
        set_as_current=set_as_current,
    )
    if broker_url is not None:
        app.conf.broker_url = broker_url
    return app
