"""Ownership of a run: its driver stops once another one has resumed the run."""

from simulator.run.observers.base import RunObserver, RunSnapshot
from simulator.setup.heartbeat import Heartbeat


class OwnershipCheck(RunObserver):
    """A check that ends a driver whose run was resumed while the driver seemed to be dead.

    An incompatible migration ends a driver as well.
    """

    def __init__(self, heartbeat: Heartbeat) -> None:
        self._heartbeat = heartbeat

    def ticked(self, _snapshot: RunSnapshot) -> None:
        """Raise what ends the driver; see `Heartbeat.require_ownership`."""
        self._heartbeat.require_ownership()
