"""The guarantees of `Database` on both backends: snapshots, atomic writes, readable errors."""

import hashlib
import os
import re
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing, contextmanager
from pathlib import Path
from subprocess import PIPE, STDOUT, Popen
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy.exc import IntegrityError

from simulator.schema import ALL_MIGRATIONS, SIMULATOR_MIGRATIONS, open_database
from tests.support.factory import (
    AUTHOR,
    READY,
    TIMEOUT_SECONDS,
    Plan,
    make_batch,
    make_busy_batch,
    run_concurrently,
)
from tests.support.statements import executed, observe_statements
from tracker.errors import (
    DatabaseFailed,
    DatabaseTooNew,
    DatabaseTooOld,
    DatabaseUnreachable,
    UsageError,
)
from tracker.record import catalog
from tracker.record.journal import QUEUED_STATE, Move, open_entry
from tracker.settings import Settings, load_settings
from tracker.status import Status, Step
from tracker.store import postgresql
from tracker.store.arrays import read_columns, read_numbers_by_key, read_texts
from tracker.store.database import Database, check_reachable, connect
from tracker.store.migrate import (
    RETIRED_REVISIONS,
    SCRIPT_FOLDER,
    TRACKER_MIGRATIONS,
    Migrations,
    check_schema,
    migrate,
    prepare_schema,
)
from tracker.store.schema.catalog import runs
from tracker.store.schema.messages import messages
from tracker.store.schema.work import counters
from workers.transient import TRANSIENT_ERRORS

FAR = 2**62
FULL = 2

a_run = sa.insert(runs).values(scenario="s", started_at=0, definition="", heartbeat_at=0)
count_runs = sa.select(sa.func.count()).select_from(runs)


@pytest.mark.parametrize(
    "columns",
    [
        pytest.param({"number": [3, 1, 2]}, id="one column"),
        pytest.param({"number": [3, 1], "at": [-1, FAR]}, id="two columns"),
        pytest.param({"number": [3, 1], "outcome": [4, 4], "at": [0, 7]}, id="three columns"),
        pytest.param({"number": [3, 1], "text": [None, "ä\"'\\"]}, id="a text and a null"),
        pytest.param({"number": []}, id="one column, empty"),
        pytest.param({"number": [], "at": []}, id="two columns, empty"),
        pytest.param({"number": range(20_000)}, id="one column, large"),
        pytest.param({"number": range(FAR, FAR + 3)}, id="a range, far"),
        pytest.param({"number": range(2), "at": np.array([FAR, FAR])}, id="an array of one value"),
        pytest.param({"number": range(2), "at": np.array([FAR, -1])}, id="an array of two values"),
        pytest.param(
            {"number": [7, 9], "outcome": np.array([4, 5], np.int8), "at": np.array([6, 6])},
            id="arrays, one of one value",
        ),
        pytest.param({"number": np.array([4, 4])}, id="an array alone"),
        pytest.param({"number": range(5, 5)}, id="a range, empty"),
        pytest.param({"number": range(5, -5, -2)}, id="a range, down in steps"),
        pytest.param({"number": range(20_000), "at": range(FAR, FAR + 20_000)}, id="large"),
    ],
)
def test_columns_become_a_table(database: Database, columns: dict[str, list[Any]]) -> None:
    listed = database.table_from_columns(**columns)
    with database.read() as connection:
        rows = connection.execute(sa.select(*(listed.c[name] for name in columns))).all()
    assert sorted(map(tuple, rows)) == sorted(zip(*columns.values(), strict=True))


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        pytest.param([7, 2, 2, 99], [2, 7], id="some, one twice, one that is not there"),
        pytest.param([], [], id="none"),
        pytest.param(range(-10_000, 10_000), range(10), id="very many"),
        pytest.param(range(3, 5), [3, 4], id="a range"),
        pytest.param(range(3, 3), [], id="a range, empty"),
        pytest.param(range(8, 1, -3), [2, 5, 8], id="a range, down in steps"),
    ],
)
def test_in_list_matches_the_listed_numbers(
    database: Database, numbers: list[int], expected: list[int]
) -> None:
    make_batch(database, Plan(size=10))
    chosen = sa.select(messages.c.number).where(database.in_list(messages.c.number, numbers))
    with database.read() as connection:
        assert sorted(connection.scalars(chosen)) == list(expected)


