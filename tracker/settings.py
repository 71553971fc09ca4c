"""The settings of a process, from its environment and the options of a command."""

import os
import sys
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal, TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
)

from tracker.clock import Instant, parse_age, to_datetime
from tracker.errors import UsageError
from tracker.system.loopback import is_loopback
from tracker.system.private_files import find_other_owner, is_shared, make_private

ENVIRONMENT_PREFIX = "SENDTRACE_"

LogLevel = Annotated[
    Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"], BeforeValidator(str.upper)
]
"""A level of Python's logging, in upper or lower case."""

M = TypeVar("M", bound=BaseModel)


class Settings(BaseModel):
    """The configuration of a process; `load_settings` reads it from the environment."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    home: Path = Path(".sendtrace")
    """The state folder."""
    database_url: str | None = None
    broker_url: str | None = None
    timezone: str = "UTC"
    """Name of the time zone that decides when a day begins and when it is 1 am."""
    allow_gateways: str = ""
    """Kinds of gateways that may send to real people, separated by commas or spaces."""
    token: SecretStr | None = None
    """Bearer token of the live page and of gateways that report."""
    reports_per_second: float = Field(default=50.0, gt=0, allow_inf_nan=False)
    """Reports that the inbound API accepts per second, on average."""
    clock_tolerance: float = Field(default=900.0, ge=0, le=86_400)
    """Real seconds by which the clock of a gateway that reports may be ahead of ours."""
    show_contacts: bool = False
    """Whether viewers of the live page may unmask addresses and mobile numbers."""
    prune_older_than: str | None = None
    """Age, such as 30d, from which beat deletes runs; None for never."""
    flower_url: str | None = None
    flower_address: str = "127.0.0.1"
    flower_auth: SecretStr | None = None
    """USER:PASSWORD for Flower, several separated by commas."""
    flower_port: int = Field(default=5555, ge=1, le=65_535)
    log_level: LogLevel = "INFO"
    """The least level of the events that are logged."""
    log_format: Literal["text", "json"] = "text"

    @field_validator("flower_port", mode="before")
    @classmethod
    def _ignore_service_link(cls, value: object) -> object:
        """Ignore the variable that Kubernetes sets for a service named sendtrace-flower."""
        is_link = isinstance(value, str) and value.startswith("tcp://")
        return cls.model_fields["flower_port"].default if is_link else value

    @field_validator("prune_older_than")
    @classmethod
    def _validate_age(cls, age: str) -> str:
        parse_age(age)
        return age

    @field_validator("timezone")
    @classmethod
    def _validate_timezone(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError):
            raise ValueError(
                f"{name!r}: not a time zone; expected a name like Asia/Kolkata"
            ) from None
        return name

    @property
    def prune_age(self) -> timedelta | None:
        """The time after their end for which beat leaves runs; None for ever."""
        return None if self.prune_older_than is None else parse_age(self.prune_older_than)

    @property
    def allowed_gateways(self) -> frozenset[str]:
        """The kinds of gateways that may send to real people."""
        return frozenset(self.allow_gateways.replace(",", " ").split())

    @property
    def resolved_database_url(self) -> str:
        """The database's URL: the configured one, else a SQLite file in the state folder."""
        # Imported here because it takes longer to load than the rest of this module.
        from sqlalchemy import URL

        file = str(self.home.absolute() / "sendtrace.db")
        return self.database_url or URL.create("sqlite", database=file).render_as_string(
            hide_password=False
        )

    @cached_property
    def zone(self) -> ZoneInfo:
        """The time zone that `timezone` names."""
        return ZoneInfo(self.timezone)

    @cached_property
    def logs(self) -> Path:
        """The folder of the log files."""
        return self.home / "logs"

    def check_flower_address(self, address: str) -> None:
        """Raise `UsageError` for a public address of Flower without a password."""
        if self.flower_auth is None and not is_loopback(address):
            raise UsageError(
                f"Flower's address {address}: reachable without a password; set"
                " SENDTRACE_FLOWER_AUTH=user:password"
            )

    def prepare_home(self) -> None:
        """Create the state folder, and take the permissions of other users on an existing one.

        Raises:
            UsageError: it can't be written, belongs to another user, or is not sendtrace's alone.
        """
        try:
            self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._check_home_owner()
            made_private = make_private(self.home)
            probe = self.home / ".writable"
            probe.touch()
            probe.unlink(missing_ok=True)  # another process may probe at the same time
            self.logs.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise UsageError(
                f"the state folder {self.home} can't be written: {error.strerror};"
                " set SENDTRACE_HOME to another folder"
            ) from None
        if made_private:
            print(
                f"sendtrace: other users had permissions on the state folder {self.home} or files"
                " in it; now only its owner has",
                file=sys.stderr,
            )

    def _check_home_owner(self) -> None:
        if is_shared(self.home):
            raise UsageError(
                f"the state folder {self.home} is a folder of all users; set SENDTRACE_HOME to"
                " another folder"
            )
        owner = find_other_owner(self.home)
        if owner is not None:
            raise UsageError(
                f"the state folder {self.home} belongs to the user {owner}; set SENDTRACE_HOME to"
                " a folder of your own"
            )


