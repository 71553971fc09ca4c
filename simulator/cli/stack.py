"""The commands `sendtrace up`, `serve` and `recover`."""

import sys
from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from tracker.commands import DatabaseOption, FormatOption, exit_on_error
from tracker.errors import UsageError
from tracker.output.tables import Row, RowFormat, print_rows
from tracker.settings import load_settings
from tracker.text import escape_control_characters, pluralize

if TYPE_CHECKING:
    from workers.upkeep.sweep import RequeuedBatch

COLUMNS = ("run", "campaign", "batch", "messages", "step", "stood_still", "times")

HostOption = Annotated[
    str,
    typer.Option(
        "--host",
        metavar="ADDRESS",
        help="Address to listen on; any but loopback needs SENDTRACE_TOKEN.",
    ),
]
BrokerOption = Annotated[
    str | None,
    typer.Option("--broker", metavar="URL", help="The broker. Default: SENDTRACE_BROKER_URL."),
]


@exit_on_error
def up(
    workers: Annotated[
        int, typer.Option(metavar="N", min=1, max=256, help="Worker processes of each stage.")
    ] = 1,
    host: HostOption = "127.0.0.1",
    port: Annotated[
        int, typer.Option(metavar="N", min=1, max=65535, help="Port of the live page.")
    ] = 8080,
    flower_port: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            max=65535,
            help="Port of Flower. Default: SENDTRACE_FLOWER_PORT, else 5555.",
        ),
    ] = None,
    database: DatabaseOption = None,
    broker: BrokerOption = None,
) -> None:
    """Start broker, workers, beat, Flower and the live page, until Ctrl-C.

    Processes that exit are restarted. Each has its log in SENDTRACE_HOME/logs. Without a configured
    broker the stack has an embedded Valkey, which keeps queued tasks. To run a scenario on it, use
    `sendtrace simulate SCENARIO.toml --attach` in a second terminal.

    SENDTRACE_FLOWER_AUTH=user:password protects Flower, and opens its API.

    Examples: sendtrace up · sendtrace up --workers 4 --port 9000 ·
    sendtrace up --database postgresql://sendtrace@localhost/sendtrace
    """
    from simulator.stack.up import StackPorts, run_stack

    settings = load_settings(database_url=database, broker_url=broker, flower_port=flower_port)
    addresses = StackPorts(
        host=host,
        web_port=port,
        flower_host=settings.flower_address,
        flower_port=settings.flower_port,
    )
    run_stack(settings, addresses, workers)


@exit_on_error
def serve(
    host: HostOption = "127.0.0.1",
    port: Annotated[
        int, typer.Option(metavar="N", min=0, max=65535, help="Port to listen on; 0 for any.")
    ] = 8080,
    database: DatabaseOption = None,
    broker: BrokerOption = None,
) -> None:
    """Serve the live page and the JSON API, until Ctrl-C.

    With SENDTRACE_TOKEN, browsers ask for it (as the password of any user), and programs send it as
    a bearer token. Without it only this machine is served.

    Examples: sendtrace serve · sendtrace serve --port 9000 ·
    SENDTRACE_TOKEN=$(openssl rand -hex 32) sendtrace serve --host 0.0.0.0
    """
    from simulator.web.serve import serve_live_page

    serve_live_page(load_settings(database_url=database, broker_url=broker), host, port)


@exit_on_error
def recover(
    format: FormatOption = RowFormat.TABLE,
    database: DatabaseOption = None,
    broker: BrokerOption = None,
) -> None:
    """Re-queue stalled batches, once.

    Celery's beat does this every two seconds, and `simulate` for its own run. The command is for a
    system without beat. It is safe at any time, also several times at once: batches with a task in
    a queue or with a living worker are left alone, and a batch that stays stalled is re-queued less
    and less often.

    Examples: sendtrace recover · sendtrace recover --format json
    """
    from simulator.schema import open_database
    from simulator.stack.broker import open_configured_broker
    from workers.celery_app import make_celery_app

    settings = load_settings(database_url=database, broker_url=broker)
    with (
        closing(open_configured_broker(settings, "recover")) as open_broker,
        closing(open_database(settings)) as open_record,
        make_celery_app("recover", open_broker.url) as app,
        open_record.readable_errors(),
        open_broker.readable_errors(),
    ):
        requeued = open_broker.sweep(open_record, app)
        if requeued or format is not RowFormat.TABLE:
            print_rows([_requeued_row(batch) for batch in requeued], COLUMNS, format)
        count = pluralize(len(requeued), "stalled batch")
        summary = f"{count} re-queued" if requeued else "no stalled batches"
        print(summary, file=sys.stderr, flush=True)
        if requeued:
            try:
                open_broker.check_workers(app)
            except UsageError as error:
                print(f"warning: {escape_control_characters(str(error))}", file=sys.stderr)


def _requeued_row(requeued: "RequeuedBatch") -> Row:
    stalled = requeued.stalled
    return {
        "run": stalled.campaign.run_id,
        "campaign": stalled.campaign.name,
        "batch": stalled.batch,
        "messages": sum(stalled.pending_by_status.values()),
        "step": stalled.step.value,
        "stood_still": f"{stalled.idle_seconds:.0f} s",
        "times": requeued.requeue_count,
    }