@pytest.mark.parametrize(
    "missing",
    [
        pytest.param(range(10), id="all"),
        pytest.param([], id="none"),
        pytest.param([0, 1, 9], id="at the ends"),
        pytest.param([4, 6], id="in between"),
    ],
)
def test_numbers_are_a_range_unless_one_is_missing_in_between(
    database: Database, missing: Sequence[int]
) -> None:
    make_batch(database, Plan(size=10))
    expected = sorted(set(range(10)).difference(missing))
    query = sa.select(messages.c.number, messages.c.status)
    with database.read() as connection:
        by_key = read_numbers_by_key(connection, query.where(messages.c.number.not_in(missing)))
    numbers = by_key.get((Status.QUEUED,), range(0))
    assert list(numbers) == expected
    assert all(type(number) is int for number in numbers)
    assert isinstance(numbers, list if missing == [4, 6] else range)


@pytest.mark.parametrize("missing", [[], [5]], ids=["all contiguous", "one missing"])
def test_numbers_are_grouped_by_the_other_columns_of_a_query(
    database: Database, missing: Sequence[int]
) -> None:
    make_batch(database, Plan(size=10))
    is_early = sa.cast(messages.c.number < 3, sa.Integer)
    query = sa.select(messages.c.number, is_early, messages.c.status)
    with database.read() as connection:
        by_key = read_numbers_by_key(connection, query.where(messages.c.number.not_in(missing)))
    assert {key: list(numbers) for key, numbers in by_key.items()} == {
        (1, Status.QUEUED): [0, 1, 2],
        (0, Status.QUEUED): sorted({*range(3, 10)}.difference(missing)),
    }
    assert [*by_key] == [(1, Status.QUEUED), (0, Status.QUEUED)]
    assert isinstance(by_key[1, Status.QUEUED], range)


def test_texts_are_read_in_the_order_of_the_query(database: Database) -> None:
    texts = ["z", "ä\"'\\,", "", "\u2603"]
    listed = database.table_from_columns(number=[4, 3, 2, 1], text=texts)
    query = sa.select(listed.c.text).order_by(listed.c.number)
    with database.read() as connection:
        assert read_texts(connection, query) == texts[::-1]
        assert read_texts(connection, query.where(listed.c.number > 4)) == []


def test_a_reader_sees_one_snapshot_while_another_writes(database: Database) -> None:
    with database.write() as writer:
        writer.execute(a_run)
    with database.read() as reader:
        before = reader.scalar(count_runs)
        with database.write() as writer:
            writer.execute(a_run)
        assert (before, reader.scalar(count_runs)) == (1, 1)
    with database.read() as reader:
        assert reader.scalar(count_runs) == 2


def test_a_reader_does_not_see_uncommitted_rows(database: Database) -> None:
    with database.write() as writer:
        writer.execute(a_run)
        with database.read() as reader:
            assert reader.scalar(count_runs) == 0


def test_a_read_transaction_writes_nothing(database: Database) -> None:
    try:
        with database.read() as connection:
            connection.execute(a_run)
    except sa.exc.DBAPIError:
        assert database.is_postgresql, "PostgreSQL refuses at once"
    with database.read() as connection:
        assert connection.scalar(count_runs) == 0


