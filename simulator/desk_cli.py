"""``sendtrace up`` and ``sendtrace serve``: the operators' desk."""

from typing import Annotated

import typer

from tracker.cli import DatabaseOption, speaks_plainly
from tracker.settings import load_settings

HostOption = Annotated[
    str, typer.Option("--host", metavar="ADDRESS", help="Where to listen; others need a token.")
]
BrokerOption = Annotated[
    str | None,
    typer.Option("--broker", metavar="URL", help="The broker. Default: SENDTRACE_BROKER_URL."),
]


@speaks_plainly
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
    from simulator.up import Ports, run_stack

    settings = load_settings(database_url=database, broker_url=broker)
    run_stack(settings, Ports(host=host, web=port, flower=flower_port), workers)


@speaks_plainly
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
    from simulator.desk import run_desk

    run_desk(load_settings(database_url=database, broker_url=broker), host, port)
