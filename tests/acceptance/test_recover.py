"""`recover`: a sweep by hand re-queues stalled batches and lists them."""

import json
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from redis import Redis

from tests.support.factory import backdate_batch, make_batch
from tests.support.shell import Shell
from tracker.store.database import Database
from workers.upkeep.broker import make_broker_client


@pytest.fixture
def empty_broker(broker_url: str) -> Iterator[Redis]:
    with closing(make_broker_client(broker_url, timeout=5)) as client:
        client.flushall()
        yield client
        client.flushall()  # all tests share the broker


def test_stalled_batch_is_requeued_once_and_listed(
    shell: Shell, database: Database, broker_url: str, empty_broker: Redis
) -> None:
    batch = make_batch(database)
    backdate_batch(database, batch, timedelta(minutes=1))
    url = database.engine.url.render_as_string(hide_password=False)
    command = ("recover", "--database", url, "--broker", broker_url)
    ended = shell.run(*command)
    assert ended.returncode == 0
    heading, line = ended.stdout.splitlines()
    assert heading.split()[:3] == ["run", "campaign", "batch"]
    assert batch.campaign.name in line
    assert "suppress" in line
    first, second = ended.stderr.splitlines()[:2]
    assert first == "1 stalled batch re-queued"
    assert "no worker on" in second
    assert empty_broker.llen("queued") == 1
    ended = shell.run(*command)
    assert (ended.returncode, ended.stdout) == (0, "")
    assert ended.stderr == "no stalled batches\n"
    ended = shell.run(*command, "--format", "json")
    assert json.loads(ended.stdout) == []
    assert empty_broker.llen("queued") == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [((), "SENDTRACE_BROKER_URL"), (("--broker", "redis://127.0.0.1:1/0"), "does not answer")],
)
def test_recover_needs_a_broker(
    shell: Shell, tmp_path: Path, options: tuple[str, ...], message: str
) -> None:
    ended = shell.run("recover", "--database", f"sqlite:///{tmp_path / 'x.db'}", *options)
    assert (ended.returncode, ended.stdout) == (2, "")
    [line] = ended.stderr.splitlines()
    assert message in line
