"""The systems under measurement, and how the workers of each peer are started."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.pipeline import WORKER_COUNT

SENDTRACE = "sendtrace"


@dataclass(frozen=True, kw_only=True)
class Peer:
    """A task queue that moves the same messages as sendtrace.

    Attributes:
        module: the module with its tasks; run as a program, it enqueues messages.
        worker: the module and arguments that start a worker.
        worker_commands: how many workers make WORKER_COUNT processes.
        prepare: the module and arguments that prepare an empty database, if the queue is in it.
    """

    module: str
    worker: Sequence[str]
    worker_commands: int = 1
    prepare: Sequence[str] = ()


_CELERY = "benchmarks.peers.celery_peer"
_DRAMATIQ = "benchmarks.peers.dramatiq_peer"
_PROCRASTINATE = "benchmarks.peers.procrastinate_peer"

PEERS: Mapping[str, Peer] = {
    "celery": Peer(
        module=_CELERY,
        worker=(
            *("celery", "--app", _CELERY, "worker", "--concurrency", str(WORKER_COUNT)),
            *("--without-gossip", "--without-mingle", "--without-heartbeat"),
        ),
    ),
    "dramatiq": Peer(
        module=_DRAMATIQ, worker=("dramatiq", _DRAMATIQ, "--processes", str(WORKER_COUNT))
    ),
    "procrastinate": Peer(
        module=_PROCRASTINATE,
        worker=("procrastinate", "--app", f"{_PROCRASTINATE}.app", "worker"),
        worker_commands=WORKER_COUNT,
        prepare=("procrastinate", "--app", f"{_PROCRASTINATE}.app", "schema", "--apply"),
    ),
}
SYSTEMS = (SENDTRACE, *PEERS)
