"""The JSON of the API, as pydantic models. The names of their fields are a contract."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field

from tracker.campaign_states import CampaignState
from tracker.clock import to_datetime
from tracker.monitoring import CheckVerdict, WorkerActivity
from tracker.queries.messages import MessageRow
from tracker.queries.stalled import StalledBatch
from tracker.web.masking import mask_email, mask_mobile
from tracker.web.progress import CampaignProgress


class CampaignModel(BaseModel):
    """A campaign and its progress."""

    id: int
    name: str
    title: str | None = Field(description="what people read beside the name, null without one")
    run: int = Field(description="number of the run")
    seed: int | None = Field(description="seed of the run, null without one")
    channel: str = Field(description="email or sms")
    state: str = Field(description=", ".join(CampaignState))
    as_of: datetime = Field(description="time of these numbers")
    audience: int = Field(description="customers of the campaign")
    scheduled: int = Field(description="customers whose message hasn't been queued yet")
    settled: int = Field(description="messages that need no more work")
    attention: list[str] = Field(description="problems that need attention")

    @classmethod
    def of(cls, progress: CampaignProgress) -> Self:
        """Return the model of a campaign's progress."""
        report, campaign = progress.report, progress.report.campaign
        return cls(
            id=campaign.id,
            name=campaign.name,
            title=campaign.title,
            run=campaign.run_id,
            seed=campaign.seed,
            channel=campaign.channel,
            state=report.state,
            as_of=to_datetime(report.as_of),
            audience=report.audience,
            scheduled=report.scheduled,
            settled=report.settled,
            attention=list(progress.attention),
        )


class OverviewModel(BaseModel):
    """The latest campaigns."""

    at: datetime | None = Field(
        description="time at which the database was last read, null before the first time"
    )
    trouble: str | None = Field(
        description="the error while the database is unavailable; the numbers are then as of `at`"
    )
    campaigns: list[CampaignModel] = Field(description="the latest first")


class MessageModel(BaseModel):
    """A message."""

    number: int = Field(description="number within the campaign, from 0")
    status: str
    reason: str | None = Field(description="reason why the message is Not Sent")
    attempt: int = Field(description="attempts so far")
    customer_id: str
    email: str | None = Field(description="masked unless the request may show it")
    mobile: str | None = Field(description="masked likewise")

    @classmethod
    def of(cls, message: MessageRow, *, is_unmasked: bool) -> Self:
        """Return the model of a message, with its contact data masked unless `is_unmasked`."""
        email, mobile = message.email, message.mobile
        if not is_unmasked:
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
    """A page of messages. It may have fewer messages than `limit` although more follow."""

    campaign: str = Field(description="name of the campaign")
    channel: str = Field(description="email or sms")
    run: int = Field(description="number of the run")
    seed: int | None = Field(description="seed of the run, null without one")
    state: str = Field(description=", ".join(CampaignState))
    as_of: datetime = Field(description="time of this page")
    total: int | None = Field(description="messages on all pages, null where they are not counted")
    next: int | None = Field(description="`after` of the following page, null at the end")
    messages: list[MessageModel]


class CheckVerdictModel(BaseModel):
    """A check's verdict on a message, evaluated now."""

    step: str = Field(description="step that asks the check")
    check: str = Field(description="name of the check")
    reason: str | None = Field(description="title of the reason, null unless it blocks the message")
    looked_at: dict[str, Any] = Field(description="values that the check read, by name")
    detail: str | None = Field(description="what the check says of the message")
    error: str | None = Field(description="exception that the check raised instead")
    deferred_until: datetime | None = Field(
        description="when the message is judged again, null unless the check defers it"
    )

    @classmethod
    def of(cls, verdict: CheckVerdict) -> Self:
        """Return the model of a verdict."""
        return cls(
            step=verdict.step,
            check=verdict.check,
            reason=None if verdict.reason is None else verdict.reason.title,
            looked_at=dict(verdict.looked_at),
            detail=verdict.detail,
            error=verdict.error,
            deferred_until=verdict.deferred_until,
        )


class StalledBatchModel(BaseModel):
    """A stalled batch, and the shell command that re-queues it."""

    campaign: int = Field(description="the campaign's id")
    name: str = Field(description="the campaign's name")
    batch: int
    since: datetime = Field(description="by the clock of the campaign's run")
    seconds: float = Field(description="real seconds since then")
    waiting: dict[str, int] = Field(description="messages that haven't settled, by status")
    step: str = Field(description="the step that the batch needs")
    sent_on: int = Field(description="times that the batch was re-queued since its last progress")
    command: str | None = Field(description="shell command that re-queues the batch")

    @classmethod
    def of(cls, batch: StalledBatch, command: str | None) -> Self:
        """Return the model of a stalled batch."""
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
    """A worker."""

    model_config = ConfigDict(from_attributes=True)

    name: str
    heard_at: datetime = Field(description="time of its last event")
    is_there: bool = Field(
        validation_alias="is_online", description="false once its heartbeats have stopped"
    )
    queues: list[str] = Field(description="queues that it serves")


class FailedTaskModel(BaseModel):
    """A failure of a task."""

    model_config = ConfigDict(from_attributes=True)

    task: str = Field(description="name of the task")
    campaign: int | None = Field(description="the campaign's id, null if unknown")
    batch: int | None = Field(description="null if unknown")
    error: str
    worker: str
    at: datetime = Field(description="time of the failure")
    task_id: str
    again: bool = Field(
        validation_alias="will_retry", description="whether Celery runs the task again"
    )


class OperationsModel(BaseModel):
    """Stalled batches, workers and failures."""

    batches: list[StalledBatchModel]
    workers: list[WorkerModel] | None = Field(description="null without a broker")
    failed: list[FailedTaskModel] | None = Field(
        description="recent failures, the latest first; null without a broker"
    )
    unserved: list[str] = Field(description="queues without a worker")
    deaf_since: datetime | None = Field(
        description="time since when the broker has been unavailable, null while it answers"
    )

    @classmethod
    def of(
        cls,
        batches: list[StalledBatchModel],
        activity: WorkerActivity | None,
        unserved_queues: Sequence[str],
    ) -> Self:
        """Return the model of all that the operations page shows."""
        return cls.model_validate(
            {
                "batches": batches,
                "workers": None if activity is None else activity.workers,
                "failed": None if activity is None else activity.failed,
                "unserved": unserved_queues,
                "deaf_since": None if activity is None else activity.disconnected_since,
            }
        )
