"""The state folder is its owner's alone; files that a command was asked for follow the umask."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.private_files import find_open_files
from tracker.errors import UsageError
from tracker.settings import load_settings
from tracker.system import private_files
from tracker.system.private_files import keep_files_private, open_requested_file


@pytest.fixture(autouse=True)
def umask(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have the usual umask of a user, and restore that of the tests."""
    previous = os.umask(0o022)
    monkeypatch.setattr(private_files, "_user_umask", None)
    yield
    os.umask(previous)


def make_older_home(home: Path) -> None:
    """Make a state folder as earlier versions did."""
    (home / "runs" / "1").mkdir(parents=True)
    (home / "broker" / "appendonlydir").mkdir(parents=True)
    (home / "logs").mkdir()
    for name in ("sendtrace.db", "sendtrace.db-wal", "runs/1/rejects.csv", "logs/up.log", "beat"):
        (home / name).write_text("asha@example.com")
    (home / "broker" / "appendonlydir" / "1.aof").write_text("asha@example.com")


def test_a_new_home_is_private(tmp_path: Path) -> None:
    home = tmp_path / "home"
    load_settings(home=home).prepare_home()
    assert find_open_files(home) == []


def test_an_older_home_is_made_private_with_a_note(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / "home"
    make_older_home(home)
    settings = load_settings(home=home)
    settings.prepare_home()
    assert find_open_files(home) == []
    assert f"permissions on the state folder {home}" in capsys.readouterr().err
    settings.prepare_home()
    assert capsys.readouterr().err == ""


def test_files_that_are_open_in_a_private_home_are_made_private(tmp_path: Path) -> None:
    home = tmp_path / "home"
    make_older_home(home)
    home.chmod(0o700)
    load_settings(home=home).prepare_home()
    assert find_open_files(home) == []


def test_foreign_files_and_the_targets_of_links_stay_as_they_are(tmp_path: Path) -> None:
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    make_older_home(home)
    elsewhere.mkdir()
    (elsewhere / "report.html").write_text("hello")
    (home / "runs" / "2").symlink_to(elsewhere)
    (home / "scenario.toml").write_text("name = 'mine'")
    load_settings(home=home).prepare_home()
    assert [text.partition(" ")[2] for text in find_open_files(home)] == [
        str(home / "scenario.toml")
    ]
    assert len(find_open_files(elsewhere)) == 2


def test_a_home_of_another_user_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = tmp_path.stat().st_uid
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    with pytest.raises(UsageError, match=r"belongs to the user .*set SENDTRACE_HOME to a folder"):
        load_settings(home=tmp_path).prepare_home()


def test_a_folder_of_all_users_is_no_home(tmp_path: Path) -> None:
    tmp_path.chmod(0o1777)
    with pytest.raises(UsageError, match="is a folder of all users"):
        load_settings(home=tmp_path).prepare_home()
    assert tmp_path.stat().st_mode & 0o7777 == 0o1777


def test_requested_files_have_the_modes_of_the_user(tmp_path: Path) -> None:
    existing, new, private = (tmp_path / name for name in ("existing", "new", "private"))
    existing.touch(0o640)
    keep_files_private()
    keep_files_private()
    for path in (existing, new):
        with open_requested_file(path) as file:
            file.write("hello")
    private.touch()
    modes = [path.stat().st_mode & 0o777 for path in (existing, new, private)]
    assert modes == [0o640, 0o644, 0o600]
