"""Constraints reject invalid rows on both databases."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

import tests.support.schema_extras  # noqa: F401  # completes the metadata
from simulator import schema as simulator_schema
from tests.support.contract import ARROWS
from tests.support.factory import AUTHOR, Plan, make_batch, make_busy_batch, make_campaign
from tracker.record import registration
from tracker.record.journal import enqueue_batch
from tracker.settings import Settings
from tracker.status import Channel, Reason, Status
from tracker.store.database import Database, connect
from tracker.store.migrate import migrate
from tracker.store.schema.catalog import batches, campaigns, customers, organizations, runs
from tracker.store.schema.messages import NO_REASON, messages, tallies, transitions
from tracker.store.schema.metadata import metadata
from tracker.store.schema.work import steps

PROGRESSING = {Status.QUEUED, Status.ABOUT_TO_BE_SENT, Status.NOT_SENT}
REASON_CODES = range(-1, max(Reason) + 3)
ARROW_CODES = {(Status[a.upper()], Status[b.upper()]) for a, b in ARROWS}


@contextmanager
def rolled_back(connection: Connection) -> Iterator[None]:
    """Roll back what the block writes, so that the next case finds the same rows."""
    savepoint = connection.begin_nested()
    try:
        yield
    finally:
        savepoint.rollback()


def accepts(connection: Connection, *statements: sa.Executable) -> bool:
    """Return whether the database accepts statements; only a rejection by a constraint is false."""
    with rolled_back(connection):
        try:
            for statement in statements:
                connection.execute(statement)
        except IntegrityError:
            return False
    return True


def sound_state(status: Status) -> dict[str, int]:
    """Return the columns of a valid state."""
    return {
        "status": status,
        "reason": Reason.TIMEOUT if status is Status.NOT_SENT else NO_REASON,
        "attempt": 0 if status in PROGRESSING else 1,
    }


def transition_from(previous: Status | None, **state: int) -> sa.Insert:
    return sa.insert(transitions).values(
        campaign_id=1, number=1, previous=previous, at=0, step_id=1, **state
    )


def message_in(**state: int) -> sa.Insert:
    return sa.insert(messages).values(campaign_id=1, number=1, **state)


def tally_of(count: int, **state: int) -> sa.Insert:
    return sa.insert(tallies).values(campaign_id=1, batch=0, messages=count, **state)


def test_only_legal_transitions_are_accepted(database: Database) -> None:
    with database.write() as connection:
        accepted = {
            (previous, status)
            for previous in (None, *Status)
            for status in Status
            if accepts(connection, transition_from(previous, **sound_state(status)))
        }
    assert accepted == {(None, Status.QUEUED), *ARROW_CODES}


def test_only_legal_changes_of_a_message_are_accepted(
    database: Database,
) -> None:
    with database.write() as connection:
        assert all(accepts(connection, message_in(**sound_state(status))) for status in Status)
        accepted = {
            (source, target)
            for source in Status
            for target in Status
            if accepts(
                connection,
                message_in(**sound_state(source)),
                sa.update(messages).values(**sound_state(target)),
            )
        }
    assert accepted == ARROW_CODES


def test_one_illegal_change_rejects_the_whole_statement(database: Database) -> None:
    make_busy_batch(database)
    chosen = messages.c.number.in_([2, 6])
    with pytest.raises(IntegrityError, match="illegal change"), database.write() as connection:
        connection.execute(sa.update(messages).where(chosen).values(status=2, reason=3, attempt=0))
    with database.read() as connection:
        assert sorted(connection.scalars(sa.select(messages.c.status).where(chosen))) == [1, 6]


@pytest.mark.parametrize("table", ["messages", "transitions", "tallies"])
def test_a_reason_needs_not_sent_and_not_sent_a_reason(database: Database, table: str) -> None:
    with database.write() as connection:
        accepted = {
            (status, reason)
            for status in Status
            for reason in REASON_CODES
            if accepts(connection, _row(table, {**sound_state(status), "reason": reason}))
        }
    reasons = {(Status.NOT_SENT, int(reason)) for reason in Reason}
    others = {(status, NO_REASON) for status in Status if status is not Status.NOT_SENT}
    assert accepted == reasons | others


@pytest.mark.parametrize("table", ["messages", "transitions", "tallies"])
def test_only_submitted_messages_have_an_attempt(database: Database, table: str) -> None:
    with database.write() as connection:
        accepted = {
            (status, attempt)
            for status in Status
            for attempt in (-1, 0, 1, 2)
            if accepts(connection, _row(table, {**sound_state(status), "attempt": attempt}))
        }
    sent = {(status, attempt) for status in set(Status) - PROGRESSING for attempt in (1, 2)}
    assert accepted == sent | {(status, 0) for status in PROGRESSING}


@pytest.mark.parametrize("table", ["messages", "transitions", "tallies"])
def test_an_unknown_status_is_rejected(database: Database, table: str) -> None:
    with database.write() as connection:
        for status in (-1, 8):
            state = {"status": status, "reason": NO_REASON, "attempt": 1}
            assert not accepts(connection, _row(table, state))


def _row(table: str, state: dict[str, int]) -> sa.Insert:
    """Return an INSERT of a row in a state, for a table with states."""
    if table == "messages":
        return message_in(**state)
    if table == "tallies":
        return tally_of(1, **state)
    before: dict[int, Status | None] = {
        Status[target.upper()]: Status[source.upper()] for source, target in sorted(ARROWS)
    }
    return transition_from(before.get(state["status"]), **state)


def test_a_message_enters_a_status_once_an_attempt(database: Database) -> None:
    first = transition_from(Status.ABOUT_TO_BE_SENT, **sound_state(Status.IN_GATEWAY))
    state = {"status": Status.IN_GATEWAY, "reason": NO_REASON, "attempt": 2}
    with database.write() as connection:
        assert not accepts(connection, first, first), "the same attempt"
        assert accepts(connection, first, transition_from(Status.SOFT_BOUNCED, **state))


SOUND = sound_state(Status.QUEUED)


IMPOSSIBLE = {
    "negative tally": tally_of(-1, **SOUND),
    "tally below zero": sa.update(tallies).values(messages=tallies.c.messages - 11),
    "negative credit": sa.update(organizations).values(credit=-1),
    "credit below zero": sa.update(organizations).values(credit=organizations.c.credit - 6),
    "a clock that does not advance": sa.update(runs).values(speed=0),
    "no attempt": sa.update(campaigns).values(attempts=0),
    "unknown channel": sa.update(campaigns).values(channel="fax"),
    "unknown gateway": sa.update(campaigns).values(gateway_id=99),
    "empty batch": sa.update(batches).values(size=0),
    "batch before the first message": sa.update(batches).values(first=-1),
    "unknown step": sa.update(steps).values(step="sweep"),
    "step on no batch": sa.update(steps).values(batch=7),
    "a customer twice": sa.update(customers).values(customer_id="c1"),
    "negative hard bounces": sa.update(customers).values(hard_bounces_email=-1),
    "negative soft bounces": sa.update(customers).values(soft_bounces_email=-1),
    "unknown audience": sa.update(customers).values(audience_id=9),
    "message without a status": sa.update(messages).values(status=None),
    "a campaign that has batches goes": sa.delete(campaigns),
}

JUST_POSSIBLE = {
    "tally of zero": tally_of(0, **sound_state(Status.ABOUT_TO_BE_SENT)),
    "last credit": sa.update(organizations).values(credit=organizations.c.credit - 5),
    "unlimited credit": sa.update(organizations).values(credit=None),
    "no bounce": sa.update(customers).values(hard_bounces_email=0, soft_bounces_email=0),
    "batch of one message": sa.update(batches).values(first=0, size=1),
}


def test_impossible_values_are_rejected_and_extreme_ones_accepted(database: Database) -> None:
    make_batch(database, Plan(size=10, credit=5))
    with database.write() as connection:
        accepted = {
            name
            for name, statement in {**IMPOSSIBLE, **JUST_POSSIBLE}.items()
            if accepts(connection, statement)
        }
    assert accepted == set(JUST_POSSIBLE)


def test_a_campaign_name_is_unique_within_its_run(database: Database) -> None:
    campaign = make_campaign(database, Plan(name="spring"))
    make_campaign(database, Plan(name="spring"))
    with pytest.raises(IntegrityError), database.write() as connection:
        registration.record_campaign(
            connection,
            campaign.run_id,
            organization_id=campaign.organization.id,
            audience_id=campaign.audience_id,
            gateway_id=campaign.gateway_id,
            name="spring",
            channel=Channel.SMS,
            requires=(),
            attempts=1,
        )


def test_a_batch_is_recorded_once(database: Database) -> None:
    campaign = make_campaign(database, Plan(size=10))
    enqueue_batch(database, campaign, batch=0, first=0, size=5, author=AUTHOR)
    with pytest.raises(IntegrityError):
        enqueue_batch(database, campaign, batch=0, first=5, size=5, author=AUTHOR)
    with pytest.raises(IntegrityError):
        enqueue_batch(database, campaign, batch=1, first=4, size=5, author=AUTHOR)


def test_the_views_show_slugs(database: Database) -> None:
    batch = make_busy_batch(database)
    seen = {"campaign": "spring", "run": batch.campaign.run_id}
    with database.read() as connection:
        rows = connection.execute(
            sa.text("SELECT * FROM messages_by_name WHERE number IN (0, 15, 19) ORDER BY number")
        ).mappings()
        assert [dict(row) for row in rows] == [
            {**seen, "number": 0, "attempt": 0, "status": "queued", "reason": None},
            {**seen, "number": 15, "attempt": 3, "status": "soft_bounced", "reason": None},
            {**seen, "number": 19, "attempt": 0, "status": "not_sent", "reason": "email_missing"},
        ]
        changes = connection.execute(
            sa.text(
                "SELECT campaign, run, number, attempt, previous, status, reason"
                " FROM transitions_by_name WHERE number IN (11, 17)"
                " ORDER BY number, step_id"
            )
        ).all()
    named = ("spring", batch.campaign.run_id)
    assert [tuple(row) for row in changes] == [
        (*named, 11, 0, None, "queued", None),
        (*named, 11, 0, "queued", "about_to_be_sent", None),
        (*named, 11, 1, "about_to_be_sent", "in_gateway", None),
        (*named, 11, 1, "in_gateway", "delivered", None),
        (*named, 11, 1, "delivered", "hard_bounced", None),
        (*named, 17, 0, None, "queued", None),
        (*named, 17, 0, "queued", "not_sent", "unsubscribed"),
    ]


def test_the_views_have_a_slug_for_every_code(database: Database) -> None:
    campaign = make_campaign(database)
    states = [sound_state(status) for status in Status]
    states += [{**sound_state(Status.NOT_SENT), "reason": reason} for reason in Reason]
    with database.write() as connection:
        rows = [
            {"campaign_id": campaign.id, "number": n, **state} for n, state in enumerate(states)
        ]
        connection.execute(sa.insert(messages), rows)
        shown = connection.execute(sa.text("SELECT status, reason FROM messages_by_name")).all()
    assert {status for status, _ in shown} == {status.slug for status in Status}
    assert {reason for _, reason in shown} == {None, *(reason.slug for reason in Reason)}


@pytest.fixture
def fresh(settings: Settings) -> Iterator[Database]:
    """Open a database without any table."""
    database = connect(settings.resolved_database_url)
    empty(database)
    yield database
    database.close()


def empty(database: Database) -> None:
    """Remove all tables from a database."""
    if database.is_postgresql:
        with database.write() as connection:
            connection.execute(sa.text("DROP SCHEMA public CASCADE"))
            connection.execute(sa.text("CREATE SCHEMA public"))
    else:
        database.close()
        for file in Path(str(database.engine.url.database)).parent.glob("sendtrace.db*"):
            file.unlink()


VERSION_TABLES = ("tracker_version", "simulator_version")

POSTGRESQL_DESCRIPTIONS = (
    "SELECT table_name, ordinal_position, column_name, data_type, character_maximum_length,"
    " is_nullable, column_default FROM information_schema.columns WHERE table_schema = 'public'",
    "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint"
    " WHERE connamespace = 'public'::regnamespace",
    "SELECT tablename, indexdef FROM pg_indexes WHERE schemaname = 'public'",
    "SELECT tgrelid::regclass::text, pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal",
    "SELECT proname, pg_get_functiondef(oid) FROM pg_proc"
    " WHERE pronamespace = 'public'::regnamespace",
    "SELECT viewname, definition FROM pg_views WHERE schemaname = 'public'",
    "SELECT relname, relkind::text, reloptions::text, obj_description(oid, 'pg_class')"
    " FROM pg_class WHERE relnamespace = 'public'::regnamespace",
)


def description(database: Database) -> set[tuple[object, ...]]:
    """Return a database's description of its tables, without the version tables."""
    with database.read() as connection:
        if database.is_postgresql:
            described = [
                tuple(row)
                for query in POSTGRESQL_DESCRIPTIONS
                for row in connection.execute(sa.text(query))
            ]
        else:
            made = connection.execute(
                sa.text("SELECT tbl_name, type, name, sql FROM sqlite_master")
            )
            planted = connection.execute(sa.text("SELECT tbl, idx, stat FROM sqlite_stat1"))
            described = [(*row[:3], *parts(row.sql)) for row in made]
            described += [tuple(row) for row in planted]
    return {row for row in described if not str(row[0]).startswith(VERSION_TABLES)}


def parts(sql: str | None) -> list[str]:
    """Return a definition's columns in order, and its constraints, which have no order."""
    text = " ".join((sql or "").split())
    if not text.startswith("CREATE TABLE"):
        return [text]
    head, _, rest = text.partition("(")
    body, _, tail = rest.rpartition(")")
    depth, pieces = 0, [""]
    for letter in body:
        depth += {"(": 1, ")": -1}.get(letter, 0)
        if letter == "," and not depth:
            pieces.append("")
        else:
            pieces[-1] += letter
    pieces = [piece.strip() for piece in pieces]
    return [head, *sorted(pieces, key=lambda each: each if "CONSTRAINT" in each else ""), tail]


def test_migrations_create_the_tables_of_the_metadata(fresh: Database) -> None:
    migrate(fresh, *simulator_schema.ALL_MIGRATIONS)
    migrated = description(fresh)
    empty(fresh)
    with fresh.write() as connection:
        metadata.create_all(connection)
        simulator_schema.metadata.create_all(connection)
    assert {row[0] for row in migrated} > {
        *metadata.tables,
        *simulator_schema.metadata.tables,
    }
    assert migrated == description(fresh)
