"""The incidents: what is done to a stack, and what a person does about it."""

import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import psutil

from drills.campaign import AttachedCampaign
from drills.places import PASSWORD, PasswordServer, PlaceKind
from drills.stack import DrillStack, StackFailed
from fault_matrix import disks
from tracker.web.health.judge import Part

OUTAGE_BEGIN_SECONDS, OUTAGE_END_SECONDS = 12.0, 72.0
"""The gateway's outage, in seconds from the start of the run."""

GATEWAY_OUTAGE = (
    f'outage = {{ from = "{OUTAGE_BEGIN_SECONDS:g}s", to = "{OUTAGE_END_SECONDS:g}s" }}'
)

STAGE = "about_to_be_sent"
"""The queue whose worker is harmed."""


@dataclass(frozen=True)
class Scene:
    """Where an incident happens: a stack, and the campaign that is sent on it."""

    stack: DrillStack
    campaign: AttachedCampaign

    @property
    def is_well(self) -> bool:
        """True while the stack says so: /health is ok, and the run has a living driver."""
        health = self.stack.ask_json("/health")
        return health is not None and health["status"] == "ok" and not self.campaign.is_abandoned


@dataclass(frozen=True)
class Repair:
    """The end of an incident.

    Attributes:
        text: what is done.
        is_wait: whether nobody does anything: `perform` waits for the end.
    """

    perform: Callable[[Scene], None]
    text: str
    is_wait: bool = False


@dataclass(frozen=True, kw_only=True)
class DrillIncident:
    """An incident.

    Attributes:
        harm: does the harm; `harm_text` says what it does.
        repair: ends the incident; None if it ends alone.
        expected_causes: the parts of which the page must name one while the incident lasts; none
            if the health of the parts may stay as it was.
        expected_alert: the only alert that may be raised.
        is_page_gone: whether the live page doesn't answer during the incident.
        gateway: further settings of the campaign's gateway, in TOML.
        is_quick: whether the short form plays it.
    """

    name: str
    place: PlaceKind
    harm: Callable[[Scene], None]
    harm_text: str
    repair: Repair | None = None
    expected_causes: Sequence[Part] = ()
    expected_alert: str | None = None
    is_page_gone: bool = False
    gateway: str = ""
    is_quick: bool = False


def _find_worker(scene: Scene) -> psutil.Process:
    return scene.stack.find_child(f"--hostname={STAGE}@")


def _kill_worker(scene: Scene) -> None:
    _find_worker(scene).kill()


def _kill_pool_child(scene: Scene) -> None:
    """Kill the child that has done most: it runs the steps."""
    children = _find_worker(scene).children()
    max(children, key=lambda child: sum(child.cpu_times()[:2])).kill()


def _find_broker(scene: Scene) -> psutil.Process:
    return scene.stack.find_child("valkey-server")


def _kill_broker(scene: Scene) -> None:
    _find_broker(scene).kill()


def _suspend_broker(scene: Scene) -> None:
    _find_broker(scene).send_signal(signal.SIGSTOP)


def _find_server(scene: Scene) -> PasswordServer:
    if scene.stack.place.server is None:
        raise StackFailed(f"no database server on the place {scene.stack.place.kind}")
    return scene.stack.place.server


def _stop_database(scene: Scene) -> None:
    _find_server(scene).server.stop()


def _start_database(scene: Scene) -> None:
    _find_server(scene).server.ensure_postgres_running()


def _change_password(scene: Scene) -> None:
    _find_server(scene).set_password("changed")


def _restore_password(scene: Scene) -> None:
    _find_server(scene).set_password(PASSWORD)


def _fill_disk(scene: Scene) -> None:
    disks.fill(scene.stack.place.home)


def _free_disk(scene: Scene) -> None:
    disks.free(scene.stack.place.home)


def _wait_for_outage(scene: Scene) -> None:
    _sleep_until(scene.campaign.started_at + OUTAGE_BEGIN_SECONDS)


