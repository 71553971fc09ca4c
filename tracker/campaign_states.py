"""The states of a campaign and of its run, and what people do to them."""

from enum import StrEnum

from tracker.status import DescribedSlug


class CampaignState(DescribedSlug):
    """The state of a campaign, and of its run; `tracker.queries.campaign_state` derives it."""

    SCHEDULED = "scheduled", "Recorded; no message is queued yet."
    RUNNING = "running", "The driver of its run queues messages or waits for their outcomes."
    PAUSED = "paused", "A person paused it: no message is queued, checked or submitted meanwhile."
    CANCELLED = "cancelled", "A person cancelled it: what the gateway didn't have is Not Sent."
    FINISHED = "finished", "Its run came to its end: every message is queued, and none is awaited."
    INTERRUPTED = "interrupted", "A person or a signal ended its run early."
    ABORTED = (
        "aborted",
        "Its run ended early: a threshold could no longer be met, or an audience was refused.",
    )
    ABANDONED = (
        "abandoned",
        "Its run has no recorded end, and no heartbeat of its driver for 30 s.",
    )


GIVEN_UP_STATES = (CampaignState.INTERRUPTED, CampaignState.ABORTED)
"""The states of a run that its driver gave up before its end."""

ENDED_STATES = (CampaignState.FINISHED, *GIVEN_UP_STATES)
"""The states of a run whose end is on record."""


class ActionKind(DescribedSlug):
    """What a person does to a campaign, a queue, a batch or a run.

    The meaning is the participle: what the target then is.
    """

    PAUSE = "pause", "paused"
    RESUME = "resume", "resumed"
    CANCEL = "cancel", "cancelled"
    REQUEUE = "requeue", "re-queued"
    STOP = "stop", "stopped"


class TargetKind(StrEnum):
    """What a person acted on."""

    CAMPAIGN = "campaign"
    QUEUE = "queue"
    BATCH = "batch"
    RUN = "run"
