"""Errors that a person can cause or must know of, each with an exit code of the command line."""


class SendtraceError(Exception):
    """A failure of the command."""

    exit_code = 1


class UsageError(SendtraceError):
    """An invalid command, setting or file."""

    exit_code = 2


class DatabaseUnreachable(UsageError):
    """The database doesn't answer when a command starts."""


class SchemaMismatch(UsageError):
    """The tables of the database aren't those of this version of sendtrace."""


class DatabaseTooNew(SchemaMismatch):
    """A newer version of sendtrace migrated the database."""


class DatabaseTooOld(SchemaMismatch):
    """An earlier or unreleased version of sendtrace made the tables."""


class DatabaseIsForeign(SchemaMismatch):
    """The database has tables of another application, and none of sendtrace."""


class NothingRecorded(UsageError):
    """A command that only reads was given an empty database."""


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
