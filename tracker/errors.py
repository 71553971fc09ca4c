"""Errors that a person can cause or must know of, each with an exit code of the command line."""


class SendtraceError(Exception):
    """A failure of the command."""

    exit_code = 1


class UsageError(SendtraceError):
    """An invalid command, setting or file."""

    exit_code = 2


class DatabaseUnreachable(UsageError):
    """The database doesn't answer when a command starts."""


class DatabaseTooNew(UsageError):
    """A newer version of sendtrace migrated the database."""


class DatabaseTooOld(UsageError):
    """An unreleased version of sendtrace made the database."""


class DatabaseFailed(SendtraceError):
    """The database stopped answering, or rejected a statement."""


class UnreadableRecord(SendtraceError):
    """A row has a value that this version of sendtrace never writes."""


class BrokerUnreachable(UsageError):
    """The broker doesn't answer when a command starts."""


class BrokerFailed(SendtraceError):
    """The broker stopped answering, or rejected a command."""


class NotFound(UsageError):
    """The campaign, message or run doesn't exist."""
