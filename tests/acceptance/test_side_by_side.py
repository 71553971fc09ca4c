"""Two runs at the same time in one state folder, each with a broker and a worker of its own."""

import json
from collections.abc import Callable

import pytest
import sqlalchemy as sa

from tests.support.shell import Shell, make_scenario


@pytest.mark.parametrize("backend", ["sqlite", "postgresql"])
def test_both_end_as_predicted_and_hand_nothing_over_twice(
    make_shell: Callable[..., Shell], request: pytest.FixtureRequest, backend: str
) -> None:
    settings = {}
    if backend == "postgresql":
        settings["SENDTRACE_DATABASE_URL"] = request.getfixturevalue("postgresql_url")
    shell = make_shell(**settings)
    scenario = shell.write("small.toml", make_scenario())
    options = ("--batch-size", "200", "--workers", "1")
    runs = {
        label: shell.start("simulate", scenario, *options, "--json", f"{label}.json", label=label)
        for label in ("first", "second")
    }
    results = []
    for label, run in runs.items():
        assert run.wait() == 0, run.stderr_text + run.stdout.read_text()
        results.append(json.loads((shell.folder / f"{label}.json").read_text()))
    assert len({result["run"] for result in results}) == 2
    for result in results:
        assert result["verdict"]["passed"]
        assert all(invariant["holds"] for invariant in result["invariants"])
    # A busy machine may keep a worker from its answer to a sweep; then its batch is re-queued.
    if not any(result["recovery"]["sent_on"] for result in results):
        url = settings.get("SENDTRACE_DATABASE_URL", f"sqlite:///{shell.database}")
        engine = sa.create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
        with engine.connect() as connection:
            assert connection.scalar(sa.text("SELECT sum(repeats) FROM gateway_ledger")) == 0
        engine.dispose()
    shell.assert_nothing_is_left()
