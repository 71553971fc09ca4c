"""`simulate --attach`: with workers that run already."""

import sys
from collections.abc import Iterator

import pytest

from simulator.stack.local import start_local_broker
from tests.support.shell import FinishedRun, Shell, StartedCommand, make_scenario, wait_until
from workers.queues import QUEUES

SCENARIO = make_scenario(email=300, sms=100, median="10ms", p99="20ms")

WORKER = (sys.executable, "-m", "celery", "-A", "workers.app", "worker")


@pytest.fixture
def broker() -> Iterator[str]:
    """Return the URL of an empty Valkey for one test."""
    with start_local_broker() as broker:
        yield broker.url


def _start_worker(shell: Shell, broker: str, queues: str) -> StartedCommand:
    options = ("-Q", queues, "--concurrency", "2", "--loglevel", "INFO")
    started = shell.start(
        *options,
        program=WORKER,
        label="worker",
        settings={
            "SENDTRACE_BROKER_URL": broker,
            "SENDTRACE_DATABASE_URL": f"sqlite:///{shell.database}",
        },
    )
    wait_until(
        lambda: " ready." in started.stderr_text or started.process.poll() is not None, "ready"
    )
    assert started.process.poll() is None, started.stderr_text
    return started


def _stop(worker: StartedCommand) -> None:
    worker.process.terminate()
    assert worker.wait() == 0


def test_a_run_uses_an_attached_worker_and_leaves_it_running(shell: Shell, broker: str) -> None:
    worker = _start_worker(shell, broker, ",".join(QUEUES))
    file = shell.write("small.toml", SCENARIO)
    run = FinishedRun.of(shell, file, "--attach", settings={"SENDTRACE_BROKER_URL": broker})
    assert run.result["workers"] is None
    assert run.result["verdict"]["passed"]
    assert "attached workers" in run.stdout
    cause = "the workers were attached: what they use can't be read from here"
    assert run.result["absent"] == {"workers.cpu": cause, "workers.memory": cause}
    assert run.result["figures"]["workers.cpu"] is None
    assert run.result["limited_by"]["cause"] == "unknown"
    assert "What limited the run is unknown: the workers were attached" in run.stdout
    assert run.result["figures"]["queues.gateway.unacked"] is not None
    header, *rows = (shell.home / "runs" / "1" / "timeseries.csv").read_text().splitlines()
    index = header.split(",").index("workers_cpu")
    assert {row.split(",")[index] for row in rows} == {""}
    assert worker.process.poll() is None, "the run does not stop an attached worker"
    assert list((shell.home / "logs").iterdir()) == [], "the run starts no worker"
    _stop(worker)


def test_a_run_without_a_worker_is_refused(shell: Shell, broker: str) -> None:
    ended = shell.run("simulate", shell.write("s.toml", SCENARIO), "--attach", "--broker", broker)
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert ended.stderr.startswith("sendtrace: no worker on ")
    assert f"serves {', '.join(QUEUES)};" in ended.stderr
    assert f"-Q {','.join(QUEUES)}" in ended.stderr
    assert shell.query_number("SELECT count(*) FROM runs") == 0


def test_a_queue_without_a_worker_is_named(shell: Shell, broker: str) -> None:
    worker = _start_worker(
        shell, broker, ",".join(queue for queue in QUEUES if queue != "about_to_be_sent")
    )
    ended = shell.run("simulate", shell.write("s.toml", SCENARIO), "--attach", "--broker", broker)
    assert ended.returncode == 2
    assert "serves about_to_be_sent;" in ended.stderr
    assert shell.query_number("SELECT count(*) FROM runs") == 0
    _stop(worker)


def test_a_threshold_on_the_usage_of_attached_workers_is_refused(shell: Shell, broker: str) -> None:
    demanding = f'{SCENARIO}\n[thresholds]\n"workers.cpu" = "< 2"\n'
    ended = shell.run("simulate", shell.write("s.toml", demanding), "--attach", "--broker", broker)
    assert ended.returncode == 2
    assert 'thresholds."workers.cpu": attached workers can\'t be measured' in ended.stderr
    assert "run without --attach, or remove the threshold" in ended.stderr


def test_attach_without_a_broker(shell: Shell) -> None:
    ended = shell.run("simulate", shell.write("s.toml", SCENARIO), "--attach")
    assert ended.returncode == 2
    assert ended.stderr.startswith("sendtrace: --attach needs a broker,")
    assert "SENDTRACE_BROKER_URL" in ended.stderr
    assert shell.query_number("SELECT count(*) FROM runs") == 0


def test_a_worker_without_a_broker_does_not_start(shell: Shell) -> None:
    ended = shell.run("-Q", ",".join(QUEUES), program=WORKER)
    assert ended.returncode != 0
    [line] = ended.stderr.strip().splitlines()
    assert line.startswith("sendtrace: no broker configured;")
    assert "SENDTRACE_BROKER_URL" in line
    assert not shell.home.exists()
