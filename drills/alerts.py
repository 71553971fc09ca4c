"""The alerts of docs/alerts.yml, evaluated by a real Prometheus that reads the live page."""

import json
import shutil
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from drills.results import AlertHistory
from drills.stack import HOST, wait_for
from tracker.web.server import bind_socket, format_url

ALERTS = Path(__file__).parent.parent / "docs" / "alerts.yml"

SCRAPE_SECONDS = 2

CONFIGURATION = """\
global:
  scrape_interval: {seconds}s
  scrape_timeout: {seconds}s
  evaluation_interval: {seconds}s
rule_files: ["{rules}"]
scrape_configs:
  - job_name: sendtrace
    static_configs: [{{ targets: ["{host}:{port}"] }}]
"""

START_LIMIT_SECONDS = 60.0

STOP_LIMIT_SECONDS = 10.0


class AlertWatch:
    """The states of the alerts, asked once a second in a thread of its own.

    Alerts that were raised before the harm don't count.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._before: set[str] = set()
        self._harmed_at: float | None = None
        self._states: dict[str, dict[str, float]] = {}
        self._lock = threading.Lock()
        self._stop_requested = threading.Event()
        self._thread = threading.Thread(target=self._run, name="alerts", daemon=True)

    def start(self) -> None:
        """Wait until Prometheus has read the live page, and begin to watch."""
        wait_for(self._is_page_read, START_LIMIT_SECONDS)
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stop_requested.set()
        self._thread.join()

    def remember_raised(self) -> None:
        """Remember the alerts that are raised before the harm begins."""
        self._before = set(self._read_states())

    def mark_harm(self) -> None:
        """Note that the harm is done now; it may have taken seconds."""
        with self._lock:
            self._harmed_at = time.monotonic()

    def is_firing(self, name: str) -> bool:
        """Return whether an alert has fired since the harm."""
        with self._lock:
            return "firing" in self._states.get(name, {})

    def has_ended(self) -> bool:
        """Return whether all alerts have ended that were raised since the harm."""
        with self._lock:
            return all("ended" in states for states in self._states.values())

    def histories(self) -> Sequence[AlertHistory]:
        """Return the histories of the alerts that were raised since the harm."""
        with self._lock:
            return [
                AlertHistory(
                    name=name,
                    pending_after=states.get("pending"),
                    firing_after=states.get("firing"),
                    ended_after=states.get("ended"),
                )
                for name, states in self._states.items()
            ]

    def _run(self) -> None:
        while not self._stop_requested.wait(1.0):
            with suppress(OSError, ValueError):
                self._note(self._read_states())

    def _note(self, raised: dict[str, str]) -> None:
        with self._lock:
            if self._harmed_at is None:
                return
            seconds = round(time.monotonic() - self._harmed_at, 1)
            for name, state in raised.items():
                if name not in self._before:
                    states = self._states.setdefault(name, {})
                    states.setdefault(state, seconds)
                    states.pop("ended", None)
            for name, states in self._states.items():
                if name not in raised:
                    states.setdefault("ended", seconds)

    def _read_states(self) -> dict[str, str]:
        """Return the state of each alert that is raised; firing if one of its labels is."""
        alerts = self._ask("alerts")["alerts"]
        ordered = sorted(alerts, key=lambda alert: alert["state"] == "firing")
        return {alert["labels"]["alertname"]: alert["state"] for alert in ordered}

    def _is_page_read(self) -> bool:
        with suppress(OSError, ValueError):
            return any(
                series["value"][1] == "1" for series in self._ask("query?query=up")["result"]
            )
        return False

    def _ask(self, path: str) -> Any:
        """Return the data of Prometheus' answer."""
        with urllib.request.urlopen(f"{self._url}/api/v1/{path}", timeout=5) as response:  # noqa: S310
            return json.load(response)["data"]


@contextmanager
def watch_alerts(web_port: int, folder: Path) -> Iterator[AlertWatch | None]:
    """Run a Prometheus for the duration of the block; yield None if none is installed.

    Args:
        web_port: the port of the live page.
        folder: an empty folder for its data.
    """
    program = shutil.which("prometheus")
    if program is None:
        yield None
        return
    with closing(bind_socket(HOST, 0)) as bound:
        port = bound.getsockname()[1]
    configuration = folder / "prometheus.yml"
    configuration.write_text(
        CONFIGURATION.format(seconds=SCRAPE_SECONDS, rules=ALERTS, host=HOST, port=web_port)
    )
    command = [program, f"--config.file={configuration}", f"--storage.tsdb.path={folder / 'data'}"]
    command += [f"--web.listen-address={HOST}:{port}", "--log.level=error"]
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    watch = AlertWatch(format_url(HOST, port))
    try:
        watch.start()
        yield watch
    finally:
        watch.stop()
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_LIMIT_SECONDS)
        process.kill()
        process.wait()