def _wait_for_end_of_outage(scene: Scene) -> None:
    _sleep_until(scene.campaign.started_at + OUTAGE_END_SECONDS)


def _sleep_until(at: float) -> None:
    time.sleep(max(0.0, at - time.time()))


def _kill_driver(scene: Scene) -> None:
    scene.campaign.kill_driver()


def _resume(scene: Scene) -> None:
    scene.campaign.resume()


def _kill_up(scene: Scene) -> None:
    if scene.stack.process is not None:
        scene.stack.process.kill()
        scene.stack.process.wait()


def _start_up(scene: Scene) -> None:
    scene.stack.start()


INCIDENTS = (
    DrillIncident(
        name="worker killed",
        place=PlaceKind.SQLITE,
        harm=_kill_worker,
        harm_text=f"`kill -9` of the worker that serves {STAGE}",
        expected_causes=[Part.WORKERS],
        is_quick=True,
    ),
    DrillIncident(
        name="pool child killed",
        place=PlaceKind.SQLITE,
        harm=_kill_pool_child,
        harm_text=f"`kill -9` of the process in which the worker of {STAGE} runs its steps",
    ),
    DrillIncident(
        name="broker killed",
        place=PlaceKind.SQLITE,
        harm=_kill_broker,
        harm_text="`kill -9` of the embedded Valkey",
        expected_causes=[Part.BROKER, Part.WORKERS],
    ),
    DrillIncident(
        name="broker hung",
        place=PlaceKind.SQLITE,
        harm=_suspend_broker,
        harm_text="`kill -STOP` of the embedded Valkey",
        repair=Repair(_kill_broker, "`kill -9` of the broker; `sendtrace up` starts a new one"),
        expected_causes=[Part.BROKER],
        expected_alert="SendtraceBrokerUnavailable",
        is_quick=True,
    ),
    DrillIncident(
        name="database stopped",
        place=PlaceKind.POSTGRESQL,
        harm=_stop_database,
        harm_text="`pg_ctl stop`",
        repair=Repair(_start_database, "`pg_ctl start`"),
        expected_causes=[Part.DATABASE],
        expected_alert="SendtraceDatabaseUnavailable",
    ),
    DrillIncident(
        name="disk full",
        place=PlaceKind.SMALL_DISK,
        harm=_fill_disk,
        harm_text="a file that fills the disk of the state folder (64 MB)",
        repair=Repair(_free_disk, "the file is removed"),
        expected_causes=[Part.DISK],
        expected_alert="SendtraceDiskFull",
    ),
    DrillIncident(
        name="gateway unavailable",
        place=PlaceKind.SQLITE,
        harm=_wait_for_outage,
        harm_text="the simulated gateway can't be reached",
        repair=Repair(_wait_for_end_of_outage, "the gateway can be reached again", is_wait=True),
        expected_causes=[Part.GATEWAYS],
        expected_alert="SendtraceGatewayUnavailable",
        gateway=GATEWAY_OUTAGE,
    ),
    DrillIncident(
        name="driver killed",
        place=PlaceKind.SQLITE,
        harm=_kill_driver,
        harm_text="`kill -9` of `sendtrace simulate`",
        repair=Repair(_resume, "`sendtrace resume`"),
        expected_alert="SendtraceRunAbandoned",
    ),
    DrillIncident(
        name="up killed",
        place=PlaceKind.SQLITE,
        harm=_kill_up,
        harm_text="`kill -9` of `sendtrace up`",
        repair=Repair(_start_up, "`sendtrace up`"),
        expected_alert="SendtracePageDown",
        is_page_gone=True,
    ),
    DrillIncident(
        name="wrong password",
        place=PlaceKind.POSTGRESQL,
        harm=_change_password,
        harm_text="the password of the database's role is changed, and its sessions end",
        repair=Repair(_restore_password, "the password is changed back"),
        expected_causes=[Part.DATABASE],
        expected_alert="SendtraceDatabaseUnavailable",
    ),
)
"""The incidents, in the order of docs/drills.md."""
