"""Celery obeys the settings of sendtrace only, not the shell's variables or the folder's files."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from runpy import run_path

import celery.bin.celery
import pytest
from flower.options import default_options as options

import workers
from simulator.stack.commands import PYTHON_MODULE, worker_command
from workers.celery_app import make_celery_app
from workers.celery_environment import (
    FOREIGN_COMMAND_VARIABLES,
    FOREIGN_PREFIXES,
    FOREIGN_VARIABLES,
    ignore_foreign_settings,
)

READ_VARIABLE = re.compile(r"environ(?:\.get|\.pop)?[\[(]\s*['\"](\w+)['\"]")

UNUSED_MODULES = (
    "celery/contrib/",
    "celery/fixups/",
    "celery/loaders/default.py",
    "kombu/transport/SLMQ.py",
    "billiard/popen_spawn",
    "billiard/spawn.py",
)
"""Modules of features that sendtrace doesn't use: Django, other brokers, spawned processes."""

HARMLESS_VARIABLES = {
    "C_FAKEFORK",  # only with --detach
    "C_FORCE_ROOT",  # only if pickles are accepted
    "ITERM_PROFILE",
    "NOSETPS",  # the title of the process
    "NUMBER_OF_PROCESSORS",  # Windows
    "TERM",
    "_MP_FORK_LOGLEVEL_",
}


def find_read_variables() -> Iterator[str]:
    """Yield the names of the variables that the installed libraries read."""
    for package in ("celery", "kombu", "billiard"):
        folder = Path(import_module(package).__path__[0])
        for file in folder.rglob("*.py"):
            name = file.relative_to(folder.parent).as_posix()
            if not name.startswith(UNUSED_MODULES):
                yield from READ_VARIABLE.findall(file.read_text())


def test_every_variable_that_celery_reads_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    read = {*find_read_variables()} - HARMLESS_VARIABLES
    assert "CELERY_BROKER_URL" in read
    assert read >= FOREIGN_VARIABLES - {"C_WNOCONF"}, "an entry is out of date"
    kept = {"PATH": os.environ["PATH"], "SENDTRACE_HOME": "here", "PYTHONPATH": "there"}
    for name in (*read, *FOREIGN_VARIABLES, "FLOWER_PORT"):
        monkeypatch.setenv(name, "tcp://10.0.0.7:5555")
    for name, value in kept.items():
        monkeypatch.setenv(name, value)
    ignore_foreign_settings()
    assert not {name for name in read if name in os.environ}
    assert not {name for name in os.environ if name.startswith(FOREIGN_PREFIXES)}
    assert {name: os.environ.get(name) for name in kept} == kept


def test_every_variable_that_only_the_celery_command_reads_is_ignored() -> None:
    options = celery.bin.celery.celery.params
    read = {option.envvar for option in options if option.envvar is not None}
    assert read - {"NO_COLOR"} == FOREIGN_COMMAND_VARIABLES, "--no-color is given"


def test_an_app_ignores_the_modules_of_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "celeryconfig.py").write_text("broker_url = 'redis://elsewhere'")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "shop.settings")
    monkeypatch.setenv("CELERY_LOADER", "nowhere")
    monkeypatch.setenv("CELERY_BROKER_URL", "redis://elsewhere")
    monkeypatch.delitem(sys.modules, "celeryconfig", raising=False)
    with make_celery_app("test") as app:
        assert app.conf.broker_url is None
        assert app.conf.task_default_queue == "queued"
    with make_celery_app("test", "redis://here") as app:
        assert app.conf.broker_url == "redis://here"


FOREIGN_SETTINGS = {
    "APP": "shop",
    "BROKER_URL": "redis://elsewhere",
    "CELERY_BROKER_URL": "redis://elsewhere",
    "CELERY_RESULT_BACKEND": "nowhere",
    "CELERY_LOADER": "nowhere",
    "CELERY_BEAT_LOGLEVEL": "please",
    "CONFIG_MODULE": "shop",
    "DJANGO_SETTINGS_MODULE": "shop.settings",
    "LOADER": "nowhere",
    "NO_COLOR": "please",
    "PICKLE_PROTOCOL": "please",
    "RESULT_BACKEND": "nowhere",
    "SKIP_CHECKS": "please",
}