@pytest.mark.parametrize(
    ("last", "error"),
    [
        pytest.param(lambda _: 1 // 0, ZeroDivisionError, id="an error of ours"),
        pytest.param(lambda it: it.execute(a_run.values(speed=0)), IntegrityError, id="a refusal"),
    ],
)
def test_an_error_rolls_back_the_transaction(
    database: Database, last: Callable[[sa.Connection], object], error: type[Exception]
) -> None:
    def write() -> None:
        with database.write() as connection:
            connection.execute(a_run)
            last(connection)

    with pytest.raises(error):
        write()
    with database.write() as connection:
        assert connection.scalar(count_runs) == 0
        connection.execute(a_run)
    with database.read() as connection:
        assert connection.scalar(count_runs) == 1


def test_writers_wait_for_each_other(database: Database) -> None:
    """A read before the write doesn't make the write fail: the lock is taken at the start."""
    add = sa.update(runs).values(seed=runs.c.seed + 1)
    with database.write() as connection:
        connection.execute(a_run.values(seed=0))

    def write() -> None:
        for _ in range(10):
            with database.write() as connection:
                connection.scalar(count_runs)
                connection.execute(add)

    run_concurrently(*[write] * 4)
    with database.read() as connection:
        assert connection.scalar(sa.select(runs.c.seed)) == 40


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        pytest.param("", "can't be read", id="empty"),
        pytest.param("sendtrace.db", "can't be read", id="a path"),
        pytest.param("postgresql://u:s3cret@host:port/db", "can't be read", id="port in letters"),
        pytest.param("mysql://u:s3cret@host/db", "no support for mysql", id="mysql"),
        pytest.param("sqlite://", "needs a file", id="sqlite without a file"),
        pytest.param("sqlite:///:memory:", "needs a file", id="sqlite in memory"),
        pytest.param("sqlite:///file::memory:?uri=true", "needs a file", id="in memory by URI"),
        pytest.param("sqlite:///file:x?mode=memory&uri=true", "needs a file", id="memory mode"),
        pytest.param("sqlite:///x.db?y=s3cret", "unknown option 'y'", id="unknown option"),
        pytest.param("sqlite:///x.db?mode=ro", "unknown option 'mode'", id="option of a URI"),
        pytest.param("sqlite:///file:x?timeout=5&uri=true", "'timeout'", id="option of ours"),
    ],
)
def test_an_invalid_url_is_a_usage_error(url: str, expected: str) -> None:
    with pytest.raises(UsageError, match=expected) as refused:
        connect(url)
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize(
    "form",
    [
        pytest.param("postgresql://ana:s3cr%40t%2F@{at}/db", id="plain"),
        pytest.param("postgres://ana:s3cr%40t%2F@{at}/db", id="short scheme"),
        pytest.param("postgresql://{at}/db?user=ana&password=s3cr%40t%2F", id="in the query"),
        pytest.param("postgresql://ana:s3cr%40t%2F@{at}/db?nonsense=1", id="unknown option"),
    ],
)
def test_an_unreachable_server_is_named_without_its_password(closed_port: int, form: str) -> None:
    with closing(connect(form.format(at=f"127.0.0.1:{closed_port}"))) as database:
        assert "s3cr" not in database.redacted_url
        with pytest.raises(DatabaseUnreachable) as unreachable:
            check_reachable(database)
        assert database.redacted_url in str(unreachable.value)
    assert f"127.0.0.1:{closed_port}/db" in str(unreachable.value)
    assert "s3cr" not in str(unreachable.value)
    assert unreachable.value.exit_code == 2


@pytest.mark.parametrize(
    ("path", "cause"),
    [
        pytest.param("missing/sendtrace.db", "unable to open database file", id="no folder"),
        pytest.param("letter.txt", "file is not a database", id="another kind of file"),
    ],
)
def test_a_file_of_another_kind_is_unreachable(tmp_path: Path, path: str, cause: str) -> None:
    (tmp_path / "letter.txt").write_text("Dear Sir or Madam, " * 100)
    with (
        closing(connect(f"sqlite:///{tmp_path / path}")) as database,
        pytest.raises(DatabaseUnreachable, match=cause),
    ):
        check_reachable(database)
    assert (tmp_path / "letter.txt").read_text() == "Dear Sir or Madam, " * 100


def test_a_server_without_that_database_is_unreachable(postgresql_url: str) -> None:
    url = sa.make_url(postgresql_url).set(database="nowhere")
    with (
        closing(connect(url.render_as_string(hide_password=False))) as database,
        pytest.raises(DatabaseUnreachable, match='"nowhere" does not exist'),
    ):
        check_reachable(database)


@pytest.fixture
def on_sqlite(home: Path) -> Iterator[Database]:
    """Open an empty SQLite database with all tables."""
    settings = load_settings(home=home)
    settings.prepare_home()
    with closing(open_database(settings)) as database:
        observe_statements(database)
        yield database


def test_sqlite_commits_reach_the_disk_and_readers_never_wait(on_sqlite: Database) -> None:
    pragmas = ("journal_mode", "synchronous", "foreign_keys")
    with on_sqlite.read() as one, on_sqlite.write() as other:
        for connection in (one, other):
            values = [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in pragmas]
            assert values == ["wal", FULL, 1]


def test_sqlite_waits_for_the_creator_of_the_same_file(tmp_path: Path) -> None:
    """The switch of a new file to WAL fails at once during another write, despite the timeout."""
    path = tmp_path / "sendtrace.db"
    with (
        closing(sqlite3.connect(path, isolation_level=None)) as other,
        closing(connect(f"sqlite:///{path}")) as database,
        ThreadPoolExecutor(1) as threads,
    ):
        other.execute("BEGIN IMMEDIATE")
        other.execute("CREATE TABLE theirs (x)")
        reached = threads.submit(check_reachable, database)
        wait([reached], timeout=0.5)
        other.execute("COMMIT")
        reached.result(timeout=TIMEOUT_SECONDS)


