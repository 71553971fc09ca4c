"""Where sendtrace keeps its things, from the environment or from what a command was told."""

import os
from functools import cached_property
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, ConfigDict, SecretStr, ValidationError, field_validator

from tracker.errors import UsageError

ENVIRONMENT_PREFIX = "SENDTRACE_"


class Settings(BaseModel):
    """The configuration of a process; `load_settings` reads it from the environment."""

    model_config = ConfigDict(frozen=True)

    home: Path = Path(".sendtrace")
    database_url: str | None = None
    broker_url: str | None = None
    timezone: str = "UTC"
    allow_gateways: str = ""
    token: SecretStr | None = None
    """What a viewer of the live page, and a gateway that reports, must know."""
    show_contacts: bool = False
    """Whether viewers of the live page may see addresses and mobile numbers when they ask to."""
    flower_url: str | None = None

    @field_validator("timezone")
    @classmethod
    def _validate_timezone(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError):
            raise ValueError(
                f"{name!r} is no time zone; expected a name like Asia/Kolkata"
            ) from None
        return name

    @property
    def allowed_gateways(self) -> frozenset[str]:
        """The gateways that may reach people outside, by their kinds."""
        return frozenset(self.allow_gateways.replace(",", " ").split())

    @property
    def resolved_database_url(self) -> str:
        """The database's URL: what was configured, else a SQLite file in ``home``."""
        from sqlalchemy import URL  # most of the time that this module takes to load

        file = str(self.home.absolute() / "sendtrace.db")
        return self.database_url or URL.create("sqlite", database=file).render_as_string(
            hide_password=False
        )

    @cached_property
    def zone(self) -> ZoneInfo:
        """The time zone in which a day begins, and it is 1 am."""
        return ZoneInfo(self.timezone)

    @cached_property
    def logs(self) -> Path:
        return self.home / "logs"

    def prepare_home(self) -> None:
        """Make the state folder; :exc:`UsageError` if that can't be done."""
        try:
            self.home.mkdir(parents=True, exist_ok=True)
            probe = self.home / ".writable"
            probe.touch()
            probe.unlink(missing_ok=True)  # somebody else may try at the same time
            self.logs.mkdir(exist_ok=True)
        except OSError as error:
            raise UsageError(
                f"the state folder {self.home} can't be written: {error.strerror}; "
                "choose another with SENDTRACE_HOME"
            ) from None


def load_settings(**overrides: object) -> Settings:
    """Return the settings from the `SENDTRACE_…` variables of the environment.

    Args:
        overrides: values that win over the environment, such as a command's options; None is
            ignored, as an empty variable is.

    Raises:
        UsageError: a value isn't valid.
    """
    variables = {name: os.environ.get(_variable(name)) for name in Settings.model_fields}
    values: dict[str, object] = {name: value for name, value in variables.items() if value}
    values |= {name: value for name, value in overrides.items() if value is not None}
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        problem = error.errors()[0]
        name = _variable("_".join(str(part) for part in problem["loc"]))
        raise UsageError(f"{name}: {problem['msg'].removeprefix('Value error, ')}") from None


def _variable(name: str) -> str:
    return ENVIRONMENT_PREFIX + name.upper()