@pytest.mark.parametrize(
    "command",
    [
        pytest.param((*PYTHON_MODULE, "workers.celery_command", "beat", "--pidfile="), id="beat"),
        pytest.param(worker_command("one@here", ["queued"], 1), id="worker"),
    ],
)
def test_beat_and_workers_without_a_broker_do_not_start_with_another_projects(
    tmp_path: Path, command: list[str]
) -> None:
    for name in ("celery.py", "celeryconfig.py", "kombu.py", "redis.py", "shop.py"):
        (tmp_path / name).write_text(f"raise SystemExit('imported {name}')")
    for name in ("tracker", "workers"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f"raise SystemExit('imported {name}')")
    ended = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, **FOREIGN_SETTINGS},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2, ended.stdout + ended.stderr
    assert "no broker configured; set SENDTRACE_BROKER_URL" in ended.stdout + ended.stderr
    assert "Traceback" not in ended.stdout + ended.stderr


FLOWER_CONFIG = str(Path(workers.__path__[0]) / "flowerconfig.py")


@pytest.fixture
def flower_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[pytest.MonkeyPatch]:
    monkeypatch.setenv("SENDTRACE_HOME", str(tmp_path))
    monkeypatch.setenv("SENDTRACE_BROKER_URL", "redis://here")
    defaults = options.as_dict()
    yield monkeypatch
    for name, value in defaults.items():
        options[name] = value
    ignore_foreign_settings()  # the configuration has set some


def test_variables_of_sendtrace_set_flower(flower_environment: pytest.MonkeyPatch) -> None:
    for name, value in {
        "MAX_TASKS": "5",
        "AUTH": "ann:secret,bob:secret",
        "PERSISTENT": "no",
        "URL_PREFIX": "flower",
        "UNAUTHENTICATED_API": "true",
        "ADDRESS": "0.0.0.0",  # noqa: S104
        "URL": "http://flower.example",
        "PORT": "tcp://10.43.0.7:5555",
        "SERVICE_HOST": "10.43.0.7",
        "TASKS_COLUMNS": "",
    }.items():
        flower_environment.setenv(f"SENDTRACE_FLOWER_{name}", value)
    flower_environment.setenv("FLOWER_UNAUTHENTICATED_API", "false")
    run_path(FLOWER_CONFIG)
    assert (options.max_tasks, options.persistent, options.port) == (5, False, 5555)
    assert (options.basic_auth, options.auth) == (["ann:secret", "bob:secret"], "")
    assert (options.url_prefix, options.address) == ("flower", "0.0.0.0")  # noqa: S104
    assert options.tasks_columns.startswith("name,kwargs,"), "an empty variable is ignored"
    assert os.environ["FLOWER_UNAUTHENTICATED_API"] == "true"


@pytest.mark.parametrize("is_option", [True, False])
@pytest.mark.parametrize(
    ("address", "is_allowed"),
    [("127.0.0.2", True), ("::1", True), ("0.0.0.0", False)],  # noqa: S104
)
def test_flower_is_not_exposed_without_a_password(
    flower_environment: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    address: str,
    is_allowed: bool,
    is_option: bool,
) -> None:
    if is_option:
        options.address = address
    else:
        flower_environment.setenv("SENDTRACE_FLOWER_ADDRESS", address)
    if is_allowed:
        run_path(FLOWER_CONFIG)
        return
    with pytest.raises(SystemExit, match="2"):
        run_path(FLOWER_CONFIG)
    assert "reachable without a password" in capsys.readouterr().err


def test_flower_needs_a_broker(
    flower_environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    flower_environment.delenv("SENDTRACE_BROKER_URL")
    with pytest.raises(SystemExit, match="2"):
        run_path(FLOWER_CONFIG)
    assert "no broker configured" in capsys.readouterr().err
