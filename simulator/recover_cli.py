"""``sendtrace recover``: a sweep by hand."""

import sys
from contextlib import closing
from typing import Annotated

import typer

from simulator.desk_cli import BrokerOption
from tracker.cli import DatabaseOption, speaks_plainly
from tracker.errors import UsageError
from tracker.report_text import harmless
from tracker.settings import load_settings
from tracker.tabular import Format, Row, render
from tracker.words import counted

COLUMNS = ("run", "campaign", "batch", "messages", "step", "stood_still", "times")


@speaks_plainly
def recover(
    format: Annotated[Format, typer.Option(help="How to print it.")] = Format.TABLE,
    database: DatabaseOption = None,
    broker: BrokerOption = None,
) -> None:
    """Send on the batches that stand still, from where the record says they are.

    Celery's beat does so every two seconds, and `simulate` for its own run: this is for a system
    without a beat, or for those who want to see it. It may be done at any time and twice at once.
    What is in a queue or with a worker that lives is left alone; what was sent on before and shows
    no sign of life is left alone longer each time.

    Examples: sendtrace recover · sendtrace recover --format json
    """
    from celery import Celery

    from simulator.broker import configured_broker
    from simulator.run import open_database

    settings = load_settings(database_url=database, broker_url=broker)
    with (
        closing(configured_broker(settings, "recover")) as queues,
        closing(open_database(settings)) as record,
        Celery("recover", set_as_current=False, config_source="celeryconfig") as app,
        record.failing_plainly(),
        queues.failing_plainly(),
    ):
        app.conf.broker_url = queues.url
        sent_on = queues.sweep(record, app)
        rows: list[Row] = [
            {
                "run": each.standing.campaign.run_id,
                "campaign": each.standing.campaign.name,
                "batch": each.standing.batch,
                "messages": sum(each.standing.waiting.values()),
                "step": each.standing.step.value,
                "stood_still": f"{each.standing.seconds:.0f} s",
                "times": each.times,
            }
            for each in sent_on
        ]
        if rows or format is not Format.TABLE:
            print(render(rows, COLUMNS, format), flush=True)
        said = f"{counted(len(rows), 'batch')} sent on" if rows else "nothing stands still"
        print(said, file=sys.stderr, flush=True)
        if rows:
            try:
                queues.check_workers(app)
            except UsageError as error:
                print(f"but {harmless(str(error))}", file=sys.stderr)