@pytest.mark.parametrize(
    "at", [pytest.param(5, id="one instant"), pytest.param([5, 6, 7], id="an instant each")]
)
def test_sqlite_looks_a_moving_message_up_by_its_whole_key(
    on_sqlite: Database, at: int | list[int]
) -> None:
    batch = make_batch(on_sqlite)
    with (
        executed(on_sqlite) as statements,
        open_entry(on_sqlite, batch, Step.DISPATCH, AUTHOR, started_at=0) as written,
    ):
        written.move(Move(numbers=[1, 2, 3], source=QUEUED_STATE, target=READY, at=at))
    lines = [
        line.detail
        for statement, parameters in statements
        if not isinstance(parameters, list)
        for line in _plan(on_sqlite, statement, parameters)
    ]
    scans = [line for line in lines if re.match(r"SCAN (?!\w+ VIRTUAL|listed)", line)]
    looks = [line for line in lines if re.match(r"\w+ messages\b", line)]
    assert not scans
    assert looks
    assert {line.partition(" USING ")[2] for line in looks} == {
        "PRIMARY KEY (campaign_id=? AND number=?)"
    }


def test_sqlite_joins_a_list_with_messages_by_their_whole_key(on_sqlite: Database) -> None:
    """Without the statistics of the migration SQLite would read the whole campaign."""
    listed = on_sqlite.table_from_columns(number=[1, 2, 3], at=[4, 5, 6])
    query = sa.select(messages.c.number, listed.c.at).where(
        messages.c.campaign_id == 1, messages.c.number == listed.c.number
    )
    with executed(on_sqlite) as statements, on_sqlite.read() as connection:
        connection.execute(query)
    statement, parameters = statements[-1]
    looks = [line.detail for line in _plan(on_sqlite, statement, parameters)]
    assert "SEARCH messages USING PRIMARY KEY (campaign_id=? AND number=?)" in looks


def _plan(database: Database, statement: str, parameters: Any) -> Sequence[sa.Row[Any]]:
    with database.read() as connection:
        return connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters).all()


def test_sqlite_moves_nine_times_as_many_with_about_nine_times_the_work(
    on_sqlite: Database,
) -> None:
    """Work is measured in ticks of SQLite's virtual machine, one per thousand instructions."""
    batch = make_batch(on_sqlite, Plan(size=5_000))
    ticks: list[int] = []
    work = []
    for numbers in (range(500), range(500, 5_000)):
        ticks.clear()
        with open_entry(on_sqlite, batch, Step.DISPATCH, AUTHOR, started_at=0) as written:
            driver: Any = written.connection.connection.driver_connection
            driver.set_progress_handler(lambda: ticks.append(1), 1_000)
            written.move(Move(numbers=numbers, source=QUEUED_STATE, target=READY, at=1))
            driver.set_progress_handler(None, 0)
        work.append(len(ticks))
    assert work[0] > 0
    assert work[1] < 18 * work[0]


def test_migrating_again_changes_nothing(database: Database, settings: Settings) -> None:
    batch = make_busy_batch(database)
    assert migrate(database, *ALL_MIGRATIONS) == []
    open_database(settings).close()
    with database.read() as connection:
        assert catalog.load_batch(connection, batch.campaign.id, 0) == batch


@pytest.fixture
def fresh(settings: Settings) -> Settings:
    """Return settings whose database has no table yet."""
    with closing(connect(settings.resolved_database_url)) as database:
        if database.is_postgresql:
            with database.write() as connection:
                connection.execute(sa.text("DROP SCHEMA public CASCADE"))
                connection.execute(sa.text("CREATE SCHEMA public"))
        else:
            (settings.home / "sendtrace.db").unlink()
    return settings


def assert_works(settings: Settings) -> None:
    with closing(open_database(settings)) as database:
        make_busy_batch(database)


def test_threads_that_migrate_at_once_all_succeed(fresh: Settings) -> None:
    run_concurrently(*[lambda: open_database(fresh).close()] * 4)
    assert_works(fresh)


MIGRATE = """
import sys
from simulator.schema import open_database
from tracker.settings import load_settings
settings = load_settings(database_url=sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
open_database(settings).close()
"""


