"""Errors that a person can cause or must know of, each with the command line's exit code."""


class SendtraceError(Exception):
    """Something broke."""

    exit_code = 1


class UsageError(SendtraceError):
    """The command, a setting or a file does not say something that can be done."""

    exit_code = 2


class DatabaseUnreachable(UsageError):
    """The database does not answer."""


class DatabaseTooNew(UsageError):
    """The database was made by a newer version of sendtrace."""


class DatabaseTooOld(UsageError):
    """An unreleased version of sendtrace made the database."""


class DatabaseFailed(SendtraceError):
    """The database stopped answering, or refused what it was asked."""


class UnreadableRecord(SendtraceError):
    """A row says what this version of sendtrace never writes."""


class BrokerUnreachable(UsageError):
    """The broker does not answer."""


class BrokerFailed(SendtraceError):
    """The broker stopped answering, or refused what it was told."""


class NotFound(UsageError):
    """There is no such campaign or message."""
