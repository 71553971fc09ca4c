"""The JSON of the API, as pydantic models. The names of their fields are a contract."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Self

from pydantic import BaseModel, Field

from tracker.clock import to_datetime
from tracker.monitoring import CheckVerdict, FailedTask, WorkerActivity, WorkerInfo
from tracker.queries.messages import MessageRow
from tracker.queries.stalled import StalledBatch
from tracker.web.masking import mask_email, mask_mobile
from tracker.web.progress import CampaignProgress


class CampaignModel(BaseModel):
    """A campaign and its progress."""

    id: int
    name: str
    run: int
    channel: str
    state: str = Field(description="running or finished")
    audience: int
    settled: int = Field(description="messages that need no more work")
    attention: list[str] = Field(description="problems that need attention")

    @classmethod
    def of(cls, progress: CampaignProgress) -> Self:
        report, campaign = progress.report, progress.report.campaign
        return cls(
            id=campaign.id,
            name=campaign.name,
            run=campaign.run_id,
            channel=campaign.channel,
            state=progress.state,
            audience=report.audience,
            settled=report.settled,
            attention=list(progress.attention),
        )


class OverviewModel(BaseModel):
    """The latest campaigns, as read from the database at `at`. `trouble` is the error if the database is
    unavailable; the numbers are then older."""

    at: datetime | None
    trouble: str | None
    campaigns: list[CampaignModel]


class MessageModel(BaseModel):
    """A message. Contact data is masked unless the request asks for it and the settings allow it."""

    number: int
    status: str
    reason: str | None
    attempt: int
    customer_id: str
    email: str | None
    mobile: str | None

    @classmethod
    def of(cls, message: MessageRow, *, has_contacts: bool) -> Self:
        email, mobile = message.email, message.mobile
        if not has_contacts:
            email, mobile = email and mask_email(email), mobile and mask_mobile(mobile)
        return cls(
            number=message.number,
            status=message.status.slug,
            reason=None if message.reason is None else message.reason.slug,
            attempt=message.attempt,
            customer_id=message.customer_id,
            email=email,
            mobile=mobile,
        )


class MessagesModel(BaseModel):
    """A page of messages. `next` is the following page's `after`, null at the end. A page may have fewer
    messages than `limit` though more follow. `total` is null where it isn't counted."""

    total: int | None
    next: int | None
    messages: list[MessageModel]


class CheckVerdictModel(BaseModel):
    """A check's verdict on a message, evaluated now."""

    step: str
    check: str
    reason: str | None
    looked_at: dict[str, Any]
    error: str | None

    @classmethod
    def of(cls, verdict: CheckVerdict) -> Self:
        return cls(
            step=verdict.step,
            check=verdict.check,
            reason=None if verdict.reason is None else verdict.reason.title,
            looked_at={name: _to_json_value(value) for name, value in verdict.looked_at.items()},
            error=verdict.error,
        )


class StalledBatchModel(BaseModel):
    """A stalled batch, and the shell command that re-queues it."""

    campaign: int
    name: str
    batch: int
    since: datetime = Field(description="by the clock of the campaign's run")
    seconds: float = Field(description="real seconds since then")
    waiting: dict[str, int] = Field(description="messages that haven't settled, by status")
    step: str = Field(description="the step that the batch needs")
    sent_on: int = Field(description="times that the batch was re-queued since its last progress")
    command: str | None

    @classmethod
    def of(cls, batch: StalledBatch, command: str | None) -> Self:
        return cls(
            campaign=batch.campaign.id,
            name=batch.campaign.name,
            batch=batch.batch,
            since=to_datetime(batch.idle_since),
            seconds=batch.idle_seconds,
            waiting={status.slug: count for status, count in batch.pending_by_status.items()},
            step=batch.step,
            sent_on=batch.requeue_count,
            command=command,
        )


class WorkerModel(BaseModel):
    """A worker. `is_there` is false once its heartbeats have stopped."""

    name: str
    heard_at: datetime
    is_there: bool
    queues: list[str]

    @classmethod
    def of(cls, worker: WorkerInfo) -> Self:
        return cls(
            name=worker.name,
            heard_at=worker.heard_at,
            is_there=worker.is_online,
            queues=list(worker.queues),
        )


class FailedTaskModel(BaseModel):
    """A recent failure of a task. `again` says whether Celery retries it."""

    task: str
    campaign: int | None
    batch: int | None
    error: str
    worker: str
    at: datetime
    task_id: str
    again: bool

    @classmethod
    def of(cls, failure: FailedTask) -> Self:
        return cls(
            task=failure.task,
            campaign=failure.campaign,
            batch=failure.batch,
            error=failure.error,
            worker=failure.worker,
            at=failure.at,
            task_id=failure.task_id,
            again=failure.will_retry,
        )


class OperationsModel(BaseModel):
    """Stalled batches, workers and failures. `workers` and `failed` are null without a broker; `deaf_since`
    is the time since when the broker has been unavailable."""

    batches: list[StalledBatchModel]
    workers: list[WorkerModel] | None
    failed: list[FailedTaskModel] | None
    unserved: list[str] = Field(description="queues without a worker")
    deaf_since: datetime | None

    @classmethod
    def of(
        cls,
        batches: list[StalledBatchModel],
        activity: WorkerActivity | None,
        unserved_queues: Sequence[str],
    ) -> Self:
        unserved = list(unserved_queues)
        if activity is None:
            return cls(
                batches=batches, workers=None, failed=None, unserved=unserved, deaf_since=None
            )
        return cls(
            batches=batches,
            workers=[WorkerModel.of(worker) for worker in activity.workers],
            failed=[FailedTaskModel.of(failure) for failure in activity.failed],
            unserved=unserved,
            deaf_since=activity.disconnected_since,
        )


def _to_json_value(value: object) -> object:
    if isinstance(value, tuple | frozenset):
        return sorted(map(str, value))
    return value if isinstance(value, str | int | float | bool | None) else str(value)