def test_processes_that_migrate_at_once_all_succeed(fresh: Settings) -> None:
    command = [sys.executable, "-c", MIGRATE, fresh.resolved_database_url]
    processes = [
        Popen(command, stdin=PIPE, stdout=PIPE, stderr=STDOUT, text=True) for _ in range(2)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    outputs = [process.communicate(timeout=TIMEOUT_SECONDS)[0] for process in processes]
    assert outputs == [""] * 2
    assert [process.returncode for process in processes] == [0, 0]
    assert_works(fresh)


LAYERS = [
    pytest.param(TRACKER_MIGRATIONS, id="tracker"),
    pytest.param(SIMULATOR_MIGRATIONS, id="simulator"),
]


@pytest.mark.parametrize("migrations", LAYERS)
def test_the_head_is_the_newest_revision_and_files_are_named_after_revisions(
    migrations: Migrations,
) -> None:
    config = Config()
    config.set_main_option("script_location", str(SCRIPT_FOLDER))
    config.set_main_option("version_locations", str(migrations.versions))
    config.set_main_option("path_separator", "newline")
    scripts = ScriptDirectory.from_config(config)
    assert scripts.get_current_head() == migrations.head
    revisions = {script.revision for script in scripts.walk_revisions()}
    assert revisions == migrations.list_revisions()
    assert not revisions & RETIRED_REVISIONS


HEAD_DIGESTS = {
    "tracker": ("0013_cancellation", "314481c91a75fe90"),
    "simulator": ("0008_initial", "70efc4a72a34e422"),
}
"""The head of each layer, and the digest of its file."""


@pytest.mark.parametrize("migrations", LAYERS)
def test_a_head_that_was_edited_has_a_new_name(migrations: Migrations) -> None:
    """Otherwise a database of the earlier schema would count as current."""
    content = (migrations.versions / f"{migrations.head}.py").read_bytes()
    digest = hashlib.sha256(content).hexdigest()[:16]
    assert (migrations.head, digest) == HEAD_DIGESTS[migrations.layer], (
        "the migration was edited: give it a new revision id, add the old one to"
        " RETIRED_REVISIONS, and then change HEAD_DIGESTS"
    )


def set_revision(database: Database, migrations: Migrations, revision: str) -> None:
    table = sa.table(migrations.version_table, sa.column("version_num"))
    with database.write() as connection:
        connection.execute(sa.update(table).values(version_num=revision))


USES = [
    pytest.param(check_schema, id="read"),
    pytest.param(prepare_schema, id="use"),
    pytest.param(migrate, id="migrate"),
]
"""What a process does with a schema that isn't new to it."""


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("migrations", LAYERS)
def test_a_database_of_a_newer_version_is_refused(
    database: Database, migrations: Migrations, use: Callable[..., Any]
) -> None:
    set_revision(database, migrations, "9999")
    with pytest.raises(DatabaseTooNew) as refused:
        use(database, migrations)
    message = str(refused.value)
    assert (
        f"its {migrations.layer} tables are at 9999, this version knows {migrations.head}"
        in message
    )
    assert "was made by a newer version of sendtrace" in message
    assert database.redacted_url in message
    assert refused.value.exit_code == 2


@pytest.mark.parametrize("migrations", LAYERS)
@pytest.mark.parametrize(
    ("revision", "use"),
    [("0001", migrate), ("0004_initial", prepare_schema), ("0004", check_schema)],
)
def test_a_database_of_an_unreleased_version_is_refused(
    database: Database, migrations: Migrations, revision: str, use: Callable[..., Any]
) -> None:
    set_revision(database, migrations, revision)
    with pytest.raises(DatabaseTooOld) as refused:
        use(database, migrations)
    message = str(refused.value)
    assert f"its {migrations.layer} tables are at {revision}" in message
    assert "was made by an unreleased version of sendtrace" in message
    assert "delete it or set SENDTRACE_DATABASE_URL" in message
    assert database.redacted_url in message
    assert refused.value.exit_code == 2


def test_must_exist_creates_no_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"typo\.db does not exist"):
        connect(f"sqlite:///{tmp_path / 'typo.db'}", must_exist=True)
    with pytest.raises(UsageError, match=r"a typo\.db does not exist"):
        connect(f"sqlite:///file:{tmp_path}/a%2520typo.db?mode=rw&uri=true", must_exist=True)
    assert list(tmp_path.iterdir()) == []


