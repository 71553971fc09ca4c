"""``sendtrace up`` and ``sendtrace serve``: the operators' desk."""

import sys
from contextlib import closing
from typing import Annotated

import typer

from tracker.cli import DatabaseOption, exit_on_error
from tracker.errors import UsageError
from tracker.output.tables import Row, RowFormat, print_rows
from tracker.settings import load_settings
from tracker.text import escape_control_characters, pluralize

HostOption = Annotated[
    str, typer.Option("--host", metavar="ADDRESS", help="Where to listen; others need a token.")
]
BrokerOption = Annotated[
    str | None,
    typer.Option("--broker", metavar="URL", help="The broker. Default: SENDTRACE_BROKER_URL."),
]


@exit_on_error
def up(
    workers: Annotated[
        int, typer.Option(metavar="N", min=1, max=256, help="Processes for each stage.")
    ] = 1,
    host: HostOption = "127.0.0.1",
    port: Annotated[
        int, typer.Option(metavar="N", min=1, max=65535, help="Of the live page.")
    ] = 8080,
    flower_port: Annotated[
        int, typer.Option(metavar="N", min=1, max=65535, help="Of Flower, on this machine.")
    ] = 5555,
    database: DatabaseOption = None,
    broker: BrokerOption = None,
) -> None:
    """Start broker, workers, beat, Flower and the live page, until Ctrl-C.

    What dies is started again. Logs are in SENDTRACE_HOME/logs, one of each. Without a broker that
    is configured it has a Valkey of its own, which keeps what is queued. In a second terminal
    `sendtrace simulate SCENARIO.toml --attach` plays on it.

    SENDTRACE_FLOWER_AUTH=user:password has Flower ask for them, and opens its API.

    Examples: sendtrace up · sendtrace up --workers 4 --port 9000 ·
    sendtrace up --database postgresql://sendtrace@localhost/sendtrace
    """
    from simulator.stack.up import StackPorts, run_stack

    settings = load_settings(database_url=database, broker_url=broker)
    run_stack(settings, StackPorts(host=host, web_port=port, flower_port=flower_port), workers)


@exit_on_error
def serve(
    host: HostOption = "127.0.0.1",
    port: Annotated[int, typer.Option(metavar="N", min=0, max=65535, help="0: any.")] = 8080,
    database: DatabaseOption = None,
    broker: BrokerOption = None,
) -> None:
    """Serve the live page and the JSON API, until Ctrl-C.

    With SENDTRACE_TOKEN set, browsers are asked for it (as the password of any user) and programs
    give it as a bearer token. Without it only this machine is served.

    Examples: sendtrace serve · sendtrace serve --port 9000 ·
    SENDTRACE_TOKEN=$(openssl rand -hex 32) sendtrace serve --host 0.0.0.0
    """
    from simulator.web.serve import serve_live_page

    serve_live_page(load_settings(database_url=database, broker_url=broker), host, port)


COLUMNS = ("run", "campaign", "batch", "messages", "step", "stood_still", "times")


@exit_on_error
def recover(
    format: Annotated[RowFormat, typer.Option(help="How to print it.")] = RowFormat.TABLE,
    database: DatabaseOption = None,
    broker: BrokerOption = None,
) -> None:
    """Re-queue stalled batches, once.

    Celery's beat does so every two seconds, and `simulate` for its own run: this is for a system
    without a beat, or for those who want to see it. It may be done at any time and twice at once.
    What is in a queue or with a worker that lives is left alone; what was sent on before and shows
    no sign of life is left alone longer each time.

    Examples: sendtrace recover · sendtrace recover --format json
    """
    from celery import Celery

    from simulator.schema import open_database
    from simulator.stack.broker import open_configured_broker

    settings = load_settings(database_url=database, broker_url=broker)
    with (
        closing(open_configured_broker(settings, "recover")) as queues,
        closing(open_database(settings)) as record,
        Celery("recover", set_as_current=False, config_source="celeryconfig") as app,
        record.readable_errors(),
        queues.readable_errors(),
    ):
        app.conf.broker_url = queues.url
        sent_on = queues.sweep(record, app)
        rows: list[Row] = [
            {
                "run": each.stalled.campaign.run_id,
                "campaign": each.stalled.campaign.name,
                "batch": each.stalled.batch,
                "messages": sum(each.stalled.pending_by_status.values()),
                "step": each.stalled.step.value,
                "stood_still": f"{each.stalled.idle_seconds:.0f} s",
                "times": each.requeue_count,
            }
            for each in sent_on
        ]
        if rows or format is not RowFormat.TABLE:
            print_rows(rows, COLUMNS, format)
        said = f"{pluralize(len(rows), 'batch')} sent on" if rows else "nothing stands still"
        print(said, file=sys.stderr, flush=True)
        if rows:
            try:
                queues.check_workers(app)
            except UsageError as error:
                print(f"but {escape_control_characters(str(error))}", file=sys.stderr)
