"""The reference of audience files."""

from collections.abc import Iterator, Mapping
from itertools import chain

from simulator.audience.cleaning import EMPTY_WORDS
from simulator.audience.columns import COLUMN_DESCRIPTIONS, CUSTOM_COLUMN_DESCRIPTION
from simulator.audience.problems import Duplicate, MobileProblem, RejectCause, Repair
from simulator.forced import FORCED_OUTCOME_DOMAIN, OUTCOME_BY_MOBILE, ForcedOutcome

_FORCED_DESCRIPTIONS: Mapping[ForcedOutcome, str] = {
    ForcedOutcome.BOUNCE: "hard bounce",
    ForcedOutcome.SOFTBOUNCE: "soft bounce on every attempt",
    ForcedOutcome.NOTDELIVERED: "the gateway gives up",
    ForcedOutcome.LOST: "accepted, without a receipt",
    ForcedOutcome.DELIVERED: "delivered",
    ForcedOutcome.OPEN: "delivered and opened",
    ForcedOutcome.CLICK: "delivered, opened and clicked",
    ForcedOutcome.SPAM: "delivered and marked as spam",
    ForcedOutcome.UNSUBSCRIBE: "delivered, opened, clicked and unsubscribed",
    ForcedOutcome.POISON_RAISE: "the gateway raises an error; the message ends as `step_failed`",
    ForcedOutcome.POISON_HANG: "the gateway hangs; the message ends as `timeout`",
    ForcedOutcome.POISON_KILL: "its process is killed; the message ends as `step_failed`",
    ForcedOutcome.POISON_MEMORY: "it exhausts the memory; the message ends as `step_failed`",
    ForcedOutcome.MALFORMED: "hard bounce with code 5.1.3, as of a malformed address",
}


def audience_reference() -> str:
    """Return docs/audience-file.md."""
    parts = (
        _column_lines(),
        _problem_lines(),
        _mobile_lines(),
        _duplicate_lines(),
        _forced_outcome_lines(),
    )
    return "\n".join(chain.from_iterable(parts)) + "\n"


def _column_lines() -> Iterator[str]:
    yield """\
# Audience files

Generated from `simulator/audience` by `make docs`. An audience file holds the customers of a
campaign: CSV in UTF-8, with a header row and commas between the cells. The campaign names the file,
relative to the scenario file: `audience = "customers.csv"`. [CRM exports](crm-exports.md) says how
to use a file with other columns, another encoding or another separator.

Names of columns and values of flags may be written in upper or lower case. An empty cell means the
default. Spaces around a cell are ignored. An unknown column is an error before the run.

| column | content | default |
|---|---|---|"""
    for column, description in COLUMN_DESCRIPTIONS.items():
        yield f"| `{column}` | {description.content} | {description.default} |"
    yield f"| `tag:NAME`, `field:NAME` | {CUSTOM_COLUMN_DESCRIPTION} | |"
    words = ", ".join(f"`{word}`" for word in sorted(EMPTY_WORDS))
    yield f"""
These words count as an empty cell: {words}.
A cell that looks like a formula is text. An apostrophe before `=`, `+`, `-` or `@` is removed. CSV
files that sendtrace writes have one there, so that no spreadsheet runs a cell as a formula."""


def _problem_lines() -> Iterator[str]:
    yield """
## Rejected rows

The import leaves out a row that can't be read, and continues. It writes the row to a rejects file
in the run's folder, with its line and the cause. If more than 10 % of the rows are left out, the
run stops with exit code 2 before anything is sent. It names the causes, their counts and their
first lines. A single rejected row doesn't stop it, unless it is the only row. `max_rejects` sets
another limit, without that exception:
`audience = { file = "customers.csv", max_rejects = "1 %" }`.

Each cause is a [figure](figures.md), so a threshold can fail on it, such as
`"rejects.duplicate_id" = "== 0"`.

| figure | rows |
|---|---|"""
    for cause in RejectCause:
        yield f"| `rejects.{cause}` | {cause.meaning} |"
    yield """
Rows with other damage are imported, and counted:

| figure | rows |
|---|---|"""
    for repair in Repair:
        yield f"| `repairs.{repair}` | {repair.meaning} |"


def _mobile_lines() -> Iterator[str]:
    yield """
## Mobile numbers

A mobile number counts if it can receive SMS. It is in a range that its country uses for mobile
phones, or in one that is reserved for fiction. With `numbers = "possible"` in the table of the
audience, its length is enough. A number without a country code is read in the row's `region`, else
in the `region` of the table.

A damaged number is repaired if it has only one reading: a number like `447700900123.0`, a doubled
country code, a trunk prefix beside the country code, or `00` where the country dials another
prefix. Otherwise, the customer is imported without a number, and an SMS to the customer is not sent
(`mobile_missing_or_invalid`). A wrong number may belong to another person.

| figure | cells |
|---|---|"""
    for problem in MobileProblem:
        yield f"| `unusable_mobiles.{problem}` | {problem.meaning} |"


def _duplicate_lines() -> Iterator[str]:
    yield """
## Customers with the same address

Customers of an organization with the same email address, or the same mobile number, are one person
on that channel. If one of them has unsubscribed or is on the National Do Not Call list, all get no
messages. They have the most bounces that one of them has. That holds for all files of a scenario
and during the run: what the person does with one message counts for the next. The message limit
counts messages to the address.

Addresses are compared without regard to case, and domains in their ASCII form. A tag is a part of
the address: `ana+news@example.com` isn't `ana@example.com`. Generated customers, malformed
addresses and recipients that force an outcome are never compared.

If several rows have the address, only the first may get the message. The others are Not Sent
with the reason `duplicate_recipient`. Each row gets it with `duplicates = "send"` in the table of
the audience: `audience = { file = "customers.csv", duplicates = "send" }`.

| figure | rows |
|---|---|"""
    for problem in Duplicate:
        yield f"| `duplicates.{problem}` | {problem.meaning} |"


def _forced_outcome_lines() -> Iterator[str]:
    yield """
## Recipients that force an outcome

For demos and tests, some addresses and numbers decide the outcome of their message, in any file.
A tag makes addresses unique: `bounce+7@simulator.example`. A malformed email address bounces hard.

| address | number (SMS) | outcome |
|---|---|---|"""
    mobiles = {outcome: mobile for mobile, outcome in OUTCOME_BY_MOBILE.items()}
    for outcome in ForcedOutcome:
        mobile = f"`{mobiles[outcome]}`" if outcome in mobiles else ""
        address = f"`{outcome.local_part}@{FORCED_OUTCOME_DOMAIN}`"
        yield f"| {address} | {mobile} | {_FORCED_DESCRIPTIONS[outcome]} |"
