"""docs/drills.md, made from a result. No text of a stack can change the page's structure."""

import re
from collections.abc import Iterator, Sequence

from drills.results import AlertHistory, CampaignOutcome, DrillResult, DrillsFile, Observation
from tracker.text import make_printable, pluralize

MARKDOWN = re.compile(r"([\\`*_{}\[\]<>()#+!|~&$@:-])")
"""Characters that may have a meaning in Markdown, or make a link."""

COLUMNS = ("incident", "place", "page and `/health`", "alert", "healthy again", "campaign")

INTRODUCTION = """\
# Drills

`make drills` plays ten incidents on a real `sendtrace up`, while a small campaign is sent on it. It
writes this page, and `drills.json`, whose shape is [`drills.schema.json`](drills.schema.json).
`make drills QUICK=1` plays two of them in less than a minute and writes no page; `make test` runs
it. The [runbook](runbook.md) says what to do in each case.

- *Page and `/health`* is what both say ten seconds after the harm, and when they first said
  anything: a part isn't ok, the page doesn't answer, or the run is abandoned.
- The alerts are evaluated by a Prometheus that reads the stack. Their times count from the harm.
  Where a person must end the incident, the repair waits until the alert fires, two minutes at most.
  An alert that was only pending needs longer than that: [`alerts.yml`](alerts.yml) says how long.
- *Healthy again* counts from the end of the harm, or from the harm where a stack recovers alone:
  `/health` is ok, and a worker of each queue answers.
- The campaign is as predicted if each of its messages ended as the seed of the scenario says.
"""


def format_page(result: DrillsFile) -> str:
    """Return the page of a result."""
    return "\n".join(_page_lines(result)).rstrip("\n") + "\n"


def escape_markdown(text: str) -> str:
    """Return a text in one line, in which no character has a meaning in Markdown or HTML."""
    return MARKDOWN.sub(r"\\\1", make_printable(text))


def _page_lines(result: DrillsFile) -> Iterator[str]:
    found = sum(not drill.passed for drill in result.drills)
    machine = ", ".join(f"{name} {value}" for name, value in result.machine.items())
    yield INTRODUCTION
    yield (
        f"Played on {result.made_at[:10]} with sendtrace {escape_markdown(result.sendtrace)}, in"
        f" {result.seconds / 60:.0f} minutes ({escape_markdown(machine)}). "
        f"{found} of {len(result.drills)} drills found a fault."
    )
    yield ""
    yield f"| {' | '.join(COLUMNS)} |"
    yield "|---" * len(COLUMNS) + "|"
    for drill in result.drills:
        yield f"| {' | '.join(_table_cells(drill))} |"
    for drill in result.drills:
        yield ""
        yield from _section_lines(drill)


def _table_cells(drill: DrillResult) -> list[str]:
    if drill.skipped is not None:
        reason = f"not played: {escape_markdown(drill.skipped)}"
        return [escape_markdown(drill.incident), escape_markdown(drill.place), reason, "", "", ""]
    return [
        escape_markdown(drill.incident),
        escape_markdown(drill.place),
        _describe_health(drill),
        _describe_alerts(drill.alerts),
        _describe_recovery(drill),
        _describe_campaign(drill.campaign),
    ]


def _describe_health(drill: DrillResult) -> str:
    observation = drill.observation
    if observation is None or observation.health_status is None:
        return "no answer"
    if observation.cause is None:
        text = "ok"
    else:
        summary = observation.parts.get(observation.cause, "")
        text = f"**{escape_markdown(observation.cause)}** {escape_markdown(summary)}"
    noticed = drill.noticed_after
    return f"{text}; {'not noticed' if noticed is None else f'noticed after {noticed:.1f} s'}"


def _describe_alerts(alerts: Sequence[AlertHistory] | None) -> str:
    if alerts is None:
        return "not evaluated: no Prometheus is installed"
    return "; ".join(map(_describe_alert, alerts)) or "none"


def _describe_alert(alert: AlertHistory) -> str:
    name = escape_markdown(alert.name.removeprefix("Sendtrace"))
    text = f"{name} pending"
    if alert.pending_after is not None:
        text += f" after {alert.pending_after:.0f} s"
    if alert.firing_after is not None:
        text = f"{name} fires after {alert.firing_after:.0f} s"
    end = alert.ended_after
    return f"{text}, {'still raised at the end' if end is None else f'ended after {end:.0f} s'}"


def _describe_recovery(drill: DrillResult) -> str:
    if drill.healthy_after is None:
        return "**no**"
    if drill.harm_seconds is None:
        return f"{drill.healthy_after:.1f} s after the harm"
    return f"{drill.healthy_after:.1f} s after the end"


def _describe_campaign(campaign: CampaignOutcome | None) -> str:
    if campaign is None:
        return ""
    verdict = "as predicted" if campaign.exit_code == 0 else f"**exit code {campaign.exit_code}**"
    resumed = f"; resumed {campaign.resumed} times" if campaign.resumed > 1 else "; resumed once"
    return (
        f"{verdict}: {pluralize(campaign.messages, 'message')}, {campaign.lost:,} lost,"
        f" {campaign.accepted_twice:,} accepted twice{resumed if campaign.resumed else ''}"
    )


def _section_lines(drill: DrillResult) -> Iterator[str]:
    yield f"## {escape_markdown(drill.incident[:1].upper() + drill.incident[1:])}"
    yield ""
    yield f"Harm: {drill.harm}  "
    if drill.repair:
        seconds = f", {drill.harm_seconds:.0f} s later" if drill.harm_seconds is not None else ""
        yield f"End{seconds}: {drill.repair}  "
    yield f"Found: {escape_markdown('; '.join(drill.findings)) or 'nothing'}"
    if drill.observation is not None:
        yield ""
        yield from _format_block(list(_observation_lines(drill.observation)))


def _observation_lines(observation: Observation) -> Iterator[str]:
    yield f"page, {observation.seconds:.0f} s after the harm"
    yield from (f"  {line}" for line in observation.page or ["no answer"])
    yield "pages"
    answers = observation.page_answers.items()
    yield f"  {'; '.join(f'{kind}: {answer}' for kind, answer in answers)}"
    yield "/health"
    yield f"  status={observation.health_status} cause={observation.cause}"
    yield from (f"  {part}: {text}" for part, text in observation.parts.items())
    yield "metrics that changed"
    yield from (f"  {line}" for line in observation.metrics or ["none"])
    yield "log"
    yield from (f"  {line}" for line in observation.log or ["nothing"])
    if observation.log_left_out:
        yield f"  and {pluralize(observation.log_left_out, 'further line')}"


def _format_block(lines: Sequence[str]) -> Iterator[str]:
    """Yield lines as a block of code, with a fence that none of them can end."""
    texts = [f"{line[: len(line) - len(line.lstrip())]}{make_printable(line)}" for line in lines]
    longest = max((len(ticks) for ticks in re.findall("`+", "\n".join(texts))), default=0)
    fence = "`" * max(3, longest + 1)
    yield f"{fence}text"
    yield from texts
    yield fence
