"""Play incidents on a real stack, and write what the stack said and did.

Prints a line for each drill to stderr, and writes all results to a JSON file. With --quick, a drill
fails only if the stack isn't healthy again, or a message isn't as predicted.
Exit codes: 0 all as expected, 1 a stack failed, 3 a drill failed, 130 interrupted.
"""

import argparse
import signal
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from drills.incidents import INCIDENTS, DrillIncident
from drills.page import format_page
from drills.places import PlaceKind, open_place
from drills.play import FULL_PACE, QUICK_PACE, Pace, describe_incident, play
from drills.results import FORMAT_VERSION, DrillResult, DrillsFile
from drills.stack import StackFailed, start_stack
from fault_matrix.disks import DiskNotMounted
from simulator.cli.signals import EXIT_INTERRUPTED, set_shutdown_handler
from simulator.run.environment import describe_machine
from tracker.commands import EXIT_INVARIANT_VIOLATED


def main() -> None:
    """Play the drills, and write the files."""
    options = _parse_options()
    incidents = [
        incident
        for incident in INCIDENTS
        if options.only in incident.name and (incident.is_quick or not options.quick)
    ]
    if not incidents:
        sys.exit(f"--only {options.only}: no such drill; expected a part of an incident's name")
    started_at = time.monotonic()
    machine = describe_machine(Path(tempfile.gettempdir()))
    drills: list[DrillResult] = []
    for drill in _play_all(incidents, QUICK_PACE if options.quick else FULL_PACE):
        drills.append(drill)
        print(_describe(drill), file=sys.stderr, flush=True)
        result = DrillsFile(
            version=FORMAT_VERSION,
            made_at=datetime.now(UTC).isoformat(timespec="seconds"),
            seconds=round(time.monotonic() - started_at, 1),
            sendtrace=version("sendtrace"),
            machine=machine,
            drills=sorted(drills, key=_position),
        )
        options.json.write_text(result.model_dump_json(indent=2) + "\n", encoding="utf-8")
    if options.page is not None:
        options.page.write_text(format_page(result), encoding="utf-8")
    if not all(drill.has_recovered if options.quick else drill.passed for drill in drills):
        sys.exit(EXIT_INVARIANT_VIOLATED)


def _play_all(incidents: Sequence[DrillIncident], pace: Pace) -> Iterator[DrillResult]:
    """Play incidents, those of one kind of place on one stack, and yield each result."""
    for kind in PlaceKind:
        remaining = deque(incident for incident in incidents if incident.place is kind)
        while remaining:
            with tempfile.TemporaryDirectory(prefix="st-drills-") as name:
                try:
                    yield from _play_on_stack(kind, remaining, Path(name), pace)
                except DiskNotMounted as reason:
                    yield _skip(remaining.popleft(), str(reason))


def _play_on_stack(
    kind: PlaceKind, remaining: deque[DrillIncident], folder: Path, pace: Pace
) -> Iterator[DrillResult]:
    """Play incidents on one stack until none remains, or the stack didn't recover from one."""
    with open_place(kind, folder) as place, start_stack(place, folder) as stack:
        is_usable = True
        while remaining and is_usable:
            incident = remaining.popleft()
            drill_folder = folder / f"drill-{len(remaining)}"
            drill_folder.mkdir()
            drill = play(incident, stack, drill_folder, pace)
            is_usable = drill.has_recovered
            yield drill


def _skip(incident: DrillIncident, reason: str) -> DrillResult:
    return DrillResult(
        **describe_incident(incident),
        skipped=reason,
        observation=None,
        noticed_after=None,
        harm_seconds=None,
        healthy_after=None,
        alerts=None,
        campaign=None,
        findings=[],
    )


def _position(drill: DrillResult) -> int:
    return [incident.name for incident in INCIDENTS].index(drill.incident)


def _describe(drill: DrillResult) -> str:
    if drill.skipped is not None:
        return f"{drill.incident}: not played: {drill.skipped}"
    healthy = "not healthy" if drill.healthy_after is None else f"{drill.healthy_after:.1f} s"
    found = "; ".join(drill.findings) or "as expected"
    return f"{drill.incident}: healthy again: {healthy}; {found}"


def _parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m drills",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--quick", action="store_true", help="two incidents, without waiting for alerts to fire"
    )
    parser.add_argument(
        "--only", default="", metavar="WORD", help="play the incidents that have WORD in their name"
    )
    parser.add_argument(
        "--json",
        type=Path,
        default=Path("drills.json"),
        metavar="FILE",
        help="where to write the results (drills.json)",
    )
    parser.add_argument(
        "--page", type=Path, metavar="FILE", help="where to write the page; by default nowhere"
    )
    return parser.parse_args()


if __name__ == "__main__":
    set_shutdown_handler(signal.default_int_handler)  # `kill` stops it as Ctrl-C does
    try:
        main()
    except StackFailed as failure:
        sys.exit(f"drills: {failure}")
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
