"""The systems under measurement, and how the workers of each peer are started."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.pipeline import WORKER_COUNT

SENDTRACE = "sendtrace"

PROCRASTINATE_CONCURRENCY = 10
"""Jobs that a process of procrastinate runs at once."""

PROCRASTINATE_POLL_SECONDS = 0.1
"""A job whose notification arrives during a fetch waits for the next poll, by default 5 s."""


@dataclass(frozen=True, kw_only=True)
class Peer:
    """A task queue that moves the same messages as sendtrace.

    Attributes:
        module: the module with its tasks; run as a program, it enqueues messages.
        worker: arguments of Python that start a worker.
        worker_commands: how many of them make WORKER_COUNT processes.
        prepare: arguments of Python that prepare an empty database, if the queue is in it.
    """

    name: str
    module: str
    worker: Sequence[str]
    worker_commands: int = 1
    prepare: Sequence[str] = ()


_CELERY = Peer(
    name="celery",
    module="benchmarks.peers.celery_peer",
    worker=(
        *("-m", "celery", "--app", "benchmarks.peers.celery_peer", "worker"),
        *("--concurrency", str(WORKER_COUNT)),
        *("--without-gossip", "--without-mingle", "--without-heartbeat"),
    ),
)
_DRAMATIQ = Peer(
    name="dramatiq",
    module="benchmarks.peers.dramatiq_peer",
    worker=("-m", "dramatiq", "benchmarks.peers.dramatiq_peer", "--processes", str(WORKER_COUNT)),
)
_PROCRASTINATE_COMMAND = ("-m", "procrastinate", "--app", "benchmarks.peers.procrastinate_peer.app")
_PROCRASTINATE = Peer(
    name="procrastinate",
    module="benchmarks.peers.procrastinate_peer",
    worker=(
        *(*_PROCRASTINATE_COMMAND, "worker", "--delete-jobs", "successful"),
        *("--concurrency", str(PROCRASTINATE_CONCURRENCY)),
        *("--fetch-job-polling-interval", str(PROCRASTINATE_POLL_SECONDS)),
    ),
    worker_commands=WORKER_COUNT,
    prepare=(*_PROCRASTINATE_COMMAND, "schema", "--apply"),
)

PEERS: Mapping[str, Peer] = {peer.name: peer for peer in (_CELERY, _DRAMATIQ, _PROCRASTINATE)}
SYSTEMS = (SENDTRACE, *PEERS)
