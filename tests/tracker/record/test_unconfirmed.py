"""Messages that were handed over without a reply: counted, settled, and given up after a time."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from simulator.cli.main import app
from tests.support.factory import (
    AUTHOR,
    READY,
    OvertakenDatabase,
    Plan,
    find_violations,
    in_gateway,
    in_status,
    make_batch,
    move,
    read_states,
    step_context,
)
from tracker.queries.acceptances import count_refused_receipts
from tracker.queries.messages import MessageFilter, find_messages
from tracker.queries.next_step import next_step
from tracker.queries.report import Report, make_reports
from tracker.queries.stalled import find_idle_batches, find_unfinished_campaigns
from tracker.record.catalog import Batch, load_batch
from tracker.record.journal import Entry, Move, open_entry
from tracker.record.receipts import Receipt, apply_receipts
from tracker.record.registration import finish_run
from tracker.record.unconfirmed import unconfirmed_details, update_unconfirmed_batch
from tracker.settings import Settings
from tracker.status import Status, Step
from tracker.store.database import Database
from tracker.store.schema.catalog import gateways
from workers.gateways.base import PollResult
from workers.steps import at_gateway


class SilentGateway:
    """A gateway that never has news."""

    def submit(self, *_: object) -> Any:
        raise NotImplementedError

    def receipts(self, *_: object) -> PollResult[Any]:
        return PollResult([], None)

    def engagement(self, *_: object) -> PollResult[Any]:
        return PollResult([], None)


@pytest.fixture
def batch(database: Database) -> Batch:
    """Ten messages: 0 to 4 are in the gateway, of these 1 and 3 without a reply."""
    batch = make_batch(database, Plan(size=10))
    move(database, batch, range(5), READY)
    hand_over(database, batch, range(5), unconfirmed=[1, 3])
    return batch


def hand_over(
    database: Database, batch: Batch, numbers: Sequence[int], *, unconfirmed: Sequence[int]
) -> None:
    now = batch.campaign.clock.now()
    with open_entry(database, batch, Step.SUBMIT, AUTHOR, started_at=now) as written:
        written.move(
            Move(
                numbers=numbers,
                source=READY,
                target=in_gateway(),
                at=now,
                details=unconfirmed_details(unconfirmed),
            )
        )
        update_unconfirmed_batch(written, has_new=True)


def report_receipts(database: Database, batch: Batch, *receipts: tuple[int, Status]) -> None:
    now = batch.campaign.clock.now()
    with open_entry(database, batch, Step.DELIVER, AUTHOR, started_at=now) as written:
        apply_receipts(written, [Receipt(number, 1, status, now) for number, status in receipts])


def read_report(database: Database, batch: Batch) -> Report:
    with database.read() as connection:
        [report] = make_reports(connection, [batch.campaign])
    return report


def find_unconfirmed(database: Database, batch: Batch) -> list[int]:
    with database.read() as connection:
        page = find_messages(
            database, connection, batch.campaign, MessageFilter(is_unconfirmed=True), limit=10
        )
    return [row.number for row in page.messages]


def test_the_report_counts_unconfirmed_messages_as_a_part_of_x(
    database: Database, batch: Batch
) -> None:
    report = read_report(database, batch)
    assert (report.unconfirmed, report.undecided) == (2, 5)
    assert report.as_json()["sent"]["unconfirmed"] == 2
    assert find_unconfirmed(database, batch) == [1, 3]
    assert find_violations(database, batch.campaign) == []


def test_a_receipt_settles_an_unconfirmed_message(database: Database, batch: Batch) -> None:
    report_receipts(database, batch, (0, Status.DELIVERED), (1, Status.DELIVERED))
    assert read_report(database, batch).unconfirmed == 1
    assert find_unconfirmed(database, batch) == [3]
    report_receipts(database, batch, (3, Status.HARD_BOUNCED))
    assert read_report(database, batch).unconfirmed == 0
    assert find_violations(database, batch.campaign) == []


def set_unconfirmed_after(database: Database, batch: Batch, wait: timedelta) -> Batch:
    """Change the time after which messages are given up, of a batch that is read again."""
    with database.write() as connection:
        connection.execute(
            sa.update(gateways).values(unconfirmed_after=wait // timedelta(microseconds=1))
        )
        return load_batch(connection, batch.campaign.id, batch.batch)


def test_an_unconfirmed_message_is_given_up_after_a_time(database: Database) -> None:
    batch = make_batch(database, Plan(size=4))
    batch = set_unconfirmed_after(database, batch, timedelta(hours=2))
    move(database, batch, range(3), READY)
    hand_over(database, batch, [0, 1], unconfirmed=[1])
    at_gateway.deliver(step_context(database, batch), SilentGateway())
    assert read_states(database, batch)[1] == in_gateway()

    batch = set_unconfirmed_after(database, batch, timedelta())
    hand_over(database, batch, [2], unconfirmed=[2])
    at_gateway.deliver(step_context(database, batch), SilentGateway())
    states = read_states(database, batch)
    assert states[0] == in_gateway()
    assert states[1] == states[2] == in_status(Status.NOT_DELIVERED)
    assert read_report(database, batch).unconfirmed == 0
    assert find_violations(database, batch.campaign) == []


def settle_first(database: Database, batch: Batch) -> Callable[[], None]:
    """Return a function by which a receipt settles message 1."""
    return lambda: report_receipts(database, batch, (1, Status.DELIVERED))


def test_a_receipt_that_comes_while_messages_are_given_up_counts(database: Database) -> None:
    batch = make_batch(database, Plan(size=4))
    batch = set_unconfirmed_after(database, batch, timedelta())
    move(database, batch, range(2), READY)
    hand_over(database, batch, [0, 1], unconfirmed=[0, 1])
    overtaken = OvertakenDatabase(database.engine, [settle_first(database, batch)])
    at_gateway.deliver(step_context(overtaken, batch), SilentGateway())
    states = read_states(database, batch)
    assert (states[0], states[1]) == (in_status(Status.NOT_DELIVERED), in_status(Status.DELIVERED))
    with database.read() as connection:
        refused = count_refused_receipts(connection, [batch.campaign.id])
    assert refused[batch.campaign.id].total() == 0
    assert find_violations(database, batch.campaign) == []


def test_confirm_says_so_if_a_receipt_comes_first(
    database: Database, batch: Batch, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def open_overtaken_entry(*arguments: Any, **options: Any) -> Iterator[Entry]:
        settle_first(database, batch)()
        with open_entry(*arguments, **options) as entry:
            yield entry

    monkeypatch.setattr("tracker.record.journal.open_entry", open_overtaken_entry)
    command = ["confirm", "spring", "1", "bounced", "--database", settings.resolved_database_url]
    ended = CliRunner().invoke(app, command)
    assert (ended.exit_code, "message 1 is delivered" in ended.stderr) == (2, True), ended.output
    assert read_states(database, batch)[1] == in_status(Status.DELIVERED)


def test_the_sweep_finds_it_after_the_end_of_the_run(database: Database) -> None:
    """No task waits for as long, and the run is over meanwhile."""
    batch = make_batch(database, Plan(size=2))
    move(database, batch, [0, 1], READY)
    hand_over(database, batch, [0, 1], unconfirmed=[1])
    assert next_step(database, batch) is None
    with database.write() as connection:
        finish_run(connection, batch.campaign.run_id, batch.campaign.clock.now())
    with database.read() as connection:
        assert [found.id for found in find_unfinished_campaigns(connection)] == [batch.campaign.id]
        assert find_idle_batches(connection, [batch.campaign], timedelta()) == []
    batch = set_unconfirmed_after(database, batch, timedelta())
    report_receipts(database, batch, (0, Status.DELIVERED))
    with database.read() as connection:
        [idle] = find_idle_batches(connection, [batch.campaign], timedelta())
    assert (idle.step, idle.is_waiting_over) == (Step.DELIVER, True)
    at_gateway.deliver(step_context(database, batch), SilentGateway())
    with database.read() as connection:
        assert find_unfinished_campaigns(connection) == []


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [("delivered", Status.DELIVERED), ("bounced", Status.HARD_BOUNCED)],
)
def test_a_person_settles_an_unconfirmed_message(
    database: Database, batch: Batch, settings: Settings, outcome: str, expected: Status
) -> None:
    def confirm(number: int) -> Any:
        command = ["confirm", "spring", str(number), outcome]
        return CliRunner().invoke(app, [*command, "--database", settings.resolved_database_url])

    ended = confirm(1)
    assert (ended.exit_code, ended.stdout) == (
        0,
        f"message 1 of campaign spring: {expected.slug}\n",
    )
    assert read_states(database, batch)[1] == in_status(expected)
    assert find_violations(database, batch.campaign) == []
    causes = {1: f"message 1 is {expected.slug}", 0: "message 0 is in_gateway", 2**40: "no message"}
    for number, cause in causes.items():
        refused = confirm(number)
        assert (refused.exit_code, cause in refused.stderr) == (2, True), refused.output
