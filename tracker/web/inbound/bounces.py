"""Store the outcome that a bounce message reports, as a receipt."""

from tracker.delivery_reports import parse_delivery_report
from tracker.queries.message_lookup import check_message_exists
from tracker.record.catalog import load_campaigns
from tracker.record.due import DueKind
from tracker.record.receipts import Receipt
from tracker.replies import parse_rules
from tracker.store.schema.integers import MAX_INTEGER
from tracker.web.context import WebContext
from tracker.web.inbound.reports import InboundResult, invalid_body, store_items


def store_bounce(context: WebContext, body: bytes) -> InboundResult:
    """Store the outcome in a bounce message, or refuse one that isn't about an email on record."""
    try:
        report = parse_delivery_report(body)
    except ValueError as error:
        raise invalid_body(str(error)) from None
    number, campaign_id, _ = report.message_id
    with context.database.read() as connection:
        campaigns = load_campaigns(connection, [min(campaign_id, MAX_INTEGER)])
        if not campaigns or campaigns[0].message_id(number) != report.message_id:
            raise invalid_body("the email that bounced isn't on record")
        [campaign] = campaigns
        attempt = check_message_exists(connection, campaign, number)
        if not isinstance(attempt, int) or attempt < 1:
            raise invalid_body("the email that bounced was never sent")
    status = report.outcome(parse_rules(campaign.replies))
    if status is None:
        return InboundResult(taken=0, batches=0, queued=False, refused=[])
    receipt = Receipt(number, attempt, int(status), campaign.clock.now(), 0, report.reply)
    return store_items(context, DueKind.RECEIPTS, campaigns, {campaign_id: [receipt]})
