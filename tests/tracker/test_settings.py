"""Settings come from options, else from the environment, else from defaults."""

from contextlib import closing
from pathlib import Path

import pytest

from tracker.errors import UsageError
from tracker.settings import load_settings
from tracker.store.database import check_reachable, connect


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "SENDTRACE_HOME": "/from/environment",
        "SENDTRACE_DATABASE_URL": "sqlite:////environment.db",
        "SENDTRACE_BROKER_URL": "redis://environment:6379/0",
        "SENDTRACE_TIMEZONE": "Asia/Kolkata",
    }.items():
        monkeypatch.setenv(name, value)


def test_defaults_are_in_the_current_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = load_settings()
    assert settings.home == Path(".sendtrace")
    assert settings.logs == Path(".sendtrace/logs")
    assert settings.resolved_database_url == f"sqlite:///{tmp_path}/.sendtrace/sendtrace.db"
    assert (settings.database_url, settings.broker_url) == (None, None)
    assert settings.timezone == "UTC"


@pytest.mark.usefixtures("environment")
def test_settings_come_from_the_environment() -> None:
    settings = load_settings()
    assert settings.home == Path("/from/environment")
    assert settings.resolved_database_url == "sqlite:////environment.db"
    assert settings.broker_url == "redis://environment:6379/0"
    assert settings.timezone == "Asia/Kolkata"


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("SENDTRACE_REPORTS_PER_SECOND", "0"),
        ("SENDTRACE_REPORTS_PER_SECOND", "nan"),
        ("SENDTRACE_REPORTS_PER_SECOND", "many"),
        ("SENDTRACE_CLOCK_TOLERANCE", "-1"),
        ("SENDTRACE_CLOCK_TOLERANCE", "inf"),
    ],
)
def test_a_limit_must_be_a_sensible_number(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(UsageError, match=variable):
        load_settings()


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize(
    ("option", "value"),
    [
        pytest.param("home", Path("/value"), id="home"),
        pytest.param("database_url", "sqlite:////value.db", id="database"),
        pytest.param("broker_url", "redis://value:1/0", id="broker"),
        pytest.param("timezone", "Europe/London", id="time zone"),
    ],
)
def test_an_argument_overrides_its_variable_only(option: str, value: object) -> None:
    assert load_settings(**{option: value}) == load_settings().model_copy(update={option: value})
    assert getattr(load_settings(**{option: value}), option) == value


@pytest.mark.usefixtures("environment")
def test_none_does_not_override() -> None:
    assert load_settings(home=None, database_url=None, timezone=None) == load_settings()


def test_an_empty_variable_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SENDTRACE_HOME", "SENDTRACE_DATABASE_URL", "SENDTRACE_TIMEZONE"):
        monkeypatch.setenv(name, "")
    settings = load_settings()
    assert (settings.home, settings.timezone) == (Path(".sendtrace"), "UTC")
    assert settings.database_url is None


@pytest.mark.parametrize(
    ("text", "is_allowed"),
    [("", False), ("1", True), ("TRUE", True), ("yes", True), ("off", False)],
)
def test_contacts_are_shown_only_if_that_is_said(
    monkeypatch: pytest.MonkeyPatch, text: str, is_allowed: bool
) -> None:
    monkeypatch.setenv("SENDTRACE_SHOW_CONTACTS", text)
    assert load_settings().show_contacts is is_allowed


def test_a_service_link_of_kubernetes_is_not_flowers_port(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SENDTRACE_FLOWER_PORT", "6000")
    assert load_settings().flower_port == 6000
    monkeypatch.setenv("SENDTRACE_FLOWER_PORT", "tcp://10.43.0.7:5555")
    assert load_settings().flower_port == 5555
    monkeypatch.setenv("SENDTRACE_FLOWER_PORT", "none")
    with pytest.raises(UsageError, match=r"^SENDTRACE_FLOWER_PORT: "):
        load_settings()


def test_a_wrong_switch_is_a_usage_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SENDTRACE_SHOW_CONTACTS", "maybe")
    with pytest.raises(UsageError, match=r"^SENDTRACE_SHOW_CONTACTS: "):
        load_settings()


def test_an_unknown_setting_is_an_error() -> None:
    with pytest.raises(UsageError, match=r"^SENDTRACE_BROKER: "):
        load_settings(broker="redis://localhost")


def test_the_environment_is_read_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SENDTRACE_HOME", "/one")
    assert load_settings().home == Path("/one")
    monkeypatch.setenv("SENDTRACE_HOME", "/two")
    assert load_settings().home == Path("/two")


@pytest.mark.parametrize(
    "zone",
    [
        pytest.param("Mars/Olympus", id="unheard of"),
        pytest.param("Asia", id="a continent"),
        pytest.param("../etc/passwd", id="a path"),
        pytest.param("/etc/localtime", id="an absolute path"),
        pytest.param("x" * 300, id="very long"),
    ],
)
@pytest.mark.parametrize(
    "by_argument", [pytest.param(True, id="argument"), pytest.param(False, id="variable")]
)
def test_a_zone_that_does_not_exist_is_a_usage_error(
    monkeypatch: pytest.MonkeyPatch, zone: str, by_argument: bool
) -> None:
    if not by_argument:
        monkeypatch.setenv("SENDTRACE_TIMEZONE", zone)
    with pytest.raises(UsageError) as refused:
        load_settings(timezone=zone if by_argument else None)
    assert str(refused.value) == (
        f"SENDTRACE_TIMEZONE: {zone!r}: not a time zone; expected a name like Asia/Kolkata"
    )
    assert refused.value.exit_code == 2


def test_a_variable_may_be_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "token"
    file.write_text("s3cret of the page \n")
    monkeypatch.setenv("SENDTRACE_TOKEN_FILE", str(file))
    token = load_settings().token
    assert token is not None
    assert token.get_secret_value() == "s3cret of the page "
    monkeypatch.setenv("SENDTRACE_TOKEN", "of the variable")
    token = load_settings().token
    assert token is not None
    assert token.get_secret_value() == "of the variable"


@pytest.mark.parametrize(
    ("content", "error"),
    [
        pytest.param(None, "can't be read: No such file or directory", id="missing"),
        pytest.param(b"\n", "empty; expected the value of SENDTRACE_TOKEN", id="empty"),
        pytest.param(b"\xff\xfe", "can't be read: not a text in UTF-8", id="binary"),
    ],
)
def test_a_file_without_a_value_is_a_usage_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None, error: str
) -> None:
    file = tmp_path / "token"
    if content is not None:
        file.write_bytes(content)
    monkeypatch.setenv("SENDTRACE_TOKEN_FILE", str(file))
    with pytest.raises(UsageError) as refused:
        load_settings()
    assert str(refused.value) == f"SENDTRACE_TOKEN_FILE: {file}: {error}"


def test_the_state_folder_is_made_with_its_logs_and_nothing_else(home: Path) -> None:
    settings = load_settings(home=home / "deep" / "down")
    settings.prepare_home()
    settings.prepare_home()
    assert [path.name for path in settings.home.iterdir()] == ["logs"]


def test_what_is_in_the_state_folder_stays(home: Path) -> None:
    settings = load_settings(home=home)
    settings.prepare_home()
    (settings.logs / "worker.log").write_text("hello")
    settings.prepare_home()
    assert (settings.logs / "worker.log").read_text() == "hello"


@pytest.mark.parametrize(
    ("below", "cause"),
    [
        pytest.param("letter.txt/home", "Not a directory", id="below a file"),
        pytest.param("letter.txt", "File exists", id="a file itself"),
        pytest.param("half", "File exists", id="a file where the logs go"),
    ],
)
def test_a_folder_that_can_not_be_written_is_a_usage_error(
    tmp_path: Path, below: str, cause: str
) -> None:
    (tmp_path / "letter.txt").write_text("hello")
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "logs").write_text("hello")
    with pytest.raises(UsageError) as refused:
        load_settings(home=tmp_path / below).prepare_home()
    assert str(refused.value) == (
        f"the state folder {tmp_path / below} can't be written: {cause};"
        " set SENDTRACE_HOME to another folder"
    )
    assert refused.value.exit_code == 2


@pytest.mark.parametrize("name", ["home", "a b", "50%25", "Zoë", "what?", "a#b", "x@y:z"])
def test_the_default_database_is_in_the_state_folder_with_any_name(
    tmp_path: Path, name: str
) -> None:
    settings = load_settings(home=tmp_path / name)
    settings.prepare_home()
    with closing(connect(settings.resolved_database_url)) as database:
        check_reachable(database)
    assert (tmp_path / name / "sendtrace.db").is_file()
    assert [path.name for path in tmp_path.iterdir()] == [name]
