"""Stored results: in the database, as files, and refused with one clear error if unreadable."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from simulator.results.archive.run_list import list_runs
from simulator.results.archive.store import (
    RunSummary,
    UnsupportedResultVersion,
    load_repeated_results,
    load_result_file,
    store_result,
)
from simulator.results.observations import RunState
from simulator.results.result import RESULT_VERSION, RunResult
from simulator.schema import results
from simulator.setup.run_folder import create_run_folder
from tests.support.factory import make_campaign
from tests.support.inline_runs import build_campaign, build_scenario, run_scenario
from tracker.campaign_states import CampaignState
from tracker.errors import NotFound, UsageError
from tracker.store.database import Database


def page_of(_result: RunResult) -> str:
    return "<page>"


@pytest.fixture
def result(database: Database, tmp_path: Path) -> RunResult:
    return run_scenario(database, build_scenario(build_campaign(), text="name = 'ä'\n"), tmp_path)


def test_a_stored_result_is_loaded(database: Database, result: RunResult, tmp_path: Path) -> None:
    page = store_result(database, result, page_of)
    assert page == tmp_path / "runs" / str(result.run.id) / "report.html"
    assert page.read_text() == "<page>"
    with database.read() as connection:
        [kept] = load_repeated_results(connection, result.run.id)
    for stored in (
        kept,
        *load_result_file(page.parent),
        *load_result_file(page.with_name("summary.json")),
    ):
        assert stored.summary == RunSummary.model_validate_json(json.dumps(result.as_json()))
        assert stored.summary.figures["delivered"] == 5
        assert stored.timeseries.columns["arrivals"].sum() == 5
    assert kept.name == f"run {result.run.id}"
    assert kept.summary.definition == "name = 'ä'\n"


def test_runs_that_repeat_each_other_are_one_series(
    database: Database, result: RunResult, tmp_path: Path
) -> None:
    first = result.run.id
    store_result(database, result, page_of)
    for run in (first + 1, first + 2):
        again = replace(result, run=replace(result.run, id=run))
        store_result(database, again, page_of, series=first)
    with database.read() as connection:
        for run in range(first, first + 3):
            names = [result.name for result in load_repeated_results(connection, run)]
            assert names[0] == f"run {run}", "the one that was asked for comes first"
            assert len(names) == 3


def test_a_run_that_was_ended_early_repeats_no_other(
    database: Database, result: RunResult, tmp_path: Path
) -> None:
    first = result.run.id
    store_result(database, result, page_of)
    observed = replace(result.observations, state=RunState.INTERRUPTED)
    partial = replace(result, run=replace(result.run, id=first + 1), observations=observed)
    store_result(database, partial, page_of, series=first)
    with database.read() as connection:
        for run in (first, first + 1):
            assert [result.name for result in load_repeated_results(connection, run)] == [
                f"run {run}"
            ]


def test_the_list_has_runs_without_a_result_too(
    database: Database, result: RunResult, tmp_path: Path
) -> None:
    store_result(database, result, page_of)
    unfinished = make_campaign(database).run_id
    with database.read() as connection:
        listed = list_runs(connection)
        assert [run.id for run in list_runs(connection, 1)] == [unfinished]
        with pytest.raises(NotFound, match="has no result: it did not finish"):
            load_repeated_results(connection, unfinished)
        for unknown in (4_711, 10**30):
            with pytest.raises(NotFound, match=r"does not exist; see sendtrace runs"):
                load_repeated_results(connection, unknown)
    assert [(run.id, run.state, run.summary is None) for run in listed] == [
        (unfinished, CampaignState.SCHEDULED, True),
        (result.run.id, CampaignState.FINISHED, False),
    ]


def test_a_result_of_another_version_is_refused(
    database: Database, result: RunResult, tmp_path: Path
) -> None:
    store_result(database, result, page_of)
    file = result.run.folder / "summary.json"
    other = json.dumps(json.loads(file.read_text()) | {"version": 1})
    file.write_text(other)
    with database.write() as connection:
        connection.execute(sa.update(results).values(version=1, summary=other))
    message = "got a result of version 1; this sendtrace reads version 3; run the scenario again"
    with database.read() as connection:
        with pytest.raises(UnsupportedResultVersion, match=message):
            load_repeated_results(connection, result.run.id)
        [listed] = list_runs(connection)
    assert listed.summary is None
    assert listed.series == result.run.id
    with pytest.raises(UnsupportedResultVersion, match=message):
        load_result_file(file)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("summary.json", "{}"),
        ("summary.json", "[]"),
        ("summary.json", "nothing"),
        ("summary.json", f'{{"version": {RESULT_VERSION}}}'),
        ("summary.json", "[" * 100_000),
        ("summary.json", json.dumps({"version": RESULT_VERSION, "figures": {"sent": "many"}})),
        ("missing.json", None),
    ],
)
def test_a_file_that_is_not_a_summary_is_refused(
    tmp_path: Path, name: str, text: str | None
) -> None:
    file = tmp_path / name
    if text is not None:
        file.write_text(text)
    with pytest.raises(UsageError, match=rf"{name}.*(not a summary of a run|can't be read)"):
        load_result_file(file)
    with pytest.raises(UsageError):
        load_result_file(tmp_path)


def test_a_damaged_series_beside_a_summary(
    database: Database, result: RunResult, tmp_path: Path
) -> None:
    store_result(database, result, page_of)
    series = result.run.folder / "timeseries.csv"
    for damaged in ("second,arrivals\n0,lots\n", "second\n0\ninf\n", "arrivals\n1\n"):
        series.write_text(damaged)
        with pytest.raises(UsageError, match="timeseries can't be read"):
            load_result_file(result.run.folder)
    series.unlink()
    [kept] = load_result_file(result.run.folder)
    assert kept.timeseries.columns == {}


def test_a_list_of_summaries_is_a_series(
    database: Database, result: RunResult, tmp_path: Path
) -> None:
    file = tmp_path / "results.json"
    file.write_text(json.dumps([result.as_json()] * 3))
    names = [result.name for result in load_result_file(file)]
    assert names == [f"{file}[0]", f"{file}[1]", f"{file}[2]"]


def test_the_folder_of_another_databases_run_is_left_alone(tmp_path: Path) -> None:
    claimed = [create_run_folder(tmp_path, 7) for _ in range(3)]
    assert [result.name for result in claimed] == ["7", "7.2", "7.3"]
    (tmp_path / "runs" / "8").write_text("a file")
    assert create_run_folder(tmp_path, 8).name == "8.2"