@contextmanager
def unprivileged() -> Iterator[None]:
    """Drop the rights of root, who may write any file, within the block."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    yield
    if root:
        os.seteuid(0)


def test_a_file_in_a_read_only_folder_can_be_read() -> None:
    with tempfile.TemporaryDirectory(prefix="sendtrace ro%") as name:
        file = Path(name) / "sendtrace.db"
        url = sa.URL.create("sqlite", database=str(file)).render_as_string()
        settings = load_settings(database_url=url)
        with closing(open_database(settings)) as database, database.write() as connection:
            connection.execute(a_run)
        file.chmod(0o444)
        file.parent.chmod(0o555)
        with unprivileged(), closing(connect(url, must_exist=True)) as database:
            check_reachable(database)
            check_schema(database, *ALL_MIGRATIONS)
            with database.read() as connection:
                assert connection.scalar(count_runs) == 1
            with pytest.raises(sa.exc.OperationalError), database.write() as connection:
                connection.execute(a_run)
        assert [path.name for path in file.parent.iterdir()] == [file.name]
        file.parent.chmod(0o755)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("-c search_path=elsewhere", ["elsewhere", "off", "off"]),
        ("-c enable_seqscan=on -c jit=on", ['"$user", public', "on", "on"]),
    ],
)
def test_options_in_the_url_are_not_lost(
    postgresql_url: str, options: str, expected: list[str]
) -> None:
    url = sa.make_url(postgresql_url).update_query_dict({"options": options})
    with (
        closing(connect(url.render_as_string(hide_password=False))) as database,
        database.read() as connection,
    ):
        shown = [
            connection.exec_driver_sql(f"SHOW {setting}").scalar()
            for setting in ("search_path", "enable_seqscan", "jit")
        ]
    assert shown == expected


def test_a_connection_that_is_killed_raises_an_error_that_is_retried(postgresql_url: str) -> None:
    with closing(connect(postgresql_url)) as database:

        def read_while_killed() -> None:
            with database.read() as connection:
                process_id = connection.scalar(sa.select(sa.func.pg_backend_pid()))
                with database.read() as other:
                    other.execute(sa.select(sa.func.pg_terminate_backend(process_id, 10_000)))
                read_columns(connection, sa.select(runs.c.id))

        with pytest.raises(TRANSIENT_ERRORS):
            read_while_killed()
        with database.read() as connection:
            assert connection.scalar(sa.select(1)) == 1


def test_an_idle_connection_that_was_killed_is_replaced(
    postgresql_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgresql, "PING_AFTER_IDLE_SECONDS", 0.0)
    with closing(connect(postgresql_url)) as database:
        with database.read() as connection:
            process_id = connection.scalar(sa.select(sa.func.pg_backend_pid()))
        with closing(connect(postgresql_url)) as other, other.read() as connection:
            assert connection.scalar(sa.select(sa.func.pg_terminate_backend(process_id, 10_000)))
        with database.read() as connection:
            assert connection.scalar(sa.select(sa.func.pg_backend_pid())) != process_id


def test_rows_are_added_to_in_one_statement(database: Database) -> None:
    rows: list[dict[str, Any]] = [
        {"name": "steps", "labels": label, "shard": 0, "events": number, "microseconds": 2**40}
        for number, label in enumerate((Status.QUEUED.slug, 'it\'s %s "quoted" ?'), start=1)
    ]
    for _ in range(2):
        with database.write() as connection:
            database.add_to_rows(connection, counters, rows, "events", "microseconds")
            database.add_to_rows(connection, counters, [], "events")
    with database.read() as connection:
        found = connection.execute(sa.select(counters).order_by(counters.c.events)).all()
    assert [tuple(row) for row in found] == [
        ("steps", row["labels"], 0, 2 * row["events"], 2**41) for row in rows
    ]


def test_a_failure_is_one_line_without_secrets(database: Database) -> None:
    url = sa.make_url("postgresql+psycopg://ana:s3cret@host/db")
    plain = Database(sa.create_engine(url))
    with pytest.raises(DatabaseFailed) as failed, plain.readable_errors():
        raise sa.exc.OperationalError("SELECT 1", {}, Exception("no s3cret here\nsecond line"))
    assert str(failed.value).endswith(" failed: no ••• here")
    assert "s3cret" not in str(failed.value)
    with (
        pytest.raises(DatabaseFailed) as failed,
        database.readable_errors(),
        database.read() as connection,
    ):
        connection.exec_driver_sql("SELECT 1 FROM nowhere")
    assert "\n" not in str(failed.value)
    assert "nowhere" in str(failed.value)
    assert failed.value.exit_code == 1