def load_settings(**overrides: object) -> Settings:
    """Return the settings from the `SENDTRACE_…` variables of the environment.

    Args:
        overrides: values that win over the environment, such as a command's options; None is
            ignored, as an empty variable is.

    Raises:
        UsageError: a value isn't valid.
    """
    return load_environment(Settings, ENVIRONMENT_PREFIX, **overrides)


def to_local_time(instant: Instant) -> datetime:
    """Return an instant as an aware datetime in the time zone of the settings."""
    return to_datetime(instant).astimezone(load_settings().zone)


def load_environment(model: type[M], prefix: str, **overrides: object) -> M:
    """Return a model whose fields are read from the environment; see `read_variable`.

    Args:
        model: a field's variable is `prefix` and the field's name. An underscore at the end of
            the name, which keeps it apart from a keyword of Python, is left out.
        overrides: values that win over the environment; None is ignored, as an empty variable is.

    Raises:
        UsageError: a variable isn't valid, or is required and not set. The message names it.
    """
    variables = {name: read_variable(_variable(prefix, name)) for name in model.model_fields}
    values: dict[str, object] = {name: value for name, value in variables.items() if value}
    values |= {name: value for name, value in overrides.items() if value is not None}
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise UsageError(_describe_problems(error, prefix)) from None


def read_variable(name: str) -> str | None:
    """Return a variable of the environment, else the text of the file that `NAME_FILE` names.

    Containers have secrets as files. The end of the file's last line isn't part of its text.

    Raises:
        UsageError: the file is empty or can't be read.
    """
    value, file = os.environ.get(name), os.environ.get(f"{name}_FILE")
    if value or not file:
        return value
    try:
        text = Path(file).read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, ValueError) as error:
        cause = error.strerror if isinstance(error, OSError) else "not a text in UTF-8"
        raise UsageError(f"{name}_FILE: {file}: can't be read: {cause}") from None
    if not text:
        raise UsageError(f"{name}_FILE: {file}: empty; expected the value of {name}")
    return text


def _describe_problems(error: ValidationError, prefix: str) -> str:
    """Return all that is wrong in one line: first what is missing, then what isn't valid."""
    names: dict[str, list[str]] = {}
    for problem in sorted(error.errors(), key=lambda problem: problem["type"] != "missing"):
        message = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "missing":
            message = "not set, but required"
        names.setdefault(message, []).append(_variable(prefix, str(problem["loc"][0])))
    return "; ".join(f"{', '.join(variables)}: {message}" for message, variables in names.items())


def _variable(prefix: str, name: str) -> str:
    return prefix + name.removesuffix("_").upper()
